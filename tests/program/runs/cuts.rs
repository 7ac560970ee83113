//! Files of a run that lost their end, as a power cut or a bad disk leaves them: what is resumed, ranked or
//! opened gives the uninterrupted result, or one error that names the file and the way out. `--nocapture`
//! shows the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use moim_core::run::{RunDir, RunEntry, list_runs};

use super::folder::{Answer, Folder, RUN, uninterrupted};
use super::kill::differences;

/// How a file is damaged.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Only this part of it is left.
    Cut(f64),
    /// The last byte is missing.
    LastByte,
    /// So much of its end is zero bytes, as ext4 leaves what had not reached the disk.
    Zeros(f64),
}

const DAMAGES: [Damage; 6] = [
    Damage::Cut(0.0),
    Damage::Cut(0.37),
    Damage::Cut(0.81),
    Damage::LastByte,
    Damage::Zeros(0.03),
    Damage::Zeros(1.0),
];

/// The damages that one file of many is struck with: two of them in turn, all with `MOIM_CUTS=all`.
fn damages(file: usize) -> Vec<Damage> {
    if std::env::var("MOIM_CUTS").is_ok_and(|asked| asked == "all") {
        DAMAGES.to_vec()
    } else {
        (0..2)
            .map(|at| DAMAGES[(2 * file + at) % DAMAGES.len()])
            .collect()
    }
}

impl Damage {
    fn strike(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let length = bytes.len();
        let part = |part: f64| (length as f64 * part) as usize;
        match self {
            Self::Cut(left) => bytes.truncate(part(left)),
            Self::LastByte => bytes.truncate(length - 1),
            Self::Zeros(lost) => bytes[length - part(lost).max(1)..].fill(0),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// What a damaged run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Same,
    Told,
}

/// A copy of a run directory, with its inputs, in a separate folder.
pub fn copied(from: &Folder) -> Folder {
    let folder = Folder::new();
    copy_tree(&from.path(RUN), &folder.path(RUN));
    folder
}

pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &place)
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// A run that was killed in its second epoch.
pub fn half_done() -> Folder {
    let folder = Folder::new();
    folder.write("hold_4", "");
    let mut trainer = folder.start(&[]);
    trainer.wait_until("step 4", |folder| folder.path("at_4").exists());
    trainer.kill();
    fs::remove_file(folder.path("hold_4")).unwrap();
    folder
}

/// Ranks and lists a damaged run: neither may panic, whatever they say.
fn look(folder: &Folder) {
    let answer = folder.moim(&["rank", RUN]);
    let text = format!("{}{}", answer.stdout, answer.stderr);
    assert!(!text.contains("panicked"), "{text}");
    assert!(
        answer.code == 0 || !answer.stderr.trim().is_empty(),
        "rank ended with {} in silence",
        answer.code
    );
    let runs: Vec<RunEntry> = list_runs(&folder.path("outputs"));
    assert_eq!(runs.len(), 1);
    if let Ok(run) = RunDir::open(&folder.path(RUN)) {
        // An error is as good as an answer.
        let _ = run.experiment();
    }
}

/// Resumes a run whose `file` was damaged.
fn resumed(folder: &Folder, file: &str, damage: Damage) -> Result<Outcome, String> {
    let answer: Answer = folder.resume();
    let text = format!("{}{}", answer.stdout, answer.stderr);
    if text.contains("panicked") || text.contains("RUST_BACKTRACE") {
        return Err(format!("{file}, {damage:?}: {text}"));
    }
    if answer.code == 0 {
        if file.starts_with("scores/") && matches!(damage, Damage::LastByte) {
            // Only its line break is gone: it is read as it is.
            let path = folder.path(RUN).join(file);
            fs::write(&path, [&fs::read(&path).unwrap()[..], b"\n"].concat()).unwrap();
        }
        let found = differences(folder, &uninterrupted().0);
        return if found.is_empty() {
            Ok(Outcome::Same)
        } else {
            Err(format!("{file}, {damage:?}: differs in {found:?}\n{text}"))
        };
    }
    let name = file.rsplit('/').next().unwrap_or_default();
    let errors = answer.stderr.matches("error: ").count();
    let way_out = ["put ", "restore ", "write ", "remove ", "moved out"];
    if errors == 1 && answer.stderr.contains(name) && way_out.iter().any(|way| text.contains(way)) {
        Ok(Outcome::Told)
    } else {
        Err(format!("{file}, {damage:?}: {} errors: {text}", errors))
    }
}

/// Damages each of `files` of a run in every way; answers what it came to.
fn strike_all(from: &Folder, files: &[&str], kind: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let damages = damages(at);
        let mut outcomes: BTreeMap<Outcome, Vec<String>> = BTreeMap::new();
        for &damage in &damages {
            let folder = copied(from);
            damage.strike(&folder.path(RUN).join(file));
            look(&folder);
            match resumed(&folder, file, damage) {
                Ok(outcome) => outcomes
                    .entry(outcome)
                    .or_default()
                    .push(format!("{damage:?}")),
                Err(fault) => faults.push(fault),
            }
        }
        let of = |outcome| outcomes.get(&outcome).map_or(0, Vec::len);
        println!(
            "| {kind} | {file} | {} | {} | {} |",
            damages.len(),
            of(Outcome::Same),
            outcomes.get(&Outcome::Told).map_or_else(
                || "0".to_owned(),
                |told| format!("{}: {}", told.len(), told.join(", "))
            )
        );
    }
    faults
}

