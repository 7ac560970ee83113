//! Checks for legal values that would train nothing.

use serde_json::json;

use moim_core::experiment::{Experiment, LrSchedulerType};
use moim_core::findings::Check;

/// Checks only the settings; `prompts` is the number of training prompts, 0 if not known.
pub fn settings(experiment: &Experiment, prompts: usize) -> Check {
    const NAME: &str = "settings";
    let (grpo, rollout) = (&experiment.grpo, &experiment.rollout);
    let steps = match prompts {
        0 => usize::try_from(grpo.max_steps).ok(),
        prompts => {
            let horizon = experiment.horizon(Some(prompts));
            Some(experiment.batch().total_steps(prompts, &horizon))
        }
    };
    let details = json!({ "total_steps": steps });
    let mut useless = Vec::new();
    if grpo.learning_rate == 0.0 {
        useless.push(
            "grpo.learning_rate = 0 changes no weight; write e.g. 1e-6 (moim infer answers with an \
             unchanged model)"
                .to_owned(),
        );
    }
    if rollout.top_k == 1 {
        useless.push(same_completions(
            "rollout.top_k = 1",
            "0, which keeps all tokens",
        ));
    }
    if let Some(min_p) = rollout.min_p.filter(|min_p| *min_p >= 1.0) {
        useless.push(same_completions(
            &format!("rollout.min_p = {min_p}"),
            "a number well below 1, or none",
        ));
    }
    if !useless.is_empty() {
        return Check::error(NAME, useless.join("; ")).with(details);
    }
    let has_warmup = grpo.lr_scheduler_type != LrSchedulerType::Constant;
    let is_all_warmup = match grpo.warmup_steps {
        0 => grpo.warmup_ratio >= 1.0,
        warmup => steps.is_some_and(|steps| warmup >= steps),
    };
    if has_warmup && is_all_warmup {
        let key = match grpo.warmup_steps {
            0 => format!("grpo.warmup_ratio = {}", grpo.warmup_ratio),
            warmup => format!("grpo.warmup_steps = {warmup}"),
        };
        let run = steps.map_or_else(
            || "the run".to_owned(),
            |steps| format!("the {steps} steps"),
        );
        let message = format!(
            "{key} lasts for {run}, so grpo.learning_rate = {:e} is never reached; lower it",
            grpo.learning_rate
        );
        return Check::warning(NAME, message).with(details);
    }
    let message = match steps {
        Some(steps) => format!("{steps} steps, learning rate {:e}", grpo.learning_rate),
        None => format!("learning rate {:e}", grpo.learning_rate),
    };
    Check::ok(NAME, message).with(details)
}

fn same_completions(setting: &str, instead: &str) -> String {
    format!(
        "{setting} keeps only the most likely token, so all completions of a group are the same and \
         have no advantage; write {instead}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use moim_core::findings::Severity;

    fn checked(change: impl FnOnce(&mut Experiment)) -> (Severity, String) {
        let mut experiment = sample::experiment();
        change(&mut experiment);
        let check = settings(&experiment, 8);
        (check.severity, check.message)
    }

    #[test]
    fn settings_that_train_nothing_are_errors() {
        let (severity, _) = checked(|_| ());
        assert_eq!(severity, Severity::Ok);
        let (severity, message) = checked(|experiment| {
            experiment.grpo.learning_rate = 0.0;
            experiment.rollout.top_k = 1;
        });
        assert_eq!(severity, Severity::Error);
        for words in [
            "grpo.learning_rate = 0",
            "rollout.top_k = 1",
            "no advantage",
        ] {
            assert!(message.contains(words), "{message}");
        }
        let (severity, _) = checked(|experiment| experiment.rollout.min_p = Some(1.0));
        assert_eq!(severity, Severity::Error);
    }

    #[test]
    fn a_warm_up_as_long_as_the_run_is_a_warning() {
        let (severity, message) = checked(|experiment| experiment.grpo.warmup_steps = 1000);
        assert_eq!(severity, Severity::Warning);
        assert!(message.contains("grpo.warmup_steps = 1000"), "{message}");
        let (severity, _) = checked(|experiment| experiment.grpo.warmup_ratio = 1.0);
        assert_eq!(severity, Severity::Warning);
        let (severity, _) = checked(|experiment| experiment.grpo.warmup_ratio = 0.1);
        assert_eq!(severity, Severity::Ok);
    }
}
