//! Quantised weights, kept from one run to the next.
//!
//! A file contains all matrices of a model in the form of [`stored`](super::stored), so bitsandbytes can
//! read it. Sizes, and so the whole header, follow from the plan, before the first
//! weight is quantised: matrices are written in order and none is kept in memory, and a file is
//! good if it starts with exactly the header that its reader would write and has the length that it states. There is no
//! checksum of the weights: the file was synced before it was renamed, so that a crash
//! leaves no file or a complete one; a copy that stopped half-way has the wrong length; and reading gigabytes
//! twice at each start would cost what the cache saves.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, json};
use tempfile::NamedTempFile;

use super::matrix::{Nf4Matrix, Scales};
use super::stored::{parts, state_json};
use moim_core::run::publish::{WriteError, sync_folder_of};

/// Version of the file's layout and of the codec; a file of another version is written again.
const VERSION: &str = "1";

/// Bytes for the number `nested_offset`: the longest f32 that Python writes, `-1.1754943508222875e-38`.
const OFFSET_WIDTH: usize = 24;

/// safetensors aligns tensors to the size of their elements, and its header to 8 bytes.
const ALIGNMENT: usize = 8;

/// Bytes that a cache leaves free on its disk, for the run that will be written.
const SPARE: u64 = 1 << 30;

/// A weight matrix of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name, `….weight`.
    pub name: String,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// Type of the weights that were quantised: F32, F16 or BF16.
    pub dtype: Dtype,
}

/// The contents of a cache file.
#[derive(Clone, Debug)]
pub struct CachePlan {
    /// Of the original weights, in hexadecimal; any change of them must change it.
    pub fingerprint: String,
    /// Whether scales take 8 bits.
    pub double_quant: bool,
    /// The matrices, in the order of the file.
    pub matrices: Vec<Planned>,
}

impl CachePlan {
    /// The path of its file in a cache folder.
    pub fn path(&self, folder: &Path) -> PathBuf {
        let scales = self.scales();
        folder.join(format!("nf4-{}-{scales}.safetensors", self.fingerprint))
    }

    fn scales(&self) -> &'static str {
        if self.double_quant {
            "double"
        } else {
            "single"
        }
    }

    /// # Errors
    /// A fingerprint that is not hexadecimal, a name that appears twice, a type of no weights.
    fn layout(&self) -> Result<Layout> {
        let is_hex = self
            .fingerprint
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit());
        ensure!(
            is_hex && !self.fingerprint.is_empty(),
            "the fingerprint {:?} is not hexadecimal",
            self.fingerprint
        );
        let mut header = Map::new();
        let about = json!({
            "format": "pt",
            "moim_nf4": VERSION,
            "scales": self.scales(),
            "fingerprint": self.fingerprint,
        });
        header.insert("__metadata__".to_owned(), about);
        let mut sections = BTreeMap::new();
        let mut end = 0;
        for matrix in &self.matrices {
            let section = section(matrix, self.double_quant, end)?;
            for tensor in &section.tensors {
                let Range { start, end } = tensor.range;
                let info = json!({
                    "dtype": tensor.dtype,
                    "shape": tensor.shape,
                    "data_offsets": [start, end],
                });
                header.insert(tensor.name.clone(), info);
            }
            end = section.end();
            if sections.insert(matrix.name.clone(), section).is_some() {
                bail!("the matrix {} is planned twice", matrix.name);
            }
        }
        let mut text = serde_json::to_vec(&header)?;
        text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.append(&mut text);
        Ok(Layout {
            length: header.len() + end,
            header,
            sections,
        })
    }
}

/// The positions of everything in a file.
struct Layout {
    /// Length of the header and the header itself.
    header: Vec<u8>,
    /// By name of the matrix.
    sections: BTreeMap<String, Section>,
    /// Bytes of the whole file.
    length: usize,
}

/// The tensors of a matrix, in order.
struct Section {
    planned: Planned,
    tensors: Vec<Place>,
}

struct Place {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes, counted from the end of the header.
    range: Range<usize>,
}

impl Section {
    fn start(&self) -> usize {
        self.tensors.first().map_or(0, |tensor| tensor.range.start)
    }

    fn end(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }
}

