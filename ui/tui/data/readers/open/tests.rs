use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, channel};

use moim_core::run::{CheckpointEvent, Event, Metrics, SavePoint, Start, Step};

use super::*;
use crate::tui::data::run::OpenRun;

const WAIT: Duration = Duration::from_secs(20);

fn step(step: usize) -> String {
    let metrics = Metrics::default()
        .with("reward", step as f64 / 100.0)
        .with("rewards/보상/mean", (step as f64 * 0.1).sin());
    line(Event::new(Step {
        step,
        total_steps: 100,
        metrics,
    }))
}

fn start(seed: u64) -> String {
    line(Event::new(Start {
        seed: Some(seed),
        ..Start::default()
    }))
}

fn line(event: Event) -> String {
    event.to_line() + "\n"
}

fn append(path: &Path, text: &str) {
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

struct Terminal {
    run: OpenRun,
    messages: Receiver<Message>,
    _worker: Worker<()>,
}

impl Terminal {
    fn on(run: &Path) -> Self {
        let (sender, messages) = channel();
        Self {
            run: OpenRun::new(run),
            messages,
            _worker: follow(run, false, &sender),
        }
    }

    /// Takes update in until the run is as it should be.
    fn until(&mut self, is_so: impl Fn(&OpenRun) -> bool) -> &OpenRun {
        while !is_so(&self.run) {
            match self.messages.recv_timeout(WAIT).unwrap() {
                Message::Data(Data::Run(update)) => self.run.apply(*update),
                other => panic!("{other:?}"),
            }
        }
        &self.run
    }
}

fn last_step(run: &OpenRun) -> Option<f64> {
    Some(run.history.get("reward")?.last()?.0)
}

#[test]
fn a_run_is_followed_from_its_birth_through_cuts_and_its_end() {
    let outputs = tempfile::tempdir().unwrap();
    let path = outputs.path().join("demo/첫째");
    let launch = super::super::log::launch_log(&path).unwrap();
    append_with_folder(&launch, "loading the model\n");
    let mut terminal = Terminal::on(&path);
    let run = terminal.until(|run| !run.log.is_empty());
    assert_eq!((run.condition(), run.is_there), (Condition::Starting, None));
    assert_eq!(run.log, ["loading the model"]);

    let events = path.join("events.jsonl");
    append_with_folder(&events, &start(42));
    let mut state = RunState::begin("demo/첫째", "cpu");
    state.save(&path.join("run.json")).unwrap();
    let run = terminal.until(|run| run.state.is_ok() && run.start.is_some());
    assert_eq!(run.condition(), Condition::Running);

    append(&events, &(1..=9).map(step).collect::<String>());
    let checkpoint = Event::new(CheckpointEvent {
        checkpoint: SavePoint::Step(9),
        step: 9,
        adapter_difference: None,
    });
    append(
        &events,
        &(checkpoint.to_line() + "\nnot an event\n{\"v\":1,\"torn"),
    );
    let run = terminal.until(|run| run.timeline.len() == 2);
    assert_eq!(last_step(run), Some(9.0));
    assert_eq!(run.timeline[1].to_string(), "step_9 saved at step 9");
    assert_eq!(run.reading.bad_lines, 1);
    assert!(
        run.reading
            .latest_bad_line
            .as_ref()
            .unwrap()
            .contains("expected")
    );

    // A resumed run: cut back and grown past its old length at once.
    let text = std::fs::read_to_string(&events).unwrap();
    let kept: String = text
        .lines()
        .take(4)
        .map(|line| format!("{line}\n"))
        .collect();
    let again: String = (4..=20).map(step).collect();
    std::fs::write(&events, kept + &again).unwrap();
    let run = terminal.until(|run| last_step(run) == Some(20.0));
    assert_eq!((run.reading.restarts, run.reading.bad_lines), (1, 0));
    assert_eq!((run.timeline.len(), run.start.is_some()), (1, true));

    append(&path.join("log.txt"), "마지막 말\n");
    state.state = moim_core::run::RunStatus::Finished;
    state.save(&path.join("run.json")).unwrap();
    let run = terminal.until(|run| run.condition() == Condition::Finished && run.log.len() == 1);
    assert_eq!(run.log, ["마지막 말"]);

    std::fs::remove_dir_all(&path).unwrap();
    let run = terminal.until(|run| run.is_there == Some(false));
    assert_eq!(run.condition(), Condition::Unreadable);
    assert!(
        run.state
            .as_ref()
            .is_err_and(|why| why.contains("no longer exists"))
    );
    assert_eq!(last_step(run), Some(20.0), "what was read stays");

    append_with_folder(&events, &step(1));
    let run = terminal.until(|run| run.is_there == Some(true) && last_step(run) == Some(1.0));
    assert!(run.start.is_none());
}

fn append_with_folder(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    append(path, text);
}

#[test]
fn the_end_of_a_long_log_is_there_first_and_its_past_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = start(7);
    text.extend((1..=60_000).map(step));
    std::fs::write(folder.path().join("events.jsonl"), &text).unwrap();
    let mut terminal = Terminal::on(folder.path());
    let run = terminal.until(|run| run.history.get("reward").is_some());
    assert_eq!(last_step(run), Some(60_000.0));
    assert!(
        run.start.is_some(),
        "the first line is read at once as well"
    );
    assert!(run.reading.bytes < run.reading.total / 2);

    let run = terminal.until(|run| run.reading.bytes == run.reading.total);
    let points = run.history.get("reward").unwrap().points();
    assert_eq!((points[0].0, run.reading.total), (1.0, text.len() as u64));
    assert!(points.len() <= 8192 && points.is_sorted_by(|left, right| left.0 < right.0));
    assert_eq!(run.timeline.len(), 1);
}

#[test]
fn samples_of_the_system_are_read_from_their_end_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("system.jsonl");
    let sample = |second: usize| {
        let time = Timestamp::from_second(1_800_000_000 + second as i64).unwrap();
        format!(
            "{{\"v\":1,\"time\":\"{time}\",\"step\":{second},\"host\":{{\"rss\":{}}}}}\n",
            second * 1000
        )
    };
    std::fs::write(&path, (0..30_000).map(sample).collect::<String>()).unwrap();
    let mut terminal = Terminal::on(folder.path());
    let first = |run: &OpenRun| Some(run.system.get("host/rss")?.points().first()?.0);
    let run = terminal.until(|run| first(run) == Some(0.0));
    assert_eq!(run.system.last("host/rss"), Some(29_999_000.0));
    assert_eq!(
        run.system.get("host/rss").unwrap().last().unwrap().0,
        29_999.0
    );
    append(&path, &sample(30_001));
    let run = terminal.until(|run| {
        run.system_now
            .as_ref()
            .is_some_and(|now| now.step == 30_001)
    });
    assert_eq!(
        run.system.get("host/rss").unwrap().last().unwrap().0,
        30_001.0
    );
}
