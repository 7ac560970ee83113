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
    /// Decoupled weight decay, applied to matrices and not to norms.
    pub weight_decay: f64,
}

/// Moments of every parameter, in f32, in the parameters' order.
#[derive(Clone, Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    /// Updates made so far.
    pub updates: usize,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
}

impl AdamW {
    /// An optimizer that has seen nothing.
    pub fn new(settings: AdamWSettings, parameters: &[Tensor<2>]) -> Self {
        let zeros = || {
            parameters
                .iter()
                .map(|p| as_dtype(p.zeros_like(), DType::F32))
                .collect()
        };
        Self {
            settings,
            updates: 0,
            first: zeros(),
            second: zeros(),
        }
    }

    /// One update; answers the new parameters.
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
            "a gradient per parameter is wanted"
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
            let is_matrix = parameter.dims()[0] > 1;
            self.first[i]
                .inplace(|m| m.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1));
            self.second[i]
                .inplace(|v| v.mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2));
            if weight_decay != 0.0 && is_matrix {
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

    /// Puts saved moments back.
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
/// `clip_grad_norm_`; 0 leaves them) and answers the norm before that.
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
