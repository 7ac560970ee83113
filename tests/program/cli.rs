//! The command as a user or a script runs it: output, messages and exit codes.
//! Training itself is driven by another test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

mod folder;
mod preflight;

use folder::{Answer, EXPERIMENT, Folder, encoder, records};

#[test]
fn without_a_command_one_line_says_what_to_run() {
    let folder = Folder::new();
    let answer = folder.moim(&[]).expect(2, &["moim --no-ui EXPERIMENT"]);
    assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
    // Without a terminal to draw on, an experiment is trained; this one has no model.
    folder.moim(&["demo.toml"]).expect(2, &["absent-model"]);
    folder
        .moim(&["demo.toml", "--theme", "pink"])
        .expect(2, &["color-blind"]);
    folder.moim(&["rnak"]).expect(2, &["did you mean rank?"]);
    folder
        .moim(&["--no-ui"])
        .expect(2, &["moim --no-ui EXPERIMENT"]);
    folder.moim(&["rank"]).expect(2, &["DIRECTORY"]);
    let help = folder.moim(&["--help"]).expect(0, &[]);
    assert!(help.stdout.contains("Exit codes") && help.stderr.is_empty());
}

#[test]
fn a_plan_needs_neither_model_nor_data() {
    let folder = Folder::new();
    let plan = folder.moim(&["plan", "demo.toml"]).expect(0, &[]);
    for words in [
        "completions (selected): B×A×D = 8×1×1 = 8 completions/step, (B÷G)×A×D = (8÷4)×1×1 = 2 prompts/step",
        "prompts: B×G×A×D = 8×4×1×1 = 32 completions/step",
        "5 prompts ÷ 2: 2 steps/epoch, 1 prompt dropped",
        "note: model.path = \"absent-model\"",
    ] {
        assert!(
            plan.stdout.contains(words),
            "{words:?} is not in: {}",
            plan.stdout
        );
    }
    let set = [
        "plan",
        "demo.toml",
        "--json",
        "--set",
        "data.train=absent.json",
    ];
    let plan: Value = serde_json::from_str(&folder.moim(&set).expect(0, &[]).stdout).unwrap();
    assert_eq!(plan["train_prompts"], Value::Null);
    assert_eq!(plan["batch"]["completions"]["prompts_per_step"], 2);
    assert_eq!(plan["batch"]["prompts"]["completions_per_step"], 32);
    assert!(plan["notes"].to_string().contains("absent.json"), "{plan}");
    let set = [
        "plan",
        "demo.toml",
        "--json",
        "--set",
        "grpo.batch_unit=prompts",
    ];
    let plan: Value = serde_json::from_str(&folder.moim(&set).expect(0, &[]).stdout).unwrap();
    // Five prompts do not fill a step of eight.
    assert_eq!(
        (&plan["steps_per_epoch"], &plan["dropped_prompts"]),
        (&json!(0), &json!(5))
    );
}

#[test]
fn a_broken_batch_is_planned_with_its_faults() {
    let folder = Folder::new();
    let set = ["plan", "demo.toml", "--set", "grpo.num_generations=3"];
    let answer = folder.moim(&set).expect(
        2,
        &["1 fault", "line 10", "set B to 6 or 9, or G to 2 or 4"],
    );
    assert!(
        answer
            .stdout
            .contains("not possible: B = 8 is not a multiple of G = 3"),
        "{}",
        answer.stdout
    );
    assert!(
        answer.stdout.contains("prompts: B×G×A×D = 8×3×1×1 = 24"),
        "{}",
        answer.stdout
    );
    let set = [
        "plan",
        "demo.toml",
        "--json",
        "--set",
        "grpo.num_generations=1",
    ];
    let answer = folder.moim(&set).expect(2, &["at least 2"]);
    let plan: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(plan["faults"][0]["key"], "grpo.num_generations");
    assert_eq!(plan["batch"]["nearest_legal_g"], json!([2]));
}

