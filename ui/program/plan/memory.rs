//! The memory of `moim plan`, as text and as JSON, and the probe that measures it.

use std::num::NonZeroUsize;

use moim_core::experiment::Experiment;
use moim_core::memory::{self, Bytes, Component, Inputs, MemoryPlan, Peak, Phase, Shapes, Verdict};
use moim_engine::device::cuda_device_count;
use moim_engine::preflight::device_memory;
use moim_engine::probe::{self, Measured};
use serde_json::{Map, Value, json};

use moim_ui::console::Console;
use moim_ui::failure::{Failure, of_work};

/// Cells of the bar that shows how much of the memory a phase takes.
const BAR: usize = 40;

/// The plan of an experiment whose model's shape is known.
pub struct MemoryPanel {
    inputs: Inputs,
    plan: MemoryPlan,
    /// What the memory is held against: `24.0 GiB (--gpu-memory)`.
    against: Option<String>,
}

impl MemoryPanel {
    /// Plans; what is not known becomes a note.
    pub fn of(
        experiment: &Experiment,
        given: Option<Bytes>,
        notes: &mut Vec<String>,
    ) -> Option<Self> {
        let mut shapes = Shapes::read(experiment);
        // A card's size is given for an experiment that will run on a card.
        shapes.has_cuda = cuda_device_count() > 0 || given.is_some();
        if let Err(why) = &shapes.decoder {
            notes.push(format!("memory is not planned: {why}"));
        }
        let inputs = Inputs::of(experiment, &shapes)?;
        if let Some(Err(why)) = &shapes.encoder {
            notes.push(format!("memory is planned without the encoder: {why}"));
        }
        let device = device_memory(experiment, inputs.is_cpu);
        let capacity = memory::capacity(experiment, given, device);
        let source = match (given, experiment.memory.budget_gib) {
            (Some(_), _) => "--gpu-memory",
            (None, Some(_)) => "memory.budget_gib",
            (None, None) if inputs.is_cpu => "of this machine",
            (None, None) => "of the card",
        };
        if !inputs.is_cpu {
            notes.push(
                "the memory of a card is planned from the buffers that are counted on the CPU; \
                 --probe measures it on yours"
                    .to_owned(),
            );
        }
        Some(Self {
            plan: memory::plan(&inputs, capacity.map(|bytes| bytes.0)),
            against: capacity.map(|bytes| format!("{bytes} ({source})")),
            inputs,
        })
    }

    /// The panel under the batch: components by phase, a bar for each phase, and what follows.
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
            // A bar that is too long says so at its end.
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

    /// Runs the worst case and holds the plan against it.
    ///
    /// # Errors
    /// Those of [`probe::probe`].
    pub fn probe(&self, experiment: &Experiment, steps: NonZeroUsize) -> Result<Probed, Failure> {
        let console = Console::new(false);
        let bar = console.bar("probe", 0);
        let measured = probe::probe(experiment, steps, &mut |doing| {
            bar.set_message(doing.to_owned());
            Ok(())
        });
        console.clear_bars();
        // The probe has no encoder, and what the reserve stands for is not in the pools.
        let predicted = |peak: &Peak| {
            let left_out = peak.of(Component::Reserve) + peak.of(Component::Encoder);
            peak.total() - left_out
        };
        let alone = memory::plan(
            &Inputs {
                encoder: None,
                ..self.inputs.clone()
            },
            None,
        );
        Ok(Probed {
            rollout: predicted(&alone.rollout),
            training: predicted(&alone.training),
            measured: measured.map_err(of_work)?,
        })
    }
}

/// A plan, in bytes without encoder and reserve, beside what was measured.
pub struct Probed {
    rollout: u64,
    training: u64,
    measured: Measured,
}

impl Probed {
    fn rows(&self) -> [(Phase, u64, probe::Phase); 2] {
        let taken = &self.measured.median;
        [
            (Phase::Rollout, self.rollout, taken.rollout),
            (Phase::Training, self.training, taken.training),
        ]
    }

