//! Weights, configurations, adapters, what four bits are stored in, and save points.

use moim::architecture::{LlamaConfig, Projection, WeightFormat};
use moim::device::Compute;
use moim::model::{Adapter, Llama, LoadOptions, LoraConfig, WeightFiles, load_adapter};
use moim::nf4::{CacheFile, CachePlan, CacheWriter, Nf4Matrix, Planned};
use moim::optimizer::{AdamW, AdamWSettings};
use moim::session::checkpoint;
use safetensors::Dtype;

use super::{Folder, content, told};
use crate::fuzz::harness::{Reader, fuzz};
use crate::fuzz::mutate::Form;

const TINY: &str = "tests/golden/model/tiny_llama";
const SHARDED: &str = "tests/golden/model/tiny_llama_tied";

/// A tiny model has 160 KB of weights, which are read beside a damaged file of any size.
const MODEL_MEMORY: (usize, usize) = (200, 32 << 20);

const CONFIG_WORDS: &[&str] = &[
    "num_hidden_layers",
    "hidden_size",
    "head_dim",
    "vocab_size",
    "rope_scaling",
    "factor",
    "linear",
    "llama3",
    "quantization_config",
    "load_in_4bit",
    "bitsandbytes",
    "silu",
    "model_type",
    "llama",
];

const TENSOR_WORDS: &[&str] = &[
    "F32",
    "F16",
    "BF16",
    "U8",
    "I64",
    "BOOL",
    "F8_E4M3",
    "F4",
    "dtype",
    "shape",
    "data_offsets",
    "__metadata__",
    "model.embed_tokens.weight",
    "model.norm.weight",
];

#[test]
fn model_configurations() {
    for (folder, name) in [
        (TINY, "config.json"),
        ("tests/golden/nf4/nf4", "config.json of NF4"),
    ] {
        let folder_of_case = Folder::with(folder, &["config.json", "model.safetensors"]);
        fuzz(Reader {
            name,
            form: Form::Json,
            examples: vec![content(&format!("{folder}/config.json"))],
            words: CONFIG_WORDS,
            cases: 1500,
            memory: MODEL_MEMORY,
            names: &folder_of_case.path().display().to_string().leak()[..],
            read: Box::new(|input| {
                folder_of_case.write("config.json", input);
                Llama::load(folder_of_case.path(), &Compute::cpu())
                    .map(|_| ())
                    .map_err(told)
            }),
        });
    }
}

#[test]
fn weights() {
    for (folder, name, cases) in [
        (TINY, "model.safetensors", 1500),
        ("tests/golden/nf4/nf4", "model.safetensors of NF4", 800),
    ] {
        let folder_of_case = Folder::with(folder, &["config.json"]);
        fuzz(Reader {
            name,
            form: Form::Safetensors,
            examples: vec![content(&format!("{folder}/model.safetensors"))],
            words: TENSOR_WORDS,
            cases,
            memory: MODEL_MEMORY,
            names: &folder_of_case.path().display().to_string().leak()[..],
            read: Box::new(|input| {
                folder_of_case.write("model.safetensors", input);
                Llama::load(folder_of_case.path(), &Compute::cpu())
                    .map(|_| ())
                    .map_err(told)
            }),
        });
    }
}

/// Dense weights that are quantised while they are loaded.
#[test]
fn weights_to_quantise() {
    let folder = Folder::with("tests/golden/nf4/plain", &["config.json"]);
    let options = LoadOptions {
        format: WeightFormat::Nf4 { double_quant: true },
        cache: None,
    };
    fuzz(Reader {
        name: "weights to quantise",
        form: Form::Safetensors,
        examples: vec![content("tests/golden/nf4/plain/model.safetensors")],
        words: TENSOR_WORDS,
        cases: 500,
        memory: MODEL_MEMORY,
        names: &folder.path().display().to_string().leak()[..],
        read: Box::new(|input| {
            folder.write("model.safetensors", input);
            Llama::load_as(folder.path(), &Compute::cpu(), &options, &mut |_| Ok(()))
                .map(|_| ())
                .map_err(told)
        }),
    });
}

#[test]
fn indices_of_shards() {
    let shards: Vec<String> = (1..=4)
        .map(|i| format!("model-0000{i}-of-00004.safetensors"))
        .collect();
    let mut names: Vec<&str> = shards.iter().map(String::as_str).collect();
    names.push("config.json");
    let folder = Folder::with(SHARDED, &names);
    fuzz(Reader {
        name: "model.safetensors.index.json",
        form: Form::Json,
        examples: vec![content(&format!("{SHARDED}/model.safetensors.index.json"))],
        words: &[
            "weight_map",
            "metadata",
            "..",
            ".",
            "/etc/passwd",
            "config.json",
            "model-00001-of-00004.safetensors",
        ],
        cases: 2000,
        memory: MODEL_MEMORY,
        names: &folder.path().display().to_string().leak()[..],
        read: Box::new(|input| {
            folder.write("model.safetensors.index.json", input);
            Llama::load(folder.path(), &Compute::cpu())
                .map(|_| ())
                .map_err(told)
        }),
    });
}

