//! Encoder folders, each file in turn, and the baseline of BERTScore.

use moim::device::Compute;
use moim::encoder::matching::Baseline;
use moim::encoder::{BertScoreOptions, BertScorer};

use super::{Folder, content, told};
use crate::fuzz::harness::{Reader, fuzz};
use crate::fuzz::mutate::Form;

const WORDS: &[&str] = &[
    "model_type",
    "bert",
    "roberta",
    "num_hidden_layers",
    "pad_token_id",
    "max_position_embeddings",
    "model_max_length",
    "cls_token",
    "[CLS]",
    "[UNK]",
    "type",
    "WordPiece",
    "BPE",
    "Split",
    "Regex",
    "(a+)+$",
    "unk_token",
    "vocab",
    "F16",
    "I64",
    "shape",
    "data_offsets",
    "dtype",
    "\u{120} a",
];

/// Loads the folder and compares two sentences, as ranking does.
fn score(folder: &Folder) -> Result<(), String> {
    let options = BertScoreOptions {
        batch_size: 4,
        cache_bytes: 1 << 16,
        ..BertScoreOptions::default()
    };
    let compute = Compute::cpu();
    let mut scorer = BertScorer::load(folder.path(), &options, &compute.device).map_err(told)?;
    let pair = (
        "나는 학교에 간다 [MASK]".to_owned(),
        "학교에 abc 간다.".to_owned(),
    );
    scorer.score(&[pair]).map(|_| ()).map_err(told)
}

fn folder_of(family: &str, changing: &[(&'static str, Form, usize)], files: &[&str]) {
    let path = format!("tests/golden/encoder/{family}");
    for (name, form, cases) in changing {
        let folder = Folder::with(&path, files);
        let what = format!("{family} {name}");
        fuzz(Reader {
            name: what.leak(),
            form: *form,
            examples: vec![content(&format!("{path}/{name}"))],
            words: WORDS,
            cases: *cases,
            memory: (1000, 64 << 20),
            // An error names the sentence for texts and vocabularies, else the position.
            names: "",
            read: Box::new(|input| {
                folder.write(name, input);
                score(&folder)
            }),
        });
    }
}

#[test]
fn bert_with_its_tokenizer() {
    folder_of(
        "bert",
        &[
            ("config.json", Form::Json, 700),
            ("tokenizer.json", Form::Json, 700),
            ("tokenizer_config.json", Form::Json, 500),
            ("special_tokens_map.json", Form::Json, 500),
            ("model.safetensors", Form::Safetensors, 700),
        ],
        &[
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "model.safetensors",
        ],
    );
}

#[test]
fn bert_with_a_vocabulary() {
    folder_of(
        "bert",
        &[("vocab.txt", Form::Text, 700)],
        &[
            "config.json",
            "vocab.txt",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "model.safetensors",
        ],
    );
}

#[test]
fn roberta_with_merges() {
    folder_of(
        "roberta",
        &[
            ("vocab.json", Form::Json, 500),
            ("merges.txt", Form::Text, 500),
        ],
        &[
            "config.json",
            "vocab.json",
            "merges.txt",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "model.safetensors",
        ],
    );
}

#[test]
fn xlm_roberta() {
    folder_of(
        "xlm-roberta",
        &[
            ("tokenizer.json", Form::Json, 500),
            ("config.json", Form::Json, 500),
        ],
        &[
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "model.safetensors",
        ],
    );
}

#[test]
fn indices_of_encoder_shards() {
    let folder = Folder::with(
        "tests/golden/encoder/bert",
        &[
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        ],
    );
    let weights = content("tests/golden/encoder/bert/model.safetensors");
    folder.write("part-1.safetensors", &weights);
    folder.write("part-2.safetensors", &weights);
    let index = br#"{"metadata": {}, "weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}"#;
    fuzz(Reader {
        name: "encoder's index",
        form: Form::Json,
        examples: vec![index.to_vec()],
        words: &["..", "/etc/passwd", "config.json", "weight_map"],
        cases: 1000,
        memory: (1000, 64 << 20),
        names: &folder.path().display().to_string().leak()[..],
        read: Box::new(|input| {
            folder.write("model.safetensors.index.json", input);
            score(&folder)
        }),
    });
}

#[test]
fn baselines() {
    let folder = Folder::new();
    fuzz(Reader {
        name: "baseline.tsv",
        form: Form::Text,
        examples: vec![content("tests/golden/encoder/baseline.tsv")],
        words: &["LAYER,P,R,F", "nan", "inf", "\t"],
        cases: 4000,
        memory: (200, 16 << 20),
        names: "baseline.tsv",
        read: Box::new(|input| {
            let path = folder.write("baseline.tsv", input);
            Baseline::from_file(&path, 1).map(|_| ()).map_err(told)
        }),
    });
}
