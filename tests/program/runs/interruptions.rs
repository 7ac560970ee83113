//! Runs that are killed, interrupted or stopped, and resumed: they end with the same bytes as the
//! uninterrupted run.

use std::fs;
use std::sync::OnceLock;

use rustix::process::Signal;
use serde_json::Value;

use super::folder::{Answer, Folder, RUN, uninterrupted};

/// Runs killed as soon as they had written a number of events, and resumed.
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
            folder.read("stderr.txt").contains("stopping: will save")
        });
        fs::remove_file(folder.path("hold_4")).unwrap();
        trainer.end().expect(
            code,
            &["stopped and saved; to resume: moim --no-ui --resume outputs/demo/one"],
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
        folder.read("stderr.txt").contains("press again")
    });
    trainer.signal(Signal::INT);
    // The reward still holds the step back: nothing was waited for.
    trainer
        .end()
        .expect(130, &["stopped immediately", "--resume"]);
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
    // Requested by a file, so no signal is reported.
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
        .expect(0, &["(selected): B×A×D = 8×2×1 = 16 completions/step"]);
    assert_eq!(whole.of_events("step", "step"), [1, 2, 3, 4, 5, 6, 7, 8]);
    let kl = whole.of_events("step", "kl");
    assert!(kl[7].as_f64().unwrap() > 0.0, "{kl:?}");
    let by_prompts = Folder::new();
    by_prompts
        .train(&prompts)
        .expect(0, &["(selected): B×G×A×D = 2×4×2×1 = 16 completions/step"]);
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

/// Two slices of a generation, each twice; what follows from the old policy and from entropies too.
const SHARED_GENERATION: [&str; 8] = [
    "grpo.per_device_train_batch_size=4",
    "grpo.steps_per_generation=2",
    "grpo.num_iterations=2",
    "grpo.loss_type=cispo",
    "grpo.epsilon_high=1.2",
    "grpo.top_entropy_quantile=0.5",
    "grpo.multi_objective_aggregation=normalize_then_sum",
    "reward.soft_punish_cache=4",
];

#[test]
fn steps_that_share_a_generation_resume_to_the_same_bytes() {
    let whole = Folder::new();
    whole.train(&SHARED_GENERATION).expect(0, &["÷ (1×2) × 2"]);
    let all: Vec<usize> = (1..=32).collect();
    assert_eq!(whole.of_events("step", "step"), all);
    let clipped = whole.of_events("step", "cispo_clip_ratio");
    assert_eq!(clipped.len(), 32);
    // A generation is four steps; its first one is on the policy that sampled.
    assert_eq!(clipped[4].as_f64(), Some(0.0));
    assert!(!whole.of_events("step", "rewards/overlong/mean")[0].is_null());
    for steps in [3, 4, 6, 17] {
        let folder = Folder::new();
        let mut trainer = folder.start(&SHARED_GENERATION);
        trainer.wait_until("steps", |folder| {
            folder.of_events("step", "step").len() >= steps
        });
        trainer.kill();
        folder.resume().expect(0, &[]);
        println!("killed after {steps} steps");
        folder.expect_outcome_of(&whole);
        assert_eq!(folder.of_events("step", "step"), all);
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
    // The latest of each kind stays, and what ranked first when the others had to go.
    let best = whole.of_events("score", "best");
    let is_kept = |name: &str| whole.path(RUN).join(name).is_dir();
    assert_eq!(is_kept("step_1"), best[1] == "inference_step1.json");
    assert_eq!(is_kept("epoch_1"), best[2] == "inference_epoch1.json");
    assert!(is_kept("step_3") && is_kept("epoch_2"));
}
