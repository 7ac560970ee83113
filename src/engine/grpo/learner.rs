//! One optimizer step: log-probabilities, loss and gradients over micro-batches, clipping, AdamW.
//!
//! The loss is taken over a micro-batch; a [`MicroSlice`] of it goes through the model at a time.
//! Cutting a micro-batch into smaller slices changes only the order of sums. This happens when memory
//! is short.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Error, Result, bail};
use burn::tensor::Tensor;

use super::group::Generation;
use super::loss::{LossOutput, LossRow, LossSettings, LossStatistics, policy_loss};
use crate::execution::{
    ForwardPass, MicroSlice, OomRetry, OrderedAccumulator, Replica, Replicas, read_one_of_each,
    retry_with_smaller_batches, split,
};
use crate::model::{Adapter, Dropout, DropoutPlace, GroupBatch, KeepInputs, Llama};
use crate::optimizer::{AdamW, AdamWSettings, accumulate, clip_gradient_norm};
use crate::setup;
use moim_core::experiment::Experiment;

/// The settings to lower when a single completion does not fit.
const TOO_LARGE: &str = "lower rollout.max_completion_length, data.max_prompt_length or lora.r, or set \
                         quantization.load_in_4bit = true";

/// The frozen model, the adapter that trains on it, and the optimizer's state.
pub struct Learner<'a> {
    /// The frozen model, once per device.
    pub models: Vec<&'a Llama>,
    /// The policy's adapter.
    pub adapter: Adapter,
    /// The reference policy's adapter, if training started from one; else the reference policy is the
    /// model by itself.
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
    /// How much may be in flight at a time.
    pub limits: Limits,
}

/// Limits on the memory of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Completions of a slice at most; `None` is a whole micro-batch, on the CPU a group.
    pub rows_per_slice: Option<usize>,
    /// Keep the inputs of layers in the host's memory until the backward pass.
    pub offloads_layer_inputs: bool,
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

/// The outcome of one optimizer step.
#[derive(Clone, Debug, Default)]
pub struct UpdateReport {
    /// Loss of the step.
    pub loss: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// The measurements of each micro-batch.
    pub micro_batches: Vec<MicroBatchReport>,
    /// Log-probabilities of the step's completions under the policy before the update, one row each.
    /// Those of the micro-batches after one whose loss is not finite are absent.
    pub log_probs: Vec<Vec<f32>>,
    /// Tokens that went forward and, unless their gradient is zero, back; padding included.
    pub tokens: usize,
    /// Whether the parameters changed; false if loss or gradients were not finite.
    pub is_applied: bool,
    /// Each time that a device ran out of memory.
    pub out_of_memory: Vec<OomRetry>,
}

/// Log-probabilities of completions.
#[derive(Clone, Debug, Default)]
pub struct LogProbs {
    /// One row per completion, in nats.
    pub rows: Vec<Vec<f32>>,
    /// Each time that a device ran out of memory.
    pub out_of_memory: Vec<OomRetry>,
}

/// A policy whose log-probabilities are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// The model with its current adapter.
    Current,
    /// The policy that training started from.
    Reference,
}

/// A micro-batch that went forward and back.
#[derive(Default)]
struct MicroBatch {
    /// One row per completion, in nats.
    log_probs: Vec<Vec<f32>>,
    /// As `log_probs`.
    entropies: Vec<Vec<f32>>,
    loss: LossOutput,
    /// Sum of the entropies of counted tokens, in nats.
    entropy: f64,
    tokens: usize,
    /// Gradients of the adapter; `None` if they are zero.
    gradients: Option<Vec<Tensor<2>>>,
}

