//! The supported families of decoders: what each adds to Llama, and its names for the tensors. An
//! unsupported family is refused by name, with the missing feature.

use anyhow::{Result, bail};
use serde_json::Value;

use super::projection::Projection;

/// A supported `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Plain Llama.
    Llama,
    /// Llama without its sliding window.
    Mistral,
    /// Biases on queries, keys and values.
    Qwen2,
    /// RMSNorm over each head of queries and keys, before the rotation.
    Qwen3,
    /// EXAONE 3 and 3.5: Llama with GPT-2's names. The checkpoints' class is remote code
    /// (`modeling_exaone.py` of LGAI-EXAONE); transformers has none.
    Exaone,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 5] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Exaone,
    ];

    /// The value of `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Exaone => "exaone",
        }
    }

    /// The models of the family, for messages.
    pub fn members(self) -> &'static str {
        match self {
            Self::Llama => "Llama 2/3, Midm 2.0, Kanana, HyperCLOVAX-SEED text, SmolLM2",
            Self::Mistral => "Mistral without a sliding window",
            Self::Qwen2 => "Qwen2, Qwen2.5",
            Self::Qwen3 => "Qwen3",
            Self::Exaone => "EXAONE 3.0, 3.5",
        }
    }

    /// Reads `model_type`.
    ///
    /// # Errors
    /// Another family; the message names the missing feature and the supported families.
    pub fn of(config: &Value) -> Result<Self> {
        let model_type = config.get("model_type").and_then(Value::as_str);
        let found = |name: &str| Self::ALL.into_iter().find(|it| it.model_type() == name);
        if let Some(family) = model_type.and_then(found) {
            return Ok(family);
        }
        let supported = Self::ALL
            .map(|family| format!("{:?} ({})", family.model_type(), family.members()))
            .join(", ");
        let Some(model_type) = model_type else {
            bail!("the key \"model_type\" is missing; supported: {supported}");
        };
        match missing_feature(model_type).or_else(|| sign_of(config)) {
            Some(feature) => bail!(
                "model_type {model_type:?} is not supported: it has {feature}, which this decoder \
                 does not compute; supported: {supported}"
            ),
            None => bail!("model_type {model_type:?} is not supported; supported: {supported}"),
        }
    }

    /// Whether queries, keys and values have a bias.
    pub fn has_qkv_bias(self) -> bool {
        self == Self::Qwen2
    }

    /// Whether the heads of queries and keys are normed before they are rotated.
    pub fn has_qk_norm(self) -> bool {
        self == Self::Qwen3
    }

    /// Prefix of the names in decoder layer `layer`.
    pub fn layer(self, layer: usize) -> String {
        match self {
            Self::Exaone => format!("transformer.h.{layer}"),
            _ => format!("model.layers.{layer}"),
        }
    }

    /// The embedding.
    pub fn embed_tokens(self) -> &'static str {
        match self {
            Self::Exaone => "transformer.wte",
            _ => "model.embed_tokens",
        }
    }

    /// The norm before the head.
    pub fn norm(self) -> &'static str {
        match self {
            Self::Exaone => "transformer.ln_f",
            _ => "model.norm",
        }
    }

    /// The norm before attention, within a layer.
    pub fn input_layernorm(self) -> &'static str {
        match self {
            Self::Exaone => "ln_1",
            _ => "input_layernorm",
        }
    }

    /// The norm before the MLP, within a layer.
    pub fn post_attention_layernorm(self) -> &'static str {
        match self {
            Self::Exaone => "ln_2",
            _ => "post_attention_layernorm",
        }
    }

    /// The norms of the heads of queries and of keys, within a layer.
    pub fn qk_norms(self) -> [&'static str; 2] {
        ["self_attn.q_norm", "self_attn.k_norm"]
    }

    /// Path of a linear layer within a decoder layer: `self_attn.q_proj`, `mlp.up_proj`.
    pub fn path(self, projection: Projection) -> String {
        let (attention, mlp) = match self {
            Self::Exaone => ("attn.attention", "mlp"),
            _ => ("self_attn", "mlp"),
        };
        let block = match projection {
            Projection::Q | Projection::K | Projection::V | Projection::O => attention,
            Projection::Gate | Projection::Up | Projection::Down => mlp,
        };
        format!("{block}.{}", self.module(projection))
    }

    /// The linear layer as PEFT's `target_modules` name it: the end of its path.
    pub fn module(self, projection: Projection) -> &'static str {
        match (self, projection) {
            (Self::Exaone, Projection::O) => "out_proj",
            (Self::Exaone, Projection::Gate) => "c_fc_0",
            (Self::Exaone, Projection::Up) => "c_fc_1",
            (Self::Exaone, Projection::Down) => "c_proj",
            _ => projection.name(),
        }
    }

    /// The tensor with the weight of a linear layer.
    pub fn weight(self, layer: usize, projection: Projection) -> String {
        format!("{}.{}.weight", self.layer(layer), self.path(projection))
    }
}

const EXPERTS: &str = "experts (a mixture of MLPs with a router)";
const VISION: &str = "a vision tower";
const AUDIO: &str = "an audio tower";

