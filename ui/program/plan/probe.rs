//! The probe of `moim plan`: the plan of memory, measured.

use std::num::NonZeroUsize;

use moim_core::experiment::Experiment;
use moim_core::memory::{self, Bytes, Component, Inputs, Peak, Phase};
use moim_engine::probe::{self, Measured};
use serde_json::{Map, Value, json};

use moim_ui::console::Console;
use moim_ui::failure::{Failure, of_work};

/// Predicted bytes, without encoder and reserve, and the measured values.
pub struct Probed {
    rollout: u64,
    training: u64,
    measured: Measured,
}

impl Probed {
    /// Runs the worst case and compares the plan of `inputs` with it.
    ///
    /// # Errors
    /// Those of [`probe::probe`].
    pub fn run(
        inputs: &Inputs,
        experiment: &Experiment,
        steps: NonZeroUsize,
    ) -> Result<Self, Failure> {
        let console = Console::new(false);
        let bar = console.bar("probe", 0);
        let measured = probe::probe(experiment, steps, &mut |doing| {
            bar.set_message(doing.to_owned());
            Ok(())
        });
        console.clear_bars();
        // The probe has no encoder, and the reserve is not in the pools.
        let predicted = |peak: &Peak| {
            let left_out = peak.of(Component::Reserve) + peak.of(Component::Encoder);
            peak.total() - left_out
        };
        let without_encoder = memory::plan(
            &Inputs {
                encoder: None,
                ..inputs.clone()
            },
            None,
        );
        Ok(Self {
            rollout: predicted(&without_encoder.rollout),
            training: predicted(&without_encoder.training),
            measured: measured.map_err(of_work)?,
        })
    }

    fn rows(&self) -> [(Phase, u64, probe::Phase); 2] {
        let taken = &self.measured.median;
        [
            (Phase::Rollout, self.rollout, taken.rollout),
            (Phase::Training, self.training, taken.training),
        ]
    }

    /// Predicted and measured memory with their ratio, seconds and tokens, one line per phase.
    pub fn text(&self) -> String {
        let measured = &self.measured;
        let loaded = if measured.is_drawn {
            "random weights"
        } else {
            "model loaded"
        };
        let steps = match (&measured.warm_up, measured.steps.len()) {
            (None, _) => "one step, the first".to_owned(),
            (Some(_), 1) => "one step after the first".to_owned(),
            (Some(_), steps) => format!("medians of {steps} steps after the first"),
        };
        let mut text = format!(
            "probe on {}: {loaded} in {:.1} s, {steps}\n",
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
        if let Some(message) = &measured.out_of_memory {
            text.push_str(&format!(
                "  ran out of memory; retried with smaller parts: {message}\n"
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
