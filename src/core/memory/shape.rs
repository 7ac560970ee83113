//! The inputs of a plan: the models' shapes from their `config.json`, the machine, and the experiment's
//! numbers.

use std::num::NonZero;
use std::path::Path;

use super::size::Bytes;
use super::sizes::Sizes;
use crate::architecture::{EncoderConfig, LlamaConfig, WeightFormat, default_layers};
use crate::experiment::{
    BatchArithmetic, ComputeDtype, DeviceChoice, Dtype, Experiment, TargetModule,
};

/// The alignment in bytes of rows that are at least as long (cubecl's `optimal_align`).
const CUDA_ROW_ALIGNMENT: u64 = 512;

/// Everything that a plan reads from the disk and the machine. Read once and reused for every edit of an
/// experiment with the same models.
#[derive(Clone, Debug, PartialEq)]
pub struct Shapes {
    /// The policy's shape, or why it is not known.
    pub decoder: Result<LlamaConfig, String>,
    /// The BERTScore encoder's shape, or why it is not known; `None` if the experiment names none.
    pub encoder: Option<Result<EncoderConfig, String>>,
    /// Whether `model.device = "auto"` means a CUDA device. [`Shapes::read`] does not look for one, so
    /// the caller sets it.
    pub has_cuda: bool,
    /// Cores, each of which works on a separate part on the CPU.
    pub cores: usize,
}

impl Shapes {
    /// Reads both `config.json` that the experiment names. A failure is stored as a message, because a
    /// plan without a model still shows the batch.
    pub fn read(experiment: &Experiment) -> Self {
        let encoder = experiment.bertscore.model.as_deref();
        Self {
            decoder: shape_in(&experiment.model.path, LlamaConfig::from_dir),
            encoder: encoder.map(|directory| shape_in(directory, EncoderConfig::from_model_dir)),
            has_cuda: false,
            cores: std::thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    /// Whether the experiment computes on the CPU of this machine.
    pub fn is_cpu(&self, experiment: &Experiment) -> bool {
        match experiment.model.device {
            DeviceChoice::Cpu => true,
            DeviceChoice::Cuda(_) | DeviceChoice::Wgpu => false,
            DeviceChoice::Auto => !self.has_cuda,
        }
    }
}

fn shape_in<T>(directory: &Path, read: impl Fn(&Path) -> anyhow::Result<T>) -> Result<T, String> {
    if !directory.join("config.json").exists() {
        return Err(format!("{} has no config.json", directory.display()));
    }
    read(directory).map_err(|error| format!("{error:#}"))
}

/// The encoder as BERTScore uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderInputs {
    /// Its shape.
    pub shape: EncoderConfig,
    /// Layers that are loaded: those up to the one that is compared.
    pub layers: usize,
    /// Sentences per forward pass on a device other than the CPU.
    pub batch_size: usize,
}

/// The inputs of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// The policy's shape.
    pub decoder: LlamaConfig,
    /// The encoder, if there is one whose shape is known.
    pub encoder: Option<EncoderInputs>,
    /// B, G, A, D and what B counts.
    pub batch: BatchArithmetic,
    /// The longest prompt, in tokens; every prompt is assumed to have this length.
    pub prompt_length: usize,
    /// The longest completion, in tokens; none is assumed to end earlier.
    pub completion_length: usize,
    /// The longest answer, in tokens (`inference.max_completion_length`).
    pub answer_length: usize,
    /// Rank of the adapter.
    pub lora_rank: usize,
    /// The linear layers with an adapter.
    pub lora_targets: Vec<TargetModule>,
    /// Whether inputs of the adapter are dropped while training, which copies each of them.
    pub has_dropout: bool,
    /// Whether training starts from an adapter, which stays as the reference policy.
    pub has_reference: bool,
    /// Bytes of a weight or an activation: 4, or 2 in bfloat16.
    pub value_bytes: u64,
    /// How the base model's linear layers are stored.
    pub weight_format: WeightFormat,
    /// Whether everything is in the host's memory.
    pub is_cpu: bool,
    /// Parts that run in parallel: one per core on the CPU, else one.
    pub workers: usize,
    /// Whether the inputs of layers are kept in the host's memory until the backward pass.
    pub offloads_layer_inputs: bool,
    /// How much goes through the model at a time.
    pub sizes: Sizes,
}

