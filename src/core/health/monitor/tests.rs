use super::*;
use crate::health::Severity;
use crate::run::{MeanIntervals, Metrics, SavePoint, Score};

/// A step of a run in good health.
fn healthy(step: usize) -> Step {
    // Not the same each time, so that no value is constant.
    let wave = [0.00, 0.03, -0.02, 0.01, -0.01][step % 5];
    let metrics = Metrics::default()
        .with("reward", 1.0 + wave)
        .with("rewards/exact_match/mean", 0.6 + wave)
        .with("frac_reward_zero_std", 0.2)
        .with("entropy", 0.3 + wave)
        .with("kl", 0.01)
        .with("grad_norm", 0.1 + wave)
        .with("completions/clipped_ratio", 0.05)
        .with("sampling/sampling_logp_difference/mean", 0.002)
        .with("tokens_per_second/rollout", 5000.0 + 1000.0 * wave)
        .with("tokens_per_second/backward", 4000.0);
    Step {
        step,
        total_steps: 200,
        metrics,
    }
}

/// Every alarm of a run of 200 steps whose step events `change` alters: (code, severity, step).
fn alarms(change: impl Fn(&mut Metrics, usize)) -> Vec<(String, Severity, usize)> {
    let mut monitor = Monitor::default();
    (1..=200)
        .flat_map(|step| {
            let mut healthy = healthy(step);
            change(&mut healthy.metrics, step);
            monitor.observe(&Event::new(healthy))
        })
        .map(|alarm| {
            assert!(alarm.message.contains("healthy:"), "{}", alarm.message);
            assert!(!alarm.message.contains("NaN"), "{}", alarm.message);
            (alarm.code.into_owned(), alarm.severity, alarm.step)
        })
        .collect()
}

#[test]
fn a_healthy_run_raises_nothing() {
    assert_eq!(alarms(|_, _| ()), []);
}

#[test]
fn each_condition_is_raised_when_it_begins() {
    let tilt = |step: usize| 0.01 * step.saturating_sub(100) as f64;
    // (metric, its value from step 101 on, the alarms)
    type Case = (
        &'static str,
        fn(f64) -> f64,
        &'static [(&'static str, Severity)],
    );
    use Severity::{Critical, Warning};
    let cases: [Case; 13] = [
        (
            "frac_reward_zero_std",
            |_| 0.9,
            &[("zero_variance_groups", Warning)],
        ),
        (
            "frac_reward_zero_std",
            |_| 1.0,
            &[
                ("zero_variance_groups", Warning),
                ("zero_variance_groups", Critical),
            ],
        ),
        ("entropy", |_| 0.05, &[("entropy_collapse", Warning)]),
        (
            "entropy",
            |_| 0.001,
            &[
                ("entropy_collapse", Warning),
                ("entropy_collapse", Critical),
            ],
        ),
        ("kl", |_| 1.0, &[("kl", Warning)]),
        (
            "kl",
            |tilt| tilt * 10.0,
            &[("kl", Warning), ("kl", Critical)],
        ),
        (
            "completions/clipped_ratio",
            |_| 0.5,
            &[("clipped_completions", Warning)],
        ),
        ("grad_norm", |_| 25.0, &[("grad_norm_spike", Critical)]),
        ("grad_norm", |_| 0.0, &[("grad_norm_zero", Critical)]),
        ("reward", |_| 0.0, &[("reward_constant", Warning)]),
        (
            "sampling/sampling_logp_difference/mean",
            |_| 0.3,
            &[("sampling_mismatch", Warning)],
        ),
        (
            "tokens_per_second/rollout",
            |_| 500.0,
            &[("slow_rollout", Warning)],
        ),
        (
            "tokens_per_second/backward",
            |_| 500.0,
            &[("slow_backward", Warning)],
        ),
    ];
    for (metric, value, expected) in cases {
        let raised = alarms(|metrics, step| {
            if step > 100 {
                metrics.set(metric, value(tilt(step)));
            }
        });
        let short: Vec<_> = raised
            .iter()
            .map(|(code, severity, _)| (code.as_str(), *severity))
            .collect();
        assert_eq!(short, expected, "{metric}");
        assert!(
            raised.iter().all(|(_, _, step)| (101..=180).contains(step)),
            "{raised:?}"
        );
    }
}

#[test]
fn a_metric_that_is_not_a_number_raises_nothing_and_hides_nothing() {
    let raised = alarms(|metrics, step| {
        for metric in ["kl", "entropy", "grad_norm", "reward"] {
            if step % 2 == 0 {
                metrics.set(metric, f64::NAN);
            }
        }
        if step > 100 && step % 2 == 1 {
            metrics.set("kl", 1.0);
        }
    });
    assert_eq!(raised, [("kl".to_owned(), Severity::Warning, 105)]);
    assert_eq!(alarms(|metrics, _| *metrics = Metrics::default()), []);
}

#[test]
fn a_condition_that_comes_back_is_raised_again() {
    let raised = alarms(|metrics, step| {
        if (50..70).contains(&step) || step >= 150 {
            metrics.set("completions/clipped_ratio", 0.5);
        }
    });
    let steps: Vec<usize> = raised.iter().map(|(_, _, step)| *step).collect();
    assert_eq!((raised.len(), steps), (2, vec![55, 155]));
    // Spikes that follow each other are one trouble; a later one is another.
    let raised = alarms(|metrics, step| {
        if [60, 63, 120].contains(&step) {
            metrics.set("grad_norm", 4.0);
        }
    });
    let spike = |step| ("grad_norm_spike".to_owned(), Severity::Warning, step);
    assert_eq!(raised, [spike(60), spike(120)]);
}

