//! Losses, their gradients, and advantages on fixed inputs.

use moim::experiment::{Experiment, ImportanceSamplingLevel, LossType, ScaleRewards};
use moim::grpo::advantage::{advantages, advantages_of_each};
use moim::grpo::learner::MicroBatchReport;
use moim::grpo::loss::{LossOutput, LossRow, LossSettings, policy_loss};
use moim::grpo::metrics::update_metrics;
use moim::reward::{Formula, Reward};
use serde_json::Value;

use super::{matrix, number, plain, read};

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
        let row = |row: usize| LossRow {
            log_probs: &new[row],
            old_log_probs: (!is_on_policy).then_some(&old[row]),
            reference_log_probs: Some(&reference[row]),
            entropies: &[],
            advantage: advantages[row],
            is_counted: true,
        };
        let step_tokens = lengths.iter().sum::<usize>() as f64;
        policy_loss(&[0, 1, 2, 3].map(row), step_tokens, settings)
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
        let step_tokens = 2.0 * counted.map(|(length, _)| *length as f64).sum::<f64>();
        let row = |row: usize| LossRow {
            log_probs: &new[row],
            old_log_probs: (given["old"] != Value::Bool(false)).then_some(&old[row]),
            reference_log_probs: Some(&reference[row]),
            entropies: &entropies[row],
            advantage: advantages[row],
            is_counted: is_counted[row],
        };
        let found = policy_loss(&[0, 1, 2, 3].map(row), step_tokens, &settings);
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
            let found = metrics.get(key).unwrap();
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
        let group = case["group"].as_u64().unwrap() as usize;
        let scale = match case["scale"].as_str().unwrap() {
            "group" => ScaleRewards::Group,
            "batch" => ScaleRewards::Batch,
            _ => ScaleRewards::None,
        };
        let groups: Vec<Vec<&Reward>> = rewards.chunks(group).map(|g| g.iter().collect()).collect();
        let found = match case["aggregation"].as_str().unwrap() {
            "sum_then_normalize" => {
                let totals = |group: &Vec<&Reward>| group.iter().map(|r| r.total).collect();
                advantages(&groups.iter().map(totals).collect::<Vec<_>>(), scale)
            }
            _ => advantages_of_each(&groups, &weights),
        };
        for (a, b) in found
            .concat()
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
    let old = [vec![-0.5, -1.0, -0.9], vec![-0.6, -1.5]];
    let reference = [vec![-0.4, -0.8, -0.7], vec![-0.3, -1.9]];
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
                let row = |row: usize| LossRow {
                    log_probs: &log_probs[row],
                    old_log_probs: Some(&old[row]),
                    reference_log_probs: Some(&reference[row]),
                    entropies: &[],
                    advantage: [0.9, -1.3][row],
                    is_counted: true,
                };
                policy_loss(&[row(0), row(1)], 11.0, &settings)
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
