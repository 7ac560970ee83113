//! The JSON form: `{"files": [best first, …], "best": …}`.

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::average::Means;
use super::super::file::FileState;
use super::super::leaderboard::{Difference, Intervals, Leaderboard, Row};

#[derive(Serialize)]
struct Report<'board> {
    scoring: Value,
    files: Vec<FileRow<'board>>,
    best: Option<Best<'board>>,
    notes: &'board [String],
}

#[derive(Serialize)]
struct Best<'board> {
    file: &'board str,
    epoch: Option<u64>,
    final_mean: f64,
    tied_with: &'board [String],
    /// Files that the items do not distinguish from this one.
    indistinguishable: Vec<&'board str>,
}

#[derive(Serialize)]
struct FileRow<'board> {
    file: &'board str,
    epoch: Option<u64>,
    state: &'static str,
    rank: Option<usize>,
    rouge1: Option<f64>,
    bertscore: Option<f64>,
    em: Option<f64>,
    final_mean: Option<f64>,
    format: Option<f64>,
    intervals: Option<&'board Intervals>,
    per_type: Map<String, Value>,
    tied_with: &'board [String],
    against_best: Option<&'board Difference>,
    against_epoch0: Option<&'board Difference>,
    answered: Option<usize>,
    expected: usize,
    missing: &'board [String],
    extra: &'board [String],
    stale: bool,
    reason: Option<&'board str>,
    line: Option<usize>,
    column: Option<usize>,
}

/// The leaderboard as one JSON value.
pub fn json(board: &Leaderboard) -> Value {
    let best = board.best().and_then(|row| {
        let rivals = board.indistinguishable_from_best();
        Some(Best {
            file: &row.scored.file,
            epoch: row.scored.epoch,
            final_mean: row.means?.final_mean,
            tied_with: &row.tied_with,
            indistinguishable: rivals.iter().map(|row| row.scored.file.as_str()).collect(),
        })
    });
    let report = Report {
        scoring: scoring(board),
        files: board.rows.iter().map(|row| file_row(row, board)).collect(),
        best,
        notes: &board.notes,
    };
    // This cannot fail: every key is a string and every number is finite or null.
    serde_json::to_value(report).unwrap_or_default()
}

fn scoring(board: &Leaderboard) -> Value {
    let mut scoring = serde_json::to_value(&board.provenance).unwrap_or_default();
    if let Value::Object(fields) = &mut scoring {
        let formula = board.provenance.averaging.formula();
        fields.insert("final_mean".to_owned(), formula.into());
        let resampling = serde_json::to_value(board.resampling).unwrap_or_default();
        fields.insert("resampling".to_owned(), resampling);
    }
    scoring
}

fn file_row<'board>(row: &'board Row, board: &'board Leaderboard) -> FileRow<'board> {
    let scored = &row.scored;
    let mean = |value: fn(&Means) -> f64| row.means.as_ref().map(value);
    let coverage = scored.coverage.as_ref();
    let fault = super::fault(row);
    let reason = match &scored.state {
        FileState::Pending { reason } => Some(reason.as_str()),
        _ => fault.map(|fault| fault.reason.as_str()),
    };
    FileRow {
        file: &scored.file,
        epoch: scored.epoch,
        state: scored.state.name(),
        rank: row.rank,
        rouge1: mean(|means| means.rouge1),
        bertscore: mean(|means| means.bertscore),
        em: mean(|means| means.em),
        final_mean: mean(|means| means.final_mean),
        format: mean(|means| means.format),
        intervals: row.intervals.as_ref(),
        per_type: row
            .types
            .iter()
            .filter_map(|kind| {
                let means = serde_json::to_value(kind).ok()?;
                Some((kind.question_type.clone(), means))
            })
            .collect(),
        tied_with: &row.tied_with,
        against_best: row.against_best.as_ref(),
        against_epoch0: row.against_epoch0.as_ref(),
        answered: coverage.map(|coverage| coverage.answered),
        expected: board.provenance.items,
        missing: coverage.map_or(&[], |coverage| &coverage.missing),
        extra: coverage.map_or(&[], |coverage| &coverage.extra),
        stale: super::is_stale(row),
        reason,
        line: fault.and_then(|fault| fault.line),
        column: fault.and_then(|fault| fault.column),
    }
}
