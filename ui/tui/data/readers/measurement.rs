//! Measurements with long logs: `cargo test --release -- --ignored --nocapture long_run`.

use std::io::{BufWriter, Write};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use moim_core::run::{RunDir, RunState, RunStatus};

use super::*;
use crate::tui::data::World;

const STEPS: usize = 1_000_000;

/// Numbers like those of the trainer: 40 metrics, 1.4 KB a step.
fn write_events(path: &Path) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    writeln!(file, r#"{{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"start","total_steps":{STEPS},"device":"cpu"}}"#).unwrap();
    for step in 1..=STEPS {
        let value = (step as f64 * 0.618_033_988_749_894_9).fract();
        write!(
            file,
            r#"{{"v":1,"time":"2026-11-22T03:33:24.123456789Z","event":"step","step":{step},"total_steps":{STEPS},"epoch":{}"#,
            step as f64 / 1000.0
        )
        .unwrap();
        for metric in 0..39 {
            write!(
                file,
                r#","rewards/metric_{metric}/mean":{}"#,
                value * f64::from(metric + 1)
            )
            .unwrap();
        }
        writeln!(file, "}}").unwrap();
        if step % 1000 == 0 {
            writeln!(
                file,
                r#"{{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"checkpoint","checkpoint":"step_{step}","step":{step}}}"#
            )
            .unwrap();
        }
    }
}

/// Resident memory of this process in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

#[test]
#[ignore = "a measurement that writes more than a gigabyte"]
fn a_long_run_opens_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path(), "a", Some("long"), &Experiment::default()).unwrap();
    let mut state = RunState::begin(run.id(), "cpu");
    state.state = RunStatus::Finished;
    state.save(&run.run_json()).unwrap();
    write_events(&run.events());
    let size = std::fs::metadata(run.events()).unwrap().len();
    let before = resident();

    let (sender, messages) = channel();
    let mut world = World::default();
    world.attach(run.path());
    let begun = Instant::now();
    let worker = open::follow(run.path(), false, &sender);
    let mut first = None;
    let mut longest = Duration::ZERO;
    let mut largest = before;
    loop {
        let Message::Data(data) = messages.recv_timeout(Duration::from_secs(60)).unwrap() else {
            panic!("a failure");
        };
        let taken = Instant::now();
        world.apply(data);
        longest = longest.max(taken.elapsed());
        largest = largest.max(resident());
        let open = world.open.as_ref().unwrap();
        if open.history.get("epoch").is_some() {
            first.get_or_insert(begun.elapsed());
        }
        if open.reading.total == size && open.reading.bytes == size {
            break;
        }
    }
    let open = world.open.as_ref().unwrap();
    println!(
        "{:.2} GB: first update with metrics after {:?}, all after {:?}; longest apply {longest:?}; \
         resident {before} MiB before, {largest} MiB at most; {} metrics, {} points in epoch, {} events",
        size as f64 / 1e9,
        first.unwrap(),
        begun.elapsed(),
        open.history.names().count(),
        open.history.get("epoch").unwrap().points().len(),
        open.timeline.len(),
    );
    drop(worker);
    assert!(first.unwrap() < Duration::from_millis(300));
}
