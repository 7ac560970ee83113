//! Events in words.

use moim_core::run::Event;
use serde_json::Value;

use super::run::{Alarm, Happening};

impl Alarm {
    /// What an `alarm` event says; runs of older releases give a `kind` where newer ones give a
    /// `code`, and no severity.
    pub fn of(event: &Event) -> Self {
        let text = |key: &str| event.text(key).map(str::to_owned);
        Self {
            time: event.time,
            step: event.number("step").unwrap_or_default() as usize,
            code: text("code")
                .or(text("kind"))
                .unwrap_or_else(|| "alarm".to_owned()),
            severity: text("severity").unwrap_or_else(|| "warning".to_owned()),
            message: text("message").unwrap_or_else(|| "something is wrong".to_owned()),
        }
    }
}

impl Alarm {
    /// What an event gives cause to be alarmed at: an alarm, or each finding of the checks before the
    /// first step.
    pub fn all_of(event: &Event) -> Vec<Self> {
        if event.name == "alarm" {
            return vec![Self::of(event)];
        }
        let findings = match event.name.as_str() {
            "preflight" => event.fields.get("findings").and_then(Value::as_array),
            _ => None,
        };
        let finding = |finding: &Value| {
            let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            Self {
                time: event.time,
                step: 0,
                code: text("check"),
                severity: match finding["severity"].as_str() {
                    Some("error") => "critical".to_owned(),
                    _ => "warning".to_owned(),
                },
                message: text("message"),
            }
        };
        findings.into_iter().flatten().map(finding).collect()
    }
}

impl Happening {
    /// An event that is neither a step nor an alarm, in words. One of a name that is not known is
    /// told by its name.
    pub fn of(event: &Event) -> Self {
        Self {
            time: event.time,
            name: event.name.clone(),
            text: in_words(event).unwrap_or_else(|| event.name.clone()),
        }
    }
}

fn in_words(event: &Event) -> Option<String> {
    let count = |key: &str| event.number(key).map(|number| number as u64);
    let point = || event.text("checkpoint").or(event.text("file"));
    Some(match event.name.as_str() {
        "start" => {
            let steps = count("total_steps")?;
            let device = event.text("device").unwrap_or("an unknown device");
            match count("train_prompts") {
                Some(prompts) => format!("{steps} steps over {prompts} prompts on {device}"),
                None => format!("{steps} steps on {device}"),
            }
        }
        "preflight" => match (count("errors")?, count("warnings")?) {
            (0, 0) => "checked before the first step: all is well".to_owned(),
            (0, warnings) => format!("checked before the first step: {warnings} warning(s)"),
            (errors, warnings) => format!(
                "forced in spite of {errors} error(s) and {warnings} warning(s) before the first step"
            ),
        },
        "resume" => format!("going on from {} at step {}", point()?, count("step")?),
        "checkpoint" => format!("{} saved at step {}", point()?, count("step")?),
        "inference" => {
            let seconds = event.number("seconds")?;
            let speed = event.number("tokens")? / seconds.max(1e-9);
            let items = count("items")?;
            format!(
                "{}: {items} answers in {seconds:.1} s, {speed:.0} tokens/s",
                point()?
            )
        }
        "score" => score(event, point()?),
        "paused" => format!("paused after step {}", count("step")?),
        "continued" => format!("going on after step {}", count("step")?),
        "stopped" => format!("stopped after step {}", count("step")?),
        "done" => {
            let mut text = format!(
                "{} after step {}",
                event.text("status").unwrap_or("finished"),
                count("step")?
            );
            if let Some(best) = event.text("best") {
                text.push_str(&format!("; the best answers are {best}"));
            }
            if let Some(message) = event.text("message") {
                text.push_str(&format!("; {message}"));
            }
            text
        }
        _ => return event.text("message").map(str::to_owned),
    })
}

