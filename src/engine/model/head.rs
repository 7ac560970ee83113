//! The language-model head: log-probabilities of given tokens and their
//! backward pass, a chunk of rows at a time, so that no `[tokens, vocabulary]`
//! tensor ever exists.

use burn::tensor::{DType, Int, Tensor, TensorData};

use super::lora::as_dtype;
use crate::device::Compute;
use crate::kernel::linear::few_rows_linear;
use crate::kernel::token_probs::{logits_gradient, token_log_probs};
use moim_core::memory::limits::LOGITS_PER_CHUNK;

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
    /// The device of index tensors.
    pub compute: &'a Compute,
}

impl Head<'_> {
    /// All logits of a few rows, as decoding needs them.
    ///
    /// # Shapes
    /// `hidden: [rows, hidden]`, already normed → `[rows, vocabulary]` in f32
    pub fn logits_of(&self, hidden: Tensor<2>) -> Tensor<2> {
        let logits = as_dtype(few_rows_linear(hidden, self.weight), DType::F32);
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
            let logits = self.logits_of(hidden.clone().narrow(0, start, chunk.len()));
            let (log_probs, entropies) = token_log_probs(logits, self.targets(chunk));
            // One read a chunk: each waits for the device.
            let both = to_f32(Tensor::cat(vec![log_probs, entropies], 0));
            let (log_probs, entropies) = both.split_at(chunk.len());
            result.log_probs.extend(log_probs);
            result.entropies.extend(entropies);
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
            let scale: Vec<f32> = gradient[start..start + chunk.len()]
                .iter()
                .map(|g| g / self.temperature as f32)
                .collect();
            let scale = Tensor::<1>::from_data(
                TensorData::new(scale, [chunk.len()]),
                (&self.compute.device, DType::F32),
            );
            let of_logits =
                logits_gradient(self.logits_of(rows.clone()), self.targets(chunk), scale);
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

    fn targets(&self, chunk: &[u32]) -> Tensor<1, Int> {
        let ids: Vec<i32> = chunk.iter().map(|&id| id as i32).collect();
        Tensor::from_data(
            TensorData::new(ids, [chunk.len()]),
            (&self.compute.device, DType::I32),
        )
    }
}

/// A tensor copied to the host, in its own type.
///
/// # Panics
/// As [`to_f32`].
pub fn to_data<const D: usize>(t: Tensor<D>) -> TensorData {
    match t.try_into_data() {
        Ok(data) => data,
        Err(error) => panic!("a tensor cannot be read from its device: {error}"),
    }
}

/// Values of a tensor in row-major order.
///
/// # Panics
/// The device failed before the tensor was computed.
pub fn to_f32<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    match t.try_into_vec_as::<f32>() {
        Ok(values) => values,
        // Reading fails when the device has failed; there is no result to continue with.
        Err(error) => panic!("a tensor cannot be read from its device: {error}"),
    }
}
