//! A card through wgpu against the CPU. It is the stack that CUDA runs (autodiff over fusion over
//! CubeCL, our kernels included) in f32, and a software driver is enough for it:
//!
//!   CUBECL_AUTOTUNE_LEVEL=minimal cargo test --release --features wgpu --test engine wgpu
//!
//! Minutes on a software driver, most of them spent on compiling and tuning kernels.
//! Without an adapter every test passes after saying so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use moim::architecture::{Projection, WeightFormat};
use moim::device::Compute;
use moim::experiment::{DeviceChoice, Dtype, ImportanceSamplingLevel, LossType};
use moim::grpo::group::{Generation, Group};
use moim::grpo::learner::{Learner, Limits, PolicyKind};
use moim::grpo::loss::LossSettings;
use moim::model::{
    Adapter, GroupBatch, KeepInputs, Llama, LoadOptions, LoraConfig, TokenLogProbs, TopGradient,
    to_f32,
};
use moim::optimizer::{AdamW, AdamWSettings};
use moim::rollout::{Completion, Prompt, RolloutSettings, SamplingParameters, generate};

const PROMPTS: usize = 3;
const GROUP: usize = 4;

/// The adapter that wgpu finds; `None`, after saying so, if there is none.
fn wgpu() -> Option<Compute> {
    match Compute::new(DeviceChoice::Wgpu, Dtype::Auto) {
        Ok(compute) => Some(compute),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Folders of the same form of base: dense, in four bits as stored, in four bits quantised here with
/// scales in 32 and in 8 bits; with biases on queries, keys and values, and with norms of heads.
const BASES: [(&str, WeightFormat); 6] = [
    ("model/tiny_llama", WeightFormat::Dense),
    ("nf4/nf4", WeightFormat::Dense),
    (
        "nf4/plain",
        WeightFormat::Nf4 {
            double_quant: false,
        },
    ),
    ("nf4/plain", WeightFormat::Nf4 { double_quant: true }),
    ("model/tiny_qwen2", WeightFormat::Dense),
    ("model/tiny_qwen3", WeightFormat::Dense),
];

fn load((folder, format): (&str, WeightFormat), compute: &Compute) -> Llama {
    let options = LoadOptions {
        format,
        cache: None,
    };
    Llama::load_as(&golden(folder), compute, &options, &mut |_| Ok(())).unwrap()
}

fn tiny(compute: &Compute) -> Llama {
    load(BASES[0], compute)
}

/// The same adapter on every device, of which nothing is zero.
fn adapter(model: &Llama) -> Adapter {
    let lora = LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.0,
        target_modules: Projection::ALL.to_vec(),
    };
    let fresh = Adapter::new(lora, &model.config, 3, &model.compute);
    let moved = fresh.parameters().into_iter().map(|p| p.add_scalar(0.01));
    fresh.with_parameters(moved.collect())
}

/// Tokens that differ from one seed to the next.
fn tokens(length: usize, seed: usize) -> Vec<u32> {
    (0..length)
        .map(|i| ((i * 7 + seed * 13) % 60) as u32 + 1)
        .collect()
}

struct Texts {
    prompts: Vec<Vec<u32>>,
    completions: Vec<Vec<u32>>,
}

impl Texts {
    fn new() -> Self {
        Self {
            prompts: (0..PROMPTS).map(|i| tokens(5 + i % 4, i)).collect(),
            completions: (0..PROMPTS * GROUP)
                .map(|i| tokens(1 + (i * 5) % 8, 100 + i))
                .collect(),
        }
    }

    fn groups(&self) -> Vec<(&[u32], Vec<&[u32]>)> {
        self.prompts
            .iter()
            .zip(self.completions.chunks(GROUP))
            .map(|(prompt, rows)| (prompt.as_slice(), rows.iter().map(Vec::as_slice).collect()))
            .collect()
    }
}

/// The largest difference, relative to the largest value.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs
        .iter()
        .fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let far = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    // `f32::max` ignores NaN, which must fail.
    far.fold(
        0.0,
        |most: f32, x| if most.is_nan() || x <= most { most } else { x },
    ) / largest
}

fn assert_close(what: &str, ours: &[f32], theirs: &[f32], bound: f32) {
    let difference = difference(ours, theirs);
    println!("{what}: {difference:.1e}");
    assert!(difference < bound, "{what}: {difference}");
}

