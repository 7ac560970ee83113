//! One decoder layer at work: how many values its buffers hold at the fullest moment.
//!
//! Follows `DecoderLayer` (src/model/layer.rs). Letters: T tokens of the part, P and C those of its
//! prompts and its completions, H hidden, Q and K the widths of all query and all key heads, I
//! inside the MLP. Scores of attention are by far the largest where texts are long:
//!
//! - s₁: prompts to themselves, `prompts · heads · P²`
//! - s₂: completions to [prompt ‖ own], `completions · heads · (width_p + width_c)` for each token,
//!   of which s_p go to the prompt and s_o to themselves.

use super::shape::Inputs;
use super::weights::{F32, linear_shape};
use crate::experiment::TargetModule;

/// Tokens that go through the model together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    /// Distinct prompts.
    pub prompts: f64,
    /// Tokens of each.
    pub prompt_width: f64,
    /// Completions.
    pub rows: f64,
    /// Tokens of each.
    pub completion_width: f64,
}

impl Tokens {
    pub(super) fn of_prompts(&self) -> f64 {
        self.prompts * self.prompt_width
    }

    pub(super) fn of_completions(&self) -> f64 {
        self.rows * self.completion_width
    }

    pub(super) fn all(&self) -> f64 {
        self.of_prompts() + self.of_completions()
    }
}

/// Widths of a layer as real numbers.
struct Widths {
    hidden: f64,
    queries: f64,
    keys: f64,
    inner: f64,
    heads: f64,
    head_dim: f64,
}

impl Widths {
    fn of(inputs: &Inputs) -> Self {
        let decoder = &inputs.decoder;
        Self {
            hidden: decoder.hidden_size as f64,
            queries: decoder.query_size() as f64,
            keys: decoder.key_value_size() as f64,
            inner: decoder.intermediate_size as f64,
            heads: decoder.num_attention_heads as f64,
            head_dim: decoder.head_dim as f64,
        }
    }
}

/// Values of the attention scores of a part.
struct Scores {
    /// Prompts to themselves.
    prompt: f64,
    /// Completions to their prompt.
    to_prompt: f64,
    /// Completions to themselves.
    to_own: f64,
}

impl Scores {
    fn of(tokens: &Tokens, heads: f64) -> Self {
        Self {
            prompt: tokens.of_prompts() * heads * tokens.prompt_width,
            to_prompt: tokens.of_completions() * heads * tokens.prompt_width,
            to_own: tokens.of_completions() * heads * tokens.completion_width,
        }
    }

    fn completion(&self) -> f64 {
        self.to_prompt + self.to_own
    }
}

/// What every layer of a part uses: cosines and sines of all positions and the two causal masks.
pub(super) fn layout_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let masks = tokens.prompt_width.powi(2) + tokens.completion_width.powi(2);
    let rotary = 2.0 * tokens.all() * inputs.decoder.head_dim as f64;
    (rotary + masks) * inputs.value_bytes as f64
}

/// Bytes of the input of a layer.
pub(super) fn input_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    tokens.all() * inputs.decoder.hidden_size as f64 * inputs.value_bytes as f64
}

