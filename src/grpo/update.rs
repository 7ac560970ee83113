//! One optimizer step: log-probabilities, loss and gradients over micro-batches,
//! clipping, AdamW.
//!
//! A micro-batch is what the loss is taken over; what goes through the model at a time is a
//! [`Part`] of it. Cutting a micro-batch into smaller parts changes nothing but the order of sums,
//! which is what happens where memory is short.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use burn::tensor::Tensor;

use super::loss::{LossInput, LossOutput, LossSettings, LossStatistics, policy_loss};
use super::parts::{Fleet, Part, parts};
use crate::device::OutOfMemory;
use crate::experiment::Experiment;
use crate::memory::smaller_part;
use crate::model::{
    Adapter, Dropout, DropoutPlace, GroupBatch, KeepInputs, LayoutTensors, Llama, Tape,
    TokenLogProbs, TopGradient, to_f32,
};
use crate::optimizer::{AdamW, AdamWSettings, accumulate, clip_gradient_norm};
use crate::setup;

/// Completions of one generation with what the loss needs to know of them.
pub struct Generation<'a> {
    /// Prompt and completions of each group.
    pub groups: Vec<(&'a [u32], Vec<&'a [u32]>)>,
    /// One per completion, group after group.
    pub advantages: Vec<f64>,
    /// Completions that count in the loss.
    pub is_counted: Vec<bool>,
    /// Groups of a micro-batch.
    pub groups_per_micro_batch: usize,
    /// Log-probabilities under the policy that sampled, once the first iteration has computed them.
    pub old_log_probs: Option<Vec<Vec<f32>>>,
    /// Log-probabilities under the reference policy, when the loss wants them.
    pub reference_log_probs: Option<Vec<Vec<f32>>>,
}

impl Generation<'_> {
    /// Prompts of each micro-batch.
    fn micro_batches(&self) -> Vec<Range<usize>> {
        let (prompts, size) = (self.groups.len(), self.groups_per_micro_batch.max(1));
        (0..prompts)
            .step_by(size)
            .map(|start| start..(start + size).min(prompts))
            .collect()
    }

    /// Completions of each prompt.
    fn group_size(&self) -> usize {
        self.groups.first().map_or(0, |(_, rows)| rows.len())
    }

    /// Counted tokens over all completions.
    fn counted_tokens(&self) -> usize {
        let lengths = self
            .groups
            .iter()
            .flat_map(|(_, rows)| rows.iter().map(|row| row.len()));
        lengths
            .zip(&self.is_counted)
            .filter(|(_, counted)| **counted)
            .map(|(length, _)| length)
            .sum()
    }
}

