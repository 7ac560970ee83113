//! Making a model: from a Hugging Face folder, dense or in four bits, or from fresh draws.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;

use super::layer::DecoderLayer;
use super::linear::Linear;
use super::llama::{HEAD, Llama, embedding_name, norm_name};
use super::lora::{f32_tensor, stream, uniform};
use super::rope::RopeTable;
use super::weights::WeightFiles;
use crate::device::{Compute, cache_folder};
use crate::kernel::nf4::Nf4Tensor;
use crate::nf4::{CacheFile, CachePlan, CacheWriter, Nf4Matrix, Planned, is_nf4};
use moim_core::architecture::{Family, LlamaConfig, Projection, QKV, WeightFormat};
use moim_core::run::model_fingerprint;

/// The form in which a model is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// The form of the linear layers.
    pub format: WeightFormat,
    /// The folder that keeps quantised matrices for the next time; `None` keeps none.
    pub cache: Option<PathBuf>,
}

impl From<WeightFormat> for LoadOptions {
    /// With the cache folder that the environment names ([`cache_folder`]).
    fn from(format: WeightFormat) -> Self {
        Self {
            format,
            cache: cache_folder(|name| std::env::var_os(name)),
        }
    }
}

/// Progress of loading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadProgress {
    /// Quantised layers of all layers.
    Quantizing {
        /// Layers done.
        done: usize,
        /// Layers in all.
        total: usize,
    },
    /// Something that the user should know and that stops nothing.
    Warning(String),
}

impl Llama {
    /// Loads a Hugging Face folder onto a device, in the form that its weights are stored in.
    ///
    /// # Errors
    /// As [`Llama::load_as`].
    pub fn load(model_dir: &Path, compute: &Compute) -> Result<Self> {
        let options = LoadOptions {
            format: WeightFormat::Dense,
            cache: None,
        };
        Self::load_as(model_dir, compute, &options, &mut |_| Ok(()))
    }

    /// Loads a Hugging Face folder onto a device. For NF4 the linear layers of a dense folder are
    /// quantised, one matrix at a time, and kept in the cache folder; a folder that transformers
    /// saved in NF4 is read unchanged, whatever `options` select.
    ///
    /// # Errors
    /// A configuration that this decoder does not support, missing or misshapen tensors (all missing ones are
    /// listed), weights that are not finite, or an error of `progress`.
    pub fn load_as(
        model_dir: &Path,
        compute: &Compute,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> Result<()>,
    ) -> Result<Self> {
        let config = LlamaConfig::from_dir(model_dir)?;
        let files = WeightFiles::open(model_dir)?;
        let names = tensor_names(&config);
        let missing = files.missing(names.iter().map(String::as_str));
        if !missing.is_empty() {
            let shown = missing
                .iter()
                .take(8)
                .copied()
                .collect::<Vec<_>>()
                .join(", ");
            bail!(
                "{}: {} tensor(s) that config.json requires are missing: {shown}{}",
                model_dir.display(),
                missing.len(),
                if missing.len() > 8 { ", …" } else { "" }
            );
        }
        let family = config.family;
        let dense = |name: &str, kind: Dense| {
            let (rows, columns) = kind.shape();
            files.tensor(name, rows, columns, compute)
        };
        let loaded = match options.format {
            WeightFormat::Nf4 { double_quant } if !config.stored_in_nf4 => {
                let plan = cache_plan(model_dir, &files, &config, double_quant)?;
                let mut source = Quantized::open(&files, family, &plan, options, progress)?;
                let model = Self::build(config, compute, dense, |layer, projection, shape| {
                    let matrix = source.matrix(layer, projection, shape, progress)?;
                    Ok(on_device(&matrix, compute))
                });
                source.finish(progress)?;
                model
            }
            _ => Self::build(config, compute, dense, |layer, projection, shape| {
                let name = family.weight(layer, projection);
                if !is_nf4(&name, |name| files.contains(name)) {
                    let (rows, columns) = shape;
                    return Ok(Linear::Dense(dense(&name, Dense::Matrix(rows, columns))?));
                }
                let matrix = Nf4Matrix::read(&name, |name| files.raw(name).ok())?;
                check_shape(&name, &matrix, shape)?;
                Ok(on_device(&matrix, compute))
            }),
        };
        loaded.with_context(|| model_dir.display().to_string())
    }

