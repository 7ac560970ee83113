use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::run::read_lines;

fn time() -> Timestamp {
    "2026-11-22T03:33:24.5Z".parse().unwrap()
}

fn line(kind: impl Into<EventKind>) -> String {
    let event = Event {
        time: time(),
        ..Event::new(kind)
    };
    event.to_line()
}

fn read(line: &str) -> Event {
    serde_json::from_str(line).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// One of each kind, with every field.
fn every_kind() -> Vec<EventKind> {
    let start = Start {
        id: Some("demo/첫 실행".to_owned()),
        directory: Some("outputs/demo/첫 실행".to_owned()),
        device: Some("cuda:0".to_owned()),
        version: Some("0.1.0".to_owned()),
        parameters: Some(1_000_000),
        trained_parameters: Some(1000),
        train_prompts: Some(212),
        eval_items: Some(170),
        total_steps: Some(106),
        batch: Some(BatchSizes {
            B: 8,
            G: 4,
            A: 2,
            D: 1,
            S: 2,
            completions_per_step: 16,
            prompts_per_step: 4,
            steps_per_epoch: 53,
            dropped_prompts: 0,
            unknown: Map::new(),
        }),
        stop_tokens: Some(vec![0, 2]),
        rewards: Some(vec!["format".to_owned(), "길이".to_owned()]),
        formula: Some("format + 길이".to_owned()),
        seed: Some(42),
        predicted_bytes: Some(9 << 30),
        sizes: Some(PartSizes {
            rollout_rows: 64,
            answered_together: 16,
            rows_per_part: Some(4),
            unknown: Map::new(),
        }),
    };
    let finding = json!({"check": "leak", "severity": "warning", "message": "세 문항이 겹친다"});
    let preflight = Preflight {
        warnings: 1,
        errors: 0,
        findings: Some(vec![serde_json::from_value(finding).unwrap()]),
        seconds: Some(0.5),
    };
    let resume = Resume {
        step: 53,
        directory: Some("outputs/demo/첫 실행".to_owned()),
        checkpoint: "epoch_1".to_owned(),
    };
    let step = Step {
        step: 1,
        total_steps: 106,
        metrics: Metrics::default()
            .with("loss", f64::NAN)
            .with("kl", f64::INFINITY)
            .with("learning_rate", 1e-5)
            .with("num_tokens", 96_usize)
            .with("rewards/길이/mean", 0.246_421_079_740_456_18)
            .with("completions/max_length", 48.0)
            .with("memory/host_rss", 1_u64 << 30),
    };
    let checkpoint = Checkpoint {
        checkpoint: SavePoint::Step(30),
        step: 30,
        adapter_difference: Some(0.0),
    };
    let inference = Inference {
        checkpoint: SavePoint::Epoch(1),
        step: 53,
        file: Some("inference_epoch1.json".to_owned()),
        items: 170,
        tokens: 8700,
        seconds: 1.5,
    };
    let row = json!({
        "file": "inference_epoch1.json", "epoch": 1, "state": "complete", "rank": 1, "rouge1": 0.25,
        "bertscore": 0.75, "em": 0.5, "final_mean": 0.785, "format": 1.0,
        "intervals": {"rouge1": [0.2, 0.3], "em": [0.4, 0.6], "final_mean": [0.7, 0.8]},
        "per_type": {"선택형": {"items": 2, "em": 0.5}, "교정형": null}, "tied_with": ["a.json"],
        "against_best": {"file": "b.json", "em_won": 1}, "against_epoch0": {"file": "c.json", "em_won": 2},
        "answered": 170, "expected": 170, "missing": ["3"], "extra": [], "stale": false, "reason": "x",
        "line": 1, "column": 2,
    });
    let score = Score {
        checkpoint: Some(SavePoint::Epoch(1)),
        step: Some(53),
        best: Some("inference_epoch1.json".to_owned()),
        best_final_mean: Some(0.785),
        ..Score::of_row(object(row)).unwrap()
    };
    let counted = Alarm {
        count: Some(2),
        ..Alarm::new(Alarm::NONFINITE_REWARD, Severity::Warning, 7, "세 번")
    };
    let stalled = Alarm {
        stall: Some(Stall {
            phase: "rollout".to_owned(),
            done: 3,
            total: 8,
            since: time(),
        }),
        ..Alarm::new(Alarm::STALLED, Severity::Critical, 8, "it hangs")
    };
    let moving = Moving {
        step: 8,
        phase: Some("rollout".to_owned()),
        seconds: Some(60.5),
        message: "it moves again".to_owned(),
    };
    let done = Done {
        status: Some(RunStatus::Failed),
        step: 106,
        message: Some("메모리 부족".to_owned()),
        best: Some("inference_epoch1.json".to_owned()),
        dropped_steps: Some(1),
        nonfinite_rewards: Some(2),
    };
    vec![
        start.into(),
        preflight.into(),
        resume.into(),
        step.into(),
        checkpoint.into(),
        inference.into(),
        score.into(),
        counted.into(),
        stalled.into(),
        moving.into(),
        Paused { step: 3 }.into(),
        Continued { step: 3 }.into(),
        done.into(),
    ]
}

#[test]
fn every_event_is_read_as_it_was_written() {
    for kind in every_kind() {
        let written = line(kind.clone());
        let back = read(&written);
        assert_eq!(back.to_line(), written);
        assert!(back.unknown.is_empty(), "{written}: {:?}", back.unknown);
        assert_eq!(back.name(), kind.name());
        assert_eq!(back.to_string(), kind.to_string());
        let EventKind::Step(step) = back.kind else {
            // A step has a NaN, which is equal to nothing.
            assert_eq!(back.kind, kind);
            continue;
        };
        assert!(step.metrics.get("loss").is_some_and(f64::is_nan));
        assert!(step.metrics.get("kl").is_some_and(f64::is_nan));
        assert_eq!(step.metrics.get("learning_rate"), Some(1e-5));
        assert_eq!(step.metrics.get("absent"), None);
    }
}

/// The lines that the release before typed events wrote, field by field.
#[test]
fn the_lines_are_those_of_earlier_releases() {
    let lines = [
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"start","id":"demo/첫 실행","directory":"outputs/demo/첫 실행","device":"cuda:0","version":"0.1.0","parameters":1000000,"trained_parameters":1000,"train_prompts":212,"eval_items":170,"total_steps":106,"batch":{"B":8,"G":4,"A":2,"D":1,"S":2,"completions_per_step":16,"prompts_per_step":4,"steps_per_epoch":53,"dropped_prompts":0},"stop_tokens":[0,2],"rewards":["format","길이"],"formula":"format + 길이","seed":42,"predicted_bytes":9663676416,"sizes":{"rollout_rows":64,"answered_together":16,"rows_per_part":4}}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"preflight","warnings":1,"errors":0,"findings":[{"check":"leak","severity":"warning","message":"세 문항이 겹친다"}],"seconds":0.5}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"resume","step":53,"directory":"outputs/demo/첫 실행","checkpoint":"epoch_1"}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"step","step":1,"total_steps":106,"loss":null,"kl":null,"learning_rate":0.00001,"num_tokens":96,"rewards/길이/mean":0.24642107974045618,"completions/max_length":48.0,"memory/host_rss":1073741824,"nonfinite":["loss","kl"]}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"checkpoint","checkpoint":"step_30","step":30,"adapter_difference":0.0}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"inference","checkpoint":"epoch_1","step":53,"file":"inference_epoch1.json","items":170,"tokens":8700,"seconds":1.5}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"score","file":"inference_epoch1.json","epoch":1,"state":"complete","rank":1,"rouge1":0.25,"bertscore":0.75,"em":0.5,"final_mean":0.785,"format":1.0,"intervals":{"rouge1":[0.2,0.3],"em":[0.4,0.6],"final_mean":[0.7,0.8]},"per_type":{"선택형":{"items":2,"em":0.5},"교정형":null},"tied_with":["a.json"],"against_best":{"file":"b.json","em_won":1},"against_epoch0":{"file":"c.json","em_won":2},"answered":170,"expected":170,"missing":["3"],"extra":[],"stale":false,"reason":"x","line":1,"column":2,"checkpoint":"epoch_1","step":53,"best":"inference_epoch1.json","best_final_mean":0.785}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"alarm","step":7,"code":"nonfinite_reward","severity":"warning","message":"세 번","count":2}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"alarm","step":8,"code":"stalled","severity":"critical","message":"it hangs","phase":"rollout","done":3,"total":8,"since":"2026-11-22T03:33:24.5Z"}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"moving","step":8,"phase":"rollout","seconds":60.5,"message":"it moves again"}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"paused","step":3}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"continued","step":3}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"done","status":"failed","step":106,"message":"메모리 부족","best":"inference_epoch1.json","dropped_steps":1,"nonfinite_rewards":2}"#,
    ];
    for (kind, expected) in every_kind().into_iter().zip(lines) {
        assert_eq!(line(kind), expected);
    }
}

