//! AdamW (Loshchilov & Hutter 2019) as torch computes it, over a list of tensors.

use anyhow::{Context, Result, ensure};
use burn::tensor::{DType, Device, Tensor};

use crate::model::{as_dtype, to_f32};

/// Constants of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, applied to parameters that [`AdamW::without_decay_of_norms`] does not exempt.
    pub weight_decay: f64,
}

/// Moments of every parameter, in f32, in the parameters' order.
#[derive(Clone, Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    /// Whether each parameter decays.
    decays: Vec<bool>,
    /// Updates made so far.
    pub updates: usize,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
}

impl AdamW {
    /// An optimizer before its first update. Every parameter decays, as the factors of an adapter do.
    pub fn new(settings: AdamWSettings, parameters: &[Tensor<2>]) -> Self {
        let zeros = || {
            parameters
                .iter()
                .map(|p| as_dtype(p.zeros_like(), DType::F32))
                .collect()
        };
        Self {
            settings,
            decays: vec![true; parameters.len()],
            updates: 0,
            first: zeros(),
            second: zeros(),
        }
    }

    /// Exempts norms and biases from weight decay, as transformers' `get_decay_parameter_names` does.
    /// `names` are those of the checkpoint, in the parameters' order.
    #[must_use]
    pub fn without_decay_of_norms(mut self, names: &[String]) -> Self {
        self.decays = names.iter().map(|name| !is_norm_or_bias(name)).collect();
        self
    }

    /// One update. Returns the new parameters.
    ///
    /// # Errors
    /// A gradient is missing.
    pub fn step(
        &mut self,
        parameters: Vec<Tensor<2>>,
        gradients: Vec<Tensor<2>>,
        learning_rate: f64,
    ) -> Result<Vec<Tensor<2>>> {
        ensure!(
            parameters.len() == gradients.len(),
            "a gradient per parameter is required"
        );
        self.updates += 1;
        let AdamWSettings {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.settings;
        let correction1 = 1.0 - beta1.powi(self.updates as i32);
        let correction2 = (1.0 - beta2.powi(self.updates as i32)).sqrt();
        let mut updated = Vec::with_capacity(parameters.len());
        for (i, (parameter, gradient)) in parameters.into_iter().zip(gradients).enumerate() {
            let dtype = parameter.dtype();
            let gradient = as_dtype(gradient, DType::F32);
            let mut parameter = as_dtype(parameter, DType::F32);
            self.first[i]
                .inplace(|m| m.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1));
            self.second[i]
                .inplace(|v| v.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2));
            if weight_decay != 0.0 && self.decays[i] {
                parameter = parameter.mul_scalar(1.0 - learning_rate * weight_decay);
            }
            let denominator = self.second[i]
                .clone()
                .sqrt()
                .div_scalar(correction2)
                .add_scalar(epsilon);
            let step =
                (self.first[i].clone() / denominator).mul_scalar(learning_rate / correction1);
            updated.push(as_dtype(parameter - step, dtype));
        }
        Ok(updated)
    }

    /// First and second moments, for saving.
    pub fn moments(&self) -> (&[Tensor<2>], &[Tensor<2>]) {
        (&self.first, &self.second)
    }

    /// Restores saved moments.
    ///
    /// # Errors
    /// Not as many moments as parameters.
    pub fn restore(
        &mut self,
        updates: usize,
        first: Vec<Tensor<2>>,
        second: Vec<Tensor<2>>,
    ) -> Result<()> {
        (first.len() == self.first.len() && second.len() == self.second.len())
            .then_some(())
            .context("the saved optimizer state belongs to other parameters")?;
        self.updates = updates;
        self.first = first;
        self.second = second;
        Ok(())
    }
}