#[test]
fn caches_of_four_bits() {
    let folder = Folder::new();
    let planned = |name: &str| Planned {
        name: name.to_owned(),
        rows: 8,
        columns: 64,
        dtype: Dtype::F32,
    };
    let plan = CachePlan {
        fingerprint: "0123abcd".to_owned(),
        double_quant: true,
        matrices: vec![planned("a.weight"), planned("b.weight")],
    };
    let values: Vec<u8> = (0..8 * 64)
        .flat_map(|i| (i as f32).sin().to_le_bytes())
        .collect();
    let matrix = Nf4Matrix::quantize_bytes(&values, Dtype::F32, 8, 64, true).unwrap();
    let mut writer = CacheWriter::create(folder.path(), &plan).unwrap();
    writer.add("a.weight", &matrix).unwrap();
    writer.add("b.weight", &matrix).unwrap();
    writer.finish().unwrap();
    let path = plan.path(folder.path());
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    fuzz(Reader {
        name: "nf4 cache",
        form: Form::Safetensors,
        examples: vec![std::fs::read(&path).unwrap()],
        words: TENSOR_WORDS,
        cases: 4000,
        memory: MODEL_MEMORY,
        names: "",
        read: Box::new(|input| {
            folder.write(&file, input);
            let cache = CacheFile::open(folder.path(), &plan).map_err(told)?;
            let cache = cache.ok_or("the file is not seen")?;
            cache.read("a.weight").map_err(told)?;
            cache.read("b.weight").map(|_| ()).map_err(told)
        }),
    });
}

#[test]
fn adapters() {
    const PEFT: &str = "tests/golden/model/peft/attention_r4";
    let config = LlamaConfig::from_dir(&super::repository(TINY)).unwrap();
    for (name, form, words) in [
        (
            "adapter_config.json",
            Form::Json,
            &[
                "r",
                "target_modules",
                "q_proj",
                "lora_alpha",
                "rank_pattern",
                "all-linear",
            ][..],
        ),
        ("adapter_model.safetensors", Form::Safetensors, TENSOR_WORDS),
    ] {
        let folder = Folder::with(PEFT, &["adapter_config.json", "adapter_model.safetensors"]);
        fuzz(Reader {
            name,
            form,
            examples: vec![content(&format!("{PEFT}/{name}"))],
            words,
            cases: 2000,
            memory: MODEL_MEMORY,
            names: "adapter_",
            read: Box::new(|input| {
                folder.write(name, input);
                load_adapter(folder.path(), &config, &Compute::cpu())
                    .map(|_| ())
                    .map_err(told)
            }),
        });
    }
}

#[test]
fn save_points() {
    let compute = Compute::cpu();
    let model = LlamaConfig::from_dir(&super::repository(TINY)).unwrap();
    let lora = LoraConfig {
        r: 2,
        lora_alpha: 4.0,
        lora_dropout: 0.0,
        target_modules: Projection::parse_targets(&["q_proj"]).unwrap(),
    };
    let adapter = Adapter::new(lora, &model, 1, &compute);
    let settings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    let optimizer = AdamW::new(settings, &adapter.parameters());
    let folder = Folder::new();
    let point = folder.path().join("step_1");
    let state = checkpoint::TrainerState::default();
    let contents = checkpoint::SavePointContents {
        adapter: &adapter,
        optimizer: &optimizer,
        base_model: "base",
        model: &model,
        compute: &compute,
    };
    checkpoint::save(&point, &contents, |_| Ok(state)).unwrap();
    for (name, form) in [
        ("trainer_state.json", Form::Json),
        ("optimizer.safetensors", Form::Safetensors),
    ] {
        let example = std::fs::read(point.join(name)).unwrap();
        fuzz(Reader {
            name,
            form,
            examples: vec![example.clone()],
            words: TENSOR_WORDS,
            cases: 1500,
            memory: MODEL_MEMORY,
            names: name,
            read: Box::new(|input| {
                folder.write(&format!("step_1/{name}"), input);
                let _ = checkpoint::latest(std::slice::from_ref(&point));
                let mut optimizer = optimizer.clone();
                checkpoint::load(&point, &mut optimizer, &model, &compute)
                    .map(|_| ())
                    .map_err(told)
            }),
        });
        folder.write(&format!("step_1/{name}"), &example);
    }
}

/// Safetensors of whatever names: what no model asks for is read as well.
#[test]
fn tensors_of_any_name() {
    let folder = Folder::new();
    fuzz(Reader {
        name: "any.safetensors",
        form: Form::Safetensors,
        examples: vec![content("tests/golden/nf4/codec.safetensors")],
        words: TENSOR_WORDS,
        cases: 4000,
        memory: MODEL_MEMORY,
        names: "any.safetensors",
        read: Box::new(|input| {
            let path = folder.write("any.safetensors", input);
            let files = WeightFiles::open_files(vec![path]).map_err(told)?;
            for name in files.names() {
                let view = files.raw(name).map_err(told)?;
                let _ = files.read_f32(name, view.shape());
                let _ = Nf4Matrix::read(name, |name| files.raw(name).ok());
            }
            Ok(())
        }),
    });
}
