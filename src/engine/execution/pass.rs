//! Some groups through the model and back.

use burn::tensor::Tensor;

use super::Replica;
use crate::model::{
    Dropout, GroupBatch, KeepInputs, LayoutTensors, Llama, Tape, TokenLogProbs, TopGradient, to_f32,
};

/// Some groups that went forward.
pub struct ForwardPass {
    batch: GroupBatch,
    tensors: LayoutTensors,
    tape: Tape,
    predictors: Vec<usize>,
    targets: Vec<u32>,
    token: TokenLogProbs,
    temperature: f64,
    dropout: Option<Dropout>,
}

impl ForwardPass {
    /// Runs `batch` through the model. `temperature` divides the logits; `keep` is where the inputs of
    /// layers wait for the backward pass.
    pub fn new(
        replica: Replica,
        batch: GroupBatch,
        dropout: Option<Dropout>,
        temperature: f64,
        keep: KeepInputs,
    ) -> Self {
        let Replica { model, adapter } = replica;
        let tensors = model.layout_tensors(&batch.layout);
        let tape = model.forward(&batch, &tensors, adapter, dropout.as_ref(), keep);
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

    /// Log-probabilities of the completions, one row each, in nats.
    pub fn log_probs(&self) -> Vec<Vec<f32>> {
        self.rows(&self.token.log_probs)
    }

    /// Entropies at the completions' tokens, one row each, in nats.
    pub fn entropies(&self) -> Vec<Vec<f32>> {
        self.rows(&self.token.entropies)
    }

    /// Cuts a value per token into rows, one per completion.
    fn rows(&self, values: &[f32]) -> Vec<Vec<f32>> {
        let mut rest = values;
        let lengths = self.batch.completion_lengths.iter();
        lengths
            .map(|&length| {
                let (row, after) = rest.split_at(length);
                rest = after;
                row.to_vec()
            })
            .collect()
    }

    /// Tokens that went through the model, padding included.
    pub fn tokens(&self) -> usize {
        self.batch.ids.len()
    }

    /// Gradients of the adapter, from the gradient of the loss with respect to each log-probability.
    pub fn backward(mut self, replica: Replica, gradient: &[f32]) -> Vec<Tensor<2>> {
        let Some(adapter) = replica.adapter else {
            return Vec::new();
        };
        let (top, _) = self.backward_head(replica.model, gradient, false);
        let dropout = self.dropout.as_ref();
        replica
            .model
            .backward_adapter(self.tape, &self.tensors, top, adapter, dropout)
    }

    /// Gradients of every weight of the model, which has no adapter.
    pub fn backward_everything(mut self, model: &Llama, gradient: &[f32]) -> Vec<Tensor<2>> {
        let (top, of_head) = self.backward_head(model, gradient, true);
        match of_head {
            Some(of_head) => {
                model.backward_everything(&self.batch, self.tape, &self.tensors, top, of_head)
            }
            None => Vec::new(),
        }
    }

    fn backward_head(
        &mut self,
        model: &Llama,
        gradient: &[f32],
        with_weight: bool,
    ) -> (TopGradient, Option<Tensor<2>>) {
        let states = model.predicting_states(&self.tape.output, &self.predictors);
        let head = model.head(self.temperature);
        let (hidden, of_head) = head.backward(&states, &self.targets, gradient, with_weight);
        let top = TopGradient {
            predictors: std::mem::take(&mut self.predictors),
            hidden,
        };
        (top, of_head)
    }
}

/// Waits until all of these tensors exist, on a device with its own memory: a failed allocation is
/// reported by reading a value that depends on it.
pub fn read_one_of_each<'t>(tensors: impl Iterator<Item = &'t Tensor<2>>, model: &Llama) {
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
