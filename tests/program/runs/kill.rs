//! SIGKILL at any moment of a run, repeatedly: the run that is resumed to its end equals the uninterrupted
//! one.
//!
//! All files of the run directory are compared byte for byte, and there must be no file that the
//! uninterrupted run does not have, except:
//!
//! - measurements: `system.jsonl`, `log.txt`, `lock`; times, speeds and memory in `events.jsonl`; times and
//!   the process in `run.json`; `seconds` in `trainer_state.json`, and the length of `events.jsonl`, whose
//!   numbers have other widths;
//! - traces of the interruption: `resume` in `events.jsonl`, and `*.discarded.jsonl`.
//!
//! The moments follow from a seed and the duration of a whole run. `MOIM_KILLS` is their number;
//! `--nocapture` shows where they were.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::folder::{Folder, RUN, Trainer, uninterrupted};

const SEED: u64 = 20_261_122;
/// Kills of one run at most.
const MOST_OF_A_RUN: usize = 6;
/// What takes so little of a run that a random moment seldom falls on it: every third kill waits for
/// one of these.
const AIMS: [Aim; 5] = [
    Aim::Phase("adapter write"),
    Aim::Growth("events.jsonl"),
    Aim::Phase("inference"),
    Aim::Growth("completions.jsonl"),
    Aim::Phase("scoring"),
];

/// What a kill waits for.
#[derive(Clone, Copy)]
enum Aim {
    Phase(&'static str),
    /// This log grows past a random length.
    Growth(&'static str),
}

/// SplitMix64, as Steele, Lea and Flood give it.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How long a whole run takes, and how long until its first event.
#[derive(Clone, Copy)]
struct Pace {
    loading: Duration,
    work: Duration,
}

impl Pace {
    fn measure(settings: &[&str]) -> Self {
        let folder = Folder::new();
        let begun = Instant::now();
        let mut trainer = folder.start(settings);
        trainer.wait_until("an event", |folder| !folder.events().is_empty());
        let loading = begun.elapsed();
        trainer.end().expect(0, &[]);
        Self {
            loading,
            work: begun.elapsed() - loading,
        }
    }

    /// A moment of what is left of the run.
    fn draw(self, folder: &Folder, draws: &mut Draws) -> Duration {
        let steps = folder.of_events("step", "step").len();
        let left = self.work.mul_f64(1.0 - steps.min(3) as f64 / 4.0);
        (self.loading + left).mul_f64(draws.part())
    }
}

/// What the process `pid` is doing, as far as its files show.
fn phase_of(folder: &Folder, pid: u32) -> String {
    let run = folder.path(RUN);
    let json =
        |path: &Path| -> Option<Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    if json(&run.join("run.json")).is_none_or(|state| state["pid"] != pid) {
        return "loading".to_owned();
    }
    for (place, phase) in [
        (run.clone(), "adapter write"),
        (run.join("infer_results"), "answers write"),
        (run.join("scores"), "scoring"),
    ] {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        if names.any(|name| {
            name.contains(".writing-")
                && !name.starts_with(".run.json")
                && !name.starts_with(".progress")
        }) {
            return phase.to_owned();
        }
    }
    let is_torn = |name: &str| {
        let bytes = fs::read(run.join(name)).unwrap_or_default();
        bytes.last().is_some_and(|last| *last != b'\n')
    };
    if is_torn("events.jsonl") {
        return "append to events.jsonl".to_owned();
    }
    let text = fs::read_to_string(run.join("completions.jsonl")).unwrap_or_default();
    let steps = folder.of_events("step", "step").len();
    if is_torn("completions.jsonl") || text.lines().count() < 16 * steps {
        return "append to completions.jsonl".to_owned();
    }
    let events = folder.events();
    let last = events.last().cloned().unwrap_or_default();
    let progress = json(&run.join("progress.json")).unwrap_or_default();
    let told = progress["phase"].as_str().unwrap_or("between phases");
    match last["event"].as_str().unwrap_or_default() {
        "" => "loading",
        "start" => "inference",
        "checkpoint"
            if run
                .join(last["checkpoint"].as_str().unwrap_or_default())
                .exists() =>
        {
            "inference"
        }
        "checkpoint" => "adapter write",
        "inference" => "scoring",
        "done" => "the end",
        _ if matches!(told, "rollout" | "reward" | "backward") => told,
        _ => "between phases",
    }
    .to_owned()
}

/// Kills a process that trains; answers the phase that it hit, `None` where the run ended before.
fn kill_once(
    folder: &Folder,
    mut trainer: Trainer<'_>,
    whole: &Folder,
    pace: Pace,
    number: usize,
    draws: &mut Draws,
) -> Option<String> {
    let moment = pace.draw(folder, draws);
    let aim = number
        .is_multiple_of(3)
        .then(|| AIMS[number / 3 % AIMS.len()]);
    let length = |folder: &Folder, log: &str| {
        let length = fs::metadata(folder.path(RUN).join(log)).map(|metadata| metadata.len());
        length.unwrap_or_default()
    };
    // Of what is left to write.
    let past = |log: &str, part: f64| {
        let (own, all) = (length(folder, log), length(whole, log));
        own + (all.saturating_sub(own) as f64 * part) as u64
    };
    let part = draws.part();
    let growth = aim.and_then(|aim| match aim {
        Aim::Growth(log) => Some((log, past(log, part))),
        Aim::Phase(_) => None,
    });
    let begun = Instant::now();
    let pid = trainer.pid();
    let is_time = || match aim {
        // Where it does not come again, the run ends.
        Some(Aim::Phase(phase)) => {
            begun.elapsed() >= pace.loading / 2 && phase_of(folder, pid) == phase
        }
        Some(Aim::Growth(log)) => growth.is_some_and(|(_, past)| length(folder, log) > past),
        None => begun.elapsed() >= moment,
    };
    while !is_time() {
        if trainer.has_ended() {
            trainer.end().expect(0, &[]);
            return None;
        }
        if aim.is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    trainer.kill();
    Some(match growth {
        Some((log, _)) => format!("append to {log}"),
        None => phase_of(folder, pid),
    })
}

/// The files of a run with what must be equal in them.
fn lasting_files(folder: &Folder) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.path(RUN).join(&inner))
            .unwrap()
            .flatten()
        {
            let name = format!("{inner}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                // What was set aside is compared by whoever damaged it.
                if !name.contains(".damaged") {
                    folders.push(format!("{name}/"));
                }
                continue;
            }
            let is_measured = matches!(name.as_str(), "system.jsonl" | "log.txt" | "lock");
            if is_measured || name.ends_with(".discarded.jsonl") {
                continue;
            }
            let without = |keys: &[&str]| {
                let mut json: Value = folder.json(&format!("{RUN}/{name}"));
                json.as_object_mut()
                    .unwrap()
                    .retain(|key, _| !keys.contains(&key.as_str()));
                json.to_string().into_bytes()
            };
            let content = match name.rsplit('/').next().unwrap() {
                "events.jsonl" => Value::from(folder.lasting_events())
                    .to_string()
                    .into_bytes(),
                "run.json" => without(&[
                    "pid",
                    "process_start",
                    "started",
                    "updated",
                    "steps_per_second",
                ]),
                "trainer_state.json" => without(&["seconds", "events_position"]),
                _ => fs::read(entry.path()).unwrap(),
            };
            files.insert(name, content);
        }
    }
    files
}

