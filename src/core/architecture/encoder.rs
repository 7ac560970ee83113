//! `config.json` of a BERT, RoBERTa or XLM-RoBERTa folder.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// The supported families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `model_type = "bert"`.
    Bert,
    /// `model_type = "roberta"`.
    Roberta,
    /// `model_type = "xlm-roberta"`.
    XlmRoberta,
}

impl Family {
    /// The value of `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Bert => "bert",
            Family::Roberta => "roberta",
            Family::XlmRoberta => "xlm-roberta",
        }
    }

    fn from_model_type(name: &str) -> Option<Family> {
        [Family::Bert, Family::Roberta, Family::XlmRoberta]
            .into_iter()
            .find(|family| family.model_type() == name)
    }

    /// The class of the bare encoder in `transformers`.
    fn architecture(self) -> &'static str {
        match self {
            Family::Bert => "BertModel",
            Family::Roberta => "RobertaModel",
            Family::XlmRoberta => "XLMRobertaModel",
        }
    }
}

/// The nonlinearity of the feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `gelu`: x·Φ(x) with the exact error function.
    Gelu,
    /// `gelu_new`, `gelu_pytorch_tanh`: the tanh approximation.
    GeluTanh,
    /// `relu`.
    Relu,
}

impl Activation {
    fn from_name(name: &str) -> Option<Activation> {
        match name {
            "gelu" | "gelu_python" => Some(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
            "relu" => Some(Activation::Relu),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu => "relu",
        }
    }
}

/// The shape of an encoder; names and defaults are those of `transformers`.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// The family, which determines how positions are counted.
    pub family: Family,
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Nonlinearity of the feed-forward block (default `gelu`).
    pub hidden_act: Activation,
    /// Rows of the position embedding (default 512). RoBERTa and XLM-R cannot
    /// use the first `pad_token_id + 1` of them: see [`Self::max_tokens`].
    pub max_position_embeddings: usize,
    /// Rows of the token-type embedding (default 2); only row 0 is used.
    pub type_vocab_size: usize,
    /// Added to the variance in every layer norm (default 1e-12).
    pub layer_norm_eps: f64,
    /// Padding token (default 0 for BERT, 1 for the others).
    pub pad_token_id: u32,
}

impl EncoderConfig {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// A file that cannot be read, a family or option that is not supported, or sizes that do not fit
    /// each other. The message names the file, the key and the value.
    pub fn from_model_dir(dir: &Path) -> Result<EncoderConfig> {
        let path = dir.join("config.json");
        let text = crate::regular_file::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}; the encoder must be a Hugging Face model folder",
                path.display()
            )
        })?;
        let value: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is not valid JSON", path.display()))?;
        EncoderConfig::from_json(&value).with_context(|| format!("in {}", path.display()))
    }

    /// Reads the content of a `config.json`; see [`Self::from_model_dir`].
    pub fn from_json(value: &Value) -> Result<EncoderConfig> {
        let Some(keys) = value.as_object() else {
            bail!("the configuration is not a JSON object");
        };
        let family = match keys.get("model_type").and_then(Value::as_str) {
            Some(name) => Family::from_model_type(name).with_context(|| {
                format!(
                    "model_type = \"{name}\" is not a supported encoder; choose a bert, roberta or \
                     xlm-roberta folder"
                )
            })?,
            None => bail!(
                "key model_type is missing; add \"model_type\": \"bert\", \"roberta\" or \
                 \"xlm-roberta\", according to the model"
            ),
        };
        refuse_unsupported(keys)?;
        let activation = match keys.get("hidden_act") {
            None | Some(Value::Null) => Activation::Gelu,
            Some(Value::String(name)) => Activation::from_name(name).with_context(|| {
                format!(
                    "hidden_act = \"{name}\" is not supported; supported: gelu, gelu_new, \
                     gelu_pytorch_tanh, gelu_python and relu"
                )
            })?,
            Some(other) => bail!("hidden_act = {other} is not a string"),
        };
        let default_pad = if family == Family::Bert { 0 } else { 1 };
        let config = EncoderConfig {
            family,
            vocab_size: size(keys, "vocab_size", None)?,
            hidden_size: size(keys, "hidden_size", None)?,
            num_hidden_layers: size(keys, "num_hidden_layers", None)?,
            num_attention_heads: size(keys, "num_attention_heads", None)?,
            intermediate_size: size(keys, "intermediate_size", None)?,
            hidden_act: activation,
            max_position_embeddings: size(keys, "max_position_embeddings", Some(512))?,
            type_vocab_size: size(keys, "type_vocab_size", Some(2))?,
            layer_norm_eps: match keys.get("layer_norm_eps") {
                None | Some(Value::Null) => 1e-12,
                Some(value) => value
                    .as_f64()
                    .filter(|eps| *eps > 0.0 && eps.is_finite())
                    .with_context(|| format!("layer_norm_eps = {value} is not above 0"))?,
            },
            pad_token_id: match keys.get("pad_token_id") {
                None | Some(Value::Null) => default_pad,
                Some(value) => value
                    .as_u64()
                    .and_then(|id| u32::try_from(id).ok())
                    .with_context(|| format!("pad_token_id = {value} is not a token id"))?,
            },
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that do not fit each other.
    ///
    /// # Errors
    /// Names the keys and their values.
    pub fn check(&self) -> Result<()> {
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            bail!(
                "hidden_size = {} is not a multiple of num_attention_heads = {}",
                self.hidden_size,
                self.num_attention_heads
            );
        }
        if self.pad_token_id as usize >= self.vocab_size {
            bail!(
                "pad_token_id = {} is outside vocab_size = {}",
                self.pad_token_id,
                self.vocab_size
            );
        }
        if self.max_position_embeddings < self.position_offset() + 3 {
            bail!(
                "max_position_embeddings = {} is too small for a token between the two \
                 special ones (positions start at {})",
                self.max_position_embeddings,
                self.position_offset()
            );
        }
        Ok(())
    }

    /// Position of the first token: 0 for BERT; `pad_token_id + 1` for RoBERTa
    /// and XLM-R, whose row `pad_token_id` belongs to padding.
    pub fn position_offset(&self) -> usize {
        match self.family {
            Family::Bert => 0,
            Family::Roberta | Family::XlmRoberta => self.pad_token_id as usize + 1,
        }
    }

    /// The longest sentence in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.position_offset()
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// A `config.json` that `transformers` loads as a bare encoder with weights of type `dtype`
    /// (`float32` or `bfloat16`).
    pub fn to_json(&self, dtype: &str) -> Value {
        json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "hidden_act": self.hidden_act.name(),
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": self.max_position_embeddings,
            "type_vocab_size": self.type_vocab_size,
            "layer_norm_eps": self.layer_norm_eps,
            "pad_token_id": self.pad_token_id,
            "position_embedding_type": "absolute",
            "torch_dtype": dtype,
        })
    }
}