/// Logits of every token of a prompt.
fn logits(model: &Llama, adapter: Option<&Adapter>, prompt: &[u32]) -> Vec<f32> {
    let batch = GroupBatch::new(&[(prompt, vec![])]);
    let tensors = model.layout_tensors(&batch.layout);
    let tape = model.forward(&batch, &tensors, adapter, None, KeepInputs::No);
    let every: Vec<usize> = (0..prompt.len()).collect();
    let states = model.predicting_states(&tape.output, &every);
    to_f32(model.head(1.0).logits_of(states))
}

fn token_log_probs(
    model: &Llama,
    adapter: Option<&Adapter>,
    groups: &[(&[u32], Vec<&[u32]>)],
    temperature: f64,
) -> TokenLogProbs {
    let batch = GroupBatch::new(groups);
    let tensors = model.layout_tensors(&batch.layout);
    let tape = model.forward(&batch, &tensors, adapter, None, KeepInputs::No);
    let (predictors, targets) = batch.predictions();
    let hidden = model.predicting_states(&tape.output, &predictors);
    model.head(temperature).log_probs(&hidden, &targets)
}

#[test]
fn logits_log_probabilities_and_entropies_are_those_of_the_cpu() {
    let Some(compute) = wgpu() else { return };
    let texts = Texts::new();
    for base in BASES {
        let (card, cpu) = (load(base, &compute), load(base, &Compute::cpu()));
        let (on_card, on_cpu) = (adapter(&card), adapter(&cpu));
        for adapters in [None, Some((&on_card, &on_cpu))] {
            // The bases differ only in their products.
            if adapters.is_none() && base != BASES[0] {
                continue;
            }
            let (ours, theirs) = (adapters.map(|both| both.0), adapters.map(|both| both.1));
            let what = format!("{base:?}, adapter {}", adapters.is_some());
            for prompt in [&tokens(1, 4), &tokens(33, 9)] {
                let (a, b) = (logits(&card, ours, prompt), logits(&cpu, theirs, prompt));
                assert_close(&format!("{what}: logits of {}", prompt.len()), &a, &b, 1e-4);
            }
            for temperature in [1.0, 0.7] {
                let a = token_log_probs(&card, ours, &texts.groups(), temperature);
                let b = token_log_probs(&cpu, theirs, &texts.groups(), temperature);
                assert_close(
                    &format!("{what}: log-probs"),
                    &a.log_probs,
                    &b.log_probs,
                    1e-4,
                );
                assert_close(
                    &format!("{what}: entropies"),
                    &a.entropies,
                    &b.entropies,
                    1e-4,
                );
            }
        }
    }
}

fn completions(
    model: &Llama,
    adapter: Option<&Adapter>,
    sampling: SamplingParameters,
) -> Vec<Vec<Completion>> {
    let texts = Texts::new();
    let prompts: Vec<Prompt> = texts
        .prompts
        .iter()
        .zip(0..)
        .map(|(tokens, key)| Prompt {
            tokens: tokens.clone(),
            key,
        })
        .collect();
    let settings = RolloutSettings {
        sampling,
        max_completion_length: 14,
        // One token in six ends a completion, so that rows leave the batch one by one.
        stop: (0..128).step_by(6).collect::<BTreeSet<u32>>(),
        num_generations: GROUP,
        max_rows: 64,
        seed: 11,
        step: 2,
        purpose: "test",
    };
    generate(model, adapter, &prompts, &settings, &mut |_| Ok(())).unwrap()
}

fn drawn(groups: &[Vec<Completion>]) -> (Vec<&[u32]>, Vec<f32>) {
    let all = || groups.iter().flatten();
    (
        all()
            .map(|completion| completion.tokens.as_slice())
            .collect(),
        all()
            .flat_map(|completion| completion.log_probs.clone())
            .collect(),
    )
}

#[test]
fn greedy_completions_are_those_of_the_cpu() {
    let Some(compute) = wgpu() else { return };
    let greedy = SamplingParameters {
        temperature: 0.0,
        ..Default::default()
    };
    for base in BASES {
        let (card, cpu) = (load(base, &compute), load(base, &Compute::cpu()));
        let ours = completions(&card, Some(&adapter(&card)), greedy.clone());
        let theirs = completions(&cpu, Some(&adapter(&cpu)), greedy.clone());
        let ((ours, a), (theirs, b)) = (drawn(&ours), drawn(&theirs));
        assert_eq!(ours, theirs, "{base:?}");
        assert_close(&format!("{base:?}: greedy log-probs"), &a, &b, 1e-4);
    }
}

