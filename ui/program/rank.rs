//! `moim rank`: scores and ranks every answer file of a directory.

use moim_core::score::{Resampling, rank, render};

use crate::scoring::{Scoring, cache_of};
use moim_ui::cli::RankArguments;
use moim_ui::console::{Console, json_to_stdout, to_stdout};
use moim_ui::failure::{Outcome, exit};

/// Runs the command. Exit code 1 if no file answers every label.
pub fn run(arguments: &RankArguments) -> Outcome {
    let directory = &arguments.directory;
    // Otherwise a wrong path would be reported only after the encoder was loaded.
    std::fs::read_dir(directory).map_err(|error| {
        anyhow::anyhow!(
            "cannot list {}: {error}; give a folder of answer files",
            directory.display()
        )
    })?;
    let scoring = Scoring::resolve(&arguments.scoring, directory)?;
    let console = Console::new(false);
    let mut metrics = scoring.metrics()?;
    let mut scorer = scoring.scorer(&mut metrics, cache_of(directory))?;
    let mut bar = None;
    let board = rank(
        directory,
        &mut scorer,
        Resampling::default(),
        &mut |progress| {
            let bar = bar.get_or_insert_with(|| console.bar("scoring", progress.total));
            bar.set_position(progress.done as u64);
            bar.set_message(progress.file.to_owned());
        },
    );
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let board = board?;
    if arguments.json {
        json_to_stdout(&render::json(&board))?;
    } else if arguments.csv {
        to_stdout(&render::csv(&board))?;
    } else if arguments.md {
        to_stdout(&render::markdown(&board))?;
    } else {
        to_stdout(&render::text(&board))?;
    }
    Ok(match board.best() {
        Some(_) => exit::DONE,
        None => exit::NOTHING,
    })
}
