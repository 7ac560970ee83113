//! `config.json` of a Hugging Face folder, as far as the Llama family uses it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::nf4::stored_in_nf4;

/// Logits computed at once by the training head; 16 Mi of them are 64 MiB in f32.
pub const LOGITS_PER_CHUNK: usize = 16 << 20;

/// Values of a layer's widest tensors that exist at a time: scores of attention, and the inside of
/// the MLP. 64 Mi of them are 128 MiB in bfloat16.
pub const VALUES_PER_CHUNK: usize = 64 << 20;

/// Columns added whenever the cache of completions is full.
pub const CACHE_GROWTH: usize = 64;

/// Completions decoded together at most.
pub const MAX_ROLLOUT_ROWS: usize = 256;

/// Completions decoded together on the CPU, where several batches run side by
/// side. A constant, so that results do not depend on the number of cores.
pub const CPU_ROLLOUT_ROWS: usize = 32;

/// Shape and constants of a Llama-family decoder, under its checkpoint names.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Tokens the embedding and the head know.
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
    /// Longest position the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f64,
    /// Whether the folder's linear layers are stored in NF4, as transformers saves them.
    pub stored_in_nf4: bool,
}

/// How the linear layers of the base model are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// In the type of the activations.
    Dense,
    /// Four bits a weight in blocks of 64, each with a scale: 4.5 bits a weight with scales in
    /// f32, 4.127 where the scales are kept in 8 bits (QLoRA, arXiv 2305.14314, section 3).
    Nf4 {
        /// Whether scales are kept in 8 bits.
        double_quant: bool,
    },
}

/// `rope_scaling` / `rope_parameters`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Plain rotary embedding.
    None,
    /// Positions divided by `factor`.
    Linear { factor: f64 },
    /// Llama 3's frequency-dependent rescaling.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: f64,
    },
}

impl LlamaConfig {
    /// Reads `config.json` of the folder `model_dir`.
    ///
    /// # Errors
    /// The file is absent or malformed, a key is missing, or the model needs
    /// something this decoder does not do; the message names it.
    pub fn from_dir(model_dir: &Path) -> Result<Self> {
        let path = model_dir.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
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
        let model_type = json
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or("(none)");
        if model_type != "llama" {
            bail!(
                "model_type {model_type:?} is not supported; supported: \"llama\" (Llama 2/3, Midm 2.0, Kanana, HyperCLOVAX-SEED text, SmolLM2)"
            );
        }
        refuse_unsupported(json)?;
        let hidden_size = positive(json, "hidden_size")?;
        let num_attention_heads = positive(json, "num_attention_heads")?;
        let num_key_value_heads =
            optional_positive(json, "num_key_value_heads")?.unwrap_or(num_attention_heads);
        let head_dim = match optional_positive(json, "head_dim")? {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(num_attention_heads) => {
                hidden_size / num_attention_heads
            }
            None => bail!(
                "hidden_size = {hidden_size} is not a multiple of num_attention_heads = {num_attention_heads} and head_dim is absent"
            ),
        };
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            bail!(
                "num_attention_heads = {num_attention_heads} is not a multiple of num_key_value_heads = {num_key_value_heads}"
            );
        }
        if !head_dim.is_multiple_of(2) {
            bail!("head_dim = {head_dim} is odd; rotary embeddings need an even width");
        }
        let (rope_theta, rope_scaling) = rope(json)?;
        Ok(Self {
            vocab_size: positive(json, "vocab_size")?,
            hidden_size,
            intermediate_size: positive(json, "intermediate_size")?,
            num_hidden_layers: positive(json, "num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: json
                .get("rms_norm_eps")
                .and_then(Value::as_f64)
                .unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            max_position_embeddings: optional_positive(json, "max_position_embeddings")?
                .unwrap_or(2048),
            tie_word_embeddings: json
                .get("tie_word_embeddings")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            initializer_range: json
                .get("initializer_range")
                .and_then(Value::as_f64)
                .unwrap_or(0.02),
            stored_in_nf4: stored_in_nf4(json)?,
        })
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

    /// What scores are multiplied by before the softmax.
    pub fn attention_scale(&self) -> f64 {
        (self.head_dim as f64).powf(-0.5)
    }

    /// Parameters in all, the tied head counted once.
    pub fn parameter_count(&self) -> usize {
        let attention = self.hidden_size * (2 * self.query_size() + 2 * self.key_value_size());
        let mlp = 3 * self.hidden_size * self.intermediate_size;
        let layer = attention + mlp + 2 * self.hidden_size;
        let embeddings =
            self.vocab_size * self.hidden_size * if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * layer + embeddings + self.hidden_size
    }
}

/// Features that would be computed wrongly rather than not at all.
fn refuse_unsupported(json: &Value) -> Result<()> {
    let present = |key: &str| {
        json.get(key)
            .is_some_and(|value| !value.is_null() && value != &Value::Bool(false))
    };
    for key in [
        "attention_bias",
        "mlp_bias",
        "sliding_window",
        "no_rope_layers",
    ] {
        if present(key) {
            bail!("{key} = {} is not supported by this decoder", json[key]);
        }
    }
    for key in [
        "attention_multiplier",
        "residual_multiplier",
        "embedding_multiplier",
        "logits_scaling",
    ] {
        if json
            .get(key)
            .and_then(Value::as_f64)
            .is_some_and(|value| value != 1.0)
        {
            bail!("{key} = {} is not supported by this decoder", json[key]);
        }
    }
    match json.get("hidden_act").and_then(Value::as_str) {
        None | Some("silu") => Ok(()),
        Some(other) => bail!("hidden_act = {other:?} is not supported; supported: \"silu\""),
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
    let number = |key: &str| {
        scaling
            .get(key)
            .and_then(Value::as_f64)
            .with_context(|| format!("rope scaling lacks the number {key:?}"))
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
            Some(number) if number > 0 => Ok(Some(number as usize)),
            _ => bail!("{key} = {value} must be a positive integer"),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base() -> Value {
        json!({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16,
               "num_hidden_layers": 1, "vocab_size": 10})
    }

    #[test]
    fn both_rope_spellings_agree() {
        let mut old = base();
        old["rope_theta"] = json!(5e5);
        old["rope_scaling"] = json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
        let mut new = base();
        new["rope_parameters"] = json!({"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
        assert_eq!(
            LlamaConfig::from_json(&old).unwrap(),
            LlamaConfig::from_json(&new).unwrap()
        );
    }

    #[test]
    fn what_it_cannot_do_is_refused_by_name() {
        for (key, value) in [
            ("model_type", json!("qwen2")),
            ("attention_bias", json!(true)),
            ("hidden_act", json!("gelu")),
            ("rope_scaling", json!({"rope_type": "yarn"})),
            ("sliding_window", json!(4096)),
            ("hidden_size", json!(0)),
        ] {
            let mut config = base();
            config[key] = value;
            let message = format!("{:#}", LlamaConfig::from_json(&config).unwrap_err());
            assert!(
                message.contains(key) || message.contains("yarn"),
                "{key}: {message}"
            );
        }
    }
}
