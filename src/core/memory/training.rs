//! The training pass: forward, head, and the backward pass layer by layer.
//!
//! Follows `Learner::step` (src/grpo/update.rs). A micro-batch goes through the model in parts
//! ([`Sizes::rows_per_part`]); on the CPU each worker runs one part at a time.
//!
//! [`Sizes::rows_per_part`]: super::Sizes::rows_per_part

use super::layer::{Tokens, backward_bytes, input_bytes, layout_bytes};
use super::limits::LOGITS_PER_CHUNK;
use super::peak::{Component, Moment, Peak};
use super::shape::Inputs;
use super::weights::{F32, adapter_bytes, resting, with_reserve};

/// The fewest rows of logits in a chunk of the head, however large the vocabulary.
const LEAST_ROWS_PER_CHUNK: usize = 16;

/// Bytes of a token's key of dropout.
const DROPOUT_KEY_BYTES: f64 = 8.0;

/// The parts of a micro-batch.
struct Parts {
    number: usize,
    at_once: usize,
    /// Whether all of them keep the tensors of the forward pass of the log-probabilities; otherwise
    /// these are recomputed.
    are_kept: bool,
    /// Of one part.
    tokens: Tokens,
}

impl Parts {
    fn of(inputs: &Inputs) -> Self {
        let groups = inputs.batch.prompts_per_micro_batch().max(1);
        let size = inputs.batch.g.max(1);
        let whole = inputs.largest_part();
        let rows = inputs.sizes.rows_per_part.unwrap_or(whole).min(whole);
        let (groups_of_part, samples) = match rows / size {
            0 => (1, rows.max(1)),
            groups_of_part => (groups_of_part.min(groups), size),
        };
        let number = groups
            .div_ceil(groups_of_part)
            .saturating_mul(size.div_ceil(samples));
        let at_once = number.min(inputs.workers.max(1));
        Self {
            number,
            at_once,
            are_kept: inputs.sizes.rows_per_part.is_none() || number <= at_once,
            tokens: Tokens {
                prompts: groups_of_part as f64,
                prompt_width: inputs.prompt_length as f64,
                rows: groups_of_part as f64 * samples as f64,
                completion_width: inputs.completion_length as f64,
            },
        }
    }
}

/// The tokens that go through the model together.
pub(super) fn tokens_of_part(inputs: &Inputs) -> Tokens {
    Parts::of(inputs).tokens
}

/// The fullest moment of a step.
pub(super) fn training(inputs: &Inputs) -> Peak {
    let parts = Parts::of(inputs);
    let tokens = &parts.tokens;
    let (number, at_once) = (parts.number as f64, parts.at_once as f64);
    let kept = if parts.are_kept { number } else { at_once };
    let layers = inputs.decoder.num_hidden_layers as f64;
    let input = input_bytes(inputs, tokens);
    let adapter = adapter_bytes(inputs);
    // Gradients of earlier micro-batches of the step, and of the finished parts.
    let earlier = if inputs.batch.a > 1 { adapter } else { 0.0 };
    let done = if parts.number > parts.at_once {
        adapter
    } else {
        0.0
    };
    // Hidden states that predict a token, and their gradient.
    let predicting =
        tokens.of_completions() * inputs.decoder.hidden_size as f64 * inputs.value_bytes as f64;
    let work = at_once * backward_bytes(inputs, tokens);
    let keys = if inputs.has_dropout {
        tokens.all() * DROPOUT_KEY_BYTES
    } else {
        0.0
    };
    let layout = layout_bytes(inputs, tokens) + keys;
    let one_layer = at_once * adapter / layers.max(1.0);

    // A part keeps the inputs of all layers and the output of the last. With offloading, only that
    // output and the input of the current layer stay on the device.
    let is_offloaded = inputs.offloads_layer_inputs && !inputs.is_cpu;
    let inputs_of = |parts: f64| {
        if is_offloaded {
            (parts + at_once) * input
        } else {
            parts * (layers + 1.0) * input
        }
    };
    let head = resting("log-probabilities of the completions", inputs)
        .with(Component::Gradients, earlier)
        .with(Component::LayerInputs, inputs_of(kept))
        .with(
            Component::LayerWork,
            kept * layout + at_once * 2.0 * predicting,
        )
        .with(Component::Head, at_once * head_bytes(inputs, tokens));
    let top = |parts_with_inputs: f64, gradients: f64| {
        resting("backward pass of the last layer", inputs)
            .with(Component::Gradients, gradients + one_layer)
            // The parts in progress have freed the output of the last layer.
            .with(
                Component::LayerInputs,
                inputs_of(parts_with_inputs) - at_once * input,
            )
            .with(Component::LayerWork, parts_with_inputs * layout + work)
    };
    let first = top(kept, earlier);
    // Once a part is done, there is a sum of gradients; if inputs are recomputed, the next part's
    // inputs replace its own.
    let left = if parts.are_kept {
        (number - 1.0).max(at_once)
    } else {
        at_once
    };
    let later = top(left, earlier + done);
    // Inputs are freed as the layers are done, except that of the current layer.
    let bottom = resting("backward pass of the first layer", inputs)
        .with(Component::Gradients, earlier + done + at_once * adapter)
        .with(Component::LayerInputs, at_once * input)
        .with(Component::LayerWork, at_once * layout + work);
    // The old state stays until the new one is known to be complete.
    let update = resting("update of the adapter", inputs)
        .with(Component::Adapter, adapter)
        .with(Component::Optimizer, 2.0 * adapter);
    let moments = if parts.number > parts.at_once {
        vec![head, first, later, bottom, update]
    } else {
        vec![head, first, bottom, update]
    };
    Moment::peak(
        moments
            .into_iter()
            .map(|moment| with_reserve(moment, inputs)),
    )
}

/// Bytes of the logits of a chunk: in f32, and in the model's type if it is narrower, in which they are
/// computed and their gradient is used (src/model/head.rs).
fn head_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let narrow = match inputs.value_bytes {
        4 => 0.0,
        bytes => bytes as f64,
    };
    logits_bytes(inputs, tokens) * (F32 + narrow) / F32
}

/// Bytes of the logits of a chunk in f32.
pub(super) fn logits_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let vocabulary = inputs.decoder.vocab_size.max(1);
    let chunk = (LOGITS_PER_CHUNK / vocabulary).max(LEAST_ROWS_PER_CHUNK) as f64;
    chunk.min(tokens.of_completions()) * vocabulary as f64 * F32
}
