//! Checks for incomplete answers and for questions that occur where they should not.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::setup::Texts;
use moim_core::dataset::{Record, question_type_warnings};
use moim_core::findings::{Check, first_few};
use moim_core::text::answer::{normalize, split_label};

/// Question types, answers, duplicates, leaks.
pub fn checks(texts: &Texts) -> Vec<Check> {
    let mut checks = vec![
        question_types(texts),
        answers(texts),
        duplicates(texts),
        leak(texts),
    ];
    checks.extend(few_shot(texts));
    checks
}

/// Whether all questions have a type with its own prompt.
fn question_types(texts: &Texts) -> Check {
    const NAME: &str = "question_types";
    let data = &texts.experiment.data;
    let mut unknown = question_type_warnings(&data.train, &texts.train_records);
    unknown.extend(question_type_warnings(&data.eval, &texts.eval_records));
    if unknown.is_empty() {
        Check::ok(NAME, "every question is 선택형 or 교정형")
    } else {
        Check::warning(NAME, unknown.join("; "))
    }
}

/// Whether answers have a reason. Every record has an answer, or loading would have failed.
fn answers(texts: &Texts) -> Check {
    const NAME: &str = "answers";
    let endings = &texts.experiment.reward.answer_endings;
    let has_no_reason = |answer: &str| split_label(answer, endings).reason.is_empty();
    let train: Vec<&str> = texts
        .train_records
        .iter()
        .filter(|record| record.answer.as_deref().is_none_or(has_no_reason))
        .map(|record| record.id.as_str())
        .collect();
    let labels: HashMap<&str, &str> = texts
        .labels
        .items()
        .iter()
        .map(|label| (label.id.as_str(), label.answer.as_str()))
        .collect();
    let eval: Vec<&str> = texts
        .eval_records
        .iter()
        .map(|record| record.id.as_str())
        .filter(|id| labels.get(id).is_none_or(|answer| has_no_reason(answer)))
        .collect();
    let details = json!({ "train_without_reason": train, "eval_without_reason": eval });
    let data = &texts.experiment.data;
    let sets = [
        (&train, texts.train_records.len(), data.train.as_path()),
        (&eval, texts.eval_records.len(), data.labels_path()),
    ];
    let problems: Vec<String> = sets
        .into_iter()
        .filter(|(incomplete, ..)| !incomplete.is_empty())
        .map(|(incomplete, all, path)| {
            format!(
                "{}: {} of {all} answers have no reason after one of reward.answer_endings (ids {})",
                path.display(),
                incomplete.len(),
                first_few(incomplete)
            )
        })
        .collect();
    let check = if problems.is_empty() {
        Check::ok(
            NAME,
            format!(
                "all {} training and {} validation questions have an answer with a reason",
                texts.train_records.len(),
                texts.eval_records.len()
            ),
        )
    } else {
        Check::warning(
            NAME,
            format!(
                "{}; rouge1 and bertscore compare reasons and are 0 for these: complete the answers, or \
                 set reward.answer_endings to the endings of the sentences in your data",
                problems.join("; ")
            ),
        )
    };
    check.with(details)
}

/// Records by their normalised question.
fn by_question(records: &[Record]) -> HashMap<String, Vec<&Record>> {
    let mut found: HashMap<String, Vec<&Record>> = HashMap::new();
    for record in records {
        found
            .entry(normalize(&record.question))
            .or_default()
            .push(record);
    }
    found
}