/// Bytes that a layer holds while it is computed again under autodiff and differentiated, its
/// input left out.
///
/// Autodiff keeps, of attention: the scaled queries; keys and values by head; of each softmax the
/// shifted scores, their exponentials and the weights (three copies of s₁ and s₂); the weights to
/// the completions' own values once more, because they are cut out of a wider tensor. Of the MLP:
/// gate, its sigmoid, their product, up. What a linear layer reads is kept only where it carries
/// an adapter, whose gradient needs it. Four moments may be the fullest.
pub(super) fn backward_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let widths = Widths::of(inputs);
    let Widths {
        hidden,
        queries,
        keys,
        inner,
        heads,
        ..
    } = widths;
    let scores = Scores::of(tokens, heads);
    let all = tokens.all();
    let adapted = |modules: &[TargetModule]| {
        let is_adapted = modules
            .iter()
            .any(|module| inputs.lora_targets.contains(module));
        f64::from(u8::from(is_adapted))
    };
    // Dropout hands each adapter an input of its own, so the common one is not kept for it.
    let kept = |modules: &[TargetModule]| match inputs.has_dropout {
        true => 0.0,
        false => adapted(modules),
    };
    let of_heads = kept(&[
        TargetModule::QProj,
        TargetModule::KProj,
        TargetModule::VProj,
    ]);
    let of_output = kept(&[TargetModule::OProj]);
    let of_mlp = kept(&[TargetModule::GateProj, TargetModule::UpProj]);
    let of_down = kept(&[TargetModule::DownProj]);

    let adapters: f64 = inputs
        .lora_targets
        .iter()
        .map(|&module| {
            let (_, input) = linear_shape(module, &inputs.decoder);
            let masked = if inputs.has_dropout { 2.0 * input } else { 0.0 };
            inputs.lora_rank as f64 + masked
        })
        .sum();
    let cut = scores.to_own;
    let softmaxes = 3.0 * (scores.prompt + scores.completion());
    // What lives from the forward pass of attention until its backward pass.
    let lasting = all * (queries + 2.0 * keys + adapters + of_heads * hidden + of_output * queries)
        + softmaxes
        + cut;
    // `finish` holds the attended values and the normed residual until it returns.
    let forward_end = lasting
        + all
            * ((1.0 - of_output) * queries
                + 3.0 * hidden
                + adapted(&[TargetModule::DownProj]) * hidden
                + 5.0 * inner);
    // The gradient of the MLP's product meets gate, sigmoid, silu and up.
    let mlp = lasting + all * ((2.0 + of_mlp) * hidden + (5.0 + of_down) * inner);
    // From here the MLP is gone; the residual's gradient and that of the attended values are left.
    let attention = lasting + all * (hidden + (1.0 - of_output) * queries);
    let own_weights = attention + tokens.of_completions() * queries + scores.to_own;
    // The backward pass of a cut makes a zero tensor of the full width to write the part into.
    let softmax = attention - cut + scores.completion() + scores.to_prompt;
    let prompt = attention - 2.0 * scores.completion() + scores.prompt;
    let values = forward_end
        .max(mlp)
        .max(own_weights)
        .max(softmax)
        .max(prompt);
    // Norms are computed in f32: in a narrower type, autodiff keeps their input widened.
    let widened = if inputs.value_bytes < 4 {
        2.0 * all * hidden * F32
    } else {
        0.0
    };
    values * inputs.value_bytes as f64 + widened
}

/// Bytes that a layer holds over prompts alone, without autodiff, its input and its keys and
/// values left out: the rotation of queries and keys, two copies of the scores, or the MLP.
pub(super) fn prefill_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let widths = Widths::of(inputs);
    let all = tokens.all();
    let rotation = all * (widths.hidden + 3.0 * widths.queries + 2.0 * widths.keys);
    let scores = 2.0 * Scores::of(tokens, widths.heads).prompt;
    let mlp = all * (2.0 * widths.hidden + widths.queries + 3.0 * widths.inner);
    rotation.max(scores).max(mlp) * inputs.value_bytes as f64
}

/// Bytes that a layer holds over one new token of every completion: its own keys and values laid
/// out by group (three copies of one of them at a time where a group has several rows), and the
/// scores, joined before the softmax.
pub(super) fn decode_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let widths = Widths::of(inputs);
    let rows = tokens.rows;
    let own = match tokens.rows > tokens.prompts {
        true => tokens.of_completions() * widths.keys,
        false => 0.0,
    };
    let scores = rows * widths.heads * (tokens.prompt_width + tokens.completion_width);
    let token = rows
        * (3.0 * widths.hidden + 2.0 * widths.queries + 3.0 * widths.inner + 4.0 * widths.head_dim);
    let attention = (3.0 * own).max(2.0 * own + scores).max(own + 2.0 * scores);
    (attention + token) * inputs.value_bytes as f64
}
