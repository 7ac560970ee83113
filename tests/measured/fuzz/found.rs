//! Inputs that once were read wrongly, each with what it showed. Longer ones are made here.

use moim::dataset::load_records;
use moim::device::Compute;
use moim::encoder::{BertScoreOptions, BertScorer};
use moim::experiment::Experiment;
use moim::memory::Shapes;
use moim::model::Llama;
use moim::text::{MecabDictionary, Tokenizer};
use serde_json::{Value, json};

use super::harness::{MEMORY, run_case};
use super::readers::{Folder, content, shown, told};
use crate::allocator::alone;

fn parsed(path: &str) -> Value {
    serde_json::from_slice(&content(path)).unwrap()
}

/// serde_json's messages were placed by counting from the beginning for every item: hours for a
/// file of the size of a data set whose writer knew NaN.
#[test]
fn many_bad_items_are_reported_in_one_pass() {
    let _alone = alone();
    let folder = Folder::new();
    let lines = "{\"id\": 1, \"answer\": NaN}\n".repeat(200_000);
    let taken = run_case(
        "bad items",
        lines.as_bytes(),
        (400, 64 << 20),
        "data.jsonl",
        |input| {
            let path = folder.write("data.jsonl", input);
            load_records(&path).map(|_| ()).map_err(shown)
        },
    );
    assert_eq!(taken, Ok(false));
}

/// Every name of 2^40 layers was made before the first was looked for.
#[test]
fn a_model_of_endless_layers_is_refused_before_its_names_are_made() {
    let _alone = alone();
    const TINY: &str = "tests/golden/model/tiny_llama";
    let folder = Folder::with(TINY, &["config.json", "model.safetensors"]);
    for (key, value) in [
        ("num_hidden_layers", 1_u64 << 40),
        ("num_hidden_layers", 100_000_000),
        ("head_dim", 1 << 60),
        ("vocab_size", u64::MAX),
        ("hidden_size", 1 << 63),
    ] {
        let mut config = parsed(&format!("{TINY}/config.json"));
        config[key] = json!(value);
        let text = config.to_string();
        let taken = run_case(key, text.as_bytes(), MEMORY, key, |input| {
            folder.write("config.json", input);
            let mut experiment = Experiment::default();
            experiment.model.path = folder.path().to_owned();
            assert!(Shapes::read(&experiment).decoder.is_err());
            Llama::load(folder.path(), &Compute::cpu())
                .map(|_| ())
                .map_err(told)
        });
        assert_eq!(taken, Ok(false), "{key} = {value}");
    }
}

/// Tables by id were made up to the highest: 12 GB for one id of 2^32 - 1.
#[test]
fn an_id_beyond_any_vocabulary_is_refused() {
    let _alone = alone();
    const BERT: &str = "tests/golden/encoder/bert";
    let files = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ];
    let folder = Folder::with(BERT, &files);
    let mut tokenizer = parsed(&format!("{BERT}/tokenizer.json"));
    tokenizer["model"]["vocab"]["far"] = json!(u32::MAX);
    let text = tokenizer.to_string();
    let taken = run_case(
        "a far id",
        text.as_bytes(),
        (1000, 64 << 20),
        "4294967295",
        |input| {
            let path = folder.write("tokenizer.json", input);
            let alone = Tokenizer::from_file(&path).map_err(told).unwrap_err();
            assert!(
                alone.contains("tokenizer.json") && alone.contains("4294967295"),
                "{alone}"
            );
            let options = BertScoreOptions::default();
            let loaded = BertScorer::load(folder.path(), &options, &Compute::cpu().device);
            loaded.map(|_| ()).map_err(told)
        },
    );
    assert_eq!(taken, Ok(false));
}

