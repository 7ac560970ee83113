//! Events as lines for people.

use moim_core::health::Severity;
use moim_core::run::Event;

/// The line of a `step` event.
pub fn step(event: &Event) -> String {
    let number = |key: &str| event.number(key);
    let count = |key: &str| event.number(key).unwrap_or_default() as u64;
    let mut parts = vec![format!("step {}/{}", count("step"), count("total_steps"))];
    let mut push = |name: &str, value: Option<f64>, digits: usize| {
        if let Some(value) = value {
            parts.push(format!("{name} {}", decimal(value, digits)));
        }
    };
    push("epoch", number("epoch"), 2);
    push("reward", number("reward"), 4);
    push("±", number("reward_std"), 4);
    for (name, value) in rewards(event) {
        push(name, Some(value), 4);
    }
    push("loss", number("loss"), 5);
    push("kl", number("kl"), 5);
    push("grad_norm", number("grad_norm"), 4);
    push("length", number("completions/mean_length"), 1);
    push("clipped", number("completions/clipped_ratio"), 2);
    push("entropy", number("entropy"), 3);
    // A later iteration on the same completions has no rollout of its own.
    for (name, key) in [
        ("rollout tokens/s", "tokens_per_second/rollout"),
        ("backward tokens/s", "tokens_per_second/backward"),
    ] {
        push(name, number(key).filter(|speed| *speed > 0.0), 0);
    }
    push("seconds", number("step_time"), 2);
    for (name, key) in [
        ("memory GiB", "memory/host_rss"),
        ("device peak GiB, rollout", "memory/device_peak/rollout"),
        ("backward", "memory/device_peak/backward"),
    ] {
        push(name, number(key).map(gibibytes), 2);
    }
    parts.join("  ")
}

/// Each reward's own mean, in the order of the event.
fn rewards(event: &Event) -> impl Iterator<Item = (&str, f64)> {
    event.fields.keys().filter_map(|key| {
        let name = key.strip_prefix("rewards/")?.strip_suffix("/mean")?;
        Some((name, event.number(key)?))
    })
}

/// The line of a `score` event.
pub fn score(event: &Event) -> String {
    let name = event
        .text("checkpoint")
        .or(event.text("file"))
        .unwrap_or("?");
    let Some(final_mean) = event.number("final_mean") else {
        let state = event.text("state").unwrap_or("unknown");
        return format!("{name}: not ranked, the answer file is {state}");
    };
    let mean = |key: &str| decimal(event.number(key).unwrap_or(f64::NAN), 4);
    let mut line = format!("{name}: Final Mean {final_mean:.4}");
    if let Some([low, high]) = interval(event) {
        line.push_str(&format!(" ({low:.4} to {high:.4})"));
    }
    line.push_str(&format!(
        "  ROUGE-1 {}  BERTScore {}  EM {}  format {}",
        mean("rouge1"),
        mean("bertscore"),
        mean("em"),
        mean("format")
    ));
    match event.text("best") {
        Some(best) if event.text("file") == Some(best) => line.push_str("  the best so far"),
        Some(best) => line.push_str(&format!("  the best so far is {best}")),
        None => {}
    }
    line
}

fn interval(event: &Event) -> Option<[f64; 2]> {
    let ends = event.fields.get("intervals")?.get("final_mean")?;
    Some([ends.get(0)?.as_f64()?, ends.get(1)?.as_f64()?])
}

/// The line of any event that is worth one, but for steps and scores.
pub fn other(event: &Event) -> Option<String> {
    let text = |key: &str| event.text(key).unwrap_or("?").to_owned();
    let step = event.number("step").unwrap_or_default() as u64;
    Some(match event.name.as_str() {
        "start" => format!("run directory: {}", text("directory")),
        "resume" => format!("going on from {} (step {step})", text("checkpoint")),
        "checkpoint" => format!("saving {} at step {step}", text("checkpoint")),
        "inference" => {
            let (items, seconds) = (event.number("items")?, event.number("seconds")?);
            let speed = event.number("tokens")? / seconds.max(1e-9);
            format!(
                "{}: {items} answers in {}, {speed:.0} tokens/s",
                text("checkpoint"),
                duration(seconds)
            )
        }
        "paused" => {
            format!("paused after step {step}; drop control/resume into the run directory to go on")
        }
        "continued" => "going on".to_owned(),
        "moving" => text("message"),
        _ => return None,
    })
}

