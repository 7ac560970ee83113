//! One decoder layer: attention over a shared prompt, then the MLP.
//!
//! Three ways through it, one arithmetic: the whole micro-batch (training and
//! scoring), prompts alone (prefill), and one new token per completion (decoding).

use burn::tensor::activation::{silu, softmax};
use burn::tensor::{DType, Tensor};

use super::cache::{CompletionCache, KeyValue};
use super::config::LlamaConfig;
use super::layout::LayoutTensors;
use super::lora::{LayerAdapter, LayerDropout, Projection, as_dtype};
use super::rope::rotate;

/// Weights of a decoder layer, in the checkpoint's layout `[out, in]`; norms are `[1, hidden]`.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    /// RMSNorm before attention.
    pub input_layernorm: Tensor<2>,
    /// RMSNorm before the MLP.
    pub post_attention_layernorm: Tensor<2>,
    /// Linear layers, indexed by [`Projection`].
    pub projections: [Tensor<2>; 7],
}

/// The adapter of a layer and, while training, its dropout.
#[derive(Clone, Copy, Default)]
pub struct Adapted<'a> {
    /// `None` is the frozen model: the reference policy.
    pub adapter: Option<&'a LayerAdapter>,
    /// `None` outside training.
    pub dropout: Option<&'a LayerDropout>,
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
        adapted: Adapted,
    ) -> Tensor<2> {
        let layout = &tensors.layout;
        let heads = self.heads(&x, &tensors.cos, &tensors.sin, config, adapted);
        let prompt_tokens = layout.prompt_tokens();
        let (prompts, width) = (layout.prompts(), layout.prompt_width);

        let split = |t: Tensor<3>| {
            let completion_tokens = t.dims()[0] - prompt_tokens;
            let completion = (completion_tokens > 0)
                .then(|| t.clone().narrow(0, prompt_tokens, completion_tokens));
            (t.narrow(0, 0, prompt_tokens), completion)
        };
        let (prompt_query, completion_query) = split(heads.query);
        let (prompt_key, completion_key) = split(heads.key);
        let (prompt_value, completion_value) = split(heads.value);

        let prompt = KeyValue {
            key: by_head(prompt_key, prompts, width),
            value: by_head(prompt_value, prompts, width),
        };
        let mut attended = attend_prompt(prompt_query, &prompt, tensors, config);
        if let (Some(query), Some(key), Some(value)) =
            (completion_query, completion_key, completion_value)
        {
            let own = KeyValue {
                key: by_head(key, layout.rows(), layout.completion_width),
                value: by_head(value, layout.rows(), layout.completion_width),
            };
            let completion = attend_shared_prefix(
                query,
                &prompt,
                &own,
                tensors.padding_bias.as_ref(),
                Some(&tensors.completion_bias),
                prompts,
                config,
            );
            attended = Tensor::cat(vec![attended, completion], 0);
        }
        self.finish(x, attended, config, adapted)
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
        adapted: Adapted,
    ) -> (Tensor<2>, KeyValue) {
        let layout = &tensors.layout;
        let heads = self.heads(&x, &tensors.cos, &tensors.sin, config, adapted);
        let prompt = KeyValue {
            key: by_head(heads.key, layout.prompts(), layout.prompt_width),
            value: by_head(heads.value, layout.prompts(), layout.prompt_width),
        };
        let attended = attend_prompt(heads.query, &prompt, tensors, config);
        (self.finish(x, attended, config, adapted), prompt)
    }

    /// The layer over one new token of every completion, whose keys and values join `cache`.
    ///
    /// # Shapes
    /// `x: [rows, hidden]`, `rotary: [rows, 1, head_dim]` twice → `[rows, hidden]`
    pub fn decode(
        &self,
        x: Tensor<2>,
        rotary: (&Tensor<3>, &Tensor<3>),
        padding_bias: Option<&Tensor<2>>,
        cache: &mut CompletionCache,
        config: &LlamaConfig,
        adapted: Adapted,
    ) -> Tensor<2> {
        let rows = x.dims()[0];
        let heads = self.heads(&x, rotary.0, rotary.1, config, adapted);
        let own = cache.push(by_head(heads.key, rows, 1), by_head(heads.value, rows, 1));
        let attended = attend_shared_prefix(
            heads.query,
            &cache.prompt,
            &own,
            padding_bias,
            None,
            cache.prompts,
            config,
        );
        self.finish(x, attended, config, adapted)
    }

    /// Norm, q/k/v projections and rotation.
    fn heads(
        &self,
        x: &Tensor<2>,
        cos: &Tensor<3>,
        sin: &Tensor<3>,
        config: &LlamaConfig,
        adapted: Adapted,
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

    /// Output projection, residual, MLP, residual.
    fn finish(
        &self,
        x: Tensor<2>,
        attended: Tensor<2>,
        config: &LlamaConfig,
        adapted: Adapted,
    ) -> Tensor<2> {
        let x = x + self.linear(Projection::O, &attended, adapted);
        let normed = rms_norm(
            x.clone(),
            &self.post_attention_layernorm,
            config.rms_norm_eps,
        );
        let gate = self.linear(Projection::Gate, &normed, adapted);
        let up = self.linear(Projection::Up, &normed, adapted);
        x + self.linear(Projection::Down, &(silu(gate) * up), adapted)
    }

    /// # Shapes
    /// `x: [tokens, in]` → `[tokens, out]`
    fn linear(&self, projection: Projection, x: &Tensor<2>, adapted: Adapted) -> Tensor<2> {
        let base = x
            .clone()
            .matmul(self.projections[projection as usize].clone().transpose());
        match adapted
            .adapter
            .and_then(|adapter| adapter.delta(projection, x, adapted.dropout))
        {
            Some(delta) => base + delta,
            None => base,
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
            parameters.push((
                format!("{}.weight", projection.path()),
                self.projections[projection as usize].clone(),
            ));
        }
        parameters
    }

    /// The layer with other values, in the order of [`DecoderLayer::parameters`].
    pub fn with_parameters(&self, values: &mut impl Iterator<Item = Tensor<2>>) -> Self {
        let mut next = |old: &Tensor<2>| values.next().unwrap_or_else(|| old.clone());
        Self {
            input_layernorm: next(&self.input_layernorm),
            post_attention_layernorm: next(&self.post_attention_layernorm),
            projections: std::array::from_fn(|i| next(&self.projections[i])),
        }
    }
}

