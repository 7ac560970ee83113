//! What a run works with and where it writes: the loaded experiment, the run
//! directory with its logs, and the wish to stop.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::observe::{Observer, Phase, Stopped};
use crate::dataset::{load_records, question_type_warnings, require_answers};
use crate::device::Compute;
use crate::experiment::{DataSection, Experiment, LongPrompts};
use crate::inference::{Answered, answer_file};
use crate::reward::RewardSet;
use crate::run::{
    CompletionLog, CompletionRecord, Control, Event, EventLog, Request, RunDir, RunLock, RunState,
    RunStatus, SavePoint, checkpoints, file_fingerprint, model_fingerprint, prune_checkpoints,
    publish,
};
use crate::score::{Labels, Leaderboard, Resampling, ScoreCache, Scorer, rank, render};
use crate::setup::{self, Policy, Questions, questions};
use crate::text::Tokenizer;

/// Everything an experiment names, loaded; nothing is written yet.
pub struct Prepared {
    /// The experiment.
    pub experiment: Experiment,
    /// The model with its text side.
    pub policy: Arc<Policy>,
    /// Training prompts.
    pub train: Questions,
    /// Evaluation prompts.
    pub eval: Questions,
    /// Right answers of the evaluation set.
    labels: Labels,
    /// Rewards, with the metrics that also score the evaluation set.
    pub rewards: RewardSet,
    /// Things a person should know that are no error.
    pub warnings: Vec<String>,
}

impl Prepared {
    /// Loads and checks everything an experiment names.
    ///
    /// # Errors
    /// The first thing that cannot be used, by key and file; files that are
    /// absent are listed together.
    pub fn load(experiment: &Experiment) -> Result<Self> {
        setup::refuse_unavailable(experiment)?;
        let absent = experiment.check_files();
        if !absent.is_empty() {
            let lines: Vec<String> = absent.iter().map(ToString::to_string).collect();
            bail!("{}", lines.join("\n"));
        }
        let compute = Compute::new(experiment.model.device, experiment.model.dtype)?;
        let mut warnings = Vec::new();

        if !experiment.run.report_to.is_empty() {
            let names: Vec<String> = experiment
                .run
                .report_to
                .iter()
                .map(ToString::to_string)
                .collect();
            warnings.push(format!(
                "run.report_to = {names:?} is not written yet; everything is in events.jsonl of the run directory"
            ));
        }

        if experiment.memory.budget_gib.is_some() {
            warnings.push("memory.budget_gib is not enforced yet".to_string());
        }
        // The date is part of the prompts: written down, a run resumed another day keeps them.
        let mut experiment = experiment.clone();
        if experiment.data.date_string.is_none() {
            experiment.data.date_string = Some(jiff::Zoned::now().strftime("%d %b %Y").to_string());
        }
        let experiment = &experiment;

        let data = &experiment.data;
        let train_records = load_records(&data.train)?;
        require_answers(&data.train, &train_records)?;
        let eval_records = load_records(&data.eval)?;
        warnings.extend(question_type_warnings(&data.train, &train_records));
        warnings.extend(question_type_warnings(&data.eval, &eval_records));
        let labels = Labels::load(data.labels_path())?;
        let unlabelled: Vec<&str> = eval_records
            .iter()
            .map(|record| record.id.as_str())
            .filter(|id| labels.position(id).is_none())
            .collect();
        if !unlabelled.is_empty() {
            bail!(
                "{}: {} item(s) of data.eval have no label there, the first is {:?}; name the file with the \
                 right answers as data.labels",
                data.labels_path().display(),
                unlabelled.len(),
                unlabelled[0]
            );
        }
        let rewards = RewardSet::new(
            &experiment.reward,
            setup::metrics(experiment, &labels, &compute)?,
        )?;
        // Prompts first: what is wrong with them shows before the weights are read.
        let model_dir = &experiment.model.path;
        let tokenizer = Tokenizer::from_model_dir(model_dir)?;
        let builder = setup::prompt_builder(model_dir, data, experiment.run.seed)?;
        let train = questions(&train_records, &builder, &tokenizer, data).context("data.train")?;
        let per_step = experiment.batch().prompts_per_step();
        if train.kept.len() < per_step {
            bail!(
                "data.train has {} prompt(s), one optimizer step takes {per_step}; lower \
                 grpo.per_device_train_batch_size or grpo.gradient_accumulation_steps",
                train.kept.len()
            );
        }
        // Every item of the evaluation set must be answered, so none is dropped.
        let eval_data = match data.long_prompts {
            LongPrompts::Drop => DataSection {
                long_prompts: LongPrompts::FewerExamples,
                ..data.clone()
            },
            _ => data.clone(),
        };
        let eval =
            questions(&eval_records, &builder, &tokenizer, &eval_data).context("data.eval")?;
        let policy = Policy::load(
            model_dir,
            tokenizer,
            &compute,
            &experiment.rollout.stop_token_ids,
        )?;
        warnings.extend(prompt_warnings(
            "data.train",
            &train,
            data.max_prompt_length,
        ));
        warnings.extend(prompt_warnings("data.eval", &eval, data.max_prompt_length));
        let longest = train
            .kept
            .iter()
            .map(|question| question.prompt.tokens.len())
            .max()
            .unwrap_or(0);
        let reach = longest + experiment.rollout.max_completion_length;
        if reach > policy.model.config.max_position_embeddings {
            warnings.push(format!(
                "the longest prompt ({longest} tokens) with rollout.max_completion_length = {} passes the model's \
                 max_position_embeddings = {}",
                experiment.rollout.max_completion_length, policy.model.config.max_position_embeddings
            ));
        }
        Ok(Self {
            experiment: experiment.clone(),
            policy: Arc::new(policy),
            train,
            eval,
            labels,
            rewards,
            warnings,
        })
    }

