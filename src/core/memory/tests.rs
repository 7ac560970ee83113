use super::*;
use crate::architecture::{LlamaConfig, WeightFormat};
use crate::experiment::{BatchUnit, Experiment, TargetModule};

const GIB: u64 = 1 << 30;

fn decoder(hidden: usize, layers: usize) -> LlamaConfig {
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 131_392, "hidden_size": hidden,
        "intermediate_size": hidden * 7 / 2, "num_hidden_layers": layers, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 32_768,
    });
    LlamaConfig::from_json(&json).unwrap()
}

/// The shape of Midm-2.0-Base on CUDA: 11.55 billion parameters.
fn reference() -> Inputs {
    let mut experiment = Experiment::default();
    experiment.lora.r = 64;
    experiment.model.device = "cuda".parse().unwrap();
    experiment.data.max_prompt_length = 512;
    experiment.rollout.max_completion_length = 1024;
    experiment.quantization.load_in_4bit = true;
    experiment.quantization.bnb_4bit_use_double_quant = true;
    let shapes = Shapes {
        decoder: Ok(decoder(4096, 48)),
        encoder: None,
        has_cuda: true,
        cores: 4,
    };
    Inputs::of(&experiment, &shapes).unwrap()
}

fn dense() -> Inputs {
    Inputs {
        weight_format: WeightFormat::Dense,
        ..reference()
    }
}

#[test]
fn resting_memory_is_the_models_arithmetic() {
    let parameters = dense().decoder.parameter_count() as u64;
    assert!((11_500_000_000..11_600_000_000).contains(&parameters));
    let of = |inputs: &Inputs, component| plan(inputs, None).training.of(component);
    assert_eq!(of(&dense(), Component::Weights), 2 * parameters);
    // 4.127 bits per weight of the linear layers, 16 of the embedding and the head.
    let embeddings = 2 * 131_392 * 4096_u64;
    let quantised = (parameters - embeddings) as f64 * 4.127 / 8.0 + 2.0 * embeddings as f64;
    let found = of(&reference(), Component::Weights) as f64;
    assert!(
        (found / quantised - 1.0).abs() < 1e-3,
        "{found} against {quantised}"
    );
    // r · (in + out) over q, k, v, o and 48 layers; AdamW has two moments of each.
    let adapter = 4 * 64 * 48 * 2 * ((4096 + 4096) + (4096 + 1024));
    assert_eq!(of(&dense(), Component::Adapter), adapter);
    assert_eq!(of(&dense(), Component::Optimizer), 2 * adapter);
}

#[test]
fn the_cache_contains_a_prompt_once_per_group() {
    let cache = |inputs: &Inputs| plan(inputs, None).rollout.of(Component::KvCache);
    // 48 layers, keys and values, 8 heads of 128, 2 bytes; 1023 columns grow to 1024.
    let token = 48 * 2 * 8 * 128 * 2;
    assert_eq!(cache(&reference()), token * (512 + 8 * 1024));
    let mut wide = reference();
    wide.batch.a = 4;
    assert_eq!(cache(&wide), 4 * token * (512 + 8 * 1024));
}

#[test]
fn larger_inputs_never_need_less() {
    let mut larger: Vec<Inputs> = Vec::new();
    let mut add = |change: &dyn Fn(&mut Inputs)| {
        let mut inputs = reference();
        change(&mut inputs);
        larger.push(inputs);
    };
    add(&|i| i.prompt_length += 100);
    add(&|i| i.completion_length += 1);
    add(&|i| i.batch.b *= 2);
    add(&|i| {
        i.batch.g *= 2;
        i.batch.b *= 2;
    });
    add(&|i| i.lora_rank *= 2);
    add(&|i| i.has_dropout = true);
    add(&|i| i.lora_targets = TargetModule::ALL.to_vec());
    add(&|i| i.value_bytes = 4);
    add(&|i| i.weight_format = WeightFormat::Dense);
    let before = plan(&reference(), None);
    for inputs in larger {
        let after = plan(&inputs, None);
        assert!(
            after.training.total() >= before.training.total(),
            "{inputs:?}"
        );
        assert!(
            after.rollout.total() >= before.rollout.total(),
            "{inputs:?}"
        );
        assert!(after.fullest().1 >= before.fullest().1, "{inputs:?}");
    }
}

#[test]
fn the_largest_values_fit_and_the_next_do_not() {
    for unit in [BatchUnit::Completions, BatchUnit::Prompts] {
        let mut inputs = dense();
        inputs.batch.unit = unit;
        inputs.batch.b = if unit == BatchUnit::Prompts { 1 } else { 8 };
        let capacity = 27 * GIB;
        let limits = plan(&inputs, Some(capacity)).limits(&inputs);
        let fits = |change: &dyn Fn(&mut Inputs)| {
            let mut changed = inputs.clone();
            change(&mut changed);
            plan(&changed, Some(capacity)).is_possible()
        };
        // Parts can be as small as one completion, so the batch is not limited.
        let b = limits.per_device_train_batch_size.unwrap();
        let step = if unit == BatchUnit::Prompts { 1 } else { 8 };
        assert!(b.is_multiple_of(step) && b > 60_000, "{b}");
        assert!(fits(&|i| i.batch.b = b), "{b}");
        let length = limits.max_completion_length.unwrap();
        assert!((1024..32_000).contains(&length), "{length}");
        assert!(fits(&|i| i.completion_length = length), "{length}");
        assert!(!fits(&|i| i.completion_length = length + 1), "{length}");
        let g = limits.num_generations.unwrap();
        assert!(fits(&|i| i.batch.g = g), "{g}");
        assert!(limits.words().starts_with("at most "), "{}", limits.words());
    }
    let none = plan(&dense(), Some(GIB)).limits(&dense());
    assert_eq!((none, none.words().as_str()), (Limits::default(), ""));
}

