//! BLAKE3 fingerprints of a run's inputs, to check on resume that they are unchanged.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;

/// The BLAKE3 hash of a file's content, in hexadecimal. Streams; the file may be large.
///
/// # Errors
/// The file cannot be read, by name.
pub fn file_fingerprint(path: &Path) -> anyhow::Result<String> {
    let unreadable = || format!("cannot read {}", path.display());
    let file = crate::regular_file::open(path).with_context(unreadable)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).with_context(unreadable)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// A fingerprint of a model folder, in hexadecimal, that takes no longer for a large model: of
/// each weight file (`.safetensors`, `.bin`) the name, the size and the first and the last MiB; of
/// each other file, which are small and decide what the model reads and says (`.json`, `.jinja`,
/// `.txt`, `.model`), the name and the whole content. Hidden files and all others are left out.
///
/// # Errors
/// The folder or a file in it cannot be read, by name.
pub fn model_fingerprint(folder: &Path) -> anyhow::Result<String> {
    let unlisted = || format!("cannot list the model folder {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unlisted)? {
        let path = entry.with_context(unlisted)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_file() && !name.starts_with('.') {
            files.push((name, path));
        }
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for (name, path) in files {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        let part = match extension {
            "safetensors" | "bin" => ends_fingerprint(&path)?,
            "json" | "jinja" | "txt" | "model" => file_fingerprint(&path)?,
            _ => continue,
        };
        // Lengths keep a name from running into its content.
        hasher
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes())
            .update(part.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The hash of a file's size and its first and last MiB. A safetensors file begins with the names,
/// shapes and offsets of all its tensors.
fn ends_fingerprint(path: &Path) -> anyhow::Result<String> {
    const END: u64 = 1024 * 1024;
    let unreadable = || format!("cannot read {}", path.display());
    let mut file = crate::regular_file::open(path).with_context(unreadable)?;
    let size = file.metadata().with_context(unreadable)?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    hasher
        .update_reader(file.by_ref().take(END))
        .with_context(unreadable)?;
    file.seek(SeekFrom::Start(size.saturating_sub(END)))
        .with_context(unreadable)?;
    hasher
        .update_reader(file.take(END))
        .with_context(unreadable)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_blake3() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.json");
        std::fs::write(&path, "abc").unwrap();
        // The published test vector of BLAKE3 for "abc".
        assert_eq!(
            file_fingerprint(&path).unwrap(),
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
        );
        let error = file_fingerprint(&folder.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn a_model_changes_with_its_weights_and_its_small_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut weights = vec![0u8; 3 * 1024 * 1024];
        std::fs::write(at("model.safetensors"), &weights).unwrap();
        std::fs::write(at("config.json"), "{}").unwrap();
        let first = model_fingerprint(folder.path()).unwrap();
        std::fs::write(at("README.md"), "words").unwrap();
        std::fs::write(at(".cache"), "words").unwrap();
        assert_eq!(model_fingerprint(folder.path()).unwrap(), first);

        *weights.last_mut().unwrap() = 1;
        std::fs::write(at("model.safetensors"), &weights).unwrap();
        let second = model_fingerprint(folder.path()).unwrap();
        assert_ne!(second, first);
        std::fs::write(at("config.json"), "{ }").unwrap();
        assert_ne!(model_fingerprint(folder.path()).unwrap(), second);
        assert!(model_fingerprint(&at("absent")).is_err());
    }
}
