//! The recipe of GRPO, top to bottom: rollout, rewards, advantages, optimizer steps, save points,
//! validation.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};

use super::advantage::{advantages, advantages_of_each};
use super::group::{Generation, Group, Sample};
use super::learner::{Learner, PolicyKind, UpdateReport};
use super::metrics::{
    PhaseSeconds, generation_metrics, memory_metrics, sampling_difference, time_metrics,
    update_metrics,
};
use super::order::PromptOrder;
use super::schedule::Schedule;
use crate::execution::Replicas;
use crate::inference::decode_completion;
use crate::model::Llama;
use crate::rollout::{
    FinishReason, Prompt, Rollout, RolloutProgress, RolloutSettings, generate_on,
};
use crate::session::{Ending, RunContext};
use crate::setup;
use moim_core::experiment::MultiObjectiveAggregation;
use moim_core::health::{Alarm, Severity};
use moim_core::journal::{Phase, Stopped};
use moim_core::reward::RewardSample;
use moim_core::run::{CompletionRecord, Metrics, SavePoint, Step};

/// Consecutive steps that may be dropped for a loss that is not finite before the run stops.
const MAX_DROPPED_IN_A_ROW: usize = 5;

/// Trains a run to its end, from the start or from a save point.
///
/// # Errors
/// Files that cannot be written, rewards that fail, too many consecutive steps without a finite loss.
pub(super) fn train(run: &mut RunContext, resume_from: Option<&Path>) -> Result<Ending> {
    // Shared with `run`, so that what learns can borrow the model while rewards and files are used.
    let policy = Arc::clone(&run.policy);
    match Trainer::new(run, policy.models())?.train(resume_from) {
        Ok(()) => Ok(Ending::Finished),
        Err(error) if error.is::<Stopped>() => Ok(Ending::Stopped),
        Err(error) => Err(error),
    }
}

/// A run with what learns in it.
struct Trainer<'a> {
    run: &'a mut RunContext,
    learner: Learner<'a>,
    order: PromptOrder,
    schedule: Schedule,
}

impl<'a> Trainer<'a> {
    fn new(run: &'a mut RunContext, models: Vec<&'a Llama>) -> Result<Self> {
        let experiment = &run.experiment;
        let grpo = &experiment.grpo;
        let order = PromptOrder {
            prompts: run.train.kept.len(),
            prompts_per_generation: experiment.batch().prompts_per_generation(),
            shuffle: experiment.data.shuffle_dataset,
            seed: experiment.run.seed,
        };
        let schedule = Schedule {
            kind: grpo.lr_scheduler_type,
            learning_rate: grpo.learning_rate,
            warmup_steps: Schedule::warmup(grpo.warmup_steps, grpo.warmup_ratio, run.total_steps),
            total_steps: run.total_steps,
        };
        let mut learner = Learner::new(experiment, models)?;
        learner.limits.rows_per_slice = run.sizes.rows_per_part;
        Ok(Self {
            run,
            learner,
            order,
            schedule,
        })
    }

    fn train(&mut self, resume_from: Option<&Path>) -> Result<()> {
        let Learner {
            adapter, optimizer, ..
        } = &mut self.learner;
        match resume_from {
            Some(directory) => self.run.restore(directory, adapter, optimizer)?,
            None => self.run.emit_start()?,
        }
        let untrained = SavePoint::Epoch(0);
        // A run that starts over logs everything again, its first answers included.
        let is_answered = resume_from.is_some() && self.run.directory.answers(untrained).exists();
        let is_wanted = self.run.experiment.inference.before_training;
        if self.run.state.step == 0 && is_wanted && !is_answered {
            self.run
                .evaluate(untrained, self.learner.reference.as_ref())?;
        }

        while self.run.state.step < self.run.total_steps {
            let done = self.train_on_generation();
            let (adapter, optimizer) = (&self.learner.adapter, &self.learner.optimizer);
            if let Err(error) = done {
                if error.is::<Stopped>() {
                    self.run.save_current_step(adapter, optimizer)?;
                }
                return Err(error);
            }
            if let Some(point) = self.run.save_point_after(self.run.state.step) {
                self.run.save(point, adapter, optimizer)?;
                self.run.evaluate(point, Some(adapter))?;
            }
        }
        Ok(())
    }

