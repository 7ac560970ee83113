//! The recipe against TRL 1.16: losses and their gradients on fixed inputs,
//! schedules, and whole trajectories of its trainer (tests/golden/grpo).

use std::path::PathBuf;

use moim::device::Compute;
use moim::experiment::{
    Experiment, ImportanceSamplingLevel, LossType, LrSchedulerType, ScaleRewards,
};
use moim::grpo::advantage::{advantages, advantages_of_each};
use moim::grpo::loss::{LossInput, LossOutput, LossSettings, policy_loss};
use moim::grpo::metrics::update_metrics;
use moim::grpo::schedule::Schedule;
use moim::grpo::update::{Generation, Learner, Limits, MicroBatchReport, Policy};
use moim::model::{Llama, Projection, WeightFiles, load_adapter, to_f32};
use moim::optimizer::{AdamW, AdamWSettings};
use moim::reward::{Formula, Reward};
use serde_json::Value;

fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden_dir().join("grpo").join(name)).unwrap())
        .unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn matrix(value: &Value) -> Vec<Vec<f32>> {
    let rows = value.as_array().unwrap();
    rows.iter()
        .map(|row| {
            row.as_array()
                .unwrap()
                .iter()
                .map(|v| number(v) as f32)
                .collect()
        })
        .collect()
}

fn plain(loss_type: LossType) -> LossSettings {
    LossSettings {
        loss_type,
        max_completion_length: 8,
        ..LossSettings::default()
    }
}

/// Values of TRL's own `_compute_loss`, printed with seven digits.
#[test]
fn losses_and_gradients_are_those_of_trl() {
    let golden = read("grpo_losses.json");
    let lengths = [5, 4, 3, 2];
    let ragged = |name: &str| -> Vec<Vec<f32>> {
        matrix(&golden[name])
            .into_iter()
            .zip(lengths)
            .map(|(row, length)| row[..length].to_vec())
            .collect()
    };
    let (new, old, reference) = (ragged("new"), ragged("old"), ragged("ref"));
    let advantages = [1.0, -0.5, 0.75, -1.25];
    let compute = |settings: &LossSettings, is_on_policy: bool| -> LossOutput {
        let input = LossInput {
            log_probs: &new,
            old_log_probs: (!is_on_policy).then_some(&old),
            reference_log_probs: Some(&reference),
            entropies: &[],
            advantages: &advantages,
            is_counted: &[true; 4],
            step_tokens: lengths.iter().sum::<usize>() as f64,
        };
        policy_loss(&input, settings)
    };
    let sequence = ImportanceSamplingLevel::Sequence;
    let cases = [
        ("grpo", plain(LossType::Grpo), false),
        ("bnpo", plain(LossType::Bnpo), false),
        ("dr_grpo(Lmax=8)", plain(LossType::DrGrpo), false),
        ("dapo", plain(LossType::Dapo), false),
        (
            "dapo eps_hi.28",
            LossSettings {
                epsilon_high: 0.28,
                ..plain(LossType::Dapo)
            },
            false,
        ),
        (
            "dapo delta1.25",
            LossSettings {
                delta: Some(1.25),
                ..plain(LossType::Dapo)
            },
            false,
        ),
        (
            "gspo=grpo seq",
            LossSettings {
                importance_sampling_level: sequence,
                ..plain(LossType::Grpo)
            },
            false,
        ),
        (
            "dapo beta.1",
            LossSettings {
                beta: 0.1,
                ..plain(LossType::Dapo)
            },
            false,
        ),
        (
            "dapo onpolicy(no old) beta.1",
            LossSettings {
                beta: 0.1,
                ..plain(LossType::Dapo)
            },
            true,
        ),
        ("grpo onpolicy", plain(LossType::Grpo), true),
        (
            "cispo eps_hi5",
            LossSettings {
                epsilon_high: 5.0,
                ..plain(LossType::Cispo)
            },
            false,
        ),
        (
            "cispo eps_hi1.1",
            LossSettings {
                epsilon_high: 1.1,
                ..plain(LossType::Cispo)
            },
            false,
        ),
        ("sapo", plain(LossType::Sapo), false),
        ("vespo", plain(LossType::Vespo), false),
        (
            "luspo seq",
            LossSettings {
                importance_sampling_level: sequence,
                ..plain(LossType::Luspo)
            },
            false,
        ),
    ];
    for (name, settings, is_on_policy) in cases {
        let expected = &golden["out"][name];
        let found = compute(&settings, is_on_policy);
        let close = |what: &str, a: f64, b: f64| {
            assert!((a - b).abs() < 2e-7, "{name}: {what} {a} against {b}")
        };
        close("loss", found.loss, number(&expected["loss"]));
        close(
            "Σ gradient",
            found.gradient.iter().flatten().map(|g| f64::from(*g)).sum(),
            number(&expected["gsum"]),
        );
        close(
            "gradient[0,0]",
            f64::from(found.gradient[0][0]),
            number(&expected["g00"]),
        );
        close(
            "gradient[1,1]",
            f64::from(found.gradient[1][1]),
            number(&expected["g11"]),
        );
        let metrics = &expected["metrics"];
        let statistics = found.statistics;
        if metrics["clip_ratio/low_mean"].is_null() {
            continue;
        }
        let share = |sum: f64| sum / statistics.ratios;
        let rounded = |what: &str, a: f64, b: &Value| {
            assert!(
                (a - number(b)).abs() < 1e-6,
                "{name}: {what} {a} against {b}"
            );
        };
        rounded(
            "clip low",
            share(statistics.clipped_low),
            &metrics["clip_ratio/low_mean"],
        );
        rounded(
            "clip high",
            share(statistics.clipped_high),
            &metrics["clip_ratio/high_mean"],
        );
        if settings.beta != 0.0 {
            rounded("kl", statistics.kl / statistics.tokens, &metrics["kl"]);
        }
    }
}

