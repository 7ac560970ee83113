//! The decoder against transformers 5.23 and PEFT 0.21 (tests/golden/model), and
//! its own ways through against each other.

use std::path::PathBuf;

use burn::tensor::Tensor;
use moim::architecture::{Projection, WeightFormat};
use moim::device::Compute;
use moim::model::{
    Adapter, GroupBatch, KeepInputs, Llama, LoadOptions, LoadProgress, LoraConfig, TopGradient,
    f32_tensor, load_adapter, save_adapter, to_f32,
};
use moim::rollout::{Prompt, RolloutSettings, SamplingParameters, generate};
use moim::text::{ChatTemplate, Message, RenderOptions, Role, StopSet, Tokenizer};
use serde_json::Value;

mod families;

fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model")
}

fn read(path: PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// Logits at every position of a prompt.
fn all_logits(model: &Llama, tokens: &[u32], adapter: Option<&Adapter>) -> Vec<f32> {
    let batch = GroupBatch::new(&[(tokens, vec![])]);
    let tensors = model.layout_tensors(&batch.layout);
    let tape = model.forward(&batch, &tensors, adapter, None, KeepInputs::No);
    let every: Vec<usize> = (0..tokens.len()).collect();
    to_f32(
        model
            .head(1.0)
            .logits_of(model.predicting_states(&tape.output, &every)),
    )
}

fn greedy(
    model: &Llama,
    adapter: Option<&Adapter>,
    prompts: &[Vec<u32>],
    length: usize,
) -> Vec<Vec<u32>> {
    let prompts: Vec<Prompt> = prompts
        .iter()
        .enumerate()
        .map(|(i, tokens)| Prompt {
            tokens: tokens.clone(),
            key: i as u64,
        })
        .collect();
    let settings = RolloutSettings {
        sampling: SamplingParameters {
            temperature: 0.0,
            ..Default::default()
        },
        max_completion_length: length,
        num_generations: 1,
        ..settings(1)
    };
    let groups = generate(model, adapter, &prompts, &settings, &mut |_| Ok(())).unwrap();
    groups
        .into_iter()
        .map(|mut group| group.remove(0).tokens)
        .collect()
}

fn settings(num_generations: usize) -> RolloutSettings {
    RolloutSettings {
        sampling: SamplingParameters::default(),
        max_completion_length: 12,
        stop: [5, 50, 90].into(),
        num_generations,
        max_rows: 64,
        seed: 3,
        step: 1,
        purpose: "test",
    }
}

/// f32 against f32 with other orders of summation: logits of size 10 agree to
/// about 1e-5; bf16 weights are widened exactly, so the bound is the same.
const LOGIT_TOLERANCE: f32 = 2e-4;

#[test]
fn logits_log_probs_and_greedy_text_are_those_of_transformers() {
    for name in [
        "tiny_llama",
        "tiny_llama_tied",
        "tiny_llama_rope3",
        "tiny_mistral",
        "tiny_qwen2",
        "tiny_qwen3",
        "tiny_exaone",
    ] {
        let directory = golden_dir().join(name);
        let model = Llama::load(&directory, &Compute::cpu()).unwrap();
        let golden = read(directory.join("golden.json"));
        let rows = golden["rows"].as_array().unwrap();
        for row in rows {
            let tokens = ids(&row["input_ids"]);
            let difference =
                largest_difference(&all_logits(&model, &tokens, None), &numbers(&row["logits"]));
            println!("{name}: logits differ by {difference}");
            assert!(
                difference < LOGIT_TOLERANCE,
                "{name}: logits differ by {difference}"
            );

            let continuation = ids(&row["continuation"]);
            for (temperature, expected) in row["log_probs"].as_object().unwrap() {
                let batch = GroupBatch::new(&[(&tokens, vec![&continuation])]);
                let tensors = model.layout_tensors(&batch.layout);
                let tape = model.forward(&batch, &tensors, None, None, KeepInputs::No);
                let (predictors, targets) = batch.predictions();
                let hidden = model.predicting_states(&tape.output, &predictors);
                let found = model
                    .head(temperature.parse().unwrap())
                    .log_probs(&hidden, &targets)
                    .log_probs;
                let difference = largest_difference(&found, &numbers(expected));
                assert!(
                    difference < LOGIT_TOLERANCE,
                    "{name}: log-probs at {temperature} differ by {difference}"
                );
            }
        }
        // Both rows in one batch, so that one is padded; end tokens are off in the golden.
        let prompts: Vec<Vec<u32>> = rows.iter().map(|row| ids(&row["input_ids"])).collect();
        let no_stop = RolloutSettings {
            stop: [].into(),
            ..settings(1)
        };
        let keyed: Vec<Prompt> = prompts
            .iter()
            .map(|tokens| Prompt {
                tokens: tokens.clone(),
                key: 0,
            })
            .collect();
        let found = generate(
            &model,
            None,
            &keyed,
            &RolloutSettings {
                sampling: SamplingParameters {
                    temperature: 0.0,
                    ..Default::default()
                },
                ..no_stop
            },
            &mut |_| Ok(()),
        )
        .unwrap();
        for (row, group) in rows.iter().zip(found) {
            assert_eq!(group[0].tokens, ids(&row["greedy"]), "{name}");
        }
    }
}

#[test]
fn adapters_that_peft_wrote_give_its_logits_and_come_back_as_written() {
    let model = Llama::load(&golden_dir().join("tiny_llama"), &Compute::cpu()).unwrap();
    for name in ["attention_r4", "all_linear_r3"] {
        let directory = golden_dir().join("peft").join(name);
        let adapter = load_adapter(&directory, &model.config, &model.compute).unwrap();
        for row in read(directory.join("golden.json"))["rows"]
            .as_array()
            .unwrap()
        {
            let tokens = ids(&row["input_ids"]);
            let found = all_logits(&model, &tokens, Some(&adapter));
            let difference = largest_difference(&found, &numbers(&row["logits"]));
            assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");
        }
        let folder = tempfile::tempdir().unwrap();
        save_adapter(folder.path(), &adapter, "tiny_llama").unwrap();
        let again = load_adapter(folder.path(), &model.config, &model.compute).unwrap();
        for (kept, read) in adapter.parameters().into_iter().zip(again.parameters()) {
            assert_eq!(to_f32(kept), to_f32(read));
        }
    }
}

/// An adapter of ours, with every factor filled by a formula.
fn written_by_moim(model: &Llama) -> Adapter {
    let config = LoraConfig {
        r: 5,
        lora_alpha: 15.0,
        lora_dropout: 0.05,
        target_modules: vec![
            Projection::Q,
            Projection::V,
            Projection::O,
            Projection::Down,
        ],
    };
    let adapter = Adapter::new(config, &model.config, 11, &model.compute);
    let values = adapter
        .parameters()
        .into_iter()
        .enumerate()
        .map(|(index, tensor)| {
            let [rows, columns] = tensor.dims();
            let values = (0..rows * columns)
                .map(|i| ((i * 7 + index * 13) % 31) as f32 / 100.0 - 0.15)
                .collect();
            f32_tensor(values, [rows, columns], &model.compute)
        });
    adapter.with_parameters(values.collect())
}

/// `golden.json` holds the logits that PEFT computes with the adapter in that
/// folder, which is one of ours: `check_peft_loads.py DIR ../tiny_llama ../tiny_llama/golden.json`.
/// To write the folder again: MOIM_WRITE_GOLDEN=1 cargo test --release --test model.
#[test]
fn peft_reads_our_adapters_as_we_do() {
    let model = Llama::load(&golden_dir().join("tiny_llama"), &Compute::cpu()).unwrap();
    let directory = golden_dir().join("peft/written_by_moim");
    let adapter = written_by_moim(&model);
    if std::env::var_os("MOIM_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        save_adapter(&directory, &adapter, "tiny_llama").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    save_adapter(folder.path(), &adapter, "tiny_llama").unwrap();
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        let (written, committed) = (folder.path().join(name), directory.join(name));
        assert!(
            std::fs::read(written).unwrap() == std::fs::read(committed).unwrap(),
            "{name} is written otherwise now"
        );
    }
    for row in read(directory.join("golden.json"))["rows"]
        .as_array()
        .unwrap()
    {
        let found = all_logits(&model, &ids(&row["input_ids"]), Some(&adapter));
        let difference = largest_difference(&found, &numbers(&row["logits"]));
        assert!(difference < LOGIT_TOLERANCE, "{difference}");
    }
}

#[test]
fn sampling_probabilities_are_those_of_transformers() {
    let golden = read(golden_dir().join("sampling.json"));
    for case in golden["cases"].as_array().unwrap() {
        let parameters = SamplingParameters {
            temperature: case["temperature"].as_f64().unwrap(),
            top_k: case["top_k"].as_u64().unwrap() as usize,
            top_p: case["top_p"].as_f64().unwrap(),
            min_p: case["min_p"].as_f64(),
            repetition_penalty: case["repetition_penalty"].as_f64().unwrap(),
        };
        let rows = golden["rows"].as_array().unwrap();
        for (row, expected) in rows.iter().zip(case["probabilities"].as_array().unwrap()) {
            let history = ids(&row["history"]);
            // Which of tied logits top-p keeps is undefined there, and null in the golden.
            let Some(expected) = expected.as_array() else {
                continue;
            };
            let found =
                parameters.candidates(&numbers(&row["logits"]), |token| history.contains(&token));
            assert_eq!(found.len(), expected.len(), "{parameters:?}");
            for ((token, p), pair) in found.into_iter().zip(expected) {
                assert_eq!(
                    u64::from(token),
                    pair[0].as_u64().unwrap(),
                    "{parameters:?}"
                );
                assert!(
                    (p - pair[1].as_f64().unwrap()).abs() < 1e-6,
                    "{parameters:?}: token {token} has {p}"
                );
            }
        }
    }
}

/// A real model: prompts, tokens, logits and greedy text of SmolLM2-135M-Instruct.
/// Runs where `scripts/fetch_smollm2.py` has been.
#[test]
fn smollm2_answers_as_in_transformers() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/SmolLM2-135M-Instruct");
    if !directory.join("model.safetensors").exists() {
        eprintln!("skipped: python3 scripts/fetch_smollm2.py makes the folder this test needs");
        return;
    }
    let golden = read(golden_dir().join("smollm2.json"));
    let tokenizer = Tokenizer::from_model_dir(&directory).unwrap();
    let template = ChatTemplate::load(&directory, None).unwrap();
    let model = Llama::load(&directory, &Compute::cpu()).unwrap();
    let stop = StopSet::from_model_dir(&directory, &tokenizer, &[]).unwrap();
    for chat in golden["chats"].as_array().unwrap() {
        let messages: Vec<Message> = chat["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                let role = match message["role"].as_str().unwrap() {
                    "system" => Role::System,
                    "user" => Role::User,
                    _ => Role::Assistant,
                };
                Message::new(role, message["content"].as_str().unwrap())
            })
            .collect();
        let options = RenderOptions {
            add_generation_prompt: true,
            ..Default::default()
        };
        let prompt = template.render(&messages, &options).unwrap();
        assert_eq!(prompt, chat["prompt"].as_str().unwrap());
        let tokens = tokenizer.encode(&prompt, false).unwrap();
        assert_eq!(tokens, ids(&chat["input_ids"]));
        let logits = all_logits(&model, &tokens, None);
        let last = &logits[logits.len() - model.config.vocab_size..];
        for pair in chat["top_logits"].as_array().unwrap() {
            let found = last[pair[0].as_u64().unwrap() as usize];
            assert!(
                (f64::from(found) - pair[1].as_f64().unwrap()).abs() < 2e-3,
                "{pair} is {found}"
            );
        }
        let expected = ids(&chat["greedy"]);
        let settings = RolloutSettings {
            sampling: SamplingParameters {
                temperature: 0.0,
                ..Default::default()
            },
            max_completion_length: expected.len(),
            stop: stop.ids().into_iter().collect(),
            ..settings(1)
        };
        let prompt = Prompt { tokens, key: 0 };
        let found = generate(&model, None, &[prompt], &settings, &mut |_| Ok(())).unwrap();
        assert_eq!(found[0][0].tokens, expected);
    }
}

