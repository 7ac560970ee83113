//! `moim compare`: compares answer files item by item with the first, the baseline.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use moim_core::run::RunDir;
use moim_core::score::{
    AnswerSheet, Averaging, Comparison, FileState, ItemFilter, KeptScores, Labels, Resampling,
    ScoredFile, Selection, Side, answer_files, answers_directory, compare, run_of,
};

use crate::scoring::{Scoring, cache_of};
use moim_ui::cli::{CompareArguments, ScoringArguments};
use moim_ui::console::{json_to_stdout, to_stderr, to_stdout};
use moim_ui::failure::{Failure, Outcome, exit, usage};

/// Runs the command.
pub fn run(arguments: &CompareArguments) -> Outcome {
    let files = read_all(&arguments.files)?;
    let (labels, scored) = match kept_scores(&arguments.scoring, &files) {
        Some(kept) => kept,
        None => with_encoder(&arguments.scoring, &files)?,
    };
    for (file, scored) in files.iter().zip(&scored) {
        if let FileState::Broken(fault) = &scored.state {
            let error = anyhow::Error::new(fault.clone());
            return Err(error.context(format!("answers {}", file.name)).into());
        }
    }
    let sides: Vec<Side<'_>> = files
        .iter()
        .zip(&scored)
        .map(|(file, scored)| Side {
            name: &file.name,
            scored,
            sheet: &file.sheet,
        })
        .collect();
    let averaging = if arguments.scoring.contest {
        Averaging::Contest
    } else {
        Averaging::AllItems
    };
    let comparison = compare(&sides, &labels, averaging, &Resampling::default());
    check_type(arguments, &comparison)?;
    write(arguments, &comparison)?;
    if !comparison.has_pairs() {
        to_stderr("nothing to compare: no file shares a labelled item with the first");
        return Ok(exit::NOTHING);
    }
    if arguments.fail_on_regression
        && let Some(reason) = regression(&comparison)
    {
        to_stderr(&format!("regression: {reason}"));
        return Ok(exit::NOTHING);
    }
    Ok(exit::DONE)
}

/// One file that is compared.
struct File {
    /// Its name in the report.
    name: String,
    path: PathBuf,
    sheet: AnswerSheet,
}

impl File {
    fn read(name: String, path: PathBuf) -> Result<Self> {
        let bytes = moim_core::regular_file::read(&path)
            .with_context(|| format!("cannot read the answers {}", path.display()))?;
        let sheet =
            AnswerSheet::parse(&bytes).with_context(|| format!("answers {}", path.display()))?;
        Ok(Self { name, path, sheet })
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// The files in the given order; a directory is replaced by its answer files.
fn read_all(paths: &[PathBuf]) -> Result<Vec<File>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(File::read(path.display().to_string(), path.clone())?);
            continue;
        }
        let directory = answers_directory(path);
        for name in answer_files(path, None)? {
            let path = directory.join(&name);
            // Files of two runs have the same names.
            let name = match paths.len() {
                1 => name,
                _ => path.display().to_string(),
            };
            match File::read(name, path) {
                Ok(file) => files.push(file),
                // The user did not name this file: a run may be writing it.
                Err(error) => to_stderr(&format!("left out: {error:#}")),
            }
        }
    }
    match files.len() {
        0 | 1 => Err(usage(
            "a comparison needs at least two answer files: give their names, or a run with the \
             answers of two save points",
        )),
        _ => Ok(files),
    }
}

