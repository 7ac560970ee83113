//! The Markdown form: a table for an issue or for notes.

use std::fmt::{self, Write};

use super::super::leaderboard::{Difference, Leaderboard, Row};
use super::state_in_words;
use super::text::{p_value, percent};

/// A header line, the table with the best file first, and the notes.
pub fn markdown(board: &Leaderboard) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_board(&mut text, board);
    text
}

fn write_board(out: &mut String, board: &Leaderboard) -> fmt::Result {
    let about = &board.provenance;
    writeln!(
        out,
        "{} items of {}. ROUGE-1 over {} tokens, BERTScore by {}, Final Mean = {}.\n",
        about.items,
        escape(&about.labels),
        about.rouge_tokenizer,
        escape(&about.encoder),
        about.averaging.formula()
    )?;
    writeln!(
        out,
        "| Rank | File | ROUGE-1 | BERTScore | EM | Final Mean | {} % interval | vs best (Holm p) | \
         vs epoch 0 (Holm p) | State |",
        percent(board.resampling.confidence)
    )?;
    writeln!(out, "|---:|---|---:|---:|---:|---:|---|---|---|---|")?;
    for row in &board.rows {
        write_row(out, row)?;
    }
    let with_types: Vec<&Row> = board
        .rows
        .iter()
        .filter(|row| row.types.len() > 1)
        .collect();
    if !with_types.is_empty() {
        writeln!(
            out,
            "\n| File | Type | Items | ROUGE-1 | BERTScore | EM | Final Mean |"
        )?;
        writeln!(out, "|---|---|---:|---:|---:|---:|---:|")?;
    }
    for row in with_types {
        for kind in &row.types {
            let means = &kind.means;
            writeln!(
                out,
                "| {} | {} | {} | {:.4} | {:.4} | {:.4} | {:.4} |",
                escape(&row.scored.file),
                escape(&kind.question_type),
                kind.items,
                means.rouge1,
                means.bertscore,
                means.em,
                means.final_mean
            )?;
        }
    }
    for row in &board.rows {
        for note in row
            .scored
            .coverage
            .iter()
            .flat_map(|coverage| coverage.notes())
        {
            writeln!(out, "\n{}: {}", escape(&row.scored.file), escape(&note))?;
        }
    }
    for note in &board.notes {
        writeln!(out, "\n{}", escape(note))?;
    }
    Ok(())
}

fn write_row(out: &mut String, row: &Row) -> fmt::Result {
    let rank = row.rank.map(|rank| rank.to_string()).unwrap_or_default();
    let rank = if row.tied_with.is_empty() {
        rank
    } else {
        format!("{rank} (tie)")
    };
    write!(out, "| {rank} | {} |", escape(&row.scored.file))?;
    match &row.means {
        Some(means) => write!(
            out,
            " {:.4} | {:.4} | {:.4} | {:.4} |",
            means.rouge1, means.bertscore, means.em, means.final_mean
        )?,
        None => write!(out, " | | | |")?,
    }
    match &row.intervals {
        Some(intervals) => {
            let interval = intervals.final_mean;
            write!(out, " {:.4} to {:.4} |", interval.low, interval.high)?;
        }
        None => write!(out, " |")?,
    }
    let against = |difference: &Option<Difference>| {
        difference.as_ref().map_or_else(String::new, |difference| {
            let delta = difference.final_mean;
            format!("{:+.4} ({})", delta.difference, p_value(delta.p_holm))
        })
    };
    writeln!(
        out,
        " {} | {} | {} |",
        against(&row.against_best),
        against(&row.against_epoch0),
        escape(&state_in_words(row))
    )
}

/// Escapes text so that it neither ends its cell nor becomes markup.
pub(in crate::score) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('*', "\\*")
        .replace('<', "&lt;")
        .replace(['\n', '\r'], " ")
}
