//! Sampling, for training and for answering the evaluation set, and the rewards after it.
//!
//! Follows `generate` (src/rollout/mod.rs): prompts are processed in batches of whole groups, or of a part of
//! one; one batch at a time on a device, one per core on the CPU. A batch is fullest at its prefill or at its
//! last token, when every completion has its full length.

use super::layer::{Tokens, decode_bytes, input_bytes, layout_bytes, prefill_bytes};
use super::limits::{CACHE_GROWTH, CPU_ROLLOUT_ROWS, FEW_ROWS};
use super::peak::{Component, Moment, Peak};
use super::shape::Inputs;
use super::weights::{
    F32, adapter_bytes, dense_copy_for, encoder_work_bytes, resting, with_reserve,
};
use crate::experiment::TargetModule;

/// Bytes of a candidate token while sampling on the host: its id and its probability.
const CANDIDATE_BYTES: f64 = 16.0;

/// The amount that is sampled.
struct Sampling {
    /// Prompts of one rollout.
    prompts: usize,
    /// Completions of each.
    group: usize,
    /// The most completions that are decoded together.
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
        max_rows: inputs.sizes.rollout_rows,
        length: inputs.completion_length,
    };
    let rewards = resting("rewards of the completions", inputs)
        .with(Component::Encoder, encoder_work_bytes(inputs));
    let moments = moments(inputs, &sampling).into_iter().chain([rewards]);
    Moment::peak(moments.map(|moment| with_reserve(moment, inputs)))
}

/// The fullest moment of answering the evaluation set, which is assumed to fill its batches.
pub(super) fn inference(inputs: &Inputs) -> Peak {
    let sampling = Sampling {
        prompts: usize::MAX,
        group: 1,
        max_rows: inputs.sizes.answered_together,
        length: inputs.answer_length,
    };
    Moment::peak(moments(inputs, &sampling).map(|moment| with_reserve(moment, inputs)))
}

/// The resting memory while sampling, which includes a copy of the adapter in the type of the
/// activations.
fn while_sampling(name: &'static str, inputs: &Inputs) -> Moment {
    let narrow = match inputs.value_bytes {
        4 => 0.0,
        bytes => adapter_bytes(inputs) * bytes as f64 / F32,
    };
    resting(name, inputs).with(Component::Adapter, narrow)
}

fn moments(inputs: &Inputs, sampling: &Sampling) -> [Moment; 3] {
    let group = sampling.group.max(1);
    let rows = if inputs.is_cpu {
        sampling.max_rows.min(CPU_ROLLOUT_ROWS)
    } else {
        sampling.max_rows
    };
    let rows = rows.max(1);
    let prompts = sampling.prompts.max(1);
    let (in_batch, samples) = ((rows / group).clamp(1, prompts), group.min(rows));
    // Parallel batches count like one large one: everything grows with their number.
    let batches = prompts
        .div_ceil(in_batch)
        .saturating_mul(group.div_ceil(samples))
        .min(inputs.workers.max(1));
    let most = if samples == group {
        prompts
    } else {
        usize::MAX
    };
    let at_once = in_batch.saturating_mul(batches).min(most) as f64;
    let rows_of_batch = in_batch.saturating_mul(samples);
    let tokens = Tokens {
        prompts: at_once,
        prompt_width: inputs.prompt_length as f64,
        rows: at_once * samples as f64,
        // The last token is sampled but not fed back.
        completion_width: sampling.length.saturating_sub(1) as f64,
    };
    // Blocks and chunks are those of one batch.
    let prompts_of_batch = Tokens {
        prompts: in_batch as f64,
        rows: 0.0,
        completion_width: 0.0,
        ..tokens
    };
    let (layers, value) = (
        inputs.decoder.num_hidden_layers as f64,
        inputs.value_bytes as f64,
    );
    // A key and a value per token, layer and key head.
    let per_token = 2.0 * layers * inputs.decoder.key_value_size() as f64 * value;
    let columns = sampling
        .length
        .saturating_sub(1)
        .checked_next_multiple_of(CACHE_GROWTH)
        .unwrap_or(usize::MAX) as f64;
    let prompt_cache = tokens.of_prompts() * per_token;
    let own_cache = tokens.rows * columns * per_token;
    let batches = (at_once / in_batch as f64).max(1.0);
    let prefill_work = prefill_bytes(inputs, &prompts_of_batch)
        + input_bytes(inputs, &prompts_of_batch)
        + layout_bytes(inputs, &prompts_of_batch);

    let prefill = while_sampling("the prompts", inputs)
        .with(Component::KvCache, prompt_cache)
        .with(Component::LayerWork, batches * prefill_work);
    let work = decode_bytes(inputs, &tokens, columns)
        + batches * dense_copy_for(inputs, TargetModule::ALL, rows_of_batch as f64);
    let grown = while_sampling("the last tokens of the completions", inputs)
        .with(Component::KvCache, prompt_cache + own_cache)
        .with(Component::LayerWork, work);
    let logits = tokens.rows * inputs.decoder.vocab_size as f64;
    let drawn = if inputs.is_cpu {
        // With few rows, logits come weight by weight and are then laid out by row.
        let copy = if rows_of_batch <= FEW_ROWS {
            logits * F32
        } else {
            0.0
        };
        let candidates = inputs.decoder.vocab_size as f64 * CANDIDATE_BYTES;
        logits * F32 + copy.max(candidates * inputs.workers as f64)
    } else if inputs.value_bytes < 4 {
        // Computed in the model's type, then widened; sampling needs no copy.
        logits * (F32 + value)
    } else {
        logits * F32
    };
    let drawing = while_sampling("drawing the last token", inputs)
        .with(Component::KvCache, prompt_cache + own_cache)
        .with(Component::Head, drawn);
    [prefill, grown, drawing]
}
