//! The language-model head: log-probabilities of given tokens and their
//! backward pass, a chunk of rows at a time, so that no `[tokens, vocabulary]`
//! tensor ever exists.

use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Int, Tensor, TensorData};

use super::config::LOGITS_PER_CHUNK;
use super::lora::as_dtype;
use crate::device::Compute;

/// Log-probabilities of tokens and the entropies of the distributions they came from, both in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogProbs {
    /// One per token.
    pub log_probs: Vec<f32>,
    /// One per token.
    pub entropies: Vec<f32>,
}

/// The head of a model: `logits = hidden · weightᵀ / temperature`.
pub struct Head<'a> {
    /// `[vocabulary, hidden]`
    pub weight: &'a Tensor<2>,
    /// Divides the logits, as when sampling.
    pub temperature: f64,
    /// Where index tensors are made.
    pub compute: &'a Compute,
}

impl Head<'_> {
    /// All logits of a few rows, as decoding needs them.
    ///
    /// # Shapes
    /// `hidden: [rows, hidden]`, already normed → `[rows, vocabulary]` in f32
    pub fn logits_of(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = as_dtype(hidden.matmul(self.weight.clone().transpose()), DType::F32);
        if self.temperature == 1.0 {
            logits
        } else {
            logits.div_scalar(self.temperature)
        }
    }

    fn rows_per_chunk(&self) -> usize {
        (LOGITS_PER_CHUNK / self.weight.dims()[0]).max(16)
    }

    /// Log-probabilities of `targets`, one per row of `hidden`.
    ///
    /// # Shapes
    /// `hidden: [tokens, hidden]`, already normed
    pub fn log_probs(&self, hidden: &Tensor<2>, targets: &[u32]) -> TokenLogProbs {
        let mut result = TokenLogProbs::default();
        for (start, chunk) in self.chunks(targets) {
            let log_probs = log_softmax(
                self.logits_of(hidden.clone().narrow(0, start, chunk.len())),
                1,
            );
            let entropy = (log_probs.clone().exp() * log_probs.clone())
                .sum_dim(1)
                .neg();
            let chosen = log_probs.gather(1, self.targets(chunk));
            result.log_probs.extend(to_f32(chosen));
            result.entropies.extend(to_f32(entropy));
        }
        result
    }

    /// Gradient of a loss with respect to `hidden`, from its gradient with
    /// respect to each log-probability: `(g·onehot − g·softmax)·W / temperature`.
    /// With `weight_gradient`, also the gradient with respect to the weight.
    ///
    /// # Shapes
    /// `hidden: [tokens, hidden]` → `[tokens, hidden]`, and `[vocabulary, hidden]` in f32
    pub fn backward(
        &self,
        hidden: &Tensor<2>,
        targets: &[u32],
        gradient: &[f32],
        weight_gradient: bool,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let [vocabulary, width] = self.weight.dims();
        let mut pieces = Vec::new();
        let mut of_weight = weight_gradient
            .then(|| Tensor::<2>::zeros([vocabulary, width], (&self.compute.device, DType::F32)));
        for (start, chunk) in self.chunks(targets) {
            let rows = hidden.clone().narrow(0, start, chunk.len());
            let probabilities = log_softmax(self.logits_of(rows.clone()), 1).exp();
            let scale: Vec<f32> = gradient[start..start + chunk.len()]
                .iter()
                .map(|g| g / self.temperature as f32)
                .collect();
            let scale = Tensor::<2>::from_data(
                TensorData::new(scale, [chunk.len(), 1]),
                (&self.compute.device, DType::F32),
            );
            let targets = self.targets(chunk);
            let of_logits = (probabilities * scale.clone().neg()).scatter(
                1,
                targets,
                scale,
                burn::tensor::IndexingUpdateOp::Add,
            );
            let of_logits = as_dtype(of_logits, self.weight.dtype());
            if let Some(sum) = of_weight.take() {
                of_weight =
                    Some(sum + as_dtype(of_logits.clone().transpose().matmul(rows), DType::F32));
            }
            pieces.push(of_logits.matmul(self.weight.clone()));
        }
        (Tensor::cat(pieces, 0), of_weight)
    }

    fn chunks<'t>(&self, targets: &'t [u32]) -> impl Iterator<Item = (usize, &'t [u32])> {
        let size = self.rows_per_chunk();
        targets
            .chunks(size)
            .enumerate()
            .map(move |(i, chunk)| (i * size, chunk))
    }

    fn targets(&self, chunk: &[u32]) -> Tensor<2, Int> {
        let ids: Vec<i32> = chunk.iter().map(|&id| id as i32).collect();
        Tensor::from_data(
            TensorData::new(ids, [chunk.len(), 1]),
            (&self.compute.device, DType::I32),
        )
    }
}

/// Values of a tensor in row-major order.
///
/// # Panics
/// The device failed before the tensor was computed.
pub fn to_f32<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    match t.try_into_vec_as::<f32>() {
        Ok(values) => values,
        // Reading fails when the device has failed; there is no result to go on with.
        Err(error) => panic!("a tensor cannot be read from its device: {error}"),
    }
}