/// Every loss of TRL with every option of it, all gradients. TRL's side is float64; ours answers
/// gradients in f32, whose rounding is the bound.
#[test]
fn every_loss_of_trl_has_its_gradient() {
    let golden = read("losses.json");
    let lengths: Vec<usize> = golden["lengths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|length| length.as_u64().unwrap() as usize)
        .collect();
    let ragged = |value: &Value| -> Vec<Vec<f32>> {
        let rows = matrix(value).into_iter().zip(&lengths);
        rows.map(|(row, length)| row[..*length].to_vec()).collect()
    };
    let [new, old, reference, entropies] =
        ["log_probs", "old", "ref", "entropies"].map(|name| ragged(&golden[name]));
    let advantages: Vec<f64> = golden["advantages"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .collect();
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 102);
    for (name, case) in cases {
        let given = &case["settings"];
        // The settings of a case are keys of an experiment.
        let mut lines = String::from("[grpo]\n");
        for (key, value) in given.as_object().unwrap() {
            if key != "old" && key != "masked" {
                lines += &format!("{key} = {value}\n");
            }
        }
        let experiment: Experiment = experiment_of(&lines);
        let settings = LossSettings {
            max_completion_length: 9,
            gradient_accumulation_steps: 2,
            ..LossSettings::new(&experiment)
        };
        let masked = given["masked"].as_array().cloned().unwrap_or_default();
        let is_counted: Vec<bool> = (0..4)
            .map(|row| !masked.iter().any(|masked| masked.as_u64() == Some(row)))
            .collect();
        let counted = lengths.iter().zip(&is_counted).filter(|(_, c)| **c);
        let found = policy_loss(
            &LossInput {
                log_probs: &new,
                old_log_probs: (given["old"] != Value::Bool(false)).then_some(&old),
                reference_log_probs: Some(&reference),
                entropies: &entropies,
                advantages: &advantages,
                is_counted: &is_counted,
                step_tokens: 2.0 * counted.map(|(length, _)| *length as f64).sum::<f64>(),
            },
            &settings,
        );
        let expected = number(&case["loss"]);
        assert!(
            (found.loss - expected).abs() < 2e-7 * expected.abs().max(1.0),
            "{name}: loss {} against {expected}",
            found.loss
        );
        for (row, (found, expected)) in found
            .gradient
            .iter()
            .zip(ragged(&case["gradient"]))
            .enumerate()
        {
            for (column, (a, b)) in found.iter().zip(expected).enumerate() {
                assert!(
                    (a - b).abs() < 2e-7 * b.abs().max(1.0),
                    "{name}: gradient [{row}, {column}] {a} against {b}"
                );
            }
        }
        let report = MicroBatchReport {
            statistics: found.statistics,
            entropy: 0.0,
        };
        let metrics = update_metrics(&[report], &settings);
        for (key, expected) in case["metrics"].as_object().unwrap() {
            // The entropy is summed by the caller. TRL counts masked rows among the sequences of a mean
            // over sequences, which ours does not.
            let counts_rows = name.contains("sequence") || name.contains("vespo");
            if key == "entropy" || (!masked.is_empty() && counts_rows && key.ends_with("_mean")) {
                continue;
            }
            let found = metrics[key].as_f64().unwrap();
            assert!(
                (found - number(expected)).abs() < 1e-6,
                "{name}: {key} {found} against {expected}"
            );
        }
    }
}

fn experiment_of(lines: &str) -> Experiment {
    let text = format!("[model]\npath = \"m\"\n[data]\ntrain = \"t\"\neval = \"e\"\n{lines}");
    Experiment::parse(&text, &[]).unwrap()
}

#[test]
fn advantages_are_those_of_trl_with_any_scale_and_aggregation() {
    let golden = read("losses.json");
    for case in golden["advantages_cases"].as_array().unwrap() {
        let weights: Vec<f64> = case["weights"]
            .as_array()
            .unwrap()
            .iter()
            .map(number)
            .collect();
        let names: Vec<String> = (0..weights.len()).map(|i| format!("r{i}")).collect();
        let terms = weights
            .iter()
            .zip(&names)
            .map(|(weight, name)| format!("{weight}*{name}"));
        let formula = Formula::parse(&terms.collect::<Vec<_>>().join(" + ")).unwrap();
        assert_eq!(formula.weights().unwrap(), weights);
        let rewards: Vec<Reward> = case["rewards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let values: Vec<Option<f64>> =
                    row.as_array().unwrap().iter().map(Value::as_f64).collect();
                let of = |name: &str| values[names.iter().position(|n| n == name).unwrap()];
                let total = formula.evaluate(&of).unwrap_or(f64::NAN);
                Reward { total, values }
            })
            .collect();
        let totals: Vec<f64> = rewards.iter().map(|reward| reward.total).collect();
        let group = case["group"].as_u64().unwrap() as usize;
        let scale = match case["scale"].as_str().unwrap() {
            "group" => ScaleRewards::Group,
            "batch" => ScaleRewards::Batch,
            _ => ScaleRewards::None,
        };
        let found = match case["aggregation"].as_str().unwrap() {
            "sum_then_normalize" => advantages(&totals, group, scale),
            _ => advantages_of_each(&rewards, &weights, group),
        };
        for (a, b) in found
            .values
            .iter()
            .zip(case["advantages"].as_array().unwrap())
        {
            assert!(
                (a - number(b)).abs() < 1e-6,
                "{}: {a} against {b}",
                case["name"]
            );
        }
    }
}

