//! The checks before the first step: `plan --check`, a training that they stop, and one that continues.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::folder::{Answer, Folder, encoder};

/// The demo's model on the folder's own data: one step of eight short completions, unranked.
fn settings() -> Vec<String> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo/model");
    [
        format!("model.path={}", model.display()),
        "reward.formula=exact_match + format + rouge1".to_owned(),
        "rollout.max_completion_length=48".to_owned(),
        "inference.max_completion_length=48".to_owned(),
        "inference.before_training=false".to_owned(),
        "grpo.max_steps=1".to_owned(),
        "run.name=one".to_owned(),
    ]
    .to_vec()
}

fn run(folder: &Folder, command: &[&str], more: &[&str]) -> Answer {
    let settings = settings();
    let mut arguments = command.to_vec();
    for setting in settings
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
    {
        arguments.extend(["--set", setting]);
    }
    folder.moim(&arguments)
}

fn check(folder: &Folder, more: &[&str]) -> Answer {
    run(folder, &["plan", "demo.toml", "--check"], more)
}

/// The checks as JSON, by name.
fn checks(answer: &Answer) -> Vec<(String, Value)> {
    let plan: Value = serde_json::from_str(&answer.stdout).unwrap();
    let checks = plan["preflight"]["checks"].as_array().unwrap();
    let named = |check: &Value| (check["name"].as_str().unwrap().to_owned(), check.clone());
    checks.iter().map(named).collect()
}

fn events(folder: &Folder) -> Vec<Value> {
    let text = fs::read_to_string(folder.path("outputs/demo/one/events.jsonl")).unwrap();
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
    events.collect()
}

/// A reward that is the same for every completion.
const CONSTANT: &str = "reward.formula=1 + 0*rouge1";

#[test]
fn plan_check_shows_the_prompt_the_end_tokens_and_what_each_reward_gives() {
    let folder = Folder::new();
    let text = check(&folder, &[]).expect(0, &[]).stdout;
    for words in [
        "checks of demo.toml in ",
        "  ok      prompt         item \"1\", ",
        "\"<|im_end|>\"",
        "data.train 5 prompts of ",
        "3 for the reference answer of item \"1\", 0 for \"asdf 1234 ???\"",
        // The folder's two labels are training questions as well.
        "  warning leak           labels.json: 2 of 2 questions are also in train.json (ids 1, 2)",
        "the complete prompt:\n<|im_start|>user\n[질문]: 가다?<|im_end|>\n<|im_start|>assistant",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    assert!(!folder.path("outputs").exists());
    // Without the flag the plan is as it was.
    let plan = run(&folder, &["plan", "demo.toml"], &[]).expect(0, &[]);
    assert!(!plan.stdout.contains("checks of"), "{}", plan.stdout);
}

#[test]
fn plan_check_as_json_has_every_check_with_its_numbers() {
    let folder = Folder::new();
    let scored = format!("bertscore.model={}", encoder().display());
    let json = ["plan", "demo.toml", "--check", "--json"];
    let default_formula = "reward.formula=(bertscore + exact_match + (format + 3*rouge1)/2)/3";
    let answer = run(&folder, &json, &[&scored, default_formula]).expect(0, &[]);
    let plan: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(plan["preflight"]["errors"], 0);
    assert_eq!(plan["preflight"]["warnings"], 1);
    let checks = checks(&answer);
    let names: Vec<&str> = checks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "prompt",
            "stop",
            "prompt_lengths",
            "answer_lengths",
            "positions",
            "rewards",
            "question_types",
            "answers",
            "duplicates",
            "leak",
            "settings",
            "disk",
            "memory"
        ]
    );
    let of = |name: &str| &checks.iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!(of("prompt")["details"]["id"], "1");
    assert_eq!(
        of("leak")["details"]["eval_and_train"],
        json!([["1", "1"], ["2", "2"]])
    );
    let tried = &of("rewards")["details"]["tried"][0];
    assert_eq!(tried["bad_answer"], "asdf 1234 ???");
    let names: Vec<&Value> = tried["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| &value["name"])
        .collect();
    assert_eq!(
        names,
        ["format", "exact_match", "rouge1", "bertscore", "total"]
    );
    assert_eq!(of("disk")["details"]["save_points"], 1);
}