/// What trains: the frozen model, the adapter on it, and the optimizer's state.
pub struct Learner<'a> {
    /// The frozen model, once per device.
    pub models: Vec<&'a Llama>,
    /// The policy's adapter.
    pub adapter: Adapter,
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
    /// A fresh adapter on the model (the same on every device), with the optimizer and the loss that `[grpo]` describes.
    ///
    /// # Errors
    /// `[lora]` names what the model has not.
    pub fn new(experiment: &Experiment, models: Vec<&'a Llama>) -> Result<Self> {
        let model = models[0];
        let grpo = &experiment.grpo;
        let lora = setup::lora_config(experiment)?;
        let adapter = Adapter::new(lora, &model.config, experiment.run.seed, &model.compute);
        let adam = AdamWSettings {
            beta1: grpo.adam_beta1,
            beta2: grpo.adam_beta2,
            epsilon: grpo.adam_epsilon,
            weight_decay: grpo.weight_decay,
        };
        Ok(Self {
            models,
            optimizer: AdamW::new(adam, &adapter.parameters()),
            adapter,
            loss: LossSettings {
                loss_type: grpo.loss_type,
                importance_sampling_level: grpo.importance_sampling_level,
                epsilon: grpo.epsilon,
                epsilon_high: grpo.epsilon_high.unwrap_or(grpo.epsilon),
                delta: grpo.delta,
                beta: grpo.beta,
                use_bias_correction_kl: grpo.use_bias_correction_kl,
                max_completion_length: experiment.rollout.max_completion_length,
                gradient_accumulation_steps: grpo.gradient_accumulation_steps
                    * experiment.model.num_devices,
            },
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
    /// Log-probabilities of every completion under the policy before the update.
    pub log_probs: Vec<Vec<f32>>,
    /// Tokens that went through the backward pass, padding included.
    pub tokens: usize,
    /// Whether the parameters changed; false when loss or gradients were not finite.
    pub is_applied: bool,
    /// What the device said each time that it ran out of memory, and parts became smaller.
    pub out_of_memory: Vec<Shrunk>,
}

/// Parts that became smaller for want of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// Completions of a part from now on.
    pub rows_per_part: usize,
    /// What the device said.
    pub message: String,
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

    /// Log-probabilities of every completion under the model alone: the reference policy.
    ///
    /// # Errors
    /// What `progress` (told after every micro-batch) answers; a device without room for a single completion.
    pub fn reference_log_probs(
        &mut self,
        generation: &Generation,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::new();
        let fleet = Fleet::new(self.models.clone(), &self.adapter);
        for round in generation.micro_batches().chunks(self.models.len()) {
            let done = self.shrinking(generation, &mut Vec::new(), |learner, parts| {
                let size = generation.group_size();
                let forward = fleet.map(&parts(round), |model, _, _, part| {
                    attempt(model, part, || {
                        let pass = Forward::new(
                            model,
                            &part.groups(generation),
                            None,
                            None,
                            learner,
                            KeepInputs::No,
                        );
                        (part.clone(), pass.token, pass.batch.completion_lengths)
                    })
                });
                let mut log_probs = Rows::new(round, size);
                for part in forward {
                    let (part, token, lengths) = part?;
                    log_probs.put(&part, cut(&token.log_probs, &lengths));
                }
                Ok(log_probs.rows)
            })?;
            rows.extend(done);
            progress(round.iter().map(Range::len).sum())?;
        }
        Ok(rows)
    }

    /// One optimizer step over a generation.
    ///
    /// `place` is (step, iteration): it keys the dropout masks.
    ///
    /// # Errors
    /// What `progress` (told after every micro-batch) answers; a device without room for a single
    /// completion. Nothing is changed then.
    pub fn step(
        &mut self,
        generation: &Generation,
        learning_rate: f64,
        place: [u64; 2],
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<UpdateReport> {
        let mut report = UpdateReport::default();
        let mut sum = None;
        let fleet = Fleet::new(self.models.clone(), &self.adapter);
        for micro_batches in generation.micro_batches().chunks(self.models.len()) {
            let round =
                self.shrinking(generation, &mut report.out_of_memory, |learner, parts| {
                    learner.round(
                        &fleet,
                        generation,
                        micro_batches,
                        &parts(micro_batches),
                        place,
                    )
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
                return Ok(report);
            }
            for gradients in round.gradients {
                sum = Some(accumulate(sum, gradients));
            }
            progress(micro_batches.iter().map(Range::len).sum())?;
        }
        let parameters = self.adapter.parameters();
        let gradients = sum.unwrap_or_else(|| parameters.iter().map(Tensor::zeros_like).collect());
        let (gradients, norm) = clip_gradient_norm(gradients, self.max_grad_norm);
        report.grad_norm = norm;
        if norm.is_finite() {
            let updated = self.optimizer.step(parameters, gradients, learning_rate)?;
            self.adapter = self.adapter.with_parameters(updated);
            report.is_applied = true;
        }
        Ok(report)
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
                rows_per_part: rows,
                message: error.message,
            });
        }
    }

    /// Losses and gradients of micro-batches that are under way together, one a device.
    fn round(
        &self,
        fleet: &Fleet,
        generation: &Generation,
        micro_batches: &[Range<usize>],
        parts: &[Part],
        place: [u64; 2],
    ) -> Result<Round, OutOfMemory> {
        let size = generation.group_size();
        // All parts are known before any loss is. Where they were made small for want of memory,
        // what they keep for the backward pass is not kept but made again.
        let keeps = self.limits.rows_per_part.is_none() || parts.len() <= fleet.at_once();
        let forward = |model: &Llama, adapter: &Adapter, part: &Part, keeps: bool| {
            let place = DropoutPlace {
                step: place,
                first_prompt: part.prompts.start,
                first_row: part.first_row(size),
            };
            let kept = match (keeps, self.limits.offloads_layer_inputs) {
                (false, _) => KeepInputs::No,
                (true, false) => KeepInputs::OnDevice,
                (true, true) => KeepInputs::OnHost,
            };
            let groups = part.groups(generation);
            Forward::new(model, &groups, Some(adapter), Some(place), self, kept)
        };
        let done = fleet.map(parts, |model, adapter, _, part| {
            attempt(model, part, || forward(model, adapter, part, keeps))
        });
        let mut passes = Vec::with_capacity(parts.len());
        let mut log_probs = Rows::new(micro_batches, size);
        let mut entropies = Rows::new(micro_batches, size);
        let mut tokens = vec![0; micro_batches.len()];
        for (part, pass) in parts.iter().zip(done) {
            let pass = pass?;
            log_probs.put(part, pass.rows(&pass.token.log_probs));
            entropies.put(part, pass.rows(&pass.token.entropies));
            tokens[part.micro_batch] += pass.batch.ids.len();
            passes.push(Mutex::new(keeps.then_some(pass)));
        }
        let outputs: Vec<RoundOutput> = micro_batches
            .iter()
            .zip(tokens)
            .map(|(prompts, tokens)| {
                let log_probs = log_probs.of(prompts).to_vec();
                let entropies = entropies.of(prompts);
                self.loss_of(generation, prompts, log_probs, entropies, tokens)
            })
            .collect();

        let sums = Sums::new(parts, micro_batches.len());
        let failed: Vec<Result<(), OutOfMemory>> =
            fleet.map(parts, |model, adapter, index, part| {
                let prompts = &micro_batches[part.micro_batch];
                let gradient: Vec<f32> = part
                    .prompts
                    .clone()
                    .flat_map(|prompt| {
                        let first = (prompt - prompts.start) * size;
                        let rows = &outputs[part.micro_batch].loss.gradient;
                        rows[first + part.samples.start..first + part.samples.end].iter()
                    })
                    .flatten()
                    .copied()
                    .collect();
                // A group whose rewards agree has nothing to teach; its gradients are zero.
                if gradient.iter().all(|g| *g == 0.0) {
                    sums.add(index, part, None);
                    return Ok(());
                }
                attempt(model, part, || {
                    let kept = passes[index]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take();
                    let pass = kept.unwrap_or_else(|| forward(model, adapter, part, true));
                    let gradients = pass.backward(model, adapter, &gradient);
                    // Reading a value is what tells of an allocation that failed.
                    read_one(&gradients, model);
                    let gradients = match part.device {
                        0 => gradients,
                        _ => gradients
                            .into_iter()
                            .map(|t| t.to_device(&self.model().compute.device))
                            .collect(),
                    };
                    sums.add(index, part, Some(gradients));
                })
            });
        failed.into_iter().collect::<Result<(), OutOfMemory>>()?;
        Ok(Round {
            outputs,
            gradients: sums.finish(),
        })
    }

    fn loss_of(
        &self,
        generation: &Generation,
        prompts: &Range<usize>,
        log_probs: Vec<Vec<f32>>,
        entropies: &[Vec<f32>],
        tokens: usize,
    ) -> RoundOutput {
        let size = generation.group_size();
        let rows = prompts.start * size..prompts.end * size;
        let of =
            |all: &'_ Option<Vec<Vec<f32>>>| all.as_ref().map(|all| all[rows.clone()].to_vec());
        let (old, reference) = (
            of(&generation.old_log_probs),
            of(&generation.reference_log_probs),
        );
        let is_counted = &generation.is_counted[rows.clone()];
        let loss = policy_loss(
            &LossInput {
                log_probs: &log_probs,
                old_log_probs: old.as_deref(),
                reference_log_probs: reference.as_deref(),
                advantages: &generation.advantages[rows.clone()],
                is_counted,
                step_tokens: generation.counted_tokens(),
            },
            &self.loss,
        );
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
            log_probs,
            tokens,
        }
    }
}