    /// One rollout and the optimizer steps on it. Interrupted before its first step it leaves no
    /// trace, so a resumed run repeats it exactly.
    fn train_on_generation(&mut self) -> Result<()> {
        let (adapter, optimizer) = (&self.learner.adapter, &self.learner.optimizer);
        self.run.take_requests(adapter, optimizer)?;
        let mut seconds = PhaseSeconds::default();
        let clock = Instant::now();
        let mut generation = self.sample()?;
        seconds.rollout = clock.elapsed().as_secs_f64();
        // The largest buffers of two phases differ, so the memory of one is released before the next.
        self.learner.release();
        let clock = Instant::now();
        self.score(&mut generation)?;
        seconds.reward = clock.elapsed().as_secs_f64();
        self.learn(&mut generation, seconds)?;
        self.learner.release();
        if self.run.experiment.run.log_completions {
            self.log_completions(&generation)?;
        }
        Ok(())
    }

    /// Rollout: a group of completions for every question.
    fn sample(&mut self) -> Result<Generation> {
        let experiment = &self.run.experiment;
        let index = self.run.state.step / self.run.steps_per_generation();
        let picked = self.order.prompts_of(index).into_iter();
        let questions: Vec<_> = picked.map(|i| self.run.train.kept[i].clone()).collect();
        let prompts: Vec<Prompt> = questions.iter().map(|q| q.prompt.clone()).collect();
        let settings = RolloutSettings {
            sampling: setup::rollout_sampling(experiment),
            max_completion_length: experiment.rollout.max_completion_length,
            stop: self.run.policy.stop_ids(),
            num_generations: experiment.grpo.num_generations,
            max_rows: self.run.sizes.rollout_rows,
            seed: experiment.run.seed,
            step: index as u64,
            purpose: "rollout",
        };
        let replicas = Replicas::new(self.learner.models.clone(), Some(&self.learner.adapter));
        let journal = &mut self.run.journal;
        let mut on_progress = |progress: RolloutProgress| {
            let detail = format!("{} tokens", progress.tokens);
            journal.phase(Phase::Rollout, progress.finished, progress.total, &detail);
            journal.check_stop()
        };
        let Rollout {
            groups,
            out_of_memory,
        } = generate_on(&replicas, &prompts, &settings, &mut on_progress)?;
        drop(replicas);
        if let Some(retry) = &out_of_memory {
            self.run.sizes.rollout_rows = self.run.sizes.rollout_rows.min(retry.rows);
        }
        let step = self.run.state.step + 1;
        self.run
            .report_out_of_memory("sampling", step, out_of_memory.as_slice())?;

        let mask_truncated = self.run.experiment.grpo.mask_truncated_completions;
        let mut generation = Generation {
            groups: Vec::with_capacity(questions.len()),
            groups_per_micro_batch: self.run.experiment.batch().prompts_per_micro_batch(),
            slices: self.run.experiment.batch().slices,
        };
        for (question, completions) in questions.into_iter().zip(groups) {
            let mut samples = Vec::with_capacity(completions.len());
            for completion in completions {
                let text = decode_completion(&self.run.policy, &completion.tokens, &settings.stop)?;
                let is_whole = completion.finish_reason == FinishReason::Stop;
                samples.push(Sample {
                    is_counted: is_whole || !mask_truncated,
                    ..Sample::new(completion, text)
                });
            }
            generation.groups.push(Group { question, samples });
        }
        Ok(generation)
    }

