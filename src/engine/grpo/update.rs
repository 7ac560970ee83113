//! One optimizer step: log-probabilities, loss and gradients over micro-batches, clipping, AdamW.
//!
//! A micro-batch is what the loss is taken over; what goes through the model at a time is a
//! [`Part`] of it. Cutting a micro-batch into smaller parts changes nothing but the order of sums,
//! which is what happens where memory is short.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use burn::tensor::Tensor;

use super::gather::{Rows, Sums};
pub use super::generation::Generation;
use super::loss::{LossInput, LossOutput, LossSettings, LossStatistics, policy_loss};
use super::parts::{Fleet, Part, parts};
use super::pass::{Forward, read_one_of_each};
use crate::device::{OutOfMemory, Shrunk};
use crate::model::{Adapter, DropoutPlace, KeepInputs, Llama};
use crate::optimizer::{AdamW, AdamWSettings, accumulate, clip_gradient_norm};
use crate::setup;
use moim_core::experiment::Experiment;
use moim_core::memory::smaller_part;

/// What trains: the frozen model, the adapter on it, and the optimizer's state.
pub struct Learner<'a> {
    /// The frozen model, once per device.
    pub models: Vec<&'a Llama>,
    /// The policy's adapter.
    pub adapter: Adapter,
    /// The reference policy's, where training began with one; else that policy is the model alone.
    pub reference: Option<Adapter>,
    /// Moments of the adapter's parameters.
    pub optimizer: AdamW,
    /// Constants of the loss.
    pub loss: LossSettings,
    /// Divides logits, as when sampling.
    pub temperature: f64,
    /// Gradients are scaled down to this norm; 0 leaves them.
    pub max_grad_norm: f64,
    /// Probability of dropping an adapter's input.
    pub lora_dropout: f64,
    /// Seed of the run.
    pub seed: u64,
    /// What may be under way at a time.
    pub limits: Limits,
}

/// What a step may take of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Completions of a part at most; `None` is a whole micro-batch, on the CPU a group.
    pub rows_per_part: Option<usize>,
    /// Keep the inputs of layers in the host's memory until the backward pass.
    pub offloads_layer_inputs: bool,
}

impl<'a> Learner<'a> {
    /// The adapter to start from on the model (the same on every device), with the optimizer and the loss that
    /// `[grpo]` describes.
    ///
    /// # Errors
    /// `[lora]` names what the model has not.
    pub fn new(experiment: &Experiment, models: Vec<&'a Llama>) -> Result<Self> {
        let model = models[0];
        let grpo = &experiment.grpo;
        let adapter = setup::initial_adapter(experiment, model)?;
        let continues = experiment.lora.init_adapter.is_some();
        let adam = AdamWSettings {
            beta1: grpo.adam_beta1,
            beta2: grpo.adam_beta2,
            epsilon: grpo.adam_epsilon,
            weight_decay: grpo.weight_decay,
        };
        Ok(Self {
            models,
            optimizer: AdamW::new(adam, &adapter.parameters()),
            reference: continues.then(|| adapter.clone()),
            adapter,
            loss: LossSettings::new(experiment),
            temperature: experiment.rollout.temperature,
            max_grad_norm: grpo.max_grad_norm,
            lora_dropout: experiment.lora.lora_dropout,
            seed: experiment.run.seed,
            limits: Limits {
                rows_per_part: None,
                offloads_layer_inputs: experiment.memory.offload_layer_inputs,
            },
        })
    }
}

/// Sums of one micro-batch. A step's metrics are the mean of its micro-batches'
/// means, as TRL logs them.
#[derive(Clone, Copy, Debug, Default)]
pub struct MicroBatchReport {
    /// Sums over counted tokens.
    pub statistics: LossStatistics,
    /// Sum of the entropies of counted tokens, in nats.
    pub entropy: f64,
}

