//! Mistral, Qwen2, Qwen3 and EXAONE against transformers, PEFT and bitsandbytes: what their
//! additions to Llama do to adapters, gradients, four bits and files. `make_families.py` says how
//! the values came to be.

use std::collections::BTreeMap;

use super::*;
use moim::architecture::Family;
use moim::model::WeightFiles;

const FAMILIES: [(&str, Family); 4] = [
    ("tiny_mistral", Family::Mistral),
    ("tiny_qwen2", Family::Qwen2),
    ("tiny_qwen3", Family::Qwen3),
    ("tiny_exaone", Family::Exaone),
];

fn load(name: &str) -> (Llama, Value) {
    let directory = golden_dir().join(name);
    let model = Llama::load(&directory, &Compute::cpu()).unwrap();
    (model, read(directory.join("golden.json")))
}

/// `fill` of make_families.py.
fn filled([rows, columns]: [usize; 2], index: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|i| ((i * 7 + index * 13) % 31) as f32 / 100.0 - 0.15)
        .collect()
}

/// The adapter of make_families.py, or one of other layers filled alike.
fn filled_adapter(model: &Llama, r: usize, target_modules: Vec<Projection>) -> Adapter {
    let config = LoraConfig {
        r,
        lora_alpha: 3.0 * r as f64,
        lora_dropout: 0.0,
        target_modules,
    };
    let adapter = Adapter::new(config, &model.config, 11, &model.compute);
    let values = adapter.parameters().into_iter().enumerate();
    let values = values.map(|(index, tensor)| {
        let shape = tensor.dims();
        f32_tensor(filled(shape, index), shape, &model.compute)
    });
    adapter.with_parameters(values.collect())
}

/// Loss of make_families.py going back: the layers' tape with the gradient at its top, and the
/// gradient of the head's weight.
fn top(
    model: &Llama,
    row: &Value,
    adapter: Option<&Adapter>,
) -> (
    GroupBatch,
    moim::model::LayoutTensors,
    moim::model::Tape,
    TopGradient,
    Tensor<2>,
) {
    let (tokens, continuation) = (ids(&row["input_ids"]), ids(&row["continuation"]));
    let batch = GroupBatch::new(&[(&tokens, vec![&continuation])]);
    let tensors = model.layout_tensors(&batch.layout);
    let tape = model.forward(&batch, &tensors, adapter, None, KeepInputs::OnDevice);
    let (predictors, targets) = batch.predictions();
    let hidden = model.predicting_states(&tape.output, &predictors);
    let weights: Vec<f32> = (0..targets.len()).map(|i| 0.3 - 0.11 * i as f32).collect();
    let (of_hidden, of_head) = model.head(0.8).backward(&hidden, &targets, &weights, true);
    let top = TopGradient {
        predictors,
        hidden: of_hidden,
    };
    (batch, tensors, tape, top, of_head.unwrap())
}

/// A gradient's length and its product with the formula's values, beside those of torch. Lengths
/// agree to about 1e-6 of themselves; the bound leaves room for other orders of summation.
fn assert_measured(what: &str, gradient: Tensor<2>, index: usize, expected: &Value) {
    let shape = gradient.dims();
    let values = to_f32(gradient);
    let length = values
        .iter()
        .map(|&g| f64::from(g).powi(2))
        .sum::<f64>()
        .sqrt();
    let product: f64 = values
        .iter()
        .zip(filled(shape, index))
        .map(|(&g, f)| f64::from(g) * f64::from(f))
        .sum();
    let [of_length, of_product] = [0, 1].map(|i| expected[i].as_f64().unwrap());
    let tolerance = 1e-4 * of_length + 1e-7;
    assert!(
        (length - of_length).abs() < tolerance && (product - of_product).abs() < tolerance,
        "{what}: length {length} and product {product}, torch has {of_length} and {of_product}"
    );
    assert!(of_length > 1e-4, "{what} must matter");
}

#[test]
fn folders_are_read_as_their_family() {
    for (name, family) in FAMILIES {
        let (model, _) = load(name);
        assert_eq!(model.config.family, family);
        let count: usize = model
            .parameters()
            .into_iter()
            .map(|(_, tensor)| tensor.dims().iter().product::<usize>())
            .sum();
        assert_eq!(count, model.config.parameter_count(), "{name}");
    }
}

