//! The decoder: weights, saving, and the paths through the model.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::head::{Head, to_data, to_f32};
use super::layer::{Adapted, DecoderLayer};
use super::layout::{GroupBatch, Layout, LayoutTensors, indices};
use super::lora::{Adapter, Dropout};
use super::rope::RopeTable;
use crate::device::Compute;
use crate::kernel::rms_norm::rms_norm;
use moim_core::architecture::{Family, LlamaConfig};

/// A decoder-only language model of the Llama kind.
#[derive(Clone, Debug)]
pub struct Llama {
    /// Shape and constants.
    pub config: LlamaConfig,
    /// Its device.
    pub compute: Compute,
    /// `[vocabulary, hidden]`
    pub embed_tokens: Tensor<2>,
    /// Decoder layers, first to last.
    pub layers: Vec<DecoderLayer>,
    /// RMSNorm before the head, `[1, hidden]`.
    pub norm: Tensor<2>,
    /// `[vocabulary, hidden]`; `None` when tied to the embedding.
    pub lm_head: Option<Tensor<2>>,
    pub(super) rope: RopeTable,
}

impl Llama {
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
                let shape = if is_vector(&name) {
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
        moim_core::run::publish::publish(path, &bytes)?;
        Ok(())
    }

    /// Every tensor under its checkpoint name, in a fixed order.
    pub fn parameters(&self) -> Vec<(String, Tensor<2>)> {
        let family = self.config.family;
        let mut parameters = vec![
            (embedding_name(family), self.embed_tokens.clone()),
            (norm_name(family), self.norm.clone()),
        ];
        if let Some(head) = &self.lm_head {
            parameters.push((HEAD.to_string(), head.clone()));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let prefix = family.layer(i);
            let named = layer.parameters(family).into_iter();
            parameters.extend(named.map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)));
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

    /// A copy on another device.
    pub fn to_device(&self, compute: &Compute) -> Self {
        let device = &compute.device;
        // In its own memory, as by `resident`.
        device.memory_persistent_allocations((), |()| Self {
            embed_tokens: self.embed_tokens.clone().to_device(device),
            norm: self.norm.clone().to_device(device),
            lm_head: self.lm_head.clone().map(|head| head.to_device(device)),
            layers: self
                .layers
                .iter()
                .map(|layer| layer.to_device(device))
                .collect(),
            compute: compute.clone(),
            config: self.config.clone(),
            rope: self.rope.clone(),
        })
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

    /// Runs all layers; each layer's input is kept for the backward pass as `keep_inputs` selects.
    pub fn forward(
        &self,
        batch: &GroupBatch,
        tensors: &LayoutTensors,
        adapter: Option<&Adapter>,
        dropout: Option<&Dropout>,
        keep_inputs: KeepInputs,
    ) -> Tape {
        let mut inputs = Vec::new();
        let mut x = self.embed(&batch.ids);
        for (i, layer) in self.layers.iter().enumerate() {
            match keep_inputs {
                KeepInputs::No => {}
                KeepInputs::OnDevice => inputs.push(KeptInput::OnDevice(x.clone())),
                KeepInputs::OnHost => inputs.push(KeptInput::OnHost(to_data(x.clone()))),
            }
            let adapted = Adapted {
                adapter: adapter.map(|a| &a.layers[i]),
                dropout: dropout.map(|dropout| dropout.layer(i)),
            };
            x = layer.forward(x, tensors, &self.config, &adapted);
        }
        Tape { inputs, output: x }
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
}

/// The head's tensor, in every family.
pub(super) const HEAD: &str = "lm_head.weight";

/// The embedding's tensor.
pub(super) fn embedding_name(family: Family) -> String {
    format!("{}.weight", family.embed_tokens())
}

/// The tensor of the norm before the head.
pub(super) fn norm_name(family: Family) -> String {
    format!("{}.weight", family.norm())
}

/// Whether a checkpoint stores the tensor with one dimension: a norm's weight, or a bias.
fn is_vector(name: &str) -> bool {
    let (module, tensor) = name.rsplit_once('.').unwrap_or((name, ""));
    let module = module.rsplit('.').next().unwrap_or(module);
    tensor == "bias" || module.ends_with("norm") || module.starts_with("ln_")
}

/// The memory in which a forward pass keeps the inputs of its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepInputs {
    /// Nowhere: no backward pass will follow.
    No,
    /// On the device.
    OnDevice,
    /// In the host's memory, at the cost of a copy there and back.
    OnHost,
}

/// The input of a layer, `[tokens, hidden]`.
pub enum KeptInput {
    /// Unchanged.
    OnDevice(Tensor<2>),
    /// Copied.
    OnHost(TensorData),
}

impl KeptInput {
    /// The input, on the device.
    pub fn get(self, compute: &Compute) -> Tensor<2> {
        match self {
            Self::OnDevice(tensor) => tensor,
            Self::OnHost(data) => {
                let dtype = data.dtype();
                Tensor::from_data(data, (&compute.device, dtype))
            }
        }
    }
}

/// A forward pass's output, and what it keeps for the backward pass.
pub struct Tape {
    /// Input of each layer; empty when not kept.
    pub inputs: Vec<KeptInput>,
    /// Output of the last layer, before the final norm.
    pub output: Tensor<2>,
}
