//! Checks every reward on a right answer and on nonsense.

use serde_json::{Value, json};

use crate::setup::{Question, Texts};
use moim_core::findings::Check;
use moim_core::reward::{BAD_ANSWER, RewardCheck, RewardSample, RewardSet, TOTAL};
use moim_core::text::answer::split_label;

const NAME: &str = "rewards";

/// The most records that are tried, one of each question type.
const TRIED: usize = 3;

/// Scores reference answers as completions, and [`BAD_ANSWER`] instead of them.
///
/// A total that is the same for both cannot teach anything. A single value that is the same for both can
/// be intended (a length penalty, for example), or a pattern never matches.
pub fn rewards(texts: &Texts, rewards: Result<&mut RewardSet, String>) -> Check {
    let rewards = match rewards {
        Ok(rewards) => rewards,
        Err(why) => return Check::error(NAME, why),
    };
    let tried = tried(texts);
    let samples: Vec<RewardSample<'_>> = tried
        .iter()
        .map(|question| RewardSample {
            id: &question.record.id,
            prompt: &question.text,
            completion: "",
            label: question.record.answer.as_deref().unwrap_or_default(),
            question_type: question.record.question_type.name(),
            tokens: 0,
            // Training counts from 1.
            step: 0,
        })
        .collect();
    let checks = rewards.check(&samples);
    let nonfinite = rewards.take_nonfinite();
    match checks {
        Ok(checks) => reward_check(rewards, &samples, &checks, &nonfinite),
        Err(error) => Check::error(NAME, format!("{error:#}")),
    }
}

/// The first record of each question type with a complete answer: one sentence and a reason. If a type
/// has none, its first record.
fn tried(texts: &Texts) -> Vec<&Question> {
    let endings = &texts.experiment.reward.answer_endings;
    let is_whole = |question: &&Question| {
        let answer = question.record.answer.as_deref().unwrap_or_default();
        let label = split_label(answer, endings);
        label.alternatives.len() == 1 && !label.reason.is_empty()
    };
    let mut types = Vec::new();
    for question in &texts.train.kept {
        if !types.contains(&&question.record.question_type) {
            types.push(&question.record.question_type);
        }
    }
    types
        .into_iter()
        .take(TRIED)
        .filter_map(|of_type| {
            let mut all = texts
                .train
                .kept
                .iter()
                .filter(|question| question.record.question_type == *of_type);
            let first = all.clone().next();
            all.find(is_whole).or(first)
        })
        .collect()
}