#[test]
fn samples_are_drawn_with_the_probabilities_that_training_sees() {
    let Some(compute) = wgpu() else { return };
    for sampling in [
        SamplingParameters::default(),
        SamplingParameters {
            temperature: 0.8,
            top_k: 30,
            top_p: 0.9,
            min_p: Some(0.01),
            ..Default::default()
        },
        // With a penalty the host draws.
        SamplingParameters {
            repetition_penalty: 1.2,
            ..Default::default()
        },
    ] {
        let (card, cpu) = (tiny(&compute), tiny(&Compute::cpu()));
        let adapter_on_card = adapter(&card);
        let groups = completions(&card, Some(&adapter_on_card), sampling.clone());
        let (rows, log_probs) = drawn(&groups);
        let again = completions(&card, Some(&adapter_on_card), sampling.clone());
        assert_eq!(groups, again, "the same seed, the same tokens");
        // Rows left the batch at different times.
        let lengths: BTreeSet<usize> = rows.iter().map(|row| row.len()).collect();
        assert!(lengths.len() > 2, "{lengths:?}");
        // The CPU draws with the same uniforms, in f64; a draw next to a boundary may differ.
        let on_cpu = completions(&cpu, Some(&adapter(&cpu)), sampling.clone());
        let differing = rows.iter().zip(drawn(&on_cpu).0).filter(|(a, b)| **a != *b);
        assert!(differing.count() <= 1, "{rows:?}\n{on_cpu:?}");
        if sampling.repetition_penalty != 1.0 {
            continue;
        }
        let texts = Texts::new();
        let texts: Vec<(&[u32], Vec<&[u32]>)> = texts
            .prompts
            .iter()
            .zip(rows.chunks(GROUP))
            .map(|(prompt, rows)| (prompt.as_slice(), rows.to_vec()))
            .collect();
        let pass = token_log_probs(&card, Some(&adapter_on_card), &texts, sampling.temperature);
        assert_close("log-probs of samples", &log_probs, &pass.log_probs, 1e-4);
    }
}

fn learner<'m>(model: &'m Llama, limits: Limits) -> Learner<'m> {
    let adapter = adapter(model);
    let adam = AdamWSettings {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    Learner {
        models: vec![model],
        optimizer: AdamW::new(adam, &adapter.parameters()),
        reference: None,
        adapter,
        loss: LossSettings {
            loss_type: LossType::Grpo,
            importance_sampling_level: ImportanceSamplingLevel::Token,
            epsilon: 0.2,
            epsilon_high: 0.2,
            delta: None,
            beta: 0.04,
            use_bias_correction_kl: true,
            max_completion_length: 8,
            gradient_accumulation_steps: 2,
            ..LossSettings::default()
        },
        temperature: 0.9,
        max_grad_norm: 1.0,
        lora_dropout: 0.3,
        seed: 5,
        limits,
    }
}

/// Loss, norm, log-probabilities and the adapter after two steps with dropout and a reference policy.
fn trained(model: &Llama, limits: Limits) -> (Vec<f64>, Vec<f32>, Vec<f32>) {
    let texts = Texts::new();
    let groups = texts.prompts.iter().zip(texts.completions.chunks(GROUP));
    let mut generation = Generation {
        groups: groups
            .map(|(prompt, rows)| Group::of_tokens(prompt.clone(), rows.to_vec()))
            .collect(),
        groups_per_micro_batch: 2,
        slices: 1,
    };
    for (i, sample) in generation.samples_mut().enumerate() {
        sample.advantage = (i % GROUP) as f64 - 1.5;
        sample.is_counted = i % 7 != 3;
    }
    let mut learner = learner(model, limits);
    let reference = learner
        .log_probs(&generation, PolicyKind::Reference, &mut |_| Ok(()))
        .unwrap();
    for (sample, row) in generation.samples_mut().zip(reference.rows) {
        sample.reference_log_probs = Some(row);
    }
    let (mut numbers, mut log_probs) = (Vec::new(), Vec::new());
    for iteration in 0..2 {
        let report = learner
            .step(&generation, 0, 1e-3, [1, iteration], &mut |_| Ok(()))
            .unwrap();
        assert!(report.is_applied && report.out_of_memory.is_empty());
        numbers.extend([report.loss, report.grad_norm]);
        log_probs.extend(report.log_probs.iter().flatten());
        if !generation.has_old_log_probs() {
            generation.set_old_log_probs(report.log_probs);
        }
    }
    let adapter = learner.adapter.parameters().into_iter();
    (numbers, log_probs, adapter.flat_map(to_f32).collect())
}

