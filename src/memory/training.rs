//! The training pass: forward, head, and the backward pass layer by layer.
//!
//! Follows `Learner::step` (src/grpo/update.rs). The groups of a micro-batch go through the model
//! as parts: one group each on the CPU, where as many as there are workers are under way at once;
//! elsewhere all of them as one.

use super::layer::{Tokens, backward_bytes, input_bytes, layout_bytes};
use super::peak::{Component, Moment, Peak};
use super::shape::Inputs;
use super::weights::{F32, adapter_bytes, dense_layer_bytes, resting, with_reserve};
use crate::model::LOGITS_PER_CHUNK;

/// Rows of logits that the head makes at least, however large the vocabulary.
const LEAST_ROWS_PER_CHUNK: usize = 16;

/// The fullest moment of a step.
pub(super) fn training(inputs: &Inputs) -> Peak {
    let groups = inputs.batch.prompts_per_micro_batch().max(1);
    let parts = if inputs.is_cpu { groups } else { 1 };
    let at_once = parts.min(inputs.workers) as f64;
    let groups_per_part = (groups / parts) as f64;
    let tokens = Tokens {
        prompts: groups_per_part,
        prompt_width: inputs.prompt_length as f64,
        rows: groups_per_part * inputs.batch.g as f64,
        completion_width: inputs.completion_length as f64,
    };
    let (parts, layers) = (parts as f64, inputs.decoder.num_hidden_layers as f64);
    let input = input_bytes(inputs, &tokens);
    let adapter = adapter_bytes(inputs);
    // Gradients of earlier micro-batches of the step.
    let earlier = if inputs.batch.a > 1 { adapter } else { 0.0 };
    // Hidden states that predict a token, and their gradient.
    let predicting =
        tokens.of_completions() * inputs.decoder.hidden_size as f64 * inputs.value_bytes as f64;
    // Beside the layer itself: the gradient of its output, and the two above until the end.
    let work = at_once * (backward_bytes(inputs, &tokens) + input + 2.0 * predicting)
        + dense_layer_bytes(inputs);
    let layout = parts * layout_bytes(inputs, &tokens);
    let one_layer = at_once * adapter / layers.max(1.0);

    // Every part has kept the inputs of all layers and the output of the last.
    let all_inputs = parts * (layers + 1.0) * input;
    let head = resting("log-probabilities of the completions", inputs)
        .with(Component::Gradients, earlier)
        .with(Component::LayerInputs, all_inputs)
        .with(Component::LayerWork, layout + at_once * 2.0 * predicting)
        .with(Component::Head, at_once * head_bytes(inputs, &tokens));
    let top = resting("backward pass of the last layer", inputs)
        .with(Component::Gradients, earlier + one_layer)
        .with(Component::LayerInputs, all_inputs)
        .with(Component::LayerWork, layout + work);
    // Inputs go as the layers are done; gradients of the parts stay until all parts have theirs.
    let bottom = resting("backward pass of the first layer", inputs)
        .with(Component::Gradients, earlier + parts * adapter)
        .with(Component::LayerInputs, at_once * 2.0 * input)
        .with(Component::LayerWork, at_once * layout / parts + work);
    Moment::peak([head, top, bottom].map(|moment| with_reserve(moment, inputs)))
}

/// Bytes of the logits of a chunk, twice: the softmax needs a second copy, and the chosen tokens'
/// log-probabilities are gathered from it (src/model/head.rs). In f32 whatever the model's type.
fn head_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let vocabulary = inputs.decoder.vocab_size.max(1);
    let chunk = (LOGITS_PER_CHUNK / vocabulary).max(LEAST_ROWS_PER_CHUNK) as f64;
    2.0 * chunk.min(tokens.of_completions()) * vocabulary as f64 * F32
}
