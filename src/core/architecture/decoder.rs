//! `config.json` of a Hugging Face folder, as far as the decoder uses it. A missing key has the
//! default of transformers, and a feature that would be computed wrongly is refused.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::family::Family;
use super::quantized::stored_in_nf4;

#[cfg(test)]
mod tests;

/// Sizes above this are refused: the product of two of them and [`MOST_LAYERS`] fits easily in 64 bits.
const LARGEST_SIZE: u64 = 1 << 24;

/// More layers than this are refused, since the names of each layer are searched.
const MOST_LAYERS: usize = 4096;

/// Shape and constants of a decoder, with the names of Llama's checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Determines the additions to Llama and the names of the tensors.
    pub family: Family,
    /// Tokens of the embedding and the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; query heads share them in equal groups.
    pub num_key_value_heads: usize,
    /// Width of a head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Added to the mean square before the root in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Long-context rescaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// The longest text that the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of freshly initialised weights.
    pub initializer_range: f64,
    /// Whether the folder's linear layers are stored in NF4, as transformers saves them.
    pub stored_in_nf4: bool,
}

/// How the linear layers of the base model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// In the type of the activations.
    Dense,
    /// Four bits per weight in blocks of 64, each with a scale: 4.5 bits per weight with scales in
    /// f32, 4.127 with scales in 8 bits (QLoRA, arXiv 2305.14314, section 3).
    Nf4 {
        /// Whether scales are stored in 8 bits.
        double_quant: bool,
    },
}

/// `rope_scaling` / `rope_parameters`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Plain rotary embedding.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// Above 1 for longer texts.
        factor: f64,
    },
    /// Llama 3's frequency-dependent rescaling.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// A wavelength above `original_max_position_embeddings / low_freq_factor` is divided fully.
        low_freq_factor: f64,
        /// A wavelength below `original_max_position_embeddings / high_freq_factor` stays unchanged.
        high_freq_factor: f64,
        /// The longest text of the original model, in tokens.
        original_max_position_embeddings: f64,
    },
}

impl LlamaConfig {
    /// Reads `config.json` of the folder `model_dir`.
    ///
    /// # Errors
    /// The file is missing or malformed, a key is missing, or the model needs something that this
    /// decoder does not support; the message names it.
    pub fn from_dir(model_dir: &Path) -> Result<Self> {
        let path = model_dir.join("config.json");
        let text = crate::regular_file::read_to_string(&path).with_context(|| {
            format!("{}: cannot be read; model.path must be a Hugging Face folder (config.json, tokenizer.json, *.safetensors)", path.display())
        })?;
        let json: Value = serde_json::from_str(&text)
            .with_context(|| format!("{}: not valid JSON", path.display()))?;
        Self::from_json(&json).with_context(|| path.display().to_string())
    }

