use serde_json::json;

use super::*;

fn base() -> Value {
    json!({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16,
           "num_hidden_layers": 1, "vocab_size": 10})
}

/// The base of another family, with its own keys.
fn of(model_type: &str, changes: Value) -> Value {
    let mut config = base();
    config["model_type"] = json!(model_type);
    config["num_key_value_heads"] = json!(2);
    if model_type == "exaone" {
        config["num_layers"] = json!(1);
        config["layer_norm_epsilon"] = json!(1e-5);
    }
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn complaint(config: &Value) -> String {
    format!("{:#}", LlamaConfig::from_json(config).unwrap_err())
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
fn unsupported_features_are_refused_by_name() {
    for (key, value) in [
        ("model_type", json!("gemma3")),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("hidden_act", json!("gelu")),
        ("sliding_window", json!(1024)),
        ("no_rope_layers", json!([1, 1, 1, 0])),
        ("logits_scaling", json!(8.0)),
        ("partial_rotary_factor", json!(0.5)),
        ("hidden_size", json!(0)),
    ] {
        let mut config = base();
        config[key] = value;
        let message = complaint(&config);
        assert!(message.contains(key), "{key}: {message}");
    }
    for kind in ["yarn", "longrope", "dynamic"] {
        for (key, name) in [("rope_scaling", "type"), ("rope_parameters", "rope_type")] {
            let mut config = base();
            config[key] = json!({name: kind, "factor": 4.0});
            let message = complaint(&config);
            assert!(message.contains(kind), "{message}");
        }
    }
    let partial = json!({"rope_type": "default", "partial_rotary_factor": 0.25});
    let message = complaint(&of("llama", json!({ "rope_parameters": partial })));
    assert!(message.contains("partial_rotary_factor"), "{message}");
}

#[test]
fn a_window_is_refused_if_it_would_have_an_effect() {
    let window = |width: Value| json!({"sliding_window": width, "max_position_embeddings": 32768});
    let full = json!(["full_attention"]);
    let local = json!(["full_attention", "sliding_attention"]);
    for (model_type, changes) in [
        ("mistral", window(Value::Null)),
        ("mistral", window(json!(32768))),
        (
            "qwen2",
            json!({"sliding_window": 4096, "use_sliding_window": false}),
        ),
        ("qwen2", json!({"sliding_window": 4096})),
        (
            "qwen3",
            json!({"use_sliding_window": false, "layer_types": full}),
        ),
        ("llama", window(Value::Null)),
    ] {
        let config = of(model_type, changes);
        LlamaConfig::from_json(&config).unwrap();
    }
    for (model_type, changes, named) in [
        ("mistral", window(json!(4096)), "sliding_window = 4096"),
        (
            "mistral",
            json!({"max_position_embeddings": 32768}),
            "sliding_window is missing",
        ),
        (
            "qwen2",
            json!({"use_sliding_window": true}),
            "use_sliding_window = true",
        ),
        (
            "qwen3",
            json!({"use_sliding_window": true}),
            "use_sliding_window = true",
        ),
        (
            "qwen2",
            json!({"layer_types": local}),
            "layer_types contains \"sliding_attention\"",
        ),
        ("llama", json!({"layer_types": local}), "layer_types"),
        (
            "qwen3",
            json!({"attention_bias": true}),
            "attention_bias = true",
        ),
        (
            "exaone",
            json!({"activation_function": "gelu_new"}),
            "activation_function = \"gelu_new\"",
        ),
    ] {
        let message = complaint(&of(model_type, changes));
        assert!(message.contains(named), "{model_type}: {message}");
    }
}

#[test]
fn missing_keys_have_the_defaults_of_transformers() {
    let read = |model_type: &str, changes: Value| {
        LlamaConfig::from_json(&of(model_type, changes)).unwrap()
    };
    assert_eq!(read("qwen3", json!({})).head_dim, 128);
    assert_eq!(read("qwen2", json!({})).head_dim, 4);
    // Qwen2 has biases whatever the key says.
    assert_eq!(
        read("qwen2", json!({"attention_bias": true})),
        read("qwen2", json!({}))
    );
    assert!(read("exaone", json!({})).tie_word_embeddings);
    assert!(!read("exaone", json!({"tie_word_embeddings": false})).tie_word_embeddings);
    assert!(!read("qwen2", json!({})).tie_word_embeddings);
    for (model_type, key) in [
        ("mistral", "num_key_value_heads"),
        ("qwen2", "num_key_value_heads"),
        ("exaone", "layer_norm_epsilon"),
        ("exaone", "num_layers"),
    ] {
        let mut config = of(model_type, json!({ "sliding_window": null }));
        config.as_object_mut().unwrap().remove(key);
        let message = complaint(&config);
        assert!(message.contains(key), "{model_type}: {message}");
    }
}

/// (vocabulary, hidden, inside the MLP, layers, query heads, key heads, head width, tied)
type Shape = (usize, usize, usize, usize, usize, usize, usize, bool);

/// Sizes as the folders' `config.json` gives them, and other keys of it that matter. Parameters are
/// those that transformers counts for the shape (Mistral's class for Kanana, whose hidden size
/// transformers 5.23 refuses for Llama as no multiple of the heads).
#[rustfmt::skip]
fn folders() -> Vec<(&'static str, Shape, Value, usize)> {
    let llama3 = |factor: f64, original: usize| json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": original});
    let qwen = |model_type: &str| json!({"model_type": model_type, "rope_theta": 1e6, "hidden_act": "silu",
        "max_window_layers": 21, "sliding_window": 32768, "use_sliding_window": false, "max_position_embeddings": 32768});
    vec![
        ("Midm 2.0 Mini", (131_392, 1792, 4608, 48, 32, 8, 128, true),
            json!({"model_type": "llama", "rope_theta": 8e6, "rope_scaling": null, "max_position_embeddings": 32768}), 2_305_517_312),
        ("Midm 2.0 Base", (131_392, 4096, 14336, 48, 32, 8, 128, false),
            json!({"model_type": "llama", "rope_theta": 8e6, "rope_scaling": null}), 11_545_743_360),
        ("Llama 2 7B", (32000, 4096, 11008, 32, 32, 32, 128, false),
            json!({"model_type": "llama", "attention_bias": false, "pretraining_tp": 1}), 6_738_415_616),
        ("Llama 3.1 8B", (128_256, 4096, 14336, 32, 32, 8, 128, false),
            json!({"model_type": "llama", "rope_theta": 5e5, "rope_scaling": llama3(8.0, 8192), "mlp_bias": false}), 8_030_261_248),
        ("Llama 3.2 1B", (128_256, 2048, 8192, 16, 32, 8, 64, true),
            json!({"model_type": "llama", "rope_theta": 5e5, "rope_scaling": llama3(32.0, 8192)}), 1_235_814_400),
        ("Kanana 2.1B", (128_256, 1792, 8064, 32, 24, 8, 128, true),
            json!({"model_type": "llama", "rope_theta": 5e5}), 2_086_979_328),
        ("SmolLM2 135M", (49152, 576, 1536, 30, 9, 3, 64, true),
            json!({"model_type": "llama", "rope_theta": 1e5, "rope_interleaved": false}), 134_515_008),
        ("Mistral 7B v0.3", (32768, 4096, 14336, 32, 32, 8, 128, false),
            json!({"model_type": "mistral", "rope_theta": 1e6, "sliding_window": null, "max_position_embeddings": 32768}), 7_248_023_552),
        ("Mistral Nemo", (131_072, 5120, 14336, 40, 32, 8, 128, false),
            json!({"model_type": "mistral", "rope_theta": 1e6, "sliding_window": null}), 12_247_782_400),
        ("Qwen2.5 0.5B", (151_936, 896, 4864, 24, 14, 2, 64, true), qwen("qwen2"), 494_032_768),
        ("Qwen2.5 7B", (152_064, 3584, 18944, 28, 28, 4, 128, false), qwen("qwen2"), 7_615_616_512),
        ("Qwen3 0.6B", (151_936, 1024, 3072, 28, 16, 8, 128, true), qwen("qwen3"), 596_049_920),
        ("Qwen3 8B", (151_936, 4096, 12288, 36, 32, 8, 128, false), qwen("qwen3"), 8_190_735_360),
        ("EXAONE 3.5 2.4B", (102_400, 2560, 7168, 30, 32, 8, 80, true),
            json!({"model_type": "exaone", "rope_theta": 1e6, "rope_scaling": llama3(8.0, 8192), "layer_norm_epsilon": 1e-5,
                   "activation_function": "silu", "embed_dropout": 0.0}), 2_405_327_360),
        ("EXAONE 3.5 7.8B", (102_400, 4096, 14336, 32, 32, 8, 128, false),
            json!({"model_type": "exaone", "rope_theta": 1e6, "rope_scaling": llama3(8.0, 8192), "layer_norm_epsilon": 1e-5,
                   "activation_function": "silu", "embed_dropout": 0.0}), 7_818_448_896),
    ]
}

#[test]
fn folders_of_the_named_models_are_read_with_their_parameters() {
    for (name, shape, mut config, parameters) in folders() {
        let (vocabulary, hidden, inner, layers, heads, kv_heads, head_dim, is_tied) = shape;
        let is_exaone = config["model_type"] == "exaone";
        config[if is_exaone {
            "num_layers"
        } else {
            "num_hidden_layers"
        }] = json!(layers);
        for (key, value) in [
            ("vocab_size", vocabulary),
            ("hidden_size", hidden),
            ("intermediate_size", inner),
            ("num_attention_heads", heads),
            ("num_key_value_heads", kv_heads),
        ] {
            config[key] = json!(value);
        }
        // Left out if it follows from the others, as in older folders.
        if head_dim * heads != hidden || config["model_type"] == "qwen3" {
            config["head_dim"] = json!(head_dim);
        }
        config["tie_word_embeddings"] = json!(is_tied);
        let read = LlamaConfig::from_json(&config).unwrap_or_else(|error| {
            panic!("{name}: {error:#}");
        });
        assert_eq!(read.head_dim, head_dim, "{name}");
        assert_eq!(read.query_size(), heads * head_dim, "{name}");
        assert_eq!(read.parameter_count(), parameters, "{name}");
    }
}

/// The additional keys of HyperCLOVAX-SEED's text models (0.5B, 1.5B) have no effect; those of its
/// larger siblings change the arithmetic.
#[test]
fn hyperclovax_seed_runs_without_its_multipliers() {
    let text = json!({"tie_word_embeddings": true, "attention_multiplier": null, "logits_scaling": 1.0,
        "embedding_multiplier": null, "residual_multiplier": 1.0});
    let config = LlamaConfig::from_json(&of("llama", text)).unwrap();
    assert!(config.tie_word_embeddings);
    let think = of(
        "hyperclovax",
        json!({"attention_multiplier": 0.0078125, "use_post_norm": true}),
    );
    assert!(complaint(&think).contains("multipliers (muP)"));
}