    /// Rewards of all completions, and their advantages within each group.
    fn score(&mut self, generation: &mut Generation) -> Result<()> {
        self.run.journal.phase(Phase::Reward, 0, 1, "");
        let step = self.run.state.step + 1;
        let groups = generation.groups.iter();
        let completions: Vec<RewardSample> = groups
            .flat_map(|group| group.reward_samples(step as u64))
            .collect();
        let rewards = self.run.rewards.evaluate(&completions)?;
        self.run.report_nonfinite_rewards(step)?;
        for (sample, reward) in generation.samples_mut().zip(rewards) {
            sample.reward = reward;
        }

        let grpo = &self.run.experiment.grpo;
        let weights = self.run.rewards.weights();
        let advantages = match (grpo.multi_objective_aggregation, weights) {
            (MultiObjectiveAggregation::NormalizeThenSum, Some(weights)) => {
                advantages_of_each(&generation.rewards(), &weights)
            }
            _ => advantages(&generation.totals(), grpo.scale_rewards),
        };
        for (sample, advantage) in generation.samples_mut().zip(advantages.concat()) {
            sample.advantage = advantage;
        }
        Ok(())
    }

    /// The optimizer steps on a generation: one on each slice of it, in each of μ iterations.
    fn learn(&mut self, generation: &mut Generation, mut seconds: PhaseSeconds) -> Result<()> {
        let mut clock = Instant::now();
        if self.run.experiment.grpo.beta != 0.0 {
            let rows = self.log_probs(generation, PolicyKind::Reference)?;
            for (sample, row) in generation.samples_mut().zip(rows) {
                sample.reference_log_probs = Some(row);
            }
        }
        if generation.slices > 1 {
            // The later slices wait while the policy moves on.
            let rows = self.log_probs(generation, PolicyKind::Current)?;
            generation.set_old_log_probs(rows);
        }
        let mut metrics = generation_metrics(generation, self.run.rewards.names());
        let first_step = self.run.state.step;
        for iteration in 0..self.run.experiment.grpo.num_iterations {
            for slice in 0..generation.slices {
                // grpo.max_steps may end the run within a generation.
                if self.run.state.step == self.run.total_steps {
                    return Ok(());
                }
                let is_first = self.run.state.step == first_step;
                let learning_rate = self.schedule.learning_rate(self.run.state.step);
                let dropout_step = [first_step as u64, iteration as u64];
                let report = self.step(generation, slice, learning_rate, dropout_step, is_first)?;
                seconds.backward = clock.elapsed().as_secs_f64();
                let mut generated = 0;
                if is_first {
                    generated = generation.completion_tokens();
                    self.run.state.num_tokens += (generation.prompt_tokens() + generated) as u64;
                    metrics.extend(sampling_difference(generation, &report.log_probs));
                }
                clock = Instant::now();
                self.run.state.step += 1;
                self.run.state.updates = self.learner.optimizer.updates;
                metrics.extend(update_metrics(&report.micro_batches, &self.learner.loss));
                metrics.extend(time_metrics(&seconds, generated, report.tokens));
                if report.is_applied {
                    self.run.state.dropped_in_a_row = 0;
                } else {
                    self.drop_step(&report)?;
                }
                self.report_step(&metrics, &report, learning_rate)?;
                // Until the first update the policy is the one that sampled.
                if report.is_applied && !generation.has_old_log_probs() {
                    generation.set_old_log_probs(report.log_probs);
                }
                // Later steps reuse the completions: their rollout took no time.
                seconds = PhaseSeconds::default();
            }
        }
        Ok(())
    }

    /// One optimizer step on a slice of a generation.
    fn step(
        &mut self,
        generation: &Generation,
        slice: usize,
        learning_rate: f64,
        dropout_step: [u64; 2],
        is_first: bool,
    ) -> Result<UpdateReport> {
        let journal = &mut self.run.journal;
        let (mut done, total) = (0, generation.slice(slice).len());
        journal.phase(Phase::Backward, 0, total, "");
        let mut on_progress = |groups: usize| {
            done += groups;
            journal.phase(Phase::Backward, done, total, "");
            // After the first update the generation is finished before stopping.
            if is_first {
                journal.check_stop()?;
            }
            Ok(())
        };
        let report = self.learner.step(
            generation,
            slice,
            learning_rate,
            dropout_step,
            &mut on_progress,
        )?;
        let step = self.run.state.step + 1;
        self.run
            .report_out_of_memory("training", step, &report.out_of_memory)?;
        Ok(report)
    }

