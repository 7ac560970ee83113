//! The whole loop as a script uses it: train, infer each epoch, score, rank, and resume after a stop.
//! Every test runs the program itself on a model that takes milliseconds.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

mod cuts;
mod devices;
mod disk;
mod folder;
mod four_bits;
mod interruptions;
mod kill;
mod refusals;
mod stalls;
mod telemetry;

use folder::{Folder, RUN, uninterrupted};

#[test]
fn a_whole_run_leaves_every_file_and_prints_the_ranked_list() {
    let (folder, answer) = uninterrupted();
    let mut files = vec![
        "experiment.toml",
        "run.json",
        "events.jsonl",
        "completions.jsonl",
        "system.jsonl",
        "log.txt",
        "lock",
    ];
    let folders = ["epoch_1", "epoch_2", "infer_results", "scores", "control"];
    for name in folders {
        assert!(folder.path(RUN).join(name).is_dir(), "{name}");
    }
    let adapter = [
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "trainer_state.json",
    ];
    let in_epochs: Vec<String> = ["epoch_1", "epoch_2"]
        .iter()
        .flat_map(|e| adapter.map(|a| format!("{e}/{a}")))
        .collect();
    let of_epochs: Vec<String> = ["infer_results", "scores"]
        .iter()
        .flat_map(|d| [0, 1, 2].map(|epoch| format!("{d}/inference_epoch{epoch}.json")))
        .collect();
    files.extend(in_epochs.iter().chain(&of_epochs).map(String::as_str));
    for name in &files {
        assert!(folder.path(RUN).join(name).is_file(), "{name}");
    }
    // No half-written and no unknown file is left.
    let entries = fs::read_dir(folder.path(RUN)).unwrap().flatten();
    let found: BTreeSet<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let known = files
        .iter()
        .copied()
        .filter(|name| !name.contains('/'))
        .chain(folders);
    assert_eq!(found, known.map(str::to_owned).collect());

    let run = folder.json(&format!("{RUN}/run.json"));
    assert_eq!(
        (&run["state"], &run["step"], &run["total_steps"]),
        (&json!("finished"), &json!(4), &json!(4))
    );
    assert_eq!(
        (&run["id"], &run["latest_checkpoint"], &run["message"]),
        (&json!("demo/one"), &json!("epoch_2"), &Value::Null)
    );
    for answers in [
        "inference_epoch0.json",
        "inference_epoch1.json",
        "inference_epoch2.json",
    ] {
        let items = folder.json(&format!("{RUN}/infer_results/{answers}"));
        assert_eq!(items.as_array().unwrap().len(), 6);
        assert!(
            items[0]["output"]["answer"].is_string()
                && items[0]["output"]["normalized_answer"].is_string()
        );
    }
    assert!(
        answer.stdout.contains("File: inference_epoch0.json"),
        "{}",
        answer.stdout
    );
    let best = folder.of_events("done", "best")[0]
        .as_str()
        .unwrap()
        .to_owned();
    let end = answer.stdout.split("Best Final Mean:").nth(1).unwrap();
    assert!(end.contains(&format!("File       : {best}")), "{end}");
    for words in [
        "(selected): B×A×D = 16×1×1 = 16 completions/step",
        "device   cpu",
        "step 4/4",
        "finished in",
    ] {
        assert!(
            answer.stderr.contains(words),
            "{words:?} is not in: {}",
            answer.stderr
        );
    }
    let log = folder.read(&format!("{RUN}/log.txt"));
    assert!(
        log.contains("step 1/4") && log.contains("Best Final Mean"),
        "{log}"
    );
}

#[test]
fn the_events_of_a_run_tell_the_whole_story() {
    let (folder, _) = uninterrupted();
    let events = folder.events();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    let epoch = ["step", "step", "checkpoint", "inference", "score"];
    assert_eq!(
        names,
        [
            &["start", "preflight", "inference", "score"][..],
            &epoch,
            &epoch,
            &["done"]
        ]
        .concat()
    );
    assert_eq!(folder.of_events("step", "step"), [1, 2, 3, 4]);
    assert_eq!(folder.of_events("step", "epoch"), [0.5, 1.0, 1.5, 2.0]);
    assert_eq!(
        folder.of_events("inference", "checkpoint"),
        ["epoch_0", "epoch_1", "epoch_2"]
    );
    let step = &events[4];
    for metric in [
        "loss",
        "grad_norm",
        "learning_rate",
        "num_tokens",
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "rewards/format/mean",
        "rewards/bertscore/std",
        "rewards/length/mean",
        "completions/mean_length",
        "completions/clipped_ratio",
        "entropy",
        "clip_ratio/region_mean",
        "step_time",
        "time/rollout",
        "tokens_per_second/backward",
        "memory/host_rss",
    ] {
        assert!(step[metric].is_number(), "{metric}: {}", step[metric]);
    }
    // The model does something, or nothing here would show that it is trained.
    assert!(
        step["grad_norm"].as_f64().unwrap() > 0.0 && step["reward_std"].as_f64().unwrap() > 0.0,
        "{step}"
    );
    let completions = folder.read(&format!("{RUN}/completions.jsonl"));
    assert_eq!(completions.lines().count(), 4 * 16);
}