/// The missing features of families that are known but not supported.
#[rustfmt::skip]
const MISSING: [(&str, &[&str]); 24] = [
    ("norms after attention and MLP, and layers without rotary embedding", &["exaone4"]),
    ("norms after attention and MLP", &["olmo2", "olmo3"]),
    ("multipliers (muP) on the embedding, the residuals, the attention scores and the logits", &["granite", "hyperclovax"]),
    ("multipliers on the embedding, the residuals and the logits", &["minicpm"]),
    ("norms that multiply by 1 + w, a scaled embedding and a tanh-GELU", &["gemma"]),
    ("soft caps on scores and logits, norms that multiply by 1 + w and local layers", &["gemma2"]),
    ("norms that multiply by 1 + w, and local layers with a rotary base of their own", &["gemma3_text", "gemma3n_text"]),
    ("q, k and v fused in qkv_proj, and gate and up in gate_up_proj", &["phi3"]),
    ("q, k and v fused in one matrix", &["internlm2", "chatglm", "baichuan", "qwen"]),
    ("layers without rotary embedding (no_rope_layers)", &["smollm3"]),
    ("layers with a sliding window", &["ministral"]),
    ("a partial rotary embedding", &["glm", "glm4", "stablelm", "nemotron"]),
    ("attention and MLP in parallel after one LayerNorm", &["cohere", "cohere2"]),
    ("LayerNorm with biases and an MLP without a gate",
        &["phi", "starcoder2", "gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "mpt"]),
    (EXPERTS, &["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "dbrx", "exaone_moe", "granitemoe", "granitemoeshared",
        "glm4_moe", "llama4_text", "hunyuan_v1_moe", "ernie4_5_moe", "solar_open", "axk1", "minimax", "minimax_m2", "deepseek"]),
    ("experts, attention sinks and a sliding window", &["gpt_oss"]),
    ("latent attention and experts", &["deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2"]),
    ("linear attention (gated delta rule) in most layers", &["qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe"]),
    ("state-space layers", &["mamba", "mamba2", "falcon_h1", "falcon_mamba", "jamba", "bamba", "nemotron_h", "granitemoehybrid",
        "zamba", "zamba2"]),
    ("convolution layers", &["lfm2", "lfm2_moe"]),
    (VISION, &["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "llava", "llava_next", "llava_onevision", "mllama",
        "mistral3", "pixtral", "internvl", "internvl_chat", "smolvlm", "idefics2", "idefics3", "paligemma", "gemma3", "gemma3n",
        "llama4", "exaone4_5", "kanana-1.5-v", "hyperclovax_vlm", "hyperclovax_vision_v2", "phi3_v"]),
    (AUDIO, &["qwen2_audio", "qwen2_5_omni", "qwen3_omni_moe", "whisper", "phi4_multimodal", "phi4mm", "voxtral"]),
    ("an encoder in front of the decoder", &["t5", "mt5", "umt5", "bart", "mbart"]),
    ("attention in both directions (it is an encoder and writes no text)",
        &["bert", "roberta", "xlm-roberta", "electra", "deberta-v2", "modernbert"]),
];

fn missing_feature(model_type: &str) -> Option<&'static str> {
    let (feature, _) = MISSING
        .iter()
        .find(|(_, families)| families.contains(&model_type))?;
    Some(feature)
}

/// The missing feature of an unknown family, recognised by the keys of its configuration.
fn sign_of(config: &Value) -> Option<&'static str> {
    let signs = [
        ("vision_config", VISION),
        ("audio_config", AUDIO),
        ("num_experts", EXPERTS),
        ("num_local_experts", EXPERTS),
        ("n_routed_experts", EXPERTS),
    ];
    let is_set = |key: &str| config.get(key).is_some_and(|value| !value.is_null());
    let (_, feature) = signs.into_iter().find(|(key, _)| is_set(key))?;
    Some(feature)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unsupported_family_is_refused_with_the_missing_feature() {
        for (model_type, feature) in [
            ("exaone4", "norms after attention"),
            ("granite", "multipliers"),
            ("hyperclovax", "multipliers (muP)"),
            ("gemma2", "soft caps"),
            ("gemma3_text", "1 + w"),
            ("phi3", "qkv_proj"),
            ("smollm3", "without rotary embedding"),
            ("mixtral", "experts"),
            ("qwen3_moe", "experts"),
            ("qwen3_next", "linear attention"),
            ("gpt_oss", "attention sinks"),
            ("deepseek_v3", "latent attention"),
            ("qwen2_5_vl", "a vision tower"),
            ("qwen2_5_omni", "an audio tower"),
            ("mamba2", "state-space"),
            ("xlm-roberta", "encoder"),
        ] {
            let config = json!({"model_type": model_type});
            let message = Family::of(&config).unwrap_err().to_string();
            for part in [model_type, feature, "supported: \"llama\"", "\"qwen3\""] {
                assert!(message.contains(part), "{model_type}: {message}");
            }
        }
    }

    #[test]
    fn an_unknown_family_is_refused_by_name_with_the_supported_ones() {
        let message = |config: Value| Family::of(&config).unwrap_err().to_string();
        let unknown = message(json!({"model_type": "llama5"}));
        assert!(
            unknown.contains("model_type \"llama5\" is not supported; supported:"),
            "{unknown}"
        );
        for family in Family::ALL {
            assert!(unknown.contains(family.members()), "{unknown}");
        }
        assert!(message(json!({})).contains("\"model_type\" is missing"));
        let seeing = json!({"model_type": "seeing", "vision_config": {}});
        assert!(message(seeing).contains("a vision tower"));
        let expert = json!({"model_type": "many", "num_experts": 64});
        assert!(message(expert).contains("experts"));
    }
}