    fn fingerprints(&self) -> Result<Vec<(String, String)>> {
        let data = &self.experiment.data;
        let mut all = vec![
            (
                "model".to_string(),
                model_fingerprint(&self.experiment.model.path)?,
            ),
            ("data.train".to_string(), file_fingerprint(&data.train)?),
            ("data.eval".to_string(), file_fingerprint(&data.eval)?),
        ];
        for (key, path) in [
            ("data.labels", &data.labels),
            ("data.instruct", &data.instruct),
            ("data.few_shot", &data.few_shot),
            ("data.chat_template", &data.chat_template),
            (
                "bertscore.baseline_path",
                &self.experiment.bertscore.baseline_path,
            ),
        ] {
            if let Some(path) = path {
                all.push((key.to_string(), file_fingerprint(path)?));
            }
        }
        if let Some(path) = &self.experiment.bertscore.model {
            all.push(("bertscore.model".to_string(), model_fingerprint(path)?));
        }
        Ok(all)
    }
}

fn prompt_warnings(key: &str, questions: &Questions, limit: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if !questions.dropped.is_empty() {
        warnings.push(format!(
            "{key}: {} prompt(s) longer than data.max_prompt_length = {limit} tokens are left out (data.long_prompts = \"drop\")",
            questions.dropped.len()
        ));
    }
    if !questions.shortened.is_empty() {
        warnings.push(format!(
            "{key}: {} prompt(s) have fewer examples than data.num_few_shot to stay within {limit} tokens",
            questions.shortened.len()
        ));
    }
    warnings
}

/// A prepared experiment with its run directory, held by this process alone.
pub struct Workplace {
    /// The experiment.
    pub experiment: Experiment,
    /// The model with its text side.
    pub policy: Arc<Policy>,
    /// Training prompts.
    pub train: Questions,
    /// Evaluation prompts.
    pub eval: Questions,
    /// Rewards.
    pub rewards: RewardSet,
    /// The run directory.
    pub run: RunDir,
    labels: Labels,
    state: RunState,
    events: EventLog,
    completions: CompletionLog,
    control: Control,
    is_asked_to_stop: bool,
    /// Released when the run ends, whichever way.
    _lock: RunLock,
}