/// The regular expressions of the tokenizers library panic on such a pattern.
#[test]
fn a_pattern_that_never_ends_is_an_error_of_the_text() {
    let _alone = alone();
    let folder = Folder::new();
    let mut tokenizer = parsed("tests/golden/text/tokenizer/tokenizer.json");
    tokenizer["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(a|aa)+$"},
        "behavior": "Isolated", "invert": false});
    let path = folder.write("tokenizer.json", tokenizer.to_string().as_bytes());
    let hostile = "a".repeat(60) + "b";
    let taken = run_case(
        "a pattern",
        hostile.as_bytes(),
        (0, 64 << 20),
        "cannot encode",
        |input| {
            let tokenizer = Tokenizer::from_file(&path).map_err(told)?;
            let text = String::from_utf8_lossy(input);
            tokenizer.encode(&text, false).map(|_| ()).map_err(told)
        },
    );
    assert_eq!(taken, Ok(false));
}

/// Every unknown key was compared with all known ones, and placed by counting from the beginning;
/// a long one was compared letter by letter.
#[test]
fn an_experiment_with_only_faults_is_reported_quickly() {
    let _alone = alone();
    let folder = Folder::new();
    let many: String = (0..100_000)
        .map(|number| format!("k{number}=1\n"))
        .collect();
    let long = "k".repeat(250_000);
    for text in [
        format!("[grpo]\n{many}"),
        many.clone(),
        format!("[grpo]\n{long} = 1\n"),
        format!("[{long}]\n"),
        "=\n".repeat(100_000),
        "[[[[".repeat(60_000),
        "a.".repeat(100_000) + "a = 1",
        format!(
            "[data]\nchat_template_kwargs.{}a = 1\n",
            "a.".repeat(100_000)
        ),
        format!("[data]\nchat_template_kwargs = {}1\n", "[".repeat(200_000)),
        "[a]\n".repeat(60_000) + "#",
        "#".repeat(2 << 20),
    ] {
        let what: String = text.chars().take(30).collect();
        let taken = run_case(
            &what,
            text.as_bytes(),
            (400, 64 << 20),
            "experiment.toml",
            |input| {
                let path = folder.write("experiment.toml", input);
                Experiment::load(&path, &[]).map(|_| ()).map_err(shown)
            },
        );
        assert_eq!(taken, Ok(false), "{what}");
    }
    for (given, part) in [
        (
            format!(
                "data.chat_template_kwargs.{}=1",
                vec!["a"; 100_000].join(".")
            ),
            "keys deep",
        ),
        (format!("grpo.{long}=1"), "unknown key"),
        (format!("{long}.a=1"), "unknown section"),
        (
            format!("data.chat_template_kwargs={}", "[".repeat(100_000)),
            "",
        ),
        (
            format!("rollout.stop_token_ids={}", "[".repeat(100_000)),
            "",
        ),
    ] {
        let what: String = given.chars().take(40).collect();
        let taken = run_case(&what, given.as_bytes(), (400, 64 << 20), part, |_| {
            let text = String::from_utf8(content("experiments/demo.toml")).unwrap();
            let parsed = Experiment::parse(&text, std::slice::from_ref(&given));
            parsed.map(|_| ()).map_err(|faults| format!("{faults:?}"))
        });
        assert!(taken.is_ok(), "{what}: {taken:?}");
    }
}

/// Files that were kept while the readers were mended, read again; a name says whose they are.
#[test]
fn kept_inputs_are_taken_or_refused() {
    let _alone = alone();
    let folder = Folder::new();
    for entry in std::fs::read_dir(super::readers::repository("tests/measured/fuzz/seeds")).unwrap()
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let input = std::fs::read(&path).unwrap();
        let (reader, _) = name.split_once("--").unwrap_or((&name, ""));
        let taken = run_case(&name, &input, (1000, 64 << 20), "", |input| {
            let path = folder.write(reader, input);
            match reader {
                "tokenizer.json" => {
                    let tokenizer = Tokenizer::from_file(&path).map_err(told)?;
                    tokenizer
                        .encode("나는 학교에 abc", true)
                        .map(|_| ())
                        .map_err(told)
                }
                "experiment.toml" => Experiment::load(&path, &[]).map(|_| ()).map_err(shown),
                "data.json" => load_records(&path).map(|_| ()).map_err(shown),
                "sys.dic" => MecabDictionary::open(folder.path())
                    .map(|_| ())
                    .map_err(shown),
                other => panic!("no reader of {other}"),
            }
        });
        assert!(taken.is_ok(), "{name}: {taken:?}");
    }
}