#[test]
fn cached_decoding_is_the_full_forward_pass_whatever_the_batch() {
    let model = Llama::load(&golden_dir().join("tiny_llama"), &Compute::cpu()).unwrap();
    let prompts = [
        vec![3, 14, 15, 92, 65],
        vec![35, 8],
        vec![9, 79, 32, 38, 46, 26, 43, 38],
    ];
    let keyed: Vec<Prompt> = prompts
        .iter()
        .enumerate()
        .map(|(i, tokens)| Prompt {
            tokens: tokens.clone(),
            key: i as u64,
        })
        .collect();
    let together = generate(&model, None, &keyed, &settings(4), &mut |_| Ok(())).unwrap();
    for (prompt, group) in keyed.iter().zip(&together) {
        let alone = generate(
            &model,
            None,
            std::slice::from_ref(prompt),
            &settings(4),
            &mut |_| Ok(()),
        )
        .unwrap();
        for (a, b) in group.iter().zip(&alone[0]) {
            assert_eq!(
                a.tokens, b.tokens,
                "a completion must not depend on the batch it is sampled in"
            );
        }
        // The log-probabilities of sampling are those of the training pass over the whole group.
        let rows: Vec<&[u32]> = group
            .iter()
            .map(|completion| completion.tokens.as_slice())
            .collect();
        let batch = GroupBatch::new(&[(&prompt.tokens, rows)]);
        let tensors = model.layout_tensors(&batch.layout);
        let tape = model.forward(&batch, &tensors, None, None, KeepInputs::No);
        let (predictors, targets) = batch.predictions();
        let hidden = model.predicting_states(&tape.output, &predictors);
        let trained = model.head(1.0).log_probs(&hidden, &targets).log_probs;
        let sampled: Vec<f32> = group
            .iter()
            .flat_map(|completion| completion.log_probs.clone())
            .collect();
        let difference = largest_difference(&trained, &sampled);
        assert!(difference < 1e-4, "{difference}");
    }
    let lengths: Vec<usize> = together
        .iter()
        .flatten()
        .map(|completion| completion.tokens.len())
        .collect();
    assert!(
        lengths.iter().any(|&length| length < 12),
        "some row must finish early for this test to mean something"
    );
}