/// `nonfinite` names numbers that were NaN or infinite; what a score has no value for is another thing.
#[test]
fn only_numbers_are_called_nonfinite() {
    let (folder, _) = uninterrupted();
    for event in folder.events() {
        assert_eq!(event["nonfinite"], Value::Null, "{event}");
    }
}

#[test]
fn with_json_stdout_carries_events_alone() {
    let folder = Folder::new();
    let answer = folder
        .moim(&["--no-ui", "demo.toml", "--json", "--force"])
        .expect(0, &["Best Final Mean"]);
    let lines: Vec<Value> = answer
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, folder.events());
    assert_eq!(lines[0]["event"], "start");
    let ends: Vec<usize> = (0..lines.len())
        .filter(|&at| lines[at]["event"] == "done")
        .collect();
    assert_eq!(ends, [lines.len() - 1]);
    folder.expect_outcome_of(&uninterrupted().0);
    let resume = ["--no-ui", "--resume", RUN, "--json", "--quiet"];
    let answer = folder.moim(&resume).expect(0, &[]);
    assert_eq!(answer.stderr, "");
    let lines = answer.stdout.lines();
    let names: Vec<Value> = lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone())
        .collect();
    assert_eq!(names, ["resume", "done"]);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let (first, _) = uninterrupted();
    let again = Folder::new();
    again.train(&[]).expect(0, &[]);
    again.expect_outcome_of(first);
    assert_eq!(again.lasting_events(), first.lasting_events());
    let other = Folder::new();
    other.train(&["run.seed=4"]).expect(0, &[]);
    let (other, first) = (other.outcome(), first.outcome());
    for file in [
        "completions.jsonl",
        "epoch_2/adapter_model.safetensors",
        "epoch_2/optimizer.safetensors",
    ] {
        let of = |outcome: &[(String, Vec<u8>)]| {
            outcome
                .iter()
                .find(|(name, _)| name == file)
                .unwrap()
                .1
                .clone()
        };
        assert!(of(&other) != of(&first), "{file}");
    }
}

#[test]
fn what_the_formula_does_not_use_is_only_watched() {
    let formula = "reward.formula=(bertscore + rouge1)/2";
    let watched = Folder::new();
    watched.train(&[formula]).expect(0, &[]);
    let without = Folder::new();
    without
        .train(&[formula, "reward.commands=[]"])
        .expect(0, &[]);
    let weights = |folder: &Folder| {
        fs::read(folder.path(RUN).join("epoch_2/adapter_model.safetensors")).unwrap()
    };
    assert!(weights(&watched) == weights(&without));
    assert!(weights(&watched) != weights(&uninterrupted().0));
    assert!(
        watched
            .of_events("step", "rewards/length/mean")
            .iter()
            .all(Value::is_number)
    );
    assert!(
        without
            .of_events("step", "rewards/length/mean")
            .iter()
            .all(Value::is_null)
    );
}

#[test]
fn infer_with_the_saved_adapter_answers_as_the_run_did() {
    let (folder, _) = uninterrupted();
    let infer = |output: &str, adapter: &[&str]| {
        let place = folder.path(output);
        let mut arguments = vec![
            "infer",
            "--model",
            "base",
            "--input",
            "eval.json",
            "--device",
            "cpu",
        ];
        arguments.extend([
            "--max-completion-length",
            "32",
            "--max-prompt-length",
            "96",
            "--batch-size",
            "1",
        ]);
        arguments.extend(["--output", place.to_str().unwrap()]);
        folder
            .moim(&[&arguments[..], adapter].concat())
            .expect(0, &["6 answers"]);
        folder.read(output)
    };
    let epoch_2 = format!("{RUN}/epoch_2");
    let answers = infer("own_epoch2.json", &["--adapter", &epoch_2]);
    assert_eq!(
        answers,
        folder.read(&format!("{RUN}/infer_results/inference_epoch2.json"))
    );
    let untouched = infer("own_epoch0.json", &[]);
    assert_eq!(
        untouched,
        folder.read(&format!("{RUN}/infer_results/inference_epoch0.json"))
    );
    assert_ne!(
        answers, untouched,
        "the adapter changes no answer, so nothing is compared"
    );
}

#[test]
fn rank_gives_the_means_that_the_run_gave() {
    let (folder, _) = uninterrupted();
    let list = folder.moim(&["rank", RUN, "--json"]).expect(0, &[]).stdout;
    let list: Value = serde_json::from_str(&list).unwrap();
    let events = folder.events();
    let scores: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "score")
        .collect();
    assert_eq!(
        (scores.len(), list["files"].as_array().unwrap().len()),
        (3, 3)
    );
    for score in scores {
        let ranked = list["files"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["file"] == score["file"])
            .unwrap();
        for mean in ["final_mean", "rouge1", "bertscore", "em", "format"] {
            assert!(score[mean].is_number(), "{score}");
            assert_eq!(ranked[mean], score[mean], "{} {mean}", score["file"]);
        }
    }
    assert_eq!(list["best"]["file"], folder.of_events("done", "best")[0]);
}
