//! One decoder layer: attention over a shared prompt, then the MLP.
//!
//! Three paths through it, one arithmetic: the whole micro-batch (training and
//! scoring), only prompts (prefill), and one new token per completion (decoding).
//!
//! What is computed per token (the MLP and its neighbours) is done in chunks of whole
//! sequences, and attention in blocks, so that a layer's memory is bounded.

use std::ops::Range;

use burn::tensor::{Device, Gradients, Tensor};

use super::attend::{Heads, attend, attend_backward};
use super::cache::{CompletionCache, KeyValue, Newest};
use super::layout::LayoutTensors;
use super::linear::Linear;
use super::lora::{LayerAdapter, LayerDropout};
use crate::kernel::linear::Added;
use crate::kernel::rms_norm::rms_norm;
use crate::kernel::rotary::rotate;
use crate::kernel::swiglu::swiglu;
use moim_core::architecture::{Family, LlamaConfig, Projection, QKV};

/// Weights of a decoder layer, in the checkpoint's layout `[out, in]`; norms are `[1, hidden]`.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    /// RMSNorm before attention.
    pub input_layernorm: Tensor<2>,
    /// RMSNorm before the MLP.
    pub post_attention_layernorm: Tensor<2>,
    /// RMSNorm of each head of queries and of keys (Qwen3), `[1, head_dim]`.
    pub qk_norm: Option<[Tensor<2>; 2]>,
    /// Linear layers, indexed by [`Projection`].
    pub projections: [Linear; 7],
    /// Added to queries, keys and values (Qwen2), `[1, out]`.
    pub qkv_bias: Option<[Tensor<2>; 3]>,
}

/// The adapter of a layer and, while training, its dropout.
#[derive(Clone, Debug, Default)]
pub struct Adapted<'a> {
    /// `None` is the frozen model: the reference policy.
    pub adapter: Option<&'a LayerAdapter>,
    /// `None` outside training.
    pub dropout: Option<LayerDropout>,
}

impl Adapted<'_> {
    /// For some of the tokens.
    fn of(&self, tokens: &Range<usize>) -> Self {
        Self {
            adapter: self.adapter,
            dropout: self.dropout.as_ref().map(|dropout| dropout.of(tokens)),
        }
    }
}

/// Gradients of the tensors that are trained, summed over several backward passes.
struct LeafGradients<'l> {
    leaves: &'l [Tensor<2>],
    sums: Vec<Option<Tensor<2>>>,
}

impl<'l> LeafGradients<'l> {
    fn new(leaves: &'l [Tensor<2>]) -> Self {
        Self {
            leaves,
            sums: vec![None; leaves.len()],
        }
    }

    fn collect(&mut self, gradients: &mut Gradients) {
        for (leaf, sum) in self.leaves.iter().zip(&mut self.sums) {
            if let Some(gradient) = leaf.grad_remove(gradients) {
                *sum = Some(match sum.take() {
                    Some(sum) => sum + gradient,
                    None => gradient,
                });
            }
        }
    }

    /// Zero if the loss does not depend on a leaf.
    fn finish(self) -> Vec<Tensor<2>> {
        let pairs = self.leaves.iter().zip(self.sums);
        pairs
            .map(|(leaf, sum)| sum.unwrap_or_else(|| leaf.clone().inner().zeros_like()))
            .collect()
    }
}

impl DecoderLayer {
    /// The layer over a whole micro-batch.
    ///
    /// # Shapes
    /// `x: [tokens, hidden]` in layout order → the same
    pub fn forward(
        &self,
        x: Tensor<2>,
        tensors: &LayoutTensors,
        config: &LlamaConfig,
        adapted: &Adapted,
    ) -> Tensor<2> {
        let heads = self.heads(&x, &tensors.cos, &tensors.sin, config, adapted);
        let attended = attend(&heads, tensors, config);
        drop(heads);
        self.finish_in_chunks(x, attended, tensors, config, adapted)
    }

