//! Low-rank adapters: `y = x·Wᵀ + (alpha/r)·dropout(x)·Aᵀ·Bᵀ`, kept apart from
//! the frozen weights so that the reference policy is the same model without them.

use anyhow::{Result, bail};
use burn::tensor::{DType, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::config::LlamaConfig;
use crate::device::Compute;

/// The linear layers of a decoder layer, under their checkpoint names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// Gate of the MLP.
    Gate,
    /// Up-projection of the MLP.
    Up,
    /// Down-projection of the MLP.
    Down,
}

impl Projection {
    /// All of them, in the order of a layer's computation.
    pub const ALL: [Projection; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// `q_proj` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Path inside a decoder layer: `self_attn.q_proj`, `mlp.up_proj`.
    pub fn path(self) -> String {
        let block = match self {
            Self::Q | Self::K | Self::V | Self::O => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        };
        format!("{block}.{}", self.name())
    }

    /// `(out, in)` of the weight.
    pub fn shape(self, config: &LlamaConfig) -> (usize, usize) {
        let hidden = config.hidden_size;
        match self {
            Self::Q => (config.query_size(), hidden),
            Self::K | Self::V => (config.key_value_size(), hidden),
            Self::O => (hidden, config.query_size()),
            Self::Gate | Self::Up => (config.intermediate_size, hidden),
            Self::Down => (hidden, config.intermediate_size),
        }
    }

    /// Reads PEFT's `target_modules`; `all-linear` is all seven.
    ///
    /// # Errors
    /// An empty list, or a name that no decoder layer has.
    pub fn parse_targets<S: AsRef<str>>(names: &[S]) -> Result<Vec<Projection>> {
        let names = || names.iter().map(AsRef::as_ref);
        if names().any(|name| name == "all-linear") {
            return Ok(Self::ALL.to_vec());
        }
        let mut targets = Vec::new();
        for name in names() {
            match Self::ALL
                .into_iter()
                .find(|projection| projection.name() == name)
            {
                Some(projection) if !targets.contains(&projection) => targets.push(projection),
                Some(_) => {}
                None => bail!(
                    "lora.target_modules contains {name:?}; a decoder layer has {}, or write \"all-linear\"",
                    Self::ALL.map(Self::name).join(", ")
                ),
            }
        }
        if targets.is_empty() {
            bail!(
                "lora.target_modules is empty; name at least one of {}",
                Self::ALL.map(Self::name).join(", ")
            );
        }
        targets.sort();
        Ok(targets)
    }
}

/// What an adapter is made of; PEFT's `LoraConfig`.
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

    /// The adapter's share of a linear layer's output.
    ///
    /// # Shapes
    /// `x: [tokens, in]` → `[tokens, out]`
    pub fn delta(
        &self,
        projection: Projection,
        x: &Tensor<2>,
        dropout: Option<&LayerDropout>,
    ) -> Option<Tensor<2>> {
        let pair = self.pair(projection)?;
        let dtype = x.dtype();
        let x = match dropout {
            Some(dropout) => dropout.apply(projection, x.clone()),
            None => x.clone(),
        };
        let a = as_dtype(pair.a.clone(), dtype);
        let b = as_dtype(pair.b.clone(), dtype);
        Some(
            x.matmul(a.transpose())
                .matmul(b.transpose())
                .mul_scalar(self.scaling),
        )
    }
}

/// Low-rank adapters for every layer of a model.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What it is made of.
    pub config: LoraConfig,
    /// One per decoder layer.
    pub layers: Vec<LayerAdapter>,
}

impl Adapter {
    /// A fresh adapter as PEFT draws it: `A` uniform in ±1/√in (Kaiming uniform with a = √5), `B` zero.
    ///
    /// The draws depend on the seed, the layer and the projection alone.
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
        Self { config, layers }
    }

    /// An adapter from values given per layer and projection.
    ///
    /// # Errors
    /// What `pair` answers for a layer.
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
        Ok(Self { config, layers })
    }

    /// All factors, layer after layer, in the order the optimizer keeps them.
    pub fn parameters(&self) -> Vec<Tensor<2>> {
        self.layers
            .iter()
            .flat_map(LayerAdapter::parameters)
            .collect()
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
            layers,
        }
    }
}

/// Dropout masks of one layer: a function of the run's seed and of where the
/// mask is used, so that the recomputation in the backward pass draws the same one.
#[derive(Clone, Debug)]
pub struct LayerDropout {
    /// Probability of dropping.
    pub rate: f64,
    /// Seed of the run.
    pub seed: u64,
    /// What tells this forward pass from others: step, iteration, micro-batch, layer.
    pub place: [u64; 4],
    /// Where masks are made.
    pub compute: Compute,
}

impl LayerDropout {
    fn apply(&self, projection: Projection, x: Tensor<2>) -> Tensor<2> {
        if self.rate <= 0.0 {
            return x;
        }
        let shape = x.dims();
        let [a, b, c, d] = self.place;
        let mut rng = stream(self.seed, "lora_dropout", &[a, b, c, d, projection as u64]);
        let threshold = (self.rate * 65_536.0).round() as u32;
        let keep = (1.0 / (1.0 - self.rate)) as f32;
        let mut values = Vec::with_capacity(shape[0] * shape[1] + 1);
        while values.len() < shape[0] * shape[1] {
            let word = rng.next_u32();
            values.push(if word & 0xffff < threshold { 0.0 } else { keep });
            values.push(if word >> 16 < threshold { 0.0 } else { keep });
        }
        values.truncate(shape[0] * shape[1]);
        let mask = Tensor::<2>::from_data(
            TensorData::new(values, shape),
            (&self.compute.device, x.dtype()),
        );
        x * mask
    }
}

/// A random stream that depends on nothing but the seed, a purpose and a place.
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

/// `x` in `dtype`, untouched where it already is.
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
