//! The text and dataset rooms against reference values (tests/golden/text/).

use std::path::{Path, PathBuf};

use moim_core::text::{
    ChatTemplate, MecabDictionary, Message, RenderOptions, Role, SpecialTokens, StopSet, Tokenizer,
    answer,
};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .join("tests/golden/text")
        .join(name)
}

fn read_json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(name)).unwrap()).unwrap()
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}

#[test]
fn answers_are_read_as_the_vectors_say() {
    let endings = answer::default_endings();
    let document = read_json("answer_vectors.json");
    let vectors = document["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 30);
    for vector in vectors {
        let name = &vector["name"];
        let label = vector["reference"].as_str().unwrap();
        let completion = vector["prediction"].as_str().unwrap();

        let ours = &vector["proposed"];
        assert_eq!(
            answer::alternatives(label, &endings),
            strings(&ours["alternatives"]),
            "{name}: alternatives"
        );
        assert_eq!(
            answer::exact_match(completion, label, &endings),
            ours["em"],
            "{name}: em"
        );
        let format = f64::from(u8::from(answer::is_well_formed(completion)));
        assert_eq!(format, ours["format"], "{name}: format");

        let contest = &vector["contest"];
        let (label_answer, label_reason) = answer::contest_answer(label, &endings);
        let (completion_answer, completion_reason) = answer::contest_answer(completion, &endings);
        assert_eq!(label_answer, contest["ref_answer"], "{name}: ref_answer");
        assert_eq!(
            completion_answer, contest["pred_answer"],
            "{name}: pred_answer"
        );
        assert_eq!(label_reason, contest["ref_reason"], "{name}: ref_reason");
        assert_eq!(
            completion_reason, contest["pred_reason"],
            "{name}: pred_reason"
        );
        assert_eq!(
            answer::contest_exact_match(completion, label, &endings),
            contest["em"],
            "{name}: contest em"
        );
    }
}

/// Needs the compiled mecab-ko dictionary (80 MB, not in the repository): the directory
/// `mecab_ko_dic/dictionary` of the Python package python-mecab-ko-dic 2.1.1.post2.
#[test]
fn morphemes_are_those_of_mecab_ko() {
    let Some(directory) = std::env::var_os("MOIM_MECAB_DICT") else {
        eprintln!("skipped: MOIM_MECAB_DICT names no compiled mecab-ko dictionary");
        return;
    };
    let dictionary = MecabDictionary::open(Path::new(&directory)).unwrap();
    let vectors = read_json("mecab_morphs.json");
    let different: Vec<String> = vectors
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|vector| {
            let text = vector["text"].as_str().unwrap();
            let morphs = dictionary.morphs(text);
            (morphs != strings(&vector["morphs"]))
                .then(|| format!("{text:?}: {morphs:?} and not {}", vector["morphs"]))
        })
        .collect();
    assert!(
        different.is_empty(),
        "{} differ:\n{}",
        different.len(),
        different.join("\n")
    );
}

#[test]
fn templates_render_as_transformers_renders_them() {
    let model = golden("tokenizer");
    let special_tokens = SpecialTokens::from_model_dir(&model).unwrap();
    let mut different = Vec::new();
    let rows = read_json("template_renderings.json");
    for row in rows.as_array().unwrap() {
        let template = match row["template"].as_str() {
            Some(name) => {
                let path = golden("templates").join(name);
                ChatTemplate::from_file(&path, special_tokens.clone()).unwrap()
            }
            None => ChatTemplate::from_model_dir(&model).unwrap(),
        };
        let messages: Vec<Message> = row["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                let role = match message["role"].as_str().unwrap() {
                    "system" => Role::System,
                    "user" => Role::User,
                    _ => Role::Assistant,
                };
                Message::new(role, message["content"].as_str().unwrap())
            })
            .collect();
        let options = RenderOptions {
            add_generation_prompt: row["add_generation_prompt"].as_bool().unwrap(),
            kwargs: row["kwargs"].as_object().unwrap().clone(),
            date_string: row["date_string"].as_str().map(String::from),
        };
        let rendered = template.render(&messages, &options);
        match (rendered, row["rendered"].as_str()) {
            (Ok(text), Some(expected)) if text == expected => {}
            (Err(error), None) => {
                let expected = row["error"].as_str().unwrap();
                assert!(
                    format!("{error:#}").contains(expected),
                    "{error:#} lacks {expected}"
                );
            }
            (rendered, _) => different.push(format!(
                "{}: {rendered:#?}\n----- and not\n{}",
                row["template"], row["rendered"]
            )),
        }
    }
    assert!(
        different.is_empty(),
        "{} differ:\n{}",
        different.len(),
        different.join("\n=====\n")
    );
}

#[test]
fn tokens_are_those_of_the_python_tokenizer() {
    let tokenizer = Tokenizer::from_model_dir(&golden("tokenizer")).unwrap();
    assert_eq!(tokenizer.vocab_size(), 901);
    for row in read_json("tokenizer_ids.json").as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let ids = |key: &str| -> Vec<u32> { serde_json::from_value(row[key].clone()).unwrap() };
        let encoded = tokenizer.encode(text, false).unwrap();
        assert_eq!(encoded, ids("ids"), "{text:?}");
        assert_eq!(
            tokenizer.encode(text, true).unwrap(),
            ids("ids_with_special"),
            "{text:?}"
        );
        assert_eq!(
            tokenizer.decode(&encoded, false).unwrap(),
            row["decoded"],
            "{text:?}"
        );
        let decoded = tokenizer.decode(&encoded, true).unwrap();
        assert_eq!(decoded, row["decoded_without_special"], "{text:?}");
    }
}

#[test]
fn the_stop_set_is_the_union_of_every_place_that_names_an_end() {
    let model = golden("tokenizer");
    let tokenizer = Tokenizer::from_model_dir(&model).unwrap();
    let stop = StopSet::from_model_dir(&model, &tokenizer, &[8]).unwrap();
    let found: Vec<(u32, &str, String)> = stop
        .tokens()
        .iter()
        .map(|token| (token.id, token.text.as_str(), token.sources.join(", ")))
        .collect();
    let expected = [
        (
            0,
            "<|endoftext|>",
            "generation_config.json eos_token_id, vocabulary",
        ),
        (
            3,
            "<|im_end|>",
            "config.json eos_token_id, tokenizer_config.json eos_token, vocabulary",
        ),
        (
            6,
            "<|eot_id|>",
            "generation_config.json eos_token_id, vocabulary",
        ),
        (8, "[|assistant|]", "rollout.stop_token_ids"),
        (9, "[|endofturn|]", "vocabulary"),
    ]
    .map(|(id, text, sources)| (id, text, sources.to_owned()));
    assert_eq!(found, expected);
    assert!(stop.contains(9) && !stop.contains(1));
    let error = StopSet::from_model_dir(&model, &tokenizer, &[901]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("rollout.stop_token_ids names 901"),
        "{error}"
    );
}
