//! Reading safetensors checkpoints, single or sharded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::device::{Compute, resident};

/// The weight files of a folder, memory-mapped; tensors are read on request.
pub struct WeightFiles {
    files: Vec<(PathBuf, Mmap)>,
    /// Tensor name to its position.
    place: BTreeMap<String, Place>,
}

/// The position of a tensor. Kept, because a header is long and should be parsed only once.
struct Place {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Within the file.
    bytes: Range<usize>,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// No weights in the folder, a shard that the index names and that is
    /// absent or points outside the folder, or a file that is not safetensors.
    pub fn open(model_dir: &Path) -> Result<Self> {
        let single = model_dir.join("model.safetensors");
        if single.exists() {
            return Self::open_files(vec![single]);
        }
        let index_path = model_dir.join("model.safetensors.index.json");
        let text = moim_core::regular_file::read_to_string(&index_path).with_context(|| {
            format!(
                "{}: neither model.safetensors nor model.safetensors.index.json can be read there",
                model_dir.display()
            )
        })?;
        let index: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("{}: not valid JSON", index_path.display()))?;
        let map = index
            .get("weight_map")
            .and_then(serde_json::Value::as_object)
            .with_context(|| {
                format!(
                    "{}: the object \"weight_map\" is missing",
                    index_path.display()
                )
            })?;
        let mut shards = BTreeSet::new();
        for (tensor, shard) in map {
            let name = shard.as_str().with_context(|| {
                format!(
                    "{}: weight_map[{tensor:?}] must be a file name",
                    index_path.display()
                )
            })?;
            if name.contains(['/', '\\']) || name.starts_with("..") {
                bail!(
                    "{}: weight_map[{tensor:?}] = {name:?} points outside the folder",
                    index_path.display()
                );
            }
            shards.insert(model_dir.join(name));
        }
        Self::open_files(shards.into_iter().collect())
    }

    /// Opens exactly these safetensors files.
    ///
    /// # Errors
    /// A file that cannot be opened or is not safetensors.
    pub fn open_files(paths: Vec<PathBuf>) -> Result<Self> {
        let mut files = Vec::new();
        let mut place = BTreeMap::new();
        for path in paths {
            let file = moim_core::regular_file::open(&path)
                .with_context(|| format!("{}: cannot be opened", path.display()))?;
            // SAFETY: the map is read-only and lives as long as this value. A
            // writer that truncates the file meanwhile would fault, as with
            // every memory-mapped checkpoint reader; weights are published by rename.
            let map = unsafe { Mmap::map(&file) }
                .with_context(|| format!("{}: cannot be mapped", path.display()))?;
            let tensors = SafeTensors::deserialize(&map)
                .with_context(|| format!("{}: not a whole safetensors file", path.display()))?;
            for (name, view) in tensors.iter() {
                let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
                place.insert(
                    name.to_string(),
                    Place {
                        file: files.len(),
                        dtype: view.dtype(),
                        shape: view.shape().to_vec(),
                        bytes: start..start + view.data().len(),
                    },
                );
            }
            files.push((path, map));
        }
        Ok(Self { files, place })
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.place.keys().map(String::as_str)
    }

    /// Whether a tensor of that name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.place.contains_key(name)
    }

    /// Those of `names` that are in no file.
    pub fn missing<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        names
            .into_iter()
            .filter(|name| !self.contains(name))
            .collect()
    }

    /// The path of the weights, as the start of a message: one file, or the first of several.
    fn first_file(&self) -> String {
        let path = self.files.first().map(|(path, _)| path);
        path.map(|path| format!("{}: ", path.display()))
            .unwrap_or_default()
    }

    /// A tensor in its stored form.
    ///
    /// # Errors
    /// The tensor is absent.
    pub fn raw(&self, name: &str) -> Result<TensorView<'_>> {
        let place = self
            .place
            .get(name)
            .with_context(|| format!("{}the tensor {name:?} is missing", self.first_file()))?;
        let (path, map) = &self.files[place.file];
        // Offsets were checked against the file when it was opened.
        TensorView::new(place.dtype, place.shape.clone(), &map[place.bytes.clone()])
            .with_context(|| path.display().to_string())
    }

    /// The values of a tensor in f32, row-major.
    ///
    /// # Errors
    /// The tensor is absent, has another shape, or is not f32, f16 or bf16.
    pub fn read_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let view = self.raw(name)?;
        let path = &self.files[self.place[name].file].0;
        if view.shape() != shape {
            bail!(
                "{}: {name} has shape {:?}; config.json requires {shape:?}",
                path.display(),
                view.shape()
            );
        }
        let bytes = view.data();
        let values = match view.dtype() {
            Dtype::F32 => bytes
                .par_chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Dtype::BF16 => bytes
                .par_chunks_exact(2)
                .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            Dtype::F16 => bytes
                .par_chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            other => bail!(
                "{}: {name} is stored as {other:?}; supported: F32, F16, BF16",
                path.display()
            ),
        };
        Ok(values)
    }

    /// A tensor on the device, in its type.
    ///
    /// # Shapes
    /// `[rows, columns]`; a vector in the file is read as `[1, columns]` when `rows` is `None`.
    ///
    /// # Errors
    /// As [`WeightFiles::read_f32`].
    pub fn tensor(
        &self,
        name: &str,
        rows: Option<usize>,
        columns: usize,
        compute: &Compute,
    ) -> Result<Tensor<2>> {
        let shape: &[usize] = match rows {
            Some(rows) => &[rows, columns],
            None => &[columns],
        };
        let values = self.read_f32(name, shape)?;
        let data = TensorData::new(values, [rows.unwrap_or(1), columns]);
        Ok(resident(data, (&compute.device, compute.dtype)))
    }
}