/// The line of an `alarm` event.
pub fn alarm(event: &Event) -> String {
    let step = event.number("step").unwrap_or_default();
    let message = event.text("message").unwrap_or("something is wrong");
    format!("alarm: {} at step {step}: {message}", Severity::of(event))
}

fn gibibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 30)
}

/// A number with so many decimals; a small one that would come out as zero keeps its digits.
pub fn decimal(value: f64, digits: usize) -> String {
    let fixed = format!("{value:.digits$}");
    if value != 0.0 && value.is_finite() && fixed.parse::<f64>() == Ok(0.0) {
        return format!("{value:.2e}");
    }
    fixed
}

/// Seconds for people: `4.2 s`, `3 min 07 s`, `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// 1234567 as `1 234 567`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line_with_every_reward() {
        let event = Event::new("step")
            .with("step", 3usize)
            .with("total_steps", 60usize)
            .with("epoch", 0.05)
            .with("loss", f64::NAN)
            .with("grad_norm", 0.5)
            .with("reward", 0.41234)
            .with("reward_std", 0.2)
            .with("rewards/format/mean", 0.5)
            .with("rewards/format/std", 0.5)
            .with("rewards/rouge1/mean", 0.25)
            .with("kl", 0.000001)
            .with("tokens_per_second/rollout", 1234.4)
            .with("tokens_per_second/backward", 0.0);
        assert_eq!(
            step(&event),
            "step 3/60  epoch 0.05  reward 0.4123  ± 0.2000  format 0.5000  rouge1 0.2500  loss NaN  \
             kl 1.00e-6  grad_norm 0.5000  rollout tokens/s 1234"
        );
    }

    #[test]
    fn a_score_names_the_best() {
        let event = Event::new("score")
            .with("checkpoint", "epoch_1")
            .with("file", "inference_epoch1.json")
            .with("state", "complete")
            .with("final_mean", 0.5)
            .with("rouge1", 0.25)
            .with("bertscore", 0.75)
            .with("em", 0.5)
            .with("format", 1.0);
        let line = score(&event);
        assert_eq!(
            line,
            "epoch_1: Final Mean 0.5000  ROUGE-1 0.2500  BERTScore 0.7500  EM 0.5000  format 1.0000"
        );
        let line = score(&event.clone().with("best", "inference_epoch1.json"));
        assert!(line.ends_with("the best so far"), "{line}");
        let line = score(&event.with("best", "inference_epoch0.json"));
        assert!(line.ends_with("is inference_epoch0.json"), "{line}");
        let partial = Event::new("score")
            .with("file", "x.json")
            .with("state", "partial");
        assert!(score(&partial).contains("partial"));
    }

    #[test]
    fn an_alarm_tells_how_much_it_matters() {
        let event = Event::new("alarm")
            .with("step", 40usize)
            .with("code", "kl")
            .with("severity", "critical")
            .with("message", "too far");
        assert_eq!(alarm(&event), "alarm: critical at step 40: too far");
    }

    #[test]
    fn the_memory_of_a_step_is_told_in_gibibytes() {
        let event = Event::new("step")
            .with("memory/host_rss", 1_610_612_736_u64)
            .with("memory/device_peak/rollout", 5_u64 << 30)
            .with("memory/device_peak/backward", 6_u64 << 30);
        assert_eq!(
            step(&event),
            "step 0/0  memory GiB 1.50  device peak GiB, rollout 5.00  backward 6.00"
        );
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(duration(4.21), "4.2 s");
        assert_eq!(duration(187.0), "3 min 07 s");
        assert_eq!(duration(7500.0), "2 h 05 min");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(grouped(999), "999");
        assert_eq!(decimal(0.0, 3), "0.000");
        assert_eq!(decimal(-0.00001, 3), "-1.00e-5");
    }
}