    /// A model with freshly drawn weights: normal with `initializer_range`, norms one, biases zero.
    /// The draws depend only on the seed and the tensor's name.
    ///
    /// # Errors
    /// None that is known.
    pub fn random(config: LlamaConfig, seed: u64, compute: &Compute) -> Result<Self> {
        let deviation = config.initializer_range;
        let family = config.family;
        let draw = |name: &str, kind: Dense| {
            let Dense::Matrix(rows, columns) = kind else {
                return Ok(kind.fresh(compute));
            };
            let mut rng = stream(seed, name, &[]);
            let mut normal = || {
                // Box–Muller; the second value is not worth its bookkeeping.
                let radius = (-2.0 * (1.0 - uniform(&mut rng)).ln()).sqrt();
                radius * (2.0 * std::f64::consts::PI * uniform(&mut rng)).cos()
            };
            let values = (0..rows * columns)
                .map(|_| (normal() * deviation) as f32)
                .collect();
            Ok(f32_tensor(values, [rows, columns], compute).cast(compute.dtype))
        };
        Self::build(config, compute, draw, |layer, projection, (out, input)| {
            let weight = draw(&family.weight(layer, projection), Dense::Matrix(out, input))?;
            Ok(Linear::Dense(weight))
        })
    }

    /// A model of tensors that are requested one at a time: `dense` by name, `linear` by layer and
    /// projection with `(out, in)`.
    pub(super) fn build(
        config: LlamaConfig,
        compute: &Compute,
        mut dense: impl FnMut(&str, Dense) -> Result<Tensor<2>>,
        mut linear: impl FnMut(usize, Projection, (usize, usize)) -> Result<Linear>,
    ) -> Result<Self> {
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for i in 0..config.num_hidden_layers {
            layers.push(build_layer(&config, i, &mut dense, &mut linear)?);
        }
        let (family, hidden) = (config.family, config.hidden_size);
        let vocabulary = Dense::Matrix(config.vocab_size, hidden);
        Ok(Self {
            embed_tokens: dense(&embedding_name(family), vocabulary)?,
            norm: dense(&norm_name(family), Dense::Norm(hidden))?,
            lm_head: if config.tie_word_embeddings {
                None
            } else {
                Some(dense(HEAD, vocabulary)?)
            },
            layers,
            rope: RopeTable::new(&config),
            compute: compute.clone(),
            config,
        })
    }
}

fn build_layer(
    config: &LlamaConfig,
    i: usize,
    dense: &mut impl FnMut(&str, Dense) -> Result<Tensor<2>>,
    linear: &mut impl FnMut(usize, Projection, (usize, usize)) -> Result<Linear>,
) -> Result<DecoderLayer> {
    let (family, hidden) = (config.family, config.hidden_size);
    let layer = family.layer(i);
    let mut projection = |projection: Projection| linear(i, projection, projection.shape(config));
    let projections = [
        projection(Projection::Q)?,
        projection(Projection::K)?,
        projection(Projection::V)?,
        projection(Projection::O)?,
        projection(Projection::Gate)?,
        projection(Projection::Up)?,
        projection(Projection::Down)?,
    ];
    let mut norm = |name: &str, width| {
        let name = format!("{layer}.{name}.weight");
        dense(&name, Dense::Norm(width))
    };
    let input_layernorm = norm(family.input_layernorm(), hidden)?;
    let post_attention_layernorm = norm(family.post_attention_layernorm(), hidden)?;
    let [query_norm, key_norm] = family.qk_norms();
    let qk_norm = if family.has_qk_norm() {
        Some([
            norm(query_norm, config.head_dim)?,
            norm(key_norm, config.head_dim)?,
        ])
    } else {
        None
    };
    let mut bias = |projection: Projection| {
        let name = format!("{layer}.{}.bias", family.path(projection));
        dense(&name, Dense::Bias(projection.shape(config).0))
    };
    let qkv_bias = if family.has_qkv_bias() {
        Some([
            bias(Projection::Q)?,
            bias(Projection::K)?,
            bias(Projection::V)?,
        ])
    } else {
        None
    };
    Ok(DecoderLayer {
        input_layernorm,
        post_attention_layernorm,
        qk_norm,
        projections,
        qkv_bias,
    })
}

/// A tensor that is never quantised, and its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dense {
    /// Rows and columns.
    Matrix(usize, usize),
    /// The weight of a norm.
    Norm(usize),
    /// Added to the output of a linear layer.
    Bias(usize),
}

impl Dense {
    /// Rows and columns; a vector has no rows.
    fn shape(self) -> (Option<usize>, usize) {
        match self {
            Self::Matrix(rows, columns) => (Some(rows), columns),
            Self::Norm(width) | Self::Bias(width) => (None, width),
        }
    }

    /// The initial values of what is not drawn: norms of one, biases of zero.
    ///
    /// # Shapes
    /// `[1, width]`
    pub(super) fn fresh(self, compute: &Compute) -> Tensor<2> {
        let (rows, columns) = self.shape();
        let shape = [rows.unwrap_or(1), columns];
        match self {
            Self::Norm(_) => Tensor::ones(shape, (&compute.device, compute.dtype)),
            _ => Tensor::zeros(shape, (&compute.device, compute.dtype)),
        }
    }
}

