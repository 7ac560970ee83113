//! Anything that cannot be trained is refused with a message that names the problem and how to fix it, and
//! the exit code of its kind: 2 configuration, 3 training, 4 data. `--nocapture` shows every message.

use std::fs;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};

use super::folder::{Answer, EXPERIMENT, Folder, RUN, base_model, uninterrupted};

/// Checks the exit code and the message, and shows them.
#[track_caller]
fn expect_refusal(input: &str, answer: Answer, code: i32, words: &[&str]) -> Answer {
    let message = answer
        .stderr
        .find("error: ")
        .map_or(answer.stderr.as_str(), |at| &answer.stderr[at..]);
    println!(
        "| {input} | {} | {} |",
        answer.code,
        message.trim().replace('\n', "<br>")
    );
    answer.expect(code, &[&["error: "], words].concat())
}

/// A refusal before anything was written.
#[track_caller]
fn refused(input: &str, folder: &Folder, settings: &[&str], code: i32, words: &[&str]) {
    expect_refusal(input, folder.train(settings), code, words);
    assert!(
        !folder.path("outputs").exists(),
        "{input}: a run directory was made"
    );
}

#[test]
fn a_configuration_that_cannot_be() {
    let folder = Folder::new();
    expect_refusal(
        "missing experiment",
        folder.moim(&["--no-ui", "dmeo.toml"]),
        2,
        &["dmeo.toml", "did you mean ./demo.toml?"],
    );
    folder.write(
        "typo.toml",
        EXPERIMENT.replace("num_generations", "num_generation"),
    );
    expect_refusal(
        "unknown key",
        folder.moim(&["--no-ui", "typo.toml"]),
        2,
        &["line 13", "num_generation", "did you mean num_generations?"],
    );
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "B not a multiple of G",
            &["grpo.per_device_train_batch_size=10"],
            &["B = 10", "G = num_generations = 4", "8 or 12", "batch_unit"],
        ),
        (
            "G = 1",
            &["grpo.num_generations=1"],
            &["grpo.num_generations = 1", "at least 2"],
        ),
        (
            "learning rate above 1",
            &["grpo.learning_rate=10.0"],
            &["grpo.learning_rate", "between 0 and 1"],
        ),
        (
            "formula with an unknown name",
            &["reward.formula=rouge + format"],
            &["reward.formula", "rouge", "rouge1"],
        ),
        (
            "formula that does not parse",
            &["reward.formula=(rouge1 + "],
            &["reward.formula"],
        ),
        (
            "bertscore in the formula, no encoder",
            &["bertscore.model=no-such-encoder"],
            &["bertscore.model", "no-such-encoder"],
        ),
        (
            "reward command that is no program",
            &["reward.commands=[{name = \"x\", command = [\"no-such-program\"]}]"],
            &["reward.commands[0].command", "no-such-program", "PATH"],
        ),
        (
            "no device",
            &["model.num_devices=0"],
            &["model.num_devices", "at least 1"],
        ),
        (
            "two devices, one of them named",
            &["model.num_devices=2", "model.device=cuda:0"],
            &["model.num_devices", "needs 2 devices"],
        ),
        (
            "more devices than the training set has prompts for",
            &["model.num_devices=3"],
            &["8 prompt(s)", "takes 12", "model.num_devices"],
        ),
        (
            "a budget of memory for nothing",
            &["memory.budget_gib=0.01"],
            &["memory.budget_gib = 0.01", " needs ", "moim plan"],
        ),
        (
            "a budget of memory that is none",
            &["memory.budget_gib=0.0"],
            &["memory.budget_gib", "above 0"],
        ),
        (
            "missing model folder",
            &["model.path=no-such-model"],
            &["model.path", "no-such-model"],
        ),
        (
            "missing data",
            &["data.train=no-such.json"],
            &["data.train", "no-such.json"],
        ),
        (
            "prompts over max_prompt_length",
            &["data.max_prompt_length=30"],
            &["max_prompt_length = 30", "the longest has", "long_prompts"],
        ),
        (
            "run name with a slash",
            &["run.name=a/b"],
            &["run.name", "no slash"],
        ),
    ];
    for (input, settings, words) in cases {
        refused(input, &folder, settings, 2, words);
    }
    folder.write(
        "no_encoder.toml",
        EXPERIMENT.replace("[bertscore]\nmodel = \"encoder\"\n", ""),
    );
    expect_refusal(
        "no [bertscore] at all",
        folder.moim(&["--no-ui", "no_encoder.toml"]),
        2,
        &["bertscore.model", "encoder"],
    );
    folder
        .moim(&[
            "plan",
            "demo.toml",
            "--set",
            "quantization.load_in_4bit=true",
        ])
        .expect(0, &[]);
    folder
        .moim(&["plan", "demo.toml", "--set", "model.num_devices=2"])
        .expect(0, &[]);
}

