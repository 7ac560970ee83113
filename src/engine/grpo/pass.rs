//! Some groups through the model and back.

use burn::tensor::Tensor;

use super::generation::Generation;
use super::parts::Part;
use super::update::Learner;
use crate::model::{
    Adapter, Dropout, DropoutPlace, GroupBatch, KeepInputs, LayoutTensors, Llama, Tape,
    TokenLogProbs, TopGradient, to_f32,
};

/// Some groups that went forward.
pub(super) struct Forward {
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
    pub(super) fn new(
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

    /// Log-probabilities of the completions, one row each.
    pub(super) fn log_probs(&self) -> Vec<Vec<f32>> {
        self.rows(&self.token.log_probs)
    }

    /// Entropies at the completions' tokens, one row each, in nats.
    pub(super) fn entropies(&self) -> Vec<Vec<f32>> {
        self.rows(&self.token.entropies)
    }

    /// Tokens that went through the model, padding included.
    pub(super) fn tokens(&self) -> usize {
        self.batch.ids.len()
    }

    /// Gradients of the adapter from the loss's with respect to each log-probability.
    pub(super) fn backward(
        self,
        model: &Llama,
        adapter: &Adapter,
        gradient: &[f32],
    ) -> Vec<Tensor<2>> {
        let states = model.predicting_states(&self.tape.output, &self.predictors);
        let head = model.head(self.temperature);
        let (hidden, _) = head.backward(&states, &self.targets, gradient, false);
        // What the layers need of it is in the tape.
        drop(states);
        let top = TopGradient {
            predictors: self.predictors,
            hidden,
        };
        let dropout = self.dropout.as_ref();
        model.backward_adapter(self.tape, &self.tensors, top, adapter, dropout)
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

impl Part {
    /// Prompts with the completions of this part.
    pub(super) fn groups<'g>(
        &self,
        generation: &Generation<'g>,
    ) -> Vec<(&'g [u32], Vec<&'g [u32]>)> {
        generation.groups[self.prompts.clone()]
            .iter()
            .map(|(prompt, rows)| (*prompt, rows[self.samples.clone()].to_vec()))
            .collect()
    }
}

/// Waits until all of these tensors exist, on a device of its own: an allocation that failed is told of
/// by reading a value that depends on it.
pub(super) fn read_one_of_each<'t>(tensors: impl Iterator<Item = &'t Tensor<2>>, model: &Llama) {
    if model.compute.is_cpu {
        return;
    }
    let values: Vec<Tensor<2>> = tensors
        .map(|tensor| tensor.clone().slice([0..1, 0..1]))
        .collect();
    if !values.is_empty() {
        to_f32(Tensor::cat(values, 0));
    }
}
