//! The form that transformers saves: a matrix as several tensors of a safetensors file.
//!
//! For a linear layer with the weight `X` (`….q_proj.weight`), as `QuantState.as_dict(packed=True)` of
//! bitsandbytes 0.50.2 names and shapes them, with n weights in b = ceil(n / 64) blocks:
//!
//! | tensor | type, shape |
//! |---|---|
//! | `X` | u8 `[ceil(n / 2), 1]`: codes |
//! | `X.absmax` | u8 `[b]`, or f32 without double quantisation: scales |
//! | `X.quant_map` | f32 `[16]`: the code book |
//! | `X.nested_absmax` | f32 `[ceil(b / 256)]`; only with double quantisation, as the next |
//! | `X.nested_quant_map` | f32 `[256]` |
//! | `X.quant_state.bitsandbytes__nf4` | u8: JSON with `quant_type`, `blocksize`, `dtype`, `shape`, `nested_…` |

use moim_core::architecture::NF4_HINT;
use std::borrow::Cow;

use anyhow::{Context, Result, bail, ensure};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, View};
use serde::Deserialize;

use super::codebook::{CODEBOOK, dynamic_map};
use super::matrix::{BLOCK, NESTED_BLOCK, Nf4Matrix, Scales};

const STATE: &str = "quant_state.bitsandbytes__nf4";

/// The largest difference of a stored map from ours: what bitsandbytes itself treats as equal.
const MAP_TOLERANCE: f32 = 1e-6;

/// One of the tensors that a matrix is stored as.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor<'a> {
    /// Name in the file.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, little-endian.
    pub bytes: Cow<'a, [u8]>,
}

impl View for &StoredTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The JSON of `quant_state`.
#[derive(Deserialize)]
struct QuantState {
    quant_type: String,
    blocksize: usize,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

/// Whether the weight `name` is stored in NF4, by the names of tensors.
pub fn is_nf4(name: &str, contains: impl Fn(&str) -> bool) -> bool {
    contains(&format!("{name}.{STATE}"))
}

impl Nf4Matrix {
    /// Reads the weight `name` (`….q_proj.weight`) from the tensors that it is stored as; `tensors`
    /// returns a tensor by its name, `None` if there is none.
    ///
    /// # Errors
    /// A tensor that is absent or of another type or shape than the format says, another quantised
    /// form (FP4, int8), another block size or code book, a scale that is not finite: by name.
    pub fn read<'a>(
        name: &str,
        tensors: impl Fn(&str) -> Option<TensorView<'a>>,
    ) -> Result<Nf4Matrix> {
        let Some(state) = tensors(&format!("{name}.{STATE}")) else {
            return Err(not_nf4(name, tensors));
        };
        let state: QuantState = serde_json::from_slice(state.data())
            .with_context(|| format!("{name}.{STATE} is not the JSON that bitsandbytes writes"))?;
        let (rows, columns) = check_state(name, &state)?;

        let count = rows * columns;
        let blocks = count.div_ceil(BLOCK);
        let nested_blocks = blocks.div_ceil(NESTED_BLOCK);
        let part = |part: &str, dtype, shape: &[usize]| {
            checked(format!("{name}.{part}"), &tensors, dtype, shape)
        };
        let codes = checked(
            name.to_owned(),
            &tensors,
            Dtype::U8,
            &[count.div_ceil(2), 1],
        )?;
        let map = floats(part("quant_map", Dtype::F32, &[CODEBOOK.len()])?);
        check_map(&map, &CODEBOOK).with_context(|| format!("{name}.quant_map"))?;
        let scales = match state.nested_offset {
            None => Scales::Plain(floats(part("absmax", Dtype::F32, &[blocks])?)),
            Some(offset) => {
                let map = floats(part(
                    "nested_quant_map",
                    Dtype::F32,
                    &[dynamic_map().len()],
                )?);
                check_map(&map, dynamic_map())
                    .with_context(|| format!("{name}.nested_quant_map"))?;
                Scales::Double {
                    codes: part("absmax", Dtype::U8, &[blocks])?.to_vec(),
                    nested: floats(part("nested_absmax", Dtype::F32, &[nested_blocks])?),
                    offset: offset as f32,
                }
            }
        };
        let (plain, offset) = match &scales {
            Scales::Plain(scales) => (scales, 0.0),
            Scales::Double { nested, offset, .. } => (nested, *offset),
        };
        ensure!(
            offset.is_finite() && plain.iter().all(|scale| scale.is_finite()),
            "{name}: a scale is not finite; the file is damaged"
        );
        Ok(Nf4Matrix {
            rows,
            columns,
            packed: codes.to_vec(),
            scales,
        })
    }