#[test]
fn a_training_set_that_fills_no_step() {
    let settings = ["grpo.per_device_train_batch_size=64"];
    let words = ["8 prompt", "16", "lower grpo.per_device_train_batch_size"];
    let input = "a batch larger than the training set";
    refused(input, &Folder::new(), &settings, 2, &words);
}

#[test]
fn a_huge_learning_rate_is_a_persons_own_decision() {
    let folder = Folder::new();
    folder.train(&["grpo.learning_rate=1.0"]).expect(0, &[]);
    assert_eq!(folder.json(&format!("{RUN}/run.json"))["state"], "finished");
}

#[test]
fn data_that_is_not_what_it_should_be() {
    let folder = Folder::new();
    folder.write("bad.json", "[\n  {\"id\": \"1\",, }\n]");
    folder.write(
        "bad.jsonl",
        "{\"id\": \"1\", \"question\": \"?\", \"answer\": \"!\"}\n{\"id\": \"2\"\n",
    );
    folder.write("empty.json", "[]");
    folder.write("blank.json", "");
    let mut items: Value = serde_json::from_str(&folder.read("train.json")).unwrap();
    items[3].as_object_mut().unwrap().remove("output");
    folder.write("unanswered.json", items.to_string());
    items[3] = items[2].clone();
    folder.write("twice.json", items.to_string());
    refused(
        "broken JSON",
        &folder,
        &["data.train=bad.json"],
        4,
        &["bad.json:2:", "not JSON"],
    );
    refused(
        "broken JSON of eval",
        &folder,
        &["data.eval=bad.json"],
        4,
        &["bad.json:2:", "not JSON"],
    );
    refused(
        "broken JSONL",
        &folder,
        &["data.train=bad.jsonl"],
        4,
        &["bad.jsonl:2:"],
    );
    refused(
        "empty training set",
        &folder,
        &["data.train=empty.json"],
        4,
        &["empty.json"],
    );
    refused(
        "empty evaluation set",
        &folder,
        &["data.eval=empty.json"],
        4,
        &["empty.json"],
    );
    refused(
        "empty file",
        &folder,
        &["data.train=blank.json"],
        4,
        &["blank.json"],
    );
    refused(
        "item without an answer",
        &folder,
        &["data.train=unanswered.json"],
        4,
        &["unanswered.json", "answer"],
    );
    refused(
        "the same id twice",
        &folder,
        &["data.train=twice.json"],
        4,
        &["twice.json", "\"3\""],
    );
    refused(
        "labels of other items",
        &folder,
        &["data.labels=train.json"],
        2,
        &["data.eval", "no label", "data.labels"],
    );
}

/// A copy of the model that can be damaged.
fn own_model(folder: &Folder) {
    fs::create_dir(folder.path("own")).unwrap();
    for entry in fs::read_dir(base_model()).unwrap().flatten() {
        fs::copy(entry.path(), folder.path("own").join(entry.file_name())).unwrap();
    }
}