/// What one optimizer step did.
#[derive(Clone, Debug, Default)]
pub struct UpdateReport {
    /// Loss of the step.
    pub loss: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// What each micro-batch measured.
    pub micro_batches: Vec<MicroBatchReport>,
    /// Log-probabilities of the step's completions under the policy before the update. Those of the
    /// micro-batches after one whose loss is not finite are absent.
    pub log_probs: Vec<Vec<f32>>,
    /// Tokens that went forward and, where they have something to teach, back; padding included.
    pub tokens: usize,
    /// Whether the parameters changed; false when loss or gradients were not finite.
    pub is_applied: bool,
    /// What the device said each time that it ran out of memory, and parts became smaller.
    pub out_of_memory: Vec<Shrunk>,
}

/// Log-probabilities of completions, and where a device ran out of memory for them.
#[derive(Clone, Debug, Default)]
pub struct LogProbs {
    /// One row a completion, in nats.
    pub rows: Vec<Vec<f32>>,
    /// What the device said each time, and parts became smaller.
    pub out_of_memory: Vec<Shrunk>,
}

/// Whose log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The model with its adapter as it is.
    Current,
    /// What training began with.
    Reference,
}

/// Micro-batches that are under way together, and what they belong to.
struct Step<'s> {
    generation: &'s Generation<'s>,
    /// The divisor of `dapo`.
    step_tokens: f64,
    micro_batches: &'s [Range<usize>],
    place: [u64; 2],
}

/// What the micro-batches that were under way together gave.
struct Round {
    /// Of every micro-batch.
    outputs: Vec<RoundOutput>,
    /// Gradients of every micro-batch that has any.
    gradients: Vec<Vec<Tensor<2>>>,
}

struct RoundOutput {
    loss: LossOutput,
    entropy: f64,
    log_probs: Vec<Vec<f32>>,
    tokens: usize,
}

