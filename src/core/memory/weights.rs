//! What is there all the time: the base model, the adapter with its moments, the encoder, and
//! what no formula counts.

use super::limits::{CPU_FUSED_ROWS, GPU_FUSED_ROWS, MAX_TOKENS_PER_BATCH, SENTENCE_CACHE_BYTES};
use super::pages::unused_bytes;
use super::peak::{Component, Moment};
use super::shape::{EncoderInputs, Inputs};
use crate::architecture::{EncoderConfig, LlamaConfig, WeightFormat};
use crate::experiment::TargetModule;

/// Bytes of an f32: adapters, moments and logits are kept in it whatever the model's type.
pub(super) const F32: f64 = 4.0;

/// Weights of a 4-bit block that share a scale.
const NF4_BLOCK: f64 = 64.0;

/// Scales that share a scale of their own under double quantisation.
const NF4_SCALE_BLOCK: f64 = 256.0;

/// The program with its tokenizer, questions and records, and the matrix product's packed copies
/// of its operands, on the CPU. Measured with models of up to 135 M parameters; large data add to it.
const PROGRAM_BYTES: f64 = (64 << 20) as f64;

/// Packed operands of a matrix product, for each worker on the CPU: half of a second-level and a
/// slice of a third-level cache.
const PACKING_BYTES: f64 = (4 << 20) as f64;

/// A CUDA context with its compiled kernels; what `nvidia-smi` shows for a process that computes little.
const CUDA_CONTEXT_BYTES: f64 = (600 << 20) as f64;

/// `(out, in)` of a linear layer of the decoder.
fn linear_shape(module: TargetModule, decoder: &LlamaConfig) -> (usize, usize) {
    let (hidden, inner) = (decoder.hidden_size, decoder.intermediate_size);
    let (queries, keys) = (decoder.query_size(), decoder.key_value_size());
    match module {
        TargetModule::QProj => (queries, hidden),
        TargetModule::KProj | TargetModule::VProj => (keys, hidden),
        TargetModule::OProj => (hidden, queries),
        TargetModule::GateProj | TargetModule::UpProj => (inner, hidden),
        TargetModule::DownProj => (hidden, inner),
    }
}

/// Largest of the weights of these layers, `out · in`.
fn largest_weight(inputs: &Inputs, modules: &[TargetModule]) -> f64 {
    let sizes = modules
        .iter()
        .map(|&module| linear_shape(module, &inputs.decoder))
        .map(|(out, input)| out as f64 * input as f64);
    sizes.fold(0.0, f64::max)
}

/// Bytes of the base model. Embedding, head and norms stay in the type of the activations.
fn base_bytes(inputs: &Inputs) -> f64 {
    let decoder = &inputs.decoder;
    let value = inputs.value_bytes as f64;
    let layers = decoder.num_hidden_layers as f64;
    let sum = |width: &dyn Fn(usize) -> f64| -> f64 {
        let modules = TargetModule::ALL.iter();
        let shapes = modules.map(|&module| linear_shape(module, decoder));
        shapes.map(|(out, input)| out as f64 * width(input)).sum()
    };
    // What 4 bits are for.
    let linear = sum(&|input| input as f64);
    // Rows of the hidden size, nearly all of them.
    let others = (decoder.parameter_count() as f64 - layers * linear) / decoder.hidden_size as f64
        * inputs.row(decoder.hidden_size);
    let in_layer = match inputs.weight_format {
        WeightFormat::Dense => value * sum(&|input| inputs.row(input)),
        // Half a byte, and a scale a block: an f32, or a byte and its part of an f32.
        WeightFormat::Nf4 {
            double_quant: false,
        } => linear * (0.5 + F32 / NF4_BLOCK),
        WeightFormat::Nf4 { double_quant: true } => {
            linear * (0.5 + (1.0 + F32 / NF4_SCALE_BLOCK) / NF4_BLOCK)
        }
    };
    others * value + layers * in_layer
}

/// The one matrix of `modules` that is dense for a product, where the base is kept in 4 bits.
pub(super) fn dense_copy(inputs: &Inputs, modules: &[TargetModule]) -> f64 {
    match inputs.weight_format {
        WeightFormat::Dense => 0.0,
        WeightFormat::Nf4 { .. } => largest_weight(inputs, modules) * inputs.value_bytes as f64,
    }
}

