//! Slices, chunks, devices and running out of memory change how a step is computed, not its result.

use std::path::Path;

use moim::architecture::Projection;
use moim::device::Compute;
use moim::execution::Replicas;
use moim::experiment::{ImportanceSamplingLevel, LossType};
use moim::grpo::group::{Generation, Group};
use moim::grpo::learner::{Learner, Limits, UpdateReport};
use moim::grpo::loss::LossSettings;
use moim::model::{Adapter, GroupBatch, KeepInputs, Llama, LoraConfig, TopGradient, to_f32};
use moim::optimizer::{AdamW, AdamWSettings};
use moim::rollout::{Prompt, RolloutSettings, SamplingParameters, generate_on};

fn tiny() -> Llama {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model/tiny_llama");
    Llama::load(&folder, &Compute::cpu()).unwrap()
}

fn adapter(model: &Llama) -> Adapter {
    let lora = LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.0,
        target_modules: Projection::ALL.to_vec(),
    };
    let fresh = Adapter::new(lora, &model.config, 3, &model.compute);
    // B is zero in a fresh adapter, and with it every gradient of A.
    let moved = fresh.parameters().into_iter().map(|p| p.add_scalar(0.01));
    fresh.with_parameters(moved.collect())
}

fn learner<'m>(models: Vec<&'m Llama>, accumulation: usize, lora_dropout: f64) -> Learner<'m> {
    let adapter = adapter(models[0]);
    let adam = AdamWSettings {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    Learner {
        models,
        optimizer: AdamW::new(adam, &adapter.parameters()),
        reference: None,
        adapter,
        loss: LossSettings {
            loss_type: LossType::Grpo,
            importance_sampling_level: ImportanceSamplingLevel::Token,
            epsilon: 0.2,
            epsilon_high: 0.2,
            delta: None,
            beta: 0.0,
            use_bias_correction_kl: true,
            max_completion_length: 8,
            gradient_accumulation_steps: accumulation,
            ..LossSettings::default()
        },
        temperature: 0.9,
        max_grad_norm: 1.0,
        lora_dropout,
        seed: 5,
        limits: Limits::default(),
    }
}

/// Tokens that differ from one seed to the next.
fn tokens(length: usize, seed: usize) -> Vec<u32> {
    (0..length)
        .map(|i| ((i * 7 + seed * 13) % 60) as u32 + 1)
        .collect()
}

const PROMPTS: usize = 6;
const GROUP: usize = 4;

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

    /// Prompts with their completions.
    fn groups(&self) -> Vec<(&[u32], Vec<&[u32]>)> {
        self.prompts
            .iter()
            .zip(self.completions.chunks(GROUP))
            .map(|(prompt, rows)| (prompt.as_slice(), rows.iter().map(Vec::as_slice).collect()))
            .collect()
    }

    fn generation(&self, groups_per_micro_batch: usize) -> Generation {
        let groups = self.prompts.iter().zip(self.completions.chunks(GROUP));
        let mut generation = Generation {
            groups: groups
                .map(|(prompt, rows)| Group::of_tokens(prompt.clone(), rows.to_vec()))
                .collect(),
            groups_per_micro_batch,
            slices: 1,
        };
        for (i, sample) in generation.samples_mut().enumerate() {
            sample.advantage = (i % GROUP) as f64 - 1.5;
            sample.is_counted = i % 7 != 3;
        }
        generation
    }
}

fn values(adapter: &Adapter) -> Vec<f32> {
    adapter.parameters().into_iter().flat_map(to_f32).collect()
}

/// A step; its report and the adapter after it.
fn step(mut learner: Learner, generation: &Generation) -> (UpdateReport, Vec<f32>) {
    let report = learner
        .step(generation, 0, 1e-2, [1, 0], &mut |_| Ok(()))
        .unwrap();
    assert!(report.is_applied);
    let after = values(&learner.adapter);
    (report, after)
}

/// The same to what another order of sums in f32 leaves; Adam makes whole steps of tiny gradients,
/// so the adapter is held more loosely than the gradient's norm.
fn assert_same(a: &(UpdateReport, Vec<f32>), b: &(UpdateReport, Vec<f32>), what: &str) {
    let close = |a: f64, b: f64, bound: f64| (a - b).abs() <= bound * a.abs().max(1e-3);
    assert!(
        close(a.0.loss, b.0.loss, 1e-5),
        "{what}: loss {} {}",
        a.0.loss,
        b.0.loss
    );
    assert!(
        close(a.0.grad_norm, b.0.grad_norm, 1e-5),
        "{what}: norm {} {}",
        a.0.grad_norm,
        b.0.grad_norm
    );
    assert_eq!(a.0.micro_batches.len(), b.0.micro_batches.len(), "{what}");
    for (a, b) in
        a.0.log_probs
            .iter()
            .flatten()
            .zip(b.0.log_probs.iter().flatten())
    {
        assert!((a - b).abs() < 1e-5, "{what}: log-probability {a} {b}");
    }
    let far =
        a.1.iter()
            .zip(&b.1)
            .filter(|(a, b)| (*a - *b).abs() > 1e-4)
            .count();
    assert!(
        far * 1000 < a.1.len(),
        "{what}: {far} of {} parameters differ",
        a.1.len()
    );
}

