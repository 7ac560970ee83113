mod overrides;
mod rules;

use std::path::{Path, PathBuf};

use super::*;

const SMALLEST: &str = r#"
[model]
path = "models/tiny"
[data]
train = "train.json"
eval = "dev.json"
"#;

fn with(more: &str) -> String {
    format!("{SMALLEST}{more}\n")
}

fn faults_of(text: &str) -> Vec<String> {
    match Experiment::parse(text, &[]) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(Fault::to_string).collect(),
    }
}

fn overridden(overrides: &[&str]) -> Result<Experiment, Vec<String>> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Experiment::parse(SMALLEST, &overrides)
        .map_err(|faults| faults.iter().map(Fault::to_string).collect())
}

fn one_fault(text: &str) -> String {
    let faults = faults_of(text);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults[0].clone()
}

#[test]
fn the_smallest_file_has_every_default() {
    let experiment = Experiment::parse(SMALLEST, &[]).unwrap();
    let mut expected = Experiment::default();
    expected.model.path = PathBuf::from("models/tiny");
    expected.data.train = PathBuf::from("train.json");
    expected.data.eval = PathBuf::from("dev.json");
    assert_eq!(experiment, expected);
    assert_eq!(experiment.grpo.num_generations, 8);
    assert_eq!(experiment.grpo.learning_rate, 1e-6);
    assert_eq!(experiment.grpo.loss_type, LossType::Dapo);
    assert_eq!(
        experiment.lora.target_modules.names(),
        ["q_proj", "k_proj", "v_proj", "o_proj"]
    );
    assert_eq!(experiment.data.labels_path(), Path::new("dev.json"));
}

#[test]
fn every_default_and_every_value_survives_being_written() {
    let experiment = Experiment::parse(SMALLEST, &[]).unwrap();
    assert_eq!(
        Experiment::parse(&experiment.to_toml(), &[]).unwrap(),
        experiment
    );

    let rich = with(
        r#"
        labels = "labels.json"
        instruct = 'C:\strange "quotes".json'
        few_shot = "train.json"
        num_few_shot = 5
        system_prompt = """두 줄
의 지시"""
        chat_template_kwargs = { enable_thinking = false, depth = { level = 2, names = ["가", "나"] } }
        [lora]
        target_modules = "all-linear"
        lora_alpha = 16
        [grpo]
        epsilon_high = 0.28
        delta = 1.5
        learning_rate = 1.2345678901234567e-7
        scale_rewards = false
        max_steps = 10
        [rollout]
        min_p = 0.05
        stop_token_ids = [1, 0x20, 4294967295]
        [[reward.commands]]
        name = "길이"
        command = ["python3", "length.py"]
        [[reward.commands]]
        name = "other"
        command = ["./other"]
        timeout_seconds = 5
        [run]
        seed = 9223372036854775807
        report_to = ["tensorboard", "csv"]
        save_total_limit = 2
        name = "one"
        [memory]
        budget_gib = 22
        [model]
        "#,
    )
    .replace("[model]\n        ", "");
    let experiment = Experiment::parse(&rich, &[]).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(experiment.rollout.stop_token_ids, [1, 32, u32::MAX]);
    assert_eq!(experiment.grpo.scale_rewards, ScaleRewards::None);
    assert_eq!(experiment.lora.target_modules, TargetModules::all_linear());
    assert_eq!(experiment.reward.commands[0].timeout_seconds, 60.0);
    assert_eq!(experiment.data.chat_template_kwargs["depth"]["level"], 2);
    let text = experiment.to_toml();
    assert_eq!(Experiment::parse(&text, &[]).unwrap(), experiment, "{text}");
    // Every key of every section is in the text, set or as a comment.
    for key in Experiment::keys() {
        assert!(
            text.lines()
                .any(|line| line.trim_start_matches("# ").starts_with(key.name)),
            "{} is not written",
            key.path()
        );
    }
    let json = serde_json::to_string(&experiment).unwrap();
    assert_eq!(
        serde_json::from_str::<Experiment>(&json).unwrap(),
        experiment
    );
}