#[test]
fn unknown_events_and_unknown_fields_are_kept() {
    for line in [
        // An event of a later release, with a number that is not finite.
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"merged","into":["a",null],"loss":null,"message":"둘","nonfinite":["into","loss"]}"#,
        // Fields of a later release.
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"paused","step":3,"by":{"user":"나"},"cost":null,"nonfinite":["cost"]}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"step","step":3,"total_steps":9,"loss":0.5,"kl":null,"tags":["a"],"note":null,"nonfinite":["kl"]}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"start","total_steps":9,"sizes":{"rollout_rows":1,"answered_together":2,"later":[3]},"later":true}"#,
        // Fields of another type than this version writes.
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"checkpoint","checkpoint":7,"step":30}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"resume"}"#,
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"score","file":"a.json","intervals":[1],"em":null,"nonfinite":"em"}"#,
    ] {
        assert_eq!(read(line).to_line(), line);
    }
    let kind = |line: &str| read(line).kind;
    let resume = r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"resume"}"#;
    assert_eq!(kind(resume), EventKind::Other("resume".to_owned()));
}

#[test]
fn a_log_of_an_earlier_release_is_read() {
    let log = include_str!("../../../../tests/golden/report/run/events.jsonl");
    let events: Vec<Event> = log.lines().map(read).collect();
    let others = events
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Other(_)));
    assert_eq!(others.count(), 0);
    let EventKind::Start(start) = &events[0].kind else {
        panic!("{:?}", events[0]);
    };
    assert_eq!((start.total_steps, &start.device), (Some(3), &None));
    for event in &events {
        assert!(event.unknown.is_empty(), "{event:?}");
        let again = read(&event.to_line());
        assert_eq!(again.to_line(), event.to_line());
    }
    // The first alarms had a kind and no severity, the first scores a null for what they lacked.
    let alarm =
        r#"{"v":1,"time":"2026-11-22T03:33:24Z","event":"alarm","step":7,"kind":"nonfinite"}"#;
    let EventKind::Alarm(alarm) = read(alarm).kind else {
        panic!("{alarm}");
    };
    assert_eq!(
        (alarm.code.as_ref(), alarm.severity, alarm.step),
        ("nonfinite", Severity::Warning, 7)
    );
    let score = r#"{"v":1,"time":"2026-11-22T03:33:24Z","event":"score","em":null,"rouge1":null,"nonfinite":["em"]}"#;
    let EventKind::Score(score) = read(score).kind else {
        panic!("{score}");
    };
    assert!(score.em.is_some_and(f64::is_nan) && score.rouge1.is_none());
}