const OF_EVERY_RUN: [&str; 9] = [
    "events.jsonl",
    "completions.jsonl",
    "run.json",
    "system.jsonl",
    "experiment.toml",
    "infer_results/inference_epoch0.json",
    "infer_results/inference_epoch1.json",
    "scores/inference_epoch0.json",
    "scores/inference_epoch1.json",
];

const OF_A_SAVE_POINT: [&str; 4] = [
    "trainer_state.json",
    "optimizer.safetensors",
    "adapter_model.safetensors",
    "adapter_config.json",
];

#[test]
fn a_half_done_run_with_a_damaged_file_comes_to_the_same_end_or_says_why_not() {
    let half = half_done();
    // What it takes of its machine is written by then, and its progress is left behind.
    let mut files = OF_EVERY_RUN.to_vec();
    files.push("progress.json");
    let of_epoch_1 = OF_A_SAVE_POINT.map(|file| format!("epoch_1/{file}"));
    files.extend(of_epoch_1.iter().map(String::as_str));
    let faults = strike_all(&half, &files, "half-done");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_finished_run_with_a_damaged_file_comes_to_the_same_end_or_says_why_not() {
    let of_epoch_2 = OF_A_SAVE_POINT.map(|file| format!("epoch_2/{file}"));
    let mut files = OF_EVERY_RUN.to_vec();
    files.extend(of_epoch_2.iter().map(String::as_str));
    let faults = strike_all(&uninterrupted().0, &files, "finished");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The newest save point is damaged: the one before it is used, and everything is said.
#[test]
fn a_damaged_save_point_is_moved_aside_by_name() {
    let folder = copied(&uninterrupted().0);
    let adapter = format!("{RUN}/epoch_2/adapter_model.safetensors");
    let mut bytes = fs::read(folder.path(&adapter)).unwrap();
    let last = bytes.len() - 1;
    // One bit: no reader of the file would notice.
    bytes[last] ^= 1;
    folder.write(&adapter, &bytes);
    let infer = [
        "infer",
        "--model",
        "base",
        "--input",
        "eval.json",
        "--device",
        "cpu",
        "--output",
        "own.json",
        "--adapter",
    ];
    let of_it = format!("{RUN}/epoch_2");
    folder.moim(&[&infer[..], &[&of_it]].concat()).expect(
        2,
        &["epoch_2: adapter_model.safetensors is not as it was saved"],
    );
    let answer = folder.resume().expect(
        0,
        &[
            "alarm: warning at step 2: outputs/demo/one/epoch_2: adapter_model.safetensors",
            "moved aside as epoch_2.damaged",
            "resumes from epoch_1",
        ],
    );
    assert_eq!(answer.stderr.matches("alarm: ").count(), 1);
    assert_eq!(
        fs::read(
            folder
                .path(RUN)
                .join("epoch_2.damaged/adapter_model.safetensors")
        )
        .unwrap(),
        bytes
    );
    folder.expect_outcome_of(&uninterrupted().0);
    assert_eq!(folder.lasting_events(), uninterrupted().0.lasting_events());
    let codes = folder.of_events("alarm", "code");
    assert_eq!(codes, ["damaged_save_point"]);
}

/// As save points were before they had checksums.
#[test]
fn a_save_point_without_checksums_can_be_resumed() {
    let folder = copied(&half_done());
    let name = format!("{RUN}/epoch_1/trainer_state.json");
    let mut state = folder.json(&name);
    assert!(state.as_object_mut().unwrap().remove("blake3").is_some());
    folder.write(&name, state.to_string());
    folder.resume().expect(0, &["resuming from epoch_1"]);
    assert_eq!(folder.of_events("alarm", "code").len(), 0);
    let whole = &uninterrupted().0;
    for file in ["epoch_2/adapter_model.safetensors", "completions.jsonl"] {
        let read = |folder: &Folder| fs::read(folder.path(RUN).join(file)).unwrap();
        assert!(read(&folder) == read(whole), "{file}");
    }
}
