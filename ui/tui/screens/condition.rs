//! The mark of what a run is doing.

use ratatui::style::Style;

use crate::tui::data::index::Condition;
use crate::tui::theme::Look;

/// The mark of a condition, for use next to its word, and its style.
pub(super) fn sign(condition: Condition, look: &Look) -> (&'static str, Style) {
    let (glyphs, theme) = (&look.glyphs, &look.theme);
    match condition {
        Condition::Running => (glyphs.arrow_right, theme.info),
        Condition::Paused => ("=", theme.warn),
        Condition::Starting => (glyphs.ellipsis, theme.info),
        Condition::Dead | Condition::Failed => (glyphs.bad, theme.bad),
        Condition::Stopped => (glyphs.horizontal, theme.dim),
        Condition::Finished => (glyphs.good, theme.good),
        Condition::Elsewhere => (glyphs.arrow_up, theme.info),
        Condition::Unreadable => (glyphs.warn, theme.warn),
    }
}
