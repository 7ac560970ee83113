//! PEFT's files for a LoRA adapter: `adapter_model.safetensors` and `adapter_config.json`.
//! Written so that `PeftModel.from_pretrained` reads them, and read back as PEFT writes them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::head::to_f32;
use super::lora::{Adapter, LoraConfig, LoraPair, f32_tensor};
use super::weights::WeightFiles;
use crate::device::Compute;
use moim_core::architecture::{Family, LlamaConfig, Projection};
use moim_core::run::publish::publish;

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
/// The release of PEFT whose format this is.
const PEFT_VERSION: &str = "0.21.2";

fn key(family: Family, layer: usize, projection: Projection, factor: char) -> String {
    let (layer, path) = (family.layer(layer), family.path(projection));
    format!("base_model.model.{layer}.{path}.lora_{factor}.weight")
}

/// Writes an adapter into `dir` (which must exist) in f32.
///
/// # Errors
/// A file cannot be written.
pub fn save_adapter(dir: &Path, adapter: &Adapter, base_model: &str) -> Result<()> {
    let mut stored = Vec::new();
    for (i, layer) in adapter.layers.iter().enumerate() {
        for &projection in &adapter.config.target_modules {
            let Some(pair) = layer.pair(projection) else {
                continue;
            };
            for (factor, tensor) in [('A', &pair.a), ('B', &pair.b)] {
                let bytes: Vec<u8> = to_f32(tensor.clone())
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect();
                let name = key(adapter.family, i, projection, factor);
                stored.push((name, tensor.dims().to_vec(), bytes));
            }
        }
    }
    let mut views = Vec::new();
    for (name, shape, bytes) in &stored {
        views.push((
            name.as_str(),
            TensorView::new(Dtype::F32, shape.clone(), bytes)?,
        ));
    }
    let metadata = [("format".to_string(), "pt".to_string())].into();
    publish(
        &dir.join(WEIGHTS),
        &safetensors::serialize(views, Some(metadata))?,
    )?;

    let targets = adapter.config.target_modules.iter();
    let target_modules: Vec<&str> = targets.map(|&it| adapter.family.module(it)).collect();
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": adapter.config.r,
        "lora_alpha": adapter.config.lora_alpha,
        "lora_dropout": adapter.config.lora_dropout,
        "target_modules": target_modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_to_transform": null,
        "layers_pattern": null,
        "modules_to_save": null,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": false,
        "use_dora": false,
        "revision": null,
        "peft_version": PEFT_VERSION,
    });
    publish(
        &dir.join(CONFIG),
        format!("{}\n", serde_json::to_string_pretty(&config)?).as_bytes(),
    )?;
    Ok(())
}

/// Reads an adapter folder that PEFT or [`save_adapter`] wrote for a model of this shape.
///
/// # Errors
/// Files absent or malformed, an adapter of another kind or shape, or a feature
/// that would change the arithmetic (the message names it).
pub fn load_adapter(dir: &Path, model: &LlamaConfig, compute: &Compute) -> Result<Adapter> {
    let path = dir.join(CONFIG);
    let text = moim_core::regular_file::read_to_string(&path).with_context(|| {
        format!(
            "{}: cannot be read; an adapter folder holds {CONFIG} and {WEIGHTS}",
            path.display()
        )
    })?;
    let json: Value = serde_json::from_str(&text)
        .with_context(|| format!("{}: not valid JSON", path.display()))?;
    let config = read_config(&json, model.family).with_context(|| path.display().to_string())?;
    let weights = dir.join(WEIGHTS);
    let files = WeightFiles::open_files(vec![weights.clone()])?;
    let adapter = Adapter::from_pairs(config.clone(), model, |layer, projection| {
        let (out, input) = projection.shape(model);
        let read = |factor, rows, columns| -> Result<_> {
            let name = key(model.family, layer, projection, factor);
            let values = files.read_f32(&name, &[rows, columns])?;
            Ok(f32_tensor(values, [rows, columns], compute))
        };
        Ok(LoraPair {
            a: read('A', config.r, input)?,
            b: read('B', out, config.r)?,
        })
    })
    .with_context(|| weights.display().to_string())?;
    let expected = adapter.parameters().len();
    let held = files.names().count();
    if held != expected {
        bail!(
            "{}: holds {held} tensors where {} layers × {} target modules need {expected}",
            weights.display(),
            model.num_hidden_layers,
            config.target_modules.len()
        );
    }
    Ok(adapter)
}

fn read_config(json: &Value, family: Family) -> Result<LoraConfig> {
    match json.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        other => bail!("peft_type = {other:?}; only \"LORA\" adapters are supported"),
    }
    for (name, plain) in [
        ("use_rslora", json!(false)),
        ("use_dora", json!(false)),
        ("fan_in_fan_out", json!(false)),
        ("bias", json!("none")),
        ("modules_to_save", Value::Null),
        ("rank_pattern", json!({})),
        ("alpha_pattern", json!({})),
        ("layers_to_transform", Value::Null),
    ] {
        if let Some(value) = json.get(name)
            && !value.is_null()
            && *value != plain
        {
            bail!("{name} = {value} is not supported; supported: {plain}");
        }
    }
    let targets: Vec<String> = match json.get("target_modules") {
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_string))
            .collect(),
        Some(Value::String(name)) => vec![name.clone()],
        _ => bail!("target_modules must be a list of names"),
    };
    let r = json.get("r").and_then(Value::as_u64).unwrap_or(8) as usize;
    if r == 0 {
        bail!("r = 0; the rank of an adapter is at least 1");
    }
    Ok(LoraConfig {
        r,
        lora_alpha: json
            .get("lora_alpha")
            .and_then(Value::as_f64)
            .unwrap_or(8.0),
        lora_dropout: json
            .get("lora_dropout")
            .and_then(Value::as_f64)
            .unwrap_or(0.0),
        target_modules: Projection::parse_modules(&targets, family)?,
    })
}