/// The plan of the cache of a folder's linear layers.
fn cache_plan(
    model_dir: &Path,
    files: &WeightFiles,
    config: &LlamaConfig,
    double_quant: bool,
) -> Result<CachePlan> {
    let mut matrices = Vec::new();
    for layer in 0..config.num_hidden_layers {
        for projection in Projection::ALL {
            let name = config.family.weight(layer, projection);
            let (rows, columns) = projection.shape(config);
            matrices.push(Planned {
                dtype: files.raw(&name)?.dtype(),
                name,
                rows,
                columns,
            });
        }
    }
    Ok(CachePlan {
        fingerprint: model_fingerprint(model_dir)?,
        double_quant,
        matrices,
    })
}

/// The linear layers of a dense folder in NF4: from the cache, or quantised now and written to it.
struct Quantized<'f> {
    files: &'f WeightFiles,
    family: Family,
    double_quant: bool,
    layers: usize,
    cached: Option<CacheFile>,
    writer: Option<CacheWriter>,
}

impl<'f> Quantized<'f> {
    fn open(
        files: &'f WeightFiles,
        family: Family,
        plan: &CachePlan,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> Result<()>,
    ) -> Result<Self> {
        let mut quantized = Self {
            files,
            family,
            double_quant: plan.double_quant,
            layers: plan.matrices.len() / Projection::ALL.len(),
            cached: None,
            writer: None,
        };
        let Some(folder) = &options.cache else {
            return Ok(quantized);
        };
        match CacheFile::open(folder, plan) {
            Ok(cached) => quantized.cached = cached,
            Err(error) => progress(LoadProgress::Warning(format!("{error:#}")))?,
        }
        if quantized.cached.is_none() {
            match CacheWriter::create(folder, plan) {
                Ok(writer) => quantized.writer = Some(writer),
                Err(error) => progress(LoadProgress::Warning(format!("{error:#}")))?,
            }
        }
        Ok(quantized)
    }

    fn matrix(
        &mut self,
        layer: usize,
        projection: Projection,
        shape: (usize, usize),
        progress: &mut dyn FnMut(LoadProgress) -> Result<()>,
    ) -> Result<Nf4Matrix> {
        let name = self.family.weight(layer, projection);
        if let Some(cached) = &self.cached {
            return cached.read(&name);
        }
        if projection == Projection::Q {
            progress(LoadProgress::Quantizing {
                done: layer,
                total: self.layers,
            })?;
        }
        let (rows, columns) = shape;
        let stored = self.files.raw(&name)?;
        if stored.shape() != [rows, columns] {
            bail!(
                "{name} has shape {:?}; config.json requires [{rows}, {columns}]",
                stored.shape()
            );
        }
        let matrix = Nf4Matrix::quantize_bytes(
            stored.data(),
            stored.dtype(),
            rows,
            columns,
            self.double_quant,
        )
        .with_context(|| name.clone())?;
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.add(&name, &matrix)
        {
            self.writer = None;
            progress(LoadProgress::Warning(format!("{error:#}")))?;
        }
        Ok(matrix)
    }

    fn finish(self, progress: &mut dyn FnMut(LoadProgress) -> Result<()>) -> Result<()> {
        if self.cached.is_none() {
            progress(LoadProgress::Quantizing {
                done: self.layers,
                total: self.layers,
            })?;
        }
        match self.writer.map(CacheWriter::finish) {
            Some(Err(error)) => progress(LoadProgress::Warning(format!("{error:#}"))),
            _ => Ok(()),
        }
    }
}

pub(super) fn on_device(matrix: &Nf4Matrix, compute: &Compute) -> Linear {
    Linear::Nf4(Nf4Tensor::new(matrix, &compute.device))
}

fn check_shape(name: &str, matrix: &Nf4Matrix, (rows, columns): (usize, usize)) -> Result<()> {
    if (matrix.rows, matrix.columns) != (rows, columns) {
        bail!(
            "{name} has shape [{}, {}]; config.json requires [{rows}, {columns}]",
            matrix.rows,
            matrix.columns
        );
    }
    Ok(())
}

/// Names of all tensors in a checkpoint of this configuration.
fn tensor_names(config: &LlamaConfig) -> Vec<String> {
    let family = config.family;
    let mut names = vec![embedding_name(family), norm_name(family)];
    if !config.tie_word_embeddings {
        names.push(HEAD.to_string());
    }
    for i in 0..config.num_hidden_layers {
        let layer = family.layer(i);
        names.push(format!("{layer}.{}.weight", family.input_layernorm()));
        names.push(format!(
            "{layer}.{}.weight",
            family.post_attention_layernorm()
        ));
        if family.has_qk_norm() {
            names.extend(
                family
                    .qk_norms()
                    .map(|norm| format!("{layer}.{norm}.weight")),
            );
        }
        names.extend(Projection::ALL.map(|it| family.weight(i, it)));
        if family.has_qkv_bias() {
            names.extend(QKV.map(|it| format!("{layer}.{}.bias", family.path(it))));
        }
    }
    names
}