fn reward_check(
    rewards: &RewardSet,
    samples: &[RewardSample<'_>],
    checks: &[RewardCheck],
    nonfinite: &[(String, usize)],
) -> Check {
    let details = details(samples, checks);
    let Some((total, values)) = checks.split_last() else {
        return Check::error(NAME, "there is no reward");
    };
    let formula = rewards.formula().text();
    let ids: Vec<&str> = samples.iter().map(|sample| sample.id).collect();
    let tried = format!(
        "the reference answer and {BAD_ANSWER:?} (tried on item {})",
        ids.join(", ")
    );
    if is_constant(total) {
        let parts: Vec<String> = values.iter().map(words).collect();
        let message = format!(
            "reward.formula = \"{formula}\" gives {} to both {tried}, so it does not distinguish good from \
             bad and nothing would be learned; correct the formula or its values ({})",
            shown(total.good.first()),
            parts.join(", ")
        );
        // A program can use a label that is not itself an answer (a test, a rubric), and a pattern can
        // require more than the labels have.
        let is_sum = rewards.weights().is_some();
        let differs = values.iter().any(|value| !is_constant(value));
        let may_be_intended = rewards.uses_program() || (!is_sum && differs);
        let check = if may_be_intended {
            let intended =
                "if reference answers do not have the form that the reward requires, ignore this";
            Check::warning(NAME, format!("{message}; {intended}"))
        } else {
            Check::error(NAME, message)
        };
        return check.with(details);
    }
    let mut problems: Vec<String> = nonfinite
        .iter()
        .map(|(name, count)| {
            format!(
                "{name} was NaN or infinite for {count} of {} answers, which counts as no value",
                2 * samples.len()
            )
        })
        .collect();
    let is_worse = |(good, bad): (&Option<f64>, &Option<f64>)| good < bad;
    if total.good.iter().zip(&total.bad).all(is_worse) {
        problems.push(format!(
            "reward.formula = \"{formula}\" gives less to the reference answer ({}) than to {BAD_ANSWER:?} \
             ({}); change the sign if that is not intended",
            shown(total.good.first()),
            shown(total.bad.first())
        ));
    }
    let constant: Vec<String> = values
        .iter()
        .filter(|value| is_constant(value))
        .map(|value| format!("{} ({})", value.name, shown(value.good.first())))
        .collect();
    if !constant.is_empty() {
        problems.push(format!(
            "{} the same for both {tried}: a value that never differs teaches nothing; check the data's \
             answers, and reward.format_pattern, reward.answer_endings or the program",
            match constant.len() {
                1 => format!("{} is", constant[0]),
                _ => format!("{} are each", constant.join(", ")),
            }
        ));
    }
    let parts: Vec<String> = values.iter().map(words).collect();
    let values = format!(
        "{} for the reference answer of item {:?}, {} for {BAD_ANSWER:?} ({})",
        shown(total.good.first()),
        samples[0].id,
        shown(total.bad.first()),
        parts.join(", ")
    );
    let check = if problems.is_empty() {
        Check::ok(NAME, values)
    } else {
        Check::warning(NAME, format!("{}; {values}", problems.join("; ")))
    };
    check.with(details)
}

/// Whether every tried answer got the same value, or none of them any.
fn is_constant(check: &RewardCheck) -> bool {
    let mut all = check.good.iter().chain(&check.bad);
    let first = all.next();
    all.all(|value| Some(value) == first)
}

/// `format 1 against 0`, of the first record.
fn words(check: &RewardCheck) -> String {
    format!(
        "{} {} against {}",
        check.name,
        shown(check.good.first()),
        shown(check.bad.first())
    )
}

fn shown(value: Option<&Option<f64>>) -> String {
    match value.copied().flatten() {
        Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.4}"),
        None => "no value".to_owned(),
    }
}

