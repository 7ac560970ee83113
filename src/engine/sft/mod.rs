//! Supervised warm-up: the same data, prompts and model code as the GRPO
//! trainer, with the labels as completions. Trains an adapter, or every weight
//! (`sft.full_finetuning`), from pretrained or freshly drawn weights.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;

use crate::device::Compute;
use crate::execution::{ForwardPass, MicroSlice, Replica, Replicas};
use crate::grpo::order::PromptOrder;
use crate::grpo::schedule::Schedule;
use crate::model::{Adapter, Dropout, DropoutPlace, GroupBatch, KeepInputs, Llama, save_adapter};
use crate::optimizer::{AdamW, AdamWSettings, accumulate, clip_gradient_norm};
use crate::setup::{Question, lora_config, prompt_builder, questions, weight_format};
use moim_core::architecture::{LlamaConfig, WeightFormat};
use moim_core::dataset::{PromptBuilder, load_records, require_answers};
use moim_core::experiment::{DataSection, Experiment, SftInit};
use moim_core::run::publish::{publish, publish_folder};
use moim_core::text::{Message, RenderOptions, Role, StopSet, Tokenizer};

/// One optimizer step, as it is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SftStep {
    /// Steps taken.
    pub step: usize,
    /// Steps in all.
    pub total_steps: usize,
    /// Mean cross-entropy of the learned tokens, in nats.
    pub loss: f64,
    /// Mean entropy of the model's distribution over learned tokens, in nats.
    pub entropy: f64,
    /// Global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Rate of this step.
    pub learning_rate: f64,
    /// Tokens that went through, padding included.
    pub tokens: usize,
}

/// The result: its folder and the last step.
#[derive(Clone, Debug, PartialEq)]
pub struct SftOutcome {
    /// `sft.output_dir`.
    pub output_dir: PathBuf,
    /// Examples learned from.
    pub examples: usize,
    /// Ids of records longer than `sft.max_length`, which were left out.
    pub dropped: Vec<String>,
    /// The last step.
    pub last: Option<SftStep>,
}

/// A prompt with the completion to learn.
struct Example {
    prompt: Vec<u32>,
    completion: Vec<u32>,
}

/// What is trained.
enum Trained {
    Adapter(Adapter),
    Everything,
}

/// Runs the `[sft]` section of an experiment and writes its `output_dir`.
///
/// `observe` is called after every step; an error from it stops without writing.
///
/// # Errors
/// Data, model or output that cannot be used, by key and file.
pub fn train(
    experiment: &Experiment,
    compute: &Compute,
    observe: &mut dyn FnMut(SftStep) -> Result<()>,
) -> Result<SftOutcome> {
    let sft = &experiment.sft;
    let output_dir = sft
        .output_dir
        .clone()
        .context("sft.output_dir is not set; it names the folder to write")?;
    let directory = &experiment.model.path;
    let tokenizer = Tokenizer::from_model_dir(directory)?;
    let stop = StopSet::from_model_dir(directory, &tokenizer, &[])?;
    let format = weight_format(experiment);
    if format != WeightFormat::Dense && (sft.full_finetuning || sft.init == SftInit::Random) {
        bail!(
            "quantization.load_in_4bit = true: a base of four bits is frozen, so sft.full_finetuning and \
             sft.init = \"random\" need quantization.load_in_4bit = false"
        );
    }
    let mut model = match sft.init {
        SftInit::Pretrained => Llama::load_as(directory, compute, &format.into(), &mut |_| Ok(()))?,
        SftInit::Random => Llama::random(
            LlamaConfig::from_dir(directory)?,
            experiment.run.seed,
            compute,
        )?,
    };
    let (examples, dropped) = examples(experiment, &tokenizer, &stop)?;
    let per_step = sft.per_device_train_batch_size * sft.gradient_accumulation_steps;
    if examples.len() < per_step {
        bail!(
            "sft: {} example(s) are fewer than one step needs \
             (per_device_train_batch_size {} × gradient_accumulation_steps {} = {per_step})",
            examples.len(),
            sft.per_device_train_batch_size,
            sft.gradient_accumulation_steps
        );
    }
    let order = PromptOrder {
        prompts: examples.len(),
        prompts_per_generation: per_step,
        shuffle: true,
        seed: experiment.run.seed,
    };
    let total_steps = usize::try_from(sft.max_steps)
        .unwrap_or_else(|_| order.generations_per_epoch() * sft.num_train_epochs);
    let schedule = Schedule {
        kind: sft.lr_scheduler_type,
        learning_rate: sft.learning_rate,
        warmup_steps: Schedule::warmup(0, sft.warmup_ratio, total_steps),
        total_steps,
    };
    let mut trained = if sft.full_finetuning {
        Trained::Everything
    } else {
        let config = lora_config(experiment)?;
        let seed = experiment.run.seed;
        Trained::Adapter(Adapter::new(config, &model.config, seed, compute))
    };
    let settings = AdamWSettings {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: sft.weight_decay,
    };
    let mut optimizer = AdamW::new(settings, &parameters(&model, &trained));
    if matches!(trained, Trained::Everything) {
        let names: Vec<String> = model.parameters().into_iter().map(|(n, _)| n).collect();
        optimizer = optimizer.without_decay_of_norms(&names);
    }
    let mut last = None;
    for step in 0..total_steps {
        let picked: Vec<&Example> = order
            .prompts_of(step)
            .into_iter()
            .map(|i| &examples[i])
            .collect();
        let dropout = StepDropout {
            rate: experiment.lora.lora_dropout,
            seed: experiment.run.seed,
            step: step as u64,
        };
        let gradients = gradients(
            &model,
            &trained,
            &picked,
            sft.per_device_train_batch_size,
            dropout,
        )?;
        let learning_rate = schedule.learning_rate(step);
        let (clipped, grad_norm) = clip_gradient_norm(gradients.sum, sft.max_grad_norm);
        if !gradients.loss.is_finite() || !grad_norm.is_finite() {
            bail!(
                "sft: the loss or its gradient is not finite at step {}; lower sft.learning_rate",
                step + 1
            );
        }
        let updated = optimizer.step(parameters(&model, &trained), clipped, learning_rate)?;
        match &mut trained {
            Trained::Adapter(adapter) => *adapter = adapter.with_parameters(updated),
            Trained::Everything => model = model.with_parameters(updated),
        }
        let report = SftStep {
            step: step + 1,
            total_steps,
            loss: gradients.loss,
            entropy: gradients.entropy,
            grad_norm,
            learning_rate,
            tokens: gradients.tokens,
        };
        observe(report)?;
        last = Some(report);
    }
    write(&output_dir, directory, &model, &trained)?;
    Ok(SftOutcome {
        output_dir,
        examples: examples.len(),
        dropped,
        last,
    })
}

