//! The rules of `[grpo]`: the batch, the optimizer, the loss.

use super::Rules;
use crate::experiment::batch::BatchUnit;
use crate::experiment::choices::LossType;

impl Rules<'_> {
    pub(super) fn batch(&mut self) {
        let grpo = &self.experiment.grpo;
        let batch = self.experiment.batch();
        self.require(
            "grpo.num_generations",
            grpo.num_generations >= 2,
            "GRPO compares the completions of a group with each other, so a group needs at least 2",
            "write 2 or more",
        );
        self.at_least_one(
            "grpo.per_device_train_batch_size",
            grpo.per_device_train_batch_size,
        );
        self.at_least_one(
            "grpo.gradient_accumulation_steps",
            grpo.gradient_accumulation_steps,
        );
        if batch.b >= 1 && batch.g >= 2 {
            self.require_together(
                &[
                    "grpo.per_device_train_batch_size",
                    "grpo.num_generations",
                    "grpo.batch_unit",
                ],
                batch.unit == BatchUnit::Prompts || batch.b.is_multiple_of(batch.g),
                format!(
                    "B = {} completions is not a multiple of G = num_generations = {}, so a group \
                     would be split",
                    batch.b, batch.g
                ),
                format!(
                    "{}; batch_unit = \"prompts\" has no such rule",
                    batch.suggestion()
                ),
            );
        }
        self.at_least_one("grpo.num_train_epochs", grpo.num_train_epochs);
        self.steps("grpo.max_steps", grpo.max_steps);
        self.at_least_one("grpo.num_iterations", grpo.num_iterations);
        if let Some(steps) = grpo.steps_per_generation {
            let accumulation = grpo.gradient_accumulation_steps;
            self.require_together(
                &["grpo.steps_per_generation", "grpo.gradient_accumulation_steps"],
                steps > 0 && accumulation > 0 && steps.is_multiple_of(accumulation),
                format!(
                    "S = {steps} micro-batches per generation is not a multiple of A = {accumulation}, so an \
                     optimizer step would start in one generation and end in the next"
                ),
                "write a multiple of A, or remove steps_per_generation",
            );
        }
    }

    pub(super) fn grpo_numbers(&mut self) {
        let grpo = &self.experiment.grpo;
        self.learning_rate("grpo.learning_rate", grpo.learning_rate);
        self.fraction("grpo.warmup_ratio", grpo.warmup_ratio);
        self.require_together(
            &["grpo.warmup_ratio", "grpo.warmup_steps"],
            grpo.warmup_steps == 0 || grpo.warmup_ratio == 0.0,
            format!("warmup_steps = {} is set as well", grpo.warmup_steps),
            "keep one of the two",
        );
        self.warmup(
            "grpo",
            grpo.lr_scheduler_type,
            grpo.warmup_steps > 0 || grpo.warmup_ratio > 0.0,
        );
        self.below_one("grpo.adam_beta1", grpo.adam_beta1);
        self.below_one("grpo.adam_beta2", grpo.adam_beta2);
        self.above_zero("grpo.adam_epsilon", grpo.adam_epsilon);
        self.not_negative("grpo.weight_decay", grpo.weight_decay);
        self.not_negative("grpo.max_grad_norm", grpo.max_grad_norm);
        self.not_negative("grpo.beta", grpo.beta);
        self.require(
            "grpo.epsilon",
            grpo.epsilon > 0.0 && grpo.epsilon < 1.0,
            "is out of range",
            "write a number between 0 and 1, e.g. 0.2",
        );
        if let Some(epsilon_high) = grpo.epsilon_high {
            self.above_zero("grpo.epsilon_high", epsilon_high);
        }
        self.require_together(
            &["grpo.loss_type", "grpo.epsilon_high"],
            grpo.loss_type != LossType::Cispo || grpo.epsilon_high.is_some(),
            "cispo clips the ratio at epsilon_high itself, and without it epsilon would clip almost all",
            "set grpo.epsilon_high = 5.0, as its authors do",
        );
        self.require(
            "grpo.top_entropy_quantile",
            grpo.top_entropy_quantile > 0.0 && grpo.top_entropy_quantile <= 1.0,
            "is out of range",
            "write a number above 0 and up to 1; 0.2 keeps the fifth of the tokens with the highest entropy",
        );
        if let Some(threshold) = grpo.off_policy_mask_threshold {
            self.above_zero("grpo.off_policy_mask_threshold", threshold);
        }
        self.above_zero("grpo.sapo_temperature_pos", grpo.sapo_temperature_pos);
        self.above_zero("grpo.sapo_temperature_neg", grpo.sapo_temperature_neg);
        self.not_negative("grpo.vespo_k_pos", grpo.vespo_k_pos);
        self.not_negative("grpo.vespo_lambda_pos", grpo.vespo_lambda_pos);
        self.not_negative("grpo.vespo_k_neg", grpo.vespo_k_neg);
        self.not_negative("grpo.vespo_lambda_neg", grpo.vespo_lambda_neg);
        if let Some(delta) = grpo.delta {
            self.require(
                "grpo.delta",
                delta > 1.0,
                "limits the probability ratio, which is 1 when nothing has changed",
                "write a number above 1, e.g. 1 + epsilon or more",
            );
        }
    }
}
