//! The recipe of GRPO on one device, top to bottom: rollout, rewards,
//! advantages, updates, save points, validation.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::advantage::advantages;
use super::checkpoint::{self, TrainerState};
use super::loss::LossSettings;
use super::metrics::{PhaseSeconds, StepReport, generation_metrics, time_metrics, update_metrics};
use super::observe::{Observer, Phase, Stopped};
use super::optimizer::{AdamW, AdamWSettings};
use super::order::PromptOrder;
use super::schedule::Schedule;
use super::update::{Generation, Learner};
use super::workplace::Workplace;
use crate::experiment::SaveStrategy;
use crate::inference::{AnswerSettings, answer_questions, decode_completion};
use crate::model::Adapter;
use crate::reward::{Reward, RewardSample};
use crate::rollout::{Completion, RolloutSettings, generate};
use crate::run::{CompletionRecord, Request, SavePoint};
use crate::setup::{self, Question};

/// Steps in a row that may be dropped for a loss that is not a number before the run stops.
const MAX_DROPPED_IN_A_ROW: usize = 5;

/// How long a paused trainer sleeps between looks at its control folder.
const PAUSE_POLL: Duration = Duration::from_millis(200);

/// Completions decoded together at most.
const MAX_ROLLOUT_ROWS: usize = 256;

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps were taken.
    Finished,
    /// It was asked to stop, and saved first.
    Stopped,
}

/// What a GRPO run is made of besides what learns.
pub struct Trainer<'a> {
    work: &'a mut Workplace,
    observer: &'a mut dyn Observer,
    order: PromptOrder,
    schedule: Schedule,
    total_steps: usize,
    started: Instant,
    seconds_before: f64,
    /// The step of the latest save point.
    saved_at: Option<usize>,
    state: TrainerState,
}

impl<'a> Trainer<'a> {
    /// Prepares a run over what is loaded in `work`.
    ///
    /// # Errors
    /// A batch that the training set cannot fill.
    pub fn new(work: &'a mut Workplace, observer: &'a mut dyn Observer) -> Result<Self> {
        let experiment = &work.experiment;
        let batch = experiment.batch();
        let prompts = work.train.kept.len();
        let order = PromptOrder {
            prompts,
            prompts_per_generation: batch.prompts_per_step(),
            shuffle: experiment.data.shuffle_dataset,
            seed: experiment.run.seed,
        };
        if order.generations_per_epoch() == 0 {
            bail!(
                "data.train has {prompts} prompt(s), one optimizer step takes {}; \
                 lower grpo.per_device_train_batch_size or grpo.gradient_accumulation_steps",
                batch.prompts_per_step()
            );
        }
        let total_steps = batch.total_steps(prompts, &experiment.horizon(Some(prompts)));
        let grpo = &experiment.grpo;
        let schedule = Schedule {
            kind: grpo.lr_scheduler_type,
            learning_rate: grpo.learning_rate,
            warmup_steps: Schedule::warmup(grpo.warmup_steps, grpo.warmup_ratio, total_steps),
            total_steps,
        };
        Ok(Self {
            work,
            observer,
            order,
            schedule,
            total_steps,
            started: Instant::now(),
            seconds_before: 0.0,
            saved_at: None,
            state: TrainerState::default(),
        })
    }

    /// Trains to the end, from the start or from the save point `resume_from`.
    ///
    /// # Errors
    /// What cannot be gone on from: files that cannot be written, rewards that
    /// fail, too many steps in a row without a finite loss.
    pub fn run(mut self, resume_from: Option<&Path>) -> Result<Ending> {
        let ending = self.train(resume_from);
        match ending {
            Err(error) if error.is::<Stopped>() => Ok(Ending::Stopped),
            other => other,
        }
    }

