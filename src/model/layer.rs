//! One decoder layer: attention over a shared prompt, then the MLP.
//!
//! Three ways through it, one arithmetic: the whole micro-batch (training and
//! scoring), prompts alone (prefill), and one new token per completion (decoding).
//!
//! What is made for each token apart (the MLP and its neighbours) goes through in chunks of whole
//! sequences, and attention in blocks, so that a layer's memory has a bound of its own.

use std::ops::Range;

use burn::tensor::{Device, Gradients, Tensor};

use super::attention::{Attention, KeysValues, Prefix};
use super::cache::{CompletionCache, KeyValue};
use super::config::LlamaConfig;
use super::layout::LayoutTensors;
use super::linear::Linear;
use super::lora::{LayerAdapter, LayerDropout, Projection};
use super::rope::rotate;
use crate::kernel::rms_norm::rms_norm;
use crate::kernel::swiglu::swiglu;

/// Weights of a decoder layer, in the checkpoint's layout `[out, in]`; norms are `[1, hidden]`.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    /// RMSNorm before attention.
    pub input_layernorm: Tensor<2>,
    /// RMSNorm before the MLP.
    pub post_attention_layernorm: Tensor<2>,
    /// Linear layers, indexed by [`Projection`].
    pub projections: [Linear; 7],
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

/// Queries, keys and values of some tokens, rotated.
struct Heads {
    /// `[tokens, heads, head_dim]`
    query: Tensor<3>,
    /// `[tokens, kv_heads, head_dim]`
    key: Tensor<3>,
    /// `[tokens, kv_heads, head_dim]`
    value: Tensor<3>,
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

    /// Zero where the loss does not depend on a leaf.
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

    /// Gradients of `leaves` (the trained tensors that this layer and `adapted` are made of) and of
    /// the layer's input, from the gradient of its output. The layer is computed again on the way.
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

    /// The layer over prompts alone; also answers their keys and values.
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
        cache: &mut CompletionCache,
        config: &LlamaConfig,
        adapted: &Adapted,
    ) -> Tensor<2> {
        let rows = x.dims()[0];
        let heads = self.heads(&x, rotary.0, rotary.1, config, adapted);
        let new = KeyValue {
            key: by_head(heads.key, rows, 1),
            value: by_head(heads.value, rows, 1),
        };
        let attended = cache.attend(heads.query, new, config);
        self.finish(x, attended, config, adapted)
    }

    /// Norm, q/k/v projections and rotation.
    fn heads(
        &self,
        x: &Tensor<2>,
        cos: &Tensor<3>,
        sin: &Tensor<3>,
        config: &LlamaConfig,
        adapted: &Adapted,
    ) -> Heads {
        let tokens = x.dims()[0];
        let normed = rms_norm(x.clone(), &self.input_layernorm, config.rms_norm_eps);
        let query = self.linear(Projection::Q, &normed, adapted);
        let key = self.linear(Projection::K, &normed, adapted);
        let value = self.linear(Projection::V, &normed, adapted);
        let (heads, kv_heads, dim) = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        );
        Heads {
            query: rotate(query.reshape([tokens, heads, dim]), cos, sin),
            key: rotate(key.reshape([tokens, kv_heads, dim]), cos, sin),
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
        let x = x + self.linear(Projection::O, &attended, adapted);
        let normed = rms_norm(
            x.clone(),
            &self.post_attention_layernorm,
            config.rms_norm_eps,
        );
        let gate = self.linear(Projection::Gate, &normed, adapted);
        let up = self.linear(Projection::Up, &normed, adapted);
        x + self.linear(Projection::Down, &swiglu(gate, up), adapted)
    }

    /// # Shapes
    /// `x: [tokens, in]` → `[tokens, out]`
    fn linear(&self, projection: Projection, x: &Tensor<2>, adapted: &Adapted) -> Tensor<2> {
        let base = self.projections[projection as usize].forward(x);
        match adapted
            .adapter
            .and_then(|adapter| adapter.delta(projection, x, adapted.dropout.as_ref()))
        {
            Some(delta) => base + delta,
            None => base,
        }
    }

    /// A copy on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        Self {
            input_layernorm: self.input_layernorm.clone().to_device(device),
            post_attention_layernorm: self.post_attention_layernorm.clone().to_device(device),
            projections: self
                .projections
                .each_ref()
                .map(|weight| weight.to_device(device)),
        }
    }

    /// Every tensor of the layer with its name inside the layer, in a fixed order.
    pub fn parameters(&self) -> Vec<(String, Tensor<2>)> {
        let mut parameters = vec![
            (
                "input_layernorm.weight".to_string(),
                self.input_layernorm.clone(),
            ),
            (
                "post_attention_layernorm.weight".to_string(),
                self.post_attention_layernorm.clone(),
            ),
        ];
        for projection in Projection::ALL {
            let weight = &self.projections[projection as usize];
            parameters.push((
                format!("{}.weight", projection.path()),
                weight.dense(self.input_layernorm.dtype()),
            ));
        }
        parameters
    }

    /// The layer with other values, in the order of [`DecoderLayer::parameters`].
    pub fn with_parameters(&self, values: &mut impl Iterator<Item = Tensor<2>>) -> Self {
        let mut next = |old: &Tensor<2>| values.next().unwrap_or_else(|| old.clone());
        let (input_layernorm, post_attention_layernorm) = (
            next(&self.input_layernorm),
            next(&self.post_attention_layernorm),
        );
        Self {
            input_layernorm,
            post_attention_layernorm,
            projections: self.projections.clone().map(|old| {
                let value = values.next();
                value.map_or(old, Linear::Dense)
            }),
        }
    }
}

