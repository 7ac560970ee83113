//! A made-up run, with Korean text.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use moim_core::run::{
    Alarm, BestCheckpoint, CardSample, CheckpointEvent, DeviceSample, Event, EventKind, HostSample,
    Liveness, Metrics, Progress, RunState, RunStatus, SavePoint, Severity, Start, Step,
    SystemSample,
};

use crate::tui::data::World;
use crate::tui::data::run::{Reading, RunUpdate};
use crate::tui::message::Data;

/// The run that the worlds have open.
pub(crate) const RUN: &str = "/nowhere/outputs/demo/씨앗42";

/// So many seconds after the run started.
pub(crate) fn time(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_795_348_646 + seconds)
}

/// The moment at which the worlds are looked at.
pub(crate) fn now() -> Timestamp {
    time(154)
}

fn state(status: RunStatus) -> RunState {
    let mut state = RunState::begin("demo/씨앗42", "cuda:0");
    state.state = status;
    state.host = "다른기계".to_owned();
    state.started = time(0);
    state.updated = time(150);
    state.step = 40;
    state.total_steps = 106;
    state.epoch = 1;
    state.epoch_fraction = Some(0.75);
    state.best = Some(BestCheckpoint {
        file: "inference_epoch0.json".to_owned(),
        final_mean: 0.6497,
    });
    state.latest_checkpoint = Some(SavePoint::Step(30));
    if status == RunStatus::Failed {
        state.message = Some("디스크가 가득 찼다".to_owned());
    }
    state
}

/// A step whose rewards rise and whose entropy falls.
fn step(step: usize) -> Event {
    let share = step as f64 / 40.0;
    let metrics = Metrics::default()
        .with("loss", 0.02 - share / 100.0)
        .with("reward", 0.5 + share / 2.0)
        .with("reward_std", 0.4 - share / 5.0)
        .with("rewards/bertscore/mean", 0.75 + share / 5.0)
        .with("rewards/exact_match/mean", share / 2.0)
        .with("entropy", 0.0625 * (1.0 - share))
        .with("grad_norm", 0.1 + share)
        .with("learning_rate", 0.00001)
        .with("completions/mean_length", 48.0 + share)
        .with("completions/clipped_ratio", 0.25)
        .with("step_time", 3.0)
        .with("tokens_per_second/rollout", 2100.0)
        .with("tokens_per_second/backward", 3400.0)
        .with("num_tokens", step * 3000);
    let seconds = step as i64 * 3;
    let total_steps = 106;
    at(
        seconds,
        Step {
            step,
            total_steps,
            metrics,
        },
    )
}

fn at(seconds: i64, kind: impl Into<EventKind>) -> Event {
    let mut event = Event::new(kind);
    event.time = time(seconds);
    event
}

fn events() -> Vec<Event> {
    let start = Start {
        total_steps: Some(106),
        device: Some("cuda:0".to_owned()),
        predicted_bytes: Some(9 << 30),
        ..Start::default()
    };
    let saved = CheckpointEvent {
        checkpoint: SavePoint::Step(30),
        step: 30,
        adapter_difference: None,
    };
    let warning = Alarm::new(
        "reward_constant",
        Severity::Warning,
        33,
        "보상이 그대로다: look at completions.jsonl",
    );
    let critical = Alarm::new(
        "entropy_collapse",
        Severity::Critical,
        40,
        "the entropy fell to 0.0020; 온도를 높이세요",
    );
    let mut events = vec![at(0, start)];
    events.extend((1..=40).map(step));
    events.extend([at(90, saved), at(100, warning), at(120, critical)]);
    events
}

/// Samples of the machine every ten seconds; with `has_gpu` those of a card of 24 GiB.
pub(crate) fn samples(has_gpu: bool) -> Vec<SystemSample> {
    let sample = |index: u64| SystemSample {
        time: time(index as i64 * 10),
        step: index as usize * 3,
        phase: Some("rollout".to_owned()),
        host: HostSample {
            rss: Some((700 + index * 10) << 20),
            total: Some(32 << 30),
            available: Some(20 << 30),
            cpu_percent: Some(187.5),
        },
        device: has_gpu.then_some(DeviceSample {
            in_use: (4 << 30) + (index << 26),
            reserved: 8 << 30,
            peak_in_use: 7 << 30,
        }),
        card: has_gpu.then_some(CardSample {
            used: Some(11 << 30),
            total: Some(24 << 30),
            utilization_percent: Some(93.0),
            temperature_c: Some(61.0),
            power_watts: Some(284.5),
        }),
        note: None,
    };
    (0..15).map(sample).collect()
}

/// News of a run with forty of its 106 steps taken.
pub(crate) fn news(status: RunStatus, liveness: Liveness) -> RunUpdate {
    let phase = Progress {
        time: now(),
        phase: "rollout".to_owned(),
        done: 30,
        total: 64,
        detail: "1820 tokens".to_owned(),
        step: 40,
        since: time(150),
    };
    let mut news = RunUpdate::of(Path::new(RUN));
    news.is_there = Some(true);
    news.state = Some((Ok(state(status)), Some(liveness)));
    news.progress = Some(Some(phase));
    news.events = events();
    news.system = samples(true);
    news.log = Some(
        (1..=30)
            .map(|line| format!("2026-11-22T14:22:39Z 로그 {line}"))
            .collect(),
    );
    news.reading = Some(Reading {
        bytes: 1000,
        total: 1000,
        ..Reading::default()
    });
    news
}

/// A world that has taken in the news of its open run.
pub(crate) fn world(news: RunUpdate) -> World {
    let mut world = World::default();
    world.attach(&PathBuf::from(RUN));
    world.apply(Data::Run(Box::new(news)));
    world
}

/// A run that goes on.
pub(crate) fn running() -> World {
    world(news(RunStatus::Running, Liveness::Alive))
}