fn parameters(model: &Llama, trained: &Trained) -> Vec<Tensor<2>> {
    match trained {
        Trained::Adapter(adapter) => adapter.parameters(),
        Trained::Everything => model
            .parameters()
            .into_iter()
            .map(|(_, tensor)| tensor)
            .collect(),
    }
}

/// Prompts and labels as tokens; the label ends with the template's own end of turn.
fn examples(
    experiment: &Experiment,
    tokenizer: &Tokenizer,
    stop: &StopSet,
) -> Result<(Vec<Example>, Vec<String>)> {
    let sft = &experiment.sft;
    let path = sft.train.as_deref().unwrap_or(&experiment.data.train);
    let records = load_records(path)?;
    require_answers(path, &records)?;
    let builder = prompt_builder(
        &experiment.model.path,
        &experiment.data,
        experiment.run.seed,
    )?;
    let questions = questions(&records, &builder, tokenizer, &experiment.data)?;
    let mut dropped: Vec<String> = questions.dropped.into_iter().map(|(id, _)| id).collect();
    let mut examples = Vec::new();
    for question in &questions.kept {
        let completion =
            completion_tokens(question, &experiment.data, &builder, tokenizer, stop)
                .with_context(|| format!("{}: item {:?}", path.display(), question.record.id))?;
        if question.prompt.tokens.len() + completion.len() > sft.max_length {
            dropped.push(question.record.id.clone());
            continue;
        }
        examples.push(Example {
            prompt: question.prompt.tokens.clone(),
            completion,
        });
    }
    if !sft.completion_only_loss {
        // The prompt is learned as well: all but its first token become part of the completion.
        for example in &mut examples {
            let mut whole = example.prompt.split_off(1);
            whole.append(&mut example.completion);
            example.completion = whole;
        }
    }
    Ok((examples, dropped))
}

/// The assistant's turn as the template writes it, through its first end token.
fn completion_tokens(
    question: &Question,
    data: &DataSection,
    builder: &PromptBuilder,
    tokenizer: &Tokenizer,
    stop: &StopSet,
) -> Result<Vec<u32>> {
    let answer = question
        .record
        .answer
        .clone()
        .context("has no answer to learn")?;
    let mut messages = builder.messages(&question.record)?;
    messages.push(Message::new(Role::Assistant, answer));
    let options = RenderOptions {
        add_generation_prompt: false,
        kwargs: data.chat_template_kwargs.clone(),
        date_string: data.date_string.clone(),
    };
    let whole = builder.template().render(&messages, &options)?;
    let text = whole.strip_prefix(&question.text).context(
        "the chat template renders the conversation with an answer differently from the prompt alone, \
         so the answer's tokens cannot be determined; set data.chat_template",
    )?;
    let mut tokens = tokenizer.encode(text, false)?;
    match tokens.iter().position(|&token| stop.contains(token)) {
        Some(end) => tokens.truncate(end + 1),
        None => bail!(
            "the chat template ends the answer with none of the end tokens, so the model would never stop"
        ),
    }
    Ok(tokens)
}