/// `x / rms(x) · weight`, computed in f32.
///
/// # Shapes
/// `x: [tokens, hidden]`, `weight: [1, hidden]` → `[tokens, hidden]`
pub fn rms_norm(x: Tensor<2>, weight: &Tensor<2>, eps: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let x = as_dtype(x, DType::F32);
    let scale = x
        .clone()
        .square()
        .mean_dim(1)
        .add_scalar(eps)
        .sqrt()
        .recip();
    as_dtype(x * scale, dtype) * weight.clone()
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

/// Causal self-attention of prompts. Query heads that share a key head are
/// stacked as rows of one product, so keys are never repeated.
///
/// # Shapes
/// `query: [prompts·width, heads, head_dim]` → `[prompts·width, heads·head_dim]`
fn attend_prompt(
    query: Tensor<3>,
    prompt: &KeyValue,
    tensors: &LayoutTensors,
    config: &LlamaConfig,
) -> Tensor<2> {
    let (prompts, width) = (tensors.layout.prompts(), tensors.layout.prompt_width);
    let (kv, sharing, dim) = (
        config.num_key_value_heads,
        config.queries_per_key(),
        config.head_dim,
    );
    let query = query
        .mul_scalar((dim as f64).powf(-0.5))
        .reshape([prompts, width, kv, sharing, dim])
        .permute([0, 2, 3, 1, 4])
        .reshape([prompts * kv, sharing * width, dim]);
    let scores = query.matmul(prompt.key.clone().swap_dims(1, 2)).reshape([
        prompts * kv * sharing,
        width,
        width,
    ]);
    let weights = softmax(scores + tensors.prompt_bias.clone().unsqueeze::<3>(), 2);
    weights
        .reshape([prompts * kv, sharing * width, width])
        .matmul(prompt.value.clone())
        .reshape([prompts, kv, sharing, width, dim])
        .permute([0, 3, 1, 2, 4])
        .reshape([prompts * width, kv * sharing * dim])
}

/// Attention of completions to their group's prompt and to themselves. The
/// prompt's keys and values are read once for the whole group.
///
/// # Shapes
/// `query: [rows·width, heads, head_dim]`, `own: [rows·kv_heads, own_width, head_dim]`,
/// `padding_bias: [prompts, prompt_width]`, `causal_bias: [width, own_width]`
/// → `[rows·width, heads·head_dim]`
fn attend_shared_prefix(
    query: Tensor<3>,
    prompt: &KeyValue,
    own: &KeyValue,
    padding_bias: Option<&Tensor<2>>,
    causal_bias: Option<&Tensor<2>>,
    prompts: usize,
    config: &LlamaConfig,
) -> Tensor<2> {
    let (kv, sharing, dim) = (
        config.num_key_value_heads,
        config.queries_per_key(),
        config.head_dim,
    );
    let [own_rows, own_width, _] = own.key.dims();
    let rows = own_rows / kv;
    let group = rows / prompts;
    let width = query.dims()[0] / rows;
    let prompt_width = prompt.key.dims()[1];

    // One row of queries per (prompt, key head, completion, sharing head, column).
    let query = query
        .mul_scalar((dim as f64).powf(-0.5))
        .reshape([prompts, group, width, kv, sharing, dim])
        .permute([0, 3, 1, 4, 2, 5])
        .reshape([prompts * kv, group * sharing * width, dim]);
    // Keys of completions lie (row, key head); here they are wanted (prompt, key head, completion).
    let arrange = |t: &Tensor<3>| {
        if group == 1 {
            return t.clone();
        }
        t.clone()
            .reshape([prompts, group, kv, own_width * dim])
            .swap_dims(1, 2)
            .reshape([prompts * kv * group, own_width, dim])
    };
    let (own_key, own_value) = (arrange(&own.key), arrange(&own.value));

    let mut to_prompt = query.clone().matmul(prompt.key.clone().swap_dims(1, 2));
    if let Some(bias) = padding_bias {
        to_prompt = (to_prompt.reshape([prompts, kv * group * sharing * width, prompt_width])
            + bias.clone().reshape([prompts, 1, prompt_width]))
        .reshape([prompts * kv, group * sharing * width, prompt_width]);
    }
    let mut to_own = query
        .reshape([prompts * kv * group, sharing * width, dim])
        .matmul(own_key.swap_dims(1, 2));
    if let Some(bias) = causal_bias {
        to_own = (to_own.reshape([prompts * kv * group * sharing, width, own_width])
            + bias.clone().unsqueeze::<3>())
        .reshape([prompts * kv * group, sharing * width, own_width]);
    }
    let to_own = to_own.reshape([prompts * kv, group * sharing * width, own_width]);

    let weights = softmax(Tensor::cat(vec![to_prompt, to_own], 2), 2);
    let from_prompt = weights
        .clone()
        .narrow(2, 0, prompt_width)
        .matmul(prompt.value.clone());
    let from_own = weights
        .narrow(2, prompt_width, own_width)
        .reshape([prompts * kv * group, sharing * width, own_width])
        .matmul(own_value)
        .reshape([prompts * kv, group * sharing * width, dim]);
    (from_prompt + from_own)
        .reshape([prompts, kv, group, sharing, width, dim])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([rows * width, kv * sharing * dim])
}
