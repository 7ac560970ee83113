//! Training on a base in four bits: as any other run, and quantised once.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::folder::{Folder, RUN, uninterrupted};

const FOUR_BITS: &str = "quantization.load_in_4bit=true";

/// The message while weights are quantised.
const QUANTISING: &str = "quantising 2 layers to 4 bits";

/// The files in the folder of quantised weights, with when they were written.
fn cached(folder: &Folder) -> Vec<(PathBuf, std::time::SystemTime)> {
    let entries = fs::read_dir(folder.path("cache")).unwrap().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_run_on_four_bits_trains_answers_and_ranks() {
    let folder = Folder::new();
    folder
        .train(&[FOUR_BITS])
        .expect(0, &[QUANTISING, "finished in"]);
    let run = folder.json(&format!("{RUN}/run.json"));
    assert_eq!(run["state"], "finished");
    assert!(
        folder
            .of_events("step", "grad_norm")
            .iter()
            .all(|norm| norm.as_f64().unwrap() > 0.0)
    );
    // Sampling and training see the same weights.
    let difference = "sampling/sampling_logp_difference/max";
    for nats in folder.of_events("step", difference) {
        assert!(nats.as_f64().unwrap() < 1e-3, "{nats}");
    }
    // Four bits are another model.
    let completions = |folder: &Folder| folder.read(&format!("{RUN}/completions.jsonl"));
    assert_ne!(completions(&folder), completions(&uninterrupted().0));

    let files = cached(&folder);
    let name = files[0].0.file_name().unwrap().to_str().unwrap();
    assert_eq!(files.len(), 1);
    assert!(
        name.starts_with("nf4-") && name.ends_with("-single.safetensors"),
        "{name}"
    );

    let (output, adapter) = (folder.path("own.json"), format!("{RUN}/epoch_2"));
    let infer = [
        &[
            "infer",
            "--model",
            "base",
            "--input",
            "eval.json",
            "--device",
            "cpu",
        ][..],
        &[
            "--max-completion-length",
            "32",
            "--max-prompt-length",
            "96",
            "--load-in-4bit",
        ],
        &["--adapter", &adapter, "--output", output.to_str().unwrap()],
    ];
    let answer = folder.moim(&infer.concat()).expect(0, &["6 answers"]);
    assert!(!answer.stderr.contains("quantising"), "{}", answer.stderr);
    assert_eq!(
        folder.read("own.json"),
        folder.read(&format!("{RUN}/infer_results/inference_epoch2.json"))
    );

    let list = folder.moim(&["rank", RUN, "--json"]).expect(0, &[]).stdout;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["files"].as_array().unwrap().len(), 3);
    assert_eq!(list["best"]["file"], folder.of_events("done", "best")[0]);
}

#[test]
fn quantised_weights_are_read_the_second_time_and_rebuilt_if_they_are_damaged() {
    let first = Folder::new();
    first.train(&[FOUR_BITS]).expect(0, &[QUANTISING]);
    let files = cached(&first);
    let again = |words: &[&str]| {
        fs::remove_dir_all(first.path("outputs")).unwrap();
        let before = first.train(&[FOUR_BITS]).expect(0, words);
        (first.outcome(), before.stderr.contains(QUANTISING))
    };
    let whole = first.outcome();
    let (outcome, has_quantised) = again(&[]);
    assert!(outcome == whole && !has_quantised);
    assert_eq!(cached(&first), files);

    // A copy that stopped half-way.
    let (path, _) = &files[0];
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    let (outcome, has_quantised) = again(&["warning: ", "quantised and written again"]);
    assert!(outcome == whole && has_quantised);
    assert!(fs::read(path).unwrap() == bytes);

    // A folder that cannot be one.
    fs::remove_dir_all(first.path("cache")).unwrap();
    first.write("cache", "");
    let (outcome, has_quantised) = again(&["warning: ", "MOIM_CACHE_DIR"]);
    assert!(outcome == whole && has_quantised);
    assert_eq!(first.read("cache"), "");
}

#[test]
fn killed_and_resumed_a_run_on_four_bits_ends_with_the_same_bytes() {
    let settings = [
        FOUR_BITS,
        "quantization.bnb_4bit_use_double_quant=true",
        "grpo.num_iterations=2",
        "grpo.beta=0.05",
        "lora.lora_dropout=0.1",
    ];
    let whole = Folder::new();
    whole.train(&settings).expect(0, &[]);
    assert!(
        cached(&whole)[0]
            .0
            .to_string_lossy()
            .ends_with("-double.safetensors")
    );
    for (steps, keeps_cache) in [(1, true), (3, false), (6, true)] {
        let folder = Folder::new();
        let mut trainer = folder.start(&settings);
        trainer.wait_until("steps", |folder| {
            folder.of_events("step", "step").len() >= steps
        });
        trainer.kill();
        if !keeps_cache {
            fs::remove_dir_all(folder.path("cache")).unwrap();
        }
        folder.resume().expect(0, &[]);
        println!("killed after {steps} steps");
        folder.expect_outcome_of(&whole);
        assert_eq!(folder.lasting_events(), whole.lasting_events());
    }
    let files = ["log.txt", "run.json", "events.jsonl"];
    let content = || files.map(|file| whole.read(&format!("{RUN}/{file}")));
    let before = content();
    for (setting, words) in [
        (
            "quantization.load_in_4bit=false",
            "quantization.load_in_4bit: true → false",
        ),
        (
            "quantization.bnb_4bit_use_double_quant=false",
            "quantization.bnb_4bit_use_double_quant: true → false",
        ),
    ] {
        let resume = ["--no-ui", "--resume", RUN, "--set", setting];
        whole.moim(&resume).expect(2, &["error: ", words]);
    }
    assert_eq!(content(), before);
}
