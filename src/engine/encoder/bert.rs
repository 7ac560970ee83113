//! The encoder itself: BERT, RoBERTa and XLM-RoBERTa, post-layer-norm.
//!
//! Every parameter is a plain [`Tensor<2>`] in Hugging Face's layout and under
//! Hugging Face's name: a weight is `[out, in]`, a bias or a norm `[1, width]`.
//! Nothing here knows whether the tensors carry gradients, so the same forward
//! pass scores and trains.

use anyhow::Result;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation, module};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::device::resident;
use moim_core::architecture::EncoderConfig;
use moim_core::architecture::encoder::{Activation, Family};

/// Standard deviation of the initial weights (`initializer_range` of BERT).
const INITIAL_STD: f64 = 0.02;

/// Added to the attention scores of padding: their weights become exactly 0.
const MASKED_SCORE: f32 = -1e9;

/// y = x Wᵀ + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor<2>,
    /// `[1, out]`
    pub bias: Tensor<2>,
}

impl Linear {
    /// # Shapes
    /// `x: [rows, in]` → `[rows, out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone().transpose()) + self.bias.clone()
    }
}

/// Layer norm over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[1, width]`
    pub weight: Tensor<2>,
    /// `[1, width]`
    pub bias: Tensor<2>,
}

impl LayerNorm {
    /// # Shapes
    /// `x: [rows, width]` → `[rows, width]`
    pub fn forward(&self, x: Tensor<2>, eps: f64) -> Tensor<2> {
        let weight: Tensor<1> = self.weight.clone().reshape([-1]);
        let bias: Tensor<1> = self.bias.clone().reshape([-1]);
        module::layer_norm(x, weight, Some(bias), eps)
    }
}

/// Word + position + token-type embeddings and their norm.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// `[vocab_size, hidden_size]`
    pub word_embeddings: Tensor<2>,
    /// `[max_position_embeddings, hidden_size]`
    pub position_embeddings: Tensor<2>,
    /// `[type_vocab_size, hidden_size]`; every token has type 0.
    pub token_type_embeddings: Tensor<2>,
    /// Over `hidden_size`.
    pub norm: LayerNorm,
}

/// One transformer block.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `attention.self.query`
    pub query: Linear,
    /// `attention.self.key`
    pub key: Linear,
    /// `attention.self.value`
    pub value: Linear,
    /// `attention.output.dense`
    pub attention_output: Linear,
    /// `attention.output.LayerNorm`
    pub attention_norm: LayerNorm,
    /// `intermediate.dense`
    pub intermediate: Linear,
    /// `output.dense`
    pub output: Linear,
    /// `output.LayerNorm`
    pub output_norm: LayerNorm,
}

/// An encoder, possibly with fewer layers than its checkpoint has.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Shape; `num_hidden_layers` is the number of loaded layers.
    pub config: EncoderConfig,
    /// The input of the first layer.
    pub embeddings: Embeddings,
    /// Bottom to top.
    pub layers: Vec<Layer>,
}

/// Token ids of some sentences, padded to the longest.
struct TokenBatch {
    /// `[batch × seq]`, row-major.
    ids: Tensor<1, Int>,
    /// `[batch × seq]`, row-major.
    positions: Tensor<1, Int>,
    /// `[batch, 1, 1, seq]`, added to the attention scores; `None` without padding.
    score_bias: Option<Tensor<4>>,
    batch: usize,
    seq: usize,
}

impl TokenBatch {
    /// Pads every row to `seq` tokens.
    fn new(rows: &[Vec<u32>], seq: usize, config: &EncoderConfig, device: &Device) -> TokenBatch {
        let batch = rows.len();
        let mut ids = Vec::with_capacity(batch * seq);
        let mut positions = Vec::with_capacity(batch * seq);
        let mut bias = vec![0.0f32; batch * seq];
        for (index, row) in rows.iter().enumerate() {
            ids.extend(row.iter().map(|&id| id as i32));
            positions.extend(position_ids(row, config).into_iter().map(|p| p as i32));
            for slot in row.len()..seq {
                ids.push(config.pad_token_id as i32);
                positions.push(0);
                bias[index * seq + slot] = MASKED_SCORE;
            }
        }
        let padded = rows.iter().any(|row| row.len() < seq);
        TokenBatch {
            ids: Tensor::from_data(TensorData::new(ids, [batch * seq]), device),
            positions: Tensor::from_data(TensorData::new(positions, [batch * seq]), device),
            score_bias: padded.then(|| {
                Tensor::from_data(
                    TensorData::new(bias, [batch, 1, 1, seq]),
                    (device, DType::F32),
                )
            }),
            batch,
            seq,
        }
    }
}

