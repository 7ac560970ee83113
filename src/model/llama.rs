//! The Llama family: weights, loading, saving, and the ways through the model.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::cache::CompletionCache;
use super::config::LlamaConfig;
use super::head::{Head, to_f32};
use super::layer::{Adapted, DecoderLayer, rms_norm};
use super::layout::{GroupBatch, Layout, LayoutTensors, indices, padding_bias};
use super::lora::{Adapter, LayerDropout, Projection, f32_tensor, stream, uniform};
use super::rope::RopeTable;
use super::weights::WeightFiles;
use crate::device::Compute;

/// A decoder-only language model of the Llama family.
#[derive(Clone, Debug)]
pub struct Llama {
    /// Shape and constants.
    pub config: LlamaConfig,
    /// Where it lives.
    pub compute: Compute,
    /// `[vocabulary, hidden]`
    pub embed_tokens: Tensor<2>,
    /// Decoder layers, first to last.
    pub layers: Vec<DecoderLayer>,
    /// RMSNorm before the head, `[1, hidden]`.
    pub norm: Tensor<2>,
    /// `[vocabulary, hidden]`; `None` when tied to the embedding.
    pub lm_head: Option<Tensor<2>>,
    rope: RopeTable,
}

/// Dropout of a whole forward pass; layers derive theirs from it.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability of dropping.
    pub rate: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Step, iteration, micro-batch.
    pub place: [u64; 3],
}

impl Llama {
    /// Loads a Hugging Face folder onto a device.
    ///
    /// # Errors
    /// A configuration this decoder does not do, and missing or misshapen tensors (all missing ones are listed).
    pub fn load(model_dir: &Path, compute: &Compute) -> Result<Self> {
        let config = LlamaConfig::from_dir(model_dir)?;
        let files = WeightFiles::open(model_dir)?;
        let names = tensor_names(&config);
        let missing = files.missing(names.iter().map(String::as_str));
        if !missing.is_empty() {
            let shown = missing
                .iter()
                .take(8)
                .copied()
                .collect::<Vec<_>>()
                .join(", ");
            bail!(
                "{}: {} tensor(s) that config.json asks for are missing: {shown}{}",
                model_dir.display(),
                missing.len(),
                if missing.len() > 8 { ", …" } else { "" }
            );
        }
        Self::build(config, compute, |name, rows, columns| {
            files.tensor(name, rows, columns, compute)
        })
        .with_context(|| model_dir.display().to_string())
    }

    /// A model with freshly drawn weights: normal with `initializer_range`, norms one.
    /// The draws depend on the seed and the tensor's name alone.
    ///
    /// # Errors
    /// None that is known.
    pub fn random(config: LlamaConfig, seed: u64, compute: &Compute) -> Result<Self> {
        let deviation = config.initializer_range;
        Self::build(config, compute, |name, rows, columns| {
            Ok(match rows {
                None => Tensor::ones([1, columns], (&compute.device, compute.dtype)),
                Some(rows) => {
                    let mut rng = stream(seed, name, &[]);
                    let mut normal = || {
                        // Box–Muller; the second value is not worth its bookkeeping.
                        let radius = (-2.0 * (1.0 - uniform(&mut rng)).ln()).sqrt();
                        radius * (2.0 * std::f64::consts::PI * uniform(&mut rng)).cos()
                    };
                    let values = (0..rows * columns)
                        .map(|_| (normal() * deviation) as f32)
                        .collect();
                    f32_tensor(values, [rows, columns], compute).cast(compute.dtype)
                }
            })
        })
    }

    fn build(
        config: LlamaConfig,
        compute: &Compute,
        mut tensor: impl FnMut(&str, Option<usize>, usize) -> Result<Tensor<2>>,
    ) -> Result<Self> {
        let hidden = config.hidden_size;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for i in 0..config.num_hidden_layers {
            let mut projection = |projection: Projection| {
                let (out, input) = projection.shape(&config);
                let name = format!("model.layers.{i}.{}.weight", projection.path());
                tensor(&name, Some(out), input)
            };
            let projections = [
                projection(Projection::Q)?,
                projection(Projection::K)?,
                projection(Projection::V)?,
                projection(Projection::O)?,
                projection(Projection::Gate)?,
                projection(Projection::Up)?,
                projection(Projection::Down)?,
            ];
            layers.push(DecoderLayer {
                input_layernorm: tensor(
                    &format!("model.layers.{i}.input_layernorm.weight"),
                    None,
                    hidden,
                )?,
                post_attention_layernorm: tensor(
                    &format!("model.layers.{i}.post_attention_layernorm.weight"),
                    None,
                    hidden,
                )?,
                projections,
            });
        }
        Ok(Self {
            embed_tokens: tensor("model.embed_tokens.weight", Some(config.vocab_size), hidden)?,
            norm: tensor("model.norm.weight", None, hidden)?,
            lm_head: match config.tie_word_embeddings {
                true => None,
                false => Some(tensor("lm_head.weight", Some(config.vocab_size), hidden)?),
            },
            layers,
            rope: RopeTable::new(&config),
            compute: compute.clone(),
            config,
        })
    }

