//! Compares answer files of a run by the scores that it keeps.

use std::path::Path;
use std::sync::Arc;

use moim_core::score::{AnswerSheet, Resampling, ScoredFile, Side, compare};

use super::scores::RunScores;
use crate::tui::data::comparison::ComparisonData;

/// Compares files of a run, the first being the baseline.
///
/// # Errors
/// In words: fewer than two files, or one that cannot be read or has no scores yet.
pub(super) fn comparison(run: &Path, files: Vec<String>) -> Result<Arc<ComparisonData>, String> {
    if files.len() < 2 {
        return Err("mark two or more answer files to compare them".to_owned());
    }
    let mut scores = RunScores::load(run)?;
    let mut read = Vec::with_capacity(files.len());
    for file in &files {
        read.push(scored(run, file, &mut scores)?);
    }
    let sides: Vec<Side<'_>> = files
        .iter()
        .zip(&read)
        .map(|(name, (scored, sheet))| Side {
            name,
            scored,
            sheet,
        })
        .collect();
    let averaging = scores.kept.averaging();
    let comparison = compare(&sides, &scores.labels, averaging, &Resampling::default());
    Ok(Arc::new(ComparisonData {
        run: run.to_owned(),
        files,
        comparison,
    }))
}

fn scored(
    run: &Path,
    file: &str,
    scores: &mut RunScores,
) -> Result<(ScoredFile, AnswerSheet), String> {
    let path = run.join("infer_results").join(file);
    let bytes = moim_core::regular_file::read(&path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let sheet =
        AnswerSheet::parse(&bytes).map_err(|fault| format!("{}: {fault}", path.display()))?;
    let scored = scores.kept.score(&path, &sheet, &scores.labels).ok_or_else(|| {
        format!(
            "{file} has no scores yet; they are made while its run goes on, and on the Ranking screen after it"
        )
    })?;
    Ok((scored, sheet))
}