    /// The tensors that a weight `name` is stored as. `dtype` (F32, F16 or BF16) is the type that
    /// bitsandbytes dequantises it to. Tensors of f32 come first: laid out in this order from a
    /// place that is aligned for f32, every tensor is.
    ///
    /// # Errors
    /// Another type than F32, F16 and BF16.
    pub fn stored(&self, name: &str, dtype: Dtype) -> Result<Vec<StoredTensor<'_>>> {
        let mut contents = vec![bytes(&CODEBOOK)];
        let offset = match &self.scales {
            Scales::Plain(scales) => {
                contents.push(bytes(scales));
                None
            }
            Scales::Double {
                codes,
                nested,
                offset,
            } => {
                contents.extend([bytes(nested), bytes(dynamic_map()), codes.into()]);
                Some(*offset)
            }
        };
        let state = state_json(dtype, self.rows, self.columns, offset)?.into_bytes();
        let state_length = state.len();
        contents.extend([Cow::from(&self.packed), state.into()]);
        let parts = parts(
            name,
            self.rows * self.columns,
            offset.is_some(),
            state_length,
        );
        Ok(parts
            .into_iter()
            .zip(contents)
            .map(|((name, dtype, shape), bytes)| StoredTensor {
                name,
                dtype,
                shape,
                bytes,
            })
            .collect())
    }
}

/// Name, type and shape of the tensors that a weight is stored as, in the order of
/// [`Nf4Matrix::stored`].
pub(super) fn parts(
    name: &str,
    count: usize,
    double_quant: bool,
    state_length: usize,
) -> Vec<(String, Dtype, Vec<usize>)> {
    let part =
        |part: &str, dtype, shape: &[usize]| (format!("{name}{part}"), dtype, shape.to_vec());
    let blocks = count.div_ceil(BLOCK);
    let mut parts = vec![part(".quant_map", Dtype::F32, &[CODEBOOK.len()])];
    if double_quant {
        let nested = blocks.div_ceil(NESTED_BLOCK);
        parts.extend([
            part(".nested_absmax", Dtype::F32, &[nested]),
            part(".nested_quant_map", Dtype::F32, &[dynamic_map().len()]),
            part(".absmax", Dtype::U8, &[blocks]),
        ]);
    } else {
        parts.push(part(".absmax", Dtype::F32, &[blocks]));
    }
    parts.extend([
        part("", Dtype::U8, &[count.div_ceil(2), 1]),
        part(&format!(".{STATE}"), Dtype::U8, &[state_length]),
    ]);
    parts
}

/// Why a weight without the state of NF4 cannot be read.
fn not_nf4<'a>(name: &str, tensors: impl Fn(&str) -> Option<TensorView<'a>>) -> anyhow::Error {
    let has = |name: String| tensors(&name).is_some();
    let layer = name.strip_suffix(".weight").unwrap_or(name);
    let kind = if has(format!("{name}.quant_state.bitsandbytes__fp4")) {
        "in FP4 by bitsandbytes"
    } else if has(format!("{layer}.SCB")) || has(format!("{name}.SCB")) {
        "in int8 by bitsandbytes"
    } else if has(format!("{layer}.qweight")) {
        "by GPTQ or AWQ"
    } else if has(format!("{layer}.weight_scale")) || has(format!("{layer}.weight_scale_inv")) {
        "in FP8 or int8 with a weight_scale"
    } else {
        return anyhow::anyhow!("the tensor \"{name}.{STATE}\" is missing");
    };
    anyhow::anyhow!("{name} is stored {kind}; {NF4_HINT}")
}