fn duplicates(texts: &Texts) -> Check {
    const NAME: &str = "duplicates";
    let questions = by_question(&texts.train_records);
    let mut repeated: Vec<Vec<&str>> = Vec::new();
    let mut contradicted = 0;
    // In the order of the file, so that the same data is always reported the same way.
    for record in &texts.train_records {
        let all = &questions[&normalize(&record.question)];
        if all.len() > 1 && all[0].id == record.id {
            repeated.push(all.iter().map(|same| same.id.as_str()).collect());
            contradicted += usize::from(all.iter().any(|same| same.answer != all[0].answer));
        }
    }
    let details = json!({ "repeated": repeated, "with_different_answers": contradicted });
    if repeated.is_empty() {
        let message = format!("{} training questions, all different", questions.len());
        return Check::ok(NAME, message).with(details);
    }
    let pairs: Vec<String> = repeated.iter().map(|ids| ids.join(" = ")).collect();
    let mut message = format!(
        "{}: {} question(s) occur more than once (ids {})",
        texts.experiment.data.train.display(),
        repeated.len(),
        first_few(&pairs)
    );
    if contradicted > 0 {
        message.push_str(&format!(", {contradicted} of them with different answers"));
    }
    message.push_str("; they have more weight than others: remove unintended duplicates");
    Check::warning(NAME, message).with(details)
}

/// Records whose question is also in `others`: as text (`5 = 1`; one id if both are the same) and as
/// pairs of ids.
fn shared(records: &[Record], others: &[Record]) -> (Vec<String>, Vec<Value>) {
    let others = by_question(others);
    let mut shown = Vec::new();
    let mut pairs = Vec::new();
    for record in records {
        let Some(same) = others.get(&normalize(&record.question)) else {
            continue;
        };
        let other = &same[0].id;
        shown.push(if *other == record.id {
            record.id.clone()
        } else {
            format!("{} = {other}", record.id)
        });
        pairs.push(json!([record.id, other]));
    }
    (shown, pairs)
}

/// Validation questions that are also training questions.
fn leak(texts: &Texts) -> Check {
    const NAME: &str = "leak";
    let (leaked, pairs) = shared(&texts.eval_records, &texts.train_records);
    let details = json!({ "eval_and_train": pairs });
    if leaked.is_empty() {
        return Check::ok(NAME, "no validation question is trained on").with(details);
    }
    let data = &texts.experiment.data;
    let all = texts.eval_records.len();
    let message = format!(
        "{}: {} of {all} questions are also in {} (ids {}); scores then show what was memorised: remove \
         them from one of the two",
        data.eval.display(),
        leaked.len(),
        data.train.display(),
        first_few(&leaked)
    );
    Check::warning(NAME, message).with(details)
}

