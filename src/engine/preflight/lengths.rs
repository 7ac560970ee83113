//! Compares the lengths of prompts and reference answers, in tokens, with their limits.

use serde_json::{Value, json};

use crate::setup::{Questions, Texts};
use moim_core::experiment::Experiment;
use moim_core::findings::{Check, first_few};
use moim_core::text::answer::split_label;

/// Prompts, answers, and both together.
pub fn checks(texts: &Texts) -> [Check; 3] {
    [prompts(texts), answers(texts), positions(texts)]
}

/// Lengths in tokens with their ids, ascending by length.
struct Lengths<'a>(Vec<(usize, &'a str)>);

impl<'a> Lengths<'a> {
    fn new(lengths: impl Iterator<Item = (usize, &'a str)>) -> Self {
        let mut lengths: Vec<_> = lengths.collect();
        lengths.sort_by_key(|(length, _)| *length);
        Self(lengths)
    }

    fn of_prompts(questions: &'a Questions) -> Self {
        Self::new(
            questions
                .kept
                .iter()
                .map(|question| (question.prompt.tokens.len(), question.record.id.as_str())),
        )
    }

    fn at(&self, index: usize) -> usize {
        self.0.get(index).map_or(0, |(length, _)| *length)
    }

    fn longest(&self) -> usize {
        self.at(self.0.len().saturating_sub(1))
    }

    /// The ids of those over `limit`, the longest first.
    fn over(&self, limit: usize) -> Vec<&'a str> {
        self.0
            .iter()
            .rev()
            .filter(|(length, _)| *length > limit)
            .map(|(_, id)| *id)
            .collect()
    }

    /// `31 to 50 tokens (median 40)`.
    fn words(&self) -> String {
        format!(
            "{} to {} tokens (median {})",
            self.at(0),
            self.longest(),
            self.at(self.0.len() / 2)
        )
    }

    fn json(&self) -> Value {
        json!({
            "count": self.0.len(),
            "min": self.at(0),
            "median": self.at(self.0.len() / 2),
            "max": self.longest(),
        })
    }
}

fn prompts(texts: &Texts) -> Check {
    const NAME: &str = "prompt_lengths";
    let limit = texts.experiment.data.max_prompt_length;
    let sets = [("data.train", &texts.train), ("data.eval", &texts.eval)];
    let mut parts = Vec::new();
    let mut details = json!({ "max_prompt_length": limit });
    let mut problems = Vec::new();
    for (key, set) in sets {
        let lengths = Lengths::of_prompts(set);
        parts.push(format!(
            "{key} {} prompts of {}",
            set.kept.len(),
            lengths.words()
        ));
        let mut json = lengths.json();
        let left_out: Vec<&str> = set.dropped.iter().map(|(id, _)| id.as_str()).collect();
        json["left_out"] = json!(left_out);
        json["with_fewer_examples"] = json!(set.shortened);
        details[key] = json;
        if !left_out.is_empty() {
            problems.push(format!(
                "{key}: {} prompt(s) longer than data.max_prompt_length = {limit} tokens are left out \
                 (data.long_prompts = \"drop\"; ids {})",
                left_out.len(),
                first_few(&left_out)
            ));
        }
        if !set.shortened.is_empty() {
            problems.push(format!(
                "{key}: {} prompt(s) have fewer examples than data.num_few_shot = {} to stay within \
                 {limit} tokens (ids {})",
                set.shortened.len(),
                texts.experiment.data.num_few_shot,
                first_few(&set.shortened)
            ));
        }
    }
    let check = if problems.is_empty() {
        Check::ok(NAME, format!("{}, of at most {limit}", parts.join("; ")))
    } else {
        Check::warning(
            NAME,
            format!(
                "{}; raise data.max_prompt_length for all of them",
                problems.join("; ")
            ),
        )
    };
    check.with(details)
}