/// The section that begins at `start`. Its last tensor is JSON, which blanks make as long as
/// the longest offset needs and as alignment asks: safetensors allows no gap between tensors.
fn section(matrix: &Planned, double_quant: bool, start: usize) -> Result<Section> {
    let Planned {
        name,
        rows,
        columns,
        dtype,
    } = matrix;
    let count = rows.checked_mul(*columns).filter(|count| *count > 0);
    let count = count.with_context(|| format!("{name} has no weights"))?;
    let size =
        |dtype: Dtype, shape: &[usize]| shape.iter().product::<usize>() * dtype.bitsize() / 8;
    let without_state: usize = parts(name, count, double_quant, 0)
        .iter()
        .map(|(_, dtype, shape)| size(*dtype, shape))
        .sum();
    let state = state_json(*dtype, *rows, *columns, double_quant.then_some(0.0))?;
    let whole = (without_state + state.len() + OFFSET_WIDTH).next_multiple_of(ALIGNMENT);
    let mut end = start;
    let tensors = parts(name, count, double_quant, whole - without_state)
        .into_iter()
        .map(|(name, dtype, shape)| {
            let begin = end;
            end += size(dtype, &shape);
            Place {
                name,
                dtype,
                shape,
                range: begin..end,
            }
        })
        .collect();
    Ok(Section {
        planned: matrix.clone(),
        tensors,
    })
}

/// A cache file that is being written. It is renamed into place when it is finished; dropped before, it is deleted.
///
/// Every error says that the weights are not kept; a run that gets one warns and continues without the cache.
pub struct CacheWriter {
    /// Hidden in the same folder; locked, which distinguishes it from what a killed process left.
    file: NamedTempFile,
    path: PathBuf,
    layout: Layout,
    double_quant: bool,
}

impl CacheWriter {
    /// Starts a file in `folder`, which is created if necessary.
    ///
    /// # Errors
    /// The folder cannot be created or written to, or its disk has not enough space.
    pub fn create(folder: &Path, plan: &CachePlan) -> Result<Self> {
        Self::try_create(folder, plan).with_context(not_kept)
    }

    fn try_create(folder: &Path, plan: &CachePlan) -> Result<Self> {
        let layout = plan.layout()?;
        fs::create_dir_all(folder).map_err(WriteError::on("create", folder))?;
        remove_leftovers(folder);
        check_room(folder, layout.length as u64)?;
        let path = plan.path(folder);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let write = || -> io::Result<NamedTempFile> {
            let mut file = tempfile::Builder::new()
                .prefix(&format!(".{name}.writing-"))
                // The umask applies, as for any other file: a cache may be shared.
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(folder)?;
            // On a file system without locks leftovers are not removed either.
            let _ = file.as_file().try_lock();
            file.write_all(&layout.header)?;
            Ok(file)
        };
        let file = write().map_err(WriteError::on("write", &path))?;
        Ok(Self {
            file,
            path,
            layout,
            double_quant: plan.double_quant,
        })
    }

    /// Writes a matrix of the plan; in any order, each once.
    ///
    /// # Errors
    /// It is not in the plan or was written before, has another size or another kind of scales, or the
    /// disk is full.
    pub fn add(&mut self, name: &str, matrix: &Nf4Matrix) -> Result<()> {
        self.try_add(name, matrix).with_context(not_kept)
    }

    fn try_add(&mut self, name: &str, matrix: &Nf4Matrix) -> Result<()> {
        let section = self.layout.sections.remove(name);
        let section = section.with_context(|| format!("{name} is not awaited"))?;
        let planned = &section.planned;
        let double_quant = matches!(matrix.scales, Scales::Double { .. });
        ensure!(
            (matrix.rows, matrix.columns) == (planned.rows, planned.columns)
                && double_quant == self.double_quant,
            "{name} is not the matrix that was planned"
        );
        let tensors = matrix.stored(name, planned.dtype)?;
        let start = self.layout.header.len() + section.start();
        let file = self.file.as_file_mut();
        let mut write = || -> io::Result<()> {
            file.seek(SeekFrom::Start(start as u64))?;
            for (tensor, place) in tensors.iter().zip(&section.tensors) {
                file.write_all(&tensor.bytes)?;
                let blanks = place.range.len().saturating_sub(tensor.bytes.len());
                file.write_all(&vec![b' '; blanks])?;
            }
            Ok(())
        };
        write().map_err(WriteError::on("write", &self.path))?;
        Ok(())
    }

