//! Writing what the list shows.

use std::path::Path;

use moim_core::score::Comparison;

use super::model::Query;
use crate::tui::message::Command;
use crate::tui::screens::export::{Form, ask};
use crate::tui::screens::words::without_ending;

/// Asks for a form and a file. What is written are the items that the list shows, with the
/// numbers of the whole comparison above them.
pub(super) fn forms(
    comparison: &Comparison,
    shown: &[usize],
    query: &Query,
    run: &Path,
) -> Command {
    let selection = &query.selection;
    // The library knows selections only by verdict and type.
    let part = (!query.filter.is_empty()).then(|| Comparison {
        items: shown
            .iter()
            .filter_map(|&index| comparison.items.get(index).cloned())
            .collect(),
        ..comparison.clone()
    });
    let part = part.as_ref().unwrap_or(comparison);
    let mut markdown = part.to_markdown(selection);
    if !query.filter.is_empty() {
        markdown.push_str(&format!(
            "\nOf {} items only those that match `{}` are listed.\n",
            comparison.items.len(),
            query.filter.text()
        ));
    }
    // Nothing of a comparison fails to serialise.
    let json = part.to_json(selection).unwrap_or_default();
    let stem = stem(comparison, run);
    let file = |ending: &str| format!("{stem}.{ending}");
    ask(
        &format!("{} items", shown.len()),
        vec![
            Form::new('m', "Markdown", file("md"), markdown),
            Form::new('c', "CSV", file("csv"), part.to_csv(selection)),
            Form::json(file("json"), &json),
        ],
    )
}

/// The name of the file without its ending: run and epochs.
fn stem(comparison: &Comparison, run: &Path) -> String {
    let run = run
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let mut parts = vec!["compare".to_owned()];
    parts.extend(run);
    for file in &comparison.files {
        parts.push(match file.epoch {
            Some(epoch) => format!("epoch{epoch}"),
            None => without_ending(&file.file).replace('/', "_"),
        });
    }
    parts.join("_")
}