/// Reference answers as the model would have to write them: the shortest alternative with the reason and
/// the end token.
fn answers(texts: &Texts) -> Check {
    const NAME: &str = "answer_lengths";
    let experiment = &texts.experiment;
    let kept = texts.train.kept.iter();
    let train = answer_lengths(
        texts,
        kept.filter_map(|question| {
            let answer = question.record.answer.as_deref()?;
            Some((question.record.id.as_str(), answer))
        }),
    );
    let labels = texts.eval.kept.iter().filter_map(|question| {
        let label = &texts.labels.items()[texts.labels.position(&question.record.id)?];
        Some((label.id.as_str(), label.answer.as_str()))
    });
    let eval = answer_lengths(texts, labels);
    let (train, eval) = match (train, eval) {
        (Ok(train), Ok(eval)) => (train, eval),
        (Err(error), _) | (_, Err(error)) => return Check::error(NAME, format!("{error:#}")),
    };
    answer_check(experiment, &train, &eval).with(json!({
        "data.train": train.json(),
        "data.eval": eval.json(),
        "rollout.max_completion_length": experiment.rollout.max_completion_length,
        "inference.max_completion_length": experiment.inference.max_completion_length,
        "over_in_training": train.over(experiment.rollout.max_completion_length),
        "over_in_inference": eval.over(experiment.inference.max_completion_length),
    }))
}

fn answer_check(experiment: &Experiment, train: &Lengths<'_>, eval: &Lengths<'_>) -> Check {
    const NAME: &str = "answer_lengths";
    let limit = experiment.rollout.max_completion_length;
    let over = train.over(limit);
    // A program can use a label that is not meant as a completion.
    let is_compared = ["exact_match", "rouge1", "bertscore"]
        .iter()
        .any(|metric| experiment.reward.formula.contains(metric));
    if is_compared && !over.is_empty() && over.len() == train.0.len() {
        return Check::error(
            NAME,
            format!(
                "rollout.max_completion_length = {limit}: no completion can be a whole answer; the \
                 shortest reference answer of data.train has {} tokens and the longest {}; raise it",
                train.at(0),
                train.longest()
            ),
        );
    }
    let mut problems = Vec::new();
    let mut report = |key: &str, limit: usize, set: &str, over: &[&str], lengths: &Lengths<'_>| {
        if !over.is_empty() {
            problems.push(format!(
                "{key} = {limit}: {} of {} reference answers of {set} are longer (up to {} tokens; ids {}) \
                 and would be cut; raise it",
                over.len(),
                lengths.0.len(),
                lengths.longest(),
                first_few(over)
            ));
        }
    };
    report(
        "rollout.max_completion_length",
        limit,
        "data.train",
        &over,
        train,
    );
    let answered = experiment.inference.max_completion_length;
    let over = eval.over(answered);
    report(
        "inference.max_completion_length",
        answered,
        "data.eval",
        &over,
        eval,
    );
    if problems.is_empty() {
        Check::ok(
            NAME,
            format!(
                "reference answers of {} in data.train, {} in data.eval; completions of at most {limit}, \
                 answers of at most {answered}",
                train.words(),
                eval.words()
            ),
        )
    } else {
        Check::warning(NAME, problems.join("; "))
    }
}

fn answer_lengths<'a>(
    texts: &Texts,
    answers: impl Iterator<Item = (&'a str, &'a str)>,
) -> anyhow::Result<Lengths<'a>> {
    let endings = &texts.experiment.reward.answer_endings;
    let tokens =
        |text: &str| -> anyhow::Result<usize> { Ok(texts.tokenizer.encode(text, false)?.len()) };
    let length = |answer: &str| -> anyhow::Result<usize> {
        let alternatives = split_label(answer, endings).alternatives;
        let mut others = 0;
        if let Some(shortest) = alternatives.iter().min_by_key(|it| it.len()) {
            for alternative in alternatives.iter().filter(|it| *it != shortest) {
                others += tokens(alternative)?;
            }
        }
        Ok(tokens(answer)?.saturating_sub(others) + 1)
    };
    let lengths = answers
        .map(|(id, answer)| Ok((length(answer)?, id)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Lengths::new(lengths.into_iter()))
}