fn score(event: &Event, point: &str) -> String {
    let Some(final_mean) = event.number("final_mean") else {
        let state = event.text("state").unwrap_or("unknown");
        return format!("{point}: not ranked, the answer file is {state}");
    };
    let rank = match (event.text("best"), event.text("file")) {
        (Some(best), Some(file)) if best == file => ", the best so far".to_owned(),
        (Some(best), _) => format!(", the best so far is {best}"),
        _ => String::new(),
    };
    format!("{point}: Final Mean {final_mean:.4}{rank}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_in_words() {
        let checkpoint = || {
            Event::new("x")
                .with("checkpoint", "epoch_1")
                .with("step", 53usize)
        };
        let named = |name: &str, event: Event| Event {
            name: name.to_owned(),
            ..event
        };
        let inference = checkpoint()
            .with("items", 170usize)
            .with("tokens", 8700usize)
            .with("seconds", 1.5);
        let score = checkpoint()
            .with("file", "inference_epoch1.json")
            .with("final_mean", 0.785);
        let cases = [
            (
                named(
                    "preflight",
                    Event::new("x")
                        .with("errors", 0usize)
                        .with("warnings", 2usize),
                ),
                "checked before the first step: 2 warning(s)",
            ),
            (
                named("checkpoint", checkpoint()),
                "epoch_1 saved at step 53",
            ),
            (
                named("resume", checkpoint()),
                "going on from epoch_1 at step 53",
            ),
            (
                named("inference", inference),
                "epoch_1: 170 answers in 1.5 s, 5800 tokens/s",
            ),
            (
                named("score", score.clone().with("best", "inference_epoch1.json")),
                "epoch_1: Final Mean 0.7850, the best so far",
            ),
            (
                named("score", score.with("best", "inference_epoch0.json")),
                "epoch_1: Final Mean 0.7850, the best so far is inference_epoch0.json",
            ),
            (
                named("score", checkpoint().with("state", "partial")),
                "epoch_1: not ranked, the answer file is partial",
            ),
            (named("paused", checkpoint()), "paused after step 53"),
            (
                named(
                    "done",
                    checkpoint()
                        .with("status", "failed")
                        .with("message", "메모리 부족"),
                ),
                "failed after step 53; 메모리 부족",
            ),
            (named("checkpoint", Event::new("x")), "checkpoint"),
            (Event::new("later_release"), "later_release"),
        ];
        for (event, text) in cases {
            assert_eq!(Happening::of(&event).text, text);
        }
    }

    #[test]
    fn alarms_of_old_and_new_runs() {
        let new = Event::new("alarm")
            .with("step", 7usize)
            .with("code", "kl")
            .with("severity", "critical")
            .with("message", "far away");
        let alarm = Alarm::of(&new);
        assert_eq!((alarm.step, alarm.code.as_str()), (7, "kl"));
        assert_eq!(
            (alarm.severity.as_str(), alarm.message.as_str()),
            ("critical", "far away")
        );
        let old = Alarm::of(&Event::new("alarm").with("kind", "nonfinite"));
        assert_eq!(
            (old.code.as_str(), old.severity.as_str()),
            ("nonfinite", "warning")
        );
    }

    #[test]
    fn what_was_found_before_the_first_step_is_an_alarm_each() {
        let findings = serde_json::json!([
            {"check": "leak", "severity": "warning", "message": "세 문항이 겹친다"},
            {"check": "rewards", "severity": "error", "message": "constant"},
        ]);
        let event = Event::new("preflight").with("findings", findings);
        let alarms = Alarm::all_of(&event);
        let told: Vec<(&str, &str)> = alarms
            .iter()
            .map(|alarm| (alarm.code.as_str(), alarm.severity.as_str()))
            .collect();
        assert_eq!(told, [("leak", "warning"), ("rewards", "critical")]);
        assert_eq!(alarms[0].message, "세 문항이 겹친다");
        assert_eq!(Alarm::all_of(&Event::new("alarm")).len(), 1);
        // A preflight of another release, and any other event.
        assert!(Alarm::all_of(&Event::new("preflight")).is_empty());
        assert!(Alarm::all_of(&Event::new("start")).is_empty());
    }
}
