//! Reads and writes the weights of a Hugging Face encoder folder.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Metadata, SafeTensors, TensorView};
use safetensors::{Dtype, SafeTensorError};
use serde_json::Value;

use super::bert::{Encoder, is_vector, tensor_from};
use moim_core::architecture::EncoderConfig;
use moim_core::run::publish;

/// How [`Encoder::save`] stores numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// Four bytes, exact.
    Float32,
    /// Two bytes, rounded to nearest even.
    Bfloat16,
}

impl StoredType {
    fn name(self) -> &'static str {
        match self {
            StoredType::Float32 => "float32",
            StoredType::Bfloat16 => "bfloat16",
        }
    }
}

/// The prefixes of the encoder's tensors in the three families' checkpoints.
const PREFIXES: [&str; 3] = ["", "bert.", "roberta."];

/// The open weight files of a model folder.
struct Weights {
    shards: Vec<Shard>,
    /// Tensor name → index into `shards`.
    location: BTreeMap<String, usize>,
    prefix: &'static str,
    dir: PathBuf,
}

struct Shard {
    path: PathBuf,
    map: Mmap,
    header_bytes: usize,
    metadata: Metadata,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Shard> {
        let file = moim_core::regular_file::open(&path)
            .with_context(|| format!("cannot open weights {}", path.display()))?;
        // SAFETY: the map is read-only and the file is a published checkpoint, which is not
        // rewritten in place while it is loaded.
        let map = unsafe { Mmap::map(&file) }
            .with_context(|| format!("cannot map weights {}", path.display()))?;
        let (header_bytes, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
            anyhow::anyhow!(
                "{} is not a complete safetensors file: {error}; copy it again",
                path.display()
            )
        })?;
        Ok(Shard {
            path,
            map,
            header_bytes,
            metadata,
        })
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        let info = self
            .metadata
            .info(name)
            .with_context(|| format!("tensor {name} is not in {}", self.path.display()))?;
        // Eight bytes of length precede the header.
        let start = 8 + self.header_bytes;
        let (from, to) = info.data_offsets;
        let bytes = self
            .map
            .get(start + from..start + to)
            .with_context(|| format!("{} ends before tensor {name}", self.path.display()))?;
        TensorView::new(info.dtype, info.shape.clone(), bytes)
            .map_err(|error: SafeTensorError| anyhow::anyhow!("{}: {error}", self.path.display()))
    }
}

impl Weights {
    fn open(dir: &Path) -> Result<Weights> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let files = if single.is_file() {
            vec![single]
        } else if index.is_file() {
            shard_files(&index)?
        } else if dir.join("pytorch_model.bin").is_file() {
            bail!(
                "{} has only pytorch_model.bin; convert it with transformers: \
                 AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)",
                dir.display()
            );
        } else {
            bail!(
                "{} has neither model.safetensors nor model.safetensors.index.json",
                dir.display()
            );
        };
        let shards: Vec<Shard> = files.into_iter().map(Shard::open).collect::<Result<_>>()?;
        let mut location = BTreeMap::new();
        for (index, shard) in shards.iter().enumerate() {
            for name in shard.metadata.offset_keys() {
                location.insert(name, index);
            }
        }
        let word = |prefix: &str| format!("{prefix}embeddings.word_embeddings.weight");
        let prefix = PREFIXES
            .into_iter()
            .find(|prefix| location.contains_key(&word(prefix)));
        Ok(Weights {
            prefix: prefix.with_context(|| {
                let some: Vec<&str> = location.keys().take(3).map(String::as_str).collect();
                format!(
                    "{} has no embeddings.word_embeddings.weight (with no prefix, bert. or \
                     roberta.); its first tensors are {}",
                    dir.display(),
                    some.join(", ")
                )
            })?,
            shards,
            location,
            dir: dir.to_owned(),
        })
    }

    /// One tensor as float32; adds its name and bytes to `digest`.
    fn read(&self, name: &str, shape: [usize; 2], digest: &mut blake3::Hasher) -> Result<Vec<f32>> {
        let stored = self.stored_name(name)?;
        let shard = &self.shards[self.location[&stored]];
        let view = shard.view(&stored)?;
        let expected = if is_vector(name) {
            vec![shape[1]]
        } else {
            shape.to_vec()
        };
        if view.shape() != expected {
            bail!(
                "tensor {stored} in {} has shape {:?}, but config.json requires {expected:?}",
                shard.path.display(),
                view.shape()
            );
        }
        digest.update(name.as_bytes());
        digest.update(view.data());
        widen(view.dtype(), view.data()).with_context(|| {
            format!(
                "tensor {stored} in {} is {:?}; the encoder reads F32, F16 and BF16",
                shard.path.display(),
                view.dtype()
            )
        })
    }

    /// The name in the file: with the prefix, and with `gamma`/`beta` for an old file that uses
    /// TensorFlow's names of the norms' parameters.
    fn stored_name(&self, name: &str) -> Result<String> {
        let full = format!("{}{name}", self.prefix);
        if self.location.contains_key(&full) {
            return Ok(full);
        }
        let old = full
            .strip_suffix("LayerNorm.weight")
            .map(|stem| format!("{stem}LayerNorm.gamma"))
            .or_else(|| {
                full.strip_suffix("LayerNorm.bias")
                    .map(|stem| format!("{stem}LayerNorm.beta"))
            });
        match old.filter(|old| self.location.contains_key(old)) {
            Some(old) => Ok(old),
            None => bail!(
                "tensor {full} is missing from the weights in {}; config.json and the weights \
                 do not match, or a shard was not copied",
                self.dir.display()
            ),
        }
    }
}