#[test]
fn a_gradient_is_the_slope_of_its_loss() {
    let log_probs = vec![vec![-0.3, -1.1, -0.7], vec![-0.2, -2.0]];
    let old = vec![vec![-0.5, -1.0, -0.9], vec![-0.6, -1.5]];
    let reference = vec![vec![-0.4, -0.8, -0.7], vec![-0.3, -1.9]];
    // The weights of cispo and vespo are no part of what is differentiated.
    let smooth = |kind: &&LossType| !matches!(kind, LossType::Cispo | LossType::Vespo);
    for &loss_type in LossType::ALL.iter().filter(smooth) {
        for level in [
            ImportanceSamplingLevel::Token,
            ImportanceSamplingLevel::Sequence,
        ] {
            let settings = LossSettings {
                importance_sampling_level: level,
                beta: 0.3,
                epsilon_high: 0.3,
                delta: Some(1.6),
                gradient_accumulation_steps: 2,
                ..plain(loss_type)
            };
            let loss = |log_probs: &[Vec<f32>]| {
                policy_loss(
                    &LossInput {
                        log_probs,
                        old_log_probs: Some(&old),
                        reference_log_probs: Some(&reference),
                        entropies: &[],
                        advantages: &[0.9, -1.3],
                        is_counted: &[true, true],
                        step_tokens: 11.0,
                    },
                    &settings,
                )
            };
            let gradient = loss(&log_probs).gradient;
            for row in 0..2 {
                for column in 0..log_probs[row].len() {
                    let moved = |by: f32| {
                        let mut moved = log_probs.clone();
                        moved[row][column] += by;
                        loss(&moved).loss
                    };
                    let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                    let found = f64::from(gradient[row][column]);
                    assert!(
                        (slope - found).abs() < 2e-3 * found.abs().max(0.1),
                        "{loss_type:?} {level:?}: {slope} against {found}"
                    );
                }
            }
        }
    }
}