/// Whether transformers takes a parameter of this name for a norm or a bias: `…layernorm…`,
/// `…rmsnorm…`, `…bias…`, and `norm` or `…_norm` as a whole part of the path.
fn is_norm_or_bias(name: &str) -> bool {
    let name = name.to_lowercase();
    ["bias", "layernorm", "rmsnorm"]
        .iter()
        .any(|word| name.contains(word))
        || name
            .split('.')
            .any(|part| part == "norm" || part.ends_with("_norm"))
}

/// Adds the gradients of a micro-batch to those so far.
pub fn accumulate(sum: Option<Vec<Tensor<2>>>, gradients: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    match sum {
        None => gradients,
        Some(sum) => sum.into_iter().zip(gradients).map(|(a, b)| a + b).collect(),
    }
}

/// The sum of squares, `[1]` in f32.
fn sum_of_squares(gradient: &Tensor<2>) -> Tensor<1> {
    let squares = as_dtype(gradient.clone(), DType::F32).square();
    if squares.device() == Device::flex() {
        return squares.sum();
    }
    // On a GPU `sum` adds with atomics, in another order each time: a resumed run would not be the same.
    squares.sum_dim(1).sum_dim(0).reshape([1])
}

/// Scales gradients down to a global norm of at most `max_norm` (torch's
/// `clip_grad_norm_`; 0 leaves them). Returns the norm before that as well.
pub fn clip_gradient_norm(gradients: Vec<Tensor<2>>, max_norm: f64) -> (Vec<Tensor<2>>, f64) {
    let squares: Vec<Tensor<1>> = gradients.iter().map(sum_of_squares).collect();
    if squares.is_empty() {
        return (gradients, 0.0);
    }
    // One transfer for all of them, summed in a fixed order.
    let norm = to_f32(Tensor::cat(squares, 0))
        .into_iter()
        .map(f64::from)
        .sum::<f64>()
        .sqrt();
    let scale = max_norm / (norm + 1e-6);
    if max_norm <= 0.0 || scale >= 1.0 || !norm.is_finite() {
        return (gradients, norm);
    }
    (
        gradients
            .into_iter()
            .map(|gradient| gradient.mul_scalar(scale))
            .collect(),
        norm,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Compute;
    use crate::model::f32_tensor;

    /// Decoupled decay (Loshchilov and Hutter 2019): p = 2, gradient 0, one step is 2·(1 − 0.1·0.5).
    #[test]
    fn both_factors_of_an_adapter_of_rank_one_decay() {
        let compute = Compute::cpu();
        let settings = AdamWSettings {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.5,
        };
        // A is [r, in], B is [out, r].
        let parameters = || {
            let of = |shape| f32_tensor(vec![2.0; 3], shape, &compute);
            vec![of([1, 3]), of([3, 1])]
        };
        let zeros = || parameters().iter().map(Tensor::zeros_like).collect();
        let step = |mut optimizer: AdamW| -> Vec<f32> {
            let updated = optimizer.step(parameters(), zeros(), 0.1).unwrap();
            updated.into_iter().flat_map(to_f32).collect()
        };
        let adapter = AdamW::new(settings, &parameters());
        assert_eq!(step(adapter.clone()), [1.9; 6]);
        let names = ["model.norm.weight", "model.embed_tokens.weight"].map(str::to_owned);
        let spared = step(adapter.without_decay_of_norms(&names));
        assert_eq!(spared, [2.0, 2.0, 2.0, 1.9, 1.9, 1.9]);
    }

    #[test]
    fn norms_and_biases_are_known_by_their_names() {
        for name in [
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.self_attn.q_norm.weight",
            "model.norm.weight",
            "encoder.layer.0.attention.output.LayerNorm.weight",
            "encoder.layer.0.attention.self.query.bias",
        ] {
            assert!(is_norm_or_bias(name), "{name}");
        }
        for name in [
            "model.layers.0.self_attn.q_proj.weight",
            "embeddings.token_type_embeddings.weight",
            "model.normal.weight",
        ] {
            assert!(!is_norm_or_bias(name), "{name}");
        }
    }
}
