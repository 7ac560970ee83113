//! What the user must know of a comparison besides its numbers: whether it is being made, failed
//! or is out of date, and how to get one.

use moim_core::score::FileState;

use super::Compare;
use crate::tui::data::World;
use crate::tui::screens::NO_RUN;
use crate::tui::state::Context;
use crate::tui::widgets::page::Page;

impl Compare {
    /// What has happened since the comparison was made.
    pub(super) fn warnings(&self, page: &mut Page, context: &Context<'_>) {
        let (theme, world) = (context.theme(), context.world);
        let warn = context.glyphs().warn;
        if let Some(files) = &world.comparing {
            let words = format!("{warn} comparing {} now", files.join(", "));
            page.say(words, theme.info);
        }
        if let Some(Err(reason)) = &world.comparison {
            let words = format!("{warn} the last comparison failed: {reason}");
            page.say(words, theme.bad);
        }
        let files = self.data.iter().flat_map(|data| &data.files);
        let changed: Vec<String> = files
            .zip(&self.revisions)
            .filter_map(|(file, known)| match state_of(world, file) {
                Some(FileState::Gone) => Some(format!("{file} was deleted")),
                _ if revision(world, file) > *known => Some(format!("{file} has changed")),
                _ => None,
            })
            .collect();
        if !changed.is_empty() {
            let words = format!("{warn} {} since; r compares again", changed.join(", "));
            page.say(words, theme.warn);
        }
    }

    /// Said when nothing is compared.
    pub(super) fn nothing_yet(&self, context: &Context<'_>) -> Vec<String> {
        let world = context.world;
        if world.open.is_none() {
            return vec![
                "Answer files of a run are compared here item by item.".to_owned(),
                NO_RUN.to_owned(),
            ];
        }
        let how = "Press 5, mark two or more files with space and press v: they are joined by id and \
                   shown item by item, with what was fixed, what was broken and how the answers differ.";
        let present = match (&world.comparing, &world.comparison) {
            (Some(files), _) => {
                let baseline = files.first().map(String::as_str).unwrap_or_default();
                format!(
                    "Comparing {}; {baseline} is the baseline.",
                    files.join(", ")
                )
            }
            (None, Some(Err(reason))) => {
                format!("The files could not be compared: {reason}. Press r to try again.")
            }
            _ => "Nothing is compared yet: there are no two complete answer files.".to_owned(),
        };
        vec![present, how.to_owned()]
    }
}

/// Good versions of a file that have been read.
pub(super) fn revision(world: &World, file: &str) -> u32 {
    world.ranking.revisions.get(file).copied().unwrap_or(0)
}

fn state_of<'a>(world: &'a World, file: &str) -> Option<&'a FileState> {
    let board = world.ranking.board.as_deref()?;
    let row = board.rows.iter().find(|row| row.scored.file == file)?;
    Some(&row.scored.state)
}