#[test]
fn a_mean_on_the_border_raises_once() {
    let raised = alarms(|metrics, step| {
        metrics.set(
            "completions/clipped_ratio",
            0.3 + [0.01, -0.01][step / 10 % 2],
        );
    });
    assert_eq!(raised.len(), 1, "{raised:?}");
}

#[test]
fn a_reward_that_rises_while_the_exact_match_falls_is_raised() {
    let with = |reward_slope: f64, match_slope: f64| {
        alarms(move |metrics, step| {
            let add = |metrics: &mut Metrics, metric: &str, slope: f64| {
                let value = metrics.get(metric).unwrap() + slope * step as f64;
                metrics.set(metric, value);
            };
            add(metrics, "reward", reward_slope);
            add(metrics, "rewards/exact_match/mean", match_slope);
        })
    };
    let raised = with(0.003, -0.003);
    assert_eq!(
        raised,
        [(
            "reward_up_exact_match_down".to_owned(),
            Severity::Critical,
            40
        )]
    );
    for (reward_slope, match_slope) in [
        (0.003, 0.003),
        (-0.003, -0.003),
        (0.0, -0.003),
        (0.003, 0.0),
    ] {
        assert_eq!(
            with(reward_slope, match_slope),
            [],
            "{reward_slope} {match_slope}"
        );
    }
}

#[test]
fn a_validation_that_falls_while_the_reward_rises_is_raised_at_its_score() {
    let intervals = |em: f64| -> MeanIntervals {
        let intervals = serde_json::json!({"em": [em - 0.06, em + 0.06]});
        serde_json::from_value(intervals).unwrap()
    };
    let score = |step: usize, em: f64| {
        Event::new(Score {
            step: Some(step),
            checkpoint: Some(SavePoint::Epoch(step / 50)),
            em: Some(em),
            intervals: Some(intervals(em)),
            ..Score::default()
        })
    };
    let run = |ems: [f64; 5], reward_slope: f64| -> Vec<Alarm> {
        let mut monitor = Monitor::default();
        let mut alarms = monitor.observe(&score(0, ems[0]));
        for step in 1..=200 {
            let mut event = healthy(step);
            let reward = 1.0 + reward_slope * step as f64;
            event.metrics.set("reward", reward);
            alarms.extend(monitor.observe(&Event::new(event)));
            if step % 50 == 0 {
                alarms.extend(monitor.observe(&score(step, ems[step / 50])));
            }
        }
        alarms
    };
    // Down a little each time: never far from the score before, but from the best.
    let raised = run([0.30, 0.50, 0.46, 0.42, 0.38], 0.003);
    assert_eq!(raised.len(), 1);
    assert_eq!(
        (raised[0].code.as_ref(), raised[0].step),
        ("validation_down_reward_up", 150)
    );
    assert!(
        raised[0].message.contains("from 0.500 at epoch_1"),
        "{}",
        raised[0].message
    );
    assert_eq!(run([0.30, 0.50, 0.46, 0.47, 0.49], 0.003), []);
    assert_eq!(run([0.30, 0.50, 0.46, 0.42, 0.38], -0.003), []);
    // Worse than untrained, from the first epoch on.
    let raised = run([0.50, 0.40, 0.40, 0.40, 0.40], 0.003);
    assert_eq!((raised.len(), raised[0].step), (1, 50));
}

/// As a resumed run does it: what was kept is shown to a new monitor.
#[test]
fn a_monitor_that_is_shown_the_events_again_goes_on_as_the_first_one() {
    let event = |step: usize| {
        let mut event = healthy(step);
        if (30..60).contains(&step) || step > 90 {
            event.metrics.set("kl", 1.0);
        }
        Event::new(event)
    };
    let all: Vec<Alarm> = {
        let mut monitor = Monitor::default();
        (1..=120)
            .flat_map(|step| monitor.observe(&event(step)))
            .collect()
    };
    assert_eq!(all.len(), 2);
    for cut in [10, 32, 33, 34, 59, 60, 70, 100] {
        let mut first = Monitor::default();
        let mut alarms: Vec<Alarm> = (1..=cut)
            .flat_map(|step| first.observe(&event(step)))
            .collect();
        let mut resumed = Monitor::default();
        (1..=cut).for_each(|step| drop(resumed.observe(&event(step))));
        alarms.extend((cut + 1..=120).flat_map(|step| resumed.observe(&event(step))));
        assert_eq!(alarms, all, "cut after {cut}");
    }
}

/// Three runs of experiments/demo.toml, as they were: all of them went well, with an entropy that is
/// low from the start and groups that more and more often agree.
#[test]
fn the_runs_of_the_demo_raise_nothing() {
    let file = include_str!("../../../../tests/golden/health/demo_runs.json");
    let file: serde_json::Value = serde_json::from_str(file).unwrap();
    let metrics = file["metrics"].as_array().unwrap();
    for (name, lines) in file["runs"].as_object().unwrap() {
        let mut monitor = Monitor::default();
        let mut step = 0_usize;
        for line in lines.as_array().unwrap() {
            let event = match line {
                serde_json::Value::Array(values) => {
                    step += 1;
                    let mut of_step = Metrics::default();
                    for (metric, value) in metrics.iter().zip(values) {
                        of_step.set(metric.as_str().unwrap(), value.as_f64().unwrap());
                    }
                    Event::new(Step {
                        step,
                        total_steps: 106,
                        metrics: of_step,
                    })
                }
                score => {
                    let mut fields = score.as_object().unwrap().clone();
                    fields.insert("step".to_owned(), step.into());
                    Event::from_fields("score", fields)
                }
            };
            assert_eq!(monitor.observe(&event), [], "{name} step {step}");
        }
        assert_eq!(step, 106);
    }
}
