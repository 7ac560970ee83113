//! The recipe of GRPO, top to bottom: rollout, rewards, advantages, updates, save points, validation.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::advantage::{advantages, advantages_of_each};
use super::checkpoint::TrainerState;
use super::metrics::{
    PhaseSeconds, StepReport, generation_metrics, memory_metrics, time_metrics, update_metrics,
};
use super::observe::{Observer, Phase, Stopped};
use super::order::PromptOrder;
use super::parts::Fleet;
use super::sampled::{Sampled, Scored, sampling_difference};
use super::schedule::Schedule;
use super::update::{Generation, Learner, Policy};
use super::workplace::Workplace;
use crate::device::Shrunk;
use crate::inference::decode_completion;
use crate::model::{Adapter, Llama};
use crate::rollout::{Completion, FinishReason, Prompt, RolloutSettings, generate_on};
use crate::setup::{self, Question};
use moim_core::experiment::MultiObjectiveAggregation;
use moim_core::health::{Alarm, Severity};
use moim_core::reward::RewardSample;
use moim_core::run::{CompletionRecord, SavePoint};

/// Steps in a row that may be dropped for a loss that is not a number before the run stops.
const MAX_DROPPED_IN_A_ROW: usize = 5;

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
    pub(super) work: &'a mut Workplace,
    pub(super) observer: &'a mut dyn Observer,
    order: PromptOrder,
    schedule: Schedule,
    pub(super) total_steps: usize,
    started: Instant,
    pub(super) seconds_before: f64,
    /// Completions that are sampled together at most.
    rollout_rows: usize,
    /// Answers that are sampled together at most.
    pub(super) answered_together: usize,
    /// The step of the latest save point.
    pub(super) saved_at: Option<usize>,
    pub(super) state: TrainerState,
}