/// Positions as `transformers` counts them: 0, 1, 2… for BERT; for RoBERTa
/// (`create_position_ids_from_input_ids`) from `pad + 1`, while a token that
/// *is* the padding token stays at `pad` and is not counted.
fn position_ids(row: &[u32], config: &EncoderConfig) -> Vec<usize> {
    match config.family {
        Family::Bert => (0..row.len()).collect(),
        Family::Roberta | Family::XlmRoberta => {
            let pad = config.pad_token_id as usize;
            let mut position = pad;
            row.iter()
                .map(|&id| {
                    if id == config.pad_token_id {
                        pad
                    } else {
                        position += 1;
                        position
                    }
                })
                .collect()
        }
    }
}

impl Layer {
    /// # Shapes
    /// `x: [batch × seq, hidden]` → `[batch × seq, hidden]`
    fn forward(&self, x: Tensor<2>, tokens: &TokenBatch, config: &EncoderConfig) -> Tensor<2> {
        let attended = self.attention(x.clone(), tokens, config);
        let x = self.attention_norm.forward(
            self.attention_output.forward(attended) + x,
            config.layer_norm_eps,
        );
        let inner = activate(self.intermediate.forward(x.clone()), config.hidden_act);
        self.output_norm
            .forward(self.output.forward(inner) + x, config.layer_norm_eps)
    }

    /// # Shapes
    /// `x: [batch × seq, hidden]` → `[batch × seq, hidden]`
    fn attention(&self, x: Tensor<2>, tokens: &TokenBatch, config: &EncoderConfig) -> Tensor<2> {
        let (heads, head_dim) = (config.num_attention_heads, config.head_dim());
        let split = |projected: Tensor<2>| -> Tensor<4> {
            projected
                .reshape([tokens.batch, tokens.seq, heads, head_dim])
                .swap_dims(1, 2)
        };
        let query = split(self.query.forward(x.clone()) * (head_dim as f64).powf(-0.5));
        let key = split(self.key.forward(x.clone()));
        let value = split(self.value.forward(x));
        // [batch, heads, seq, seq]
        let mut scores = query.matmul(key.swap_dims(2, 3));
        if let Some(bias) = &tokens.score_bias {
            scores = scores + bias.clone();
        }
        activation::softmax(scores, 3)
            .matmul(value)
            .swap_dims(1, 2)
            .reshape([tokens.batch * tokens.seq, heads * head_dim])
    }
}

/// # Shapes
/// `x: [rows, width]` → `[rows, width]`
pub(super) fn activate(x: Tensor<2>, kind: Activation) -> Tensor<2> {
    match kind {
        Activation::Gelu => activation::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::Relu => activation::relu(x),
    }
}

