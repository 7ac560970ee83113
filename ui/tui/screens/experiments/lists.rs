//! Which experiment files and runs are listed, in which order, and which line is selected.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::tui::data::index::{ExperimentFile, Index, RunEntry};
use crate::tui::filter::Filter;

/// What runs are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunSort {
    /// The one that was started last first.
    #[default]
    Started,
    /// By experiment and name.
    Name,
    /// What is under way first.
    Condition,
    /// The one that has come furthest first.
    Progress,
    /// The highest first.
    Reward,
    /// The highest Final Mean first.
    Best,
}

impl RunSort {
    /// The next one, round and round.
    pub fn next(self) -> Self {
        match self {
            Self::Started => Self::Name,
            Self::Name => Self::Condition,
            Self::Condition => Self::Progress,
            Self::Progress => Self::Reward,
            Self::Reward => Self::Best,
            Self::Best => Self::Started,
        }
    }

    /// In words, for a notice.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Started => "start, the latest first",
            Self::Name => "name",
            Self::Condition => "state",
            Self::Progress => "progress",
            Self::Reward => "reward, the highest first",
            Self::Best => "best Final Mean, the highest first",
        }
    }
}

/// `<experiment>/<run>`.
pub fn run_id(run: &RunEntry) -> String {
    format!("{}/{}", run.experiment, run.name)
}

/// The experiment files that pass the filter.
pub fn files<'a>(index: Option<&'a Index>, filter: &Filter) -> Vec<&'a Arc<ExperimentFile>> {
    let files = index.into_iter().flat_map(|index| &index.experiments);
    files
        .filter(|file| {
            let validity = if file.experiment.is_ok() {
                "valid"
            } else {
                "faults"
            };
            filter.passes([file.name.as_str(), validity])
        })
        .collect()
}

/// The runs that pass the filter, sorted.
pub fn runs<'a>(
    index: Option<&'a Index>,
    filter: &Filter,
    sort: RunSort,
) -> Vec<&'a Arc<RunEntry>> {
    let runs = index.into_iter().flat_map(|index| &index.runs);
    let mut runs: Vec<&Arc<RunEntry>> = runs
        .filter(|run| filter.passes([run_id(run).as_str(), run.condition().name()]))
        .collect();
    // A stable sort: equal ones stay in the order of their starts, as the index has them.
    match sort {
        RunSort::Started => {}
        RunSort::Name => runs.sort_by_cached_key(|run| run_id(run)),
        RunSort::Condition => runs.sort_by_key(|run| run.condition()),
        RunSort::Progress => runs.sort_by(|a, b| descending(progress(a), progress(b))),
        RunSort::Reward => runs.sort_by(|a, b| descending(reward(a), reward(b))),
        RunSort::Best => runs.sort_by(|a, b| descending(best(a), best(b))),
    }
    runs
}

/// The largest first, what has no value last.
fn descending(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.total_cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// How much of a run is done, from 0 to 1; `None` while its length is unknown.
pub fn progress(run: &RunEntry) -> Option<f64> {
    let state = run.state.as_ref().ok()?;
    (state.total_steps > 0).then(|| state.step as f64 / state.total_steps as f64)
}

fn reward(run: &RunEntry) -> Option<f64> {
    run.state.as_ref().ok()?.reward
}

fn best(run: &RunEntry) -> Option<f64> {
    Some(run.state.as_ref().ok()?.best.as_ref()?.final_mean)
}

/// A cursor that stays on its line while other lines come and go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    path: Option<PathBuf>,
    index: usize,
}

impl Selection {
    /// The selected line.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Finds the line again among those that there are now; where it is gone, the one in its
    /// place is selected.
    pub fn follow(&mut self, paths: &[&Path]) {
        let found = paths
            .iter()
            .position(|path| Some(*path) == self.path.as_deref());
        self.select(found.unwrap_or(self.index), paths);
    }

    /// Selects a line, or the last one where there are not so many.
    pub fn select(&mut self, index: usize, paths: &[&Path]) {
        self.index = index.min(paths.len().saturating_sub(1));
        self.path = paths.get(self.index).map(|path| (*path).to_owned());
    }
}
