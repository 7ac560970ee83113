//! Whether the memory plan fits.

use serde_json::json;

use super::machine::Machine;
use moim_core::experiment::Experiment;
use moim_core::findings::Check;
use moim_core::memory::{self, Bytes, Inputs, Shapes, Verdict};

/// The verdict of `moim plan` on one line; `None` if the model's shape is not known.
///
/// A budget that nothing fits into is an error, as in the trainer. Compared with the machine's own memory
/// the plan is an estimate, and a device that runs out of memory retries with smaller parts, so that is a
/// warning.
pub fn memory(experiment: &Experiment, machine: &Machine) -> Option<Check> {
    let mut shapes = Shapes::read(experiment);
    shapes.has_cuda = machine.has_cuda;
    let inputs = Inputs::of(experiment, &shapes)?;
    let capacity = memory::capacity(experiment, None, machine.memory);
    let plan = memory::plan(&inputs, capacity.map(|bytes| bytes.0));
    let (fullest, bytes) = plan.fullest();
    let verdict = plan.verdict();
    let details = json!({
        "verdict": verdict.key(),
        "capacity": plan.capacity,
        "peak": bytes,
        "phase": fullest.name(),
    });
    let against = match (capacity, experiment.memory.budget_gib) {
        (Some(_), Some(budget)) => format!("memory.budget_gib = {budget}"),
        (Some(capacity), None) if inputs.is_cpu => format!("the {capacity} of this machine"),
        (Some(capacity), None) => format!("the {capacity} of the card"),
        (None, _) => "an unknown size".to_owned(),
    };
    let check = match verdict {
        Verdict::TooLarge { missing, phase } => {
            let short = format!(
                "{against}: {} needs {} more even with the smallest parts",
                phase.name(),
                Bytes(missing)
            );
            match experiment.memory.budget_gib {
                Some(_) => Check::error(
                    "memory",
                    format!("{short}; raise it, or see moim plan for what would fit"),
                ),
                None => Check::warning(
                    "memory",
                    format!("{short}; see moim plan for what would fit"),
                ),
            }
        }
        Verdict::Unknown => Check::ok(
            "memory",
            format!("at most {}, in {}; {verdict}", Bytes(bytes), fullest.name()),
        ),
        Verdict::Fits { .. } | Verdict::Tight { .. } => Check::ok(
            "memory",
            format!(
                "at most {}, in {}, of {against}: {verdict}",
                Bytes(bytes),
                fullest.name()
            ),
        ),
    };
    Some(check.with(details))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use moim_core::findings::Severity;

    #[test]
    fn a_budget_that_nothing_fits_into_is_an_error_and_a_small_machine_a_warning() {
        let mut experiment = sample::experiment();
        let machine = |memory| Machine {
            memory,
            ..Machine::default()
        };
        let roomy = machine(Some(Bytes(64 << 30)));
        let fits = memory(&experiment, &roomy).unwrap();
        assert_eq!(fits.severity, Severity::Ok);
        assert!(fits.message.contains("fits, "), "{}", fits.message);

        let small = memory(&experiment, &machine(Some(Bytes(1 << 20)))).unwrap();
        assert_eq!(small.severity, Severity::Warning);
        assert!(
            small.message.contains("the 1 MiB of this machine"),
            "{}",
            small.message
        );

        experiment.memory.budget_gib = Some(0.01);
        let refused = memory(&experiment, &roomy).unwrap();
        assert_eq!(refused.severity, Severity::Error);
        for words in ["memory.budget_gib = 0.01", " needs ", "moim plan"] {
            assert!(refused.message.contains(words), "{}", refused.message);
        }
        assert_eq!(refused.details["verdict"], "too_large");

        let unknown = memory(&sample::experiment(), &machine(None)).unwrap();
        assert_eq!(unknown.severity, Severity::Ok);
        experiment.model.path = "nowhere".into();
        assert_eq!(memory(&experiment, &roomy), None);
    }
}