    /// Log-probabilities of all completions of a generation under a policy that does not move.
    fn log_probs(&mut self, generation: &Generation, policy: PolicyKind) -> Result<Vec<Vec<f32>>> {
        let journal = &mut self.run.journal;
        let (mut done, total) = (0, generation.groups.len());
        journal.phase(Phase::Reference, 0, total, "");
        let mut on_progress = |groups: usize| {
            done += groups;
            journal.phase(Phase::Reference, done, total, "");
            journal.check_stop()
        };
        let log_probs = self
            .learner
            .log_probs(generation, policy, &mut on_progress)?;
        let step = self.run.state.step + 1;
        self.run
            .report_out_of_memory("training", step, &log_probs.out_of_memory)?;
        Ok(log_probs.rows)
    }

    fn report_step(
        &mut self,
        metrics: &Metrics,
        report: &UpdateReport,
        learning_rate: f64,
    ) -> Result<()> {
        let step = self.run.state.step;
        let epoch = step as f64 / self.run.steps_per_epoch() as f64;
        let mut all = Metrics::default()
            .with("epoch", (epoch * 1e6).round() / 1e6)
            .with("loss", report.loss)
            .with("grad_norm", report.grad_norm)
            .with("learning_rate", learning_rate)
            .with("num_tokens", self.run.state.num_tokens);
        all.extend(metrics.clone());
        all.set("elapsed_seconds", self.run.elapsed());
        all.extend(memory_metrics(self.run.journal.take_device_peaks()));
        self.run.journal.emit(Step {
            step,
            total_steps: self.run.total_steps,
            metrics: all,
        })
    }

    /// A step whose loss or gradient is not finite changes nothing; several in a row end the run.
    fn drop_step(&mut self, report: &UpdateReport) -> Result<()> {
        let UpdateReport {
            loss, grad_norm, ..
        } = report;
        self.run.state.dropped_in_a_row += 1;
        let alarm = Alarm::new(
            Alarm::NONFINITE,
            Severity::Critical,
            self.run.state.step,
            format!(
                "the loss is {loss} and the norm of its gradient {grad_norm}, so the step was dropped and changed \
                 nothing, which makes {} in a row (healthy: both are finite; {MAX_DROPPED_IN_A_ROW} in a row end the \
                 run); if it happens again, lower grpo.learning_rate or grpo.max_grad_norm",
                self.run.state.dropped_in_a_row
            ),
        );
        self.run.journal.raise(&alarm)?;
        if self.run.state.dropped_in_a_row >= MAX_DROPPED_IN_A_ROW {
            bail!(
                "{MAX_DROPPED_IN_A_ROW} steps in a row had a loss or gradient that is not finite; the parameters are \
                 those before them. If a reward is the cause, fix it and resume; a lower grpo.learning_rate or \
                 grpo.max_grad_norm needs a new run"
            );
        }
        Ok(())
    }

    fn log_completions(&mut self, generation: &Generation) -> Result<()> {
        let step = self.run.state.step;
        let epoch = (step - 1) / self.run.steps_per_epoch() + 1;
        let names = self.run.rewards.names();
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        for Group { question, samples } in &generation.groups {
            for (index, sample) in samples.iter().enumerate() {
                let values = sample.reward.values.iter().copied();
                self.run.journal.log_completion(&CompletionRecord {
                    step,
                    epoch,
                    id: question.record.id.clone(),
                    question_type: question.record.question_type.name().to_string(),
                    sample: index,
                    prompt: question.text.clone(),
                    completion: sample.text.clone(),
                    label: question.record.answer.clone().unwrap_or_default(),
                    length: sample.completion.tokens.len(),
                    finish_reason: sample.completion.finish_reason.name().to_string(),
                    rewards: names.iter().cloned().zip(values).collect(),
                    reward: finite(sample.reward.total),
                    advantage: finite(sample.advantage),
                })?;
            }
        }
        Ok(())
    }
}
