use super::*;
use crate::metric::{MetricSettings, ReasonScorer};

const LABEL: &str = "\"이제 집에 가도 돼요.\"가 옳다. '되어'가 줄면 '돼'로 적는다.";

struct Half;

impl ReasonScorer for Half {
    fn fingerprint(&self) -> String {
        "half".to_owned()
    }

    fn f1(&mut self, pairs: &[(String, String)]) -> Result<Vec<f64>> {
        Ok(vec![0.5; pairs.len()])
    }
}

fn section(formula: &str) -> RewardSection {
    RewardSection {
        formula: formula.to_owned(),
        ..RewardSection::default()
    }
}

fn with_command(formula: &str, name: &str, script: &str) -> RewardSection {
    RewardSection {
        commands: vec![RewardCommand {
            name: name.to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout_seconds: 60.0,
        }],
        ..section(formula)
    }
}

fn metrics(has_encoder: bool) -> Metrics {
    let scorer: Option<Box<dyn ReasonScorer>> = if has_encoder {
        Some(Box::new(Half))
    } else {
        None
    };
    Metrics::new(MetricSettings::default(), scorer).unwrap()
}

fn sample(completion: &str) -> RewardSample<'_> {
    RewardSample {
        id: "7",
        prompt: "",
        completion,
        label: LABEL,
        question_type: "선택형",
        tokens: 0,
        step: 3,
    }
}

fn refusal(section: &RewardSection, has_encoder: bool) -> String {
    let error = RewardSet::new(section, 8, metrics(has_encoder)).unwrap_err();
    format!("{error:#}")
}

#[test]
fn the_default_formula_over_the_four_metrics() {
    let mut rewards = RewardSet::new(&RewardSection::default(), 8, metrics(true)).unwrap();
    assert_eq!(
        rewards.names(),
        ["format", "exact_match", "rouge1", "bertscore"]
    );
    let evaluated = rewards.evaluate(&[sample(LABEL), sample("")]).unwrap();
    assert_eq!(
        evaluated[0].values,
        [Some(1.0), Some(1.0), Some(1.0), Some(0.5)]
    );
    assert_eq!(evaluated[0].total, (0.5 + 1.0 + (1.0 + 3.0) / 2.0) / 3.0);
    assert_eq!(evaluated[1].total, 0.0);
    assert_eq!(rewards.evaluate(&[]).unwrap(), []);
}

#[test]
fn bertscore_without_an_encoder_is_refused_with_a_fix() {
    let message = refusal(&RewardSection::default(), false);
    assert!(message.contains("set bertscore.model"), "{message}");
    let rewards = RewardSet::new(&section("exact_match"), 8, metrics(false)).unwrap();
    assert_eq!(rewards.names(), ["format", "exact_match", "rouge1"]);
    let monitored: Vec<&str> = rewards.monitor_only().collect();
    assert_eq!(monitored, ["format", "rouge1"]);
}

#[test]
fn a_command_is_a_value_like_any_other() {
    let script = r#"read a; read b
        echo '{"index":1,"reward":null}'; echo '{"index":0,"reward":2}'; cat >/dev/null"#;
    let section = with_command("exact_match + length", "length", script);
    let mut rewards = RewardSet::new(&section, 8, metrics(false)).unwrap();
    let evaluated = rewards.evaluate(&[sample(LABEL), sample(LABEL)]).unwrap();
    assert_eq!(evaluated[0].total, 3.0);
    assert_eq!(evaluated[0].values.last(), Some(&Some(2.0)));
    assert_eq!(evaluated[1].total, 1.0, "null is left out of the sum");
    assert_eq!(evaluated[1].values.last(), Some(&None));
}

#[test]
fn a_completion_without_any_value_has_no_reward() {
    let script = r#"read a; echo '{"index":0,"reward":null}'; cat >/dev/null"#;
    for formula in ["2*length", "exact_match*length"] {
        let section = with_command(formula, "length", script);
        let mut rewards = RewardSet::new(&section, 8, metrics(false)).unwrap();
        assert!(
            rewards.evaluate(&[sample(LABEL)]).unwrap()[0]
                .total
                .is_nan()
        );
    }
}

#[test]
fn a_punishment_that_is_turned_off_is_refused() {
    let message = refusal(&section("exact_match + overlong"), false);
    assert!(
        message.contains("reward.soft_punish_cache = 0"),
        "{message}"
    );
}

#[test]
fn a_command_outside_the_formula_is_monitored_and_its_null_is_harmless() {
    let script = r#"read a; echo '{"index":0,"reward":null}'; cat >/dev/null"#;
    let section = with_command("exact_match", "length", script);
    let mut rewards = RewardSet::new(&section, 8, metrics(false)).unwrap();
    assert!(rewards.monitor_only().any(|name| name == "length"));
    assert_eq!(rewards.evaluate(&[sample(LABEL)]).unwrap()[0].total, 1.0);
}

#[test]
fn a_command_that_fails_fails_the_batch() {
    let section = with_command("exact_match", "length", "exit 1");
    let mut rewards = RewardSet::new(&section, 8, metrics(false)).unwrap();
    let message = rewards.evaluate(&[sample(LABEL)]).unwrap_err().to_string();
    assert!(message.contains("reward command `length`"), "{message}");
}

#[test]
fn unusable_names_and_time_outs_are_refused() {
    for (name, part) in [
        ("two words", "cannot be used in a formula"),
        ("rouge1", "built-in"),
        ("bertscore", "built-in"),
        ("reward", "built-in"),
    ] {
        let message = refusal(&with_command("exact_match", name, "cat"), false);
        assert!(message.contains(part), "{message}");
    }
    let mut twice = with_command("exact_match", "length", "cat");
    twice.commands.push(twice.commands[0].clone());
    assert!(refusal(&twice, false).contains("occurs twice"));
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut section = with_command("exact_match", "length", "cat");
        section.commands[0].timeout_seconds = seconds;
        assert!(refusal(&section, false).contains("timeout_seconds"));
    }
    let mut section = with_command("exact_match", "length", "cat");
    section.commands[0].timeout_seconds = 1e18;
    assert!(RewardSet::new(&section, 8, metrics(false)).is_ok());
}

#[test]
fn an_unknown_name_in_the_formula_lists_the_known() {
    let section = with_command("exact_match + lenght", "length", "cat");
    let message = refusal(&section, false);
    assert!(
        message.contains("Did you mean `length`?")
            && message.contains("format, exact_match, rouge1, length"),
        "{message}"
    );
}

#[test]
fn division_by_zero_names_the_item_and_its_values() {
    let mut rewards = RewardSet::new(&section("format/exact_match"), 8, metrics(false)).unwrap();
    let message = rewards
        .evaluate(&[sample("\"돼요\"가 옳다.")])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("gives inf") && message.contains("format = 1, exact_match = 0"),
        "{message}"
    );
}

#[test]
fn a_set_can_move_to_the_trainers_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<RewardSet>();
}

#[test]
fn the_check_distinguishes_a_good_answer_from_a_bad_one() {
    let mut rewards = RewardSet::new(&RewardSection::default(), 8, metrics(true)).unwrap();
    let checks = rewards.check(&[sample(""), sample("")]).unwrap();
    let names: Vec<&str> = checks.iter().map(|check| &*check.name).collect();
    assert_eq!(
        names,
        ["format", "exact_match", "rouge1", "bertscore", "reward"]
    );
    assert!(checks.iter().all(|check| check.good > check.bad));
    assert!(checks.iter().all(|check| check.bad == [Some(0.0); 2]));
}