/// The distinct shard files that an index names, all in the index's folder.
fn shard_files(index: &Path) -> Result<Vec<PathBuf>> {
    let text = moim_core::regular_file::read_to_string(index)
        .with_context(|| format!("cannot read {}", index.display()))?;
    let value: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is not valid JSON", index.display()))?;
    let map = value
        .get("weight_map")
        .and_then(Value::as_object)
        .with_context(|| format!("{} has no weight_map", index.display()))?;
    let mut names = BTreeSet::new();
    for (tensor, name) in map {
        let entry = || format!("{}: weight_map[{tensor:?}] = {name}", index.display());
        let name = name
            .as_str()
            .with_context(|| format!("{} is not a file name", entry()))?;
        if name.contains(['/', '\\']) || name.starts_with("..") {
            bail!("{} points outside the folder", entry());
        }
        names.insert(name);
    }
    Ok(names
        .into_iter()
        .map(|name| index.with_file_name(name))
        .collect())
}

/// Little-endian numbers as float32; `None` for a type that is not a float.
fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match dtype {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}

impl Encoder {
    /// Loads the first `num_layers` layers (all when `None`) of a Hugging Face folder onto `device` as
    /// float32. The weight files are memory-mapped and only these layers are read.
    ///
    /// # Errors
    /// Those of [`EncoderConfig::from_model_dir`]; more layers than the model has; weights that are
    /// missing, truncated or have another shape or type. Each names the file and the tensor.
    pub fn load(dir: &Path, num_layers: Option<usize>, device: &Device) -> Result<Encoder> {
        Encoder::load_with_digest(dir, num_layers, device).map(|(encoder, _)| encoder)
    }

    /// [`Self::load`], with the blake3 digest of every tensor that was read.
    pub fn load_with_digest(
        dir: &Path,
        num_layers: Option<usize>,
        device: &Device,
    ) -> Result<(Encoder, blake3::Hash)> {
        let config = EncoderConfig::from_model_dir(dir)?;
        let depth = num_layers.unwrap_or(config.num_hidden_layers);
        if depth > config.num_hidden_layers {
            bail!(
                "num_layers = {depth}, but the encoder in {} has {}; choose 0 to {}",
                dir.display(),
                config.num_hidden_layers,
                config.num_hidden_layers
            );
        }
        let weights = Weights::open(dir)?;
        let mut digest = blake3::Hasher::new();
        let encoder = Encoder::build(&config, depth, &mut |name, shape| {
            let values = weights.read(name, shape, &mut digest)?;
            Ok(tensor_from(values, shape, device))
        })?;
        Ok((encoder, digest.finalize()))
    }