    fn train(&mut self, resume_from: Option<&Path>) -> Result<Ending> {
        // The model is taken out of the workplace for the time of the run, so
        // that what learns can borrow it while rewards and files are used.
        let policy = self.work.policy.clone();
        let experiment = self.work.experiment.clone();
        let adapter = Adapter::new(
            setup::lora_config(&experiment)?,
            &policy.model.config,
            experiment.run.seed,
            &policy.model.compute,
        );
        let grpo = &experiment.grpo;
        let optimizer = AdamW::new(
            AdamWSettings {
                beta1: grpo.adam_beta1,
                beta2: grpo.adam_beta2,
                epsilon: grpo.adam_epsilon,
                weight_decay: grpo.weight_decay,
            },
            &adapter.parameters(),
        );
        let mut learner = Learner {
            model: &policy.model,
            adapter,
            optimizer,
            loss: LossSettings {
                loss_type: grpo.loss_type,
                importance_sampling_level: grpo.importance_sampling_level,
                epsilon: grpo.epsilon,
                epsilon_high: grpo.epsilon_high.unwrap_or(grpo.epsilon),
                delta: grpo.delta,
                beta: grpo.beta,
                use_bias_correction_kl: grpo.use_bias_correction_kl,
                max_completion_length: experiment.rollout.max_completion_length,
                gradient_accumulation_steps: grpo.gradient_accumulation_steps,
            },
            temperature: experiment.rollout.temperature,
            max_grad_norm: grpo.max_grad_norm,
            lora_dropout: experiment.lora.lora_dropout,
            seed: experiment.run.seed,
        };

        match resume_from {
            Some(directory) => self.restore(directory, &mut learner)?,
            None => self.work.emit_start(self.observer, self.total_steps)?,
        }
        let untouched = SavePoint::Epoch(0);
        // A run begun anew after a crash logs everything anew, what it had answered included.
        let is_answered = resume_from.is_some() && self.work.run.answers(untouched).exists();
        if self.state.step == 0 && experiment.inference.before_training && !is_answered {
            self.evaluate(untouched, None)?;
        }

        while self.state.step < self.total_steps {
            match self.take_requests(&learner) {
                Ok(()) => {}
                Err(error) => return self.stop_or_fail(error, &learner),
            }
            match self.generation(&mut learner) {
                Ok(()) => {}
                Err(error) => return self.stop_or_fail(error, &learner),
            }
            if let Some(point) = self.save_point_after(self.state.step) {
                self.save(point, &learner)?;
                self.evaluate(point, Some(&learner.adapter))?;
            }
        }
        Ok(Ending::Finished)
    }

    /// One generation of completions and the optimizer steps on it. Interrupted
    /// before its first step it leaves no trace, so going on repeats it exactly.
    fn generation(&mut self, learner: &mut Learner) -> Result<()> {
        let experiment = self.work.experiment.clone();
        let (grpo, rollout) = (&experiment.grpo, &experiment.rollout);
        let iterations = grpo.num_iterations;
        let generation_index = self.state.step / iterations;
        let questions: Vec<Question> = self
            .order
            .prompts_of(generation_index)
            .into_iter()
            .map(|i| self.work.train.kept[i].clone())
            .collect();

        // 1. Rollout.
        let mut seconds = PhaseSeconds::default();
        let clock = Instant::now();
        let settings = RolloutSettings {
            sampling: setup::rollout_sampling(&experiment),
            max_completion_length: rollout.max_completion_length,
            stop: self.work.policy.stop_ids(),
            group_size: grpo.num_generations,
            max_rows: MAX_ROLLOUT_ROWS,
            seed: experiment.run.seed,
            step: generation_index as u64,
            purpose: "rollout",
        };
        let prompts: Vec<_> = questions
            .iter()
            .map(|question| question.prompt.clone())
            .collect();
        let step = self.state.step;
        let completions = {
            let work = &mut *self.work;
            let observer = &mut *self.observer;
            generate(
                &work.policy.clone().model,
                Some(&learner.adapter),
                &prompts,
                &settings,
                &mut |progress| {
                    observer.phase(
                        Phase::Rollout,
                        progress.finished,
                        progress.total,
                        &format!("{} tokens", progress.tokens),
                    );
                    work.check_interruption(observer)
                },
            )?
        };
        seconds.rollout = clock.elapsed().as_secs_f64();

        // 2. Rewards.
        let clock = Instant::now();
        self.observer.phase(Phase::Reward, 0, 1, "");
        let flat: Vec<&Completion> = completions.iter().flatten().collect();
        let texts: Vec<String> = flat
            .iter()
            .map(|completion| {
                decode_completion(&self.work.policy, &completion.tokens, &settings.stop)
            })
            .collect::<Result<_>>()?;
        let samples: Vec<RewardSample> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| {
                let question = &questions[i / grpo.num_generations];
                RewardSample {
                    id: &question.record.id,
                    prompt: &question.text,
                    completion: text,
                    label: question.record.answer.as_deref().unwrap_or_default(),
                    question_type: question.record.question_type.name(),
                    step: step as u64 + 1,
                }
            })
            .collect();
        let rewards = self.work.rewards.evaluate(&samples)?;
        let totals: Vec<f64> = rewards.iter().map(|reward| reward.total).collect();
        seconds.reward = clock.elapsed().as_secs_f64();

