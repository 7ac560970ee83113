//! What stands in a run directory: logs, state, progress, requests and the lock, and reports of them.

use moim::experiment::Reporter;
use moim::health::Monitor;
use moim::report;
use moim::run::{
    CompletionRecord, Control, Event, Progress, RunDir, RunEntry, RunState, SystemSample, Tail,
    list_runs, read_lines,
};
use serde::de::DeserializeOwned;

use super::{Folder, content, shown, told};
use crate::fuzz::harness::{MEMORY, Reader, fuzz};
use crate::fuzz::mutate::Form;

const RUN: &str = "tests/golden/report/run";
const FILES: [&str; 5] = [
    "experiment.toml",
    "run.json",
    "events.jsonl",
    "completions.jsonl",
    "system.jsonl",
];

const WORDS: &[&str] = &[
    "event",
    "time",
    "step",
    "v",
    "reward",
    "loss",
    "nonfinite",
    "done",
    "start",
    "score",
    "alarm",
    "2026-11-22T03:33:24.5Z",
    "-009999-01-02T00:00:00Z",
    "status",
    "checkpoint",
    "epoch_1",
    "rewards",
];

/// Reads a log whole and as it grows: both see the same lines.
fn lines<T: DeserializeOwned>(folder: &Folder, name: &str, input: &[u8]) -> Result<Vec<T>, String> {
    let path = folder.write(name, input);
    let whole: Vec<Result<T, _>> = read_lines(&path).map_err(shown)?.collect();
    let mut tail = Tail::from_start(&path);
    tail.look().map_err(shown)?;
    let mut followed = 0;
    while let Some(lines) = tail.newer().map_err(shown)? {
        followed += lines.values::<T>().count();
    }
    assert_eq!(whole.len(), followed, "followed and read differ");
    let bad = whole.iter().filter_map(|line| line.as_ref().err());
    let bad: Vec<String> = bad.map(shown).collect();
    match bad.first() {
        Some(first) => Err(first.clone()),
        None => Ok(whole.into_iter().flatten().collect()),
    }
}

#[test]
fn logs() {
    let folder = Folder::new();
    let reader = |name, read| Reader {
        name,
        form: Form::JsonLines,
        examples: vec![content(&format!("{RUN}/{name}"))],
        words: WORDS,
        cases: 4000,
        memory: MEMORY,
        names: name,
        read,
    };
    fuzz(reader(
        "events.jsonl",
        Box::new(|input| {
            let mut monitor = Monitor::default();
            for event in lines::<Event>(&folder, "events.jsonl", input)? {
                monitor.observe(&event);
                report::Point::of_event(&event);
            }
            Ok(())
        }),
    ));
    fuzz(reader(
        "completions.jsonl",
        Box::new(|input| {
            lines::<CompletionRecord>(&folder, "completions.jsonl", input).map(|_| ())
        }),
    ));
    fuzz(reader(
        "system.jsonl",
        Box::new(|input| {
            for sample in lines::<SystemSample>(&folder, "system.jsonl", input)? {
                report::Point::of_sample(&sample);
            }
            Ok(())
        }),
    ));
}

#[test]
fn states_and_progress() {
    let folder = Folder::with(RUN, &FILES);
    fuzz(Reader {
        name: "run.json",
        form: Form::Json,
        examples: vec![content(&format!("{RUN}/run.json"))],
        words: &[
            "running",
            "finished",
            "pid",
            "process_start",
            "host",
            "started",
            "updated",
            "epoch_1",
            "best",
        ],
        cases: 4000,
        memory: MEMORY,
        names: "run.json",
        read: Box::new(|input| {
            let path = folder.write("run.json", input);
            RunEntry::read(folder.path());
            RunState::read(&path)
                .map(|state| _ = state.liveness())
                .map_err(told)
        }),
    });
    let progress = br#"{"v":1,"time":"2026-11-22T03:33:24.5Z","phase":"rollout","done":3,"total":8,"detail":"","step":2,"since":"2026-11-22T03:33:20Z"}"#;
    fuzz(Reader {
        name: "progress.json",
        form: Form::Json,
        examples: vec![progress.to_vec()],
        words: WORDS,
        cases: 4000,
        memory: MEMORY,
        names: "progress.json",
        read: Box::new(|input| {
            let path = folder.write("progress.json", input);
            Progress::read(&path).map(|_| ()).map_err(told)
        }),
    });
}

/// Requests are names; their content and the lock's may be anything.
#[test]
fn requests_and_locks() {
    let outputs = Folder::new();
    outputs.write("demo/one/experiment.toml", b"");
    fuzz(Reader {
        name: "lock",
        form: Form::Json,
        examples: vec![br#"{"pid":1,"host":"here","started":"2026-11-22T03:33:24.5Z"}"#.to_vec()],
        words: &["pid", "host"],
        cases: 1500,
        memory: MEMORY,
        names: "",
        read: Box::new(|input| {
            outputs.write("demo/one/lock", input);
            outputs.write("demo/one/control/stop", input);
            assert_eq!(list_runs(outputs.path()).len(), 1);
            let control = Control::new(&outputs.path().join("demo/one/control"));
            assert_eq!(control.poll().map_err(shown)?.len(), 1);
            Ok(())
        }),
    });
}

#[test]
fn reports() {
    for name in FILES {
        let folder = Folder::with(RUN, &FILES);
        let target = tempfile::tempdir().unwrap();
        let form = match name {
            "experiment.toml" => Form::Text,
            "run.json" => Form::Json,
            _ => Form::JsonLines,
        };
        let mut format = 0;
        fuzz(Reader {
            name: format!("report of {name}").leak(),
            form,
            examples: vec![content(&format!("{RUN}/{name}"))],
            words: WORDS,
            cases: 300,
            memory: (1000, 16 << 20),
            names: "",
            read: Box::new(|input| {
                folder.write(name, input);
                let run = RunDir::open(folder.path()).map_err(told)?;
                format += 1;
                let formats = [Reporter::Tensorboard, Reporter::Wandb, Reporter::Csv];
                let format = formats[format % formats.len()];
                let _ = report::points(&run);
                report::export(&run, format, target.path())
                    .map(|_| ())
                    .map_err(told)
            }),
        });
    }
}
