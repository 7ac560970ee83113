//! Questions, instructions, labels, answers and kept scores.

use moim::dataset::{
    AnswerFile, Instructions, load_records, question_type_warnings, require_answers,
};
use moim::experiment::Experiment;
use moim::metric::{MetricSettings, Metrics, RougeTokenizer};
use moim::score::{AnswerSheet, KeptScores, Labels, Resampling, render};
use moim::text::answer;
use serde_json::{Value, json};

use super::{Folder, content, shown, told};
use crate::fuzz::harness::{MEMORY, Reader, fuzz};
use crate::fuzz::mutate::Form;

const WORDS: &[&str] = &[
    "id",
    "input",
    "output",
    "question",
    "question_type",
    "answer",
    "data",
    "선택형",
    "교정형",
    "\"가\"가 옳다.",
    "\"나\"가 옳다. 이유",
    "{",
    "}",
    "/",
    "→",
];

/// The first items of the demo's evaluation set.
fn items() -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_slice(&content("data/demo/eval.json")).unwrap();
    all.into_iter().take(5).collect()
}

fn lines() -> Vec<u8> {
    let lines: Vec<String> = items().iter().map(|item| format!("{item}\n")).collect();
    lines.concat().into_bytes()
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[test]
fn questions() {
    let folder = Folder::new();
    for (name, form, examples) in [
        (
            "questions.json",
            Form::Json,
            vec![text(&json!(items())), text(&json!({ "data": items() }))],
        ),
        ("questions.jsonl", Form::JsonLines, vec![lines()]),
    ] {
        fuzz(Reader {
            name,
            form,
            examples,
            words: WORDS,
            cases: 3000,
            memory: (400, 16 << 20),
            names: name,
            read: Box::new(|input| {
                let path = folder.write(name, input);
                let records = load_records(&path).map_err(shown)?;
                question_type_warnings(&path, &records);
                require_answers(&path, &records).map_err(shown)
            }),
        });
    }
}

#[test]
fn instructions() {
    let folder = Folder::new();
    fuzz(Reader {
        name: "instruct.json",
        form: Form::Json,
        examples: vec![content("data/demo/instruct.json")],
        words: &["prompt", "selection_prompt", "correction_promt"],
        cases: 4000,
        memory: MEMORY,
        names: "instruct.json",
        read: Box::new(|input| {
            let path = folder.write("instruct.json", input);
            Instructions::load(&path).map(|_| ()).map_err(told)
        }),
    });
}

#[test]
fn labels() {
    let folder = Folder::new();
    let pairs: Vec<Value> = items()
        .iter()
        .map(|item| json!({"id": item["id"], "answer": item["output"]["answer"]}))
        .collect();
    let settings = MetricSettings {
        rouge_tokenizer: RougeTokenizer::Syllable,
        ..MetricSettings::default()
    };
    let mut metrics = Metrics::new(settings, None).unwrap();
    let endings = answer::default_endings();
    fuzz(Reader {
        name: "labels.json",
        form: Form::Json,
        examples: vec![text(&json!(items())), text(&json!(pairs))],
        words: WORDS,
        cases: 3000,
        memory: (400, 16 << 20),
        names: "labels.json",
        read: Box::new(|input| {
            let path = folder.write("labels.json", input);
            let labels = Labels::load(&path).map_err(shown)?;
            for label in labels.items() {
                answer::alternatives(&label.answer, &endings);
                answer::contest_exact_match(&label.answer, &label.answer, &endings);
                metrics
                    .score(&[(&label.answer, &label.answer)])
                    .map_err(told)?;
            }
            Ok(())
        }),
    });
}

#[test]
fn answer_files() {
    let folder = Folder::new();
    let labels = Labels::load(&folder.write("labels.json", &text(&json!(items())))).unwrap();
    fuzz(Reader {
        name: "inference_epoch1.json",
        form: Form::Json,
        examples: vec![text(&json!(items()))],
        words: WORDS,
        cases: 3000,
        memory: (400, 16 << 20),
        names: "inference_epoch1.json",
        read: Box::new(|input| {
            let path = folder.write("inference_epoch1.json", input);
            let sheet = AnswerSheet::parse(input);
            let file = AnswerFile::read(&path).map_err(shown)?;
            let sheet = sheet.map_err(|fault| format!("the sheet alone is refused: {fault}"))?;
            assert_eq!(sheet.item_count(), file.answers.len() + file.missing.len());
            sheet.join(&labels);
            Ok(())
        }),
    });
}

/// A folder of answers and kept scores is ranked whatever is in its files.
#[test]
fn kept_scores() {
    let folder = Folder::new();
    let answers = text(&json!(items()));
    let labels = Labels::load(&folder.write("labels.json", &answers)).unwrap();
    folder.write("infer_results/inference_epoch1.json", &answers);
    let mut experiment = Experiment::default();
    experiment.reward.rouge_tokenizer = RougeTokenizer::Syllable;
    let settings = Metrics::new(MetricSettings::from(&experiment.reward), None).unwrap();
    let kept: Vec<Value> = items()
        .iter()
        .map(|item| {
            json!({"id": item["id"], "question_type": "선택형", "format": 1.0, "exact_match": 1.0,
                   "rouge1": 0.5, "bertscore": 0.5, "reason_missing": false})
        })
        .collect();
    let sheet = AnswerSheet::parse(&answers).unwrap();
    let file = json!({"v": 1, "answers": sheet.fingerprint(), "labels": labels.fingerprint(),
                      "settings": settings.fingerprint(), "encoder": "none", "items": kept});
    let resampling = Resampling {
        resamples: 20,
        ..Resampling::default()
    };
    fuzz(Reader {
        name: "scores of an answer file",
        form: Form::Json,
        examples: vec![text(&file)],
        words: &["bertscore", "items", "v", "encoder"],
        cases: 1500,
        memory: MEMORY,
        names: "",
        read: Box::new(|input| {
            folder.write("scores/inference_epoch1.json", input);
            let mut scores = KeptScores::new(&experiment, false).map_err(told)?;
            let board = scores
                .rank(folder.path(), &labels, resampling)
                .map_err(shown)?;
            render::text(&board);
            render::json(&board);
            render::csv(&board);
            Ok(())
        }),
    });
}
