//! The whole loop as a script meets it: train, infer each epoch, score, rank, and go on after
//! whatever stopped it. Every test runs the program itself on a model that takes milliseconds.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use rustix::process::Signal;
use serde_json::{Value, json};

#[path = "loop/folder.rs"]
mod folder;
#[path = "loop/refusals.rs"]
mod refusals;

use folder::{Answer, Folder, RUN, uninterrupted};

#[test]
fn a_whole_run_leaves_every_file_and_prints_the_ranked_list() {
    let (folder, answer) = uninterrupted();
    let mut files = vec![
        "experiment.toml",
        "run.json",
        "events.jsonl",
        "completions.jsonl",
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
    // Nothing half-written is left, and nothing that nobody knows.
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
        "(in force): B×A×D = 16×1×1 = 16 completions/step",
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
            &["start", "inference", "score"][..],
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
    let step = &events[3];
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
        .moim(&["--no-ui", "demo.toml", "--json"])
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

/// Runs killed as soon as they had written so many events, and resumed.
fn killed_and_resumed() -> &'static [(usize, Folder, Answer)] {
    static RUNS: OnceLock<Vec<(usize, Folder, Answer)>> = OnceLock::new();
    RUNS.get_or_init(|| {
        let all = uninterrupted().0.events().len();
        (1..all)
            .map(|events| {
                let folder = Folder::new();
                let mut trainer = folder.start(&[]);
                trainer.wait_until("events", |folder| folder.events().len() >= events);
                trainer.kill();
                let answer = folder.resume();
                (events, folder, answer)
            })
            .collect()
    })
}

#[test]
fn killed_anywhere_and_resumed_a_run_ends_with_the_same_bytes() {
    for (events, folder, answer) in killed_and_resumed() {
        println!("killed after {events} events");
        answer.clone().expect(0, &[]);
        folder.expect_outcome_of(&uninterrupted().0);
        assert_eq!(folder.of_events("step", "step"), [1, 2, 3, 4]);
        assert_eq!(folder.json(&format!("{RUN}/run.json"))["state"], "finished");
    }
}

#[test]
fn killed_anywhere_and_resumed_a_run_lacks_no_event_and_has_none_twice() {
    let whole = uninterrupted().0.lasting_events();
    let names = |events: &[Value]| -> Vec<String> {
        events
            .iter()
            .map(|event| {
                format!(
                    "{} {} {}",
                    event["event"], event["step"], event["checkpoint"]
                )
            })
            .collect()
    };
    let mut faults = Vec::new();
    for (events, folder, _) in killed_and_resumed() {
        let resumed = folder.lasting_events();
        if resumed != whole {
            let lacking: Vec<String> = names(&whole)
                .into_iter()
                .filter(|name| !names(&resumed).contains(name))
                .collect();
            faults.push(format!("killed after {events} events: lacks {lacking:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Its directory is made first, then experiment.toml, then everything else.
#[test]
fn killed_before_it_began_a_run_is_resumed_from_nothing() {
    let folder = Folder::new();
    let (whole, _) = uninterrupted();
    let experiment = format!("{RUN}/experiment.toml");
    folder.write(&experiment, whole.read(&experiment));
    folder.resume().expect(0, &[]);
    folder.expect_outcome_of(whole);
    assert_eq!(folder.lasting_events(), whole.lasting_events());
}

#[test]
fn killed_while_it_answers_and_resumed_a_run_answers_again() {
    // The answers take milliseconds, so the moment may be missed.
    for _ in 0..10 {
        let folder = Folder::new();
        let mut trainer = folder.start(&[]);
        trainer.wait_until("epoch_1", |folder| {
            folder.path(RUN).join("epoch_1").exists()
        });
        trainer.kill();
        let is_met = !folder
            .path(RUN)
            .join("infer_results/inference_epoch1.json")
            .exists();
        folder.resume().expect(0, &[]);
        folder.expect_outcome_of(&uninterrupted().0);
        if is_met {
            assert_eq!(folder.lasting_events(), uninterrupted().0.lasting_events());
            return;
        }
    }
    panic!("no run was killed between epoch_1 and its answers");
}

#[test]
fn a_finished_run_is_resumed_to_the_same_end() {
    let folder = Folder::new();
    folder.train(&[]).expect(0, &[]);
    folder.resume().expect(0, &[]);
    folder.expect_outcome_of(&uninterrupted().0);
    assert_eq!(folder.lasting_events(), uninterrupted().0.lasting_events());
}

#[test]
fn an_interrupt_saves_and_stops_and_what_follows_is_as_without_it() {
    for (events, signal, code) in [
        (1, Signal::INT, 130),
        (4, Signal::INT, 130),
        (5, Signal::TERM, 143),
        (9, Signal::INT, 130),
    ] {
        let folder = Folder::new();
        // However late the signal is, the run is not over.
        folder.write("hold_4", "");
        let mut trainer = folder.start(&[]);
        trainer.wait_until("events", |folder| folder.events().len() >= events);
        trainer.signal(signal);
        trainer.wait_until("the signal to be taken", |folder| {
            folder.read("stderr.txt").contains("stopping: saving")
        });
        fs::remove_file(folder.path("hold_4")).unwrap();
        trainer.end().expect(
            code,
            &["stopped and saved; to go on: moim --no-ui --resume outputs/demo/one"],
        );
        let run = folder.json(&format!("{RUN}/run.json"));
        assert_eq!(run["state"], "stopped");
        if events > 3 {
            let saved = run["latest_checkpoint"].as_str().unwrap();
            let state = folder.json(&format!("{RUN}/{saved}/trainer_state.json"));
            assert_eq!(state["step"], run["step"]);
        }
        folder.resume().expect(0, &[]);
        println!("interrupted after {events} events");
        folder.expect_outcome_of(&uninterrupted().0);
        assert_eq!(folder.of_events("step", "step"), [1, 2, 3, 4]);
    }
}

/// The interrupt comes when the completions have their rewards and nothing is learned from them yet.
#[test]
fn an_interrupt_between_rewards_and_update_counts_nothing_twice() {
    let folder = Folder::new();
    folder.write("interrupt_2", "");
    folder.train(&[]).expect(130, &["stopped and saved"]);
    assert_eq!(
        folder.json(&format!("{RUN}/step_1/trainer_state.json"))["step"],
        1
    );
    folder.resume().expect(0, &[]);
    assert_eq!(
        folder.of_events("step", "num_tokens"),
        uninterrupted().0.of_events("step", "num_tokens")
    );
    folder.expect_outcome_of(&uninterrupted().0);
}

#[test]
fn a_second_interrupt_ends_at_once_and_loses_nothing_saved() {
    let folder = Folder::new();
    folder.write("hold_3", "");
    let mut trainer = folder.start(&[]);
    trainer.wait_until("step 3", |folder| folder.path("at_3").exists());
    trainer.signal(Signal::INT);
    trainer.wait_until("the first to be taken", |folder| {
        folder.read("stderr.txt").contains("once more")
    });
    trainer.signal(Signal::INT);
    // The reward still holds the step back: nothing was waited for.
    trainer.end().expect(130, &["stopped at once", "--resume"]);
    fs::remove_file(folder.path("hold_3")).unwrap();
    folder.resume().expect(0, &[]);
    folder.expect_outcome_of(&uninterrupted().0);
}

#[test]
fn requests_in_the_control_folder_are_taken() {
    let folder = Folder::new();
    let control = |name: &str| folder.write(&format!("{RUN}/control/{name}"), "");
    for step in [1, 3] {
        folder.write(&format!("hold_{step}"), "");
    }
    let release = |step: usize| fs::remove_file(folder.path(&format!("hold_{step}"))).unwrap();
    let mut trainer = folder.start(&[]);
    trainer.wait_until("step 1", |folder| folder.path("at_1").exists());
    control("save");
    release(1);
    trainer.wait_until("step 3", |folder| folder.path("at_3").exists());
    assert!(
        !folder.path(RUN).join("control/save").exists(),
        "the request is still there"
    );
    assert!(
        folder
            .path(RUN)
            .join("step_1/adapter_model.safetensors")
            .exists()
    );
    control("pause");
    release(3);
    trainer.wait_until("a pause", |folder| {
        folder.json(&format!("{RUN}/run.json"))["state"] == "paused"
    });
    control("resume");
    control("stop");
    // Asked for by a file, so no signal is told of.
    trainer.end().expect(0, &["stopped and saved"]);
    assert_eq!(folder.json(&format!("{RUN}/run.json"))["state"], "stopped");
    assert!(folder.path(RUN).join("step_3/trainer_state.json").exists());
    folder.resume().expect(0, &[]);
    folder.expect_outcome_of(&uninterrupted().0);
}

/// μ = 2, a reference policy, dropout and accumulation.
const EVERYTHING: [&str; 4] = [
    "grpo.num_iterations=2",
    "grpo.beta=0.05",
    "lora.lora_dropout=0.1",
    "grpo.gradient_accumulation_steps=2",
];

#[test]
fn everything_at_once_resumes_to_the_same_bytes_in_both_batch_units() {
    let completions = [&EVERYTHING[..], &["grpo.per_device_train_batch_size=8"]].concat();
    let prompts = [
        &EVERYTHING[..],
        &[
            "grpo.per_device_train_batch_size=2",
            "grpo.batch_unit=prompts",
        ],
    ]
    .concat();
    let whole = Folder::new();
    whole
        .train(&completions)
        .expect(0, &["(in force): B×A×D = 8×2×1 = 16 completions/step"]);
    assert_eq!(whole.of_events("step", "step"), [1, 2, 3, 4, 5, 6, 7, 8]);
    let kl = whole.of_events("step", "kl");
    assert!(kl[7].as_f64().unwrap() > 0.0, "{kl:?}");
    let by_prompts = Folder::new();
    by_prompts
        .train(&prompts)
        .expect(0, &["(in force): B×G×A×D = 2×4×2×1 = 16 completions/step"]);
    // Two prompts are eight completions: the same steps. Only the files of settings differ.
    by_prompts.write(
        &format!("{RUN}/experiment.toml"),
        whole.read(&format!("{RUN}/experiment.toml")),
    );
    by_prompts.expect_outcome_of(&whole);
    for (settings, steps) in [(&completions, 1), (&prompts, 2), (&completions, 5)] {
        let folder = Folder::new();
        let mut trainer = folder.start(settings);
        trainer.wait_until("steps", |folder| {
            folder.of_events("step", "step").len() >= steps
        });
        trainer.kill();
        folder.resume().expect(0, &[]);
        folder.write(
            &format!("{RUN}/experiment.toml"),
            whole.read(&format!("{RUN}/experiment.toml")),
        );
        println!("killed after {steps} steps");
        folder.expect_outcome_of(&whole);
        assert_eq!(folder.of_events("step", "step"), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}

#[test]
fn save_points_at_steps_are_answered_pruned_and_resumed_from() {
    let settings = [
        "run.save_strategy=steps",
        "run.save_steps=1",
        "run.save_total_limit=1",
        "inference.before_training=false",
    ];
    let whole = Folder::new();
    whole.train(&settings).expect(0, &[]);
    let answered = ["step_1", "epoch_1", "step_3", "epoch_2"];
    assert_eq!(whole.of_events("score", "checkpoint"), answered);
    for events in [3, 5, 9, 12] {
        let folder = Folder::new();
        let mut trainer = folder.start(&settings);
        trainer.wait_until("events", |folder| folder.events().len() >= events);
        trainer.kill();
        folder.resume().expect(0, &[]);
        println!("killed after {events} events");
        assert_eq!(folder.lasting_events(), whole.lasting_events());
        for file in [
            "completions.jsonl",
            "infer_results/inference_step3.json",
            "infer_results/inference_epoch1.json",
            "epoch_2/adapter_model.safetensors",
            "epoch_2/optimizer.safetensors",
        ] {
            let read = |folder: &Folder| fs::read(folder.path(RUN).join(file)).unwrap();
            assert!(read(&folder) == read(&whole), "{file}");
        }
    }
    let kept = |folder: &Folder| {
        ["step_1", "epoch_1", "step_3", "epoch_2"].map(|name| folder.path(RUN).join(name).exists())
    };
    assert_eq!(kept(&whole), [false, false, true, true]);
    // A run killed between saving epoch_2 and removing epoch_1 has both.
    let (old, new) = (
        whole.path(RUN).join("epoch_1"),
        whole.path(RUN).join("epoch_2"),
    );
    fs::create_dir(&old).unwrap();
    for entry in fs::read_dir(new).unwrap().flatten() {
        fs::copy(entry.path(), old.join(entry.file_name())).unwrap();
    }
    let state = fs::read_to_string(old.join("trainer_state.json")).unwrap();
    fs::write(
        old.join("trainer_state.json"),
        state.replace("\"step\": 4", "\"step\": 2"),
    )
    .unwrap();
    whole.resume().expect(0, &[]);
    assert_eq!(kept(&whole), [false, false, true, true]);
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
