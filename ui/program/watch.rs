//! `moim watch`: keeps the ranked list current while answer files appear.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use anyhow::{Context, Result};
use moim_core::run::Event;
use moim_core::score::leaderboard::Row;
use moim_core::score::{FileState, Leaderboard, Resampling, answers_directory, render};
use moim_core::watch::{
    DirectoryCondition, LiveRanking, WatchMode, WatchOptions, WatchUpdate, Watcher,
};
use serde_json::{Map, Value, json};

use crate::scoring::{Scoring, cache_of};
use moim_ui::cli::WatchArguments;
use moim_ui::console::{to_stderr, to_stdout};
use moim_ui::failure::{Outcome, exit};

/// Clears the screen and moves the cursor to its top left corner.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Runs the command until it is interrupted.
pub fn run(arguments: &WatchArguments) -> Outcome {
    let scoring = Scoring::resolve(&arguments.scoring, &arguments.directory)?;
    let mut metrics = scoring.metrics()?;
    let mut scorer = scoring.scorer(&mut metrics, cache_of(&arguments.directory))?;
    let directory = answers_directory(&arguments.directory);
    let options = WatchOptions {
        poll: arguments.poll,
        ..WatchOptions::default()
    };
    let watcher = Watcher::start(&directory, Arc::new(scoring.labels.clone()), options)
        .with_context(|| format!("cannot watch {}", directory.display()))?;
    let mut view = View {
        is_json: arguments.json,
        is_redrawn: !arguments.json && io::stdout().is_terminal() && !is_dumb(),
        title: format!("watching {}", directory.display()),
        mode: String::new(),
        changed: BTreeSet::new(),
    };
    let mut ranking = LiveRanking::default();
    let mut has_changed = true;
    for update in watcher.updates() {
        has_changed |= ranking.apply(&update, &mut scorer)?;
        for warning in scorer.take_warnings() {
            to_stderr(&format!("warning: {warning}"));
        }
        match &update {
            WatchUpdate::File(file) => {
                view.changed.insert(file.name.clone());
            }
            WatchUpdate::Directory(condition) => view.report_condition(condition)?,
            WatchUpdate::Mode(mode) => view.report_mode(mode)?,
            WatchUpdate::Settled { pending } if has_changed => {
                has_changed = false;
                let board = ranking.leaderboard(&scorer, Resampling::default());
                view.show(&board, *pending)?;
            }
            WatchUpdate::Settled { .. } => {}
        }
    }
    Ok(exit::DONE)
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// The output of a watch.
struct View {
    is_json: bool,
    /// Whether the table is drawn over the last one instead of below it.
    is_redrawn: bool,
    title: String,
    /// How changes are noticed; repeated in the table, since redrawing covers the earlier line.
    mode: String,
    /// Files whose changes have not been shown yet.
    changed: BTreeSet<String>,
}

impl View {
    fn report_condition(&self, condition: &DirectoryCondition) -> Result<()> {
        let line = match condition {
            DirectoryCondition::Present => "the directory exists".to_owned(),
            DirectoryCondition::Missing => {
                "the directory does not exist; waiting for it".to_owned()
            }
            DirectoryCondition::Unreadable(reason) => {
                format!("the directory cannot be listed: {reason}")
            }
        };
        self.report(
            "directory",
            "condition",
            serde_json::to_value(condition)?,
            &line,
        )
    }

    fn report_mode(&mut self, mode: &WatchMode) -> Result<()> {
        let line = match mode {
            WatchMode::Events => "changes are noticed as they happen".to_owned(),
            WatchMode::Polling { reason } => format!("polling every few seconds: {reason}"),
        };
        self.report("mode", "mode", serde_json::to_value(mode)?, &line)?;
        self.mode = line;
        Ok(())
    }

    fn report(&self, name: &str, key: &str, value: Value, line: &str) -> Result<()> {
        if self.is_json {
            return write_event(name, Map::from_iter([(key.to_owned(), value)]));
        }
        to_stderr(line);
        Ok(())
    }

    fn show(&mut self, board: &Leaderboard, pending: usize) -> Result<()> {
        let changed = std::mem::take(&mut self.changed);
        if self.is_json {
            return write_rows(board, &changed, pending);
        }
        let clear = if self.is_redrawn { CLEAR } else { "" };
        to_stdout(&format!(
            "{clear}{}; {}\n{}\n",
            self.title,
            self.mode,
            table(board)
        ))
    }
}

/// A `file` line for every file that changed, then a `ranking` line.
fn write_rows(board: &Leaderboard, changed: &BTreeSet<String>, pending: usize) -> Result<()> {
    let whole = render::json(board);
    for row in whole["files"].as_array().into_iter().flatten() {
        if let Value::Object(fields) = row
            && row["file"]
                .as_str()
                .is_some_and(|file| changed.contains(file))
        {
            write_event("file", fields.clone())?;
        }
    }
    let order: Vec<&str> = board.ranked().map(|row| row.scored.file.as_str()).collect();
    let fields = [
        ("best".to_owned(), whole["best"].clone()),
        ("ranked".to_owned(), json!(order)),
        ("pending".to_owned(), json!(pending)),
    ];
    write_event("ranking", Map::from_iter(fields))
}

fn write_event(name: &str, fields: Map<String, Value>) -> Result<()> {
    to_stdout(&format!("{}\n", Event::other(name, fields).to_line()))
}

/// One line per file, best first. The name is last, because its width on screen can differ from its
/// number of characters.
fn table(board: &Leaderboard) -> String {
    let mut text = String::new();
    let about = &board.provenance;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} items of {}; ROUGE-1 over {}, BERTScore by {}",
        about.items, about.labels, about.rouge_tokenizer, about.encoder
    );
    let _ = writeln!(
        text,
        "rank  Final Mean          interval   ROUGE-1  BERTScore      EM  p vs best  file"
    );
    for row in &board.rows {
        let _ = writeln!(text, "{}", table_line(row));
    }
    if board.rows.is_empty() {
        let _ = writeln!(text, "      no answer file yet");
    }
    for note in &board.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn table_line(row: &Row) -> String {
    let rank = row
        .rank
        .map_or_else(|| "-".to_owned(), |rank| rank.to_string());
    let name = match (row.rank, &row.scored.state) {
        (Some(_), FileState::Complete) => row.scored.file.clone(),
        _ => format!("{}  {}", row.scored.file, render::state_in_words(row)),
    };
    let Some(means) = &row.means else {
        return format!(
            "{rank:>4}  {:>10}  {:>16}   {:>7}  {:>9}  {:>6}  {:>9}  {name}",
            "", "", "", "", "", ""
        );
    };
    let interval = row
        .intervals
        .as_ref()
        .map_or_else(String::new, |intervals| {
            format!(
                "{:.4} to {:.4}",
                intervals.final_mean.low, intervals.final_mean.high
            )
        });
    let p_value = row
        .against_best
        .as_ref()
        .map_or_else(String::new, |difference| {
            format!("{:.4}", difference.final_mean.p_holm)
        });
    format!(
        "{rank:>4}  {:>10.4}  {interval:>16}   {:>7.4}  {:>9.4}  {:>6.4}  {p_value:>9}  {name}",
        means.final_mean, means.rouge1, means.bertscore, means.em
    )
}
