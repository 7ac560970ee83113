//! Where the panes of the Answers screen lie.

use ratatui::layout::{Constraint, Layout, Rect};

use super::{Answers, group};
use crate::tui::theme::Look;

/// The parts of the screen that can have the keyboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    /// The list of groups.
    #[default]
    Groups,
    /// Prompt and label.
    Prompt,
    /// The completions of the group.
    Completions,
}

impl Pane {
    pub(super) const ALL: [Self; 3] = [Self::Groups, Self::Prompt, Self::Completions];

    /// The pane `by` places further, round and round.
    pub(super) fn moved(self, by: usize) -> Self {
        let place = Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0);
        let next = Self::ALL.get((place + by) % Self::ALL.len());
        next.copied().unwrap_or(self)
    }
}

/// From this width on the list stands beside the group, else above it.
const WIDE: u16 = 120;
/// From this width on the list has room for the question.
const VERY_WIDE: u16 = 160;
/// Lines of the list above the group, its box included.
const LIST_LINES: u16 = 6;
/// Lines of a folded prompt.
const FOLDED_LINES: u16 = 4;

/// The areas of the panes, boxes included.
#[derive(Clone, Debug)]
pub(super) struct Areas {
    pub(super) groups: Rect,
    pub(super) prompt: Rect,
    pub(super) completions: Rect,
    /// Lines that the prompt takes.
    prompt_lines: usize,
}

impl Areas {
    /// The pane at a place.
    pub(super) fn pane(&self, pane: Pane) -> Rect {
        match pane {
            Pane::Groups => self.groups,
            Pane::Prompt => self.prompt,
            Pane::Completions => self.completions,
        }
    }

    /// Lines of the prompt that do not fit into its pane.
    pub(super) fn prompt_overhang(&self) -> usize {
        self.prompt_lines
            .saturating_sub(inner(self.prompt).height.into())
    }
}

/// Lays the panes out in `body`.
pub(super) fn areas(answers: &Answers, look: &Look, body: Rect) -> Areas {
    let (groups, rest) = if body.width >= WIDE {
        let cells = if body.width >= VERY_WIDE { 52 } else { 36 };
        let [left, right] =
            Layout::horizontal([Constraint::Length(cells), Constraint::Fill(1)]).areas(body);
        (left, right)
    } else {
        let [top, bottom] =
            Layout::vertical([Constraint::Length(LIST_LINES), Constraint::Fill(1)]).areas(body);
        (top, bottom)
    };
    let prompt_lines = group::prompt_lines(answers, look, inner(rest).width.into()).len();
    let most = match answers.unfolds_prompt {
        true => rest.height / 2,
        false => FOLDED_LINES + 2,
    };
    let height = u16::try_from(prompt_lines + 2)
        .unwrap_or(u16::MAX)
        .min(most);
    let [prompt, completions] =
        Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(rest);
    Areas {
        groups,
        prompt,
        completions,
        prompt_lines,
    }
}

/// The part of a pane within its box.
pub(super) fn inner(area: Rect) -> Rect {
    Rect {
        x: area.x.saturating_add(1).min(area.right()),
        y: area.y.saturating_add(1).min(area.bottom()),
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    }
}