fn assert_same_training(
    what: &str,
    ours: &(Vec<f64>, Vec<f32>, Vec<f32>),
    theirs: &(Vec<f64>, Vec<f32>, Vec<f32>),
) {
    println!("{what}: loss and norm {:?} against {:?}", ours.0, theirs.0);
    for (a, b) in ours.0.iter().zip(&theirs.0) {
        assert!(
            (a - b).abs() <= 1e-3 * b.abs().max(1e-3),
            "{what}: {a} against {b}"
        );
    }
    assert_close(&format!("{what}: log-probs"), &ours.1, &theirs.1, 1e-4);
    // Adam makes whole steps of tiny gradients, so a few parameters may move differently.
    let far = ours
        .2
        .iter()
        .zip(&theirs.2)
        .filter(|(a, b)| (*a - *b).abs() > 1e-4);
    let far = far.count();
    println!("{what}: {far} of {} parameters differ", ours.2.len());
    assert!(
        far * 500 < ours.2.len(),
        "{what}: {far} of {} parameters",
        ours.2.len()
    );
}

#[test]
fn optimizer_steps_with_dropout_are_those_of_the_cpu() {
    let Some(compute) = wgpu() else { return };
    for base in BASES {
        let (card, cpu) = (load(base, &compute), load(base, &Compute::cpu()));
        let ours = trained(&card, Limits::default());
        let theirs = trained(&cpu, Limits::default());
        assert_same_training(&format!("{base:?}"), &ours, &theirs);
    }
}

#[test]
fn parts_and_layer_inputs_on_the_host_change_nothing() {
    let Some(compute) = wgpu() else { return };
    let model = tiny(&compute);
    let whole = trained(&model, Limits::default());
    let small = Limits {
        rows_per_slice: Some(2),
        offloads_layer_inputs: false,
    };
    assert_same_training("two rows a part", &trained(&model, small), &whole);
    let offloading = Limits {
        rows_per_slice: None,
        offloads_layer_inputs: true,
    };
    assert_same_training("inputs on the host", &trained(&model, offloading), &whole);
}

/// Gradients of the adapter when at most this many values of a layer exist at a time.
fn gradients(model: &Llama, values_per_chunk: Option<usize>) -> Vec<f32> {
    let adapter = adapter(model);
    let texts = Texts::new();
    let batch = GroupBatch::new(&texts.groups());
    let mut tensors = model.layout_tensors(&batch.layout);
    if let Some(values) = values_per_chunk {
        tensors.values_per_chunk = values;
    }
    let tape = model.forward(&batch, &tensors, Some(&adapter), None, KeepInputs::OnDevice);
    let (predictors, targets) = batch.predictions();
    let hidden = model.predicting_states(&tape.output, &predictors);
    let weights: Vec<f32> = (0..targets.len())
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    let (hidden, _) = model.head(1.0).backward(&hidden, &targets, &weights, false);
    let top = TopGradient { predictors, hidden };
    model
        .backward_adapter(tape, &tensors, top, &adapter, None)
        .into_iter()
        .flat_map(to_f32)
        .collect()
}

#[test]
fn gradients_are_those_of_the_cpu_in_chunks_too() {
    let Some(compute) = wgpu() else { return };
    for (base, chunks) in [
        // From several prompts to one row of one head at a time.
        (
            BASES[0],
            &[None, Some(20_000), Some(2_000), Some(300), Some(1)][..],
        ),
        (BASES[3], &[None, Some(300)][..]),
    ] {
        let expected = gradients(&load(base, &Compute::cpu()), None);
        let model = load(base, &compute);
        for &values in chunks {
            let found = gradients(&model, values);
            assert_close(
                &format!("{base:?} in chunks of {values:?}"),
                &found,
                &expected,
                1e-4,
            );
        }
    }
}

#[test]
fn running_out_of_memory_leaves_the_device_usable() {
    let Some(compute) = wgpu() else { return };
    let sum = |count: usize| {
        let ones = Tensor::<1>::ones([count], (&compute.device, compute.dtype));
        to_f32((ones.clone() + ones).narrow(0, 0, 1))[0]
    };
    let prompt = tokens(9, 1);
    let before = logits(&tiny(&compute), None, &prompt);
    // 16 TiB are more than any card has.
    let failed = compute.attempt(1, || sum(1 << 42));
    println!("{failed:?}");
    assert!(failed.is_err());
    assert_eq!(compute.attempt(1, || sum(16)), Ok(2.0));
    let after = logits(&tiny(&compute), None, &prompt);
    assert_close("after a failure", &after, &before, 1e-6);
}