impl Encoder {
    /// Builds an encoder with `num_layers` layers. Calls `tensor` for every parameter with its Hugging
    /// Face name (without `bert.` prefix) and shape `[rows, columns]`. This is the key map of the
    /// format.
    ///
    /// # Errors
    /// Those of `tensor`.
    pub fn build(
        config: &EncoderConfig,
        num_layers: usize,
        tensor: &mut impl FnMut(&str, [usize; 2]) -> Result<Tensor<2>>,
    ) -> Result<Encoder> {
        let hidden = config.hidden_size;
        let embeddings = Embeddings {
            word_embeddings: tensor(
                "embeddings.word_embeddings.weight",
                [config.vocab_size, hidden],
            )?,
            position_embeddings: tensor(
                "embeddings.position_embeddings.weight",
                [config.max_position_embeddings, hidden],
            )?,
            token_type_embeddings: tensor(
                "embeddings.token_type_embeddings.weight",
                [config.type_vocab_size, hidden],
            )?,
            norm: build_norm("embeddings.LayerNorm", hidden, tensor)?,
        };
        let mut layers = Vec::with_capacity(num_layers);
        for index in 0..num_layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let inner = config.intermediate_size;
            layers.push(Layer {
                query: build_linear(&name("attention.self.query"), hidden, hidden, tensor)?,
                key: build_linear(&name("attention.self.key"), hidden, hidden, tensor)?,
                value: build_linear(&name("attention.self.value"), hidden, hidden, tensor)?,
                attention_output: build_linear(
                    &name("attention.output.dense"),
                    hidden,
                    hidden,
                    tensor,
                )?,
                attention_norm: build_norm(&name("attention.output.LayerNorm"), hidden, tensor)?,
                intermediate: build_linear(&name("intermediate.dense"), inner, hidden, tensor)?,
                output: build_linear(&name("output.dense"), hidden, inner, tensor)?,
                output_norm: build_norm(&name("output.LayerNorm"), hidden, tensor)?,
            });
        }
        Ok(Encoder {
            config: EncoderConfig {
                num_hidden_layers: num_layers,
                ..config.clone()
            },
            embeddings,
            layers,
        })
    }

    /// An encoder initialised like BERT: weights N(0, 0.02²), biases 0, norms 1, the padding token's
    /// embedding 0. The same seed gives the same weights on every device.
    ///
    /// # Errors
    /// Those of [`EncoderConfig::check`].
    pub fn random(config: &EncoderConfig, seed: u64, device: &Device) -> Result<Encoder> {
        config.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let pad = config.pad_token_id as usize;
        Encoder::build(config, config.num_hidden_layers, &mut |name, shape| {
            let mut values = initial_values(name, shape, &mut rng);
            if name == "embeddings.word_embeddings.weight" {
                values[pad * shape[1]..(pad + 1) * shape[1]].fill(0.0);
            }
            Ok(tensor_from(values, shape, device))
        })
    }

    /// The hidden states of some sentences after `num_layers` layers (all when `None`), as in
    /// `hidden_states[num_layers]` of `transformers`.
    ///
    /// `rows` are token ids with their special tokens, none longer than [`EncoderConfig::max_tokens`]
    /// and each below `vocab_size`. Rows are padded to the longest; the states of padding are
    /// meaningless. On an autodiff device the result is differentiable.
    ///
    /// # Shapes
    /// → `[rows, longest row, hidden]`
    pub fn hidden_states(&self, rows: &[Vec<u32>], num_layers: Option<usize>) -> Tensor<3> {
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        self.padded_hidden_states(rows, longest, num_layers)
    }

    /// [`Self::hidden_states`] with every row padded to `seq` tokens.
    pub(super) fn padded_hidden_states(
        &self,
        rows: &[Vec<u32>],
        seq: usize,
        num_layers: Option<usize>,
    ) -> Tensor<3> {
        let tokens = TokenBatch::new(rows, seq, &self.config, &self.device());
        let mut x = self.embed(&tokens);
        let depth = num_layers.unwrap_or(self.layers.len());
        for layer in self.layers.iter().take(depth) {
            x = layer.forward(x, &tokens, &self.config);
        }
        x.reshape([tokens.batch, tokens.seq, self.config.hidden_size])
    }

    /// # Shapes
    /// → `[batch × seq, hidden]`
    fn embed(&self, tokens: &TokenBatch) -> Tensor<2> {
        let embeddings = &self.embeddings;
        let word = embeddings
            .word_embeddings
            .clone()
            .select(0, tokens.ids.clone());
        let position = embeddings
            .position_embeddings
            .clone()
            .select(0, tokens.positions.clone());
        let token_type = embeddings.token_type_embeddings.clone().narrow(0, 0, 1);
        embeddings
            .norm
            .forward(word + token_type + position, self.config.layer_norm_eps)
    }

    /// The device of the weights, with their autodiff context.
    pub fn device(&self) -> Device {
        self.embeddings.word_embeddings.device()
    }

    /// Replaces every parameter by `map(name, parameter)`, in a fixed order. Names are Hugging Face's
    /// without prefix.
    pub fn map_tensors(mut self, map: &mut impl FnMut(&str, Tensor<2>) -> Tensor<2>) -> Encoder {
        self.for_each_tensor(&mut |name, tensor| *tensor = map(name, tensor.clone()));
        self
    }

    /// Every parameter with its Hugging Face name, in the order of
    /// [`Self::map_tensors`].
    pub fn named_tensors(&self) -> Vec<(String, Tensor<2>)> {
        let mut tensors = Vec::new();
        // The walk needs a mutable encoder; the clone shares its buffers.
        self.clone()
            .for_each_tensor(&mut |name, tensor| tensors.push((name.to_owned(), tensor.clone())));
        tensors
    }

    /// Number of scalars in all parameters.
    pub fn num_parameters(&self) -> usize {
        let sizes = self.named_tensors().into_iter().map(|(_, t)| t.dims());
        sizes.map(|[rows, columns]| rows * columns).sum()
    }

    fn for_each_tensor(&mut self, visit: &mut impl FnMut(&str, &mut Tensor<2>)) {
        let embeddings = &mut self.embeddings;
        visit(
            "embeddings.word_embeddings.weight",
            &mut embeddings.word_embeddings,
        );
        visit(
            "embeddings.position_embeddings.weight",
            &mut embeddings.position_embeddings,
        );
        visit(
            "embeddings.token_type_embeddings.weight",
            &mut embeddings.token_type_embeddings,
        );
        visit("embeddings.LayerNorm.weight", &mut embeddings.norm.weight);
        visit("embeddings.LayerNorm.bias", &mut embeddings.norm.bias);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            for (part, weight, bias) in layer.parts() {
                visit(&format!("encoder.layer.{index}.{part}.weight"), weight);
                visit(&format!("encoder.layer.{index}.{part}.bias"), bias);
            }
        }
    }
}