#[test]
fn the_line_has_the_frame_first_and_the_fields_in_order() {
    let mut event = Event::new(Step {
        step: 3,
        total_steps: 9,
        metrics: Metrics::default().with("loss", 0.25).with("v", 9_usize),
    });
    event.time = time();
    assert_eq!(
        event.to_line(),
        r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"step","step":3,"total_steps":9,"loss":0.25}"#
    );
}

#[test]
fn a_metric_that_is_set_again_keeps_its_place() {
    let mut metrics = Metrics::default()
        .with("rate", f64::NAN)
        .with("loss", f64::NAN);
    metrics.set("rate", 0.5);
    let written = line(Step {
        metrics,
        ..Step::default()
    });
    assert!(
        written.ends_with(r#""rate":0.5,"loss":null,"nonfinite":["loss"]}"#),
        "{written}"
    );
}

#[test]
fn a_field_beside_the_known_ones_is_written_behind_them() {
    let event = Event::new(Paused { step: 3 })
        .with("loss", f64::NAN)
        .with("step", 4_usize)
        .with("name", "가".to_owned())
        .with("absent", None::<f64>);
    let written = event.to_line();
    assert!(
        written.ends_with(r#""step":3,"loss":null,"name":"가","nonfinite":["loss"]}"#),
        "{written}"
    );
}

#[test]
fn what_is_appended_is_read_again_and_observed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut log = EventLog::open(&path).unwrap();
    let observed = Arc::clone(&seen);
    log.observe(Box::new(move |_, line| {
        observed.lock().unwrap().push(line.to_owned())
    }));
    log.append(&Event::new(Start::default())).unwrap();
    let saved = log.position();
    log.append(&Event::new(Paused { step: 1 })).unwrap();
    log.sync().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), *seen.lock().unwrap());
    log.truncate_to(saved).unwrap();
    let events: Vec<Event> = read_lines(&path).unwrap().map(Result::unwrap).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].name(), "start");
}

