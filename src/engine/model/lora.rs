//! Low-rank adapters: `y = x·Wᵀ + (alpha/r)·dropout(x)·Aᵀ·Bᵀ`, separate from
//! the frozen weights so that the reference policy is the same model without them.

use std::ops::Range;

use anyhow::Result;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::layout::Layout;
use crate::device::Compute;
use crate::kernel::dropout::dropout;
use crate::kernel::linear::{LowRank, linear};
use moim_core::architecture::{Family, LlamaConfig, Projection};

/// The configuration of an adapter; PEFT's `LoraConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank of the update.
    pub r: usize,
    /// The update is scaled by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Probability that an input of `A` is dropped while training.
    pub lora_dropout: f64,
    /// Layers that are adapted, in order, without repetition.
    pub target_modules: Vec<Projection>,
}

impl LoraConfig {
    /// `lora_alpha / r`.
    pub fn scaling(&self) -> f64 {
        self.lora_alpha / self.r as f64
    }

    /// Trained parameters over all layers.
    pub fn parameter_count(&self, config: &LlamaConfig) -> usize {
        let layer: usize = self
            .target_modules
            .iter()
            .map(|projection| {
                let (out, input) = projection.shape(config);
                self.r * (out + input)
            })
            .sum();
        layer * config.num_hidden_layers
    }
}

/// The two factors of one adapted linear layer, in f32.
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// `[r, in]`
    pub a: Tensor<2>,
    /// `[out, r]`
    pub b: Tensor<2>,
}

/// The adapted linear layers of one decoder layer.
#[derive(Clone, Debug)]
pub struct LayerAdapter {
    pairs: [Option<LoraPair>; 7],
    scaling: f64,
}

impl LayerAdapter {
    /// The factors of one linear layer, if it is adapted.
    pub fn pair(&self, projection: Projection) -> Option<&LoraPair> {
        self.pairs[projection as usize].as_ref()
    }

    /// The factors in a fixed order: for each adapted layer `A`, then `B`.
    pub fn parameters(&self) -> Vec<Tensor<2>> {
        self.pairs
            .iter()
            .flatten()
            .flat_map(|pair| [pair.a.clone(), pair.b.clone()])
            .collect()
    }

    /// The same layer with other values, in the order of [`LayerAdapter::parameters`].
    pub fn with_parameters(&self, values: &mut impl Iterator<Item = Tensor<2>>) -> Self {
        let pairs = self.pairs.clone().map(|pair| {
            pair.map(|pair| LoraPair {
                a: values.next().unwrap_or(pair.a),
                b: values.next().unwrap_or(pair.b),
            })
        });
        Self {
            pairs,
            scaling: self.scaling,
        }
    }

    /// The adapter's share of a linear layer's output, as far as the inner product.
    ///
    /// # Shapes
    /// `x: [tokens, in]`
    pub fn share(
        &self,
        projection: Projection,
        x: &Tensor<2>,
        dropout: Option<&LayerDropout>,
    ) -> Option<LowRank> {
        let pair = self.pair(projection)?;
        let dtype = x.dtype();
        let x = match dropout {
            Some(dropout) => dropout.apply(projection, x.clone()),
            None => x.clone(),
        };
        Some(LowRank {
            inner: linear(x, &as_dtype(pair.a.clone(), dtype)),
            factor: as_dtype(pair.b.clone(), dtype),
            scale: self.scaling,
        })
    }
}

/// Low-rank adapters for every layer of a model.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its configuration.
    pub config: LoraConfig,
    /// The family whose layers it adapts, and whose names are the keys of its file.
    pub family: Family,
    /// One per decoder layer.
    pub layers: Vec<LayerAdapter>,
}

impl Adapter {
    /// A fresh adapter as PEFT draws it: `A` uniform in ±1/√in (Kaiming uniform with a = √5), `B` zero.
    ///
    /// The draws depend only on the seed, the layer and the projection.
    pub fn new(config: LoraConfig, model: &LlamaConfig, seed: u64, compute: &Compute) -> Self {
        let mut layers = Vec::with_capacity(model.num_hidden_layers);
        for layer in 0..model.num_hidden_layers {
            let mut pairs: [Option<LoraPair>; 7] = Default::default();
            for &projection in &config.target_modules {
                let (out, input) = projection.shape(model);
                let mut rng = stream(seed, "lora_A", &[layer as u64, projection as u64]);
                let bound = 1.0 / (input as f32).sqrt();
                let a: Vec<f32> = (0..config.r * input)
                    .map(|_| (2.0 * uniform(&mut rng) as f32 - 1.0) * bound)
                    .collect();
                pairs[projection as usize] = Some(LoraPair {
                    a: f32_tensor(a, [config.r, input], compute),
                    b: Tensor::zeros([out, config.r], (&compute.device, DType::F32)),
                });
            }
            layers.push(LayerAdapter {
                pairs,
                scaling: config.scaling(),
            });
        }
        Self {
            config,
            family: model.family,
            layers,
        }
    }