#[test]
fn a_fresh_adapter_changes_nothing_and_another_prompt_leaves_no_trace() {
    let model = Llama::load(&golden_dir().join("tiny_llama"), &Compute::cpu()).unwrap();
    let config = LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.1,
        target_modules: Projection::ALL.to_vec(),
    };
    let adapter = Adapter::new(config, &model.config, 1, &model.compute);
    let prompt = vec![1, 2, 3, 4];
    let before = greedy(&model, None, std::slice::from_ref(&prompt), 8);
    greedy(&model, None, &[vec![90, 80, 70]], 8);
    assert_eq!(greedy(&model, Some(&adapter), &[prompt], 8), before);
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let model = Llama::load(&golden_dir().join("tiny_llama"), &Compute::cpu()).unwrap();
    let directory = golden_dir().join("peft/all_linear_r3");
    let adapter = load_adapter(&directory, &model.config, &model.compute).unwrap();
    assert_slopes(&model, &adapter, &[0, 1, 7, 20, 41]);
}

/// The layer-by-layer gradients against finite differences of the loss, for these parameters.
fn assert_slopes(model: &Llama, adapter: &Adapter, indices: &[usize]) {
    let groups: Vec<(&[u32], Vec<&[u32]>)> = vec![
        (&[3, 1, 4, 1], vec![&[5, 9], &[2, 6, 5]]),
        (&[3, 5], vec![&[8, 9, 7, 9], &[3]]),
    ];
    let batch = GroupBatch::new(&groups);
    let tensors = model.layout_tensors(&batch.layout);
    let (predictors, targets) = batch.predictions();
    let weights: Vec<f32> = (0..targets.len()).map(|i| 0.3 - 0.11 * i as f32).collect();
    let loss = |adapter: &Adapter| -> f64 {
        let tape = model.forward(&batch, &tensors, Some(adapter), None, KeepInputs::No);
        let hidden = model.predicting_states(&tape.output, &predictors);
        let found = model.head(0.8).log_probs(&hidden, &targets).log_probs;
        found
            .iter()
            .zip(&weights)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let tape = model.forward(&batch, &tensors, Some(adapter), None, KeepInputs::OnDevice);
    let hidden = model.predicting_states(&tape.output, &predictors);
    let (of_hidden, _) = model.head(0.8).backward(&hidden, &targets, &weights, false);
    let top = TopGradient {
        predictors: predictors.clone(),
        hidden: of_hidden,
    };
    let gradients = model.backward_adapter(tape, &tensors, top, adapter, None);
    let parameters = adapter.parameters();
    assert_eq!(gradients.len(), parameters.len());
    for &index in indices {
        let gradient = to_f32(gradients[index].clone());
        // Along the gradient itself the slope is its squared length.
        let step = 1e-3 / gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        let moved = |sign: f32| {
            let mut values = parameters.clone();
            values[index] =
                values[index].clone() + gradients[index].clone().mul_scalar(sign * step);
            loss(&adapter.with_parameters(values))
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step));
        let expected: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        assert!(
            (slope / expected - 1.0).abs() < 0.02,
            "parameter {index}: slope {slope}, gradient² {expected}"
        );
    }
}

