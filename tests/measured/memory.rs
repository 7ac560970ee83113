//! The plan of memory against an allocator that counts, on the CPU: real rollouts and real
//! training steps of freshly drawn models, in many shapes. To see the table:
//! `cargo test --release --test measured memory -- --nocapture`.

use std::time::{Duration, Instant};

use moim::architecture::{LlamaConfig, Projection, WeightFormat};
use moim::device::Compute;
use moim::experiment::{
    Experiment, ImportanceSamplingLevel, LossType, TargetModule, TargetModules,
};
use moim::grpo::group::{Generation, Group};
use moim::grpo::learner::{Learner, Limits};
use moim::grpo::loss::LossSettings;
use moim::memory::limits::MAX_ROLLOUT_ROWS;
use moim::memory::{Bytes, Component, Inputs, Peak, Shapes, plan};
use moim::model::{Adapter, Llama, LoraConfig};
use moim::optimizer::{AdamW, AdamWSettings};
use moim::rollout::{Prompt, RolloutSettings, SamplingParameters, generate};

use super::allocator::{BACKED, alone};

/// The largest relative difference between a plan and the measurement.
const TOLERANCE: f64 = 0.05;

/// The largest excess if groups run in parallel: a plan assumes that all of them reach their peak
/// at the same time.
const SIDE_BY_SIDE: f64 = 0.25;

/// A shape and a batch; what is not named is as in [`Case::default`].
#[derive(Clone, Debug)]
struct Case {
    name: &'static str,
    model_type: &'static str,
    vocabulary: usize,
    hidden: usize,
    inner: usize,
    layers: usize,
    /// Query heads, key heads, their width.
    heads: (usize, usize, usize),
    is_tied: bool,
    /// B in prompts, G, A.
    batch: (usize, usize, usize),
    prompt: usize,
    completion: usize,
    rank: usize,
    targets: TargetModules,
    dropout: f64,
    /// Completions of a part at most.
    rows_per_part: Option<usize>,
    format: WeightFormat,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            name: "plain",
            model_type: "llama",
            vocabulary: 8192,
            hidden: 384,
            inner: 1024,
            layers: 3,
            heads: (12, 4, 32),
            is_tied: true,
            batch: (1, 8, 1),
            prompt: 256,
            completion: 128,
            rank: 8,
            targets: Experiment::default().lora.target_modules,
            dropout: 0.0,
            rows_per_part: None,
            format: WeightFormat::Dense,
        }
    }
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let plain = Case::default;
    vec![
        plain(),
        Case { name: "large group", batch: (1, 16, 1), ..plain() },
        Case { name: "small group", batch: (1, 2, 1), prompt: 512, ..plain() },
        Case { name: "long prompt", prompt: 640, completion: 48, batch: (1, 4, 1), ..plain() },
        Case { name: "long completion", prompt: 48, completion: 448, batch: (1, 4, 1), ..plain() },
        Case { name: "large vocabulary", vocabulary: 48_000, ..plain() },
        Case { name: "deep and untied", layers: 9, is_tied: false, ..plain() },
        Case { name: "wide", hidden: 640, inner: 2560, heads: (10, 2, 64), layers: 2, ..plain() },
        Case { name: "one key head a query", heads: (12, 12, 32), ..plain() },
        Case { name: "all linear, r = 64", targets: TargetModules::all_linear(), rank: 64, ..plain() },
        Case { name: "biases", model_type: "qwen2", ..plain() },
        Case { name: "norms of heads", model_type: "qwen3", ..plain() },
        Case { name: "norms of wide heads", model_type: "qwen3", heads: (12, 4, 64), targets: TargetModules::all_linear(), ..plain() },
        Case { name: "only queries", targets: TargetModules::new(&[TargetModule::QProj]), ..plain() },
        Case { name: "dropout", dropout: 0.1, ..plain() },
        Case { name: "accumulation", batch: (1, 8, 3), rank: 32, ..plain() },
        Case { name: "two groups", batch: (2, 8, 1), ..plain() },
        Case { name: "five groups", batch: (5, 4, 2), completion: 96, ..plain() },
        Case { name: "all linear, dropout", targets: TargetModules::all_linear(), dropout: 0.1, ..plain() },
        Case { name: "halves of a group", rows_per_part: Some(4), ..plain() },
        Case { name: "six parts", batch: (3, 8, 1), rows_per_part: Some(4), rank: 32, ..plain() },
        Case { name: "NF4", format: WeightFormat::Nf4 { double_quant: false }, layers: 6, ..plain() },
        Case { name: "NF4, small", format: WeightFormat::Nf4 { double_quant: true }, layers: 12, batch: (1, 2, 1), prompt: 12, completion: 8, hidden: 640, inner: 2560, heads: (10, 2, 64), vocabulary: 1024, ..plain() },
        Case { name: "MLP in chunks", hidden: 64, inner: 24_576, heads: (4, 2, 16), layers: 1, batch: (1, 16, 1), completion: 256, vocabulary: 1024, ..plain() },
        Case { name: "attention in blocks", hidden: 64, inner: 256, heads: (16, 4, 8), layers: 1, batch: (1, 16, 1), completion: 512, prompt: 64, vocabulary: 1024, ..plain() },
        Case { name: "prompt in blocks", hidden: 64, inner: 256, heads: (16, 4, 8), layers: 1, batch: (1, 2, 1), completion: 16, prompt: 2304, vocabulary: 1024, ..plain() },
    ]
}

