//! Sampling, for training and for answering the evaluation set, and the rewards after it.
//!
//! Follows `generate` (src/rollout/mod.rs): prompts go in batches of whole groups, one batch at a
//! time on a device, one a core on the CPU. A batch is fullest at its prefill or at its last
//! token, when every completion is as long as it may become.

use super::layer::{Tokens, decode_bytes, input_bytes, layout_bytes, prefill_bytes};
use super::peak::{Component, Moment, Peak};
use super::shape::Inputs;
use super::weights::{F32, dense_layer_bytes, encoder_work_bytes, resting, with_reserve};
use crate::model::{CACHE_GROWTH, CPU_ROLLOUT_ROWS, MAX_ROLLOUT_ROWS};

/// Bytes that a candidate token takes while it is drawn on the host: its id and its probability.
const CANDIDATE_BYTES: f64 = 16.0;

/// What is sampled.
struct Sampling {
    /// Prompts of one rollout.
    prompts: usize,
    /// Completions of each.
    group: usize,
    /// Completions decoded together at most.
    max_rows: usize,
    /// Tokens of a completion.
    length: usize,
}

/// The fullest moment of a rollout and its rewards.
pub(super) fn rollout(inputs: &Inputs) -> Peak {
    let batch = &inputs.batch;
    let sampling = Sampling {
        prompts: batch.prompts_per_micro_batch().saturating_mul(batch.a),
        group: batch.g,
        max_rows: MAX_ROLLOUT_ROWS,
        length: inputs.completion_length,
    };
    let rewards = resting("rewards of the completions", inputs)
        .with(Component::Encoder, encoder_work_bytes(inputs));
    let moments = moments(inputs, &sampling).into_iter().chain([rewards]);
    Moment::peak(moments.map(|moment| with_reserve(moment, inputs)))
}

/// The fullest moment of answering the evaluation set, which is taken to fill its batches.
pub(super) fn inference(inputs: &Inputs) -> Peak {
    let sampling = Sampling {
        prompts: usize::MAX,
        group: 1,
        max_rows: inputs.answered_together,
        length: inputs.answer_length,
    };
    Moment::peak(moments(inputs, &sampling).map(|moment| with_reserve(moment, inputs)))
}

fn moments(inputs: &Inputs, sampling: &Sampling) -> [Moment; 2] {
    let group = sampling.group.max(1);
    let rows = match inputs.is_cpu {
        true => sampling.max_rows.min(CPU_ROLLOUT_ROWS),
        false => sampling.max_rows,
    };
    let prompts = sampling.prompts.max(1);
    let in_batch = (rows / group).clamp(1, prompts);
    let at_once = in_batch.saturating_mul(inputs.workers).min(prompts) as f64;
    // Batches side by side are as one large one: all of it grows with the number of prompts.
    let tokens = Tokens {
        prompts: at_once,
        prompt_width: inputs.prompt_length as f64,
        rows: at_once * group as f64,
        // The last token is drawn and not fed again.
        completion_width: sampling.length.saturating_sub(1) as f64,
    };
    let only_prompts = Tokens {
        rows: 0.0,
        completion_width: 0.0,
        ..tokens
    };
    let (layers, value) = (
        inputs.decoder.num_hidden_layers as f64,
        inputs.value_bytes as f64,
    );
    // A key and a value a token, layer and key head.
    let per_token = 2.0 * layers * inputs.decoder.key_value_size() as f64 * value;
    let columns = sampling
        .length
        .saturating_sub(1)
        .checked_next_multiple_of(CACHE_GROWTH)
        .unwrap_or(usize::MAX) as f64;
    let prompt_cache = tokens.of_prompts() * per_token;
    let own_cache = tokens.rows * columns * per_token;

    let prefill = resting("the prompts", inputs)
        .with(Component::KvCache, prompt_cache)
        .with(
            Component::LayerWork,
            prefill_bytes(inputs, &only_prompts)
                + input_bytes(inputs, &only_prompts)
                + layout_bytes(inputs, &only_prompts)
                + dense_layer_bytes(inputs),
        );
    let logits = tokens.rows * inputs.decoder.vocab_size as f64;
    // While a layer is at work, the logits before are there still; they go once the new ones are
    // read. At that time the layer's work is done, so the fuller of the two counts.
    let (kept, read) = match inputs.is_cpu {
        true => (F32, 3.0 * F32),
        // Logits are made in the model's type and widened; the host has the copy that is read.
        false => (0.0, F32 + value),
    };
    let drawn = match inputs.is_cpu {
        true => inputs.decoder.vocab_size as f64 * inputs.workers as f64 * CANDIDATE_BYTES,
        false => 0.0,
    };
    let work = decode_bytes(inputs, &tokens) + dense_layer_bytes(inputs);
    let reading = ((read - kept) * logits).max(drawn);
    let (work, reading) = if work > reading {
        (work, 0.0)
    } else {
        (0.0, reading)
    };
    let last = resting("the last token of the completions", inputs)
        .with(Component::KvCache, prompt_cache + own_cache)
        .with(Component::LayerWork, work)
        .with(Component::Head, kept * logits + reading);
    [prefill, last]
}