    /// Writes `config.json` and `model.safetensors` into `dir` (created if missing), for
    /// `transformers`' `AutoModel`. [`super::SentenceTokenizer::save`] writes the tokenizer.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn save(&self, dir: &Path, stored: StoredType) -> Result<()> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot create folder {}", dir.display()))?;
        let dtype = match stored {
            StoredType::Float32 => Dtype::F32,
            StoredType::Bfloat16 => Dtype::BF16,
        };
        let mut entries = Vec::new();
        for (name, tensor) in self.named_tensors() {
            let [rows, columns] = tensor.dims();
            let shape = if is_vector(&name) {
                vec![columns]
            } else {
                vec![rows, columns]
            };
            let values = tensor.try_into_vec_as::<f32>()?;
            let bytes: Vec<u8> = match stored {
                StoredType::Float32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                StoredType::Bfloat16 => values
                    .iter()
                    .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
                    .collect(),
            };
            entries.push((name, shape, bytes));
        }
        let views: Vec<(&str, TensorView<'_>)> = entries
            .iter()
            .map(|(name, shape, bytes)| {
                TensorView::new(dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
            })
            .collect::<Result<_, _>>()?;
        // transformers refuses a file without this entry.
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors::serialize(views, Some(format))?;
        publish(&dir.join("model.safetensors"), &bytes)?;
        let mut json = serde_json::to_string_pretty(&self.config.to_json(stored.name()))?;
        json.push('\n');
        Ok(publish(&dir.join("config.json"), json.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::architecture::encoder::Activation;
    use moim_core::architecture::encoder::Family;
    use safetensors::serialize_to_file;

    fn tiny() -> EncoderConfig {
        EncoderConfig {
            family: Family::Bert,
            vocab_size: 20,
            hidden_size: 8,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 12,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 16,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
        }
    }

    fn flat(encoder: &Encoder) -> Vec<f32> {
        let tensors = encoder.named_tensors();
        tensors
            .into_iter()
            .flat_map(|(_, t)| t.try_into_vec_as::<f32>().unwrap())
            .collect()
    }

    #[test]
    fn saved_and_loaded_is_the_same() {
        let device = Device::flex();
        let dir = tempfile::tempdir().unwrap();
        let encoder = Encoder::random(&tiny(), 7, &device).unwrap();
        encoder.save(dir.path(), StoredType::Float32).unwrap();
        let again = Encoder::load(dir.path(), None, &device).unwrap();
        assert_eq!(encoder.config, again.config);
        assert_eq!(flat(&encoder), flat(&again));

        encoder.save(dir.path(), StoredType::Bfloat16).unwrap();
        let (rounded, digest) = Encoder::load_with_digest(dir.path(), Some(1), &device).unwrap();
        assert_eq!(rounded.layers.len(), 1);
        let whole = flat(&encoder);
        for (a, b) in whole.iter().zip(flat(&rounded)) {
            assert_eq!(bf16::from_f32(*a).to_f32(), b);
        }
        let (_, other) = Encoder::load_with_digest(dir.path(), Some(2), &device).unwrap();
        assert_ne!(digest, other);
    }

    /// Rewrites a saved encoder: other names, other types, several files.
    fn rewrite(from: &Path, to: &Path, shards: usize, rename: impl Fn(&str) -> String) {
        let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut map = serde_json::Map::new();
        let mut parts = vec![Vec::new(); shards];
        for (index, (name, view)) in file.tensors().into_iter().enumerate() {
            let half: Vec<u8> = widen(view.dtype(), view.data())
                .unwrap()
                .iter()
                .flat_map(|&v| f16::from_f32(v).to_le_bytes())
                .collect();
            let name = rename(&name);
            let shard = index % shards;
            map.insert(name.clone(), format!("part-{shard}.safetensors").into());
            parts[shard].push((name, view.shape().to_vec(), half));
        }
        for (shard, part) in parts.iter().enumerate() {
            let views = part.iter().map(|(name, shape, data)| {
                (
                    name.clone(),
                    TensorView::new(Dtype::F16, shape.clone(), data).unwrap(),
                )
            });
            serialize_to_file(views, None, &to.join(format!("part-{shard}.safetensors"))).unwrap();
        }
        let index = serde_json::json!({ "weight_map": map });
        std::fs::write(to.join("model.safetensors.index.json"), index.to_string()).unwrap();
        std::fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
    }

    #[test]
    fn shards_prefix_old_norm_names_and_half_precision() {
        let device = Device::flex();
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let encoder = Encoder::random(&tiny(), 3, &device).unwrap();
        encoder.save(from.path(), StoredType::Float32).unwrap();
        rewrite(from.path(), to.path(), 3, |name| {
            format!("bert.{name}")
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
        });
        let again = Encoder::load(to.path(), None, &device).unwrap();
        for (a, b) in flat(&encoder).iter().zip(flat(&again)) {
            assert_eq!(f16::from_f32(*a).to_f32(), b);
        }
        std::fs::remove_file(to.path().join("part-1.safetensors")).unwrap();
        let error = Encoder::load(to.path(), None, &device).unwrap_err();
        assert!(format!("{error:#}").contains("part-1.safetensors"));
    }

    #[test]
    fn faults_name_file_and_tensor() {
        let device = Device::flex();
        let dir = tempfile::tempdir().unwrap();
        let encoder = Encoder::random(&tiny(), 7, &device).unwrap();
        encoder.save(dir.path(), StoredType::Float32).unwrap();
        let message = |layers| {
            format!(
                "{:#}",
                Encoder::load(dir.path(), layers, &device).unwrap_err()
            )
        };
        assert!(message(Some(3)).contains("num_layers = 3"));

        let wider = EncoderConfig {
            intermediate_size: 16,
            ..tiny()
        };
        let config = dir.path().join("config.json");
        std::fs::write(&config, wider.to_json("float32").to_string()).unwrap();
        let wrong = message(None);
        assert!(wrong.contains("encoder.layer.0.intermediate.dense.weight"));
        assert!(wrong.contains("[12, 8]") && wrong.contains("[16, 8]"));

        let deeper = EncoderConfig {
            num_hidden_layers: 3,
            ..tiny()
        };
        std::fs::write(&config, deeper.to_json("float32").to_string()).unwrap();
        assert!(message(None).contains("encoder.layer.2.attention.self.query.weight is missing"));

        let weights = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
        assert!(message(None).contains("model.safetensors"));
        std::fs::remove_file(&weights).unwrap();
        assert!(message(None).contains("neither model.safetensors"));
    }
}