    /// Gradients of `leaves` (the trained tensors of this layer and of `adapted`) and of
    /// the layer's input, from the gradient of its output. Recomputes the layer.
    ///
    /// # Shapes
    /// `x, gradient: [tokens, hidden]`
    pub fn backward(
        &self,
        x: Tensor<2>,
        gradient: Tensor<2>,
        tensors: &LayoutTensors,
        config: &LlamaConfig,
        adapted: &Adapted,
        leaves: &[Tensor<2>],
    ) -> (Vec<Tensor<2>>, Tensor<2>) {
        let mut sums = LeafGradients::new(leaves);
        let input = leaf(x.clone());
        let tracked = self.heads(&input, &tensors.cos, &tensors.sin, config, adapted);
        let heads = Heads {
            query: tracked.query.clone().inner(),
            key: tracked.key.clone().inner(),
            value: tracked.value.clone().inner(),
        };
        let attended = attend(&heads, tensors, config);

        let (mut of_x, mut of_attended) = (Vec::new(), Vec::new());
        for tokens in chunks(tensors, config) {
            let part = |t: &Tensor<2>| t.clone().slice([tokens.clone()]);
            let (x, attended) = (leaf(part(&x)), leaf(part(&attended)));
            let y = self.finish(x.clone(), attended.clone(), config, &adapted.of(&tokens));
            let mut gradients = (y * part(&gradient)).sum().backward();
            sums.collect(&mut gradients);
            of_x.push(taken(&x, &mut gradients));
            of_attended.push(taken(&attended, &mut gradients));
        }
        drop((x, gradient, attended));
        let of_attended = joined(of_attended);
        let of_heads = attend_backward(&heads, &of_attended, tensors, config);
        drop((heads, of_attended));

        let through_heads = (tracked.query * of_heads.query).sum()
            + (tracked.key * of_heads.key).sum()
            + (tracked.value * of_heads.value).sum();
        let mut gradients = through_heads.backward();
        sums.collect(&mut gradients);
        let of_input = joined(of_x) + taken(&input, &mut gradients);
        (sums.finish(), of_input)
    }

    /// The layer over prompts only; also returns their keys and values.
    ///
    /// # Shapes
    /// `x: [prompts·prompt_width, hidden]` → the same
    pub fn prefill(
        &self,
        x: Tensor<2>,
        tensors: &LayoutTensors,
        config: &LlamaConfig,
        adapted: &Adapted,
    ) -> (Tensor<2>, KeyValue) {
        let layout = &tensors.layout;
        let heads = self.heads(&x, &tensors.cos, &tensors.sin, config, adapted);
        let attended = attend(&heads, tensors, config);
        let prompt = KeyValue {
            key: by_head(heads.key, layout.prompts(), layout.prompt_width),
            value: by_head(heads.value, layout.prompts(), layout.prompt_width),
        };
        let y = self.finish_in_chunks(x, attended, tensors, config, adapted);
        (y, prompt)
    }

    /// The layer over one new token of every completion, whose keys and values join `cache`.
    ///
    /// # Shapes
    /// `x: [rows, hidden]`, `rotary: [rows, 1, head_dim]` twice → `[rows, hidden]`
    pub fn decode(
        &self,
        x: Tensor<2>,
        rotary: (&Tensor<3>, &Tensor<3>),
        (cache, newest): (&mut CompletionCache, &Newest),
        config: &LlamaConfig,
        adapted: &Adapted,
    ) -> Tensor<2> {
        let new = self.unrotated_heads(&x, config, adapted);
        let attended = cache.attend(new, rotary, newest, config);
        self.finish(x, attended, config, adapted)
    }

    /// Norm, q/k/v projections, the norms of heads and rotation.
    fn heads(
        &self,
        x: &Tensor<2>,
        cos: &Tensor<3>,
        sin: &Tensor<3>,
        config: &LlamaConfig,
        adapted: &Adapted,
    ) -> Heads {
        let heads = self.unrotated_heads(x, config, adapted);
        Heads {
            query: rotate(heads.query, cos, sin),
            key: rotate(heads.key, cos, sin),
            value: heads.value,
        }
    }