    /// Syncs the file and renames it into place. Another process that finished the same one
    /// meanwhile wrote the same bytes; a process that has it open continues reading it.
    ///
    /// # Errors
    /// A matrix of the plan was not added, or the file system's.
    pub fn finish(self) -> Result<()> {
        self.try_finish().with_context(not_kept)
    }

    fn try_finish(self) -> Result<()> {
        if let Some(name) = self.layout.sections.keys().next() {
            bail!("{name} was not added");
        }
        let write = || -> io::Result<()> {
            self.file.as_file().sync_all()?;
            self.file.persist(&self.path)?;
            sync_folder_of(&self.path)
        };
        write().map_err(WriteError::on("write", &self.path))?;
        Ok(())
    }
}

fn not_kept() -> &'static str {
    "the quantised weights are not kept and the next run will quantise them again (MOIM_CACHE_DIR names the folder for them)"
}

/// Removes what killed processes left half-written: a file that is being written is locked by its writer. What
/// cannot be removed does no harm.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".nf4-")
            && name.contains(".safetensors.writing-")
            && moim_core::regular_file::open(&entry.path())
                .is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// # Errors
/// The disk has less than the file and [`SPARE`].
fn check_room(folder: &Path, needed: u64) -> Result<()> {
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        free >= needed.saturating_add(SPARE),
        "{}: {} MiB are needed and {} MiB are to stay free, but the disk has {} MiB",
        folder.display(),
        needed >> 20,
        SPARE >> 20,
        free >> 20
    );
    Ok(())
}

/// A whole cache file, memory-mapped.
pub struct CacheFile {
    map: Mmap,
    layout: Layout,
}

impl CacheFile {
    /// Opens the file of a plan in a cache folder; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, is truncated, or is not what [`CacheWriter`] writes for this plan; the
    /// message adds that it will be written again, which is what the caller should do.
    pub fn open(folder: &Path, plan: &CachePlan) -> Result<Option<Self>> {
        let path = plan.path(folder);
        let again = || format!("{} is quantised and written again", path.display());
        let file = match moim_core::regular_file::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(again),
        };
        // SAFETY: the map is read-only and lives as long as this value. Cache files are replaced
        // by renaming, so no writer of ours truncates one that is mapped.
        let map = unsafe { Mmap::map(&file) }.with_context(again)?;
        let layout = plan.layout().with_context(again)?;
        let found = map.len();
        if found != layout.length {
            let planned = layout.length;
            let why =
                format!("it has {found} bytes instead of {planned}: truncated, or another file");
            return Err(anyhow::Error::msg(why).context(again()));
        }
        if !map.starts_with(&layout.header) {
            let why = "it contains other matrices, or another version of moim wrote it";
            return Err(anyhow::Error::msg(why).context(again()));
        }
        Ok(Some(Self { map, layout }))
    }

    /// Reads a matrix of the plan.
    ///
    /// # Errors
    /// It is not in the plan or has another shape, or as [`Nf4Matrix::read`].
    pub fn read(&self, name: &str) -> Result<Nf4Matrix> {
        let section = self.layout.sections.get(name);
        let section = section.with_context(|| format!("{name} is not in the cache"))?;
        let data = self.map.get(self.layout.header.len()..).unwrap_or_default();
        let matrix = Nf4Matrix::read(name, |tensor| {
            let place = section.tensors.iter().find(|place| place.name == tensor)?;
            let bytes = data.get(place.range.clone())?;
            TensorView::new(place.dtype, place.shape.clone(), bytes).ok()
        })?;
        let planned = &section.planned;
        ensure!(
            (matrix.rows, matrix.columns) == (planned.rows, planned.columns),
            "{name} in the cache is {} x {}; {} x {} were planned",
            matrix.rows,
            matrix.columns,
            planned.rows,
            planned.columns
        );
        Ok(matrix)
    }
}

#[cfg(test)]
mod tests;