impl Inputs {
    /// The inputs of an experiment's plan; `None` if the decoder's shape is not known (then
    /// `shapes.decoder` has the reason).
    pub fn of(experiment: &Experiment, shapes: &Shapes) -> Option<Self> {
        let decoder = shapes.decoder.as_ref().ok()?.clone();
        let is_cpu = shapes.is_cpu(experiment);
        let stored_in_nf4 = decoder.stored_in_nf4;
        let (lora, inference) = (&experiment.lora, &experiment.inference);
        let quantization = &experiment.quantization;
        let bertscore = &experiment.bertscore;
        let encoder = shapes.encoder.as_ref().and_then(|shape| {
            let shape = shape.as_ref().ok()?.clone();
            let by_name = bertscore.model.as_deref().and_then(default_layers);
            let layers = bertscore
                .num_layers
                .or(by_name.map(|(_, layers)| layers))
                .unwrap_or(shape.num_hidden_layers)
                .min(shape.num_hidden_layers);
            Some(EncoderInputs {
                shape,
                layers,
                batch_size: bertscore.batch_size,
            })
        });
        // As in `Compute::new`: by default 32 bits on the CPU, 16 on CUDA.
        let is_wide = match experiment.model.dtype {
            _ if experiment.model.device == DeviceChoice::Wgpu => true,
            Dtype::Float32 => true,
            Dtype::Bfloat16 => is_cpu,
            Dtype::Auto if quantization.load_in_4bit => {
                is_cpu || quantization.bnb_4bit_compute_dtype == ComputeDtype::Float32
            }
            Dtype::Auto => is_cpu,
        };
        Some(Self {
            decoder,
            encoder,
            batch: experiment.batch(),
            prompt_length: experiment.data.max_prompt_length,
            completion_length: experiment.rollout.max_completion_length,
            answer_length: inference.max_completion_length,
            lora_rank: lora.r,
            lora_targets: lora.target_modules.modules().to_vec(),
            has_dropout: lora.lora_dropout > 0.0,
            value_bytes: if is_wide { 4 } else { 2 },
            weight_format: if quantization.load_in_4bit || stored_in_nf4 {
                WeightFormat::Nf4 {
                    double_quant: quantization.bnb_4bit_use_double_quant,
                }
            } else {
                WeightFormat::Dense
            },
            has_reference: experiment.lora.init_adapter.is_some(),
            is_cpu,
            workers: if is_cpu { shapes.cores.max(1) } else { 1 },
            offloads_layer_inputs: experiment.memory.offload_layer_inputs,
            sizes: Sizes::unbounded(inference.batch_size),
        })
    }

    /// Values that a row of a weight needs, with alignment. A copy from the host to a CUDA device aligns each row;
    /// the output of a kernel does not.
    pub(super) fn row(&self, values: usize) -> f64 {
        if self.is_cpu || values <= 1 {
            return values as f64;
        }
        let bytes = values as u64 * self.value_bytes;
        let alignment = bytes.next_power_of_two().clamp(16, CUDA_ROW_ALIGNMENT);
        (bytes.next_multiple_of(alignment) / self.value_bytes) as f64
    }
}

/// The memory that a plan is compared with: the size given on the command line, else
/// `memory.budget_gib`, else all of the device's memory, if known.
pub fn capacity(
    experiment: &Experiment,
    given: Option<Bytes>,
    device_total: Option<Bytes>,
) -> Option<Bytes> {
    let budget = experiment.memory.budget_gib.map(Bytes::from_gib);
    given.or(budget).or(device_total)
}
