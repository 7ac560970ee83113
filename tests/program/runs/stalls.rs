//! A phase without progress and numbers that are not finite are reported, counted, and survived.

use std::fs;

use serde_json::{Value, json};

use super::folder::{Folder, RUN, uninterrupted};

/// 1.2 s: much longer than anything this model does, but for a reward that is held back.
const WATCH: &str = "run.watchdog_minutes=0.02";

fn stalls(folder: &Folder) -> Vec<Value> {
    let mut events = folder.events();
    events.retain(|event| event["code"] == "stalled");
    events
}

#[test]
fn a_stalled_phase_is_reported_once_and_so_is_its_end() {
    let folder = Folder::new();
    folder.write("hold_3", "");
    let mut trainer = folder.spawn(&["--no-ui", "demo.toml", "--force", "--json", "--set", WATCH]);
    trainer.wait_until("an alarm", |folder| {
        stalls(folder).iter().any(|alarm| alarm["step"] == 3)
    });
    // Shown while it lasts, also on the terminal.
    let words = "alarm: warning at step 3: reward of step 3 has not moved for 1 s; last: only that it began";
    trainer.wait_until("the line", |folder| {
        folder.read("stderr.txt").contains(words)
    });
    assert!(
        folder
            .events()
            .iter()
            .all(|event| event["event"] != "moving")
    );
    fs::remove_file(folder.path("hold_3")).unwrap();
    let answer = trainer.end().expect(0, &["it moves again after "]);
    let told = stalls(&folder);
    let of_step_3: Vec<&Value> = told.iter().filter(|alarm| alarm["step"] == 3).collect();
    assert_eq!(of_step_3.len(), 1, "{told:?}");
    assert_eq!(
        (&of_step_3[0]["phase"], &of_step_3[0]["severity"]),
        (&json!("reward"), &json!("warning"))
    );
    assert_eq!(folder.of_events("moving", "phase").len(), told.len());
    // Two threads write them, so their order may be another.
    let mut lines: Vec<&str> = answer.stdout.lines().collect();
    lines.sort_unstable();
    let text = folder.read(&format!("{RUN}/events.jsonl"));
    let mut written: Vec<&str> = text.lines().collect();
    written.sort_unstable();
    assert_eq!(lines, written);
    let whole = &uninterrupted().0;
    assert_eq!(folder.lasting_events(), whole.lasting_events());
    // What is watched for is no part of what is computed.
    let settings = format!("{RUN}/experiment.toml");
    assert!(folder.read(&settings).contains("watchdog_minutes = 0.02"));
    folder.write(&settings, whole.read(&settings));
    folder.expect_outcome_of(whole);
}

#[test]
fn a_run_killed_while_it_is_stalled_resumes_like_any_other() {
    let folder = Folder::new();
    folder.write("hold_3", "");
    let mut trainer = folder.start(&[WATCH]);
    trainer.wait_until("an alarm", |folder| !stalls(folder).is_empty());
    trainer.kill();
    fs::remove_file(folder.path("hold_3")).unwrap();
    // Another limit is no reason to refuse.
    folder
        .moim(&[
            "--no-ui",
            "--resume",
            RUN,
            "--set",
            "run.watchdog_minutes=0",
        ])
        .expect(
            0,
            &["changed since the run started: run.watchdog_minutes: 0.02 → 0"],
        );
    assert_eq!(folder.lasting_events(), uninterrupted().0.lasting_events());
}

/// Rewards of `script`, which gets `$length`, the completion's, and `$index`.
fn with_rewards(script: &str) -> Folder {
    let folder = Folder::new();
    let program = format!(
        r#"
while IFS= read -r line; do
    completion=${{line#*\"completion\":\"}}
    completion=${{completion%%\",\"label\":*}}
    length=${{#completion}}
    index=${{line##*\"index\":}}
    index=${{index%%\}}*}}
    {script}
done
"#
    );
    folder.write("reward.sh", program);
    folder
}

#[test]
fn a_reward_that_is_no_number_counts_as_none_and_is_counted() {
    // The checks before the first step have taken the indices 0 to 3.
    let script = r#"case $index in
        7|21) echo "{\"index\": $index, \"reward\": NaN}" ;;
        22) echo "{\"index\": $index, \"reward\": -Infinity}" ;;
        *) echo "{\"index\": $index, \"reward\": $((length % 5))}" ;;
    esac"#;
    let folder = with_rewards(script);
    folder.train(&[]).expect(
        0,
        &[
            "alarm: warning at step 1: the reward `length` was NaN or infinite for 1 completion(s)",
            "alarm: warning at step 2: the reward `length` was NaN or infinite for 2 completion(s)",
        ],
    );
    let codes = folder.of_events("alarm", "code");
    assert_eq!(codes, ["nonfinite_reward", "nonfinite_reward"]);
    assert_eq!(folder.of_events("alarm", "count"), [1, 2]);
    assert_eq!(folder.of_events("done", "nonfinite_rewards"), [3]);
    let completions = folder.read(&format!("{RUN}/completions.jsonl"));
    let without = completions.lines().filter(|line| {
        let record: Value = serde_json::from_str(line).unwrap();
        // Left out of the sum, it leaves the completion the other rewards.
        assert!(record["reward"].is_number());
        record["rewards"]["length"].is_null()
    });
    assert_eq!(without.count(), 3);
}

#[test]
fn steps_without_a_finite_gradient_are_counted_and_end_the_run_at_its_last_save_point() {
    // The slope of the loss overflows in f32.
    let sign = r#"echo "{\"index\": $index, \"reward\": $((index % 2 * 2 - 1))e300}""#;
    let folder = with_rewards(sign);
    let settings = [
        "reward.formula=length",
        "grpo.scale_rewards=none",
        "grpo.num_train_epochs=4",
    ];
    let words = [
        "5 steps in a row had a loss or gradient that is not finite",
        "needs a new run",
        "it ended after step 4; --resume resumes from its last save point, epoch_2",
    ];
    folder.train(&settings).expect(3, &words);
    let alarms = folder.of_events("alarm", "code");
    let dropped = alarms.iter().filter(|code| **code == "nonfinite");
    assert_eq!(dropped.count(), 5, "{alarms:?}");
    assert_eq!(folder.of_events("done", "dropped_steps"), [5]);
    let message = folder.of_events("done", "message")[0].clone();
    assert!(message.as_str().unwrap().contains("epoch_2"), "{message}");
    assert_eq!(folder.json(&format!("{RUN}/run.json"))["message"], message);
    let state = folder.json(&format!("{RUN}/epoch_2/trainer_state.json"));
    assert_eq!((&state["step"], &state["updates"]), (&json!(4), &json!(0)));
    // Nothing had been learned, so nothing is lost when the rewards are put right.
    let weights = |epoch: usize| {
        let path = format!("{RUN}/epoch_{epoch}/adapter_model.safetensors");
        fs::read(folder.path(&path)).unwrap()
    };
    assert!(weights(1) == weights(2));
}
