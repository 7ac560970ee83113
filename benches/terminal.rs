//! The terminal UI over a long history, in a real pseudo-terminal.
//!
//! `cargo bench --bench terminal -- [EVENTS RUNS]` makes a run of EVENTS (1 000 000) events and RUNS
//! (2 000) runs in a temporary folder and prints how long the first full screen takes, how long a
//! key takes, what an idle screen costs, and how much memory is used.

// A benchmark stops at what it does not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

// The tests' harness, of which this needs a part.
#[allow(dead_code)]
#[path = "../tests/program/terminal/pty.rs"]
mod pty;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use moim::run::{RunState, RunStatus};
use pty::Session;

/// Keys pressed for the distribution of their times.
const KEYS: usize = 600;

/// How long the idle screen is watched.
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    // `cargo test --benches` runs this as well; it is no test.
    let arguments: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|word| word.replace('_', "").parse().ok())
        .collect();
    // Only `cargo bench` says so; `cargo test --benches` would run this as a test.
    if std::env::args().all(|word| word != "--bench") {
        return;
    }
    let events = arguments.first().copied().unwrap_or(1_000_000);
    let runs = arguments.get(1).copied().unwrap_or(2_000);
    let folder = tempfile::tempdir().unwrap();
    let outputs = folder.path().join("outputs");
    let long = outputs.join("long/run");
    for number in 0..runs.saturating_sub(1) {
        let run = outputs.join(format!("experiment{}/run{number:05}", number % 20));
        make_run(&run, RunStatus::Finished, 106);
    }
    make_run(&long, RunStatus::Finished, events);
    let bytes = write_events(&long.join("events.jsonl"), events);
    println!(
        "{runs} runs; one with {events} events, {:.2} GB",
        bytes as f64 / 1e9
    );

    let outputs = outputs.display().to_string();
    let long = long.display().to_string();
    let flags = |more: &[&str]| -> Vec<String> {
        let base = ["--outputs", &outputs, "--experiments", "experiments"];
        base.iter()
            .chain(more)
            .map(|word| (*word).to_owned())
            .collect()
    };
    measure("list of runs", &flags(&[]), "106/106");
    measure("long run", &flags(&[&long]), "tokens/s");
}

/// Opens the UI and measures it on the screen that shows `sign` when it is full.
fn measure(name: &str, arguments: &[String], sign: &str) {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut firsts: Vec<Duration> = (0..5)
        .map(|_| {
            let began = Instant::now();
            let mut session = Session::open(&words, 160, 50);
            session.wait_for(sign);
            let first = began.elapsed();
            session.press("q");
            first
        })
        .collect();
    firsts.sort();
    println!(
        "{name}: first full screen {:.0} ms (median of {}; longest {:.0} ms)",
        milliseconds(firsts[firsts.len() / 2]),
        firsts.len(),
        milliseconds(firsts[firsts.len() - 1])
    );
    let mut session = Session::open(&words, 160, 50);
    session.wait_for(sign);
    // While the history is still being read, then when all is quiet.
    for when in ["while reading", "at rest"] {
        let mut times: Vec<Duration> = (0..KEYS)
            .map(|press| time_of_key(&mut session, if press % 2 == 0 { "j" } else { "k" }))
            .collect();
        times.sort();
        println!(
            "{name}: a key {when}: median {:.1} ms, 99th percentile {:.1} ms",
            milliseconds(times[KEYS / 2]),
            milliseconds(times[KEYS * 99 / 100])
        );
        settle(&mut session);
    }
    let before = processor_time(session.pid());
    let written = session.listen(IDLE);
    let used = processor_time(session.pid()) - before;
    println!(
        "{name}: idle {:.2} % of a core, {written} bytes written in {} s; {} MiB resident",
        100.0 * used / IDLE.as_secs_f64(),
        IDLE.as_secs(),
        resident_mib(session.pid())
    );
}

/// From a key press to the first byte of the answer.
fn time_of_key(session: &mut Session, key: &str) -> Duration {
    let before = session.written.len();
    let began = Instant::now();
    session.press(key);
    while session.written.len() == before && began.elapsed() < Duration::from_secs(2) {
        session.listen(Duration::from_millis(1));
    }
    began.elapsed()
}

/// Waits until the program has stopped working.
fn settle(session: &mut Session) {
    for _ in 0..120 {
        let before = processor_time(session.pid());
        session.listen(Duration::from_millis(500));
        if processor_time(session.pid()) - before < 0.02 {
            return;
        }
    }
}

/// Seconds of processor time that a process has used.
fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    // Linux counts in hundredths of a second.
    fields.iter().sum::<f64>() / 100.0
}

fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn make_run(run: &Path, status: RunStatus, steps: usize) {
    for folder in ["control", "infer_results", "scores"] {
        std::fs::create_dir_all(run.join(folder)).unwrap();
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/demo.toml");
    std::fs::copy(demo, run.join("experiment.toml")).unwrap();
    let mut state = RunState::begin("bench/run", "cpu");
    state.state = status;
    state.step = steps;
    state.total_steps = steps;
    state.save(&run.join("run.json")).unwrap();
}

/// Steps as the trainer writes them, with the demo's forty numbers.
fn write_events(path: &Path, events: usize) -> u64 {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let start = r#"{"v":1,"time":"2026-11-22T03:33:24Z","event":"start","id":"long/run","device":"cpu","total_steps":1000000,"parameters":1834176}"#;
    writeln!(file, "{start}").unwrap();
    let names = [
        "loss",
        "grad_norm",
        "learning_rate",
        "num_tokens",
        "reward",
        "reward_std",
        "reward_group_std",
        "frac_reward_zero_std",
        "rewards/format/mean",
        "rewards/format/std",
        "rewards/exact_match/mean",
        "rewards/exact_match/std",
        "rewards/rouge1/mean",
        "rewards/rouge1/std",
        "rewards/bertscore/mean",
        "rewards/bertscore/std",
        "completions/mean_length",
        "completions/min_length",
        "completions/max_length",
        "completions/mean_terminated_length",
        "completions/min_terminated_length",
        "completions/max_terminated_length",
        "completions/clipped_ratio",
        "sampling/sampling_logp_difference/mean",
        "sampling/sampling_logp_difference/max",
        "entropy",
        "clip_ratio/low_mean",
        "clip_ratio/high_mean",
        "clip_ratio/region_mean",
        "step_time",
        "time/rollout",
        "time/reward",
        "time/backward",
        "tokens_per_second/rollout",
        "tokens_per_second/backward",
        "elapsed_seconds",
    ];
    let began: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut line = String::new();
    for step in 1..events {
        line.clear();
        let time = began + jiff::SignedDuration::from_secs(step as i64);
        write!(
            line,
            r#"{{"v":1,"time":"{time}","event":"step","step":{step},"total_steps":{events}"#
        )
        .unwrap();
        for (index, name) in names.iter().enumerate() {
            let noise = ((step * (index + 7)) as f64 * 0.618_033_988_749_895).fract();
            let value = 1.0 - (-(step as f64) / events as f64).exp() + 0.1 * noise;
            write!(line, r#","{name}":{value}"#).unwrap();
        }
        line.push_str("}\n");
        file.write_all(line.as_bytes()).unwrap();
    }
    file.flush().unwrap();
    std::fs::metadata(path).unwrap().len()
}
