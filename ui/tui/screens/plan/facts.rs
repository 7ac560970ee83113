//! What the panels need from the disk besides the text.

use std::path::PathBuf;

use moim_core::experiment::{DeviceChoice, Experiment};

use super::Plan;
use crate::tui::data::plan::PlanFacts;
use crate::tui::message::{Command, Effect};

/// The values that facts were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    model: PathBuf,
    encoder: Option<PathBuf>,
    train: PathBuf,
    /// Which device's memory is meant.
    device: DeviceChoice,
}

impl Asked {
    fn of(experiment: &Experiment) -> Self {
        Self {
            model: experiment.model.path.clone(),
            encoder: experiment.bertscore.model.clone(),
            train: experiment.data.train.clone(),
            device: experiment.model.device,
        }
    }
}

/// The facts where they are those of an experiment.
pub fn facts_of<'a>(
    experiment: &Experiment,
    facts: Option<&'a PlanFacts>,
) -> Option<&'a PlanFacts> {
    facts.filter(|facts| {
        facts.model == experiment.model.path
            && facts.encoder == experiment.bertscore.model
            && facts.train == experiment.data.train
    })
}

impl Plan {
    /// Asks for facts where they are for other values than the present ones. Not while a value
    /// is typed: half a path is no path.
    pub(super) fn wanted_facts(&mut self) -> Vec<Command> {
        let Some(form) = self.form.as_ref().filter(|_| self.entry.is_none()) else {
            return Vec::new();
        };
        let asked = Asked::of(form.experiment());
        if form.document().is_err() || self.asked.as_ref() == Some(&asked) {
            return Vec::new();
        }
        self.asked = Some(asked);
        let experiment = Box::new(form.experiment().clone());
        vec![Effect::ReadPlanFacts(experiment).into()]
    }
}