#[test]
fn every_key_has_help_and_an_expected_value() {
    let keys = Experiment::keys();
    let names: std::collections::BTreeSet<String> = keys.iter().map(Key::path).collect();
    assert_eq!(names.len(), keys.len());
    for key in keys {
        assert!(
            !key.help.is_empty() && !key.expected.is_empty(),
            "{}",
            key.path()
        );
    }
}

#[test]
fn all_faults_are_listed_at_once_with_their_lines() {
    let text = r#"[model]
path = 3
device = "gpu"
[grpo]
num_generation = 4
num_generations = "8"
loss_type = "dappo"
temperature = 1.0
epsilon = 1.5
[rolout]
top_p = 0.9
[data]
train = "train.json"
num_few_shot = 2
"#;
    assert_eq!(
        faults_of(text),
        [
            "line 2, column 8: model.path = 3: is a whole number; write a path in quotes, relative to the current directory or absolute",
            "line 3, column 10: model.device = \"gpu\": unknown device; write \"auto\", \"cpu\", \"cuda\", \"cuda:N\" or \"wgpu\"",
            "line 5, column 1: grpo.num_generation: unknown key; did you mean num_generations?",
            "line 6, column 19: grpo.num_generations = \"8\": is a string; write a whole number of at least 0, without quotes",
            "line 7, column 13: grpo.loss_type = \"dappo\": not one of the allowed values; did you mean \"dapo\"? Allowed: \"grpo\", \"bnpo\", \"dr_grpo\", \"dapo\", \"luspo\", \"cispo\", \"sapo\", \"vespo\"",
            "line 8, column 1: grpo.temperature: unknown key; did you mean rollout.temperature or inference.temperature?",
            "line 9, column 1: grpo.epsilon = 1.5: is out of range; write a number between 0 and 1, e.g. 0.2",
            "line 10, column 2: [rolout]: unknown; did you mean [rollout]?",
            "line 14, column 1: data.num_few_shot = 2: needs records to draw examples from; write few_shot = \"data/…/train.json\" under [data], or num_few_shot = 0",
            "data.eval: is missing; write eval = \"data/…/dev.json\" under [data]",
        ]
    );
}

#[test]
fn syntax_errors_have_line_and_column() {
    let faults = faults_of("[model]\npath = \"a\n[grpo]\nbeta = = 1\nepsilon = 9 9\nepsilom = 1\n");
    assert!(faults[0].starts_with("line 2, column "), "{faults:#?}");
    assert!(
        faults
            .iter()
            .any(|fault| fault.starts_with("line 4, column ")),
        "{faults:#?}"
    );
    assert!(
        faults
            .iter()
            .any(|fault| fault.starts_with("line 5, column ")),
        "{faults:#?}"
    );
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("did you mean epsilon")),
        "{faults:#?}"
    );
    assert!(
        !faults.iter().any(|fault| fault.contains("is missing")),
        "{faults:#?}"
    );

    let twice = one_fault(&with("[grpo]\nbeta = 0.1\nbeta = 0.2"));
    assert!(
        twice.starts_with("line 9, column 1: not TOML: duplicate key"),
        "{twice}"
    );
}

#[test]
fn sections_of_the_wrong_shape_are_refused() {
    assert!(one_fault(&with("[[grpo]]\nbeta = 1")).contains("[grpo] in single brackets"));
    let fault = one_fault(&format!("lora = 3\n{SMALLEST}"));
    assert!(
        fault.contains("lora: is a whole number where a section belongs"),
        "{fault}"
    );
    let fault = one_fault(&format!("num_generations = 3\n{SMALLEST}"));
    assert!(
        fault.contains("did you mean grpo.num_generations?"),
        "{fault}"
    );
    let fault = one_fault(&with("[grpo]\nuse_vllm = true"));
    assert!(
        fault.contains("unknown key; remove it; the nearest known key is "),
        "{fault}"
    );
}

