//! The two tables: their lines, columns and sort orders, and how they are exported.

use std::path::{Path, PathBuf};

use moim_core::experiment::Experiment;
use moim_core::run::RunState;

use super::Experiments;
use super::launch::run_id;
use crate::tui::data::index::{ExperimentFile, RunEntry};
use crate::tui::screens::condition::sign;
use crate::tui::screens::words::{count, point_of};
use crate::tui::state::Context;
use crate::tui::text::{age, compact};
use crate::tui::theme::Look;
use crate::tui::widgets::list::Item;
use crate::tui::widgets::table::{Cell, Column, Key, Order};

impl Item for ExperimentFile {
    type Id = PathBuf;

    fn id(&self) -> Option<&PathBuf> {
        Some(&self.path)
    }
}

impl Item for RunEntry {
    type Id = PathBuf;

    fn id(&self) -> Option<&PathBuf> {
        Some(&self.path)
    }
}

/// Index of the column by which runs are sorted at first.
pub const STARTED: usize = 6;

/// Cells of the small bar of a run's progress.
const BAR: usize = 6;

impl Experiments {
    /// The experiment files that pass the filter.
    pub(super) fn files<'a>(&self, context: &Context<'a>) -> Vec<&'a ExperimentFile> {
        let files = context
            .world
            .index
            .iter()
            .flat_map(|index| &index.experiments);
        let passes = |file: &&ExperimentFile| {
            let validity = if file.experiment.is_ok() {
                "valid"
            } else {
                "faults"
            };
            self.filter.passes([file.name.as_str(), validity])
        };
        files.map(AsRef::as_ref).filter(passes).collect()
    }

    /// The runs that pass the filter, sorted.
    pub(super) fn runs<'a>(&self, context: &Context<'a>) -> Vec<&'a RunEntry> {
        let runs = context.world.index.iter().flat_map(|index| &index.runs);
        let passes = |run: &&RunEntry| {
            let words = [run_id(run), run.condition().name().to_owned()];
            self.filter.passes(words.iter().map(String::as_str))
        };
        let mut runs: Vec<&RunEntry> = runs.map(AsRef::as_ref).filter(passes).collect();
        let columns = self.run_columns(context);
        // A stable sort: equal ones stay in the order of their starts, as the index has them.
        runs.sort_by(|left, right| self.sort.compare(&columns, left, right));
        runs
    }

    /// The columns of experiment files.
    pub(super) fn file_columns<'a>(
        &'a self,
        context: &'a Context<'_>,
    ) -> Vec<Column<'a, &'a ExperimentFile>> {
        let known = |file: &&'a ExperimentFile| file.experiment.as_ref().ok();
        vec![
            Column::text("experiment", 24, |file: &&ExperimentFile, _| {
                let mut queue = context.world.queue.iter();
                let name = match queue.position(|queued| *queued == file.path) {
                    Some(place) => format!("{} (queued {})", file.name, place + 1),
                    None => file.name.clone(),
                };
                self.name_cell(name, &file.path, context)
            })
            .minimum(10)
            .growing()
            .exports(&["name", "path"], |file| {
                vec![file.name.clone(), file.path.display().to_string()]
            }),
            Column::text("", 10, |file: &&ExperimentFile, look| {
                match &file.experiment {
                    Ok(_) => Cell::styled(format!("{} valid", look.glyphs.good), look.theme.good),
                    Err(faults) => {
                        let words = count(faults.len(), "fault");
                        Cell::styled(format!("{} {words}", look.glyphs.bad), look.theme.bad)
                    }
                }
            })
            .minimum(10)
            .priority(1)
            .exports(&["faults"], |file| {
                let faults = file.experiment.as_ref().err().map_or(0, Vec::len);
                vec![faults.to_string()]
            }),
            Column::text("model", 20, move |file, _| {
                let model = known(file).and_then(|it| it.model.path.file_name());
                model.map_or(String::new(), |name| name.to_string_lossy().into_owned())
            })
            .minimum(8)
            .priority(3)
            .exports(&["model"], move |file| {
                known(file).map_or(Vec::new(), |it| vec![it.model.path.display().to_string()])
            }),
            Column::text("BxGxAxD", 11, move |file, look| {
                known(file).map_or(String::new(), |experiment| batch(experiment, look))
            })
            .minimum(7)
            .priority(2)
            .exports(&["B", "G", "A", "D", "batch_unit"], move |file| {
                known(file).map_or(Vec::new(), |experiment| {
                    let batch = experiment.batch();
                    let numbers = [batch.b, batch.g, batch.a, batch.d];
                    let mut values = numbers.map(|number| number.to_string()).to_vec();
                    values.push(batch.unit.to_string());
                    values
                })
            }),
            Column::number("epochs", 6, move |file, _| {
                known(file).map_or(String::new(), |it| it.grpo.num_train_epochs.to_string())
            })
            .priority(4)
            .exports(&["epochs"], move |file| {
                known(file).map_or(Vec::new(), |it| vec![it.grpo.num_train_epochs.to_string()])
            }),
        ]
    }

    /// The columns of runs.
    pub(super) fn run_columns<'a>(
        &'a self,
        context: &'a Context<'_>,
    ) -> Vec<Column<'a, &'a RunEntry>> {
        let now = context.now;
        let shown = |show: fn(&RunState) -> String| {
            move |run: &&RunEntry, _: &Look| run.state.as_ref().map_or(String::new(), show)
        };
        let written = |write: fn(&RunState) -> Vec<String>| {
            move |run: &&RunEntry| run.state.as_ref().map_or(Vec::new(), write)
        };
        let number = |value: fn(&RunState) -> Option<f64>| {
            move |run: &&RunEntry| Key::number(run.state.as_ref().ok().and_then(value))
        };
        vec![
            Column::text("run", 24, |run: &&RunEntry, _| {
                self.name_cell(run_id(run), &run.path, context)
            })
            .minimum(16)
            .growing()
            .sorts("name", Order::Ascending, |run| Key::Text(run_id(run)))
            .exports(&["run", "path"], |run| {
                vec![run_id(run), run.path.display().to_string()]
            }),
            Column::text("state", 12, |run: &&RunEntry, look| {
                let (sign, style) = sign(run.condition(), look);
                Cell::styled(format!("{sign} {}", run.condition().name()), style)
            })
            .minimum(12)
            .priority(1)
            .sorts("state", Order::Ascending, |run| {
                Key::Number(f64::from(run.condition() as u8))
            })
            .exports(&["state"], |run| vec![run.condition().name().to_owned()]),
            Column::text("step", 18, |run: &&RunEntry, look| {
                run.state
                    .as_ref()
                    .map_or(String::new(), |state| steps(state, look))
            })
            .minimum(16)
            .priority(2)
            .sorts("progress", Order::Descending, number(progress))
            .exports(
                &["step", "total_steps"],
                written(|state| vec![state.step.to_string(), state.total_steps.to_string()]),
            ),
            Column::number(
                "reward",
                7,
                shown(|state| state.reward.map(compact).unwrap_or_default()),
            )
            .priority(3)
            .sorts(
                "reward, the highest first",
                Order::Descending,
                number(|state| state.reward),
            )
            .exports(
                &["reward"],
                written(|state| state.reward.iter().map(ToString::to_string).collect()),
            ),
            Column::text(
                "best",
                15,
                shown(|state| {
                    let best = state.best.as_ref();
                    best.map_or(String::new(), |best| {
                        format!("{:.4} {}", best.final_mean, point_of(&best.file))
                    })
                }),
            )
            .minimum(14)
            .priority(4)
            .sorts(
                "best Final Mean, the highest first",
                Order::Descending,
                number(|state| Some(state.best.as_ref()?.final_mean)),
            )
            .exports(
                &["best_file", "best_final_mean"],
                written(|state| {
                    let best = state.best.as_ref();
                    best.map_or(Vec::new(), |best| {
                        vec![best.file.clone(), best.final_mean.to_string()]
                    })
                }),
            ),
            Column::text("device", 8, shown(|state| state.device.clone()))
                .minimum(6)
                .priority(6)
                .exports(&["device"], written(|state| vec![state.device.clone()])),
            Column::number("since", 8, move |run: &&RunEntry, _| {
                run.state
                    .as_ref()
                    .map_or(String::new(), |state| age(now, state.started))
            })
            .priority(5)
            .sorts("start, the latest first", Order::Descending, |run| {
                // A run without run.json is about to start.
                let started = run
                    .state
                    .as_ref()
                    .map(|state| state.started.as_second() as f64);
                Key::Number(started.unwrap_or(f64::MAX))
            })
            .exports(
                &["started"],
                written(|state| vec![state.started.to_string()]),
            ),
            Column::text(
                "process",
                18,
                shown(|state| format!("{}@{}", state.pid, state.host)),
            )
            .minimum(12)
            .priority(7)
            .exports(
                &["pid", "host"],
                written(|state| vec![state.pid.to_string(), state.host.clone()]),
            ),
        ]
    }

    /// A name, with a star before it if the line has changed lately.
    fn name_cell(&self, name: String, path: &Path, context: &Context<'_>) -> Cell {
        match self.changes.of(path, context.now) {
            Some(_) => Cell::styled(format!("* {name}"), context.theme().accent),
            None => name.into(),
        }
    }
}

/// B×G×A×D.
pub fn batch(experiment: &Experiment, look: &Look) -> String {
    let batch = experiment.batch();
    let numbers = [batch.b, batch.g, batch.a, batch.d].map(|number| number.to_string());
    numbers.join(look.glyphs.times)
}

/// The fraction of a run that is done, in [0, 1]; `None` while its length is unknown.
fn progress(state: &RunState) -> Option<f64> {
    (state.total_steps > 0).then(|| state.step as f64 / state.total_steps as f64)
}

/// A small bar, and steps taken of all: `███░░░ 53/106`.
fn steps(state: &RunState, look: &Look) -> String {
    let Some(done) = progress(state) else {
        return format!("step {}", state.step);
    };
    // Whole only when it is done.
    let full = ((done.clamp(0.0, 1.0) * BAR as f64) as usize).min(BAR);
    let bar = look.glyphs.bar_full.repeat(full) + &look.glyphs.bar_empty.repeat(BAR - full);
    format!("{bar} {}/{}", state.step, state.total_steps)
}