impl Learner<'_> {
    /// Where the optimizer works.
    pub fn model(&self) -> &Llama {
        self.models[0]
    }

    /// Gives memory that no tensor uses back to the devices.
    pub fn release(&self) {
        for model in &self.models {
            model.compute.release();
        }
    }

    /// Log-probabilities of every completion, without dropout: under the policy as it is, or under
    /// the reference policy.
    ///
    /// # Errors
    /// What `progress` (told after every micro-batch) answers; a device without room for a single
    /// completion.
    pub fn log_probs(
        &mut self,
        generation: &Generation,
        policy: Policy,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<LogProbs> {
        let mut done = LogProbs::default();
        let adapter = match policy {
            Policy::Current => Some(self.adapter.clone()),
            Policy::Reference => self.reference.clone(),
        };
        let fleet = Fleet::new(
            self.models.clone(),
            adapter.as_ref().unwrap_or(&self.adapter),
        );
        let size = generation.group_size();
        let prompts = 0..generation.groups.len();
        for round in generation.micro_batches(prompts).chunks(self.models.len()) {
            let rows = self.shrinking(generation, &mut done.out_of_memory, |learner, parts| {
                let parts = parts(round);
                let forward = fleet.map(&parts, |model, own, _, part| {
                    let adapter = adapter.as_ref().map(|_| own);
                    let groups = part.groups(generation);
                    Forward::new(model, &groups, adapter, None, learner, KeepInputs::No).log_probs()
                })?;
                let mut log_probs = Rows::new(round, size);
                for (part, rows) in parts.iter().zip(forward) {
                    log_probs.put(part, rows);
                }
                Ok(log_probs.rows)
            })?;
            done.rows.extend(rows);
            progress(round.iter().map(Range::len).sum())?;
        }
        Ok(done)
    }

    /// One optimizer step over a slice of a generation.
    ///
    /// `place` is (the generation's first step, iteration): it keys the dropout masks.
    ///
    /// # Errors
    /// What `progress` (told after every micro-batch) answers; a device without room for a single
    /// completion, or for the update. Nothing is changed then.
    pub fn step(
        &mut self,
        generation: &Generation,
        slice: usize,
        learning_rate: f64,
        place: [u64; 2],
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<UpdateReport> {
        let mut report = UpdateReport::default();
        let mut sum = None;
        let fleet = Fleet::new(self.models.clone(), &self.adapter);
        let step_tokens = generation.tokens_per_step();
        for micro_batches in generation
            .micro_batches(generation.slice(slice))
            .chunks(self.models.len())
        {
            let round =
                self.shrinking(generation, &mut report.out_of_memory, |learner, parts| {
                    let step = Step {
                        generation,
                        step_tokens,
                        micro_batches,
                        place,
                    };
                    learner.round(&fleet, &step, &parts(micro_batches))
                })?;
            for output in round.outputs {
                report.loss += output.loss.loss;
                report.micro_batches.push(MicroBatchReport {
                    statistics: output.loss.statistics,
                    entropy: output.entropy,
                });
                report.tokens += output.tokens;
                report.log_probs.extend(output.log_probs);
            }
            if !report.loss.is_finite() {
                // Its gradient was not taken.
                report.grad_norm = f64::NAN;
                return Ok(report);
            }
            for gradients in round.gradients {
                sum = Some(accumulate(sum, gradients));
            }
            progress(micro_batches.iter().map(Range::len).sum())?;
        }
        drop(fleet);
        (report.grad_norm, report.is_applied) = self.update(sum, learning_rate)?;
        Ok(report)
    }

    /// Clips the gradients and moves the adapter. Answers their norm, and whether it was finite: if
    /// not, nothing is moved.
    ///
    /// # Errors
    /// A device without room for it. Nothing is changed then.
    fn update(&mut self, sum: Option<Vec<Tensor<2>>>, learning_rate: f64) -> Result<(f64, bool)> {
        let parameters = self.adapter.parameters();
        let model = self.model();
        let updated = model.compute.attempt(0, || {
            let sum = sum.unwrap_or_else(|| parameters.iter().map(Tensor::zeros_like).collect());
            let (gradients, norm) = clip_gradient_norm(sum, self.max_grad_norm);
            if !norm.is_finite() {
                return Ok((norm, None));
            }
            // The moments stay as they are until those after the step are known to exist.
            let mut optimizer = self.optimizer.clone();
            let parameters = optimizer.step(parameters, gradients, learning_rate)?;
            read_one_of_each(parameters.iter(), model);
            anyhow::Ok((norm, Some((optimizer, parameters))))
        });
        let (norm, updated) = match updated {
            Ok(done) => done?,
            Err(error) => bail!(
                "the device has no memory for the optimizer's update: {}; lower lora.r, or set memory.budget_gib so \
                 that room is left for it",
                error.message
            ),
        };
        let is_applied = updated.is_some();
        if let Some((optimizer, parameters)) = updated {
            self.optimizer = optimizer;
            self.adapter = self.adapter.with_parameters(parameters);
        }
        Ok((norm, is_applied))
    }

    /// Does `work` with parts as large as the limit allows, and again with smaller ones as long as
    /// the device has no room for them. The smaller size is kept.
    fn shrinking<T>(
        &mut self,
        generation: &Generation,
        told: &mut Vec<Shrunk>,
        work: impl Fn(&Self, &dyn Fn(&[Range<usize>]) -> Vec<Part>) -> Result<T, OutOfMemory>,
    ) -> Result<T> {
        let size = generation.group_size();
        loop {
            let whole = match self.model().compute.is_cpu {
                // The cores share a micro-batch, whatever their number.
                true => size,
                false => generation.groups_per_micro_batch * size,
            };
            let rows = self.limits.rows_per_part.unwrap_or(whole).min(whole);
            let error = match work(self, &|round| parts(round, size, rows)) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            self.release();
            let Some(rows) = smaller_part(rows, size) else {
                bail!(
                    "the device has no memory for a single completion: {}; lower rollout.max_completion_length, \
                     data.max_prompt_length or lora.r, or set quantization.load_in_4bit = true",
                    error.message
                );
            };
            self.limits.rows_per_part = Some(rows);
            told.push(Shrunk {
                rows,
                message: error.message,
            });
        }
    }

    /// Losses and gradients of micro-batches that are under way together, one a device.
    fn round(&self, fleet: &Fleet, step: &Step, parts: &[Part]) -> Result<Round, OutOfMemory> {
        let size = step.generation.group_size();
        // All parts are known before any loss is. Where they were made small for want of memory,
        // what they keep for the backward pass is not kept but made again.
        let keeps = self.limits.rows_per_part.is_none() || parts.len() <= fleet.at_once();
        let forward = |model: &Llama, adapter: &Adapter, part: &Part, keeps: bool| {
            let place = DropoutPlace {
                step: step.place,
                first_prompt: part.prompts.start,
                first_row: part.first_row(size),
            };
            let kept = match (keeps, self.limits.offloads_layer_inputs) {
                (false, _) => KeepInputs::No,
                (true, false) => KeepInputs::OnDevice,
                (true, true) => KeepInputs::OnHost,
            };
            let groups = part.groups(step.generation);
            Forward::new(model, &groups, Some(adapter), Some(place), self, kept)
        };
        let done = fleet.map(parts, |model, adapter, _, part| {
            let pass = forward(model, adapter, part, keeps);
            let values = (pass.log_probs(), pass.entropies(), pass.tokens());
            (values, keeps.then_some(pass))
        })?;
        let mut passes = Vec::with_capacity(parts.len());
        let mut log_probs = Rows::new(step.micro_batches, size);
        let mut entropies = Rows::new(step.micro_batches, size);
        let mut tokens = vec![0; step.micro_batches.len()];
        for (part, (values, pass)) in parts.iter().zip(done) {
            log_probs.put(part, values.0);
            entropies.put(part, values.1);
            tokens[part.micro_batch] += values.2;
            passes.push(Mutex::new(pass));
        }
        let outputs: Vec<RoundOutput> = step
            .micro_batches
            .iter()
            .zip(tokens)
            .map(|(prompts, tokens)| {
                let (log_probs, entropies) = (log_probs.of(prompts), entropies.of(prompts));
                self.loss_of(step, prompts, log_probs, entropies, tokens)
            })
            .collect();

        let sums = Sums::new(parts, step.micro_batches.len());
        fleet.map(parts, |model, adapter, index, part| {
            let kept = passes[index]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let rows = &outputs[part.micro_batch].loss.gradient;
            let first_prompt = step.micro_batches[part.micro_batch].start;
            let gradient = part.of_rows(rows, first_prompt, size);
            // A group whose rewards agree has nothing to teach; its gradients are zero.
            if gradient.iter().all(|g| *g == 0.0) {
                sums.add(index, part, None);
                return;
            }
            let pass = kept.unwrap_or_else(|| forward(model, adapter, part, true));
            let mut gradients = pass.backward(model, adapter, &gradient);
            if part.micro_batch > 0 {
                let first = &self.model().compute.device;
                gradients = gradients.into_iter().map(|t| t.to_device(first)).collect();
            }
            read_one_of_each(gradients.iter(), model);
            sums.add(index, part, Some(gradients));
        })?;
        Ok(Round {
            outputs,
            gradients: sums.finish(),
        })
    }

    fn loss_of(
        &self,
        step: &Step,
        prompts: &Range<usize>,
        log_probs: &[Vec<f32>],
        entropies: &[Vec<f32>],
        tokens: usize,
    ) -> RoundOutput {
        let generation = step.generation;
        let size = generation.group_size();
        let rows = prompts.start * size..prompts.end * size;
        let is_counted = &generation.is_counted[rows.clone()];
        let input = LossInput {
            log_probs,
            old_log_probs: generation
                .old_log_probs
                .as_ref()
                .map(|all| &all[rows.clone()]),
            reference_log_probs: generation
                .reference_log_probs
                .as_ref()
                .map(|all| &all[rows.clone()]),
            entropies,
            advantages: &generation.advantages[rows.clone()],
            is_counted,
            step_tokens: step.step_tokens,
        };
        let loss = policy_loss(&input, &self.loss);
        let counted = entropies
            .iter()
            .zip(is_counted)
            .filter(|(_, counted)| **counted);
        let entropy = counted
            .map(|(row, _)| row.iter().copied().map(f64::from).sum::<f64>())
            .sum();
        RoundOutput {
            loss,
            entropy,
            log_probs: log_probs.to_vec(),
            tokens,
        }
    }
}
