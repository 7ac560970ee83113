//! The settings for scoring answers in `rank`, `watch` and `compare`: flags first, then the experiment
//! of `--experiment`, then that of the answers' run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use moim_core::experiment::{Dtype, Experiment, RougeTokenizer};
use moim_core::metric::{MetricSettings, Metrics, ReasonScorer};
use moim_core::run::RunDir;
use moim_core::score::{self, Labels, ScoreCache, Scorer, encoder_name};
use moim_engine::device::Compute;
use moim_engine::setup;

use moim_ui::cli::ScoringArguments;

/// Everything that determines the numbers, except the encoder, which is not loaded yet.
pub struct Scoring {
    experiment: Experiment,
    /// The right answers.
    pub labels: Labels,
    is_contest: bool,
}

impl Scoring {
    /// Resolves the arguments for answers in `directory`.
    ///
    /// # Errors
    /// There is no encoder or no labels; an experiment or a label file is not valid.
    pub fn resolve(arguments: &ScoringArguments, directory: &Path) -> Result<Self> {
        let base = base_experiment(arguments, directory)?;
        let labels = arguments
            .labels
            .clone()
            .or_else(|| base.as_ref().map(|base| base.data.labels_path().to_owned()))
            .context(
                "no labels: give --labels FILE, or --experiment FILE with data.eval or data.labels",
            )?;
        let mut experiment = base.unwrap_or_default();
        apply(arguments, &mut experiment);
        check_encoder(&experiment)?;
        check_rouge(&experiment)?;
        Ok(Self {
            experiment,
            labels: Labels::load(&labels)?,
            is_contest: arguments.contest,
        })
    }

    /// Loads the encoder and everything else that the metrics need.
    ///
    /// # Errors
    /// A device, encoder or dictionary that cannot be used.
    pub fn metrics(&self) -> Result<Metrics> {
        // The encoder always computes in its own type, independent of the policy's dtype.
        let compute = Compute::new(self.experiment.model.device, Dtype::Auto)?;
        let labels = self
            .labels
            .items()
            .iter()
            .map(|label| label.answer.as_str());
        let reward = &self.experiment.reward;
        let encoder = setup::bert_scorer(
            &self.experiment.bertscore,
            &reward.answer_endings,
            labels,
            &compute,
        )?;
        let settings = MetricSettings {
            contest: self.is_contest,
            ..MetricSettings::from(reward)
        };
        let encoder = encoder.map(|encoder| Box::new(encoder) as Box<dyn ReasonScorer>);
        Metrics::new(settings, encoder)
    }

    /// A scorer with loaded metrics and the cache of the answers' run.
    ///
    /// # Errors
    /// None after [`Self::resolve`] has succeeded.
    pub fn scorer<'run>(
        &'run self,
        metrics: &'run mut Metrics,
        cache: Option<ScoreCache>,
    ) -> Result<Scorer<'run>> {
        let scorer = Scorer::new(
            &self.labels,
            metrics,
            &encoder_name(&self.experiment.bertscore),
        )?;
        Ok(match cache {
            Some(cache) => scorer.with_cache(cache),
            None => scorer,
        })
    }
}

/// The experiment that replaces missing flags.
fn base_experiment(arguments: &ScoringArguments, directory: &Path) -> Result<Option<Experiment>> {
    if let Some(path) = &arguments.experiment {
        return Ok(Some(Experiment::load(path, &[])?));
    }
    match run_directory_of(directory) {
        Some(run) => Ok(Some(RunDir::open(&run)?.experiment()?)),
        None => Ok(None),
    }
}

/// The run that `directory` is, or whose `infer_results` it is.
fn run_directory_of(directory: &Path) -> Option<PathBuf> {
    let is_run = |path: &Path| path.join("experiment.toml").is_file();
    if is_run(directory) {
        return Some(directory.to_owned());
    }
    // Absolute, since a relative `infer_results` or `.` has no parent name.
    let whole = directory.canonicalize().ok()?;
    let parent = whole.parent()?;
    (whole.ends_with("infer_results") && is_run(parent)).then(|| parent.to_owned())
}

fn apply(arguments: &ScoringArguments, experiment: &mut Experiment) {
    let bertscore = &mut experiment.bertscore;
    if let Some(encoder) = &arguments.encoder
        && bertscore.model.as_ref() != Some(encoder)
    {
        bertscore.model = Some(encoder.clone());
        // These belong to the encoder of the experiment.
        bertscore.num_layers = None;
        bertscore.rescale_with_baseline = false;
        bertscore.baseline_path = None;
    }
    if arguments.layer.is_some() {
        bertscore.num_layers = arguments.layer;
    }
    if let Some(rouge) = arguments.rouge {
        experiment.reward.rouge_tokenizer = rouge;
    }
    if let Some(dictionary) = &arguments.mecab_dict {
        experiment.reward.mecab_dict = Some(dictionary.clone());
    }
    if let Some(device) = arguments.device {
        experiment.model.device = device;
    }
}

/// Refuses to rank without BERTScore, since the Final Mean would be something else.
fn check_encoder(experiment: &Experiment) -> Result<()> {
    match &experiment.bertscore.model {
        None => bail!(
            "no BERTScore encoder: the Final Mean needs one. Give --encoder DIR [--layer N] (a Hugging Face folder \
             of a BERT, RoBERTa or XLM-R encoder), or --experiment FILE with [bertscore] model"
        ),
        Some(path) if !path.is_dir() => bail!(
            "the BERTScore encoder {} is not a folder; give --encoder DIR, a Hugging Face folder",
            path.display()
        ),
        Some(_) => Ok(()),
    }
}

fn check_rouge(experiment: &Experiment) -> Result<()> {
    let reward = &experiment.reward;
    if reward.rouge_tokenizer == RougeTokenizer::Mecab && reward.mecab_dict.is_none() {
        bail!("--rouge mecab needs --mecab-dict DIR, a folder with a compiled mecab-ko dictionary");
    }
    Ok(())
}

/// The cache of the run that a folder of answers belongs to.
pub fn cache_of(directory: &Path) -> Option<ScoreCache> {
    score::cache_of(&score::answers_directory(directory))
}
