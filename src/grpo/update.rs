//! One optimizer step: log-probabilities, loss and gradients over micro-batches,
//! clipping, AdamW.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use burn::tensor::Tensor;

use super::loss::{LossInput, LossSettings, LossStatistics, policy_loss};
use crate::experiment::Experiment;
use crate::model::{
    Adapter, Dropout, GroupBatch, LayoutTensors, Llama, Tape, TokenLogProbs, TopGradient,
};
use crate::optimizer::{AdamW, AdamWSettings, accumulate, clip_gradient_norm};
use crate::parallel;
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
    /// The frozen model.
    pub model: &'a Llama,
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
}

impl<'a> Learner<'a> {
    /// A fresh adapter on the model, with the optimizer and the loss that `[grpo]` describes.
    ///
    /// # Errors
    /// `[lora]` names what the model has not.
    pub fn new(experiment: &Experiment, model: &'a Llama) -> Result<Self> {
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
            model,
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
                gradient_accumulation_steps: grpo.gradient_accumulation_steps,
            },
            temperature: experiment.rollout.temperature,
            max_grad_norm: grpo.max_grad_norm,
            lora_dropout: experiment.lora.lora_dropout,
            seed: experiment.run.seed,
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
}

impl Learner<'_> {
    /// Log-probabilities of every completion under the model alone: the reference policy.
    ///
    /// # Errors
    /// What `progress` (told after every micro-batch) answers.
    pub fn reference_log_probs(
        &self,
        generation: &Generation,
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::new();
        for groups in generation.groups.chunks(generation.groups_per_micro_batch) {
            let parts = self.forward(groups, None, None, false);
            rows.extend(
                parts
                    .iter()
                    .flat_map(|part| part.rows(&part.token.log_probs)),
            );
            progress(groups.len())?;
        }
        Ok(rows)
    }

    /// One optimizer step over a generation.
    ///
    /// `place` is (step, iteration): it keys the dropout masks.
    ///
    /// # Errors
    /// What `progress` (told after every micro-batch) answers; nothing is changed then.
    pub fn step(
        &mut self,
        generation: &Generation,
        learning_rate: f64,
        place: [u64; 2],
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<UpdateReport> {
        let mut report = UpdateReport::default();
        let mut sum = None;
        let step_tokens = generation.counted_tokens();
        for (index, groups) in generation
            .groups
            .chunks(generation.groups_per_micro_batch)
            .enumerate()
        {
            let first = index * generation.groups_per_micro_batch * generation.group_size();
            let dropout = Dropout {
                rate: self.lora_dropout,
                seed: self.seed,
                place: [place[0], place[1], first as u64],
            };
            let parts = self.forward(groups, Some(&self.adapter), Some(dropout), true);
            let log_probs: Vec<Vec<f32>> = parts
                .iter()
                .flat_map(|part| part.rows(&part.token.log_probs))
                .collect();
            let rows = first..first + log_probs.len();
            let output = policy_loss(
                &LossInput {
                    log_probs: &log_probs,
                    old_log_probs: generation
                        .old_log_probs
                        .as_ref()
                        .map(|old| &old[rows.clone()]),
                    reference_log_probs: generation
                        .reference_log_probs
                        .as_ref()
                        .map(|r| &r[rows.clone()]),
                    advantages: &generation.advantages[rows.clone()],
                    is_counted: &generation.is_counted[rows.clone()],
                    step_tokens,
                },
                &self.loss,
            );
            report.loss += output.loss;
            let mut entropy = 0.0;
            let entropies = parts
                .iter()
                .flat_map(|part| part.rows(&part.token.entropies));
            for (row, entropies) in entropies.enumerate() {
                if generation.is_counted[first + row] {
                    entropy += entropies.iter().copied().map(f64::from).sum::<f64>();
                }
            }
            report.micro_batches.push(MicroBatchReport {
                statistics: output.statistics,
                entropy,
            });
            report.tokens += parts.iter().map(|part| part.batch.ids.len()).sum::<usize>();
            report.log_probs.extend(log_probs);
            if !output.loss.is_finite() {
                return Ok(report);
            }
            for gradients in self.backward(parts, &output.gradient) {
                sum = Some(accumulate(sum, gradients));
            }
            progress(groups.len())?;
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
}

impl Learner<'_> {
    /// Groups of a micro-batch that go through the model together: on the CPU
    /// one, so that the cores share them; elsewhere all. The loss is taken over
    /// the whole micro-batch, so this changes nothing but the order of sums.
    fn groups_per_part(&self, groups: usize) -> usize {
        if self.model.compute.is_cpu { 1 } else { groups }
    }

    fn forward(
        &self,
        groups: &[(&[u32], Vec<&[u32]>)],
        adapter: Option<&Adapter>,
        dropout: Option<Dropout>,
        keep_inputs: bool,
    ) -> Vec<Forward> {
        let parts: Vec<_> = groups.chunks(self.groups_per_part(groups.len())).collect();
        parallel::map(
            &parts,
            parallel::workers(&self.model.compute),
            |index, groups| {
                // Each part has masks of its own.
                let dropout = dropout.map(|dropout| {
                    let [step, iteration, first] = dropout.place;
                    Dropout {
                        place: [step, iteration, first + (index * groups.len()) as u64],
                        ..dropout
                    }
                });
                Forward::new(
                    self.model,
                    groups,
                    adapter,
                    dropout,
                    self.temperature,
                    keep_inputs,
                )
            },
        )
    }

    /// Gradients of every part that has any, in the order of the parts.
    fn backward(&self, parts: Vec<Forward>, gradient: &[Vec<f32>]) -> Vec<Vec<Tensor<2>>> {
        let mut first = 0;
        let mut work = Vec::new();
        for part in parts {
            let rows = first..first + part.batch.completion_lengths.len();
            first = rows.end;
            let gradient: Vec<f32> = gradient[rows].iter().flatten().copied().collect();
            // A group whose rewards agree has nothing to teach; its gradients are zero.
            if gradient.iter().any(|g| *g != 0.0) {
                work.push(Mutex::new(Some((part, gradient))));
            }
        }
        let done = parallel::map(&work, parallel::workers(&self.model.compute), |_, slot| {
            let (part, gradient) = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            Some(part.backward(self.model, &self.adapter, &gradient))
        });
        done.into_iter().flatten().collect()
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
        dropout: Option<Dropout>,
        temperature: f64,
        keep_inputs: bool,
    ) -> Self {
        let batch = GroupBatch::new(groups);
        let tensors = model.layout_tensors(&batch.layout);
        let tape = model.forward(&batch, &tensors, adapter, dropout, keep_inputs);
        let (predictors, targets) = batch.predictions();
        let hidden = model.predicting_states(&tape.output, &predictors);
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
        let mut start = 0;
        self.batch
            .completion_lengths
            .iter()
            .map(|&length| {
                start += length;
                values[start - length..start].to_vec()
            })
            .collect()
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
        model.backward_adapter(self.tape, &self.tensors, top, adapter, self.dropout)
    }
}