#[test]
fn a_lack_of_memory_makes_parts_smaller_and_nothing_else() {
    let texts = Texts::new();
    let generation = texts.generation(3);
    for dropout in [0.0, 0.3] {
        let model = tiny();
        let whole = step(learner(vec![&model], 2, dropout), &generation);
        assert!(whole.0.out_of_memory.is_empty());
        for (limit, sizes) in [(3, vec![2]), (2, vec![2]), (1, vec![2, 1])] {
            let mut short = tiny();
            short.compute.fails_above_rows = Some(limit);
            let split = step(learner(vec![&short], 2, dropout), &generation);
            let found: Vec<usize> = split
                .0
                .out_of_memory
                .iter()
                .map(|retry| retry.rows)
                .collect();
            assert_eq!(found, sizes);
            assert_same(
                &whole,
                &split,
                &format!("at most {limit} rows, dropout {dropout}"),
            );
        }
    }
    let mut none = tiny();
    none.compute.fails_above_rows = Some(0);
    let error = learner(vec![&none], 2, 0.0)
        .step(&generation, 0, 1e-2, [1, 0], &mut |_| Ok(()))
        .unwrap_err();
    assert!(error.to_string().contains("single completion"), "{error}");
}

#[test]
fn several_devices_are_one_with_more_accumulation_to_the_bit() {
    let texts = Texts::new();
    for devices in [2, 3] {
        // One prompt a micro-batch and device, six micro-batches in all.
        let generation = texts.generation(1);
        let model = tiny();
        let one = step(learner(vec![&model], PROMPTS, 0.2), &generation);
        let many = step(learner(vec![&model; devices], PROMPTS, 0.2), &generation);
        assert_eq!(one.0.loss, many.0.loss);
        assert_eq!(one.0.grad_norm, many.0.grad_norm);
        assert_eq!(one.0.log_probs, many.0.log_probs);
        assert_eq!(one.1, many.1);
    }
}

#[test]
fn layer_inputs_may_wait_on_the_host() {
    let texts = Texts::new();
    let generation = texts.generation(3);
    let model = tiny();
    let mut offloading = learner(vec![&model], 2, 0.0);
    offloading.limits.offloads_layer_inputs = true;
    let (there, here) = (
        step(offloading, &generation),
        step(learner(vec![&model], 2, 0.0), &generation),
    );
    assert_eq!(there.1, here.1);
}

/// Gradients of the adapter with a limit on the values of a layer that exist at a time.
fn gradients(model: &Llama, adapter: &Adapter, values_per_chunk: Option<usize>) -> Vec<f32> {
    let texts = Texts::new();
    let batch = GroupBatch::new(&texts.groups());
    let mut tensors = model.layout_tensors(&batch.layout);
    if let Some(values) = values_per_chunk {
        tensors.values_per_chunk = values;
    }
    let tape = model.forward(&batch, &tensors, Some(adapter), None, KeepInputs::OnDevice);
    let (predictors, targets) = batch.predictions();
    let hidden = model.predicting_states(&tape.output, &predictors);
    let weights: Vec<f32> = (0..targets.len())
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    let (hidden, _) = model.head(1.0).backward(&hidden, &targets, &weights, false);
    let top = TopGradient { predictors, hidden };
    model
        .backward_adapter(tape, &tensors, top, adapter, None)
        .into_iter()
        .flat_map(to_f32)
        .collect()
}

#[test]
fn a_layer_in_chunks_and_blocks_has_the_same_gradients() {
    let model = tiny();
    let adapter = adapter(&model);
    let whole = gradients(&model, &adapter, None);
    let largest = whole
        .iter()
        .fold(0.0_f32, |largest, g| largest.max(g.abs()));
    // From one row of one head at a time to several prompts.
    for values in [1, 300, 2_000, 20_000] {
        let chunked = gradients(&model, &adapter, Some(values));
        for (a, b) in whole.iter().zip(&chunked) {
            assert!((a - b).abs() < 1e-5 * largest, "{values}: {a} against {b}");
        }
    }
}

#[test]
fn completions_do_not_depend_on_devices_or_on_a_lack_of_memory() {
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
        sampling: SamplingParameters::default(),
        max_completion_length: 6,
        stop: [7].into(),
        num_generations: GROUP,
        max_rows: 8,
        seed: 1,
        step: 2,
        purpose: "test",
    };
    let drawn = |models: &[&Llama], max_rows: usize| {
        let replicas = Replicas::new(models.to_vec(), None);
        let settings = RolloutSettings {
            max_rows,
            ..settings.clone()
        };
        let mut last = 0;
        let rollout = generate_on(&replicas, &prompts, &settings, &mut |progress| {
            last = progress.finished;
            Ok(())
        })
        .unwrap();
        assert_eq!(last, PROMPTS * GROUP);
        let tokens: Vec<Vec<u32>> = rollout
            .groups
            .iter()
            .flatten()
            .map(|completion| completion.tokens.clone())
            .collect();
        (tokens, rollout.out_of_memory.map(|retry| retry.rows))
    };
    let model = tiny();
    let mut short = tiny();
    short.compute.fails_above_rows = Some(3);
    let (plain, none) = drawn(&[&model], 8);
    assert_eq!(none, None);
    assert_eq!(drawn(&[&model, &model, &model], 8).0, plain);
    assert_eq!(drawn(&[&model], 3).0, plain);
    assert_eq!(drawn(&[&short], 8), (plain, Some(2)));
}
