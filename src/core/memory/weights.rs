//! Memory that is needed all the time: the base model, the adapter with its moments, the encoder, and
//! the reserve.

use super::limits::{CPU_FUSED_ROWS, GPU_FUSED_ROWS, MAX_TOKENS_PER_BATCH, SENTENCE_CACHE_BYTES};
use super::pages::unused_bytes;
use super::peak::{Component, Moment};
use super::shape::{EncoderInputs, Inputs};
use crate::architecture::{EncoderConfig, LlamaConfig, WeightFormat};
use crate::experiment::TargetModule;

/// Bytes of an f32, the type of adapters, moments and logits for every model.
pub(super) const F32: f64 = 4.0;

/// Weights in a 4-bit block, which share a scale.
const NF4_BLOCK: f64 = 64.0;

/// Scales in a block of double quantisation, which share a scale.
const NF4_SCALE_BLOCK: f64 = 256.0;

/// The program with its tokenizer, questions and records, on the CPU. Measured with models of up to
/// 135 M parameters; large data sets need more.
const PROGRAM_BYTES: f64 = (64 << 20) as f64;

/// Packed operands of a matrix product for each worker on the CPU: half of a second-level cache and a
/// slice of a third-level cache.
const PACKING_BYTES: f64 = (4 << 20) as f64;

/// A CUDA context with its compiled kernels, as `nvidia-smi` shows for a process that computes little.
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

/// Bytes of the base model. Embedding, head and norms always have the type of the activations.
fn base_bytes(inputs: &Inputs) -> f64 {
    let decoder = &inputs.decoder;
    let value = inputs.value_bytes as f64;
    let layers = decoder.num_hidden_layers as f64;
    let sum = |width: &dyn Fn(usize) -> f64| -> f64 {
        let modules = TargetModule::ALL.iter();
        let shapes = modules.map(|&module| linear_shape(module, decoder));
        shapes.map(|(out, input)| out as f64 * width(input)).sum()
    };
    // Weights that 4 bits apply to.
    let linear = sum(&|input| input as f64);
    // Nearly all of them have rows of the hidden size.
    let others = (decoder.parameter_count() as f64 - layers * linear) / decoder.hidden_size as f64
        * inputs.row(decoder.hidden_size);
    let in_layer = match inputs.weight_format {
        WeightFormat::Dense => value * sum(&|input| inputs.row(input)),
        // Half a byte, and a scale per block: an f32, or a byte and its share of an f32.
        WeightFormat::Nf4 {
            double_quant: false,
        } => linear * (0.5 + F32 / NF4_BLOCK),
        WeightFormat::Nf4 { double_quant: true } => {
            linear * (0.5 + (1.0 + F32 / NF4_SCALE_BLOCK) / NF4_BLOCK)
        }
    };
    others * value + layers * in_layer
}

/// Bytes of the one matrix of `modules` that is dense during a product, if the base is stored in 4 bits.
pub(super) fn dense_copy(inputs: &Inputs, modules: &[TargetModule]) -> f64 {
    match inputs.weight_format {
        WeightFormat::Dense => 0.0,
        WeightFormat::Nf4 { .. } => largest_weight(inputs, modules) * inputs.value_bytes as f64,
    }
}

/// As [`dense_copy`], without a backward pass, for this many rows: few are multiplied without a copy.
pub(super) fn dense_copy_for(inputs: &Inputs, modules: &[TargetModule], rows: f64) -> f64 {
    let few = if inputs.is_cpu {
        CPU_FUSED_ROWS
    } else {
        GPU_FUSED_ROWS
    };
    if rows <= few as f64 {
        0.0
    } else {
        dense_copy(inputs, modules)
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

/// Parameters of an encoder with this many layers ([`Encoder::build`] names them).
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

/// Bytes of the encoder at rest: its weights in f32, and on the CPU its cache of embeddings, which a
/// long run fills completely.
fn encoder_bytes(encoder: &EncoderInputs, is_cpu: bool) -> f64 {
    let cache = if is_cpu {
        SENTENCE_CACHE_BYTES as f64
    } else {
        0.0
    };
    encoder_parameters(&encoder.shape, encoder.layers) * F32 + cache
}

/// Bytes of the encoder's work on the sentences of a step: one sentence per core on the CPU, else a
/// batch padded to its longest. Attention has two copies of a layer's scores, the feed-forward block
/// its wide values before and after the activation.
pub(super) fn encoder_work_bytes(inputs: &Inputs) -> f64 {
    let Some(EncoderInputs {
        shape, batch_size, ..
    }) = &inputs.encoder
    else {
        return 0.0;
    };
    // The two tokenizers differ: one token of the policy can become two of the encoder.
    let sentence = shape
        .max_tokens()
        .min(inputs.completion_length.saturating_mul(2)) as f64;
    let tokens = if inputs.is_cpu {
        sentence * inputs.workers as f64
    } else {
        (sentence * *batch_size as f64).min(MAX_TOKENS_PER_BATCH as f64)
    };
    let (hidden, inner) = (shape.hidden_size as f64, shape.intermediate_size as f64);
    let scores = 2.0 * shape.num_attention_heads as f64 * sentence + 4.0 * hidden;
    tokens * scores.max(3.0 * hidden + 2.0 * inner) * F32
}

/// A moment with the memory that is needed all the time.
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

/// The moment with the memory that is not counted buffer by buffer. Must be added last.
pub(super) fn with_reserve(moment: Moment, inputs: &Inputs) -> Moment {
    if inputs.is_cpu {
        let reserve = PROGRAM_BYTES + PACKING_BYTES * inputs.workers as f64;
        return moment.with(Component::Reserve, reserve);
    }
    // Weights are allocated separately.
    let unused = unused_bytes(inputs, moment.total() - base_bytes(inputs));
    moment
        .with(Component::Pages, unused)
        .with(Component::Reserve, CUDA_CONTEXT_BYTES)
}