impl Workplace {
    /// Opens a run directory for training: takes its lock, repairs what a crash
    /// left, and reads or begins its state.
    ///
    /// # Errors
    /// Another trainer holds it, inputs changed since it began, or a file cannot be written.
    pub fn open(prepared: Prepared, run: RunDir) -> Result<Self> {
        let lock = RunLock::acquire(&run.lock())?;
        run.clean_up()?;
        let fingerprints = prepared.fingerprints()?;
        let device = prepared.policy.model.compute.name.clone();
        let mut state = match run.run_json().exists() {
            true => {
                let mut state = RunState::read(&run.run_json())?;
                for (input, fingerprint) in &fingerprints {
                    if state
                        .fingerprints
                        .get(input)
                        .is_some_and(|known| known != fingerprint)
                    {
                        bail!(
                            "{}: {input} has changed since this run began, so it cannot be gone on from; \
                             put the old file back or start a new run",
                            run.path().display()
                        );
                    }
                }
                state.take_over(device);
                state
            }
            false => RunState::begin(run.id(), device),
        };
        state.fingerprints = fingerprints.into_iter().collect();
        state.save(&run.run_json())?;
        let control = Control::new(&run.control());
        control.clear()?;
        Ok(Self {
            events: EventLog::open(&run.events())?,
            completions: CompletionLog::open(&run.completions())?,
            control,
            experiment: prepared.experiment,
            policy: prepared.policy,
            train: prepared.train,
            eval: prepared.eval,
            rewards: prepared.rewards,
            labels: prepared.labels,
            run,
            state,
            is_asked_to_stop: false,
            _lock: lock,
        })
    }

    /// Appends an event and shows it to the observer.
    pub(super) fn emit(
        &mut self,
        observer: &mut dyn Observer,
        name: &str,
        fields: Map<String, Value>,
    ) -> Result<()> {
        let mut event = Event::new(name);
        for (key, value) in fields {
            // A null here is a number that was not finite; the event says so by name.
            if value.is_null() {
                event.set(&key, f64::NAN)
            } else {
                event.set(&key, value)
            }
        }
        self.events.append(&event)?;
        observer.event(&event);
        Ok(())
    }

    /// The first event of a run: what will be done, to what, with what.
    pub(super) fn emit_start(
        &mut self,
        observer: &mut dyn Observer,
        total_steps: usize,
    ) -> Result<()> {
        let batch = self.experiment.batch();
        let model = &self.policy.model;
        let fields = json!({
            "id": self.run.id(),
            "directory": self.run.path().display().to_string(),
            "device": model.compute.name,
            "version": env!("CARGO_PKG_VERSION"),
            "parameters": model.config.parameter_count(),
            "trained_parameters": setup::lora_config(&self.experiment)?.parameter_count(&model.config),
            "train_prompts": self.train.kept.len(),
            "eval_items": self.eval.kept.len(),
            "total_steps": total_steps,
            "batch": {
                "B": batch.b, "G": batch.g, "A": batch.a, "D": batch.d,
                "completions_per_step": batch.completions_per_step(),
                "prompts_per_step": batch.prompts_per_step(),
                "steps_per_epoch": batch.steps_per_epoch(self.train.kept.len()),
                "dropped_prompts": batch.dropped_prompts(self.train.kept.len()),
            },
            "stop_tokens": self.policy.stop.ids(),
            "rewards": self.rewards.names(),
            "formula": self.rewards.formula().text(),
            "seed": self.experiment.run.seed,
        });
        let Value::Object(fields) = fields else {
            return Ok(());
        };
        self.state.total_steps = total_steps;
        self.emit(observer, "start", fields)
    }