    /// Norm, q/k/v projections and the norms of heads.
    fn unrotated_heads(&self, x: &Tensor<2>, config: &LlamaConfig, adapted: &Adapted) -> Heads {
        let tokens = x.dims()[0];
        let normed = rms_norm(x.clone(), &self.input_layernorm, config.rms_norm_eps);
        let query = self.linear(Projection::Q, &normed, None, adapted);
        let key = self.linear(Projection::K, &normed, None, adapted);
        let value = self.linear(Projection::V, &normed, None, adapted);
        let (query, key) = match &self.qk_norm {
            Some([of_query, of_key]) => (
                norm_heads(query, of_query, config.rms_norm_eps),
                norm_heads(key, of_key, config.rms_norm_eps),
            ),
            None => (query, key),
        };
        let (heads, kv_heads, dim) = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        );
        Heads {
            query: query.reshape([tokens, heads, dim]),
            key: key.reshape([tokens, kv_heads, dim]),
            value: value.reshape([tokens, kv_heads, dim]),
        }
    }

    fn finish_in_chunks(
        &self,
        x: Tensor<2>,
        attended: Tensor<2>,
        tensors: &LayoutTensors,
        config: &LlamaConfig,
        adapted: &Adapted,
    ) -> Tensor<2> {
        let chunks = chunks(tensors, config);
        if chunks.len() == 1 {
            return self.finish(x, attended, config, adapted);
        }
        let finished = chunks.into_iter().map(|tokens| {
            let part = |t: &Tensor<2>| t.clone().slice([tokens.clone()]);
            self.finish(part(&x), part(&attended), config, &adapted.of(&tokens))
        });
        joined(finished.collect())
    }

    /// Output projection, residual, MLP, residual.
    fn finish(
        &self,
        x: Tensor<2>,
        attended: Tensor<2>,
        config: &LlamaConfig,
        adapted: &Adapted,
    ) -> Tensor<2> {
        let x = self.linear(Projection::O, &attended, Some(x), adapted);
        let normed = rms_norm(
            x.clone(),
            &self.post_attention_layernorm,
            config.rms_norm_eps,
        );
        let gate = self.linear(Projection::Gate, &normed, None, adapted);
        let up = self.linear(Projection::Up, &normed, None, adapted);
        self.linear(Projection::Down, &swiglu(gate, up), Some(x), adapted)
    }

    /// A linear layer with its adapter, added to `base` if there is one.
    ///
    /// # Shapes
    /// `x: [tokens, in]` → `[tokens, out]`
    fn linear(
        &self,
        projection: Projection,
        x: &Tensor<2>,
        base: Option<Tensor<2>>,
        adapted: &Adapted,
    ) -> Tensor<2> {
        let (layer, bias) = (
            &self.projections[projection as usize],
            self.bias(projection),
        );
        let share = adapted
            .adapter
            .and_then(|adapter| adapter.share(projection, x, adapted.dropout.as_ref()));
        let added = Added {
            base: base.as_ref(),
            low_rank: share.as_ref(),
        };
        if let Some(sum) = layer.few_rows(x, added) {
            return match bias {
                Some(bias) => sum + bias.clone(),
                None => sum,
            };
        }
        let mut product = layer.forward(x);
        if let Some(bias) = bias {
            product = product + bias.clone();
        }
        if let Some(share) = share {
            product = product + share.product();
        }
        match base {
            Some(base) => base + product,
            None => product,
        }
    }

    /// `[1, out]`
    fn bias(&self, projection: Projection) -> Option<&Tensor<2>> {
        let place = QKV.iter().position(|&it| it == projection)?;
        self.qkv_bias.as_ref().map(|biases| &biases[place])
    }

    /// A copy on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        let moved = |tensor: &Tensor<2>| tensor.clone().to_device(device);
        Self {
            qk_norm: self.qk_norm.as_ref().map(|it| it.each_ref().map(moved)),
            qkv_bias: self.qkv_bias.as_ref().map(|it| it.each_ref().map(moved)),
            input_layernorm: moved(&self.input_layernorm),
            post_attention_layernorm: moved(&self.post_attention_layernorm),
            projections: self
                .projections
                .each_ref()
                .map(|weight| weight.to_device(device)),
        }
    }

    /// Every tensor of the layer with the family's name for it inside the layer, in a fixed order.
    pub fn parameters(&self, family: Family) -> Vec<(String, Tensor<2>)> {
        let norms = [family.input_layernorm(), family.post_attention_layernorm()];
        let norms = norms
            .into_iter()
            .zip([&self.input_layernorm, &self.post_attention_layernorm]);
        let of_heads = family.qk_norms().into_iter();
        let of_heads = of_heads.zip(self.qk_norm.iter().flatten());
        let mut parameters: Vec<(String, Tensor<2>)> = norms
            .chain(of_heads)
            .map(|(name, norm)| (format!("{name}.weight"), norm.clone()))
            .collect();
        for projection in Projection::ALL {
            let weight = &self.projections[projection as usize];
            parameters.push((
                format!("{}.weight", family.path(projection)),
                weight.dense(self.input_layernorm.dtype()),
            ));
        }
        for (projection, bias) in QKV.into_iter().zip(self.qkv_bias.iter().flatten()) {
            parameters.push((format!("{}.bias", family.path(projection)), bias.clone()));
        }
        parameters
    }

    /// The layer with other values, in the order of [`DecoderLayer::parameters`].
    pub fn with_parameters(&self, values: &mut impl Iterator<Item = Tensor<2>>) -> Self {
        let mut next = |old: Tensor<2>| values.next().unwrap_or(old);
        Self {
            input_layernorm: next(self.input_layernorm.clone()),
            post_attention_layernorm: next(self.post_attention_layernorm.clone()),
            qk_norm: self.qk_norm.clone().map(|norms| norms.map(&mut next)),
            projections: self.projections.clone().map(|old| {
                let value = values.next();
                value.map_or(old, Linear::Dense)
            }),
            qkv_bias: self
                .qkv_bias
                .clone()
                .map(|biases| biases.map(|old| values.next().unwrap_or(old))),
        }
    }
}