/// The names of the files that differ between two runs.
pub fn differences(folder: &Folder, whole: &Folder) -> BTreeSet<String> {
    let (own, others) = (lasting_files(folder), lasting_files(whole));
    let names: BTreeSet<&String> = own.keys().chain(others.keys()).collect();
    let differs = |name: &&String| own.get(*name) != others.get(*name);
    names.into_iter().filter(differs).cloned().collect()
}

/// Kills `wanted` times runs with `settings`, resumes them to their end and compares them with `whole`.
fn kill_and_compare(settings: &[&str], whole: &Folder, wanted: usize) {
    let pace = Pace::measure(settings);
    let mut draws = Draws(SEED);
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut kills, mut tries, mut runs, mut faults) = (0, 0, 0, Vec::new());
    while kills < wanted {
        let folder = Folder::new();
        let mut hit = Vec::new();
        let most = 1 + draws.next() as usize % MOST_OF_A_RUN;
        while hit.len() < most && kills < wanted {
            tries += 1;
            let process = if folder.path(RUN).exists() {
                folder.spawn(&["--no-ui", "--resume", RUN])
            } else {
                folder.start(settings)
            };
            match kill_once(&folder, process, whole, pace, tries, &mut draws) {
                Some(phase) => hit.push(phase),
                None => break,
            }
            kills += 1;
        }
        if folder.path(RUN).exists() {
            folder.resume().expect(0, &[]);
        } else {
            folder.train(settings).expect(0, &[]);
        }
        runs += 1;
        let found = differences(&folder, whole);
        for phase in &hit {
            let row = table.entry(phase.clone()).or_default();
            row.0 += 1;
            row.1 += found.len();
        }
        if !found.is_empty() {
            faults.push(format!("killed in {}: {found:?}", hit.join(", ")));
        }
    }
    println!("| phase | kills | differences |\n|---|---|---|");
    for (phase, (kills, differences)) in &table {
        println!("| {phase} | {kills} | {differences} |");
    }
    println!(
        "{kills} kills of {runs} runs; a run takes {:.2} s to load and {:.2} s to work",
        pace.loading.as_secs_f64(),
        pace.work.as_secs_f64()
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn kills(otherwise: usize) -> usize {
    match std::env::var("MOIM_KILLS") {
        Ok(number) => number.parse().expect("MOIM_KILLS is a number"),
        Err(_) => otherwise,
    }
}

#[test]
fn killed_at_any_moment_again_and_again_a_run_ends_as_if_nothing_had_been() {
    kill_and_compare(&[], &uninterrupted().0, kills(10));
}

/// Save points after every step, of which few are kept, μ = 2, a reference policy and dropout.
#[test]
fn so_does_a_run_of_every_kind_of_step_that_keeps_few_save_points() {
    let settings = [
        "run.save_strategy=steps",
        "run.save_steps=1",
        "run.save_total_limit=1",
        "grpo.num_iterations=2",
        "grpo.beta=0.05",
        "lora.lora_dropout=0.1",
    ];
    let whole = Folder::new();
    whole.train(&settings).expect(0, &[]);
    kill_and_compare(&settings, &whole, kills(4));
}