#[test]
fn the_verdict_names_what_is_missing_and_where() {
    let inputs = dense();
    let needed = plan(&inputs, None).fullest().1;
    let verdict = |capacity| plan(&inputs, Some(capacity)).verdict();
    assert_eq!(plan(&inputs, None).verdict(), Verdict::Unknown);
    assert_eq!(verdict(2 * needed), Verdict::Fits { spare: needed });
    assert_eq!(verdict(needed), Verdict::Tight { spare: 0 });
    // With less, parts become smaller, down to a single completion.
    assert!(matches!(
        verdict(needed - 7),
        Verdict::Fits { .. } | Verdict::Tight { .. }
    ));
    let least = plan(&inputs, Some(1)).fullest().1;
    assert!(matches!(
        verdict(least - 7),
        Verdict::TooLarge {
            missing: 7,
            phase: Phase::Training
        }
    ));
}

#[test]
fn parts_are_as_large_as_fits() {
    let mut inputs = reference();
    inputs.batch.b = 64;
    let free = plan(&inputs, None);
    assert_eq!(free.sizes.rows_per_part, None);
    assert_eq!(free.sizes_in_words(&inputs), None);
    let mut before = (usize::MAX, usize::MAX);
    for gib in [80, 40, 24, 16, 14, 13, 12] {
        let capacity = gib * GIB;
        let bounded = plan(&inputs, Some(capacity));
        assert!(bounded.is_possible(), "{gib} GiB: {bounded:?}");
        let sizes = bounded.sizes;
        let now = (sizes.rows_per_part.unwrap_or(64), sizes.rollout_rows);
        assert!(
            now.0 <= before.0 && now.1 <= before.1,
            "{gib} GiB: {now:?}, {before:?}"
        );
        before = now;
    }
    assert!(before.0 < 8, "{before:?}");
    let words = plan(&inputs, Some(12 * GIB))
        .sizes_in_words(&inputs)
        .unwrap();
    assert!(words.starts_with("training in parts of "), "{words}");
    // If nothing fits, the smallest sizes are used.
    let hopeless = plan(&inputs, Some(GIB));
    assert!(!hopeless.is_possible());
    assert_eq!(hopeless.sizes.rows_per_part, Some(1));
    assert_eq!(hopeless.sizes.rollout_rows, 1);
}

#[test]
fn the_reference_trains_on_a_card_of_16_gib() {
    let plan = plan(&reference(), None);
    for (phase, peak) in plan.phases() {
        println!("{} {} {peak:#?}", phase.name(), Bytes(peak.total()));
    }
    assert!(plan.training.total() < 16 * GIB, "{:?}", plan.training);
    assert!(plan.rollout.total() < 16 * GIB, "{:?}", plan.rollout);
}

#[test]
fn the_cheapest_change_makes_it_fit() {
    let advice = |inputs: &Inputs, capacity| plan(inputs, Some(capacity)).suggestion(inputs);
    let least = |inputs: &Inputs| plan(inputs, Some(1)).fullest().1;
    let mut inputs = dense();
    assert_eq!(advice(&inputs, least(&inputs)), None);
    assert_eq!(plan(&inputs, None).suggestion(&inputs), None);
    // Long texts: their layer inputs can be kept on the host.
    inputs.completion_length = 8000;
    inputs.answer_length = 64;
    let text = advice(&inputs, least(&inputs) - GIB / 4).unwrap();
    assert!(
        text.starts_with("set memory.offload_layer_inputs = true: "),
        "{text}"
    );
    inputs.offloads_layer_inputs = true;
    let text = advice(&inputs, least(&inputs) - GIB / 64).unwrap();
    assert!(
        text.starts_with("set rollout.max_completion_length = "),
        "{text}"
    );
    // Half the length is not enough.
    let text = advice(&inputs, 20 * GIB).unwrap();
    assert!(text.contains("quantization.load_in_4bit = true"), "{text}");
    // Nothing helps a model that is too large by itself.
    let text = advice(&dense(), 6 * GIB).unwrap();
    assert!(text.contains("smaller model"), "{text}");
}

#[test]
fn no_numbers_make_it_panic_or_hang() {
    for b in [0, 1, usize::MAX] {
        for g in [0, 1, 7, usize::MAX] {
            for unit in BatchUnit::ALL {
                for length in [0, 1, usize::MAX] {
                    for is_cpu in [false, true] {
                        let mut inputs = reference();
                        (inputs.batch.b, inputs.batch.g, inputs.batch.unit) = (b, g, *unit);
                        (inputs.completion_length, inputs.prompt_length) = (length, length);
                        (inputs.answer_length, inputs.sizes.answered_together) = (length, b);
                        (inputs.is_cpu, inputs.batch.a) = (is_cpu, b);
                        let plan = plan(&inputs, Some(24 * GIB));
                        plan.limits(&inputs);
                        plan.suggestion(&inputs);
                    }
                }
            }
        }
    }
}

#[test]
fn the_budget_comes_before_the_device_and_a_given_size_before_both() {
    let mut experiment = Experiment::default();
    let device = Some(Bytes(80 * GIB));
    assert_eq!(capacity(&experiment, None, device), device);
    experiment.memory.budget_gib = Some(24.0);
    assert_eq!(capacity(&experiment, None, device), Some(Bytes(24 * GIB)));
    let given = Some(Bytes(GIB));
    assert_eq!(capacity(&experiment, given, device), given);
}