fn details(samples: &[RewardSample<'_>], checks: &[RewardCheck]) -> Value {
    let of_sample = |(at, sample): (usize, &RewardSample<'_>)| {
        let values: Vec<Value> = checks
            .iter()
            .map(|check| {
                let name = if check.name == TOTAL {
                    "total"
                } else {
                    &check.name
                };
                json!({ "name": name, "good": check.good[at], "bad": check.bad[at] })
            })
            .collect();
        json!({
            "id": sample.id,
            "question_type": sample.question_type,
            "good_answer": sample.label,
            "bad_answer": BAD_ANSWER,
            "values": values,
        })
    };
    json!({ "tried": samples.iter().enumerate().map(of_sample).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::super::sample::Folder;
    use super::*;
    use moim_core::experiment::{Experiment, RewardCommand};
    use moim_core::findings::Severity;
    use moim_core::metric::{MetricSettings, Metrics};

    /// The check of an experiment without an encoder.
    fn checked(change: impl FnOnce(&mut Experiment)) -> Check {
        let texts = Folder::new().texts(change);
        let section = &texts.experiment.reward;
        let metrics = Metrics::new(MetricSettings::from(section), None).unwrap();
        let mut set = RewardSet::new(section, 32, metrics).unwrap();
        rewards(&texts, Ok(&mut set))
    }

    fn command(script: &str, timeout_seconds: f64) -> RewardCommand {
        RewardCommand {
            name: "judge".to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout_seconds,
        }
    }

    /// Answers each line with this reward.
    fn always(reward: &str) -> String {
        format!(
            "n=0; while read -r line; do echo \"{{\\\"index\\\":$n,\\\"reward\\\":{reward}}}\"; n=$((n+1)); done"
        )
    }

    #[test]
    fn a_formula_that_distinguishes_good_from_bad_is_shown_with_its_values() {
        let check = checked(|_| ());
        assert_eq!(check.severity, Severity::Ok, "{}", check.message);
        for words in [
            "3 for the reference answer of item \"1\"",
            "0 for \"asdf",
            "rouge1 1 against 0",
        ] {
            assert!(check.message.contains(words), "{}", check.message);
        }
        let values = &check.details["tried"][0]["values"];
        assert_eq!(
            values[3],
            json!({ "name": "total", "good": 3.0, "bad": 0.0 })
        );
    }

    #[test]
    fn a_reward_that_reference_answers_may_not_earn_is_a_warning() {
        let check = checked(|experiment| {
            experiment.reward.formula = "format * exact_match".to_owned();
            experiment.reward.format_pattern = "^<think>".to_owned();
        });
        assert_eq!(check.severity, Severity::Warning, "{}", check.message);
        let check = checked(|experiment| {
            experiment.reward.formula = "judge".to_owned();
            experiment.reward.commands = vec![command(&always("0"), 60.0)];
        });
        assert_eq!(check.severity, Severity::Warning, "{}", check.message);
        assert!(
            check.message.contains("the form that the reward requires"),
            "{}",
            check.message
        );
    }

    #[test]
    fn a_total_that_is_the_same_for_both_is_an_error() {
        let check = checked(|experiment| experiment.reward.formula = "2 + 0*format".to_owned());
        assert_eq!(check.severity, Severity::Error);
        for words in [
            "reward.formula = \"2 + 0*format\"",
            "gives 2 to both",
            "format 1 against 0",
        ] {
            assert!(check.message.contains(words), "{}", check.message);
        }
    }

    #[test]
    fn a_value_that_never_differs_and_an_inverted_reward_are_warnings() {
        let check = checked(|experiment| experiment.reward.format_pattern = "^<think>".to_owned());
        assert_eq!(check.severity, Severity::Warning);
        assert!(
            check.message.contains("format (0) is the same")
                && check
                    .message
                    .contains("; 2 for the reference answer of item \"1\", 0 for"),
            "{}",
            check.message
        );
        let check = checked(|experiment| experiment.reward.formula = "1 - rouge1".to_owned());
        assert_eq!(check.severity, Severity::Warning);
        assert!(check.message.contains("gives less"), "{}", check.message);
    }

    #[test]
    fn programs_are_run_and_one_that_fails_or_is_late_is_an_error() {
        let with = |script: &str, seconds: f64| {
            checked(|experiment| {
                experiment.reward.formula = "exact_match + judge".to_owned();
                experiment.reward.commands = vec![command(script, seconds)];
            })
        };
        let check = with(&always("0.25"), 60.0);
        assert_eq!(check.severity, Severity::Warning);
        assert!(
            check.message.contains("judge (0.2500) is the same"),
            "{}",
            check.message
        );
        // Left out of a sum, it leaves the rest.
        let check = with(&always("null"), 60.0);
        assert_eq!(check.severity, Severity::Warning);
        assert!(
            check.message.contains("judge (no value) is the same"),
            "{}",
            check.message
        );
        let check = with("sleep 600", 0.2);
        assert_eq!(check.severity, Severity::Error);
        assert!(
            check.message.contains("timeout_seconds"),
            "{}",
            check.message
        );
        let check = with("echo broken >&2; exit 3", 60.0);
        assert!(check.message.contains("broken"), "{}", check.message);
    }

    #[test]
    fn without_rewards_the_reason_is_reported() {
        let texts = Folder::new().texts(|_| ());
        let check = rewards(&texts, Err("no encoder".to_owned()));
        assert_eq!(
            (check.severity, &*check.message),
            (Severity::Error, "no encoder")
        );
    }
}