/// A tensor whose gradient is computed.
pub(super) fn leaf(tensor: Tensor<2>) -> Tensor<2> {
    tensor.autodiff().require_grad()
}

/// The gradient of a leaf; zero if the loss does not depend on it.
pub(super) fn taken(leaf: &Tensor<2>, gradients: &mut Gradients) -> Tensor<2> {
    leaf.grad_remove(gradients)
        .unwrap_or_else(|| leaf.clone().inner().zeros_like())
}

/// One tensor of pieces along the first dimension.
fn joined(mut pieces: Vec<Tensor<2>>) -> Tensor<2> {
    match pieces.len() {
        1 => pieces.remove(0),
        _ => Tensor::cat(pieces, 0),
    }
}

/// Tokens whose MLP is computed together.
fn chunks(tensors: &LayoutTensors, config: &LlamaConfig) -> Vec<Range<usize>> {
    let tokens = tensors.values_per_chunk / config.intermediate_size.max(1);
    tensors.layout.chunks(tokens.max(1))
}

/// # Shapes
/// `x: [tokens, heads·head_dim]`, `weight: [1, head_dim]` → as `x`
fn norm_heads(x: Tensor<2>, weight: &Tensor<2>, eps: f64) -> Tensor<2> {
    let ([tokens, width], [_, dim]) = (x.dims(), weight.dims());
    let heads = x.reshape([tokens * width / dim, dim]);
    rms_norm(heads, weight, eps).reshape([tokens, width])
}

/// # Shapes
/// `[rows·width, kv_heads, head_dim]` → `[rows·kv_heads, width, head_dim]`
fn by_head(t: Tensor<3>, rows: usize, width: usize) -> Tensor<3> {
    let [_, heads, dim] = t.dims();
    t.reshape([rows, width, heads, dim])
        .swap_dims(1, 2)
        .reshape([rows * heads, width, dim])
}
