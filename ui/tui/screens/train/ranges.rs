//! Healthy ranges, drawn as reference lines: those that the alarms of [`moim_core::health`] go by.

use moim_core::health::{Range, healthy};

use crate::tui::theme::Theme;
use crate::tui::widgets::chart::Reference;

/// The borders of a metric's healthy range, the nearest to it first; none where no range is
/// published.
pub(super) fn references(metric: &str, theme: &Theme) -> Vec<Reference<'static>> {
    let Range {
        low,
        high,
        critically_low,
        critically_high,
    } = healthy(metric).unwrap_or_default();
    [
        (high, "healthy below", theme.warn),
        (low, "healthy above", theme.warn),
        (critically_low, "critical below", theme.bad),
        (critically_high, "critical above", theme.bad),
    ]
    .into_iter()
    .filter_map(|(value, label, style)| {
        Some(Reference {
            value: value?,
            label,
            style,
        })
    })
    .collect()
}