/// A folder that transformers saved in four bits, and the same model quantised here.
#[test]
fn four_bit_models_compute_what_bitsandbytes_computes() {
    let folder = |name: &str| golden_dir().parent().unwrap().join("nf4").join(name);
    let compute = Compute::cpu();
    let cache = tempfile::tempdir().unwrap();
    let options = LoadOptions {
        format: WeightFormat::Nf4 { double_quant: true },
        cache: Some(cache.path().to_path_buf()),
    };
    let mut told = Vec::new();
    let mut load = |name: &str| {
        Llama::load_as(&folder(name), &compute, &options, &mut |progress| {
            told.push(progress);
            Ok(())
        })
        .unwrap()
    };
    let (stored, quantised, cached) = (load("nf4"), load("plain"), load("plain"));
    // Quantised once: the second time it came from the cache.
    let layers = stored.config.num_hidden_layers;
    let expected = (0..=layers).map(|done| LoadProgress::Quantizing {
        done,
        total: layers,
    });
    assert_eq!(told, expected.collect::<Vec<_>>());
    let golden = read(folder("nf4").join("golden.json"));
    for row in golden["rows"].as_array().unwrap() {
        let tokens = ids(&row["input_ids"]);
        let logits = all_logits(&stored, &tokens, None);
        let difference = largest_difference(&logits, &numbers(&row["logits"]));
        assert!(
            difference < LOGIT_TOLERANCE,
            "logits differ by {difference}"
        );
        assert_eq!(logits, all_logits(&quantised, &tokens, None));
        assert_eq!(logits, all_logits(&cached, &tokens, None));
    }
}

#[test]
fn folders_that_cannot_be_used_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let complaint =
        |compute: &Compute| format!("{:#}", Llama::load(folder.path(), compute).unwrap_err());
    let compute = Compute::cpu();
    assert!(complaint(&compute).contains("config.json"));
    let source = golden_dir().join("tiny_llama");
    let config = std::fs::read_to_string(source.join("config.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), &config).unwrap();
    assert!(complaint(&compute).contains("model.safetensors"));
    std::fs::write(folder.path().join("model.safetensors"), b"torn").unwrap();
    assert!(complaint(&compute).contains("not a whole safetensors file"));
    std::fs::copy(
        source.join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        config.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"),
    )
    .unwrap();
    assert!(complaint(&compute).contains("model.layers.3.self_attn.q_proj.weight"));
    std::fs::write(
        folder.path().join("config.json"),
        config.replace("\"intermediate_size\": 48", "\"intermediate_size\": 64"),
    )
    .unwrap();
    assert!(complaint(&compute).contains("config.json requires [64, 32]"));
}