impl Layer {
    /// Name, weight and bias of every part, in the order of [`Encoder::build`].
    fn parts(&mut self) -> [(&'static str, &mut Tensor<2>, &mut Tensor<2>); 8] {
        fn linear(linear: &mut Linear) -> (&mut Tensor<2>, &mut Tensor<2>) {
            (&mut linear.weight, &mut linear.bias)
        }
        fn norm(norm: &mut LayerNorm) -> (&mut Tensor<2>, &mut Tensor<2>) {
            (&mut norm.weight, &mut norm.bias)
        }
        [
            ("attention.self.query", linear(&mut self.query)),
            ("attention.self.key", linear(&mut self.key)),
            ("attention.self.value", linear(&mut self.value)),
            ("attention.output.dense", linear(&mut self.attention_output)),
            ("attention.output.LayerNorm", norm(&mut self.attention_norm)),
            ("intermediate.dense", linear(&mut self.intermediate)),
            ("output.dense", linear(&mut self.output)),
            ("output.LayerNorm", norm(&mut self.output_norm)),
        ]
        .map(|(name, (weight, bias))| (name, weight, bias))
    }
}

pub(super) fn build_linear(
    name: &str,
    out: usize,
    input: usize,
    tensor: &mut impl FnMut(&str, [usize; 2]) -> Result<Tensor<2>>,
) -> Result<Linear> {
    Ok(Linear {
        weight: tensor(&format!("{name}.weight"), [out, input])?,
        bias: tensor(&format!("{name}.bias"), [1, out])?,
    })
}

pub(super) fn build_norm(
    name: &str,
    width: usize,
    tensor: &mut impl FnMut(&str, [usize; 2]) -> Result<Tensor<2>>,
) -> Result<LayerNorm> {
    Ok(LayerNorm {
        weight: tensor(&format!("{name}.weight"), [1, width])?,
        bias: tensor(&format!("{name}.bias"), [1, width])?,
    })
}

/// Whether a parameter is one-dimensional in the Hugging Face file.
pub(super) fn is_vector(name: &str) -> bool {
    name.ends_with(".bias") || name.ends_with("LayerNorm.weight")
}

/// Initial values of one parameter: norms 1, biases 0, weights N(0, 0.02²).
pub(super) fn initial_values(name: &str, shape: [usize; 2], rng: &mut ChaCha8Rng) -> Vec<f32> {
    let count = shape[0] * shape[1];
    if name.ends_with("LayerNorm.weight") {
        vec![1.0; count]
    } else if name.ends_with(".bias") {
        vec![0.0; count]
    } else {
        (0..count)
            .map(|_| (INITIAL_STD * standard_normal(rng)) as f32)
            .collect()
    }
}

/// Box–Muller: one draw from N(0, 1).
fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius: f64 = 1.0 - rng.random::<f64>();
    let angle: f64 = rng.random::<f64>();
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// A float32 tensor for every default type of the device: scores are compared to the fourth digit, and
/// the encoder is small.
pub(super) fn tensor_from(values: Vec<f32>, shape: [usize; 2], device: &Device) -> Tensor<2> {
    resident(TensorData::new(values, shape), (device, DType::F32))
}
