//! What has changed since one looked last.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::tui::data::index::Condition;
use crate::tui::state::Context;

/// How long a change stays marked, in seconds.
const MARKED: i64 = 15;

/// Files and runs as they were seen last, and which of them changed when.
#[derive(Debug, Default)]
pub struct Changes {
    seen: HashMap<PathBuf, Seen>,
    marked: HashMap<PathBuf, (Timestamp, String)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    File(Option<Timestamp>),
    Run(Condition, Option<String>),
}

impl Seen {
    /// What became of it, in words.
    fn change(&self, before: &Self) -> String {
        match (before, self) {
            (Self::Run(was, _), Self::Run(is, _)) if was != is => {
                format!("was {}, is {}", was.name(), is.name())
            }
            (Self::Run(..), Self::Run(_, Some(best))) => format!("best is {best} now"),
            _ => "was written".to_owned(),
        }
    }
}

impl Changes {
    /// Takes in what there is now.
    pub fn look(&mut self, context: &Context<'_>) {
        let Some(index) = &context.world.index else {
            return;
        };
        let files = index
            .experiments
            .iter()
            .map(|file| (&file.path, Seen::File(file.modified)));
        let runs = index.runs.iter().map(|run| {
            let best = run
                .state
                .as_ref()
                .ok()
                .and_then(|state| state.best.as_ref());
            let best = best.map(|best| best.file.clone());
            (&run.path, Seen::Run(run.condition(), best))
        });
        let now: HashMap<PathBuf, Seen> = files
            .chain(runs)
            .map(|(path, seen)| (path.clone(), seen))
            .collect();
        let limit = SignedDuration::from_secs(MARKED);
        self.marked
            .retain(|_, (since, _)| context.now.duration_since(*since) < limit);
        // The first look finds everything as it is.
        if !self.seen.is_empty() {
            for (path, seen) in &now {
                let change = match self.seen.get(path) {
                    Some(before) if before == seen => continue,
                    Some(before) => seen.change(before),
                    None => "is new".to_owned(),
                };
                self.marked.insert(path.clone(), (context.now, change));
            }
        }
        self.seen = now;
    }

    /// What became of a file or a run lately.
    pub fn of(&self, path: &Path, now: Timestamp) -> Option<&str> {
        let (since, change) = self.marked.get(path)?;
        let is_recent = now.duration_since(*since) < SignedDuration::from_secs(MARKED);
        is_recent.then_some(change.as_str())
    }
}