impl Case {
    fn config(&self) -> LlamaConfig {
        LlamaConfig::from_json(&serde_json::json!({
            "model_type": self.model_type, "vocab_size": self.vocabulary, "hidden_size": self.hidden,
            "intermediate_size": self.inner, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads.0, "num_key_value_heads": self.heads.1,
            "head_dim": self.heads.2, "tie_word_embeddings": self.is_tied,
        }))
        .unwrap()
    }

    fn experiment(&self) -> Experiment {
        let mut experiment = Experiment::default();
        experiment.model.device = "cpu".parse().unwrap();
        experiment.data.max_prompt_length = self.prompt;
        experiment.rollout.max_completion_length = self.completion;
        experiment.lora.r = self.rank;
        experiment.lora.target_modules = self.targets.clone();
        experiment.lora.lora_dropout = self.dropout;
        let grpo = &mut experiment.grpo;
        grpo.num_generations = self.batch.1;
        grpo.per_device_train_batch_size = self.batch.0 * self.batch.1;
        grpo.gradient_accumulation_steps = self.batch.2;
        experiment
    }

    fn inputs(&self) -> Inputs {
        let shapes = Shapes {
            decoder: Ok(self.config()),
            encoder: None,
            has_cuda: false,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let mut inputs = Inputs::of(&self.experiment(), &shapes).unwrap();
        inputs.weight_format = self.format;
        inputs.sizes.rows_per_part = self.rows_per_part;
        inputs
    }

    fn ids(&self, count: usize, seed: usize) -> Vec<u32> {
        (0..count)
            .map(|i| ((i * 31 + seed * 17) % self.vocabulary) as u32)
            .collect()
    }

    /// Peaks of a rollout and of a step, in bytes over what there was before the model.
    fn measure(&self) -> (usize, usize) {
        let before = BACKED.live();
        let compute = Compute::cpu();
        let model = match self.format {
            WeightFormat::Dense => Llama::random(self.config(), 1, &compute),
            nf4 => Llama::noise(self.config(), 1, &compute, nf4),
        }
        .unwrap();
        let targets = Projection::parse_targets(&self.targets.names()).unwrap();
        let lora = LoraConfig {
            r: self.rank,
            lora_alpha: 8.0,
            lora_dropout: self.dropout,
            target_modules: targets,
        };
        let adapter = Adapter::new(lora, &model.config, 1, &compute);
        let adam = AdamWSettings {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        };
        let mut learner = Learner {
            models: vec![&model],
            optimizer: AdamW::new(adam, &adapter.parameters()),
            reference: None,
            adapter,
            loss: LossSettings {
                loss_type: LossType::Dapo,
                importance_sampling_level: ImportanceSamplingLevel::Token,
                epsilon: 0.2,
                epsilon_high: 0.2,
                delta: None,
                beta: 0.0,
                use_bias_correction_kl: true,
                max_completion_length: self.completion,
                gradient_accumulation_steps: self.batch.2,
                ..LossSettings::default()
            },
            temperature: 1.0,
            max_grad_norm: 1.0,
            lora_dropout: self.dropout,
            seed: 1,
            limits: Limits {
                rows_per_slice: self.rows_per_part,
                offloads_layer_inputs: false,
            },
        };
        let (groups, size) = (self.batch.0 * self.batch.2, self.batch.1);
        let prompts: Vec<Vec<u32>> = (0..groups).map(|i| self.ids(self.prompt, i)).collect();
        let rows: Vec<Vec<u32>> = (0..groups * size)
            .map(|i| self.ids(self.completion, i))
            .collect();

        let keyed: Vec<Prompt> = prompts
            .iter()
            .enumerate()
            .map(|(key, tokens)| Prompt {
                tokens: tokens.clone(),
                key: key as u64,
            })
            .collect();
        let settings = RolloutSettings {
            sampling: SamplingParameters::default(),
            max_completion_length: self.completion,
            // Nothing ends a completion early: the worst case.
            stop: [].into(),
            num_generations: size,
            max_rows: MAX_ROLLOUT_ROWS,
            seed: 1,
            step: 1,
            purpose: "test",
        };
        let ((), rollout) = BACKED.peak_of(|| {
            generate(
                &model,
                Some(&learner.adapter),
                &keyed,
                &settings,
                &mut |_| Ok(()),
            )
            .unwrap();
        });
        let mut generation = Generation {
            groups: prompts
                .iter()
                .zip(rows.chunks(size))
                .map(|(prompt, rows)| Group::of_tokens(prompt.clone(), rows.to_vec()))
                .collect(),
            groups_per_micro_batch: self.batch.0,
            slices: 1,
        };
        for (i, sample) in generation.samples_mut().enumerate() {
            sample.advantage = i as f64 - 2.5;
        }
        let ((), training) = BACKED.peak_of(|| {
            let report = learner
                .step(&generation, 0, 1e-4, [1, 0], &mut |_| Ok(()))
                .unwrap();
            assert!(report.is_applied);
        });
        (rollout - before, training - before)
    }
}

#[test]
fn the_plan_is_what_an_allocator_counts() {
    let _alone = alone();
    // What is made once a process is made before anything is counted.
    let warm_up = Case {
        batch: (2, 8, 1),
        ..Case::default()
    };
    warm_up.measure();
    println!(
        "{:22} {:>10} {:>10} {:>6}  {:>10} {:>10} {:>6}",
        "", "rollout", "measured", "ratio", "training", "measured", "ratio"
    );
    let mut wrong = Vec::new();
    for case in cases() {
        let plan = plan(&case.inputs(), None);
        // What the reserve stands for is outside of what an allocator sees.
        let counted = |peak: &Peak| peak.total() - peak.of(Component::Reserve);
        let (rollout, training) = case.measure();
        let ratios = [(&plan.rollout, rollout), (&plan.training, training)]
            .map(|(peak, measured)| counted(peak) as f64 / measured as f64);
        let shown = |bytes: u64| Bytes(bytes).to_string();
        println!(
            "{:22} {:>10} {:>10} {:>6.3}  {:>10} {:>10} {:>6.3}  {}; {}",
            case.name,
            shown(counted(&plan.rollout)),
            shown(rollout as u64),
            ratios[0],
            shown(counted(&plan.training)),
            shown(training as u64),
            ratios[1],
            plan.rollout.moment,
            plan.training.moment,
        );
        let most = if case.batch.0 * case.batch.2 > 1 || case.rows_per_part.is_some() {
            SIDE_BY_SIDE
        } else {
            TOLERANCE
        };
        if ratios
            .iter()
            .any(|ratio| !(1.0 - TOLERANCE..=1.0 + most).contains(ratio))
        {
            wrong.push(format!(
                "{}: {ratios:.3?}\n{:#?}\n{:#?}",
                case.name, plan.rollout, plan.training
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A form computes all of it on every key press.
#[test]
fn a_plan_with_its_advice_takes_no_time() {
    let case = &cases()[0];
    let mut experiment = case.experiment();
    experiment.model.device = "cuda".parse().unwrap();
    experiment.grpo.per_device_train_batch_size = 1024;
    let shapes = Shapes {
        decoder: Ok(LlamaConfig {
            num_hidden_layers: 48,
            hidden_size: 4096,
            intermediate_size: 14_336,
            max_position_embeddings: 32_768,
            ..case.config()
        }),
        encoder: None,
        has_cuda: true,
        cores: 4,
    };
    let inputs = Inputs::of(&experiment, &shapes).unwrap();
    let mut slowest = Duration::ZERO;
    for gib in [1, 4, 8, 12, 16, 24, 80] {
        let start = Instant::now();
        let plan = plan(&inputs, Some(gib << 30));
        let (limits, suggestion) = (plan.limits(&inputs), plan.suggestion(&inputs));
        slowest = slowest.max(start.elapsed());
        println!(
            "{gib} GiB: {:?}: {} {suggestion:?}",
            start.elapsed(),
            limits.words()
        );
    }
    // A hundred times what it takes where nothing else is at work.
    assert!(slowest < Duration::from_millis(50), "{slowest:?}");
}
