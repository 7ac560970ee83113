//! The recipe against TRL 1.16: losses and their gradients on fixed inputs,
//! schedules, and whole trajectories of its trainer (tests/golden/grpo).

mod losses;

use std::path::PathBuf;

use moim::architecture::Projection;
use moim::device::Compute;
use moim::experiment::{ImportanceSamplingLevel, LossType, LrSchedulerType, ScaleRewards};
use moim::grpo::advantage::advantages;
use moim::grpo::group::{Generation, Group};
use moim::grpo::learner::{Learner, Limits, PolicyKind};
use moim::grpo::loss::LossSettings;
use moim::grpo::metrics::update_metrics;
use moim::grpo::schedule::Schedule;
use moim::model::{Llama, WeightFiles, load_adapter, to_f32};
use moim::optimizer::{AdamW, AdamWSettings};
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
    let rewards: Vec<Vec<f64>> = matrix(&golden["rewards"])
        .concat()
        .chunks(4)
        .map(|group| group.iter().copied().map(f64::from).collect())
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
        let fresh = || {
            let groups = prompts.iter().zip(&completions);
            let mut generation = Generation {
                groups: groups
                    .map(|(prompt, group)| Group::of_tokens(prompt.clone(), group.clone()))
                    .collect(),
                groups_per_micro_batch: 2 / accumulation / slices,
                slices,
            };
            let advantages = advantages(&rewards, scale).concat();
            for (row, sample) in generation.samples_mut().enumerate() {
                sample.advantage = advantages[row];
                sample.is_counted = !(masks_truncated && row == truncated);
            }
            generation
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
                        .log_probs(&generation, PolicyKind::Current, &mut |_| Ok(()))
                        .unwrap();
                    generation.set_old_log_probs(old.rows);
                }
                if beta != 0.0 {
                    let reference = learner
                        .log_probs(&generation, PolicyKind::Reference, &mut |_| Ok(()))
                        .unwrap();
                    for (sample, row) in generation.samples_mut().zip(reference.rows) {
                        sample.reference_log_probs = Some(row);
                    }
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
                for (sample, expected) in generation
                    .samples()
                    .zip(case["first"]["advantages"].as_array().unwrap())
                {
                    relative("advantage", 0, sample.advantage, expected, 1.0);
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
            if iterations > 1 && !generation.has_old_log_probs() {
                generation.set_old_log_probs(report.log_probs.clone());
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
                    let found = metrics.get(key).unwrap();
                    relative(key, step, found, &expected[key], floor);
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
                        moim::architecture::Family::Llama.path(projection)
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