/// Whether prompt and completion fit the model's positions; text beyond them is rarely useful.
fn positions(texts: &Texts) -> Check {
    const NAME: &str = "positions";
    let experiment = &texts.experiment;
    let limit = texts.model.max_position_embeddings;
    let uses = [
        (
            "rollout.max_completion_length",
            experiment.rollout.max_completion_length,
            Lengths::of_prompts(&texts.train),
        ),
        (
            "inference.max_completion_length",
            experiment.inference.max_completion_length,
            Lengths::of_prompts(&texts.eval),
        ),
    ];
    let mut problems = Vec::new();
    let mut furthest = 0;
    for (key, completion, lengths) in &uses {
        furthest = furthest.max(lengths.longest() + completion);
        let over = lengths.over(limit.saturating_sub(*completion));
        if !over.is_empty() {
            problems.push(format!(
                "{key} = {completion}: {} of {} prompts, the longest of {} tokens, then exceed the model's \
                 max_position_embeddings = {limit} (ids {})",
                over.len(),
                lengths.0.len(),
                lengths.longest(),
                first_few(&over)
            ));
        }
    }
    let details = json!({ "max_position_embeddings": limit, "furthest": furthest });
    let check = if problems.is_empty() {
        Check::ok(
            NAME,
            format!("prompt and answer reach {furthest} of the model's {limit} positions"),
        )
    } else {
        Check::warning(
            NAME,
            format!(
                "{}; the model was not trained beyond that: lower it, or data.max_prompt_length",
                problems.join("; ")
            ),
        )
    };
    check.with(details)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Folder;
    use super::*;
    use moim_core::experiment::LongPrompts;
    use moim_core::findings::Severity;

    fn checked(change: impl FnOnce(&mut Experiment)) -> [Check; 3] {
        checks(&Folder::new().texts(change))
    }

    #[test]
    fn lengths_within_their_limits_are_reported_with_their_median() {
        let [prompts, answers, positions] = checked(|_| ());
        for check in [&prompts, &answers, &positions] {
            assert_eq!(check.severity, Severity::Ok, "{}", check.message);
        }
        assert!(prompts.message.contains("(median "), "{}", prompts.message);
        assert_eq!(prompts.details["data.train"]["count"], 4);
        assert!(answers.details["data.train"]["min"].as_u64() > Some(1));
    }

    #[test]
    fn answers_that_never_fit_are_an_error_and_some_of_them_a_warning() {
        let [_, fits, _] = checked(|_| ());
        let length = |key: &str| fits.details["data.train"][key].as_u64().unwrap() as usize;
        let [_, none, _] =
            checked(|experiment| experiment.rollout.max_completion_length = length("min") - 1);
        assert_eq!(none.severity, Severity::Error);
        assert!(
            none.message.contains("the shortest reference answer"),
            "{}",
            none.message
        );
        let [_, some, _] =
            checked(|experiment| experiment.rollout.max_completion_length = length("max") - 1);
        assert_eq!(some.severity, Severity::Warning);
        assert!(some.message.contains("1 of 4"), "{}", some.message);
        assert_eq!(some.details["over_in_training"], json!(["4"]));
        // The longest of all fits to the token.
        let [_, just, _] =
            checked(|experiment| experiment.rollout.max_completion_length = length("max"));
        assert_eq!(just.severity, Severity::Ok);
        let [_, cut, _] = checked(|experiment| experiment.inference.max_completion_length = 2);
        assert_eq!(cut.severity, Severity::Warning);
        assert!(
            cut.message.contains("inference.max_completion_length = 2"),
            "{}",
            cut.message
        );
    }

    #[test]
    fn dropped_prompts_and_exceeded_positions_are_warnings() {
        let [prompts, ..] = checked(|_| ());
        let longest = prompts.details["data.train"]["max"].as_u64().unwrap() as usize;
        let [prompts, ..] = checked(|experiment| {
            experiment.data.max_prompt_length = longest - 1;
            experiment.data.long_prompts = LongPrompts::Drop;
        });
        assert_eq!(prompts.severity, Severity::Warning);
        assert_eq!(prompts.details["data.train"]["left_out"], json!(["4"]));
        let [_, _, positions] =
            checked(|experiment| experiment.rollout.max_completion_length = 1_000_000);
        assert_eq!(positions.severity, Severity::Warning);
        assert!(
            positions
                .message
                .contains("exceed the model's max_position_embeddings"),
            "{}",
            positions.message
        );
    }
}
