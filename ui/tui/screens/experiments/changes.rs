//! What has changed lately.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::tui::data::index::Condition;
use crate::tui::state::Context;

/// How long a change stays marked.
const MARKED: SignedDuration = SignedDuration::from_secs(15);

/// Files and runs as they were seen last, and which of them changed when.
#[derive(Debug, Default)]
pub struct Changes {
    seen: HashMap<PathBuf, Seen>,
    marked: HashMap<PathBuf, (Timestamp, String)>,
}

#[derive(Debug, PartialEq)]
enum Seen {
    File(Option<Timestamp>),
    Run(Condition, Option<String>),
}

impl Changes {
    /// Compares what there is now with what was seen before.
    pub fn look(&mut self, context: &Context<'_>) {
        let Some(index) = &context.world.index else {
            return;
        };
        let files = index.experiments.iter();
        let files = files.map(|file| (file.path.clone(), Seen::File(file.modified)));
        let runs = index.runs.iter().map(|run| {
            let best = run
                .state
                .as_ref()
                .ok()
                .and_then(|state| state.best.as_ref());
            let best = best.map(|best| best.file.clone());
            (run.path.clone(), Seen::Run(run.condition(), best))
        });
        let now: HashMap<PathBuf, Seen> = files.chain(runs).collect();
        self.marked
            .retain(|_, (since, _)| context.now.duration_since(*since) < MARKED);
        // The first look finds nothing changed.
        let seen = std::mem::replace(&mut self.seen, now);
        if seen.is_empty() {
            return;
        }
        for (path, now) in &self.seen {
            let change = match (seen.get(path), now) {
                (Some(before), now) if before == now => continue,
                (None, _) => "is new".to_owned(),
                (Some(Seen::Run(was, _)), Seen::Run(is, _)) if was != is => {
                    format!("was {}, is {}", was.name(), is.name())
                }
                (Some(Seen::Run(..)), Seen::Run(_, Some(best))) => format!("best is {best} now"),
                _ => "was written".to_owned(),
            };
            self.marked.insert(path.clone(), (context.now, change));
        }
    }

    /// How a file or a run has changed lately.
    pub fn of(&self, path: &Path, now: Timestamp) -> Option<&str> {
        let (since, change) = self.marked.get(path)?;
        (now.duration_since(*since) < MARKED).then_some(change.as_str())
    }
}
