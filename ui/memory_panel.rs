//! The memory of `moim plan`, as text and as JSON.

use moim_core::experiment::Experiment;
use moim_core::memory::{self, Bytes, Component, Inputs, MemoryPlan, Peak, Phase, Shapes, Verdict};
use serde_json::{Map, Value, json};

/// Cells of the bar that shows how much memory a phase needs.
const BAR: usize = 40;

/// The plan of an experiment whose model's shape is known.
pub struct MemoryPanel {
    /// The inputs of the plan.
    pub inputs: Inputs,
    plan: MemoryPlan,
    /// The memory that the plan is compared with: `24.0 GiB (--gpu-memory)`.
    against: Option<String>,
}

impl MemoryPanel {
    /// Plans the memory; unknown values become notes. `given` is the size of a card to plan for, and
    /// `has_cuda` whether this machine has one.
    pub fn of(
        experiment: &Experiment,
        given: Option<Bytes>,
        has_cuda: bool,
        notes: &mut Vec<String>,
    ) -> Option<Self> {
        let mut shapes = Shapes::read(experiment);
        // A given size of a card means that the experiment will run on a card.
        shapes.has_cuda = has_cuda || given.is_some();
        if let Err(why) = &shapes.decoder {
            notes.push(format!("memory is not planned: {why}"));
        }
        let inputs = Inputs::of(experiment, &shapes)?;
        if let Some(Err(why)) = &shapes.encoder {
            notes.push(format!("memory is planned without the encoder: {why}"));
        }
        let device = memory::device_memory(experiment, inputs.is_cpu);
        let capacity = memory::capacity(experiment, given, device);
        let source = match (given, experiment.memory.budget_gib) {
            (Some(_), _) => "--gpu-memory",
            (None, Some(_)) => "memory.budget_gib",
            (None, None) if inputs.is_cpu => "of this machine",
            (None, None) => "of the card",
        };
        if !inputs.is_cpu {
            notes.push(
                "the memory of a card is planned from buffers counted on the CPU; --probe measures it \
                 on yours"
                    .to_owned(),
            );
        }
        Some(Self {
            plan: memory::plan(&inputs, capacity.map(|bytes| bytes.0)),
            against: capacity.map(|bytes| format!("{bytes} ({source})")),
            inputs,
        })
    }

    /// The panel below the batch: components by phase, a bar for each phase, the verdict and advice.
    pub fn text(&self) -> String {
        let phases = self.plan.phases();
        let place = if self.inputs.is_cpu { "CPU" } else { "CUDA" };
        let mut text = match &self.against {
            Some(against) => format!("memory on {place}, against {against}\n"),
            None => format!("memory on {place}\n"),
        };
        let header: String = phases
            .iter()
            .map(|(phase, _)| format!("{:>12}", phase.name()))
            .collect();
        text.push_str(&format!("  {:12}{header}\n", ""));
        let mut row = |name: &str, bytes: &dyn Fn(&Peak) -> u64| {
            let cells: String = phases
                .iter()
                .map(|(_, peak)| match bytes(peak) {
                    0 => format!("{:>12}", "-"),
                    bytes => format!("{:>12}", Bytes(bytes)),
                })
                .collect();
            text.push_str(&format!("  {name:12}{cells}\n"));
        };
        for component in Component::ALL {
            if phases.iter().any(|(_, peak)| peak.of(component) > 0) {
                row(component.name(), &|peak| peak.of(component));
            }
        }
        row("total", &Peak::total);
        for (phase, peak) in phases {
            text.push_str(&self.phase_line(phase, peak));
        }
        text.push_str(&format!("  {}\n", self.plan.verdict()));
        if let Some(sizes) = self.plan.sizes_in_words(&self.inputs) {
            text.push_str(&format!("  to fit: {sizes}\n"));
        }
        let limits = self.plan.limits(&self.inputs).words();
        if !limits.is_empty() {
            text.push_str(&format!("  fits, each alone: {limits}\n"));
        }
        if let Some(suggestion) = self.plan.suggestion(&self.inputs) {
            text.push_str(&format!("  to make it fit: {suggestion}\n"));
        }
        text
    }