impl<'a> Learner<'a> {
    /// The adapter to start from on the model (the same on every device), with the optimizer and the loss that
    /// `[grpo]` describes.
    ///
    /// # Errors
    /// `[lora]` names modules that the model does not have.
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
                rows_per_slice: None,
                offloads_layer_inputs: experiment.memory.offload_layer_inputs,
            },
        })
    }

    /// The model where the optimizer works.
    pub fn model(&self) -> &Llama {
        self.models[0]
    }

    /// Returns memory that no tensor uses to the devices.
    pub fn release(&self) {
        for model in &self.models {
            model.compute.release();
        }
    }

    /// Log-probabilities of every completion under a policy, without dropout.
    ///
    /// # Errors
    /// An error of `progress`, which is called with the number of groups after every micro-batch; a
    /// single completion that does not fit a device's memory.
    pub fn log_probs(
        &mut self,
        generation: &Generation,
        policy: PolicyKind,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<LogProbs> {
        let adapter = match policy {
            PolicyKind::Current => Some(&self.adapter),
            PolicyKind::Reference => self.reference.as_ref(),
        };
        let replicas = Replicas::new(self.models.clone(), adapter);
        let (group_size, temperature) = (generation.group_size(), self.temperature);
        let mut report = LogProbs::default();
        let all = generation.micro_batches(0..generation.groups.len());
        for micro_batches in all.chunks(replicas.devices()) {
            let slices_of_rows = loop {
                let slices = split(micro_batches, group_size, self.rows_per_slice(generation));
                let ran = replicas.run(&slices, |replica, _, slice| {
                    let batch = GroupBatch::new(&tokens_of(generation, slice));
                    let pass = ForwardPass::new(replica, batch, None, temperature, KeepInputs::No);
                    Ok(pass.log_probs())
                });
                match ran.all() {
                    Ok(rows) => break rows,
                    Err(error) => {
                        let retry = self.lower_rows(error, &slices, group_size)?;
                        report.out_of_memory.push(retry);
                    }
                }
            };
            report.rows.extend(slices_of_rows.into_iter().flatten());
            progress(micro_batches.iter().map(Range::len).sum())?;
        }
        Ok(report)
    }

    /// One optimizer step over a slice of a generation.
    ///
    /// `dropout_step` is (the generation's first step, iteration): it keys the dropout masks.
    ///
    /// # Errors
    /// An error of `progress`, which is called with the number of groups after every micro-batch; a
    /// single completion, or the update, that does not fit a device's memory. Nothing is changed then.
    pub fn step(
        &mut self,
        generation: &Generation,
        slice: usize,
        learning_rate: f64,
        dropout_step: [u64; 2],
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<UpdateReport> {
        let replicas = Replicas::new(self.models.clone(), Some(&self.adapter));
        let group_size = generation.group_size();
        let mut report = UpdateReport::default();
        let mut sum = None;
        let all = generation.micro_batches(generation.slice(slice));
        for micro_batches in all.chunks(replicas.devices()) {
            let done = loop {
                let slices = split(micro_batches, group_size, self.rows_per_slice(generation));
                match self.run_micro_batches(
                    &replicas,
                    generation,
                    micro_batches,
                    &slices,
                    dropout_step,
                ) {
                    Ok(done) => break done,
                    Err(error) => {
                        let retry = self.lower_rows(error, &slices, group_size)?;
                        report.out_of_memory.push(retry);
                    }
                }
            };
            let mut gradients = Vec::new();
            for micro_batch in done {
                report.loss += micro_batch.loss.loss;
                report.micro_batches.push(MicroBatchReport {
                    statistics: micro_batch.loss.statistics,
                    entropy: micro_batch.entropy,
                });
                report.tokens += micro_batch.tokens;
                report.log_probs.extend(micro_batch.log_probs);
                gradients.extend(micro_batch.gradients);
            }
            if !report.loss.is_finite() {
                // Its gradients are not used.
                report.grad_norm = f64::NAN;
                return Ok(report);
            }
            for gradients in gradients {
                sum = Some(accumulate(sum, gradients));
            }
            progress(micro_batches.iter().map(Range::len).sum())?;
        }
        drop(replicas);
        (report.grad_norm, report.is_applied) = self.update(sum, learning_rate)?;
        Ok(report)
    }

    /// Losses and gradients of micro-batches that are in flight together, one per device.
    ///
    /// # Errors
    /// A device ran out of memory.
    fn run_micro_batches(
        &self,
        replicas: &Replicas,
        generation: &Generation,
        micro_batches: &[Range<usize>],
        slices: &[MicroSlice],
        dropout_step: [u64; 2],
    ) -> Result<Vec<MicroBatch>> {
        // All slices go forward before any goes back: the loss is over whole micro-batches. If memory
        // is short, a slice keeps nothing for its backward pass and goes forward again.
        let keeps = self.limits.rows_per_slice.is_none() || slices.len() <= replicas.at_once();
        let forward = replicas.run(slices, |replica, _, slice| {
            let pass = self.forward(replica, generation, slice, dropout_step, keeps);
            let (log_probs, entropies) = (pass.log_probs(), pass.entropies());
            Ok((log_probs, entropies, pass.tokens(), keeps.then_some(pass)))
        });
        let mut done: Vec<MicroBatch> = Vec::new();
        done.resize_with(micro_batches.len(), MicroBatch::default);
        let mut passes = Vec::with_capacity(slices.len());
        for (slice, (log_probs, entropies, tokens, pass)) in slices.iter().zip(forward.all()?) {
            let micro_batch = &mut done[slice.micro_batch];
            micro_batch.log_probs.extend(log_probs);
            micro_batch.entropies.extend(entropies);
            micro_batch.tokens += tokens;
            passes.push(Mutex::new(pass));
        }

        let step_tokens = generation.tokens_per_step();
        for (groups, micro_batch) in micro_batches.iter().zip(&mut done) {
            self.compute_loss(generation, groups, step_tokens, micro_batch);
        }

        let mut rows: Vec<_> = done.iter().map(|done| done.loss.gradient.iter()).collect();
        let gradient_of = |slice: &MicroSlice| -> Vec<f32> {
            let rows = rows[slice.micro_batch].by_ref();
            rows.take(slice.rows()).flatten().copied().collect()
        };
        let loss_gradients: Vec<Vec<f32>> = slices.iter().map(gradient_of).collect();
        let sums = OrderedAccumulator::new(slices);
        let backward = replicas.run(slices, |replica, index, slice| {
            let kept = passes[index]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            // The gradients of a group whose rewards agree are zero.
            if loss_gradients[index].iter().all(|g| *g == 0.0) {
                sums.add(index, slice, None);
                return Ok(());
            }
            let pass = kept
                .unwrap_or_else(|| self.forward(replica, generation, slice, dropout_step, true));
            let mut gradients = pass.backward(replica, &loss_gradients[index]);
            if slice.micro_batch > 0 {
                let first = &self.model().compute.device;
                gradients = gradients.into_iter().map(|t| t.to_device(first)).collect();
            }
            read_one_of_each(gradients.iter(), replica.model);
            sums.add(index, slice, Some(gradients));
            Ok(())
        });
        backward.all()?;
        for (micro_batch, gradients) in done.iter_mut().zip(sums.finish()) {
            micro_batch.gradients = gradients;
        }
        Ok(done)
    }

    /// A slice through the model, with dropout.
    fn forward(
        &self,
        replica: Replica,
        generation: &Generation,
        slice: &MicroSlice,
        dropout_step: [u64; 2],
        keeps: bool,
    ) -> ForwardPass {
        let batch = GroupBatch::new(&tokens_of(generation, slice));
        let place = DropoutPlace {
            step: dropout_step,
            first_prompt: slice.prompts.start,
            first_row: slice.prompts.start * generation.group_size() + slice.samples.start,
        };
        let compute = &replica.model.compute;
        let dropout = Dropout::new(self.lora_dropout, self.seed, place, &batch.layout, compute);
        let keep = match (keeps, self.limits.offloads_layer_inputs) {
            (false, _) => KeepInputs::No,
            (true, false) => KeepInputs::OnDevice,
            (true, true) => KeepInputs::OnHost,
        };
        ForwardPass::new(replica, batch, dropout, self.temperature, keep)
    }

    /// Fills in the loss of a micro-batch, from its log-probabilities and entropies.
    fn compute_loss(
        &self,
        generation: &Generation,
        groups: &Range<usize>,
        step_tokens: f64,
        micro_batch: &mut MicroBatch,
    ) {
        let groups = generation.groups[groups.clone()].iter();
        let samples = groups.flat_map(|group| &group.samples);
        let values = micro_batch.log_probs.iter().zip(&micro_batch.entropies);
        let rows: Vec<LossRow> = samples
            .zip(values)
            .map(|(sample, (log_probs, entropies))| LossRow {
                log_probs,
                old_log_probs: sample.old_log_probs.as_deref(),
                reference_log_probs: sample.reference_log_probs.as_deref(),
                entropies,
                advantage: sample.advantage,
                is_counted: sample.is_counted,
            })
            .collect();
        let counted = rows.iter().filter(|row| row.is_counted);
        let entropy = counted.map(|row| row.entropies.iter().copied().map(f64::from).sum::<f64>());
        micro_batch.entropy = entropy.sum();
        micro_batch.loss = policy_loss(&rows, step_tokens, &self.loss);
    }

    /// Clips the gradients and moves the adapter. Returns their norm, and whether it was finite: if
    /// not, nothing is moved.
    ///
    /// # Errors
    /// The update does not fit the device's memory. Nothing is changed then.
    fn update(&mut self, sum: Option<Vec<Tensor<2>>>, learning_rate: f64) -> Result<(f64, bool)> {
        let parameters = self.adapter.parameters();
        let model = self.model();
        let updated = model.compute.attempt(0, || {
            let sum = sum.unwrap_or_else(|| parameters.iter().map(Tensor::zeros_like).collect());
            let (gradients, norm) = clip_gradient_norm(sum, self.max_grad_norm);
            if !norm.is_finite() {
                return Ok((norm, None));
            }
            // The moments are kept until those after the step are known to exist.
            let mut optimizer = self.optimizer.clone();
            let parameters = optimizer.step(parameters, gradients, learning_rate)?;
            read_one_of_each(parameters.iter(), model);
            anyhow::Ok((norm, Some((optimizer, parameters))))
        });
        let (norm, updated) = match updated {
            Ok(done) => done?,
            Err(error) => bail!(
                "the device has no memory for the optimizer's update: {}; lower lora.r, or set memory.budget_gib so \
                 that memory is left for it",
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

    /// Completions of a slice at most.
    fn rows_per_slice(&self, generation: &Generation) -> usize {
        let group_size = generation.group_size();
        let whole = if self.model().compute.is_cpu {
            // The cores share a micro-batch, whatever their number.
            group_size
        } else {
            generation.groups_per_micro_batch * group_size
        };
        self.limits.rows_per_slice.unwrap_or(whole).min(whole)
    }

    /// Makes slices smaller after one ran out of memory. The smaller size is kept.
    ///
    /// # Errors
    /// Another error; a single completion that does not fit.
    fn lower_rows(
        &mut self,
        error: Error,
        slices: &[MicroSlice],
        group_size: usize,
    ) -> Result<OomRetry> {
        self.release();
        let retry = retry_with_smaller_batches(error, slices, group_size, TOO_LARGE)?;
        self.limits.rows_per_slice = Some(retry.rows);
        Ok(retry)
    }
}

/// The tokens of a slice: prompts with their completions.
fn tokens_of<'g>(
    generation: &'g Generation,
    slice: &MicroSlice,
) -> Vec<(&'g [u32], Vec<&'g [u32]>)> {
    generation.groups[slice.prompts.clone()]
        .iter()
        .map(|group| {
            let samples = group.samples[slice.samples.clone()].iter();
            let tokens = samples.map(|sample| sample.completion.tokens.as_slice());
            (group.question.prompt.tokens.as_slice(), tokens.collect())
        })
        .collect()
}