    /// An error when someone wants the run to stop.
    pub(super) fn check_interruption(&mut self, observer: &dyn Observer) -> Result<()> {
        if observer.wants_to_stop() {
            self.is_asked_to_stop = true;
        }
        if self.is_asked_to_stop {
            Err(Stopped.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn ask_to_stop(&mut self) {
        self.is_asked_to_stop = true;
    }

    pub(super) fn requests(&self) -> Result<Vec<Request>> {
        Ok(self.control.poll()?)
    }

    pub(super) fn set_paused(
        &mut self,
        observer: &mut dyn Observer,
        is_paused: bool,
        step: usize,
    ) -> Result<()> {
        let status = if is_paused {
            RunStatus::Paused
        } else {
            RunStatus::Running
        };
        if self.state.state == status {
            return Ok(());
        }
        self.state.state = status;
        self.state.save(&self.run.run_json())?;
        let name = if is_paused { "paused" } else { "continued" };
        self.emit(
            observer,
            name,
            Map::from_iter([("step".to_string(), json!(step))]),
        )
    }

    pub(super) fn update_state(
        &mut self,
        step: usize,
        total_steps: usize,
        epoch: usize,
    ) -> Result<()> {
        self.state.step = step;
        self.state.total_steps = total_steps;
        self.state.epoch = epoch;
        Ok(self.state.save(&self.run.run_json())?)
    }

    pub(super) fn log_completion(&mut self, record: &CompletionRecord) -> Result<()> {
        Ok(self.completions.append(record)?)
    }

    /// Brings both logs to the disk; answers their lengths.
    pub(super) fn sync_logs(&mut self) -> Result<(u64, u64)> {
        self.events.sync()?;
        self.completions.sync()?;
        Ok((self.events.position(), self.completions.position()))
    }

    /// Takes back what was logged after a save point; it will be logged again.
    pub(super) fn rewind(&mut self, events: u64, completions: u64) -> Result<()> {
        self.events.truncate_to(events)?;
        self.completions.truncate_to(completions)?;
        Ok(())
    }

    /// Takes back what was logged after a save point, but keeps what was
    /// answered and scored with it. Answers whether both had been done.
    pub(super) fn rewind_to_save_point(
        &mut self,
        events: u64,
        completions: u64,
        point: Option<SavePoint>,
    ) -> Result<bool> {
        let path = self.run.events();
        let bytes =
            std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let mut end = events;
        let mut kept = Vec::new();
        for line in bytes
            .get(events as usize..)
            .unwrap_or_default()
            .split_inclusive(|byte| *byte == b'\n')
        {
            let Ok(event) = serde_json::from_slice::<Event>(line) else {
                break;
            };
            let belongs =
                point.is_some_and(|point| event.text("checkpoint") == Some(&point.to_string()));
            if !belongs || !matches!(event.name.as_str(), "inference" | "score") {
                break;
            }
            end += line.len() as u64;
            kept.push(event.name);
        }
        let wanted = if self.rewards.metrics().has_reason_scorer() {
            "score"
        } else {
            "inference"
        };
        let is_done = kept.last().is_some_and(|name| name == wanted);
        self.rewind(if is_done { end } else { events }, completions)?;
        Ok(is_done)
    }

    /// A save point is in place: note it, and let old ones go.
    pub(super) fn saved(&mut self, point: SavePoint) -> Result<()> {
        self.state.latest_checkpoint = Some(point);
        self.state.save(&self.run.run_json())?;
        if let Some(limit) = self.experiment.run.save_total_limit {
            // The best checkpoint so far is what a run is for; it stays.
            let best = match self.rewards.metrics().has_reason_scorer() {
                true => self.best_save_point(),
                false => None,
            };
            prune_checkpoints(self.run.path(), limit, point, best.as_slice())?;
        }
        Ok(())
    }

    /// The save point that ranks first; `None` while nothing can be ranked.
    fn best_save_point(&mut self) -> Option<SavePoint> {
        let board = self.leaderboard().ok()?;
        let file = &board.best()?.scored.file;
        checkpoints(self.run.path())
            .ok()?
            .into_iter()
            .map(|checkpoint| checkpoint.kind)
            .find(|point| point.answers_file_name() == *file)
    }

    /// Publishes the answers of a checkpoint, scores them and ranks all checkpoints so far.
    pub(super) fn publish_answers(
        &mut self,
        observer: &mut dyn Observer,
        point: SavePoint,
        step: usize,
        answers: &[Answered],
        seconds: f64,
    ) -> Result<()> {
        let bytes = answer_file(&self.eval.kept, answers, false)?;
        let path = self.run.answers(point);
        publish::publish(&path, &bytes)?;
        let file = point.answers_file_name();
        let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
        let Value::Object(fields) = json!({
            "checkpoint": point.to_string(), "step": step, "file": file,
            "items": answers.len(), "tokens": tokens, "seconds": seconds,
        }) else {
            return Ok(());
        };
        self.emit(observer, "inference", fields)?;

        if !self.rewards.metrics().has_reason_scorer() {
            return Ok(());
        }
        observer.phase(Phase::Scoring, 0, 1, &file);
        let board = self.leaderboard()?;
        let rendered = render::json(&board);
        let row = rendered["files"]
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["file"] == file.as_str()));
        let Some(Value::Object(mut fields)) = row.cloned() else {
            return Ok(());
        };
        // What a file has no value for is left out: in an event a null is a number that was not finite.
        fields.retain(|_, value| !value.is_null());
        fields.insert("checkpoint".into(), json!(point.to_string()));
        fields.insert("step".into(), json!(step));
        if let Some(best) = board.best() {
            fields.insert("best".into(), json!(best.scored.file));
        }
        self.emit(observer, "score", fields)
    }

    /// The ranked list of all checkpoints answered so far.
    ///
    /// # Errors
    /// The encoder fails, or the folder of answers cannot be read.
    pub fn leaderboard(&mut self) -> Result<Leaderboard> {
        let encoder = encoder_name(&self.experiment);
        let mut scorer = Scorer::new(&self.labels, self.rewards.metrics_mut(), &encoder)?
            .with_cache(ScoreCache::new(self.run.scores()));
        Ok(rank(
            &self.run.infer_results(),
            &mut scorer,
            Resampling::default(),
            &mut |_| {},
        )?)
    }

    /// The last event and state of a run.
    pub(super) fn end(
        &mut self,
        observer: &mut dyn Observer,
        status: RunStatus,
        message: Option<String>,
    ) -> Result<()> {
        self.state.state = status;
        self.state.message = message.clone();
        let mut fields = Map::new();
        fields.insert("status".into(), json!(status.as_str()));
        fields.insert("step".into(), json!(self.state.step));
        if let Some(message) = message {
            fields.insert("message".into(), json!(message));
        }
        if status == RunStatus::Finished
            && self.rewards.metrics().has_reason_scorer()
            && let Ok(board) = self.leaderboard()
            && let Some(best) = board.best()
        {
            fields.insert("best".into(), json!(best.scored.file));
        }
        self.emit(observer, "done", fields)?;
        self.events.sync()?;
        Ok(self.state.save(&self.run.run_json())?)
    }
}

/// How reports name the BERTScore encoder of an experiment.
pub fn encoder_name(experiment: &Experiment) -> String {
    let section = &experiment.bertscore;
    let Some(model) = &section.model else {
        return "none".to_string();
    };
    let name = model.file_name().map_or_else(
        || model.display().to_string(),
        |n| n.to_string_lossy().into_owned(),
    );
    match section.num_layers {
        Some(layer) => format!("{name} layer {layer}"),
        None => name,
    }
}