    fn phase_line(&self, phase: Phase, peak: &Peak) -> String {
        let bar = self.plan.capacity.map_or_else(String::new, |capacity| {
            let share = peak.total() as f64 / capacity.max(1) as f64;
            let filled = ((share * BAR as f64).ceil() as usize).min(BAR);
            // The end of a bar shows if it is too long.
            let end = if share > 1.0 { ">" } else { "]" };
            format!(
                "[{}{}{end} {:>4.0} %  ",
                "#".repeat(filled),
                ".".repeat(BAR - filled),
                share * 100.0
            )
        });
        format!("  {:10} {bar}fullest at: {}\n", phase.name(), peak.moment)
    }

    /// The same as an object, bytes as integers.
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        let place = if self.inputs.is_cpu { "cpu" } else { "cuda" };
        object.insert("device".into(), json!(place));
        object.insert("capacity".into(), json!(self.plan.capacity));
        for (phase, peak) in self.plan.phases() {
            object.insert(phase.name().into(), peak_json(peak));
        }
        let limits = self.plan.limits(&self.inputs);
        object.insert("verdict".into(), verdict_json(&self.plan.verdict()));
        let sizes = self.plan.sizes;
        object.insert(
            "sizes".into(),
            json!({
                "rows_per_part": sizes.rows_per_part,
                "rollout_rows": sizes.rollout_rows,
                "answered_together": sizes.answered_together,
            }),
        );
        object.insert(
            "limits".into(),
            json!({
                "num_generations": limits.num_generations,
                "per_device_train_batch_size": limits.per_device_train_batch_size,
                "max_completion_length": limits.max_completion_length,
            }),
        );
        object.insert(
            "suggestion".into(),
            json!(self.plan.suggestion(&self.inputs)),
        );
        Value::Object(object)
    }
}

fn peak_json(peak: &Peak) -> Value {
    let parts = peak
        .parts
        .iter()
        .map(|part| (part.component.key(), json!(part.bytes)));
    json!({
        "total": peak.total(),
        "moment": peak.moment,
        "parts": Map::from_iter(parts),
    })
}

fn verdict_json(verdict: &Verdict) -> Value {
    let mut object = json!({ "is": verdict.key() });
    match *verdict {
        Verdict::Fits { spare } | Verdict::Tight { spare } => object["spare"] = json!(spare),
        Verdict::TooLarge { missing, phase } => {
            object["missing"] = json!(missing);
            object["phase"] = json!(phase.name());
        }
        Verdict::Unknown => {}
    }
    object
}

#[cfg(test)]
mod tests {
    use moim_core::experiment::DeviceChoice;

    use super::*;

    #[test]
    fn the_panel_shows_what_does_not_fit_and_what_would() {
        let mut experiment = Experiment::default();
        experiment.model.path = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/demo/model").into();
        experiment.model.device = DeviceChoice::Cpu;
        let mut notes = Vec::new();
        let mut panel =
            |bytes| MemoryPanel::of(&experiment, Some(Bytes(bytes)), false, &mut notes).unwrap();
        let bounded = panel(320 << 20);
        let answers = bounded.json()["sizes"]["answered_together"].clone();
        let text = bounded.text();
        for words in [
            "memory on CPU, against 320 MiB (--gpu-memory)",
            "layer work",
            &format!("answering {answers} at a time"),
        ] {
            assert!(text.contains(words), "{words:?} is not in: {text}");
        }
        let panel = panel(32 << 20);
        let text = panel.text();
        for words in ["does not fit: ", "to make it fit: "] {
            assert!(text.contains(words), "{words:?} is not in: {text}");
        }
        let json = panel.json();
        assert_eq!(json["verdict"]["is"], "too_large");
        let parts = json["training"]["parts"].as_object().unwrap();
        let sum: u64 = parts.values().filter_map(Value::as_u64).sum();
        assert_eq!(json["training"]["total"], sum);
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn a_missing_model_is_a_note() {
        let mut notes = Vec::new();
        let experiment = Experiment::default();
        assert!(MemoryPanel::of(&experiment, None, false, &mut notes).is_none());
        assert!(notes[0].starts_with("memory is not planned: "), "{notes:?}");
    }
}