    /// Writes `model.safetensors` in bf16 under the checkpoint names.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_weights(&self, path: &Path) -> Result<()> {
        let stored: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .parameters()
            .into_iter()
            .map(|(name, tensor)| {
                let [rows, columns] = tensor.dims();
                let shape = if name.ends_with("norm.weight") {
                    vec![columns]
                } else {
                    vec![rows, columns]
                };
                let bytes = to_f32(tensor)
                    .into_iter()
                    .flat_map(|v| half::bf16::from_f32(v).to_le_bytes())
                    .collect();
                (name, shape, bytes)
            })
            .collect();
        let mut views = Vec::new();
        for (name, shape, bytes) in &stored {
            views.push((
                name.as_str(),
                TensorView::new(Dtype::BF16, shape.clone(), bytes)?,
            ));
        }
        let metadata = [("format".to_string(), "pt".to_string())].into();
        let bytes = safetensors::serialize(views, Some(metadata))?;
        crate::run::publish::publish(path, &bytes)?;
        Ok(())
    }

    /// Every tensor under its checkpoint name, in a fixed order.
    pub fn parameters(&self) -> Vec<(String, Tensor<2>)> {
        let mut parameters = vec![
            (
                "model.embed_tokens.weight".to_string(),
                self.embed_tokens.clone(),
            ),
            ("model.norm.weight".to_string(), self.norm.clone()),
        ];
        if let Some(head) = &self.lm_head {
            parameters.push(("lm_head.weight".to_string(), head.clone()));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            parameters.extend(
                layer
                    .parameters()
                    .into_iter()
                    .map(|(name, tensor)| (format!("model.layers.{i}.{name}"), tensor)),
            );
        }
        parameters
    }

    /// The model with other values, in the order of [`Llama::parameters`].
    pub fn with_parameters(&self, values: Vec<Tensor<2>>) -> Self {
        let mut values = values.into_iter();
        let mut next = |old: &Tensor<2>| values.next().unwrap_or_else(|| old.clone());
        let (embed_tokens, norm) = (next(&self.embed_tokens), next(&self.norm));
        let lm_head = self.lm_head.as_ref().map(&mut next);
        let layers = self
            .layers
            .iter()
            .map(|layer| layer.with_parameters(&mut values))
            .collect();
        Self {
            embed_tokens,
            norm,
            lm_head,
            layers,
            ..self.clone()
        }
    }

    /// The head that turns hidden states into logits at a temperature.
    pub fn head(&self, temperature: f64) -> Head<'_> {
        Head {
            weight: self.lm_head.as_ref().unwrap_or(&self.embed_tokens),
            temperature,
            compute: &self.compute,
        }
    }

    /// # Shapes
    /// `ids: [tokens]` → `[tokens, hidden]`
    pub fn embed(&self, ids: &[u32]) -> Tensor<2> {
        self.embed_tokens
            .clone()
            .select(0, indices(ids.iter().map(|&id| id as usize), &self.compute))
    }

    /// Rotary and mask tensors of a layout.
    pub fn layout_tensors(&self, layout: &Layout) -> LayoutTensors {
        LayoutTensors::new(layout.clone(), &self.rope, &self.config, &self.compute)
    }

    /// Runs all layers. With `keep_inputs`, each layer's input is kept for the backward pass.
    pub fn forward(
        &self,
        batch: &GroupBatch,
        tensors: &LayoutTensors,
        adapter: Option<&Adapter>,
        dropout: Option<Dropout>,
        keep_inputs: bool,
    ) -> Tape {
        let mut inputs = Vec::new();
        let mut x = self.embed(&batch.ids);
        for (i, layer) in self.layers.iter().enumerate() {
            if keep_inputs {
                inputs.push(x.clone());
            }
            let dropout = self.layer_dropout(dropout, i);
            let adapted = Adapted {
                adapter: adapter.map(|a| &a.layers[i]),
                dropout: dropout.as_ref(),
            };
            x = layer.forward(x, tensors, &self.config, adapted);
        }
        Tape { inputs, output: x }
    }

    /// The dropout of one layer within a forward pass.
    pub(super) fn layer_dropout(
        &self,
        dropout: Option<Dropout>,
        layer: usize,
    ) -> Option<LayerDropout> {
        dropout.filter(|dropout| dropout.rate > 0.0).map(|dropout| {
            let [step, iteration, micro_batch] = dropout.place;
            LayerDropout {
                rate: dropout.rate,
                seed: dropout.seed,
                place: [step, iteration, micro_batch, layer as u64],
                compute: self.compute.clone(),
            }
        })
    }

    /// The normed hidden states that predict the given tokens.
    ///
    /// # Shapes
    /// `output: [tokens, hidden]` → `[predictors, hidden]`
    pub fn predicting_states(&self, output: &Tensor<2>, predictors: &[usize]) -> Tensor<2> {
        let picked = output
            .clone()
            .select(0, indices(predictors.iter().copied(), &self.compute));
        rms_norm(picked, &self.norm, self.config.rms_norm_eps)
    }

    /// Runs prompts and starts a cache of `rows_per_prompt` completions each.
    /// Answers the logits after each prompt, `[prompts, vocabulary]`.
    pub fn prefill(
        &self,
        prompts: &[&[u32]],
        rows_per_prompt: usize,
        adapter: Option<&Adapter>,
    ) -> (Decoding<'_>, Tensor<2>) {
        let groups: Vec<(&[u32], Vec<&[u32]>)> =
            prompts.iter().map(|prompt| (*prompt, Vec::new())).collect();
        let batch = GroupBatch::new(&groups);
        let tensors = self.layout_tensors(&batch.layout);
        let mut x = self.embed(&batch.ids);
        let mut caches = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            let adapted = Adapted {
                adapter: adapter.map(|a| &a.layers[i]),
                dropout: None,
            };
            let (y, prompt) = layer.prefill(x, &tensors, &self.config, adapted);
            caches.push(CompletionCache::new(prompt, prompts.len()));
            x = y;
        }
        let width = batch.layout.prompt_width;
        let last: Vec<usize> = batch
            .layout
            .prompt_lengths
            .iter()
            .enumerate()
            .map(|(i, length)| i * width + length - 1)
            .collect();
        let logits = self.head(1.0).logits_of(self.predicting_states(&x, &last));
        let decoding = Decoding {
            model: self,
            padding_bias: padding_bias(&batch.layout, &self.compute),
            prompt_lengths: batch.layout.prompt_lengths,
            rows_per_prompt,
            generated: 0,
            caches,
        };
        (decoding, logits)
    }
}