    /// Reads the parsed `config.json`.
    ///
    /// # Errors
    /// As [`LlamaConfig::from_dir`].
    pub fn from_json(json: &Value) -> Result<Self> {
        let family = Family::of(json)?;
        let keys = Keys::of(family);
        let max_position_embeddings = optional_positive(json, "max_position_embeddings")?
            .unwrap_or(keys.default_max_position_embeddings);
        refuse_unsupported(json, family, keys.hidden_act)?;
        refuse_windows(json, family, max_position_embeddings)?;
        let (rope_theta, rope_scaling) = rope(json)?;
        let config = Self {
            family,
            vocab_size: positive(json, "vocab_size")?,
            hidden_size: positive(json, "hidden_size")?,
            intermediate_size: positive(json, "intermediate_size")?,
            num_hidden_layers: positive(json, keys.num_hidden_layers)?,
            num_attention_heads: positive(json, "num_attention_heads")?,
            num_key_value_heads: key_value_heads(json, family)?,
            head_dim: head_dim(json, family)?,
            rms_norm_eps: rms_norm_eps(json, family, keys.rms_norm_eps)?,
            rope_theta,
            rope_scaling,
            max_position_embeddings,
            tie_word_embeddings: json
                .get("tie_word_embeddings")
                .and_then(Value::as_bool)
                .unwrap_or(keys.is_tied_by_default),
            initializer_range: json
                .get("initializer_range")
                .and_then(Value::as_f64)
                .unwrap_or(0.02),
            stored_in_nf4: stored_in_nf4(json)?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        let (layers, head_dim) = (self.num_hidden_layers, self.head_dim);
        if layers > MOST_LAYERS {
            bail!("num_hidden_layers = {layers}; at most {MOST_LAYERS} are supported");
        }
        if heads.saturating_mul(head_dim) as u64 > LARGEST_SIZE {
            bail!(
                "num_attention_heads = {heads} times head_dim = {head_dim} is larger than any model; at most \
                 {LARGEST_SIZE}"
            );
        }
        if !heads.is_multiple_of(kv_heads) {
            bail!(
                "num_attention_heads = {heads} is not a multiple of num_key_value_heads = {kv_heads}"
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            bail!(
                "head_dim = {} is odd; rotary embeddings need an even width",
                self.head_dim
            );
        }
        Ok(())
    }

    /// Width of all query heads together.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Query heads that share one key head.
    pub fn queries_per_key(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// The factor of the scores before the softmax.
    pub fn attention_scale(&self) -> f64 {
        (self.head_dim as f64).powf(-0.5)
    }

    /// Parameters that the family adds to a layer: biases, and norms of heads.
    fn small_parameters(&self) -> usize {
        let mut count = 0;
        if self.family.has_qkv_bias() {
            count += self.query_size() + 2 * self.key_value_size();
        }
        if self.family.has_qk_norm() {
            count += 2 * self.head_dim;
        }
        count
    }

    /// The total number of parameters, with a tied head counted once.
    pub fn parameter_count(&self) -> usize {
        let attention = self.hidden_size * (2 * self.query_size() + 2 * self.key_value_size());
        let mlp = 3 * self.hidden_size * self.intermediate_size;
        let layer = attention + mlp + 2 * self.hidden_size + self.small_parameters();
        let embeddings =
            self.vocab_size * self.hidden_size * if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * layer + embeddings + self.hidden_size
    }
}

/// Keys and defaults that differ between families.
struct Keys {
    num_hidden_layers: &'static str,
    rms_norm_eps: &'static str,
    hidden_act: &'static str,
    is_tied_by_default: bool,
    default_max_position_embeddings: usize,
}

impl Keys {
    fn of(family: Family) -> Self {
        let llama = Self {
            num_hidden_layers: "num_hidden_layers",
            rms_norm_eps: "rms_norm_eps",
            hidden_act: "hidden_act",
            is_tied_by_default: false,
            default_max_position_embeddings: 2048,
        };
        match family {
            Family::Llama => llama,
            Family::Mistral => Self {
                default_max_position_embeddings: 131_072,
                ..llama
            },
            Family::Qwen2 | Family::Qwen3 => Self {
                default_max_position_embeddings: 32_768,
                ..llama
            },
            Family::Exaone => Self {
                num_hidden_layers: "num_layers",
                rms_norm_eps: "layer_norm_epsilon",
                hidden_act: "activation_function",
                // transformers 4 writes the key only if it differs from its own default, true.
                is_tied_by_default: true,
                ..llama
            },
        }
    }
}

fn rms_norm_eps(json: &Value, family: Family, key: &str) -> Result<f64> {
    match json.get(key).and_then(Value::as_f64) {
        Some(epsilon) => Ok(epsilon),
        // Two releases of its remote code have two defaults.
        None if family == Family::Exaone => bail!("the number {key:?} is missing"),
        None => Ok(1e-6),
    }
}

fn key_value_heads(json: &Value, family: Family) -> Result<usize> {
    let heads = positive(json, "num_attention_heads")?;
    // transformers has fixed defaults for these families: 8 for Mistral, 32 for Qwen.
    if matches!(family, Family::Mistral | Family::Qwen2 | Family::Qwen3)
        && json.get("num_key_value_heads").is_none()
    {
        bail!("the key \"num_key_value_heads\" is missing");
    }
    Ok(optional_positive(json, "num_key_value_heads")?.unwrap_or(heads))
}

fn head_dim(json: &Value, family: Family) -> Result<usize> {
    if let Some(head_dim) = optional_positive(json, "head_dim")? {
        return Ok(head_dim);
    }
    // The default of transformers, independent of the other sizes.
    if family == Family::Qwen3 {
        return Ok(128);
    }
    let hidden_size = positive(json, "hidden_size")?;
    let heads = positive(json, "num_attention_heads")?;
    if !hidden_size.is_multiple_of(heads) {
        bail!(
            "hidden_size = {hidden_size} is not a multiple of num_attention_heads = {heads}, and head_dim is missing"
        );
    }
    Ok(hidden_size / heads)
}

/// Refuses features that would silently be computed wrongly.
fn refuse_unsupported(json: &Value, family: Family, hidden_act: &str) -> Result<()> {
    let present = |key: &str| {
        json.get(key)
            .is_some_and(|value| !value.is_null() && value != &Value::Bool(false))
    };
    for key in ["attention_bias", "mlp_bias", "no_rope_layers"] {
        // Qwen2 always has biases: transformers does not read the key.
        let is_read = key != "attention_bias" || family != Family::Qwen2;
        if is_read && present(key) {
            bail!("{key} = {} is not supported by this decoder", json[key]);
        }
    }
    for key in [
        "attention_multiplier",
        "residual_multiplier",
        "embedding_multiplier",
        "logits_scaling",
        "partial_rotary_factor",
    ] {
        if json
            .get(key)
            .and_then(Value::as_f64)
            .is_some_and(|value| value != 1.0)
        {
            bail!("{key} = {} is not supported by this decoder", json[key]);
        }
    }
    match json.get(hidden_act).and_then(Value::as_str) {
        None | Some("silu") => Ok(()),
        Some(other) => bail!("{hidden_act} = {other:?} is not supported; supported: \"silu\""),
    }
}

/// Refuses an attention window that would have an effect, unlike one that is switched off or wider
/// than any text.
fn refuse_windows(json: &Value, family: Family, longest: usize) -> Result<()> {
    const REASON: &str = "this decoder attends to the whole text";
    if let Some(kinds) = json.get("layer_types").and_then(Value::as_array)
        && let Some(kind) = kinds.iter().find(|kind| *kind != "full_attention")
    {
        bail!("layer_types contains {kind}, which is not supported: {REASON}");
    }
    let window = json.get("sliding_window").filter(|it| !it.is_null());
    match family {
        Family::Qwen2 | Family::Qwen3 => {
            let is_used = json.get("use_sliding_window").and_then(Value::as_bool);
            if is_used == Some(true) {
                bail!("use_sliding_window = true is not supported: {REASON}");
            }
            Ok(())
        }
        _ => {
            let (window, stated) = match (window, json.get("sliding_window")) {
                (Some(Value::Bool(false)), _) => return Ok(()),
                (Some(window), _) => (window.as_u64().unwrap_or(0), format!("= {window}")),
                (None, None) if family == Family::Mistral => (
                    4096,
                    "is missing, which means 4096 in transformers; that".to_string(),
                ),
                (None, _) => return Ok(()),
            };
            if window < longest as u64 {
                bail!(
                    "sliding_window {stated} is less than max_position_embeddings = {longest} and not \
                     supported: {REASON}; a model without a window has null"
                );
            }
            Ok(())
        }
    }
}

/// Both spellings: `rope_theta` with `rope_scaling` (transformers 4) and
/// `rope_parameters` (transformers 5).
fn rope(json: &Value) -> Result<(f64, RopeScaling)> {
    let parameters = json.get("rope_parameters").filter(|value| !value.is_null());
    let scaling = parameters.or_else(|| json.get("rope_scaling").filter(|value| !value.is_null()));
    let theta = parameters
        .and_then(|value| value.get("rope_theta"))
        .or_else(|| json.get("rope_theta"))
        .and_then(Value::as_f64)
        .unwrap_or(10_000.0);
    let Some(scaling) = scaling else {
        return Ok((theta, RopeScaling::None));
    };
    if let Some(share) = scaling.get("partial_rotary_factor").and_then(Value::as_f64)
        && share != 1.0
    {
        bail!("partial_rotary_factor = {share} is not supported by this decoder");
    }
    let number = |key: &str| {
        scaling
            .get(key)
            .and_then(Value::as_f64)
            .with_context(|| format!("the rope scaling has no number {key:?}"))
    };
    let kind = scaling
        .get("rope_type")
        .or_else(|| scaling.get("type"))
        .and_then(Value::as_str)
        .unwrap_or("default");
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: number("factor")?,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_max_position_embeddings: number("original_max_position_embeddings")?,
        },
        other => bail!("rope type {other:?} is not supported; supported: default, linear, llama3"),
    };
    Ok((theta, scaling))
}

fn positive(json: &Value, key: &str) -> Result<usize> {
    optional_positive(json, key)?.with_context(|| format!("the key {key:?} is missing"))
}

fn optional_positive(json: &Value, key: &str) -> Result<Option<usize>> {
    match json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) if number > LARGEST_SIZE => {
                bail!("{key} = {value} is larger than any model; at most {LARGEST_SIZE}")
            }
            Some(number) if number > 0 => Ok(Some(number as usize)),
            _ => bail!("{key} = {value} must be a positive integer"),
        },
    }
}