/// Validation questions that prompts show with their answers; `None` if prompts have no examples.
fn few_shot(texts: &Texts) -> Option<Check> {
    const NAME: &str = "few_shot";
    let data = &texts.experiment.data;
    let path = data.few_shot.as_ref().filter(|_| data.num_few_shot > 0)?;
    let answered: Vec<Record> = texts
        .few_shot
        .iter()
        .filter(|record| record.answer.is_some())
        .cloned()
        .collect();
    let (leaked, pairs) = shared(&texts.eval_records, &answered);
    let details = json!({ "eval_and_examples": pairs });
    if leaked.is_empty() {
        let message = format!(
            "{} examples, none of them a validation question",
            answered.len()
        );
        return Some(Check::ok(NAME, message).with(details));
    }
    let which = if leaked.len() == texts.eval_records.len() {
        "every question".to_owned()
    } else {
        format!("{} of {} questions", leaked.len(), texts.eval_records.len())
    };
    let message = format!(
        "{}: {which} of {} can be shown as examples, with their answers, in the prompts of others (ids \
         {}); use other records as data.few_shot",
        path.display(),
        data.eval.display(),
        first_few(&leaked)
    );
    Some(Check::warning(NAME, message).with(details))
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Folder, record};
    use super::*;
    use moim_core::dataset::QuestionType;
    use moim_core::findings::Severity;

    fn by_name(checks: &[Check], name: &str) -> Check {
        checks
            .iter()
            .find(|check| check.name == name)
            .unwrap()
            .clone()
    }

    #[test]
    fn data_without_faults_has_no_findings() {
        let checks = checks(&Folder::new().texts(|_| ()));
        assert_eq!(checks.len(), 4);
        for check in checks {
            assert_eq!(check.severity, Severity::Ok, "{}", check.message);
        }
    }

    #[test]
    fn unknown_question_types_are_reported_for_each_file() {
        let folder = Folder::new();
        let mut odd = record("9", "뛰다");
        odd.question_type = QuestionType::Other("서술형".to_owned());
        folder.write_records("train.json", &[record("1", "가다"), odd]);
        let check = by_name(&checks(&folder.texts(|_| ())), "question_types");
        assert_eq!(check.severity, Severity::Warning);
        for words in [
            "train.json: 1 item(s)",
            "\"서술형\"",
            "first: id 9",
            "general prompt",
        ] {
            assert!(check.message.contains(words), "{}", check.message);
        }
    }

    #[test]
    fn answers_without_a_reason_are_reported_with_their_ids() {
        let folder = Folder::new();
        let mut bare = record("9", "뛰다");
        bare.answer = Some("\"뛰다.\"가 옳다.".to_owned());
        let all = [record("1", "가다"), bare];
        folder.write_records("train.json", &all);
        let check = by_name(
            &checks(&folder.texts(|experiment| experiment.grpo.per_device_train_batch_size = 4)),
            "answers",
        );
        assert_eq!(check.severity, Severity::Warning);
        for words in [
            "train.json: 1 of 2 answers",
            "(ids 9)",
            "reward.answer_endings",
        ] {
            assert!(check.message.contains(words), "{}", check.message);
        }
        // Another ending does not occur here.
        let check = by_name(
            &checks(&folder.texts(|experiment| {
                experiment.reward.answer_endings = vec!["is right".to_owned()];
            })),
            "answers",
        );
        assert!(
            check.message.contains("eval.json: 2 of 2"),
            "{}",
            check.message
        );
    }

    #[test]
    fn a_duplicate_question_is_reported_whatever_its_quotes_and_spaces() {
        let folder = Folder::new();
        let mut again = record("7", "가다");
        again.question = format!("  {} ", again.question.replace(' ', "  "));
        let mut other = record("8", "가다");
        other.answer = Some("\"갸다.\"가 옳다. 틀린 답이다.".to_owned());
        let all = [record("1", "가다"), record("2", "오다"), again, other];
        folder.write_records("train.json", &all);
        let check = by_name(&checks(&folder.texts(|_| ())), "duplicates");
        assert_eq!(check.severity, Severity::Warning);
        for words in [
            "1 question(s)",
            "1 = 7 = 8",
            "1 of them with different answers",
        ] {
            assert!(check.message.contains(words), "{}", check.message);
        }
    }

    #[test]
    fn validation_questions_in_training_or_among_examples_are_leaks() {
        let folder = Folder::new();
        folder.write_records("eval.json", &[record("5", "가다"), record("6", "살다")]);
        let texts = folder.texts(|experiment| {
            experiment.data.few_shot = Some(experiment.data.eval.clone());
            experiment.data.num_few_shot = 1;
        });
        let found = checks(&texts);
        let leak = by_name(&found, "leak");
        assert_eq!(leak.severity, Severity::Warning);
        assert!(
            leak.message.contains("1 of 2") && leak.message.contains("5 = 1"),
            "{}",
            leak.message
        );
        let shown = by_name(&found, "few_shot");
        assert_eq!(shown.severity, Severity::Warning);
        assert!(
            shown.message.contains("every question"),
            "{}",
            shown.message
        );
        let texts = folder.texts(|experiment| {
            experiment.data.few_shot = Some(experiment.data.train.clone());
            experiment.data.num_few_shot = 1;
        });
        let shown = by_name(&checks(&texts), "few_shot");
        assert!(
            shown.message.contains("1 of 2 questions"),
            "{}",
            shown.message
        );
    }
}