#[test]
fn a_probe_measures_memory_and_time_of_a_model_without_weights() {
    let folder = Folder::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model/tiny_llama");
    let config = fs::read_to_string(golden.join("config.json")).unwrap();
    folder.write("drawn/config.json", &config);
    let mut arguments = vec!["plan", "demo.toml", "--probe"];
    for set in [
        "model.path=drawn",
        "data.max_prompt_length=24",
        "rollout.max_completion_length=16",
    ] {
        arguments.extend(["--set", set]);
    }
    arguments.extend(["--probe-steps", "3"]);
    let text = folder.moim(&arguments).expect(0, &[]).stdout;
    for words in [
        "random weights in",
        "medians of 2 steps",
        "the first step: ",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    arguments.push("--json");
    let answer = folder.moim(&arguments).expect(0, &[]).stdout;
    let plan: Value = serde_json::from_str(&answer).unwrap();
    let probe = &plan["probe"];
    assert_eq!(probe["weights_drawn"], true);
    assert_eq!(probe["is_finite"], true);
    assert!(probe["device"].as_str().unwrap().ends_with("(cpu)"));
    assert!(probe["load_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(probe["steps"].as_array().unwrap().len(), 2);
    // Two prompts of 24 tokens, computed once each, and eight completions of 16.
    for (phase, tokens) in [("rollout", 128), ("training", 176)] {
        let steps = probe["steps"].as_array().unwrap();
        let seconds: Vec<f64> = steps
            .iter()
            .map(|step| step[phase]["seconds"].as_f64().unwrap())
            .collect();
        let row = &probe[phase];
        let median = (seconds[0] + seconds[1]) / 2.0;
        assert!((row["seconds"].as_f64().unwrap() - median).abs() < 1e-9);
        assert_eq!(row["tokens"], tokens, "{phase}: {row}");
        assert_eq!(probe["warm_up"][phase]["tokens"], tokens);
        let speed = tokens as f64 / median;
        assert!((row["tokens_per_second"].as_f64().unwrap() / speed - 1.0).abs() < 1e-6);
        assert!(row["measured"].as_u64() > Some(0) && row["ratio"].as_f64() > Some(0.0));
    }
    folder
        .moim(&["plan", "demo.toml", "--probe-steps", "2"])
        .expect(2, &["--probe"]);
    folder
        .moim(&["plan", "demo.toml", "--probe", "--probe-steps", "0"])
        .expect(2, &["--probe-steps"]);
}

#[test]
fn every_fault_of_an_experiment_is_listed_at_once() {
    let folder = Folder::new();
    folder.write(
        "bad.toml",
        "[model]\npath = \"m\"\n[data]\ntrain = \"t\"\neval = \"e\"\n[grpo]\nnum_generatons = 4\nlearning_rate = \"fast\"\n[lora]\nr = 0\n",
    );
    let faults = [
        "bad.toml: 3 faults",
        "line 7",
        "num_generatons",
        "did you mean num_generations?",
        "line 8",
        "learning_rate = \"fast\"",
        "line 10",
        "lora.r = 0",
    ];
    for command in [
        &["plan", "bad.toml"][..],
        &["--no-ui", "bad.toml"],
        &["sft", "bad.toml"],
    ] {
        folder.moim(command).expect(2, &faults);
    }
    folder
        .moim(&["plan", "demo.toml", "--set", "grpo.betta=1"])
        .expect(2, &["--set grpo.betta=1", "did you mean beta?"]);
    folder.write("broken.toml", "[model\n");
    folder
        .moim(&["plan", "broken.toml"])
        .expect(2, &["line 1", "not TOML"]);
}

#[test]
fn files_that_are_absent_are_named_with_their_keys() {
    let folder = Folder::new();
    folder
        .moim(&["plan", "dmo.toml"])
        .expect(2, &["dmo.toml", "did you mean ./demo.toml?"]);
    folder
        .moim(&["--no-ui", "demo.toml", "--set", "data.eval=nothing.json"])
        .expect(
            2,
            &[
                "model.path = \"absent-model\"",
                "data.eval = \"nothing.json\"",
                "bertscore.model",
            ],
        );
    folder
        .moim(&["sft", "demo.toml"])
        .expect(2, &["model.path", "sft.output_dir"]);
    folder
        .moim(&["--no-ui", "--resume", "gone"])
        .expect(2, &["cannot open the run gone"]);
    folder
        .moim(&["--no-ui", "--resume", "."])
        .expect(2, &["lacks experiment.toml"]);
    folder
        .moim(&[
            "infer",
            "--model",
            "m",
            "--input",
            "absent.json",
            "--output",
            "o.json",
        ])
        .expect(2, &["absent.json"]);
    folder
        .moim(&[
            "infer",
            "--model",
            "m",
            "--input",
            "train.json",
            "--output",
            "o.json",
        ])
        .expect(2, &["m is not a directory"]);
    assert!(!folder.path("o.json").exists());
}

#[test]
fn invalid_data_is_reported_with_line_and_column() {
    let folder = Folder::new();
    folder.write("train.json", "[\n  {\"id\": \"1\",, }\n]");
    let place = ["train.json:2:", "not JSON"];
    folder.moim(&["plan", "demo.toml"]).expect(4, &place);
    let infer = [
        "infer",
        "--model",
        "m",
        "--input",
        "train.json",
        "--output",
        "o.json",
    ];
    folder.moim(&infer).expect(4, &place);
    folder.write(
        "bad labels.json",
        "[{\"id\": \"1\", \"output\": {\"answer\" \"x\"}}]",
    );
    folder.write("answers/inference_epoch1.json", &records(&["가다", "오다"]));
    folder
        .scored(&["rank", "answers", "--labels", "bad labels.json"])
        .expect(4, &["bad labels.json:1:", "not JSON"]);
}

#[test]
fn answers_are_ranked_and_nothing_is_skipped() {
    let folder = Folder::new();
    folder.write("answers/inference_epoch1.json", &records(&["가다", "하다"]));
    folder.write("answers/inference_epoch2.json", &records(&["가다", "오다"]));
    folder.write("answers/inference_epoch3.json", &records(&["가다"]));
    folder.write("answers/inference_epoch4.json", "[{\"id\" 1}]");
    let rank = ["rank", "answers", "--labels", "labels.json"];
    let list = folder.scored(&rank).expect(0, &[]).stdout;
    for words in [
        "File: inference_epoch2.json",
        "   - Final Mean     : 1.0000",
        "partial 1/2",
        "broken: 1:8",
        "Best Final Mean:\n   File       : inference_epoch2.json",
    ] {
        assert!(list.contains(words), "{words:?} is not in: {list}");
    }
    let with = |form| [&rank[..], &[form]].concat();
    let list = folder.scored(&with("--json")).expect(0, &[]).stdout;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["best"]["file"], "inference_epoch2.json");
    assert_eq!(list["files"].as_array().unwrap().len(), 4);
    assert_eq!(list["files"][1]["em"], 0.5);
    let csv = folder.scored(&with("--csv")).expect(0, &[]).stdout;
    assert_eq!(csv.lines().count(), 5, "{csv}");
    let table = folder.scored(&[&with("--md")[..], &["--contest"]].concat());
    assert!(
        table
            .expect(0, &[])
            .stdout
            .contains("| 1 | inference_epoch2.json |")
    );
    // Nothing but the answers was written: this is no run directory.
    assert_eq!(fs::read_dir(folder.path("answers")).unwrap().count(), 4);
}

#[test]
fn what_is_not_given_comes_from_the_run() {
    let folder = Folder::new();
    let encoder = encoder();
    let experiment = format!("{EXPERIMENT}[bertscore]\nmodel = {encoder:?}\n");
    folder.write("run/experiment.toml", &experiment);
    folder.write(
        "run/infer_results/inference_epoch0.json",
        &records(&["가다", "오다"]),
    );
    folder.moim(&["rank", "run"]).expect(0, &[]);
    assert!(folder.path("run/scores/inference_epoch0.json").is_file());
    folder
        .moim(&["rank", "run/infer_results", "--rouge", "syllable"])
        .expect(0, &[]);
    folder.write("other.toml", &experiment);
    folder.write("answers/inference_epoch0.json", &records(&["가다", "오다"]));
    folder
        .moim(&["rank", "answers", "--experiment", "other.toml"])
        .expect(0, &[]);
}

#[test]
fn a_ranking_without_an_encoder_or_without_answers_is_refused() {
    let folder = Folder::new();
    folder.write("answers/inference_epoch1.json", &records(&["가다", "오다"]));
    let rank = ["rank", "answers", "--labels", "labels.json"];
    folder
        .moim(&rank)
        .expect(2, &["no BERTScore encoder", "--encoder DIR"]);
    folder
        .moim(&[&rank[..], &["--encoder", "nowhere"]].concat())
        .expect(2, &["nowhere is not a folder"]);
    folder
        .scored(&["rank", "answers"])
        .expect(2, &["--labels FILE"]);
    folder
        .scored(&["rank", "nowhere", "--labels", "labels.json"])
        .expect(2, &["cannot list nowhere"]);
    folder
        .scored(&[&rank[..], &["--rouge", "mecab"]].concat())
        .expect(2, &["--mecab-dict DIR"]);
    folder
        .scored(&[&rank[..], &["--rouge", "word"]].concat())
        .expect(2, &["eojeol, syllable, mecab"]);
    fs::create_dir(folder.path("empty")).unwrap();
    folder
        .scored(&["rank", "empty", "--labels", "labels.json"])
        .expect(1, &["no answer file in empty"]);
    folder.write("answers/inference_epoch1.json", &records(&["가다"]));
    let list = folder.scored(&rank).expect(1, &[]).stdout;
    assert!(list.contains("none: no file answers every label"), "{list}");
}

#[test]
fn a_comparison_is_a_gate() {
    let folder = Folder::new();
    let words = [
        "가다", "오다", "하다", "보다", "자다", "서다", "쓰다", "크다",
    ];
    let wrong: Vec<String> = words.iter().map(|word| format!("안 {word}")).collect();
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).collect();
    folder.write("labels.json", &records(&words));
    folder.write("good.json", &records(&words));
    folder.write("bad.json", &records(&wrong));
    folder.write("short.json", &records(&words[..7]));
    let compare = |a, b, gate: &[&str]| {
        folder.scored(&[&["compare", a, b, "--labels", "labels.json"], gate].concat())
    };
    let gate = ["--fail-on-regression"];
    let text = compare("bad.json", "good.json", &gate)
        .expect(0, &[])
        .stdout;
    assert!(text.contains("8 fixed, 0 broken"), "{text}");
    compare("good.json", "bad.json", &[]).expect(0, &[]);
    compare("good.json", "bad.json", &gate).expect(1, &["regression: Final Mean"]);
    compare("good.json", "short.json", &gate)
        .expect(1, &["short.json does not have 1 item(s) of good.json"]);
    let json = compare("good.json", "bad.json", &["--json"])
        .expect(0, &[])
        .stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    let other = &json["files"][1];
    assert_eq!(
        (
            &other["against_baseline"]["counts"]["broken"],
            &other["file"]
        ),
        (&json!(8), &json!("bad.json"))
    );
    // Of several files the last is judged against the first.
    let several = |files: &[&str]| {
        let words = [&["compare"], files, &["--labels", "labels.json"], &gate];
        folder.scored(&words.concat())
    };
    several(&["good.json", "bad.json", "good.json"]).expect(0, &[]);
    several(&["good.json", "good.json", "bad.json"]).expect(1, &["regression: Final Mean"]);
    folder.write("broken.json", "[{]");
    compare("good.json", "broken.json", &[]).expect(4, &["broken.json: 1:"]);
}

#[test]
fn items_of_a_comparison_are_chosen_and_exported() {
    let folder = Folder::new();
    folder.write("labels.json", &records(&["가다", "오다", "하다"]));
    folder.write("a.json", &records(&["가다", "보다", "하다"]));
    folder.write("b.json", &records(&["자다", "오다", "하다"]));
    let compare = |words: &[&str]| {
        let files = ["compare", "a.json", "b.json", "--labels", "labels.json"];
        folder.scored(&[&files[..], words].concat())
    };
    let text = compare(&["--only", "broken"]).expect(0, &[]).stdout;
    for line in [
        "1 of 3 items (broken):",
        "   asked: 가다?",
        "   A    : \"[-가-]다.\"가 옳다. 이유는 [-가-]다라는 규칙이다.",
        "   B    : \"{+자+}다.\"가 옳다. 이유는 {+자+}다라는 규칙이다.",
    ] {
        assert!(text.contains(line), "{line:?} is not in: {text}");
    }
    assert!(!text.contains("[fixed]"), "{text}");
    let csv = compare(&["--csv", "--only", "changed"])
        .expect(0, &[])
        .stdout;
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let markdown = compare(&["--md", "--type", "선택형"]).expect(0, &[]).stdout;
    assert!(
        markdown.contains("3 of 3 items (all, 선택형)."),
        "{markdown}"
    );
    compare(&["--type", "교정형"]).expect(2, &["--type 교정형", "the types are: 선택형"]);
    compare(&["--only", "right"]).expect(2, &["changed, fixed, broken, both-wrong"]);
    compare(&["--csv", "--md"]).expect(2, &["cannot be used with"]);
    folder
        .scored(&["compare", "a.json", "--labels", "labels.json"])
        .expect(2, &["at least two answer files"]);
}

#[test]
fn the_epochs_of_a_run_are_compared_without_its_encoder() {
    let folder = Folder::new();
    let experiment = format!("{EXPERIMENT}[bertscore]\nmodel = \"encoder\"\n");
    folder.write("run/experiment.toml", &experiment);
    let answers = |epoch: usize, words: &[&str]| {
        let name = format!("run/infer_results/inference_epoch{epoch}.json");
        folder.write(&name, &records(words));
    };
    answers(2, &["보다", "자다"]);
    answers(9, &["가다", "자다"]);
    answers(10, &["가다", "오다"]);
    std::os::unix::fs::symlink(encoder(), folder.path("encoder")).unwrap();
    folder.moim(&["rank", "run"]).expect(0, &[]);
    let compare = ["compare", "run", "--json"];
    let scored = folder.moim(&compare).expect(0, &[]).stdout;
    fs::remove_file(folder.path("encoder")).unwrap();
    let kept = folder.moim(&compare).expect(0, &[]).stdout;
    assert_eq!(kept, scored);
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let epochs: Vec<&Value> = (0..3).map(|file| &kept["files"][file]["epoch"]).collect();
    assert_eq!(epochs, [&json!(2), &json!(9), &json!(10)]);
    assert_eq!(kept["items"][1]["first_right"], 2);
    // What has no scores needs the encoder.
    answers(10, &["가다", "가다"]);
    folder
        .moim(&compare)
        .expect(2, &["the BERTScore encoder encoder is not a folder"]);
    folder.write("run/infer_results/inference_epoch10.json", "[{");
    folder
        .moim(&compare)
        .expect(0, &["left out: answers", "inference_epoch10.json"]);
}

#[test]
fn a_watch_ranks_files_as_they_appear() {
    let folder = Folder::new();
    let mut watch = folder
        .command(&[
            "watch",
            "answers",
            "--labels",
            "labels.json",
            "--json",
            "--device",
            "cpu",
        ])
        .arg("--encoder")
        .arg(encoder())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next_ranking = |best: &str| {
        loop {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if line["event"] == "ranking" && line["best"]["file"] == best {
                return line["ranked"].clone();
            }
        }
    };
    folder.write("answers/inference_epoch1.json", &records(&["가다", "하다"]));
    let first = next_ranking("inference_epoch1.json");
    folder.write("better.json", &records(&["가다", "오다"]));
    fs::rename(
        folder.path("better.json"),
        folder.path("answers/inference_epoch2.json"),
    )
    .unwrap();
    let second = next_ranking("inference_epoch2.json");
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert_eq!(first, json!(["inference_epoch1.json"]));
    assert_eq!(
        second,
        json!(["inference_epoch2.json", "inference_epoch1.json"])
    );
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let folder = Folder::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = folder
        .command(&["plan", "demo.toml"])
        .stdout(writer)
        .output()
        .unwrap();
    let answer = Answer::from(output).expect(0, &[]);
    assert_eq!(answer.stderr, "");
}

#[test]
fn the_doctor_always_answers() {
    let folder = Folder::new();
    let report = folder.moim(&["doctor"]).expect(0, &[]).stdout;
    for name in [
        "moim",
        "processors",
        "memory",
        "cuda",
        "locale",
        "outputs",
        "watching",
    ] {
        assert!(
            report.lines().any(|line| line.starts_with(name)),
            "{name}: {report}"
        );
    }
}

#[test]
fn the_doctor_checks_the_kernels_of_the_cpu() {
    let folder = Folder::new();
    let checks = ["doctor", "--kernels", "--device", "cpu", "--time"];
    let table = folder.moim(&checks).expect(0, &[]).stdout;
    for kernel in [
        "nf4 dequantize",
        "nf4 linear, fused",
        "nf4 linear, dense",
        "rms_norm, gradients",
        "swiglu",
        "masked_softmax",
        "token_log_probs",
        "decode_attention",
        "dropout",
    ] {
        let mut lines = table.lines().filter(|line| line.starts_with(kernel));
        assert!(
            lines.next().is_some_and(|line| line.ends_with("ok")),
            "{kernel}: {table}"
        );
    }
    assert!(
        table.contains(" 0 failed") && table.contains("on a GPU only"),
        "{table}"
    );
    // Options of the kernels alone.
    folder.moim(&["doctor", "--time"]).expect(2, &["--kernels"]);
    folder
        .moim(&["doctor", "--kernels", "--device", "cuda:9"])
        .expect(2, &["cuda:9"]);
}