/// The labels and the cached scores of these files, so that no encoder is loaded; `None` if a flag
/// requires other scores or a file has none.
fn kept_scores(arguments: &ScoringArguments, files: &[File]) -> Option<(Labels, Vec<ScoredFile>)> {
    let requires_others = arguments.encoder.is_some()
        || arguments.layer.is_some()
        || arguments.rouge.is_some()
        || arguments.mecab_dict.is_some()
        || arguments.experiment.is_some();
    if requires_others {
        return None;
    }
    // Absolute, since `.` can be the infer_results of a run.
    let absolute = |file: &File| Some(file.folder().canonicalize().ok()?.join(file.file_name()));
    let run = run_of(absolute(files.first()?)?.parent()?)?;
    // Scoring with an encoder reports any problem here.
    let experiment = RunDir::open(&run).ok()?.experiment().ok()?;
    let labels = arguments.labels.as_deref();
    let labels = Labels::load(labels.unwrap_or_else(|| experiment.data.labels_path())).ok()?;
    let mut kept = KeptScores::new(&experiment, arguments.contest).ok()?;
    let scored = files
        .iter()
        .map(|file| kept.score(&absolute(file)?, &file.sheet, &labels));
    let scored: Vec<ScoredFile> = scored.collect::<Option<_>>()?;
    Some((labels, scored))
}

/// The labels and the scores, computed with an encoder if they are not cached.
fn with_encoder(
    arguments: &ScoringArguments,
    files: &[File],
) -> Result<(Labels, Vec<ScoredFile>), Failure> {
    let folder = files.first().map_or(Path::new("."), File::folder);
    let scoring = Scoring::resolve(arguments, folder)?;
    let mut metrics = scoring.metrics()?;
    let mut scored = Vec::with_capacity(files.len());
    for file in files {
        let mut scorer = scoring.scorer(&mut metrics, cache_of(file.folder()))?;
        scored.push(scorer.score(&file.file_name(), &file.sheet)?);
        for warning in scorer.take_warnings() {
            to_stderr(&format!("warning: {warning}"));
        }
    }
    Ok((scoring.labels, scored))
}

fn check_type(arguments: &CompareArguments, comparison: &Comparison) -> Result<(), Failure> {
    let Some(question_type) = &arguments.question_type else {
        return Ok(());
    };
    let of_type = Selection {
        filter: ItemFilter::All,
        question_type: Some(question_type.clone()),
    };
    if comparison.selected(&of_type).next().is_some() {
        return Ok(());
    }
    Err(usage(format!(
        "--type {question_type}: no item has this type; the types are: {}",
        comparison.question_types().join(", ")
    )))
}

fn write(arguments: &CompareArguments, comparison: &Comparison) -> Result<()> {
    let selection = |otherwise| Selection {
        filter: arguments.only.unwrap_or(otherwise),
        question_type: arguments.question_type.clone(),
    };
    if arguments.json {
        json_to_stdout(&comparison.to_json(&selection(ItemFilter::All))?)
    } else if arguments.csv {
        to_stdout(&comparison.to_csv(&selection(ItemFilter::All)))
    } else if arguments.md {
        to_stdout(&comparison.to_markdown(&selection(ItemFilter::All)))
    } else {
        let is_asked = arguments.only.is_some() || arguments.question_type.is_some();
        let selection = is_asked.then(|| selection(ItemFilter::Changed));
        to_stdout(&comparison.to_text(selection.as_ref()))
    }
}

/// The reason if the last file is worse than the first by more than chance explains.
fn regression(comparison: &Comparison) -> Option<String> {
    let [first, .., last] = comparison.files.as_slice() else {
        return None;
    };
    let against = last.against_baseline.as_ref()?;
    if let Some(id) = against.only_baseline.first() {
        return Some(format!(
            "{} does not have {} item(s) of {}, the first is {id:?}",
            last.file,
            against.only_baseline.len(),
            first.file
        ));
    }
    let delta = against.outcome.metrics?.final_mean;
    let is_noise = delta.p_value > 1.0 - comparison.resampling.confidence;
    (delta.difference < 0.0 && !is_noise).then(|| {
        format!(
            "Final Mean {:.4} to {:.4}, difference {:+.4} (p = {:.4})",
            delta.baseline, delta.this, delta.difference, delta.p_value
        )
    })
}