fn attempt<T>(model: &Llama, part: &Part, work: impl FnOnce() -> T) -> Result<T, OutOfMemory> {
    model.compute.attempt(part.rows(), work)
}

/// Waits until the gradients exist, on a device of its own.
fn read_one(gradients: &[Tensor<2>], model: &Llama) {
    if model.compute.is_cpu {
        return;
    }
    // The first layer's come last, and depend on all of the backward pass.
    if let Some(first) = gradients.first() {
        to_f32(first.clone().slice([0..1, 0..1]));
    }
}

impl Part {
    /// Prompts with the completions of this part.
    fn groups<'g>(&self, generation: &Generation<'g>) -> Vec<(&'g [u32], Vec<&'g [u32]>)> {
        generation.groups[self.prompts.clone()]
            .iter()
            .map(|(prompt, rows)| (*prompt, rows[self.samples.clone()].to_vec()))
            .collect()
    }
}

/// Values of completions that come in parts, put back in the order of the step.
struct Rows {
    first_prompt: usize,
    group_size: usize,
    rows: Vec<Vec<f32>>,
}

impl Rows {
    fn new(micro_batches: &[Range<usize>], group_size: usize) -> Self {
        let prompts: usize = micro_batches.iter().map(Range::len).sum();
        Self {
            first_prompt: micro_batches.first().map_or(0, |prompts| prompts.start),
            group_size,
            rows: vec![Vec::new(); prompts * group_size],
        }
    }

