//! The quantisation in a `config.json`.

use anyhow::{Result, bail};
use serde_json::Value;

/// How to fix a folder in another form; the end of every such message.
pub const NF4_HINT: &str = "moim only reads NF4: name the folder with the original weights, which moim \
                       quantises itself, or save it again with BitsAndBytesConfig(load_in_4bit=True, \
                       bnb_4bit_quant_type=\"nf4\")";

/// Whether a model's linear layers are stored in NF4 according to its config.json; `false` without a
/// quantisation.
///
/// # Errors
/// They are stored in another quantised form (GPTQ, AWQ, FP8, bitsandbytes' int8 or FP4, …), or with
/// codes packed into a type other than u8.
pub fn stored_in_nf4(config: &Value) -> Result<bool> {
    let Some(quantization) = config.get("quantization_config").filter(|it| !it.is_null()) else {
        return Ok(false);
    };
    let text = |key: &str| quantization.get(key).and_then(Value::as_str);
    let is_set = |key: &str| quantization.get(key).and_then(Value::as_bool) == Some(true);
    let method = text("quant_method").unwrap_or("bitsandbytes");
    if !method.starts_with("bitsandbytes") {
        bail!("config.json: quantization_config.quant_method is {method:?}; {NF4_HINT}");
    }
    if is_set("load_in_8bit") {
        bail!("config.json: quantization_config.load_in_8bit is true; {NF4_HINT}");
    }
    if !is_set("load_in_4bit") {
        bail!("config.json: quantization_config.load_in_4bit is not true; {NF4_HINT}");
    }
    // The default of BitsAndBytesConfig is FP4.
    let kind = text("bnb_4bit_quant_type").unwrap_or("fp4");
    if kind != "nf4" {
        bail!("config.json: quantization_config.bnb_4bit_quant_type is {kind:?}; {NF4_HINT}");
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