#[test]
fn adapters_compute_what_peft_computes_and_have_torchs_gradients() {
    for (name, _) in FAMILIES {
        let (model, golden) = load(name);
        let row = &golden["rows"][0];
        let adapter = filled_adapter(&model, 2, Projection::ALL.to_vec());
        let found = all_logits(&model, &ids(&row["input_ids"]), Some(&adapter));
        let difference = largest_difference(&found, &numbers(&golden["adapted_logits"]));
        println!("{name}: logits with an adapter differ by {difference}");
        assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");

        let (_, tensors, tape, top, _) = top(&model, row, Some(&adapter));
        let gradients = model.backward_adapter(tape, &tensors, top, &adapter, None);
        let expected = golden["gradients"].as_array().unwrap();
        assert_eq!(gradients.len(), expected.len());
        for (index, (gradient, expected)) in gradients.into_iter().zip(expected).enumerate() {
            assert_measured(
                &format!("{name}, factor {index}"),
                gradient,
                index,
                expected,
            );
        }
    }
}

#[test]
fn gradients_of_several_groups_are_the_slopes_of_the_loss() {
    for (name, _) in FAMILIES {
        let (model, _) = load(name);
        let adapter = filled_adapter(&model, 2, Projection::ALL.to_vec());
        assert_slopes(&model, &adapter, &[0, 1, 2, 3, 5, 7, 20, 27]);
    }
}

#[test]
fn every_weight_has_torchs_gradient() {
    for (name, _) in FAMILIES {
        let (model, golden) = load(name);
        let (batch, tensors, tape, top, of_head) = top(&model, &golden["rows"][0], None);
        let gradients = model.backward_everything(&batch, tape, &tensors, top, of_head);
        let names = model.parameters().into_iter().map(|(name, _)| name);
        let found: BTreeMap<String, Tensor<2>> = names.zip(gradients).collect();
        let expected = golden["weight_gradients"].as_object().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        // The formula takes the place of the weight in the order of names.
        for (index, (weight, expected)) in expected.iter().enumerate() {
            let gradient = found[weight].clone();
            assert_measured(&format!("{name}, {weight}"), gradient, index, expected);
        }
    }
}

#[test]
fn four_bits_leave_biases_and_norms_as_they_are() {
    for (name, _) in FAMILIES {
        let options = LoadOptions {
            format: WeightFormat::Nf4 { double_quant: true },
            cache: None,
        };
        let directory = golden_dir().join(name);
        let model = Llama::load_as(&directory, &Compute::cpu(), &options, &mut |_| Ok(())).unwrap();
        let golden = read(directory.join("golden.json"));
        let found = all_logits(&model, &ids(&golden["rows"][0]["input_ids"]), None);
        let difference = largest_difference(&found, &numbers(&golden["nf4_logits"]));
        println!("{name}: logits in four bits differ by {difference}");
        assert!(difference < LOGIT_TOLERANCE, "{name}: {difference}");
    }
}

#[test]
fn a_group_is_sampled_with_the_log_probs_that_training_computes() {
    for (name, _) in FAMILIES {
        let (model, _) = load(name);
        let adapter = filled_adapter(&model, 2, Projection::ALL.to_vec());
        let prompts = [vec![3, 14, 15, 9], vec![35, 8]].map(|tokens| Prompt {
            key: tokens.len() as u64,
            tokens,
        });
        let sample = |prompts: &[Prompt]| {
            generate(&model, Some(&adapter), prompts, &settings(4), &mut |_| {
                Ok(())
            })
            .unwrap()
        };
        let together = sample(&prompts);
        for (prompt, group) in prompts.iter().zip(&together) {
            let alone = sample(std::slice::from_ref(prompt));
            for (a, b) in group.iter().zip(&alone[0]) {
                assert_eq!(a.tokens, b.tokens, "{name}");
            }
            let rows = group.iter().map(|row| row.tokens.as_slice()).collect();
            let batch = GroupBatch::new(&[(&prompt.tokens, rows)]);
            let tensors = model.layout_tensors(&batch.layout);
            let tape = model.forward(&batch, &tensors, Some(&adapter), None, KeepInputs::No);
            let (predictors, targets) = batch.predictions();
            let hidden = model.predicting_states(&tape.output, &predictors);
            let trained = model.head(1.0).log_probs(&hidden, &targets).log_probs;
            let sampled: Vec<f32> = group.iter().flat_map(|row| row.log_probs.clone()).collect();
            let difference = largest_difference(&trained, &sampled);
            assert!(difference < 1e-4, "{name}: {difference}");
        }
    }
}