#[test]
fn lines_that_are_no_events_say_why() {
    for (line, words) in [
        (
            r#"{"time":"2026-11-22T03:33:24Z","event":"step"}"#,
            "lacks \"v\"",
        ),
        (
            r#"{"v":2,"time":"2026-11-22T03:33:24Z","event":"step"}"#,
            "version 2",
        ),
        (r#"{"v":1,"time":"yesterday","event":"step"}"#, "RFC 3339"),
        (
            r#"{"v":1,"time":"2026-11-22T03:33:24Z"}"#,
            "lacks \"event\"",
        ),
    ] {
        let error = serde_json::from_str::<Event>(line).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_step_is_one_line_with_every_reward() {
    let step = Step {
        step: 3,
        total_steps: 60,
        metrics: Metrics::default()
            .with("epoch", 0.05)
            .with("loss", f64::NAN)
            .with("grad_norm", 0.5)
            .with("reward", 0.41234)
            .with("reward_std", 0.2)
            .with("rewards/format/mean", 0.5)
            .with("rewards/format/std", 0.5)
            .with("rewards/rouge1/mean", 0.25)
            .with("kl", 0.000001)
            .with("tokens_per_second/rollout", 1234.4)
            .with("tokens_per_second/backward", 0.0),
    };
    assert_eq!(
        step.to_string(),
        "step 3/60  epoch 0.05  reward 0.4123  ± 0.2000  format 0.5000  rouge1 0.2500  loss NaN  \
         kl 1.00e-6  grad_norm 0.5000  rollout tokens/s 1234"
    );
    let step = Step {
        metrics: Metrics::default()
            .with("memory/host_rss", 1_610_612_736_u64)
            .with("memory/device_peak/rollout", 5_u64 << 30)
            .with("memory/device_peak/backward", 6_u64 << 30),
        ..Step::default()
    };
    assert_eq!(
        step.to_string(),
        "step 0/0  memory GiB 1.50  device peak GiB, rollout 5.00  backward 6.00"
    );
}

#[test]
fn a_score_names_the_best() {
    let mut score = Score {
        checkpoint: Some(SavePoint::Epoch(1)),
        file: Some("inference_epoch1.json".to_owned()),
        state: Some("complete".to_owned()),
        final_mean: Some(0.5),
        rouge1: Some(0.25),
        bertscore: Some(0.75),
        em: Some(0.5),
        format: Some(1.0),
        ..Score::default()
    };
    assert_eq!(
        score.to_string(),
        "epoch_1: Final Mean 0.5000  ROUGE-1 0.2500  BERTScore 0.7500  EM 0.5000  format 1.0000"
    );
    score.best = Some("inference_epoch1.json".to_owned());
    assert!(score.to_string().ends_with("the best so far"), "{score}");
    score.best = Some("inference_epoch0.json".to_owned());
    assert!(
        score.to_string().ends_with("is inference_epoch0.json"),
        "{score}"
    );
    let partial = Score {
        file: Some("x.json".to_owned()),
        state: Some("partial".to_owned()),
        ..Score::default()
    };
    assert!(partial.to_string().contains("partial"));
}

#[test]
fn events_are_sentences() {
    let texts: Vec<String> = every_kind().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "106 steps over 212 prompts on cuda:0; run directory: outputs/demo/첫 실행",
            "checked before the first step: 1 warning(s)",
            "resuming from epoch_1 (step 53)",
            "step 1/106  길이 0.2464  loss NaN  kl NaN  memory GiB 1.00",
            "step_30 saved at step 30",
            "epoch_1: 170 answers in 1.5 s, 5800 tokens/s",
            "epoch_1: Final Mean 0.7850 (0.7000 to 0.8000)  ROUGE-1 0.2500  BERTScore 0.7500  EM 0.5000  \
             format 1.0000  the best so far",
            "alarm: warning at step 7: 세 번",
            "alarm: critical at step 8: it hangs",
            "it moves again",
            "paused after step 3",
            "continuing after step 3",
            "failed after step 106; the best answers are inference_epoch1.json; 메모리 부족",
        ]
    );
    let other = |value: Value| Event::from_fields("later_release", object(value)).to_string();
    assert_eq!(other(json!({})), "later_release");
    assert_eq!(other(json!({"message": "둘"})), "둘");
    // One of ours whose fields are not those of its name.
    assert_eq!(
        Event::from_fields("checkpoint", Map::new()).to_string(),
        "checkpoint"
    );
}

#[test]
fn an_alarm_is_reported_by_its_event() {
    let alarm = Alarm::new("kl", Severity::Critical, 7, "far away");
    let mut event = Event::new(alarm.clone());
    event.time = "2026-11-22T03:33:24Z".parse().unwrap();
    assert_eq!(
        event.to_line(),
        r#"{"v":1,"time":"2026-11-22T03:33:24Z","event":"alarm","step":7,"code":"kl","severity":"critical","message":"far away"}"#
    );
    assert!(alarm.is_reported_by(&event));
    let later = Alarm {
        step: 8,
        ..alarm.clone()
    };
    assert!(!alarm.is_reported_by(&Event::new(later)));
}

#[test]
fn each_finding_before_the_first_step_is_an_alarm() {
    let findings = json!({"warnings": 1, "errors": 1, "findings": [
        {"check": "leak", "severity": "warning", "message": "세 문항이 겹친다"},
        {"check": "rewards", "severity": "error", "message": "constant"},
    ]});
    let alarms = Event::from_fields("preflight", object(findings)).alarms();
    let raised: Vec<(&str, Severity)> = alarms
        .iter()
        .map(|alarm| (alarm.code.as_ref(), alarm.severity))
        .collect();
    assert_eq!(
        raised,
        [("leak", Severity::Warning), ("rewards", Severity::Critical)]
    );
    assert_eq!(alarms[0].message, "세 문항이 겹친다");
    assert_eq!(Event::from_fields("alarm", Map::new()).alarms().len(), 1);
    // A preflight of another release, and any other event.
    assert!(
        Event::from_fields("preflight", Map::new())
            .alarms()
            .is_empty()
    );
    assert!(Event::new(Start::default()).alarms().is_empty());
}