/// What a forward pass leaves behind.
pub struct Tape {
    /// Input of each layer, `[tokens, hidden]`; empty when not kept.
    pub inputs: Vec<Tensor<2>>,
    /// Output of the last layer, before the final norm.
    pub output: Tensor<2>,
}

/// A batch of groups being decoded, one token per row and step.
pub struct Decoding<'a> {
    model: &'a Llama,
    caches: Vec<CompletionCache>,
    padding_bias: Option<Tensor<2>>,
    prompt_lengths: Vec<usize>,
    rows_per_prompt: usize,
    generated: usize,
}

impl Decoding<'_> {
    /// Feeds one token per row and answers the logits of the next, `[rows, vocabulary]` in f32.
    pub fn step(&mut self, tokens: &[u32], adapter: Option<&Adapter>) -> Tensor<2> {
        let model = self.model;
        let positions: Vec<usize> = self
            .prompt_lengths
            .iter()
            .flat_map(|&length| std::iter::repeat_n(length + self.generated, self.rows_per_prompt))
            .collect();
        let (cos, sin) = model
            .rope
            .at(&positions, model.config.head_dim, &model.compute);
        let mut x = model.embed(tokens);
        for (i, (layer, cache)) in model.layers.iter().zip(&mut self.caches).enumerate() {
            let adapted = Adapted {
                adapter: adapter.map(|a| &a.layers[i]),
                dropout: None,
            };
            x = layer.decode(
                x,
                (&cos, &sin),
                self.padding_bias.as_ref(),
                cache,
                &model.config,
                adapted,
            );
        }
        self.generated += 1;
        model
            .head(1.0)
            .logits_of(rms_norm(x, &model.norm, model.config.rms_norm_eps))
    }

    /// Keeps these prompts with `rows_per_prompt` rows each; `rows` are indices
    /// into the present batch, group after group.
    pub fn keep(&mut self, prompts: &[usize], rows: &[usize], rows_per_prompt: usize) {
        let compute = &self.model.compute;
        for cache in &mut self.caches {
            cache.keep(
                prompts,
                rows,
                self.model.config.num_key_value_heads,
                compute,
            );
        }
        if let Some(bias) = &self.padding_bias
            && prompts.len() != self.prompt_lengths.len()
        {
            self.padding_bias = Some(
                bias.clone()
                    .select(0, indices(prompts.iter().copied(), compute)),
            );
        }
        self.prompt_lengths = prompts
            .iter()
            .map(|&prompt| self.prompt_lengths[prompt])
            .collect();
        self.rows_per_prompt = rows_per_prompt;
    }
}

/// Names of all tensors a checkpoint of this configuration holds.
fn tensor_names(config: &LlamaConfig) -> Vec<String> {
    let mut names = vec![
        "model.embed_tokens.weight".to_string(),
        "model.norm.weight".to_string(),
    ];
    if !config.tie_word_embeddings {
        names.push("lm_head.weight".to_string());
    }
    for i in 0..config.num_hidden_layers {
        names.push(format!("model.layers.{i}.input_layernorm.weight"));
        names.push(format!("model.layers.{i}.post_attention_layernorm.weight"));
        names.extend(Projection::ALL.map(|p| format!("model.layers.{i}.{}.weight", p.path())));
    }
    names
}
