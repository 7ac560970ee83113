//! The backward pass, one layer at a time.
//!
//! Only each layer's input is kept by the forward pass, on the device or on the host. The backward pass
//! recomputes one layer, differentiates it, and drops it before the next: the memory of a
//! single layer, whatever the depth.

use burn::tensor::Tensor;

use super::layer::{Adapted, leaf, taken};
use super::layout::{GroupBatch, LayoutTensors, indices};
use super::llama::{Llama, Tape};
use super::lora::{Adapter, Dropout, as_dtype};
use crate::kernel::rms_norm::rms_norm;

/// Gradient of the loss at the top of the model.
pub struct TopGradient {
    /// Tokens whose hidden states were used, as in [`Llama::predicting_states`].
    pub predictors: Vec<usize>,
    /// Gradient of those normed hidden states, `[predictors, hidden]`.
    pub hidden: Tensor<2>,
}

impl Llama {
    /// Gradients of an adapter, in the order of [`Adapter::parameters`].
    pub fn backward_adapter(
        &self,
        tape: Tape,
        tensors: &LayoutTensors,
        top: TopGradient,
        adapter: &Adapter,
        dropout: Option<&Dropout>,
    ) -> Vec<Tensor<2>> {
        let Tape { inputs, output } = tape;
        let (mut gradient, _) = self.backward_norm(output, top, false);
        let mut per_layer = Vec::with_capacity(self.layers.len());
        for (i, input) in inputs.into_iter().enumerate().rev() {
            let leaves: Vec<Tensor<2>> = adapter.layers[i]
                .parameters()
                .into_iter()
                .map(leaf)
                .collect();
            let layer_adapter = adapter.layers[i].with_parameters(&mut leaves.iter().cloned());
            let adapted = Adapted {
                adapter: Some(&layer_adapter),
                dropout: dropout.map(|dropout| dropout.layer(i)),
            };
            let (of_leaves, of_input) = self.layers[i].backward(
                input.get(&self.compute),
                gradient,
                tensors,
                &self.config,
                &adapted,
                &leaves,
            );
            per_layer.push(of_leaves);
            gradient = of_input;
        }
        per_layer.into_iter().rev().flatten().collect()
    }

    /// Gradients of every weight, in the order of [`Llama::parameters`]; `head`
    /// is the head's weight gradient, which a tied embedding receives as well.
    pub fn backward_everything(
        &self,
        batch: &GroupBatch,
        tape: Tape,
        tensors: &LayoutTensors,
        top: TopGradient,
        head: Tensor<2>,
    ) -> Vec<Tensor<2>> {
        let Tape { inputs, output } = tape;
        let (mut gradient, norm) = self.backward_norm(output, top, true);
        let mut per_layer = Vec::with_capacity(self.layers.len());
        for (i, input) in inputs.into_iter().enumerate().rev() {
            let leaves: Vec<Tensor<2>> = self.layers[i]
                .parameters(self.config.family)
                .into_iter()
                .map(|(_, tensor)| leaf(tensor))
                .collect();
            let layer = self.layers[i].with_parameters(&mut leaves.iter().cloned());
            let (of_leaves, of_input) = layer.backward(
                input.get(&self.compute),
                gradient,
                tensors,
                &self.config,
                &Adapted::default(),
                &leaves,
            );
            per_layer.push(of_leaves);
            gradient = of_input;
        }
        let ids = indices(batch.ids.iter().map(|&id| id as usize), &self.compute);
        let embedding = self.embed_tokens.zeros_like().select_assign(
            0,
            ids,
            gradient,
            burn::tensor::IndexingUpdateOp::Add,
        );
        let mut all = match &self.lm_head {
            None => vec![embedding + as_dtype(head, self.embed_tokens.dtype()), norm],
            Some(_) => vec![embedding, norm, head],
        };
        all.extend(per_layer.into_iter().rev().flatten());
        all
    }

    /// Through the final norm: gradients of the last layer's output and, if
    /// requested, of the norm's weight.
    fn backward_norm(
        &self,
        output: Tensor<2>,
        top: TopGradient,
        of_weight: bool,
    ) -> (Tensor<2>, Tensor<2>) {
        let x = leaf(
            output
                .clone()
                .select(0, indices(top.predictors.iter().copied(), &self.compute)),
        );
        let weight = if of_weight {
            leaf(self.norm.clone())
        } else {
            self.norm.clone()
        };
        let normed = rms_norm(x.clone(), &weight, self.config.rms_norm_eps);
        let mut gradients = (normed * top.hidden).sum().backward();
        let of_picked = taken(&x, &mut gradients);
        // A prompt's last token predicts the first token of each completion, so contributions add up.
        let of_output = output.zeros_like().select_assign(
            0,
            indices(top.predictors.iter().copied(), &self.compute),
            of_picked,
            burn::tensor::IndexingUpdateOp::Add,
        );
        let of_norm = if of_weight {
            taken(&weight, &mut gradients)
        } else {
            self.norm.zeros_like()
        };
        (of_output, of_norm)
    }
}