#[test]
fn what_is_absent_is_a_finding_beside_the_others() {
    let folder = Folder::new();
    let text = check(&folder, &["bertscore.model=nowhere"])
        .expect(2, &[])
        .stdout;
    for words in [
        "  error   rewards        bertscore.model = \"nowhere\"",
        "  ok      answer lengths",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    let text = check(&folder, &["model.path=nowhere"])
        .expect(2, &[])
        .stdout;
    for words in [
        "  error   inputs",
        "model.path = \"nowhere\"",
        "  ok      settings",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    folder.write("train.json", "[\n  {\"id\": \"1\",, }\n]");
    let text = check(&folder, &[]).expect(4, &[]).stdout;
    assert!(text.contains("train.json:2:"), "{text}");
}

#[test]
fn a_reward_that_never_differs_stops_a_training_before_anything_is_written() {
    let folder = Folder::new();
    let words = [
        "error: reward.formula = \"1 + 0*rouge1\" gives 1 to both the reference answer",
        "error: stopped before the first step by the checks (rewards)",
        "--force",
    ];
    let train = ["--no-ui", "demo.toml"];
    let answer = run(&folder, &train, &[CONSTANT]).expect(2, &words);
    assert!(!answer.stderr.contains("loading"), "{}", answer.stderr);
    assert!(!folder.path("outputs").exists());
    check(&folder, &[CONSTANT]).expect(2, &[]);
    // Warnings and errors are what --quiet leaves.
    let quiet = ["--no-ui", "demo.toml", "--quiet"];
    let answer = run(&folder, &quiet, &[CONSTANT]).expect(2, &words);
    assert!(!answer.stderr.contains("check    "), "{}", answer.stderr);
}

#[test]
fn force_continues_and_the_run_records_the_findings() {
    let folder = Folder::new();
    let forced = ["--no-ui", "demo.toml", "--force"];
    let words = [
        "warning: reward.formula",
        "continuing despite the checks (rewards)",
    ];
    run(&folder, &forced, &[CONSTANT]).expect(0, &words);
    let events = events(&folder);
    assert_eq!(
        (&events[0]["event"], &events[1]["event"]),
        (&json!("start"), &json!("preflight"))
    );
    assert_eq!(
        (&events[1]["errors"], &events[1]["warnings"]),
        (&json!(1), &json!(1))
    );
    let findings = events[1]["findings"].as_array().unwrap();
    assert_eq!(findings[0]["check"], "rewards");
    assert!(
        findings[1]["message"]
            .as_str()
            .unwrap()
            .contains("labels.json")
    );
    // Going on with it asks nothing again.
    let resume = ["--no-ui", "--resume", "outputs/demo/one"];
    let answer = folder.moim(&resume).expect(0, &[]);
    assert!(
        !answer.stderr.contains("reward.formula = "),
        "{}",
        answer.stderr
    );
}

#[test]
fn a_training_that_is_well_says_so_and_draws_nothing_other_than_without_the_checks() {
    let folder = Folder::new();
    let train = ["--no-ui", "demo.toml"];
    let answer = run(&folder, &train, &[]).expect(
        0,
        &[
            "check    prompt: item \"1\", ",
            "check    rewards: 3 for the reference answer",
            "check    no problem with: stop, prompt lengths, positions, question types, answers, duplicates, settings",
            "warning: labels.json: 2 of 2 questions",
        ],
    );
    // What is checked comes before what takes long.
    let place = |words: &str| answer.stderr.find(words).unwrap();
    assert!(place("check    prompt") < place("loading"));
    let log = fs::read_to_string(folder.path("outputs/demo/one/log.txt")).unwrap();
    assert!(log.contains("check    prompt"), "{log}");
}

#[test]
fn a_program_that_fails_is_reported_before_the_weights_are_loaded() {
    let folder = Folder::new();
    let command = "reward.commands=[{name = \"judge\", command = [\"sh\", \"-c\", \"echo no such model >&2; exit 1\"]}]";
    let more = [command, "reward.formula=exact_match + judge"];
    let words = ["reward command `judge`", "no such model"];
    let answer = run(&folder, &["--no-ui", "demo.toml"], &more).expect(2, &words);
    assert!(!answer.stderr.contains("loading"), "{}", answer.stderr);
    let text = check(&folder, &more).expect(2, &[]).stdout;
    assert!(text.contains("no such model"), "{text}");
    let late = "reward.commands=[{name = \"judge\", command = [\"sleep\", \"600\"], timeout_seconds = 0.2}]";
    let more = [late, "reward.formula=exact_match + judge"];
    let text = check(&folder, &more).expect(2, &[]).stdout;
    assert!(text.contains("timeout_seconds"), "{text}");
}

#[test]
fn force_and_check_are_refused_where_they_mean_nothing() {
    let folder = Folder::new();
    folder
        .moim(&["plan", "demo.toml", "--force"])
        .expect(2, &["--force"]);
    folder
        .moim(&["--no-ui", "demo.toml", "--check"])
        .expect(2, &["--check"]);
}