/// The rate of dropout, and what its masks are derived from.
#[derive(Clone, Copy)]
struct StepDropout {
    rate: f64,
    seed: u64,
    step: u64,
}

#[derive(Default)]
struct StepGradients {
    sum: Vec<Tensor<2>>,
    loss: f64,
    entropy: f64,
    tokens: usize,
}

/// Examples that go through the model together on the CPU, where the cores share a micro-batch.
const EXAMPLES_PER_SLICE: usize = 8;

/// Gradients of the mean cross-entropy over all learned tokens of a step.
///
/// # Errors
/// The device ran out of memory.
fn gradients(
    model: &Llama,
    trained: &Trained,
    picked: &[&Example],
    batch_size: usize,
    dropout: StepDropout,
) -> Result<StepGradients> {
    let learned: usize = picked.iter().map(|example| example.completion.len()).sum();
    let share = 1.0 / learned as f64;
    let size = if model.compute.is_cpu {
        batch_size.min(EXAMPLES_PER_SLICE)
    } else {
        batch_size
    };
    let adapter = match trained {
        Trained::Adapter(adapter) => Some(adapter),
        Trained::Everything => None,
    };
    let replicas = Replicas::new(vec![model], adapter);
    let slices = MicroSlice::whole(picked.len(), 1).split(size);
    let done = replicas.run(&slices, |replica, _, slice| {
        let (first, examples) = (slice.prompts.start, &picked[slice.prompts.clone()]);
        Ok(slice_gradients(replica, examples, first, share, dropout))
    });
    // Summed in the order of the slices, so that the result does not depend on which was done first.
    let mut result = StepGradients::default();
    let mut sum = None;
    for slice in done.all()? {
        sum = Some(accumulate(sum, slice.sum));
        result.loss += slice.loss;
        result.entropy += slice.entropy;
        result.tokens += slice.tokens;
    }
    result.sum = sum.unwrap_or_default();
    Ok(result)
}

/// As [`gradients`], of some examples, the first of which is number `first` of the step. Each token
/// counts as `share`.
fn slice_gradients(
    replica: Replica,
    examples: &[&Example],
    first: usize,
    share: f64,
    dropout: StepDropout,
) -> StepGradients {
    let groups: Vec<(&[u32], Vec<&[u32]>)> = examples
        .iter()
        .map(|example| {
            (
                example.prompt.as_slice(),
                vec![example.completion.as_slice()],
            )
        })
        .collect();
    let batch = GroupBatch::new(&groups);
    let place = DropoutPlace {
        step: [dropout.step, 0],
        first_prompt: first,
        first_row: first,
    };
    let StepDropout { rate, seed, .. } = dropout;
    let dropout = Dropout::new(rate, seed, place, &batch.layout, &replica.model.compute);
    let pass = ForwardPass::new(replica, batch, dropout, 1.0, KeepInputs::OnDevice);
    let sum = |rows: Vec<Vec<f32>>| rows.into_iter().flatten().map(f64::from).sum::<f64>() * share;
    let log_probs = pass.log_probs();
    let gradient = vec![-share as f32; log_probs.iter().map(Vec::len).sum()];
    let (loss, entropy, tokens) = (-sum(log_probs), sum(pass.entropies()), pass.tokens());
    let sum = match replica.adapter {
        Some(_) => pass.backward(replica, &gradient),
        None => pass.backward_everything(replica.model, &gradient),
    };
    StepGradients {
        sum,
        loss,
        entropy,
        tokens,
    }
}

/// Files of a model folder that are not weights.
const TEXT_SIDE: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
];

/// An adapter folder, or a whole model folder with the text side copied along.
fn write(output_dir: &Path, model_dir: &Path, model: &Llama, trained: &Trained) -> Result<()> {
    if let Some(parent) = output_dir
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("{}: cannot be created", parent.display()))?;
    }
    publish_folder(output_dir, |partial| {
        match trained {
            Trained::Adapter(adapter) => {
                save_adapter(partial, adapter, &model_dir.display().to_string())?
            }
            Trained::Everything => {
                for name in TEXT_SIDE {
                    let from = model_dir.join(name);
                    if from.exists() {
                        std::fs::copy(&from, partial.join(name))
                            .with_context(|| format!("{}: cannot be copied", from.display()))?;
                    }
                }
                set_bfloat16(&partial.join("config.json"))?;
                model.save_weights(&partial.join("model.safetensors"))?;
            }
        }
        Ok(())
    })
}

/// Sets the type in a configuration to the one that the weights are stored in.
fn set_bfloat16(path: &Path) -> Result<()> {
    let text = moim_core::regular_file::read_to_string(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let mut config: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("{}: not valid JSON", path.display()))?;
    for key in ["torch_dtype", "dtype"] {
        if let Some(dtype) = config.get_mut(key) {
            *dtype = "bfloat16".into();
        }
    }
    publish(
        path,
        format!("{}\n", serde_json::to_string_pretty(&config)?).as_bytes(),
    )?;
    Ok(())
}