/// As [`dense_copy`], without a backward pass, for so many rows: few are multiplied without a copy.
pub(super) fn dense_copy_for(inputs: &Inputs, modules: &[TargetModule], rows: f64) -> f64 {
    let few = match inputs.is_cpu {
        true => CPU_FUSED_ROWS,
        false => GPU_FUSED_ROWS,
    };
    match rows <= few as f64 {
        true => 0.0,
        false => dense_copy(inputs, modules),
    }
}

/// Bytes of the adapter in f32.
pub(super) fn adapter_bytes(inputs: &Inputs) -> f64 {
    let layer: f64 = inputs
        .lora_targets
        .iter()
        .map(|&module| linear_shape(module, &inputs.decoder))
        .map(|(out, input)| inputs.lora_rank as f64 * (out + input) as f64)
        .sum();
    layer * inputs.decoder.num_hidden_layers as f64 * F32
}

/// Parameters of an encoder of so many layers ([`Encoder::build`] names them).
///
/// [`Encoder::build`]: ../encoder/struct.Encoder.html#method.build
fn encoder_parameters(shape: &EncoderConfig, layers: usize) -> f64 {
    let (hidden, inner) = (shape.hidden_size as f64, shape.intermediate_size as f64);
    let embeddings = (shape.vocab_size + shape.max_position_embeddings + shape.type_vocab_size + 2)
        as f64
        * hidden;
    let attention = 4.0 * (hidden * hidden + hidden) + 2.0 * hidden;
    let feed_forward = 2.0 * hidden * inner + inner + 3.0 * hidden;
    embeddings + layers as f64 * (attention + feed_forward)
}

/// Bytes of the encoder at rest: its weights in f32, and on the CPU the embeddings it remembers,
/// which over a long run fill their bound.
fn encoder_bytes(encoder: &EncoderInputs, is_cpu: bool) -> f64 {
    let cache = if is_cpu {
        SENTENCE_CACHE_BYTES as f64
    } else {
        0.0
    };
    encoder_parameters(&encoder.shape, encoder.layers) * F32 + cache
}

/// Bytes of the encoder's work on the sentences of a step: one sentence a core on the CPU, else a
/// batch padded to its longest. Attention holds two copies of a layer's scores, the feed-forward
/// block its wide values before and after the activation.
pub(super) fn encoder_work_bytes(inputs: &Inputs) -> f64 {
    let Some(EncoderInputs {
        shape, batch_size, ..
    }) = &inputs.encoder
    else {
        return 0.0;
    };
    // Two tokenizers cut the same text differently; one token may become two.
    let sentence = shape
        .max_tokens()
        .min(inputs.completion_length.saturating_mul(2)) as f64;
    let tokens = match inputs.is_cpu {
        true => sentence * inputs.workers as f64,
        false => (sentence * *batch_size as f64).min(MAX_TOKENS_PER_BATCH as f64),
    };
    let (hidden, inner) = (shape.hidden_size as f64, shape.intermediate_size as f64);
    let scores = 2.0 * shape.num_attention_heads as f64 * sentence + 4.0 * hidden;
    tokens * scores.max(3.0 * hidden + 2.0 * inner) * F32
}

/// A moment with what is there all the time.
pub(super) fn resting(name: &'static str, inputs: &Inputs) -> Moment {
    let adapter = adapter_bytes(inputs);
    let encoder = inputs.encoder.as_ref();
    let adapters = if inputs.has_reference { 2.0 } else { 1.0 };
    Moment::new(name)
        .with(Component::Weights, base_bytes(inputs))
        .with(Component::Adapter, adapters * adapter)
        .with(Component::Optimizer, 2.0 * adapter)
        .with(
            Component::Encoder,
            encoder.map_or(0.0, |encoder| encoder_bytes(encoder, inputs.is_cpu)),
        )
}

/// The moment with what is not counted buffer by buffer, to be added last.
pub(super) fn with_reserve(moment: Moment, inputs: &Inputs) -> Moment {
    if inputs.is_cpu {
        let reserve = PROGRAM_BYTES + PACKING_BYTES * inputs.workers as f64;
        return moment.with(Component::Reserve, reserve);
    }
    // Weights have memory of their own.
    let unused = unused_bytes(inputs, moment.total() - base_bytes(inputs));
    moment
        .with(Component::Pages, unused)
        .with(Component::Reserve, CUDA_CONTEXT_BYTES)
}
