//! The text form: one block per file, then the best.

use std::fmt::{self, Write};

use super::super::average::Means;
use super::super::leaderboard::{Delta, Difference, Leaderboard, Row};
use super::super::statistics::Interval;
use super::state_in_words;

/// One block per file, best first; the files that are not ranked; the best; then the differences.
/// Lines that begin with `#` explain how the numbers were made.
pub fn text(board: &Leaderboard) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_board(&mut text, board);
    text
}

fn write_board(out: &mut String, board: &Leaderboard) -> fmt::Result {
    write_header(out, board)?;
    for row in board.ranked() {
        writeln!(out)?;
        write_block(out, row, board)?;
    }
    if board.unranked().next().is_some() {
        writeln!(out, "\nNot ranked:")?;
        for row in board.unranked() {
            writeln!(out)?;
            write_block(out, row, board)?;
        }
    }
    write_best(out, board)?;
    let compared = |difference: fn(&Row) -> Option<&Difference>| {
        board
            .ranked()
            .filter_map(|row| Some((row, difference(row)?)))
            .collect::<Vec<_>>()
    };
    write_differences(
        out,
        "Against the best",
        &compared(|row| row.against_best.as_ref()),
        board,
    )?;
    write_differences(
        out,
        "Against epoch 0",
        &compared(|row| row.against_epoch0.as_ref()),
        board,
    )?;
    for note in &board.notes {
        writeln!(out, "\nNote: {note}")?;
    }
    Ok(())
}

fn write_header(out: &mut String, board: &Leaderboard) -> fmt::Result {
    let about = &board.provenance;
    let resampling = &board.resampling;
    writeln!(out, "# labels: {}, {} items", about.labels, about.items)?;
    writeln!(
        out,
        "# ROUGE-1 over {} tokens; BERTScore by {}",
        about.rouge_tokenizer, about.encoder
    )?;
    writeln!(out, "# Final Mean = {}", about.averaging.formula())?;
    writeln!(
        out,
        "# {} % bootstrap intervals over items; paired permutation tests, EM exact McNemar; \
         p adjusted by Holm; {} resamples, seed {}",
        percent(resampling.confidence),
        resampling.resamples,
        resampling.seed
    )
}

fn write_block(out: &mut String, row: &Row, board: &Leaderboard) -> fmt::Result {
    writeln!(out, "File: {}", row.scored.file)?;
    if row.rank.is_none() || super::is_stale(row) {
        writeln!(out, "     State          : {}", state_in_words(row))?;
    }
    if let Some(means) = &row.means {
        write_means(out, means)?;
    }
    if let Some(intervals) = &row.intervals {
        writeln!(
            out,
            "     {} % interval  : {} (ROUGE-1 {}, BERTScore {}, EM {})",
            percent(board.resampling.confidence),
            range(intervals.final_mean),
            range(intervals.rouge1),
            range(intervals.bertscore),
            range(intervals.em)
        )?;
    }
    if let Some(means) = &row.means {
        writeln!(out, "     Format         : {:.4}", means.format)?;
    }
    for kind in &row.types {
        let means = &kind.means;
        writeln!(
            out,
            "     {}, {} items: ROUGE-1 {:.4}, BERTScore {:.4}, EM {:.4}, Final Mean {:.4}",
            kind.question_type,
            kind.items,
            means.rouge1,
            means.bertscore,
            means.em,
            means.final_mean
        )?;
    }
    if !row.tied_with.is_empty() {
        writeln!(out, "     Tied with      : {}", row.tied_with.join(", "))?;
    }
    for note in row
        .scored
        .coverage
        .iter()
        .flat_map(|coverage| coverage.notes())
    {
        writeln!(out, "     Note           : {note}")?;
    }
    Ok(())
}

fn write_means(out: &mut String, means: &Means) -> fmt::Result {
    writeln!(out, "   - ROUGE-1        : {:.4}", means.rouge1)?;
    writeln!(out, "   - BERTScore      : {:.4}", means.bertscore)?;
    writeln!(out, "   - EM             : {:.4}", means.em)?;
    writeln!(out, "   - Final Mean     : {:.4}", means.final_mean)
}

fn write_best(out: &mut String, board: &Leaderboard) -> fmt::Result {
    writeln!(out, "\nBest Final Mean:")?;
    let Some((best, means)) = board.best().and_then(|best| Some((best, best.means?))) else {
        return writeln!(out, "   none: no file answers every label");
    };
    writeln!(out, "   File       : {}", best.scored.file)?;
    writeln!(out, "   Final Mean : {:.4}", means.final_mean)?;
    if !best.tied_with.is_empty() {
        writeln!(
            out,
            "   Tied with  : {} (the first in file order is named)",
            best.tied_with.join(", ")
        )?;
    }
    if board.ranked().nth(1).is_some() {
        let rivals = board.indistinguishable_from_best();
        if rivals.is_empty() {
            writeln!(
                out,
                "   Every other file is worse by more than chance explains."
            )?;
        } else {
            let names: Vec<&str> = rivals.iter().map(|row| row.scored.file.as_str()).collect();
            writeln!(
                out,
                "   These {} items do not distinguish it from: {}",
                board.provenance.items,
                names.join(", ")
            )?;
        }
    }
    Ok(())
}

fn write_differences(
    out: &mut String,
    title: &str,
    rows: &[(&Row, &Difference)],
    board: &Leaderboard,
) -> fmt::Result {
    let Some((_, first)) = rows.first() else {
        return Ok(());
    };
    writeln!(out, "\n{title}, {}:", first.file)?;
    writeln!(
        out,
        "   Final Mean  {:>20}   Holm p   ROUGE-1  Holm p   BERTScore  Holm p        EM  Holm p  \
         won/lost  file",
        format!("{} % interval", percent(board.resampling.confidence))
    )?;
    for (row, difference) in rows {
        let (Delta { interval, .. }, wins) = (
            difference.final_mean,
            format!("{}/{}", difference.em_won, difference.em_lost),
        );
        writeln!(
            out,
            "      {:>+7.4}  {:>+8.4} to {:>+8.4}   {}   {:>+7.4}  {}     {:>+7.4}  {}   \
             {:>+7.4}  {}  {wins:>8}  {}",
            difference.final_mean.difference,
            interval.low,
            interval.high,
            p_value(difference.final_mean.p_holm),
            difference.rouge1.difference,
            p_value(difference.rouge1.p_holm),
            difference.bertscore.difference,
            p_value(difference.bertscore.p_holm),
            difference.em.difference,
            p_value(difference.em.p_holm),
            row.scored.file
        )?;
    }
    Ok(())
}

fn range(interval: Interval) -> String {
    format!("{:.4} to {:.4}", interval.low, interval.high)
}

/// Four decimals in six columns. A probability is never shown as zero.
pub(in crate::score) fn p_value(p: f64) -> String {
    if p < 0.00005 {
        "<.0001".to_owned()
    } else {
        format!("{p:.4}")
    }
}

/// 0.95 as `95`, 0.995 as `99.5`.
pub(in crate::score) fn percent(confidence: f64) -> f64 {
    (confidence * 1e6).round() / 1e4
}