/// A tensor that gradients are wanted of.
pub(super) fn leaf(tensor: Tensor<2>) -> Tensor<2> {
    tensor.autodiff().require_grad()
}

/// The gradient of a leaf; zero where the loss does not depend on it.
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

/// Tokens whose MLP is at work at a time.
fn chunks(tensors: &LayoutTensors, config: &LlamaConfig) -> Vec<Range<usize>> {
    let tokens = tensors.values_per_chunk / config.intermediate_size.max(1);
    tensors.layout.chunks(tokens.max(1))
}

/// # Shapes
/// `[rows·width, kv_heads, head_dim]` → `[rows·kv_heads, width, head_dim]`
fn by_head(t: Tensor<3>, rows: usize, width: usize) -> Tensor<3> {
    let [_, heads, dim] = t.dims();
    if width == 1 {
        return t.reshape([rows * heads, 1, dim]);
    }
    t.reshape([rows, width, heads, dim])
        .swap_dims(1, 2)
        .reshape([rows * heads, width, dim])
}

/// The two attentions of a micro-batch: prompts to themselves, completions to their prompt and to
/// themselves.
struct Parts<'a> {
    prompts: Attention<'a>,
    completions: Attention<'a>,
    tensors: &'a LayoutTensors,
}

impl<'a> Parts<'a> {
    fn new(tensors: &'a LayoutTensors, config: &'a LlamaConfig) -> Self {
        let layout = &tensors.layout;
        let of = |group, width| Attention {
            config,
            prompts: layout.prompts(),
            group,
            width,
            scores_per_block: tensors.values_per_chunk,
        };
        Self {
            prompts: of(1, layout.prompt_width),
            completions: of(layout.rows_per_prompt, layout.completion_width),
            tensors,
        }
    }

    fn prefix(&self, prompt: &Heads) -> Prefix {
        Prefix {
            tokens: prompt.keys_values(),
            width: self.tensors.layout.prompt_width,
            lengths: self.tensors.prompt_lengths.clone(),
        }
    }

    /// The prompts' part of a tensor, and the completions' where there are any.
    fn split<const D: usize>(&self, t: &Tensor<D>) -> (Tensor<D>, Option<Tensor<D>>) {
        let layout = &self.tensors.layout;
        let (prompts, completions) = (layout.prompt_tokens(), layout.completion_tokens());
        if completions == 0 {
            return (t.clone(), None);
        }
        (
            t.clone().narrow(0, 0, prompts),
            Some(t.clone().narrow(0, prompts, completions)),
        )
    }

    fn split_heads(&self, heads: &Heads) -> (Heads, Option<Heads>) {
        let (query, completion_query) = self.split(&heads.query);
        let (key, completion_key) = self.split(&heads.key);
        let (value, completion_value) = self.split(&heads.value);
        let completions = match (completion_query, completion_key, completion_value) {
            (Some(query), Some(key), Some(value)) => Some(Heads { query, key, value }),
            _ => None,
        };
        (Heads { query, key, value }, completions)
    }
}

impl Heads {
    fn keys_values(&self) -> KeysValues {
        KeysValues {
            key: self.key.clone(),
            value: self.value.clone(),
        }
    }
}

/// # Shapes
/// → `[tokens, heads·head_dim]`
fn attend(heads: &Heads, tensors: &LayoutTensors, config: &LlamaConfig) -> Tensor<2> {
    let parts = Parts::new(tensors, config);
    let (prompt, completion) = parts.split_heads(heads);
    let of_prompts = parts
        .prompts
        .forward(&prompt.query, &prompt.keys_values(), None);
    let Some(completion) = completion else {
        return of_prompts;
    };
    let prefix = parts.prefix(&prompt);
    let of_completions =
        parts
            .completions
            .forward(&completion.query, &completion.keys_values(), Some(&prefix));
    Tensor::cat(vec![of_prompts, of_completions], 0)
}

/// Gradients of queries, keys and values, from the gradient of what [`attend`] answers.
fn attend_backward(
    heads: &Heads,
    gradient: &Tensor<2>,
    tensors: &LayoutTensors,
    config: &LlamaConfig,
) -> Heads {
    let parts = Parts::new(tensors, config);
    let (prompt, completion) = parts.split_heads(heads);
    let (prompt_gradient, completion_gradient) = parts.split(gradient);
    let of_prompts =
        parts
            .prompts
            .backward(&prompt.query, &prompt.keys_values(), None, &prompt_gradient);
    let of_prompts = Heads {
        query: of_prompts.query,
        key: of_prompts.own.key,
        value: of_prompts.own.value,
    };
    let (Some(completion), Some(gradient)) = (completion, completion_gradient) else {
        return of_prompts;
    };
    let prefix = parts.prefix(&prompt);
    let of_completions = parts.completions.backward(
        &completion.query,
        &completion.keys_values(),
        Some(&prefix),
        &gradient,
    );
    let (mut key, mut value) = (of_prompts.key, of_prompts.value);
    if let Some(prefix) = of_completions.prefix {
        key = key + prefix.key;
        value = value + prefix.value;
    }
    let join = |prompt: Tensor<3>, completion: Tensor<3>| Tensor::cat(vec![prompt, completion], 0);
    Heads {
        query: join(of_prompts.query, of_completions.query),
        key: join(key, of_completions.own.key),
        value: join(value, of_completions.own.value),
    }
}