    /// An adapter from values given per layer and projection.
    ///
    /// # Errors
    /// An error of `pair` for a layer.
    pub fn from_pairs(
        config: LoraConfig,
        model: &LlamaConfig,
        mut pair: impl FnMut(usize, Projection) -> Result<LoraPair>,
    ) -> Result<Self> {
        let mut layers = Vec::with_capacity(model.num_hidden_layers);
        for layer in 0..model.num_hidden_layers {
            let mut pairs: [Option<LoraPair>; 7] = Default::default();
            for &projection in &config.target_modules {
                pairs[projection as usize] = Some(pair(layer, projection)?);
            }
            layers.push(LayerAdapter {
                pairs,
                scaling: config.scaling(),
            });
        }
        Ok(Self {
            config,
            family: model.family,
            layers,
        })
    }

    /// All factors, layer after layer, in the order the optimizer keeps them.
    pub fn parameters(&self) -> Vec<Tensor<2>> {
        self.layers
            .iter()
            .flat_map(LayerAdapter::parameters)
            .collect()
    }

    /// A copy on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        let copied = self.parameters().into_iter();
        self.with_parameters(copied.map(|factor| factor.to_device(device)).collect())
    }

    /// A copy in another type, for passes that have no gradient.
    pub fn in_dtype(&self, dtype: DType) -> Self {
        let copied = self.parameters().into_iter();
        self.with_parameters(copied.map(|factor| as_dtype(factor, dtype)).collect())
    }

    /// The same adapter with other values, in the order of [`Adapter::parameters`].
    pub fn with_parameters(&self, values: Vec<Tensor<2>>) -> Self {
        let mut values = values.into_iter();
        let layers = self
            .layers
            .iter()
            .map(|layer| layer.with_parameters(&mut values))
            .collect();
        Self {
            config: self.config.clone(),
            family: self.family,
            layers,
        }
    }
}

/// Dropout of a part of a step: its masks are a function of the run's seed and of which token of
/// which sequence a value belongs to, so that a recomputation draws the same, however the step is
/// split into parts.
#[derive(Clone, Debug)]
pub struct Dropout {
    rate: f64,
    /// 64 bits per token, `[tokens, 2]`.
    keys: Tensor<2, Int>,
}

/// The positions of a part's sequences in their step.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropoutPlace {
    /// The step (of the generation's first iteration), and the iteration.
    pub step: [u64; 2],
    /// Number of the first prompt within the step.
    pub first_prompt: usize,
    /// Number of the first completion within the step.
    pub first_row: usize,
}

impl Dropout {
    /// `None` if nothing is dropped.
    pub fn new(
        rate: f64,
        seed: u64,
        place: DropoutPlace,
        layout: &Layout,
        compute: &Compute,
    ) -> Option<Self> {
        if rate <= 0.0 {
            return None;
        }
        let mut words =
            Vec::with_capacity(2 * (layout.prompt_tokens() + layout.completion_tokens()));
        let mut sequence = |kind: u64, number: usize, width: usize| {
            let [step, iteration] = place.step;
            let mut rng = stream(
                seed,
                "lora_dropout",
                &[step, iteration, kind, number as u64],
            );
            words.extend((0..2 * width).map(|_| rng.next_u32() as i32));
        };
        for prompt in 0..layout.prompts() {
            sequence(0, place.first_prompt + prompt, layout.prompt_width);
        }
        for row in 0..layout.rows() {
            sequence(1, place.first_row + row, layout.completion_width);
        }
        let shape = [words.len() / 2, 2];
        Some(Self {
            rate,
            keys: Tensor::from_data(TensorData::new(words, shape), (&compute.device, DType::I32)),
        })
    }

    /// The dropout of one layer.
    pub fn layer(&self, layer: usize) -> LayerDropout {
        LayerDropout {
            dropout: self.clone(),
            layer,
        }
    }
}

/// Dropout within one layer, for some of a part's tokens.
#[derive(Clone, Debug)]
pub struct LayerDropout {
    dropout: Dropout,
    layer: usize,
}

impl LayerDropout {
    /// For some of the tokens.
    pub fn of(&self, tokens: &Range<usize>) -> Self {
        let Dropout { rate, keys } = &self.dropout;
        Self {
            dropout: Dropout {
                rate: *rate,
                keys: keys.clone().slice([tokens.clone()]),
            },
            layer: self.layer,
        }
    }

    fn apply(&self, projection: Projection, x: Tensor<2>) -> Tensor<2> {
        let salt = self.layer * Projection::ALL.len() + projection as usize;
        dropout(x, self.dropout.keys.clone(), salt as u32, self.dropout.rate)
    }
}

/// A random stream that depends only on the seed, a purpose and an index.
pub fn stream(seed: u64, purpose: &str, place: &[u64]) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key("moim random stream 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    for part in place {
        hasher.update(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// A draw from [0, 1) with 53 bits.
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// `x` in `dtype`, unchanged if it already is.
pub fn as_dtype<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// A matrix of f32 values, row-major, on the device.
pub fn f32_tensor(values: Vec<f32>, shape: [usize; 2], compute: &Compute) -> Tensor<2> {
    Tensor::from_data(
        TensorData::new(values, shape),
        (&compute.device, DType::F32),
    )
}