#[test]
fn loading_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.toml");
    std::fs::write(&path, with("[grpo]\nbeta = -1\nepsilon = 0")).unwrap();
    let error = Experiment::load(&path, &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("{}: 2 faults\n  line 8, ", path.display())),
        "{error}"
    );
    assert_eq!(
        error.faults().iter().map(Fault::line).collect::<Vec<_>>(),
        [Some(8), Some(9)]
    );

    let error = Experiment::load(&folder.path().join("demmo.toml"), &[]).unwrap_err();
    assert!(error.to_string().contains("did you mean"), "{error}");

    std::fs::write(&path, b"[model]\npath = \"\xff\"").unwrap();
    let error = Experiment::load(&path, &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("line 2, column 9: not UTF-8 text"),
        "{error}"
    );
    assert_eq!(experiment_name(&path), "demo");
}

#[test]
fn files_are_checked_separately() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut experiment = Experiment::default();
    experiment.model.path = at("model");
    experiment.data.train = at("train.json");
    experiment.data.eval = at("dev.json");
    assert!(experiment.validate().is_empty());
    let keys = |faults: Vec<Fault>| {
        faults
            .into_iter()
            .map(|fault| fault.key)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(experiment.check_files()),
        ["model.path", "data.train", "data.eval", "bertscore.model"]
    );
    std::fs::create_dir(at("model")).unwrap();
    for name in [
        "model/config.json",
        "model/tokenizer.json",
        "train.json",
        "dev.json",
    ] {
        std::fs::write(at(name), "{}").unwrap();
    }
    let faults = experiment.check_files();
    assert!(
        faults[0]
            .to_string()
            .contains("has no .safetensors weights"),
        "{}",
        faults[0]
    );
    std::fs::write(at("model/model.safetensors"), "").unwrap();
    experiment.bertscore.model = Some(at("model"));
    experiment.reward.commands = vec![RewardCommand {
        name: "x".to_owned(),
        command: vec!["./no-such-program".to_owned()],
        timeout_seconds: 1.0,
    }];
    assert_eq!(
        keys(experiment.check_files()),
        ["reward.commands[0].command"]
    );
    assert_eq!(keys(experiment.check_sft_files()), ["sft.output_dir"]);
}

#[test]
fn differences_show_what_a_resume_tolerates() {
    let before = Experiment::parse(SMALLEST, &[]).unwrap();
    let mut after = before.clone();
    assert!(Experiment::differences(&before, &after).is_empty());
    after.grpo.beta = 0.04;
    after.run.name = Some("b".to_owned());
    let differences = Experiment::differences(&before, &after);
    assert_eq!(differences.len(), 2);
    assert_eq!(differences[0].to_string(), "grpo.beta: 0.0 → 0.04");
    assert!(!differences[0].is_safe_on_resume());
    assert_eq!(differences[1].to_string(), "run.name: not set → \"b\"");
    assert!(differences[1].is_safe_on_resume());
    let hindrances = |after: &Experiment| -> Vec<String> {
        let differences = Experiment::differences_unsafe_on_resume(&before, after);
        differences.into_iter().map(|found| found.key).collect()
    };
    assert_eq!(hindrances(&after), ["grpo.beta"]);
    after.model.num_devices = 2;
    assert_eq!(hindrances(&after), ["model.num_devices", "grpo.beta"]);
    let mut accumulating = before.clone();
    accumulating.grpo.gradient_accumulation_steps = 2;
    accumulating.grpo.beta = 0.04;
    let between = Experiment::differences_unsafe_on_resume(&accumulating, &after);
    assert!(between.is_empty(), "{between:?}");
    // An input may move, since its content is compared; it must not be added or removed.
    let mut moved = before.clone();
    moved.model.path = "elsewhere".into();
    moved.data.labels = Some("labels.json".into());
    assert_eq!(hindrances(&moved), ["model.path", "data.labels"]);
    let differences = Experiment::differences(&before, &moved);
    assert!(differences[0].is_path_of_input() && !differences[1].is_path_of_input());
    let known: Vec<String> = Experiment::keys().iter().map(Key::path).collect();
    for key in SAFE_ON_RESUME {
        assert!(known.iter().any(|known| known == key), "{key} is no key");
    }
}
