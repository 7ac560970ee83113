//! The CSV form (RFC 4180, LF line ends): one row per file, best first.

use std::borrow::Cow;

use super::super::leaderboard::{Delta, Difference, Leaderboard, Row};
use super::super::statistics::Interval;
use super::state_in_words;

/// The leaderboard with a header line. Numbers have every digit; a missing value is empty. Each
/// question type adds four columns.
pub fn csv(board: &Leaderboard) -> String {
    let mut types: Vec<&str> = Vec::new();
    for kind in board.rows.iter().flat_map(|row| &row.types) {
        if !types.contains(&kind.question_type.as_str()) {
            types.push(&kind.question_type);
        }
    }
    let mut header: Vec<String> = [
        "rank",
        "file",
        "epoch",
        "state",
        "answered",
        "expected",
        "rouge1",
        "bertscore",
        "em",
        "final_mean",
        "format",
        "rouge1_low",
        "rouge1_high",
        "bertscore_low",
        "bertscore_high",
        "em_low",
        "em_high",
        "final_mean_low",
        "final_mean_high",
    ]
    .map(str::to_owned)
    .to_vec();
    for reference in ["best", "epoch0"] {
        for value in [
            "difference",
            "low",
            "high",
            "p",
            "p_holm",
            "em_won",
            "em_lost",
            "em_p_holm",
        ] {
            header.push(format!("vs_{reference}_{value}"));
        }
    }
    for kind in &types {
        for value in ["rouge1", "bertscore", "em", "final_mean"] {
            header.push(format!("{kind}_{value}"));
        }
    }
    header.push("detail".to_owned());
    let mut csv = line(&header);
    for row in &board.rows {
        csv.push_str(&line(&cells(row, board, &types)));
    }
    csv
}

fn cells(row: &Row, board: &Leaderboard, types: &[&str]) -> Vec<String> {
    let scored = &row.scored;
    let coverage = scored.coverage.as_ref();
    let mut cells = vec![
        shown(row.rank),
        scored.file.clone(),
        shown(scored.epoch),
        scored.state.name().to_owned(),
        shown(coverage.map(|coverage| coverage.answered)),
        board.provenance.items.to_string(),
    ];
    let means = row.means.as_ref();
    cells.extend([
        shown(means.map(|means| means.rouge1)),
        shown(means.map(|means| means.bertscore)),
        shown(means.map(|means| means.em)),
        shown(means.map(|means| means.final_mean)),
        shown(means.map(|means| means.format)),
    ]);
    let intervals = row.intervals.as_ref();
    push_interval(&mut cells, intervals.map(|intervals| intervals.rouge1));
    push_interval(&mut cells, intervals.map(|intervals| intervals.bertscore));
    push_interval(&mut cells, intervals.map(|intervals| intervals.em));
    push_interval(&mut cells, intervals.map(|intervals| intervals.final_mean));
    push_difference(&mut cells, row.against_best.as_ref());
    push_difference(&mut cells, row.against_epoch0.as_ref());
    for kind in types {
        let found = row.types.iter().find(|known| known.question_type == *kind);
        let means = found.map(|kind| &kind.means);
        cells.extend([
            shown(means.map(|means| means.rouge1)),
            shown(means.map(|means| means.bertscore)),
            shown(means.map(|means| means.em)),
            shown(means.map(|means| means.final_mean)),
        ]);
    }
    let mut detail = vec![state_in_words(row)];
    detail.extend(coverage.iter().flat_map(|coverage| coverage.notes()));
    cells.push(detail.join("; "));
    cells
}

fn push_interval(cells: &mut Vec<String>, interval: Option<Interval>) {
    cells.push(shown(interval.map(|interval| interval.low)));
    cells.push(shown(interval.map(|interval| interval.high)));
}

fn push_difference(cells: &mut Vec<String>, difference: Option<&Difference>) {
    let delta = |value: fn(&Delta) -> f64| shown(difference.map(|d| value(&d.final_mean)));
    cells.extend([
        delta(|delta| delta.difference),
        delta(|delta| delta.interval.low),
        delta(|delta| delta.interval.high),
        delta(|delta| delta.p_value),
        delta(|delta| delta.p_holm),
        shown(difference.map(|difference| difference.em_won)),
        shown(difference.map(|difference| difference.em_lost)),
        shown(difference.map(|difference| difference.em.p_holm)),
    ]);
}

/// A missing value is an empty cell.
pub(in crate::score) fn shown<Value: ToString>(value: Option<Value>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// One record, quoted where necessary, with its line end.
pub fn line(cells: &[String]) -> String {
    let quoted: Vec<Cow<'_, str>> = cells.iter().map(|cell| quote(cell)).collect();
    quoted.join(",") + "\n"
}

fn quote(cell: &str) -> Cow<'_, str> {
    if cell.contains(['"', ',', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", cell.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(cell)
    }
}