    /// Predicted and measured memory with their ratio, seconds and tokens, a line a phase.
    pub fn text(&self) -> String {
        let measured = &self.measured;
        let made = if measured.is_drawn {
            "weights drawn"
        } else {
            "model loaded"
        };
        let steps = match (&measured.warm_up, measured.steps.len()) {
            (None, _) => "one step, the first".to_owned(),
            (Some(_), 1) => "one step after the first".to_owned(),
            (Some(_), steps) => format!("medians of {steps} steps after the first"),
        };
        let mut text = format!(
            "probe on {}: {made} in {:.1} s, {steps}\n",
            measured.device, measured.load_seconds
        );
        let names = [
            "predicted",
            "measured",
            "ratio",
            "seconds",
            "tokens",
            "tokens/s",
        ];
        let header: String = names.iter().map(|name| format!("{name:>12}")).collect();
        text.push_str(&format!("  {:12}{header}\n", ""));
        for (phase, predicted, taken) in self.rows() {
            text.push_str(&format!(
                "  {:12}{:>12}{:>12}{:>12.3}{:>12.3}{:>12}{:>12.1}\n",
                phase.name(),
                Bytes(predicted),
                Bytes(taken.memory),
                predicted as f64 / taken.memory as f64,
                taken.seconds,
                taken.tokens,
                taken.tokens_per_second(),
            ));
        }
        if let Some(said) = &measured.out_of_memory {
            text.push_str(&format!(
                "  out of memory, so parts became smaller: {said}\n"
            ));
        }
        if !measured.is_finite {
            text.push_str("  loss or gradients were not finite: the training skipped its update\n");
        }
        if let Some(first) = &measured.warm_up {
            text.push_str(&format!(
                "  the first step: rollout {:.3} s and {}, training {:.3} s and {}\n",
                first.rollout.seconds,
                Bytes(first.rollout.memory),
                first.training.seconds,
                Bytes(first.training.memory),
            ));
        }
        text
    }

    /// The same as an object: bytes as integers, times in seconds.
    pub fn json(&self) -> Value {
        let measured = &self.measured;
        let mut object = Map::new();
        for (phase, predicted, taken) in self.rows() {
            let mut row = phase_json(&taken);
            row["predicted"] = json!(predicted);
            row["ratio"] = json!(predicted as f64 / taken.memory as f64);
            object.insert(phase.name().to_owned(), row);
        }
        object.insert("device".into(), json!(measured.device));
        object.insert("memory_before".into(), json!(measured.memory_before));
        object.insert("load_seconds".into(), json!(measured.load_seconds));
        object.insert("out_of_memory".into(), json!(measured.out_of_memory));
        object.insert("is_finite".into(), json!(measured.is_finite));
        object.insert("weights_drawn".into(), json!(measured.is_drawn));
        object.insert(
            "warm_up".into(),
            measured.warm_up.as_ref().map_or(Value::Null, step_json),
        );
        let steps: Vec<Value> = measured.steps.iter().map(step_json).collect();
        object.insert("steps".into(), json!(steps));
        Value::Object(object)
    }
}

fn step_json(step: &probe::Step) -> Value {
    json!({
        "rollout": phase_json(&step.rollout),
        "training": phase_json(&step.training),
    })
}

fn phase_json(phase: &probe::Phase) -> Value {
    json!({
        "measured": phase.memory,
        "seconds": phase.seconds,
        "tokens": phase.tokens,
        "tokens_per_second": phase.tokens_per_second(),
    })
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
    fn the_panel_says_what_does_not_fit_and_what_would() {
        let mut experiment = Experiment::default();
        experiment.model.path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/demo/model").into();
        experiment.model.device = DeviceChoice::Cpu;
        let mut notes = Vec::new();
        let mut panel =
            |bytes| MemoryPanel::of(&experiment, Some(Bytes(bytes)), &mut notes).unwrap();
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
    fn a_model_that_is_not_there_is_a_note() {
        let mut notes = Vec::new();
        let experiment = Experiment::default();
        assert!(MemoryPanel::of(&experiment, None, &mut notes).is_none());
        assert!(notes[0].starts_with("memory is not planned: "), "{notes:?}");
    }
}
