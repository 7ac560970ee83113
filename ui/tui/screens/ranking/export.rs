//! Writing and copying what the screen shows.

use moim_core::score::render::{self, state_in_words};
use moim_core::score::{Leaderboard, Row};

use super::table::Reference;
use super::words::{interval, number, probability};
use crate::tui::message::Command;
use crate::tui::screens::export::{Form, ask};
use crate::tui::text;

/// The leaderboard in every form.
pub(super) fn leaderboard(board: &Leaderboard, run: &str) -> Command {
    let file = |ending: &str| format!("ranking_{}.{ending}", run.replace('/', "_"));
    ask(
        "the leaderboard",
        vec![
            Form::new('t', "text", file("txt"), render::text(board)),
            Form::new('m', "Markdown", file("md"), render::markdown(board)),
            Form::new('c', "CSV", file("csv"), render::csv(board)),
            Form::json(file("json"), &render::json(board)),
        ],
    )
}

/// One file in one line.
pub(super) fn row(row: &Row) -> String {
    let mut parts = vec![row.scored.file.clone()];
    parts.extend(row.rank.map(|rank| format!("rank {rank}")));
    if let Some(means) = &row.means {
        let range = row
            .intervals
            .map(|all| format!(" ({})", interval(all.final_mean)));
        parts.push(format!(
            "Final Mean {}{}",
            number(means.final_mean),
            range.unwrap_or_default()
        ));
        parts.push(format!("ROUGE-1 {}", number(means.rouge1)));
        parts.push(format!("BERTScore {}", number(means.bertscore)));
        parts.push(format!("EM {}", number(means.em)));
    }
    for reference in [Reference::EpochZero, Reference::Best] {
        if let Some(difference) = reference.of(row) {
            let delta = difference.final_mean;
            parts.push(format!(
                "{} against {} (Holm p {})",
                text::delta(delta.difference, 4),
                difference.file,
                probability(delta.p_holm)
            ));
        }
    }
    parts.push(state_in_words(row));
    parts.join(", ")
}