impl<'a> Trainer<'a> {
    /// Prepares a run over what is loaded in `work`.
    pub fn new(work: &'a mut Workplace, observer: &'a mut dyn Observer) -> Self {
        let experiment = &work.experiment;
        let batch = experiment.batch();
        let prompts = work.train.kept.len();
        let order = PromptOrder {
            prompts,
            prompts_per_generation: batch.prompts_per_generation(),
            shuffle: experiment.data.shuffle_dataset,
            seed: experiment.run.seed,
        };
        let total_steps = batch.total_steps(prompts, &experiment.horizon(Some(prompts)));
        let grpo = &experiment.grpo;
        let schedule = Schedule {
            kind: grpo.lr_scheduler_type,
            learning_rate: grpo.learning_rate,
            warmup_steps: Schedule::warmup(grpo.warmup_steps, grpo.warmup_ratio, total_steps),
            total_steps,
        };
        let sizes = work.sizes;
        Self {
            work,
            observer,
            order,
            schedule,
            total_steps,
            started: Instant::now(),
            seconds_before: 0.0,
            rollout_rows: sizes.rollout_rows,
            answered_together: sizes.answered_together,
            saved_at: None,
            state: TrainerState::default(),
        }
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
        // The model is shared with the workplace, so that what learns can borrow
        // it while rewards and files are used.
        let policy = self.work.policy.clone();
        let mut learner = Learner::new(&self.work.experiment, policy.models())?;
        learner.limits.rows_per_part = self.work.sizes.rows_per_part;
        match resume_from {
            Some(directory) => self.restore(directory, &mut learner)?,
            None => self.work.emit_start(self.observer, self.total_steps)?,
        }
        let untouched = SavePoint::Epoch(0);
        // A run begun anew after a crash logs everything anew, what it had answered included.
        let is_answered = resume_from.is_some() && self.work.run.answers(untouched).exists();
        let before_training = self.work.experiment.inference.before_training;
        if self.state.step == 0 && before_training && !is_answered {
            let adapter = learner.reference.clone();
            self.evaluate(untouched, adapter.as_ref())?;
        }

        while self.state.step < self.total_steps {
            let done = self
                .take_requests(&learner)
                .and_then(|()| self.generation(&mut learner));
            if let Err(error) = done {
                return self.stop_or_fail(error, &learner);
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
        let generation = self.state.step / self.steps_per_generation();
        let prompts = self.order.prompts_of(generation);
        let questions: Vec<Question> = prompts
            .into_iter()
            .map(|i| self.work.train.kept[i].clone())
            .collect();
        let sampled = self.sample(learner, questions, generation)?;
        // What one phase took is given back before the next begins: the largest buffers of the two differ.
        learner.release();
        let scored = self.score(&sampled)?;
        self.learn(learner, &sampled, &scored)?;
        learner.release();
        if self.work.experiment.run.log_completions {
            self.log_completions(&sampled, &scored)?;
        }
        Ok(())
    }

    /// Rollout: a group of completions for every question.
    fn sample(
        &mut self,
        learner: &Learner,
        questions: Vec<Question>,
        generation: usize,
    ) -> Result<Sampled> {
        let clock = Instant::now();
        let experiment = &self.work.experiment;
        let settings = RolloutSettings {
            sampling: setup::rollout_sampling(experiment),
            max_completion_length: experiment.rollout.max_completion_length,
            stop: self.work.policy.stop_ids(),
            group_size: experiment.grpo.num_generations,
            max_rows: self.rollout_rows,
            seed: experiment.run.seed,
            step: generation as u64,
            purpose: "rollout",
        };
        let prompts: Vec<Prompt> = questions
            .iter()
            .map(|question| question.prompt.clone())
            .collect();
        let (work, observer) = (&mut *self.work, &mut *self.observer);
        let fleet = Fleet::new(learner.models.clone(), &learner.adapter);
        let models: Vec<(&Llama, Option<&Adapter>)> = fleet
            .models
            .iter()
            .zip(&fleet.adapters)
            .map(|(model, adapter)| (*model, Some(adapter)))
            .collect();
        let rollout = generate_on(&models, &prompts, &settings, &mut |progress| {
            let detail = format!("{} tokens", progress.tokens);
            observer.phase(Phase::Rollout, progress.finished, progress.total, &detail);
            work.check_interruption(observer)
        })?;
        if let Some(shrunk) = &rollout.out_of_memory {
            self.rollout_rows = self.rollout_rows.min(shrunk.rows);
        }
        let shrunk = rollout.out_of_memory.as_slice();
        self.tell_out_of_memory("sampling", self.state.step + 1, shrunk)?;
        let completions: Vec<Completion> = rollout.groups.into_iter().flatten().collect();
        let texts = completions
            .iter()
            .map(|completion| {
                decode_completion(&self.work.policy, &completion.tokens, &settings.stop)
            })
            .collect::<Result<_>>()?;
        Ok(Sampled {
            questions,
            completions,
            texts,
            seconds: clock.elapsed().as_secs_f64(),
        })
    }

    /// Rewards of all completions, and their advantages within each group.
    fn score(&mut self, sampled: &Sampled) -> Result<Scored> {
        let clock = Instant::now();
        self.observer.phase(Phase::Reward, 0, 1, "");
        let grpo = &self.work.experiment.grpo;
        let samples: Vec<RewardSample> = sampled
            .texts
            .iter()
            .zip(&sampled.completions)
            .enumerate()
            .map(|(i, (text, completion))| {
                let question = &sampled.questions[i / grpo.num_generations];
                RewardSample {
                    id: &question.record.id,
                    prompt: &question.text,
                    completion: text,
                    label: question.record.answer.as_deref().unwrap_or_default(),
                    question_type: question.record.question_type.name(),
                    tokens: completion.tokens.len(),
                    step: self.state.step as u64 + 1,
                }
            })
            .collect();
        let rewards = self.work.rewards.evaluate(&samples)?;
        self.work
            .tell_nonfinite_rewards(self.observer, self.state.step + 1)?;
        let totals: Vec<f64> = rewards.iter().map(|reward| reward.total).collect();
        let grpo = &self.work.experiment.grpo;
        let advantages = match (
            grpo.multi_objective_aggregation,
            self.work.rewards.weights(),
        ) {
            (MultiObjectiveAggregation::NormalizeThenSum, Some(weights)) => {
                advantages_of_each(&rewards, &weights, grpo.num_generations)
            }
            _ => advantages(&totals, grpo.num_generations, grpo.scale_rewards),
        };
        Ok(Scored {
            rewards,
            totals,
            advantages,
            seconds: clock.elapsed().as_secs_f64(),
        })
    }

    /// The optimizer steps on a generation: one on each slice of it, in each of μ iterations.
    fn learn(&mut self, learner: &mut Learner, sampled: &Sampled, scored: &Scored) -> Result<()> {
        let experiment = self.work.experiment.clone();
        let (grpo, batch) = (&experiment.grpo, experiment.batch());
        let first_step = self.state.step as u64;
        let mut clock = Instant::now();
        let mut generation = Generation {
            groups: sampled.groups(grpo.num_generations),
            advantages: scored.advantages.values.clone(),
            is_counted: sampled
                .completions
                .iter()
                .map(|completion| {
                    !grpo.mask_truncated_completions
                        || completion.finish_reason == FinishReason::Stop
                })
                .collect(),
            groups_per_micro_batch: batch.prompts_per_micro_batch(),
            slices: batch.slices,
            old_log_probs: None,
            reference_log_probs: None,
        };
        if grpo.beta != 0.0 {
            let rows = self.log_probs(learner, &generation, Policy::Reference)?;
            generation.reference_log_probs = Some(rows);
        }
        if batch.slices > 1 {
            // The later slices wait while the policy moves on.
            let rows = self.log_probs(learner, &generation, Policy::Current)?;
            generation.old_log_probs = Some(rows);
        }
        let mut metrics = generation_metrics(&StepReport {
            reward_names: self.work.rewards.names(),
            rewards: &scored.rewards,
            totals: &scored.totals,
            advantages: &scored.advantages,
            completions: &sampled.completions,
        });
        // grpo.max_steps may end the run within a generation.
        let steps = self
            .steps_per_generation()
            .min(self.total_steps - self.state.step);
        for index in 0..steps {
            let (iteration, slice) = (index / batch.slices, index % batch.slices);
            let learning_rate = self.schedule.learning_rate(self.state.step);
            let mut done = 0;
            let total = generation.slice(slice).len();
            let (work, observer) = (&mut *self.work, &mut *self.observer);
            observer.phase(Phase::Backward, 0, total, "");
            let place = [first_step, iteration as u64];
            let report = learner.step(&generation, slice, learning_rate, place, &mut |groups| {
                done += groups;
                observer.phase(Phase::Backward, done, total, "");
                // Once the first update is made, the generation is finished before stopping.
                if index == 0 {
                    work.check_interruption(observer)
                } else {
                    Ok(())
                }
            })?;
            self.tell_out_of_memory("training", self.state.step + 1, &report.out_of_memory)?;
            self.state.step += 1;
            self.state.updates = learner.optimizer.updates;
            let mut seconds = PhaseSeconds {
                backward: clock.elapsed().as_secs_f64(),
                ..PhaseSeconds::default()
            };
            let mut generated = 0;
            if index == 0 {
                // Later steps reuse the completions: their rollout took no time.
                (seconds.rollout, seconds.reward) = (sampled.seconds, scored.seconds);
                generated = sampled.completion_tokens();
                self.state.num_tokens += (sampled.prompt_tokens() + generated) as u64;
                // Those that were made without dropout, where there are any.
                let trained = generation.old_log_probs.as_ref();
                let trained = trained.unwrap_or(&report.log_probs);
                metrics.extend(sampling_difference(&sampled.completions, trained));
            }
            clock = Instant::now();
            if report.is_applied {
                self.state.dropped_in_a_row = 0;
                // Until the first update the policy is the one that sampled.
                if generation.old_log_probs.is_none() && index + 1 < steps {
                    generation.old_log_probs = Some(report.log_probs);
                }
            } else {
                self.drop_step(report.loss, report.grad_norm)?;
            }
            metrics.extend(update_metrics(&report.micro_batches, &learner.loss));
            metrics.extend(time_metrics(&seconds, generated, report.tokens));
            self.report_step(&metrics, report.loss, report.grad_norm, learning_rate)?;
        }
        Ok(())
    }

    /// Log-probabilities of all completions of a generation under a policy that does not move.
    fn log_probs(
        &mut self,
        learner: &mut Learner,
        generation: &Generation,
        policy: Policy,
    ) -> Result<Vec<Vec<f32>>> {
        let (total, mut done) = (generation.groups.len(), 0);
        let (work, observer) = (&mut *self.work, &mut *self.observer);
        observer.phase(Phase::Reference, 0, total, "");
        let log_probs = learner.log_probs(generation, policy, &mut |groups| {
            done += groups;
            observer.phase(Phase::Reference, done, total, "");
            work.check_interruption(observer)
        })?;
        self.tell_out_of_memory("training", self.state.step + 1, &log_probs.out_of_memory)?;
        Ok(log_probs.rows)
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
        fields.extend(memory_metrics(self.work.activity.take_peaks()));
        self.work.journal.emit(self.observer, "step", fields)
    }

    pub(super) fn steps_per_epoch(&self) -> usize {
        self.order.generations_per_epoch() * self.steps_per_generation()
    }

    /// Optimizer steps on each generation.
    pub(super) fn steps_per_generation(&self) -> usize {
        let experiment = &self.work.experiment;
        experiment.batch().slices * experiment.grpo.num_iterations
    }

    pub(super) fn elapsed(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// What did not fit was done again in smaller parts, with the same result but for rounding.
    pub(super) fn tell_out_of_memory(
        &mut self,
        phase: &str,
        step: usize,
        shrunk: &[Shrunk],
    ) -> Result<()> {
        let smaller = match phase {
            "inference" => "a smaller inference.batch_size",
            "sampling" => "a smaller rollout.max_completion_length",
            _ => {
                "a smaller grpo.per_device_train_batch_size with more grpo.gradient_accumulation_steps"
            }
        };
        for Shrunk { rows, message } in shrunk {
            let alarm = Alarm::new(
                Alarm::OUT_OF_MEMORY,
                Severity::Warning,
                step,
                format!(
                    "{phase} ran out of device memory ({message}) and was taken again, {rows} completions at a time \
                     from now on; the result is the same up to rounding (healthy: everything fits at first, which \
                     memory.budget_gib or {smaller} brings about)"
                ),
            );
            self.work.journal.raise(self.observer, &alarm)?;
        }
        Ok(())
    }

    /// A step whose loss or gradient is not a number changes nothing; several in a row end the run.
    fn drop_step(&mut self, loss: f64, grad_norm: f64) -> Result<()> {
        self.state.dropped_in_a_row += 1;
        let alarm = Alarm::new(
            Alarm::NONFINITE,
            Severity::Critical,
            self.state.step,
            format!(
                "the loss is {loss} and the norm of its gradient {grad_norm}, so the step was dropped and changed \
                 nothing, which makes {} in a row (healthy: both are finite; {MAX_DROPPED_IN_A_ROW} in a row end the \
                 run); if it comes again, lower grpo.learning_rate or grpo.max_grad_norm",
                self.state.dropped_in_a_row
            ),
        );
        self.work.journal.raise(self.observer, &alarm)?;
        if self.state.dropped_in_a_row >= MAX_DROPPED_IN_A_ROW {
            bail!(
                "{MAX_DROPPED_IN_A_ROW} steps in a row had a loss or gradient that is not finite; the parameters are \
                 as they were before them. Where a reward is at fault, mend it and resume; a lower \
                 grpo.learning_rate or grpo.max_grad_norm needs a new run"
            );
        }
        Ok(())
    }

    fn log_completions(&mut self, sampled: &Sampled, scored: &Scored) -> Result<()> {
        let names = self.work.rewards.names().to_vec();
        let group_size = self.work.experiment.grpo.num_generations;
        for (i, completion) in sampled.completions.iter().enumerate() {
            let question = &sampled.questions[i / group_size];
            let (reward, advantage) = (&scored.rewards[i], scored.advantages.values[i]);
            self.work.journal.log_completion(&CompletionRecord {
                step: self.state.step,
                epoch: (self.state.step - 1) / self.steps_per_epoch() + 1,
                id: question.record.id.clone(),
                question_type: question.record.question_type.name().to_string(),
                sample: i % group_size,
                prompt: question.text.clone(),
                completion: sampled.texts[i].clone(),
                label: question.record.answer.clone().unwrap_or_default(),
                length: completion.tokens.len(),
                finish_reason: completion.finish_reason.name().to_string(),
                rewards: names
                    .iter()
                    .cloned()
                    .zip(reward.values.iter().copied())
                    .collect(),
                reward: Some(reward.total).filter(|reward| reward.is_finite()),
                advantage: Some(advantage).filter(|advantage| advantage.is_finite()),
            })?;
        }
        Ok(())
    }
}

/// A number as JSON; what is not finite becomes a null that keeps its key.
pub(super) fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
