//! Charts written to files and to the clipboard.

use std::fmt::Write;

use super::{Train, charts};
use crate::tui::data::run::OpenRun;
use crate::tui::message::{Command, Notice};
use crate::tui::screens::export::{Form, ask};
use crate::tui::state::Context;

/// Size of an image in pixels.
const IMAGE: (u32, u32) = (960, 480);

/// Asks what to write; the path can then be changed.
pub(super) fn dialog(train: &Train, open: &OpenRun, context: &Context<'_>) -> Command {
    let names = charts::names(&open.history, &train.filter);
    let Some(metric) = names.get(train.selected_in(&names)) else {
        return Notice::error("there is no chart to write yet");
    };
    let borrowed = charts::borrowed(open, metric, context.look());
    let svg = charts::chart(train, open, metric, &borrowed).to_svg(IMAGE.0, IMAGE.1);
    let csv = to_csv(train, open, &names);
    let folder = open.path.join("exports");
    let image = folder.join(format!("{}.svg", metric.replace('/', "_")));
    let table = format!("CSV of {} charts, as far as they are shown", names.len());
    ask(
        &format!("charts of {}", open.id()),
        vec![
            Form::new('s', &format!("SVG of {metric}"), image, svg),
            Form::new('c', &table, folder.join("metrics.csv"), csv),
        ],
    )
}

/// One row per value: series of a long run are thinned out separately, so they share no steps.
fn to_csv(train: &Train, open: &OpenRun, names: &[&str]) -> String {
    let window = charts::window(train, &open.history);
    let (start, end) = window.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
    let mut csv = "metric,step,value\n".to_owned();
    for name in names {
        let points = open.history.get(name).map(|series| series.points());
        let points = points.unwrap_or_default().iter();
        for (step, value) in points.filter(|(step, _)| (start..=end).contains(step)) {
            // Writing to a string cannot fail.
            let _ = writeln!(csv, "{name},{step},{value}");
        }
    }
    csv
}
