//! What a run reports while it works: progress.json, run.json, system.jsonl and alarms.

use std::fs;

use moim_core::run::{Liveness, Progress, RunDir, RunState, SystemSample, read_lines};
use serde_json::{Value, json};

use super::folder::{Folder, RUN, uninterrupted};

fn run_of(folder: &Folder) -> RunDir {
    RunDir::open(&folder.path(RUN)).unwrap()
}

fn progress_of(folder: &Folder) -> Option<Progress> {
    Progress::read(&folder.path(RUN).join("progress.json")).unwrap()
}

fn samples_of(folder: &Folder) -> Vec<SystemSample> {
    let lines = read_lines(&run_of(folder).system()).unwrap();
    lines.map(Result::unwrap).collect()
}

#[test]
fn progress_names_the_phase_while_the_run_works_and_ends_with_it() {
    let folder = Folder::new();
    folder.write("hold_3", "");
    let mut trainer = folder.start(&[]);
    // Step 3 waits for its rewards, so this is what it says for as long as it is held.
    trainer.wait_until("the rewards of step 3", |folder| {
        folder.path("at_3").exists()
            && progress_of(folder).is_some_and(|progress| progress.phase == "reward")
    });
    let progress = progress_of(&folder).unwrap();
    assert_eq!((progress.step, progress.done), (2, 0));
    assert!(progress.since <= progress.time, "{progress:?}");
    fs::remove_file(folder.path("hold_3")).unwrap();
    trainer.end().expect(0, &[]);
    assert_eq!(progress_of(&folder), None);
}

#[test]
fn samples_of_the_machine_are_there_from_start_to_end() {
    let (folder, _) = uninterrupted();
    let samples = samples_of(folder);
    assert!(samples.len() >= 2, "{samples:?}");
    for sample in &samples {
        // The tests train on the CPU.
        assert_eq!((sample.device, sample.card), (None, None));
        assert_eq!(sample.note, None);
        let (rss, total) = (sample.host.rss.unwrap(), sample.host.total.unwrap());
        assert!(rss > 1_000_000 && rss < total, "{sample:?}");
        assert!(sample.host.available.unwrap() < total, "{sample:?}");
    }
    let last = samples.last().unwrap();
    assert_eq!((last.step, last.phase.as_deref()), (4, Some("scoring")));
    let text = folder.read(&format!("{RUN}/system.jsonl"));
    assert!(!text.contains("null") && !text.contains("NaN"), "{text}");
    let memory = folder.of_events("step", "memory/host_rss");
    assert!(
        memory
            .iter()
            .all(|bytes| bytes.as_u64().unwrap() > 1_000_000),
        "{memory:?}"
    );
}

#[test]
fn run_json_has_reward_epoch_and_the_best() {
    let (folder, _) = uninterrupted();
    let state = RunState::read(&run_of(folder).run_json()).unwrap();
    let rewards = folder.of_events("step", "reward");
    assert_eq!(json!(state.reward), rewards[3]);
    assert_eq!((state.epoch, state.epoch_fraction), (2, Some(1.0)));
    assert!(state.steps_per_second.is_some_and(|speed| speed > 0.0));
    let best = state.best.unwrap();
    assert_eq!(best.file, folder.of_events("done", "best")[0]);
    let scores = folder.events();
    let score = scores
        .iter()
        .find(|event| event["event"] == "score" && event["file"] == best.file.as_str());
    assert_eq!(score.unwrap()["final_mean"], best.final_mean);
}

