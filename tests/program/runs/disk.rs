//! A full disk, a read-only folder, a clock that is set back, a moved run: reported in one error, and
//! resumed once the problem is over.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::cuts::{copied, copy_tree, half_done};
use super::folder::{Answer, Folder, RUN, uninterrupted};
use super::kill::differences;

/// Runs `script` with `outputs` on a separate file system of this many KiB; `$MOIM` is the program. Its
/// files are copied to `outputs` itself at the end. `None` if this machine does not allow mounting.
fn on_a_disk(folder: &Folder, kibibytes: usize, script: &str) -> Option<()> {
    fs::create_dir_all(folder.path("outputs")).unwrap();
    fs::create_dir_all(folder.path("kept")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={kibibytes}k tmpfs outputs || exit 99\n{script}\ncp -a outputs/. kept/"
    );
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(folder.path(""))
        .env("MOIM", env!("CARGO_BIN_EXE_moim"))
        .env("MOIM_CACHE_DIR", folder.path("cache"))
        .output();
    let reason = match output {
        Ok(output) if output.status.success() => {
            copy_tree(&folder.path("kept"), &folder.path("outputs"));
            return Some(());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    println!(
        "skipped: no file system can be mounted here: {}",
        reason.trim()
    );
    None
}

/// What `script` wrote down of a command: `NAME.out`, `NAME.err` and `NAME.code`.
fn answer_of(folder: &Folder, name: &str) -> Answer {
    Answer {
        code: folder.read(&format!("{name}.code")).trim().parse().unwrap(),
        stdout: folder.read(&format!("{name}.out")),
        stderr: folder.read(&format!("{name}.err")),
    }
}

fn error_of(answer: &Answer) -> &str {
    let errors: Vec<&str> = answer
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{}", answer.stderr);
    errors[0]
}

#[test]
fn a_disk_that_fills_up_anywhere_is_reported_and_the_resumed_run_is_the_same() {
    const TRAIN_THEN_RESUME: &str = "
        \"$MOIM\" --no-ui demo.toml --force > full.out 2> full.err; echo $? > full.code
        mount -o remount,size=64m outputs
        if [ -d outputs/demo/one ]
        then \"$MOIM\" --no-ui --resume outputs/demo/one > room.out 2> room.err; echo $? > room.code
        else \"$MOIM\" --no-ui demo.toml --force > room.out 2> room.err; echo $? > room.code
        fi";
    let mut failed = 0;
    for kibibytes in [8, 28, 48, 72, 96, 128, 160, 200, 240, 280] {
        let folder = Folder::new();
        if on_a_disk(&folder, kibibytes, TRAIN_THEN_RESUME).is_none() {
            return;
        }
        let full = answer_of(&folder, "full");
        if full.code == 0 {
            println!("| {kibibytes} KiB | enough |");
        } else {
            failed += 1;
            let error = error_of(&full);
            println!("| {kibibytes} KiB | {} | {error} |", full.code);
            assert!(
                error.contains("the disk is full: free some space")
                    && error.contains("outputs/demo"),
                "{kibibytes}: {error}"
            );
            if full.code == 3 {
                assert!(error.contains("--resume"), "{error}");
            }
        }
        answer_of(&folder, "room").expect(0, &[]);
        let found = differences(&folder, &uninterrupted().0);
        assert!(found.is_empty(), "{kibibytes} KiB: {found:?}");
    }
    assert!(failed >= 4, "{failed} of the runs met the end of the disk");
}

#[test]
fn a_run_on_a_read_only_file_system_is_refused_and_resumed_once_it_is_writable() {
    let folder = copied(&half_done());
    fs::rename(folder.path("outputs"), folder.path("before")).unwrap();
    const RESUME_TWICE: &str = "
        cp -a before/. outputs/
        mount -o remount,ro outputs
        \"$MOIM\" --no-ui --resume outputs/demo/one > fixed.out 2> fixed.err; echo $? > fixed.code
        mount -o remount,rw outputs
        \"$MOIM\" --no-ui --resume outputs/demo/one > free.out 2> free.err; echo $? > free.code";
    if on_a_disk(&folder, 65536, RESUME_TWICE).is_none() {
        return;
    }
    let fixed = answer_of(&folder, "fixed");
    assert_eq!(fixed.code, 2, "{}", fixed.stderr);
    let error = error_of(&fixed);
    assert!(
        error.contains("outputs/demo/one/lock") && error.contains("read-only"),
        "{error}"
    );
    answer_of(&folder, "free").expect(0, &[]);
    let found = differences(&folder, &uninterrupted().0);
    assert!(found.is_empty(), "{found:?}");
}

/// Events, samples and files that are an hour ahead of the clock, as where it was set back.
#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let folder = copied(&uninterrupted().0);
    let later = SystemTime::now() + Duration::from_secs(3600);
    let stamp = "2100-01-01T00:00:00Z";
    for log in ["events.jsonl", "system.jsonl"] {
        let name = format!("{RUN}/{log}");
        // The lengths stay, so that the positions of the save points hold.
        let set_ahead = |line: &str| {
            let object: Value = serde_json::from_str(line).unwrap();
            let time = object["time"].as_str().unwrap();
            let ahead = format!("2100{}", &time["2026".len()..]);
            format!("{}\n", line.replace(time, &ahead))
        };
        let text: String = folder.read(&name).lines().map(set_ahead).collect();
        assert_eq!(text.len(), folder.read(&name).len());
        folder.write(&name, text);
    }
    let mut state = folder.json(&format!("{RUN}/run.json"));
    state["started"] = stamp.into();
    state["updated"] = stamp.into();
    folder.write(&format!("{RUN}/run.json"), state.to_string());
    for file in [
        "epoch_1/trainer_state.json",
        "epoch_1/adapter_model.safetensors",
        "infer_results/inference_epoch0.json",
        "infer_results/inference_epoch1.json",
        "scores/inference_epoch1.json",
    ] {
        let path = folder.path(RUN).join(file);
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(later).unwrap();
    }
    folder
        .resume()
        .expect(0, &["resuming from epoch_2 (step 4)"]);
    let found = differences(&folder, &uninterrupted().0);
    assert!(found.is_empty(), "{found:?}");
    for event in folder.events() {
        let measured = ["seconds", "elapsed_seconds", "step_time"];
        let seconds = measured.iter().filter_map(|key| event[*key].as_f64());
        assert!(seconds.into_iter().all(|seconds| seconds >= 0.0), "{event}");
    }
    folder.moim(&["rank", RUN]).expect(0, &[]);
}

#[test]
fn a_moved_run_resumes_in_its_new_folder() {
    let folder = copied(&half_done());
    fs::create_dir_all(folder.path("attic")).unwrap();
    fs::rename(folder.path(RUN), folder.path("attic/another name")).unwrap();
    folder
        .moim(&["--no-ui", "--resume", "attic/another name"])
        .expect(0, &["finished in"]);
    assert!(!folder.path(RUN).exists());
    fs::rename(folder.path("attic/another name"), folder.path(RUN)).unwrap();
    let found = differences(&folder, &uninterrupted().0);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn inputs_that_were_moved_are_known_by_their_content() {
    let folder = copied(&half_done());
    fs::create_dir_all(folder.path("inputs")).unwrap();
    fs::rename(folder.path("train.json"), folder.path("inputs/train.json")).unwrap();
    let resume = |path: &str| {
        let setting = format!("data.train={path}");
        folder.moim(&["--no-ui", "--resume", RUN, "--set", &setting])
    };
    folder.resume().expect(2, &["data.train", "train.json"]);
    folder.write("inputs/other.json", folder.read("inputs/train.json") + "\n");
    resume("inputs/other.json").expect(2, &["data.train has changed since the run started"]);
    // Labels that were in data.eval may not come from elsewhere.
    folder
        .moim(&["--no-ui", "--resume", RUN, "--set", "data.labels=eval.json"])
        .expect(2, &["data.labels: not set → \"eval.json\""]);
    resume("inputs/train.json").expect(
        0,
        &["changed since the run started: data.train: \"train.json\" → \"inputs/train.json\""],
    );
    let found = differences(&folder, &uninterrupted().0);
    assert!(found.is_empty(), "{found:?}");
}

/// An edit of the run's own experiment.toml would go unseen otherwise: there is nothing to compare it with.
#[test]
fn a_configuration_that_was_edited_in_the_run_is_refused() {
    let folder = copied(&half_done());
    let name = format!("{RUN}/experiment.toml");
    let text = folder.read(&name);
    let edited = text.replace("learning_rate = 0.01", "learning_rate = 0.02");
    assert_ne!(edited, text);
    folder.write(&name, edited);
    folder.resume().expect(
        2,
        &[
            "experiment.toml has changed since the run started",
            "restore a copy of it",
            "--set",
        ],
    );
    folder.write(&name, text);
    folder.resume().expect(0, &[]);
    let found = differences(&folder, &uninterrupted().0);
    assert!(found.is_empty(), "{found:?}");
}
