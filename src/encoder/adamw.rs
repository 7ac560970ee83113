//! The optimizer of [`super::pretrain()`].

use std::collections::HashMap;

use burn::tensor::{Gradients, Tensor};

use super::bert::is_vector;

/// AdamW (Loshchilov & Hutter 2019) with β 0.9 and 0.999, ε 1e-8, and the
/// gradient's norm clipped over all parameters. Vectors do not decay.
pub struct AdamW {
    weight_decay: f64,
    max_grad_norm: f64,
    /// First and second moment by parameter name.
    moments: HashMap<String, (Tensor<2>, Tensor<2>)>,
    step: i32,
    learning_rate: f64,
    gradient_scale: f64,
}

impl AdamW {
    const BETA1: f64 = 0.9;
    const BETA2: f64 = 0.999;
    const EPSILON: f64 = 1e-8;

    /// No step taken yet.
    pub fn new(weight_decay: f64, max_grad_norm: f64) -> AdamW {
        AdamW {
            weight_decay,
            max_grad_norm,
            moments: HashMap::new(),
            step: 0,
            learning_rate: 0.0,
            gradient_scale: 1.0,
        }
    }

    /// Counts a step and measures the gradient over all of its parameters.
    pub fn begin_step(
        &mut self,
        learning_rate: f64,
        parameters: impl Iterator<Item = Tensor<2>>,
        gradients: &Gradients,
    ) {
        self.step += 1;
        self.learning_rate = learning_rate;
        let squares: f64 = parameters
            .filter_map(|tensor| tensor.grad(gradients))
            .map(|gradient| f64::from(gradient.square().sum().into_scalar::<f32>()))
            .sum();
        self.gradient_scale = (self.max_grad_norm / (squares.sqrt() + 1e-6)).min(1.0);
    }

    /// The parameter after this step; unchanged if it has no gradient.
    pub fn update(&mut self, name: &str, tensor: Tensor<2>, gradients: &Gradients) -> Tensor<2> {
        let Some(gradient) = tensor.grad(gradients) else {
            return tensor;
        };
        let gradient = gradient.mul_scalar(self.gradient_scale);
        let (first, second) = self
            .moments
            .remove(name)
            .unwrap_or_else(|| (gradient.zeros_like(), gradient.zeros_like()));
        let first = first.mul_scalar(Self::BETA1) + gradient.clone().mul_scalar(1.0 - Self::BETA1);
        let second =
            second.mul_scalar(Self::BETA2) + gradient.square().mul_scalar(1.0 - Self::BETA2);
        let first_hat = first.clone().div_scalar(1.0 - Self::BETA1.powi(self.step));
        let second_hat = second.clone().div_scalar(1.0 - Self::BETA2.powi(self.step));
        let update = first_hat / (second_hat.sqrt().add_scalar(Self::EPSILON));
        self.moments.insert(name.to_owned(), (first, second));
        let decay = if is_vector(name) {
            0.0
        } else {
            self.learning_rate * self.weight_decay
        };
        let updated =
            tensor.inner().mul_scalar(1.0 - decay) - update.mul_scalar(self.learning_rate);
        updated.autodiff()
    }
}