        // 3. Advantages.
        let advantages = advantages(&totals, grpo.num_generations, grpo.scale_rewards);

        // 4. Reference policy and updates.
        let clock = Instant::now();
        let mut generation = Generation {
            groups: prompts
                .iter()
                .zip(&completions)
                .map(|(prompt, group)| {
                    (
                        prompt.tokens.as_slice(),
                        group.iter().map(|c| c.tokens.as_slice()).collect(),
                    )
                })
                .collect(),
            advantages: advantages.values.clone(),
            is_counted: flat
                .iter()
                .map(|completion| {
                    !grpo.mask_truncated_completions
                        || completion.finish_reason == crate::rollout::FinishReason::Stop
                })
                .collect(),
            groups_per_micro_batch: experiment.batch().prompts_per_micro_batch(),
            old_log_probs: None,
            reference_log_probs: None,
        };
        if grpo.beta != 0.0 {
            let mut done = 0;
            let total = prompts.len();
            let (work, observer) = (&mut *self.work, &mut *self.observer);
            generation.reference_log_probs =
                Some(learner.reference_log_probs(&generation, &mut |groups| {
                    done += groups;
                    observer.phase(Phase::Reference, done, total, "");
                    work.check_interruption(observer)
                })?);
        }
        let prompt_tokens: usize = prompts.iter().map(|prompt| prompt.tokens.len()).sum();
        let completion_tokens: usize = flat.iter().map(|completion| completion.tokens.len()).sum();
        self.state.num_tokens += (prompt_tokens + completion_tokens) as u64;
        let mut metrics = generation_metrics(&StepReport {
            reward_names: self.work.rewards.names(),
            values: &rewards
                .iter()
                .map(|reward| reward.values.clone())
                .collect::<Vec<_>>(),
            totals: &totals,
            advantages: &advantages,
            completions: &flat,
            prompt_tokens,
        });
        for iteration in 0..iterations {
            let clock = if iteration == 0 {
                clock
            } else {
                Instant::now()
            };
            let learning_rate = self.schedule.learning_rate(self.state.step);
            let report = {
                let mut done = 0;
                let total = prompts.len();
                let (work, observer) = (&mut *self.work, &mut *self.observer);
                learner.step(
                    &generation,
                    learning_rate,
                    [step as u64, iteration as u64],
                    &mut |groups| {
                        done += groups;
                        observer.phase(Phase::Backward, done, total, "");
                        // Once the first update is made, the generation is finished before stopping.
                        if iteration == 0 {
                            work.check_interruption(observer)
                        } else {
                            Ok(())
                        }
                    },
                )?
            };
            seconds.backward = clock.elapsed().as_secs_f64();
            self.state.step += 1;
            self.state.updates = learner.optimizer.updates;
            if !report.is_applied {
                self.drop_step(report.loss, report.grad_norm)?;
            } else {
                self.state.dropped_in_a_row = 0;
            }
            if iteration == 0 {
                metrics.extend(sampling_difference(&flat, &report.log_probs));
                if iterations > 1 {
                    generation.old_log_probs = Some(report.log_probs.clone());
                }
            }
            metrics.extend(update_metrics(&report.micro_batches, grpo.beta != 0.0));
            metrics.extend(time_metrics(&seconds, completion_tokens, report.tokens));
            self.report_step(&metrics, report.loss, report.grad_norm, learning_rate)?;
            // Later iterations reuse the completions: their rollout took no time.
            seconds = PhaseSeconds::default();
        }
        if experiment.run.log_completions {
            self.log_completions(
                &questions,
                &completions,
                &texts,
                &rewards,
                &advantages.values,
            )?;
        }
        Ok(())
    }

    fn report_step(
        &mut self,
        metrics: &Map<String, Value>,
        loss: f64,
        grad_norm: f64,
        learning_rate: f64,
    ) -> Result<()> {
        let mut fields = Map::new();
        let epoch = self.state.step as f64 / self.steps_per_epoch() as f64;
        fields.insert("step".into(), json!(self.state.step));
        fields.insert("total_steps".into(), json!(self.total_steps));
        fields.insert("epoch".into(), json!((epoch * 1e6).round() / 1e6));
        fields.insert("loss".into(), number(loss));
        fields.insert("grad_norm".into(), number(grad_norm));
        fields.insert("learning_rate".into(), json!(learning_rate));
        fields.insert("num_tokens".into(), json!(self.state.num_tokens));
        for (name, value) in metrics {
            fields.insert(name.clone(), value.clone());
        }
        let elapsed = self.elapsed();
        fields.insert("elapsed_seconds".into(), json!(elapsed));
        self.work.emit(self.observer, "step", fields)?;
        let epoch = self.state.step / self.steps_per_epoch();
        self.work
            .update_state(self.state.step, self.total_steps, epoch)
    }

    fn steps_per_epoch(&self) -> usize {
        self.order.generations_per_epoch() * self.work.experiment.grpo.num_iterations
    }

    fn elapsed(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// A step whose loss or gradient is not a number changes nothing; several in a row end the run.
    fn drop_step(&mut self, loss: f64, grad_norm: f64) -> Result<()> {
        self.state.dropped_in_a_row += 1;
        let fields = json!({
            "step": self.state.step,
            "kind": "nonfinite",
            "message": "the loss or its gradient is not finite; the step was dropped",
            "loss": number(loss),
            "grad_norm": number(grad_norm),
            "in_a_row": self.state.dropped_in_a_row,
        });
        self.work.emit(self.observer, "alarm", object(fields))?;
        if self.state.dropped_in_a_row >= MAX_DROPPED_IN_A_ROW {
            bail!(
                "{MAX_DROPPED_IN_A_ROW} steps in a row had a loss or gradient that is not finite; the parameters are \
                 as they were before them. Lower grpo.learning_rate or grpo.max_grad_norm, then resume from the last save point"
            );
        }
        Ok(())
    }

    fn log_completions(
        &mut self,
        questions: &[Question],
        completions: &[Vec<Completion>],
        texts: &[String],
        rewards: &[Reward],
        advantages: &[f64],
    ) -> Result<()> {
        let names = self.work.rewards.names().to_vec();
        let group_size = self.work.experiment.grpo.num_generations;
        for (i, completion) in completions.iter().flatten().enumerate() {
            let question = &questions[i / group_size];
            self.work.log_completion(&CompletionRecord {
                step: self.state.step,
                epoch: (self.state.step - 1) / self.steps_per_epoch() + 1,
                id: question.record.id.clone(),
                question_type: question.record.question_type.name().to_string(),
                sample: i % group_size,
                prompt: question.text.clone(),
                completion: texts[i].clone(),
                label: question.record.answer.clone().unwrap_or_default(),
                length: completion.tokens.len(),
                finish_reason: completion.finish_reason.name().to_string(),
                rewards: names
                    .iter()
                    .cloned()
                    .zip(rewards[i].values.iter().copied())
                    .collect(),
                reward: Some(rewards[i].total).filter(|reward| reward.is_finite()),
                advantage: Some(advantages[i]).filter(|advantage| advantage.is_finite()),
            })?;
        }
        Ok(())
    }

    /// The save point that falls on the end of step `step`, if any.
    fn save_point_after(&self, step: usize) -> Option<SavePoint> {
        let run = &self.work.experiment.run;
        let per_epoch = self.steps_per_epoch();
        let is_last = step >= self.total_steps;
        let at_epoch_end = step.is_multiple_of(per_epoch);
        let point = if at_epoch_end {
            SavePoint::Epoch(step / per_epoch)
        } else {
            SavePoint::Step(step)
        };
        let iterations = self.work.experiment.grpo.num_iterations;
        let is_due = match run.save_strategy {
            SaveStrategy::Epoch => at_epoch_end,
            // The first end of a generation at or after each multiple of save_steps.
            SaveStrategy::Steps => {
                step / run.save_steps > (step - iterations.min(step)) / run.save_steps
            }
            SaveStrategy::No => false,
        };
        (is_due || is_last).then_some(point)
    }

    fn save(&mut self, point: SavePoint, learner: &Learner) -> Result<()> {
        self.observer.phase(Phase::Save, 0, 1, &point.to_string());
        let fields = json!({ "checkpoint": point.to_string(), "step": self.state.step });
        self.work
            .emit(self.observer, "checkpoint", object(fields))?;
        self.state.seconds = self.elapsed();
        (self.state.events_position, self.state.completions_position) = self.work.sync_logs()?;
        let directory = self.work.run.checkpoint(point);
        let policy = &self.work.policy;
        let difference = checkpoint::save(
            &directory,
            &learner.adapter,
            &learner.optimizer,
            &self.state,
            &self.work.experiment.model.path.display().to_string(),
            &policy.model.config,
            &policy.model.compute,
        )?;
        if difference != 0.0 {
            bail!(
                "{}: the adapter read back differs by up to {difference} from the one saved",
                directory.display()
            );
        }
        self.saved_at = Some(self.state.step);
        self.work.saved(point)
    }

    /// Answers the evaluation set with a checkpoint, publishes the answers, scores and ranks them.
    fn evaluate(&mut self, point: SavePoint, adapter: Option<&Adapter>) -> Result<()> {
        let experiment = self.work.experiment.clone();
        let settings = AnswerSettings {
            sampling: setup::inference_sampling(&experiment),
            max_completion_length: experiment.inference.max_completion_length,
            batch_size: experiment.inference.batch_size,
            seed: experiment.run.seed,
            step: self.state.step as u64,
        };
        let clock = Instant::now();
        let policy = self.work.policy.clone();
        let answers = {
            let questions = self.work.eval.kept.clone();
            let (work, observer) = (&mut *self.work, &mut *self.observer);
            answer_questions(&policy, adapter, &questions, &settings, &mut |progress| {
                observer.phase(
                    Phase::Inference,
                    progress.finished,
                    progress.total,
                    &point.to_string(),
                );
                work.check_interruption(observer)
            })?
        };
        self.work.publish_answers(
            self.observer,
            point,
            self.state.step,
            &answers,
            clock.elapsed().as_secs_f64(),
        )
    }

    /// Puts a save point back and answers the evaluation set if that had not been done.
    fn restore(&mut self, directory: &Path, learner: &mut Learner) -> Result<()> {
        let policy = &self.work.policy;
        let (adapter, state) = checkpoint::load(
            directory,
            &mut learner.optimizer,
            &policy.model.config,
            &policy.model.compute,
        )
        .with_context(|| format!("{}: cannot be gone on from", directory.display()))?;
        if adapter.config != learner.adapter.config {
            bail!(
                "{}: its adapter is not the one that [lora] describes",
                directory.display()
            );
        }
        learner.adapter = adapter;
        self.seconds_before = state.seconds;
        self.state = state;
        self.saved_at = Some(state.step);
        let name = directory
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let point: Option<SavePoint> = name.parse().ok();
        let point = point.filter(|point| self.save_point_after(state.step) == Some(*point));
        let is_scored = self.work.rewind_to_save_point(
            state.events_position,
            state.completions_position,
            point,
        )?;
        let fields = json!({
            "step": state.step,
            "directory": self.work.run.path().display().to_string(),
            "checkpoint": name,
        });
        self.work.emit(self.observer, "resume", object(fields))?;
        match point {
            Some(point) if !is_scored && state.step > 0 => {
                self.evaluate(point, Some(&learner.adapter.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Takes what was dropped into the control folder: save, pause until resumed, stop.
    fn take_requests(&mut self, learner: &Learner) -> Result<()> {
        let mut is_paused = false;
        loop {
            for request in self.work.requests()? {
                match request {
                    Request::Stop => self.work.ask_to_stop(),
                    Request::Save => self.save(SavePoint::Step(self.state.step), learner)?,
                    Request::Pause => is_paused = true,
                    Request::Resume => is_paused = false,
                }
            }
            self.work
                .set_paused(self.observer, is_paused, self.state.step)?;
            self.work.check_interruption(self.observer)?;
            if !is_paused {
                return Ok(());
            }
            self.observer.phase(Phase::Paused, 0, 1, "");
            std::thread::sleep(PAUSE_POLL);
        }
    }

    /// Saves when the reason to leave is a request to stop; other errors pass on.
    fn stop_or_fail(&mut self, error: anyhow::Error, learner: &Learner) -> Result<Ending> {
        if !error.is::<Stopped>() {
            return Err(error);
        }
        if self.saved_at != Some(self.state.step) {
            self.save(SavePoint::Step(self.state.step), learner)?;
        }
        Ok(Ending::Stopped)
    }
}

/// A number as JSON; what is not finite becomes a null that keeps its key.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// How far log-probabilities of the training pass are from those of sampling:
/// two computations of the same quantity, apart by rounding alone.
fn sampling_difference(completions: &[&Completion], log_probs: &[Vec<f32>]) -> Map<String, Value> {
    let (mut sum, mut largest, mut tokens) = (0.0, 0.0_f64, 0usize);
    for (completion, trained) in completions.iter().zip(log_probs) {
        for (a, b) in completion.log_probs.iter().zip(trained) {
            let difference = f64::from((a - b).abs());
            sum += difference;
            largest = largest.max(difference);
            tokens += 1;
        }
    }
    object(json!({
        "sampling/sampling_logp_difference/mean": number(sum / tokens.max(1) as f64),
        "sampling/sampling_logp_difference/max": number(largest),
    }))
}
