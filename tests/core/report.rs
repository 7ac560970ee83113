//! Reports as other programs read them: `golden/report/` holds a run and what was written of it,
//! which `golden/report/check.py` opens with tensorboard and wandb.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use moim_core::experiment::Reporter;
use moim_core::report::{Reports, export};
use moim_core::run::{CompletionLog, CompletionRecord, Event, EventLog, RunDir, read_lines};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

mod reader;

use reader::{event_file, history, scalars, wandb_file};

const FORMATS: [Reporter; 3] = [Reporter::Tensorboard, Reporter::Wandb, Reporter::Csv];
const EVENT_FILE: &str = "tensorboard/events.out.tfevents.1795357359.moim";

fn golden() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/golden/report")
}

fn golden_run() -> RunDir {
    RunDir::open(&golden().join("run")).unwrap()
}

/// All formats of a run, below one folder.
fn exported(run: &RunDir) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let made = export(run, format, &folder.path().join(format.as_str())).unwrap();
        assert_eq!(made.unreadable, 0);
        assert!(made.path.exists(), "{}", made.path.display());
    }
    folder
}

/// Every file below a folder by its path in it; hidden ones, too.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(open) = folders.pop() {
        for entry in fs::read_dir(open).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy();
                found.insert(name.into_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The reports among the files of a folder.
fn reports(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(folder);
    files.retain(|name, _| {
        let first = name.split('/').next();
        FORMATS.iter().any(|format| Some(format.as_str()) == first)
    });
    files
}

fn wandb_log(folder: &Path) -> Vec<u8> {
    let mut files = reports(folder).into_iter();
    let log = files.find(|(name, _)| name.ends_with(".wandb"));
    log.unwrap().1
}

#[test]
fn the_files_are_those_that_the_other_programs_were_shown() {
    let folder = exported(&golden_run());
    let ours = reports(folder.path());
    if std::env::var_os("MOIM_WRITE_GOLDEN").is_some() {
        for (name, bytes) in &ours {
            let path = golden().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    let golden = reports(&golden());
    assert!(ours.keys().eq(golden.keys()), "{:?}", ours.keys());
    for (name, bytes) in &ours {
        assert!(golden[name] == *bytes, "{name} differs");
    }
}

#[test]
fn tensorboards_file_holds_every_metric_under_trls_names() {
    let folder = exported(&golden_run());
    let events = event_file(&fs::read(folder.path().join(EVENT_FILE)).unwrap());
    assert_eq!(events[0].text(3).as_deref(), Some("brain.Event:2"));
    let text = events[1].message(5).unwrap().message(1).unwrap();
    assert_eq!(text.text(1).as_deref(), Some("experiment"));
    let plugin = text.message(9).unwrap().message(1).unwrap();
    assert_eq!(plugin.text(1).as_deref(), Some("text"));
    let shown = text.message(8).unwrap().text(8).unwrap();
    assert!(shown.contains("question_prefix = \"[질문]: \""), "{shown}");

    let scalars = scalars(&events);
    let of = |tag: &str| -> Vec<(u64, f32)> {
        let points = scalars.iter().filter(|(name, ..)| name == tag);
        points.map(|(_, step, value)| (*step, *value)).collect()
    };
    assert_eq!(of("train/reward"), [(1, 0.75), (2, 1.0), (3, 1.25)]);
    assert_eq!(of("train/rewards/format/mean").len(), 3);
    assert!(of("train/loss")[0].1.is_nan());
    assert_eq!(of("eval/final_mean"), [(0, 0.625), (2, 0.75)]);
    assert_eq!(of("eval/선택형/em"), [(0, 0.25), (2, 0.5)]);
    assert_eq!(of("system/gpu.0.powerWatts"), [(1, 284.5), (2, 284.5)]);
    let times: Vec<f64> = events.iter().filter_map(|event| event.double(1)).collect();
    assert_eq!(times.len(), events.len());
    assert!(times.contains(&1_795_357_362.5), "{times:?}");
}

#[test]
fn wandbs_run_has_a_row_for_each_step_with_its_scores_and_completions() {
    let folder = exported(&golden_run());
    let records = wandb_file(&wandb_log(folder.path()));
    let numbers: Vec<u64> = records
        .iter()
        .filter_map(|record| record.integer(1))
        .collect();
    assert!(numbers.iter().copied().eq(1..=records.len() as u64));
    let run = records
        .iter()
        .find_map(|record| record.message(17))
        .unwrap();
    assert_eq!(run.text(3).as_deref(), Some("demo"));
    assert_eq!(run.text(8).as_deref(), Some("첫 실행"));
    let config = run.message(4).unwrap().messages(1);
    let grpo = config
        .iter()
        .find(|item| item.text(1).as_deref() == Some("grpo"));
    assert_eq!(
        grpo.unwrap().text(16).as_deref(),
        Some(r#"{"learning_rate":0.001,"num_generations":2}"#)
    );
    assert_eq!(records.iter().filter(|record| record.has(7)).count(), 3);
    let exit = records.last().unwrap().message(18).unwrap();
    assert_eq!((exit.integer(1), exit.integer(2)), (Some(0), Some(10)));

    let rows = history(&records);
    let steps: Vec<&Value> = rows.iter().map(|row| &row["_step"]).collect();
    assert_eq!(steps, [0, 1, 2, 3]);
    assert_eq!(rows[1]["train/loss"], "NaN");
    assert_eq!(
        (&rows[2]["train/reward"], &rows[2]["eval/final_mean"]),
        (&json!(1.0), &json!(0.75))
    );
    let entry = &rows[2]["completions"];
    assert_eq!(
        (&entry["_type"], &entry["nrows"]),
        (&json!("table-file"), &json!(2))
    );
    let path = format!("files/{}", entry["path"].as_str().unwrap());
    let files = reports(folder.path());
    let table = files
        .iter()
        .find(|(name, _)| name.ends_with(&path))
        .unwrap()
        .1;
    assert_eq!(entry["size"], table.len());
    let table: Value = serde_json::from_slice(table).unwrap();
    let place = |column: &str| {
        let columns = table["columns"].as_array().unwrap();
        columns.iter().position(|name| name == column).unwrap()
    };
    let data = &table["data"];
    assert_eq!(
        data[0][place("completion")],
        "\"우리는 큰 행사를 무사히 치렀다.\"가 옳다."
    );
    assert_eq!(data[1][place("rewards/exact_match")], Value::Null);
}

/// A run that grows as a trainer lets it, from what the golden run logged.
struct Trainer {
    run: RunDir,
    events: EventLog,
    completions: CompletionLog,
    reports: Reports,
    warnings: Vec<String>,
}

impl Trainer {
    fn start(outputs: &Path) -> Self {
        let golden = golden_run();
        let run = outputs.join("demo").join("run");
        fs::create_dir_all(&run).unwrap();
        for file in ["experiment.toml", "run.json"] {
            fs::copy(golden.path().join(file), run.join(file)).unwrap();
        }
        Self::open(&RunDir::open(&run).unwrap())
    }

    fn open(run: &RunDir) -> Self {
        Self {
            run: run.clone(),
            events: EventLog::open(&run.events()).unwrap(),
            completions: CompletionLog::open(&run.completions()).unwrap(),
            reports: Reports::new(run, &FORMATS),
            warnings: Vec::new(),
        }
    }

    /// Logs what the golden run logged from step `first` to step `last`, as the trainer does: the
    /// completions of a step behind its metrics.
    fn train(&mut self, first: usize, last: usize) {
        let golden = golden_run();
        let records: Vec<CompletionRecord> = read_lines(&golden.completions())
            .unwrap()
            .flatten()
            .collect();
        for event in read_lines::<Event>(&golden.events()).unwrap().flatten() {
            let step = event.step().unwrap_or_default();
            if !(first..=last).contains(&step) {
                continue;
            }
            self.events.append(&event).unwrap();
            self.warnings.extend(self.reports.event(&event));
            for record in &records {
                if event.name() == "step" && record.step == step {
                    self.completions.append(record).unwrap();
                    self.reports.completions(std::slice::from_ref(record));
                }
            }
        }
    }
}

#[test]
fn a_run_that_is_trained_has_the_reports_that_export_makes() {
    let outputs = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::start(outputs.path());
    trainer.train(0, 2);
    // Live: the last step is written while the run continues.
    let events = event_file(&fs::read(trainer.run.path().join(EVENT_FILE)).unwrap());
    assert!(scalars(&events).iter().any(|(_, step, _)| *step == 2));
    let rows = history(&wandb_file(&wandb_log(trainer.run.path())));
    assert_eq!(rows.last().unwrap()["_step"], 1);

    trainer.train(3, 3);
    assert_eq!(trainer.warnings, [] as [&str; 0]);
    let exported = exported(&trainer.run);
    assert_eq!(reports(trainer.run.path()), reports(exported.path()));
}

#[test]
fn a_resumed_run_has_no_step_twice() {
    let outputs = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::start(outputs.path());
    trainer.train(0, 1);
    let (events, completions) = (trainer.events.position(), trainer.completions.position());
    trainer.train(2, 2);
    let run = trainer.run.clone();
    drop(trainer);

    // Killed while it wrote, after a save point at step 1.
    let torn = fs::OpenOptions::new()
        .append(true)
        .open(run.path().join(EVENT_FILE));
    std::io::Write::write_all(&mut torn.unwrap(), b"torn").unwrap();
    let mut resumed = Trainer::open(&run);
    resumed.events.truncate_to(events).unwrap();
    resumed.completions.truncate_to(completions).unwrap();
    resumed.train(2, 2);
    // The same within one process.
    resumed.events.truncate_to(events).unwrap();
    resumed.completions.truncate_to(completions).unwrap();
    resumed.reports.rewind();
    resumed.train(2, 3);
    assert_eq!(reports(run.path()), reports(exported(&run).path()));
    let ours = fs::read(run.path().join(EVENT_FILE)).unwrap();
    let steps: Vec<u64> = scalars(&event_file(&ours))
        .into_iter()
        .filter_map(|(tag, step, _)| (tag == "train/reward").then_some(step))
        .collect();
    assert_eq!(steps, [1, 2, 3]);
}

#[test]
fn a_report_that_cannot_be_written_is_reported_once_and_does_not_affect_others() {
    let outputs = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::start(outputs.path());
    fs::write(trainer.run.path().join("tensorboard"), "a file in the way").unwrap();
    trainer.train(0, 3);
    let [warning] = trainer.warnings.as_slice() else {
        panic!("{:?}", trainer.warnings)
    };
    assert!(
        warning.starts_with("tensorboard: ") && warning.contains("moim export"),
        "{warning}"
    );
    assert_eq!(
        history(&wandb_file(&wandb_log(trainer.run.path()))).len(),
        4
    );
}

#[test]
fn a_run_that_was_killed_is_exported_as_far_as_it_came() {
    let outputs = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::start(outputs.path());
    trainer.train(0, 2);
    let mut events = fs::read(trainer.run.events()).unwrap();
    events.extend_from_slice(b"not an event\n{\"v\":1,\"time\":");
    fs::write(trainer.run.events(), events).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let made = export(&trainer.run, Reporter::Wandb, &folder.path().join("wandb")).unwrap();
    assert_eq!((made.events, made.unreadable), (6, 1));
    let records = wandb_file(&wandb_log(folder.path()));
    assert_eq!(history(&records).last().unwrap()["_step"], 2);
    assert!(!records.iter().any(|record| record.has(18)));

    let empty = outputs.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("experiment.toml"), "").unwrap();
    let error = export(&RunDir::open(&empty).unwrap(), Reporter::Csv, folder.path());
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("events.jsonl"), "{error}");
}

proptest! {
    #[test]
    fn whatever_is_cut_off_the_rest_is_read(cut in 0usize..20_000) {
        let events = fs::read(golden().join(EVENT_FILE)).unwrap();
        let kept = &events[..cut.min(events.len())];
        let (whole, read) = (event_file(&events), event_file(kept));
        prop_assert!(whole.len() == 10 && whole.starts_with(&read));

        let log = wandb_log(&golden());
        let whole = wandb_file(&log);
        let read = wandb_file(&log[..cut.min(log.len())]);
        prop_assert!(whole.len() == 17 && whole.starts_with(&read));
    }
}
