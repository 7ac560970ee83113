//! Scores every answer file of a folder and prints the ranked list, with an experiment's labels,
//! reward settings and BERTScore encoder.
//!
//!   cargo run --release --example score_folder -- experiments/demo.toml outputs/demo/RUN/infer_results

use std::path::Path;

use anyhow::{Context, Result};
use moim::device::Compute;
use moim::experiment::{Dtype, Experiment};
use moim::metric::{MetricSettings, Metrics, ReasonScorer};
use moim::score::{Labels, Resampling, Scorer, encoder_name, rank, render};
use moim::setup::bert_scorer;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("which experiment file?")?;
    let folder = arguments.next().context("which folder of answers?")?;

    let experiment = Experiment::load(Path::new(&file), &[])?;
    let labels = Labels::load(experiment.data.labels_path())?;
    let encoder = bert_scorer(
        &experiment.bertscore,
        &experiment.reward.answer_endings,
        labels.items().iter().map(|label| label.answer.as_str()),
        &Compute::new(experiment.model.device, Dtype::Auto)?,
    )?;
    let encoder = encoder.map(|encoder| Box::new(encoder) as Box<dyn ReasonScorer>);
    let mut metrics = Metrics::new(MetricSettings::from(&experiment.reward), encoder)?;
    let mut scorer = Scorer::new(&labels, &mut metrics, &encoder_name(&experiment.bertscore))?;

    let board = rank(
        Path::new(&folder),
        &mut scorer,
        Resampling::default(),
        &mut |progress| {
            eprintln!("{}/{} {}", progress.done, progress.total, progress.file);
        },
    )?;
    print!("{}", render::text(&board));
    Ok(())
}