/// A tensor as it is stored.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Rewrites the weights of [`own_model`]; `change` may drop a tensor or answer another.
fn change_weights(folder: &Folder, change: impl Fn(&str, Stored) -> Option<Stored>) {
    let path = folder.path("own/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let changed: Vec<(String, Stored)> = tensors
        .tensors()
        .into_iter()
        .filter_map(|(name, view)| {
            let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            let stored = change(
                &name,
                Stored {
                    dtype,
                    shape,
                    bytes,
                },
            )?;
            Some((name, stored))
        })
        .collect();
    let views = changed.iter().map(|(name, stored)| {
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes);
        (name, view.unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_model_folder_that_is_not_whole() {
    const PROJECTION: &str = "model.layers.1.self_attn.k_proj.weight";
    let spoilt = |input: &str, spoil: &dyn Fn(&Folder), words: &[&str]| {
        let folder = Folder::new();
        own_model(&folder);
        spoil(&folder);
        refused(input, &folder, &["model.path=own"], 2, words);
    };
    let change_config = |folder: &Folder, key: &str, value: Value| {
        let mut config: Map<String, Value> =
            serde_json::from_str(&folder.read("own/config.json")).unwrap();
        config.insert(key.to_owned(), value);
        folder.write("own/config.json", serde_json::to_vec(&config).unwrap());
    };
    spoilt(
        "tokenizer without a chat template",
        &|folder| {
            let mut config: Map<String, Value> =
                serde_json::from_str(&folder.read("own/tokenizer_config.json")).unwrap();
            config.remove("chat_template");
            folder.write(
                "own/tokenizer_config.json",
                serde_json::to_vec(&config).unwrap(),
            );
        },
        &["no chat template", "data.chat_template"],
    );
    spoilt(
        "missing tensor",
        &|folder| {
            change_weights(folder, |name, stored| {
                (name != PROJECTION).then_some(stored)
            })
        },
        &["own", PROJECTION],
    );
    spoilt(
        "wrong shape",
        &|folder| {
            change_weights(folder, |name, mut stored| {
                if name == PROJECTION {
                    stored.shape[0] /= 2;
                    stored.bytes.truncate(stored.bytes.len() / 2);
                }
                Some(stored)
            });
        },
        &["own/model.safetensors", PROJECTION, "[8, 32]", "[16, 32]"],
    );
    spoilt(
        "torn weights",
        &|folder| {
            let bytes = fs::read(folder.path("own/model.safetensors")).unwrap();
            folder.write("own/model.safetensors", &bytes[..bytes.len() / 2]);
        },
        &["own/model.safetensors", "not a whole safetensors file"],
    );
    spoilt(
        "no weights",
        &|folder| fs::remove_file(folder.path("own/model.safetensors")).unwrap(),
        &["model.path", "no .safetensors weights"],
    );
    spoilt(
        "no tokenizer",
        &|folder| fs::remove_file(folder.path("own/tokenizer.json")).unwrap(),
        &["model.path", "has no tokenizer.json"],
    );
    spoilt(
        "broken config.json",
        &|folder| folder.write("own/config.json", "{\n\"vocab_size\" 3}"),
        &["own/config.json", "line 2"],
    );
    spoilt(
        "another family",
        &|folder| change_config(folder, "model_type", "gpt2".into()),
        &["own/config.json", "gpt2"],
    );
    spoilt(
        "vocabulary smaller than the tokenizer",
        &|folder| change_config(folder, "vocab_size", 1000.into()),
        &["own", "1000"],
    );
}

#[test]
fn weights_that_are_not_numbers() {
    let folder = Folder::new();
    own_model(&folder);
    change_weights(&folder, |name, mut stored| {
        if name == "model.norm.weight" {
            let ones = [1.0_f32; 31].into_iter().chain([f32::NAN]);
            stored.dtype = Dtype::F32;
            stored.bytes = ones.flat_map(f32::to_le_bytes).collect();
        }
        Some(stored)
    });
    let answer = folder.train(&["model.path=own"]);
    expect_refusal("NaN weights", answer, 3, &["not numbers", "weights"]);
    assert_eq!(folder.json(&format!("{RUN}/run.json"))["state"], "failed");
}

#[test]
fn a_reward_command_that_fails() {
    let cases = [
        (
            "reward command that ends",
            "exit 7",
            "60.0",
            &["`judge`", "exit", "7", "16 of the 16 samples"][..],
        ),
        (
            "reward command that complains",
            "echo no such model >&2; exit 1",
            "60.0",
            &["`judge`", "its standard error ended with", "no such model"],
        ),
        (
            "reward command that is late",
            "sleep 600",
            "0.2",
            &["`judge`", "too late", "timeout_seconds"],
        ),
        (
            "reward command that writes no JSON",
            "read -r line; echo hello; sleep 600",
            "60.0",
            &["`judge`", "`hello`", "not JSON"],
        ),
        (
            "formula that divides by 0",
            "n=0; while read -r line; do echo \"{\\\"index\\\":$n,\\\"reward\\\":0}\"; n=$((n+1)); done",
            "60.0",
            &["reward.formula", "judge = 0", "divides"],
        ),
    ];
    for (input, script, timeout, words) in cases {
        let folder = Folder::new();
        folder.write("judge.sh", script);
        let command = format!(
            "reward.commands=[{{name = \"judge\", command = [\"sh\", \"judge.sh\"], timeout_seconds = {timeout}}}]"
        );
        let settings = [command.as_str(), "reward.formula=rouge1 / judge"];
        let sets = settings.iter().flat_map(|setting| ["--set", setting]);
        let unforced: Vec<&str> = ["--no-ui", "demo.toml"].into_iter().chain(sets).collect();
        let words_before: Vec<&str> = words
            .iter()
            .copied()
            .filter(|words| !words.contains("samples"))
            .collect();
        expect_refusal(input, folder.moim(&unforced), 2, &words_before);
        assert!(!folder.path("outputs").exists(), "{input}");
        let answer = folder.train(&settings);
        expect_refusal(input, answer, 3, words);
        let run = folder.json(&format!("{RUN}/run.json"));
        assert_eq!(run["state"], "failed", "{input}");
        assert!(
            run["message"].as_str().unwrap().contains(words[0]),
            "{input}: {}",
            run["message"]
        );
        assert_eq!(folder.of_events("done", "status"), ["failed"], "{input}");
    }
}

#[test]
fn places_that_cannot_be_written() {
    let folder = Folder::new();
    folder.write("taken", "a file");
    expect_refusal(
        "a file in place of the output directory",
        folder.train(&["run.output_dir=taken"]),
        2,
        &["taken", "a file stands in the way"],
    );
    expect_refusal(
        "output directory that cannot be made",
        folder.train(&["run.output_dir=/proc/outputs"]),
        2,
        &["/proc/outputs"],
    );
    assert_eq!(folder.read("taken"), "a file");
}

/// The run itself is intact: it saves and stops, and can be resumed with a working stdout.
#[test]
fn a_closed_stdout_stops_the_run_with_a_save_point() {
    let folder = Folder::new();
    let mut command = folder.command(&["--no-ui", "demo.toml", "--json", "--force"]);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let answer: Answer = command.stdout(full).output().unwrap().into();
    assert_eq!(folder.json(&format!("{RUN}/run.json"))["state"], "stopped");
    folder.resume().expect(0, &[]);
    folder.expect_outcome_of(&uninterrupted().0);
    expect_refusal(
        "stdout on a full disk",
        answer,
        3,
        &["cannot write to stdout", "No space left"],
    );
}

/// A limit on the size of files stands for the end of the disk.
#[test]
fn a_disk_that_fills_up_fails_the_run_and_spoils_nothing() {
    let folder = Folder::new();
    let mut limited = std::process::Command::new("sh");
    limited
        .current_dir(folder.path(""))
        .env("MOIM", env!("CARGO_BIN_EXE_moim"));
    // In blocks of 512 bytes: enough for the untouched model's answers, not for all completions.
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 24; exec \"$MOIM\" --no-ui demo.toml --force",
    ]);
    let answer: Answer = limited.output().unwrap().into();
    expect_refusal(
        "a disk that fills up",
        answer,
        3,
        &["cannot append to outputs/demo/one/", "File too large"],
    );
    folder.resume().expect(0, &[]);
    folder.expect_outcome_of(&uninterrupted().0);
}

#[test]
fn a_trainer_that_is_refused_writes_nothing_into_the_run() {
    let folder = Folder::new();
    folder.write("hold_2", "");
    let mut trainer = folder.start(&[]);
    trainer.wait_until("step 2", |folder| folder.path("at_2").exists());
    let files = ["log.txt", "run.json", "events.jsonl", "lock"];
    let content = || files.map(|file| folder.read(&format!("{RUN}/{file}")));
    let before = content();
    folder.resume().expect(2, &["is in use by"]);
    assert_eq!(content(), before);
    fs::remove_file(folder.path("hold_2")).unwrap();
    trainer.end().expect(0, &[]);
    folder.expect_outcome_of(&uninterrupted().0);
}

#[test]
fn an_existing_run_is_neither_overwritten_nor_changed_midway() {
    let folder = Folder::new();
    folder.write("hold_3", "");
    let mut trainer = folder.start(&[]);
    trainer.wait_until("step 3", |folder| folder.path("at_3").exists());
    let owner = format!("process {} on ", trainer.pid());
    expect_refusal(
        "run name taken",
        folder.train(&[]),
        2,
        &["outputs/demo/one exists", "--resume", "run.name"],
    );
    expect_refusal(
        "a second trainer on the run",
        folder.resume(),
        2,
        &["outputs/demo/one is in use by", &owner, "control/stop"],
    );
    assert_eq!(folder.json(&format!("{RUN}/run.json"))["state"], "running");
    trainer.kill();
    let resume = |settings: &[&str]| {
        let sets = settings.iter().flat_map(|setting| ["--set", setting]);
        folder.moim(
            &["--no-ui", "--resume", RUN]
                .into_iter()
                .chain(sets)
                .collect::<Vec<_>>(),
        )
    };
    expect_refusal(
        "other settings on resume",
        resume(&["grpo.learning_rate=1e-3", "run.logging_steps=2"]),
        2,
        &["grpo.learning_rate: 0.01 → 0.001"],
    );
    let data = folder.read("train.json");
    folder.write("train.json", data.replace("선택형", "교정형"));
    expect_refusal(
        "other data on resume",
        resume(&[]),
        2,
        &["data.train has changed", "restore the old file"],
    );
    folder.write("train.json", data);
    let position = format!("{RUN}/completions.jsonl");
    let completions = folder.read(&position);
    folder.write(&position, &completions[..100]);
    expect_refusal(
        "a log that lost lines",
        resume(&[]),
        3,
        &["completions.jsonl", "fewer than"],
    );
    folder.write(&position, &completions);
    fs::remove_file(folder.path("hold_3")).unwrap();
    resume(&["run.logging_steps=2"]).expect(
        0,
        &["changed since the run started: run.logging_steps: 1 → 2"],
    );
    folder.expect_outcome_of(&uninterrupted().0);
}