/// Sizes above this are refused: no encoder has them, and products of two fit easily in 64 bits.
const LARGEST_SIZE: u64 = 1 << 24;

/// A positive integer under `key`.
fn size(keys: &Map<String, Value>, key: &str, default: Option<usize>) -> Result<usize> {
    match (keys.get(key), default) {
        (None | Some(Value::Null), Some(default)) => Ok(default),
        (None | Some(Value::Null), None) => bail!("key {key} is missing"),
        (Some(value), _) => value
            .as_u64()
            .filter(|size| (1..=LARGEST_SIZE).contains(size))
            .and_then(|size| usize::try_from(size).ok())
            .with_context(|| {
                format!("{key} = {value} is not a positive integer up to {LARGEST_SIZE}")
            }),
    }
}

/// Refuses options that change the forward pass in unsupported ways.
fn refuse_unsupported(keys: &Map<String, Value>) -> Result<()> {
    if let Some(kind) = keys.get("position_embedding_type").and_then(Value::as_str)
        && kind != "absolute"
    {
        bail!("position_embedding_type = \"{kind}\" is not supported; only \"absolute\" is");
    }
    for key in ["is_decoder", "add_cross_attention"] {
        if keys.get(key).and_then(Value::as_bool) == Some(true) {
            bail!("{key} = true makes the model a decoder; BERTScore needs an encoder");
        }
    }
    if keys.contains_key("quantization_config") {
        bail!("quantization_config is not supported for the encoder; use the unquantised weights");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal(model_type: &str) -> Value {
        json!({"model_type": model_type, "vocab_size": 100, "hidden_size": 32,
               "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64})
    }

    fn with(key: &str, value: Value) -> String {
        let mut config = minimal("bert");
        config[key] = value;
        EncoderConfig::from_json(&config).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let bert = EncoderConfig::from_json(&minimal("bert")).unwrap();
        assert_eq!(bert.layer_norm_eps, 1e-12);
        assert_eq!(bert.hidden_act, Activation::Gelu);
        assert_eq!((bert.pad_token_id, bert.max_tokens()), (0, 512));
        let mut roberta = minimal("roberta");
        roberta["max_position_embeddings"] = json!(514);
        let roberta = EncoderConfig::from_json(&roberta).unwrap();
        assert_eq!((roberta.pad_token_id, roberta.max_tokens()), (1, 512));
    }

    #[test]
    fn round_trip_through_json() {
        let config = EncoderConfig::from_json(&minimal("xlm-roberta")).unwrap();
        let again = EncoderConfig::from_json(&config.to_json("float32")).unwrap();
        assert_eq!(config, again);
    }

    #[test]
    fn faults_name_key_and_value() {
        let other = EncoderConfig::from_json(&minimal("electra")).unwrap_err();
        assert!(other.to_string().contains("model_type = \"electra\""));
        assert!(with("hidden_act", json!("silu")).contains("hidden_act = \"silu\""));
        assert!(with("hidden_size", json!(30)).contains("hidden_size = 30"));
        assert!(with("vocab_size", json!(-1)).contains("vocab_size = -1"));
        assert!(
            with("position_embedding_type", json!("relative_key")).contains("\"relative_key\"")
        );
        assert!(with("is_decoder", json!(true)).contains("is_decoder"));
        assert!(with("num_hidden_layers", Value::Null).contains("num_hidden_layers is missing"));
    }
}