    fn put(&mut self, part: &Part, rows: Vec<Vec<f32>>) {
        let mut rows = rows.into_iter();
        for prompt in part.prompts.clone() {
            for sample in part.samples.clone() {
                let place = (prompt - self.first_prompt) * self.group_size + sample;
                self.rows[place] = rows.next().unwrap_or_default();
            }
        }
    }

    fn of(&self, prompts: &Range<usize>) -> &[Vec<f32>] {
        let row = |prompt: usize| (prompt - self.first_prompt) * self.group_size;
        &self.rows[row(prompts.start)..row(prompts.end)]
    }
}

/// Gradients of micro-batches, summed in the order of their parts whichever is done first.
struct Sums {
    state: Mutex<Vec<Sum>>,
}

#[derive(Default)]
struct Sum {
    /// Parts of the micro-batch whose turn has not come, the next one first.
    due: std::collections::VecDeque<usize>,
    /// Those that were done before their turn.
    waiting: std::collections::BTreeMap<usize, Option<Vec<Tensor<2>>>>,
    sum: Option<Vec<Tensor<2>>>,
}

impl Sums {
    fn new(parts: &[Part], micro_batches: usize) -> Self {
        let mut sums: Vec<Sum> = (0..micro_batches).map(|_| Sum::default()).collect();
        for (index, part) in parts.iter().enumerate() {
            sums[part.micro_batch].due.push_back(index);
        }
        Self {
            state: Mutex::new(sums),
        }
    }

    /// Takes in the gradients of a part; `None` where they are zero.
    fn add(&self, index: usize, part: &Part, gradients: Option<Vec<Tensor<2>>>) {
        let mut sums = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut sums[part.micro_batch];
        state.waiting.insert(index, gradients);
        while let Some(next) = state.due.front()
            && let Some(gradients) = state.waiting.remove(next)
        {
            state.due.pop_front();
            if let Some(gradients) = gradients {
                state.sum = Some(accumulate(state.sum.take(), gradients));
            }
        }
    }

    fn finish(self) -> Vec<Vec<Tensor<2>>> {
        let sums = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        sums.into_iter().filter_map(|state| state.sum).collect()
    }
}

/// Some groups that went forward.
struct Forward {
    batch: GroupBatch,
    tensors: LayoutTensors,
    tape: Tape,
    predictors: Vec<usize>,
    targets: Vec<u32>,
    token: TokenLogProbs,
    temperature: f64,
    dropout: Option<Dropout>,
}

impl Forward {
    fn new(
        model: &Llama,
        groups: &[(&[u32], Vec<&[u32]>)],
        adapter: Option<&Adapter>,
        place: Option<DropoutPlace>,
        learner: &Learner,
        keep: KeepInputs,
    ) -> Self {
        let batch = GroupBatch::new(groups);
        let tensors = model.layout_tensors(&batch.layout);
        let dropout = place.and_then(|place| {
            let (rate, seed) = (learner.lora_dropout, learner.seed);
            Dropout::new(rate, seed, place, &batch.layout, &model.compute)
        });
        let tape = model.forward(&batch, &tensors, adapter, dropout.as_ref(), keep);
        let (predictors, targets) = batch.predictions();
        let hidden = model.predicting_states(&tape.output, &predictors);
        let temperature = learner.temperature;
        let token = model.head(temperature).log_probs(&hidden, &targets);
        Self {
            batch,
            tensors,
            tape,
            predictors,
            targets,
            token,
            temperature,
            dropout,
        }
    }

    /// Cuts a value per token into rows, one per completion.
    fn rows(&self, values: &[f32]) -> Vec<Vec<f32>> {
        cut(values, &self.batch.completion_lengths)
    }

    fn backward(self, model: &Llama, adapter: &Adapter, gradient: &[f32]) -> Vec<Tensor<2>> {
        let hidden = model.predicting_states(&self.tape.output, &self.predictors);
        let (hidden, _) =
            model
                .head(self.temperature)
                .backward(&hidden, &self.targets, gradient, false);
        let top = TopGradient {
            predictors: self.predictors,
            hidden,
        };
        model.backward_adapter(
            self.tape,
            &self.tensors,
            top,
            adapter,
            self.dropout.as_ref(),
        )
    }
}

/// Cuts values into rows of these lengths.
fn cut(values: &[f32], lengths: &[usize]) -> Vec<Vec<f32>> {
    let mut start = 0;
    lengths
        .iter()
        .map(|&length| {
            start += length;
            values[start - length..start].to_vec()
        })
        .collect()
}