#[test]
fn saved_weights_have_the_names_and_shapes_of_the_folder_they_came_from() {
    for (name, _) in FAMILIES {
        let directory = golden_dir().join(name);
        let (model, golden) = load(name);
        let folder = tempfile::tempdir().unwrap();
        let config = directory.join("config.json");
        std::fs::copy(config, folder.path().join("config.json")).unwrap();
        let path = folder.path().join("model.safetensors");
        model.save_weights(&path).unwrap();
        let shapes = |files: &WeightFiles| -> BTreeMap<String, Vec<usize>> {
            let shape = |name: &str| files.raw(name).unwrap().shape().to_vec();
            files
                .names()
                .map(|it| (it.to_string(), shape(it)))
                .collect()
        };
        let source = WeightFiles::open(&directory).unwrap();
        let written = WeightFiles::open(folder.path()).unwrap();
        assert_eq!(shapes(&written), shapes(&source), "{name}");
        // The folder is in bf16, as is what was written: the same values.
        let again = Llama::load(folder.path(), &Compute::cpu()).unwrap();
        let tokens = ids(&golden["rows"][0]["input_ids"]);
        assert_eq!(
            all_logits(&again, &tokens, None),
            all_logits(&model, &tokens, None)
        );
    }
}

#[test]
fn fresh_models_start_with_norms_of_one_and_biases_of_zero() {
    for (name, _) in FAMILIES {
        let (model, _) = load(name);
        let noise = Llama::noise(model.config.clone(), 1, &model.compute, WeightFormat::Dense);
        let random = Llama::random(model.config.clone(), 1, &model.compute);
        for fresh in [noise.unwrap(), random.unwrap()] {
            for (tensor, values) in fresh.parameters() {
                let values = to_f32(values);
                let first = values[0];
                let is_constant = values.iter().all(|&value| value == first);
                if tensor.ends_with(".bias") {
                    assert!(is_constant && first == 0.0, "{tensor}")
                } else {
                    assert!(!is_constant || first == 1.0, "{tensor}")
                }
            }
        }
    }
}

/// As `peft_reads_our_adapters_as_we_do`, for names that are not Llama's:
/// `check_peft_loads.py DIR ../tiny_exaone ../tiny_exaone/golden.json`.
#[test]
fn peft_reads_our_adapter_of_an_exaone() {
    let (model, _) = load("tiny_exaone");
    let directory = golden_dir().join("peft/written_by_moim_exaone");
    let targets = vec![
        Projection::Q,
        Projection::O,
        Projection::Up,
        Projection::Down,
    ];
    let adapter = filled_adapter(&model, 3, targets);
    if std::env::var_os("MOIM_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        save_adapter(&directory, &adapter, "tiny_exaone").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    save_adapter(folder.path(), &adapter, "tiny_exaone").unwrap();
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        let (written, committed) = (folder.path().join(name), directory.join(name));
        assert!(
            std::fs::read(written).unwrap() == std::fs::read(committed).unwrap(),
            "{name} is written otherwise now"
        );
    }
    let again = load_adapter(folder.path(), &model.config, &model.compute).unwrap();
    for (kept, read) in adapter.parameters().into_iter().zip(again.parameters()) {
        assert_eq!(to_f32(kept), to_f32(read));
    }
    let files = WeightFiles::open_files(vec![folder.path().join("adapter_model.safetensors")]);
    let files = files.unwrap();
    let first = "base_model.model.transformer.h.0.attn.attention.out_proj.lora_A.weight";
    assert!(files.names().any(|name| name == first));
    for row in read(directory.join("golden.json"))["rows"]
        .as_array()
        .unwrap()
    {
        let found = all_logits(&model, &ids(&row["input_ids"]), Some(&adapter));
        let difference = largest_difference(&found, &numbers(&row["logits"]));
        assert!(difference < LOGIT_TOLERANCE, "{difference}");
    }
}

/// An adapter of Llama's names is not one of EXAONE's.
#[test]
fn an_adapter_with_names_of_another_family_is_refused() {
    let (model, _) = load("tiny_exaone");
    let directory = golden_dir().join("peft/all_linear_r3");
    let error = load_adapter(&directory, &model.config, &model.compute).unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("down_proj"), "{message}");
    assert!(message.contains("c_fc_0"), "{message}");
}

#[test]
fn a_tensor_that_the_family_needs_and_the_folder_lacks_is_named() {
    for (name, other, missing) in [
        (
            "tiny_mistral",
            "qwen2",
            "model.layers.0.self_attn.q_proj.bias",
        ),
        (
            "tiny_mistral",
            "qwen3",
            "model.layers.0.self_attn.q_norm.weight",
        ),
        ("tiny_exaone", "llama", "model.embed_tokens.weight"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let source = golden_dir().join(name);
        let weights = "model.safetensors";
        std::fs::copy(source.join(weights), folder.path().join(weights)).unwrap();
        let mut config = read(source.join("config.json"));
        config["model_type"] = other.into();
        config["num_hidden_layers"] = 2.into();
        let text = serde_json::to_string(&config).unwrap();
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let error = Llama::load(folder.path(), &Compute::cpu()).unwrap_err();
        assert!(format!("{error:#}").contains(missing), "{error:#}");
    }
}
