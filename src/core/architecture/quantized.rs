//! What a `config.json` says of quantised weights.

use anyhow::{Result, bail};
use serde_json::Value;

/// What to do with a folder in another form; the end of every such message.
pub const NF4_WAY_OUT: &str = "moim reads NF4 alone: name the folder with the original weights, which moim \
                       quantises itself, or save it again with BitsAndBytesConfig(load_in_4bit=True, \
                       bnb_4bit_quant_type=\"nf4\")";

/// Whether a model's config.json says that its linear layers are stored in NF4; `false` where it says
/// nothing of quantisation.
///
/// # Errors
/// They are stored in another quantised form: GPTQ, AWQ, FP8, bitsandbytes' int8 or FP4, … or with
/// codes packed into another type than u8.
pub fn stored_in_nf4(config: &Value) -> Result<bool> {
    let Some(quantization) = config.get("quantization_config").filter(|it| !it.is_null()) else {
        return Ok(false);
    };
    let text = |key: &str| quantization.get(key).and_then(Value::as_str);
    let says = |key: &str| quantization.get(key).and_then(Value::as_bool) == Some(true);
    let method = text("quant_method").unwrap_or("bitsandbytes");
    if !method.starts_with("bitsandbytes") {
        bail!("config.json: quantization_config.quant_method is {method:?}; {NF4_WAY_OUT}");
    }
    if says("load_in_8bit") {
        bail!("config.json: quantization_config.load_in_8bit is true; {NF4_WAY_OUT}");
    }
    if !says("load_in_4bit") {
        bail!("config.json: quantization_config.load_in_4bit is not true; {NF4_WAY_OUT}");
    }
    // The default of BitsAndBytesConfig is FP4.
    let kind = text("bnb_4bit_quant_type").unwrap_or("fp4");
    if kind != "nf4" {
        bail!("config.json: quantization_config.bnb_4bit_quant_type is {kind:?}; {NF4_WAY_OUT}");
    }
    let storage = text("bnb_4bit_quant_storage").unwrap_or("uint8");
    if storage != "uint8" {
        bail!(
            "config.json: quantization_config.bnb_4bit_quant_storage is {storage:?}; supported: \
             \"uint8\"; name the folder with the original weights, which moim quantises itself"
        );
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_quantized_forms_are_refused_by_name() {
        let nf4 = json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"});
        let config = |change: Value| {
            let mut quantization = nf4.clone();
            let changes = change.as_object().unwrap().clone();
            quantization.as_object_mut().unwrap().extend(changes);
            stored_in_nf4(&json!({"quantization_config": quantization}))
        };
        assert!(config(json!({})).unwrap());
        assert!(config(json!({"bnb_4bit_quant_storage": "uint8"})).unwrap());
        assert!(!stored_in_nf4(&json!({})).unwrap());
        assert!(!stored_in_nf4(&json!({"quantization_config": null})).unwrap());
        for (change, expected) in [
            (json!({"quant_method": "gptq"}), "\"gptq\""),
            (json!({"load_in_8bit": true}), "load_in_8bit"),
            (json!({"load_in_4bit": false}), "load_in_4bit is not true"),
            (json!({"bnb_4bit_quant_type": "fp4"}), "\"fp4\""),
            (
                json!({"bnb_4bit_quant_storage": "bfloat16"}),
                "\"bfloat16\"",
            ),
        ] {
            let text = config(change).unwrap_err().to_string();
            assert!(
                text.contains(expected) && text.contains("original weights"),
                "{text}"
            );
        }
    }
}