#[test]
fn a_killed_run_leaves_files_that_can_be_read_and_gone_on_with() {
    let folder = Folder::new();
    folder.write("hold_3", "");
    let mut trainer = folder.start(&[]);
    trainer.wait_until("the rewards of step 3", |folder| {
        folder.path("at_3").exists()
            && progress_of(folder).is_some_and(|progress| progress.phase == "reward")
    });
    trainer.kill();
    fs::remove_file(folder.path("hold_3")).unwrap();
    // It still says what it said last; that nobody is at work is told by run.json.
    assert_eq!(progress_of(&folder).unwrap().step, 2);
    let state = RunState::read(&run_of(&folder).run_json()).unwrap();
    assert_eq!(state.liveness(), Liveness::Dead);
    assert_eq!(state.latest_checkpoint.unwrap().to_string(), "epoch_1");
    let before = samples_of(&folder);
    // A sample that the kill tore.
    let path = run_of(&folder).system();
    let mut torn = fs::read(&path).unwrap();
    torn.extend_from_slice(b"{\"v\":1,\"time\":");
    fs::write(&path, torn).unwrap();
    folder.resume().expect(0, &[]);
    assert_eq!(progress_of(&folder), None);
    let samples = samples_of(&folder);
    assert!(samples.len() >= before.len() + 2);
    assert_eq!(samples[..before.len()], before);
    let resumed = RunState::read(&run_of(&folder).run_json()).unwrap();
    let whole = RunState::read(&run_of(&uninterrupted().0).run_json()).unwrap();
    assert_eq!(
        (resumed.step, resumed.reward, resumed.best),
        (whole.step, whole.reward, whole.best)
    );
}

#[test]
fn files_that_cannot_be_written_are_reported_and_do_not_stop_the_run() {
    let folder = Folder::new();
    folder.write("hold_3", "");
    let mut trainer = folder.start(&[]);
    trainer.wait_until("step 3", |folder| folder.path("at_3").exists());
    trainer.kill();
    fs::remove_file(folder.path("hold_3")).unwrap();
    // Something stands in the way of both.
    for name in ["progress.json", "system.jsonl"] {
        let path = folder.path(RUN).join(name);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.join("in_the_way")).unwrap();
    }
    let answer = folder
        .resume()
        .expect(0, &["training continues without this file"]);
    for name in ["progress.json", "system.jsonl"] {
        let told = answer.stderr.lines().filter(|line| {
            line.starts_with("warning: cannot") && line.contains(&format!("one/{name}:"))
        });
        assert_eq!(told.count(), 1, "{name}: {}", answer.stderr);
    }
    folder.expect_outcome_of(&uninterrupted().0);
}

/// A run whose reward never changes, so that there is nothing to learn.
const NOTHING_TO_LEARN: [&str; 3] = [
    "reward.formula=0*bertscore",
    "run.save_strategy=steps",
    "run.save_steps=4",
];

#[test]
fn alarms_are_events_and_lines_and_come_once_whether_or_not_a_run_is_killed() {
    let settings = [&NOTHING_TO_LEARN[..], &["grpo.num_train_epochs=12"]].concat();
    let whole = Folder::new();
    let answer = whole.train(&settings).expect(
        0,
        &[
            "alarm: critical at step 10: the share of groups",
            "alarm: warning at step 20: the mean reward",
        ],
    );
    assert_eq!(
        answer.stderr.matches("alarm: ").count(),
        4,
        "{}",
        answer.stderr
    );
    let told = |folder: &Folder| -> Vec<Value> {
        let mut alarms = folder.lasting_events();
        alarms.retain(|event| event["event"] == "alarm");
        alarms
    };
    let alarms = told(&whole);
    let codes: Vec<&Value> = alarms.iter().map(|alarm| &alarm["code"]).collect();
    assert_eq!(
        codes,
        [
            "grad_norm_zero",
            "zero_variance_groups",
            // So small a model seldom ends its answers.
            "clipped_completions",
            "reward_constant"
        ]
    );
    assert!(
        alarms
            .iter()
            .all(|alarm| alarm["severity"].is_string() && alarm["step"].is_u64())
    );
    // Before the first, at each, and after the last.
    for steps in [3, 6, 13, 22] {
        let folder = Folder::new();
        let mut trainer = folder.start(&settings);
        trainer.wait_until("steps", |folder| {
            folder.of_events("step", "step").len() >= steps
        });
        trainer.kill();
        folder.resume().expect(0, &[]);
        println!("killed after {steps} steps");
        assert_eq!(folder.lasting_events(), whole.lasting_events());
    }
}