#[test]
fn schedules_are_those_of_transformers() {
    let golden = read("schedules.json");
    for case in golden["cases"].as_array().unwrap() {
        let kind = match case["name"].as_str().unwrap() {
            "linear" => LrSchedulerType::Linear,
            "cosine" => LrSchedulerType::Cosine,
            "constant" => LrSchedulerType::Constant,
            "constant_with_warmup" => LrSchedulerType::ConstantWithWarmup,
            other => panic!("{other}"),
        };
        let schedule = Schedule {
            kind,
            learning_rate: number(&golden["peak"]),
            warmup_steps: case["warmup_steps"].as_u64().unwrap() as usize,
            total_steps: case["total_steps"].as_u64().unwrap() as usize,
        };
        for (step, expected) in case["learning_rates"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            let found = schedule.learning_rate(step);
            assert!(
                (found - number(expected)).abs() < 1e-12,
                "{case}: step {step} has {found}"
            );
        }
    }
}

/// Ten optimizer steps of TRL's trainer on a tiny model with fixed completions:
/// advantages, log-probabilities, losses, gradient norms, KL, entropy and the
/// final adapter. TRL itself moves by up to 1e-5 (relative) when its attention
/// kernel is exchanged; the bound is ten times that.
#[test]
fn trajectories_are_those_of_trl() {
    let golden = read("trajectories.json");
    let model = Llama::load(&golden_dir().join("model/tiny_llama"), &Compute::cpu()).unwrap();
    let tokens = |value: &Value| -> Vec<u32> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect()
    };
    let prompts: Vec<Vec<u32>> = golden["prompts"]
        .as_array()
        .unwrap()
        .iter()
        .map(tokens)
        .collect();
    let completions: Vec<Vec<Vec<u32>>> = golden["completions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group.as_array().unwrap().iter().map(tokens).collect())
        .collect();
    let rewards: Vec<f64> = matrix(&golden["rewards"])
        .into_iter()
        .flatten()
        .map(f64::from)
        .collect();
    let truncated = {
        let place = tokens(&golden["truncated"]);
        place[0] as usize * 4 + place[1] as usize
    };
    for (name, case) in golden["cases"].as_object().unwrap() {
        let settings = &case["settings"];
        let text = |key: &str| settings[key].as_str().unwrap();
        let accumulation = settings["gradient_accumulation_steps"].as_u64().unwrap() as usize;
        let iterations = settings["num_iterations"].as_u64().unwrap() as usize;
        let slices = settings["steps_per_generation"].as_u64().unwrap_or(1) as usize;
        let learning_rate = number(&settings["learning_rate"]);
        let optional = |key: &str, default: f64| settings[key].as_f64().unwrap_or(default);
        let beta = number(&settings["beta"]);
        let adapter = load_adapter(
            &golden_dir().join("grpo/initial_adapter"),
            &model.config,
            &model.compute,
        )
        .unwrap();
        let adam = AdamWSettings {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        };
        let mut learner = Learner {
            models: vec![&model],
            optimizer: AdamW::new(adam, &adapter.parameters()),
            reference: (settings["continued"] == Value::Bool(true)).then(|| adapter.clone()),
            adapter,
            loss: LossSettings {
                loss_type: text("loss_type").parse_with(LossType::ALL),
                importance_sampling_level: text("importance_sampling_level")
                    .parse_with(ImportanceSamplingLevel::ALL),
                beta,
                epsilon_high: optional("epsilon_high", 0.2),
                top_entropy_quantile: optional("top_entropy_quantile", 1.0),
                gradient_accumulation_steps: accumulation,
                ..plain(LossType::Grpo)
            },
            temperature: number(&settings["temperature"]),
            max_grad_norm: 1.0,
            lora_dropout: 0.0,
            seed: 0,
            limits: Limits::default(),
        };
        let scale = match text("scale_rewards") {
            "group" => ScaleRewards::Group,
            "batch" => ScaleRewards::Batch,
            "none" => ScaleRewards::None,
            other => panic!("{other}"),
        };
        let masks_truncated = settings["mask_truncated_completions"].as_bool().unwrap();
        let fresh = || Generation {
            groups: prompts
                .iter()
                .zip(&completions)
                .map(|(prompt, group)| {
                    (prompt.as_slice(), group.iter().map(Vec::as_slice).collect())
                })
                .collect(),
            advantages: advantages(&rewards, 4, scale).values,
            is_counted: (0..8)
                .map(|row| !(masks_truncated && row == truncated))
                .collect(),
            groups_per_micro_batch: 2 / accumulation / slices,
            slices,
            old_log_probs: None,
            reference_log_probs: None,
        };
        let relative = |what: &str, step: usize, found: f64, expected: &Value, floor: f64| {
            let expected = number(expected);
            let bound = 1e-4 * expected.abs().max(floor);
            assert!(
                (found - expected).abs() <= bound,
                "{name}, step {}: {what} {found} against {expected}",
                step + 1
            );
        };
        let mut generation = fresh();
        for (step, expected) in case["steps"].as_array().unwrap().iter().enumerate() {
            let index = step % (iterations * slices);
            if index == 0 {
                generation = fresh();
                if slices > 1 {
                    let old = learner
                        .log_probs(&generation, Policy::Current, &mut |_| Ok(()))
                        .unwrap();
                    generation.old_log_probs = Some(old.rows);
                }
                if beta != 0.0 {
                    let reference = learner
                        .log_probs(&generation, Policy::Reference, &mut |_| Ok(()))
                        .unwrap();
                    generation.reference_log_probs = Some(reference.rows);
                }
            }
            let report = learner
                .step(
                    &generation,
                    index % slices,
                    learning_rate,
                    [step as u64, 0],
                    &mut |_| Ok(()),
                )
                .unwrap();
            if step == 0 {
                for (found, expected) in generation
                    .advantages
                    .iter()
                    .zip(case["first"]["advantages"].as_array().unwrap())
                {
                    relative("advantage", 0, *found, expected, 1.0);
                }
                for (row, expected) in matrix(&case["first"]["log_probs"]).iter().enumerate() {
                    for (a, b) in report.log_probs[row].iter().zip(expected) {
                        assert!(
                            (a - b).abs() < 2e-4 || *b == 0.0,
                            "{name}: log-prob {a} against {b}"
                        );
                    }
                }
            }
            if iterations > 1 && generation.old_log_probs.is_none() {
                generation.old_log_probs = Some(report.log_probs.clone());
            }
            assert!(report.is_applied);
            relative("loss", step, report.loss, &expected["loss"], 0.01);
            relative(
                "grad_norm",
                step,
                report.grad_norm,
                &expected["grad_norm"],
                0.1,
            );
            let metrics = update_metrics(&report.micro_batches, &learner.loss);
            for (key, floor) in [
                ("entropy", 1.0),
                ("kl", 0.01),
                ("clip_ratio/low_mean", 1.0),
                ("clip_ratio/high_mean", 1.0),
                ("clip_ratio/low_min", 1.0),
                ("clip_ratio/high_max", 1.0),
            ] {
                if expected[key].is_number() {
                    relative(key, step, number(&metrics[key]), &expected[key], floor);
                }
            }
        }
        let file = golden_dir().join(format!("grpo/final_{name}.safetensors"));
        let last = WeightFiles::open_files(vec![file]).unwrap();
        let mut largest = 0.0_f32;
        for (i, layer) in learner.adapter.layers.iter().enumerate() {
            for projection in [Projection::Q, Projection::K, Projection::V, Projection::O] {
                let pair = layer.pair(projection).unwrap();
                for (factor, tensor) in [('A', &pair.a), ('B', &pair.b)] {
                    let key = format!(
                        "base_model.model.model.layers.{i}.{}.lora_{factor}.weight",
                        moim::model::Family::Llama.path(projection)
                    );
                    let expected = last.read_f32(&key, &tensor.dims()).unwrap();
                    for (a, b) in to_f32(tensor.clone()).iter().zip(expected) {
                        largest = largest.max((a - b).abs());
                    }
                }
            }
        }
        // Parameters moved by about 0.1; Adam turns tiny gradients into whole steps, so this is loose beside the rest.
        assert!(
            largest < 2e-4,
            "{name}: the final adapter differs by {largest}"
        );
    }
}

/// The word of an experiment file as its variant.
trait ParseWith {
    fn parse_with<T: Copy + ToString>(&self, all: &[T]) -> T;
}

impl ParseWith for str {
    fn parse_with<T: Copy + ToString>(&self, all: &[T]) -> T {
        *all.iter()
            .find(|variant| variant.to_string() == self)
            .unwrap()
    }
}
