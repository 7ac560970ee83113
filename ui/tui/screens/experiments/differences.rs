//! Configurations compared with each other: only the keys that differ.

use std::path::{Path, PathBuf};

use moim_core::experiment::{Difference, Experiment};

use crate::tui::screens::words::name;
use crate::tui::text::{Align, aligned, fit, single_line, width};

/// The longest value in a column, in cells; the rest of it is cut.
const LONGEST: usize = 32;
const NOT_SET: &str = "not set";

/// What was read about the other configurations.
pub type Differences = [(PathBuf, Result<Vec<Difference>, String>)];

/// Whether everything that was asked for has been read.
pub fn is_answer(asked: &[PathBuf], differences: &Differences) -> bool {
    let mut others = asked.iter().skip(1);
    others.all(|path| differences.iter().any(|(read, _)| read == path))
}

/// The name of a configuration: that of a file, or of a run with its experiment's.
fn label(path: &Path) -> String {
    let last = |path: &Path| match path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => path.display().to_string(),
    };
    let is_file = path
        .extension()
        .is_some_and(|extension| extension == "toml");
    match path.parent() {
        _ if is_file => name(path),
        Some(parent) => format!("{}/{}", last(parent), last(path)),
        None => last(path),
    }
}

/// Keys by values as lines: a table if it fits into `room` cells, else a paragraph per key.
pub fn lines(
    asked: &[PathBuf],
    differences: &Differences,
    room: usize,
    ellipsis: &str,
) -> Vec<String> {
    let base = asked.first().map(|path| label(path));
    let mut heads = vec![base.unwrap_or_default()];
    let mut columns = Vec::new();
    let mut problems = Vec::new();
    for path in asked.iter().skip(1) {
        match differences.iter().find(|(read, _)| read == path) {
            Some((_, Ok(found))) => {
                heads.push(label(path));
                columns.push(found.as_slice());
            }
            Some((_, Err(problem))) => problems.push(format!("{}: {problem}", label(path))),
            None => {}
        }
    }
    let rows = rows(&columns);
    let mut lines = if columns.is_empty() {
        Vec::new()
    } else if rows.is_empty() {
        vec!["Nothing differs: every key has the same value.".to_owned()]
    } else {
        table(&heads, &rows, room, ellipsis).unwrap_or_else(|| paragraphs(&heads, &rows))
    };
    lines.extend(problems);
    lines
}

/// Each key that differs somewhere, with the value of every configuration, the first one's first.
fn rows(columns: &[&[Difference]]) -> Vec<(String, Vec<String>)> {
    let value = |value: &Option<String>| value.as_deref().map_or(NOT_SET.to_owned(), single_line);
    // In the order of the sections, whichever configuration a key was found in.
    let keys = Experiment::keys().into_iter().map(|key| key.path());
    keys.filter_map(|key| {
        let found = columns
            .iter()
            .map(|column| column.iter().find(|it| it.key == key));
        let base = value(&found.clone().flatten().next()?.before);
        let others = found.map(|difference| match difference {
            Some(difference) => value(&difference.after),
            None => base.clone(),
        });
        let values = std::iter::once(base.clone()).chain(others).collect();
        Some((key, values))
    })
    .collect()
}

/// `None` if the columns do not fit next to each other.
fn table(
    heads: &[String],
    rows: &[(String, Vec<String>)],
    room: usize,
    ellipsis: &str,
) -> Option<Vec<String>> {
    let key_width = rows.iter().map(|(key, _)| width(key)).max()?;
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(index, head)| {
            let values = rows.iter().filter_map(|(_, values)| values.get(index));
            let widest = values.map(|value| width(value)).max().unwrap_or_default();
            widest.max(width(head)).min(LONGEST)
        })
        .collect();
    if key_width + widths.iter().map(|cells| cells + 2).sum::<usize>() > room {
        return None;
    }
    let line = |key: &str, values: &[String]| {
        let mut line = aligned(key, key_width, Align::Left, ellipsis);
        for (value, cells) in values.iter().zip(&widths) {
            line.push_str("  ");
            line.push_str(&aligned(value, *cells, Align::Left, ellipsis));
        }
        line.trim_end().to_owned()
    };
    let rows = rows.iter().map(|(key, values)| line(key, values));
    Some(std::iter::once(line("", heads)).chain(rows).collect())
}

fn paragraphs(heads: &[String], rows: &[(String, Vec<String>)]) -> Vec<String> {
    let widest = heads.iter().map(|head| width(head)).max();
    let mut lines = Vec::new();
    for (key, values) in rows {
        lines.push(key.clone());
        for (head, value) in heads.iter().zip(values) {
            let head = fit(head, widest.unwrap_or_default());
            lines.push(format!("  {head}  {value}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(key: &str, before: Option<&str>, after: Option<&str>) -> Difference {
        Difference {
            key: key.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        }
    }

    fn asked() -> Vec<PathBuf> {
        [
            "experiments/큰 실험.toml",
            "outputs/demo/seed42",
            "outputs/demo/seed7",
        ]
        .map(PathBuf::from)
        .to_vec()
    }

    fn answer() -> Vec<(PathBuf, Result<Vec<Difference>, String>)> {
        let beta = difference("grpo.beta", Some("0.04"), Some("0.0"));
        let seed = difference("run.seed", Some("42"), Some("7"));
        let name = difference("run.name", None, Some("\"seed7\""));
        vec![
            (PathBuf::from("outputs/demo/seed42"), Ok(vec![beta.clone()])),
            (PathBuf::from("outputs/demo/seed7"), Ok(vec![name, seed])),
        ]
    }

    #[test]
    fn only_what_differs_is_shown_in_the_order_of_the_sections() {
        assert!(is_answer(&asked(), &answer()));
        assert_eq!(
            lines(&asked(), &answer(), 80, "…"),
            [
                "           큰 실험  demo/seed42  demo/seed7",
                "grpo.beta  0.04     0.0          0.04",
                "run.name   not set  not set      \"seed7\"",
                "run.seed   42       42           7",
            ]
        );
        let narrow = lines(&asked(), &answer(), 30, "…");
        assert_eq!(
            narrow[..3],
            ["grpo.beta", "  큰 실험      0.04", "  demo/seed42  0.0"]
        );
    }

    #[test]
    fn what_is_missing_or_unreadable_is_said() {
        assert!(!is_answer(&asked(), &answer()[..1]));
        let mut broken = answer();
        broken[0].1 = Err("cannot read experiment.toml".to_owned());
        broken[1].1 = Ok(Vec::new());
        assert_eq!(
            lines(&asked(), &broken, 80, "…"),
            [
                "Nothing differs: every key has the same value.",
                "demo/seed42: cannot read experiment.toml",
            ]
        );
    }
}