/// Rows and columns, if the state is one that we read.
fn check_state(name: &str, state: &QuantState) -> Result<(usize, usize)> {
    let says = |key: &str| format!("{name}.{STATE}: {key}");
    if state.quant_type != "nf4" {
        bail!(
            "{} is {:?}; {NF4_HINT}",
            says("quant_type"),
            state.quant_type
        );
    }
    if state.blocksize != BLOCK {
        bail!(
            "{} is {}; supported: {BLOCK}",
            says("blocksize"),
            state.blocksize
        );
    }
    if state.nested_offset.is_some() {
        if state.nested_blocksize != Some(NESTED_BLOCK) {
            bail!(
                "{} is {:?}; supported: {NESTED_BLOCK}",
                says("nested_blocksize"),
                state.nested_blocksize
            );
        }
        if state.nested_dtype.as_deref() != Some("float32") {
            bail!(
                "{} is {:?}; supported: \"float32\"",
                says("nested_dtype"),
                state.nested_dtype
            );
        }
    }
    match state.shape[..] {
        // Twice the count must not overflow below; nothing that large is stored.
        [rows, columns]
            if rows
                .checked_mul(columns)
                .is_some_and(|n| n > 0 && n < usize::MAX / 2) =>
        {
            Ok((rows, columns))
        }
        _ => bail!(
            "{} is {:?}; a linear layer has [rows, columns]",
            says("shape"),
            state.shape
        ),
    }
}

fn checked<'a>(
    name: String,
    tensors: &impl Fn(&str) -> Option<TensorView<'a>>,
    dtype: Dtype,
    shape: &[usize],
) -> Result<&'a [u8]> {
    let tensor = tensors(&name).with_context(|| format!("the tensor {name:?} is missing"))?;
    if tensor.dtype() != dtype || tensor.shape() != shape {
        bail!(
            "{name} is {:?} {:?}; the format has {dtype:?} {shape:?} there",
            tensor.dtype(),
            tensor.shape()
        );
    }
    Ok(tensor.data())
}

fn check_map(stored: &[f32], ours: &[f32]) -> Result<()> {
    let is_far = |(stored, ours): (&f32, &f32)| {
        let distance = (stored - ours).abs();
        distance.is_nan() || distance > MAP_TOLERANCE
    };
    if let Some(index) = stored.iter().zip(ours).position(is_far) {
        bail!(
            "entry {index} is {}; that of bitsandbytes is {}",
            stored[index],
            ours[index]
        );
    }
    Ok(())
}

/// The JSON of `quant_state`, to the byte as Python's json.dumps writes it.
pub(super) fn state_json(
    dtype: Dtype,
    rows: usize,
    columns: usize,
    offset: Option<f32>,
) -> Result<String> {
    let dtype = match dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        other => bail!("a matrix in NF4 stands for F32, F16 or BF16, not {other:?}"),
    };
    let nested = offset.map_or_else(String::new, |offset| {
        let offset = python_float(f64::from(offset));
        format!(
            ", \"nested_blocksize\": {NESTED_BLOCK}, \"nested_dtype\": \"float32\", \
             \"nested_offset\": {offset}"
        )
    });
    Ok(format!(
        "{{\"quant_type\": \"nf4\", \"blocksize\": {BLOCK}, \"dtype\": \"{dtype}\", \
         \"shape\": [{rows}, {columns}]{nested}}}"
    ))
}

/// A finite number as Python's repr writes it: the shortest digits that read back the same.
fn python_float(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e16).contains(&value.abs()) {
        // Rust writes 1.5e-5 where Python writes 1.5e-05.
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => {
                let sign = if exponent.starts_with('-') { '-' } else { '+' };
                format!("{digits}e{sign}{:0>2}", exponent.trim_start_matches('-'))
            }
            None => text,
        };
    }
    let text = value.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().copied().map(f32::from_le_bytes).collect()
}

fn bytes(values: &[f32]) -> Cow<'static, [u8]> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[cfg(test)]
mod tests;
