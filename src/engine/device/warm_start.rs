//! Compiled kernels and tuning results, kept from one start to the next.
//!
//! A first run on a card compiles a few hundred kernels and measures the ways to multiply matrices,
//! which takes minutes; all of it depends only on the card, the driver and the program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Once;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Has CubeCL keep them in the folder for caches; must be called before the first device is used. A
/// `cubecl.toml` above the working folder takes precedence, except for the folder.
pub(super) fn keep_kernels() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache = true;
        config.environment.path = match cache_folder(|name| std::env::var_os(name)) {
            Some(folder) => CacheConfig::Directory(folder.join("kernels")),
            None => CacheConfig::Global,
        };
        // A program that uses moim as a library may have set it before.
        CubeClRuntimeConfig::try_set(config);
    });
}

/// The folder for caches: `$MOIM_CACHE_DIR`, else `$XDG_CACHE_HOME/moim`, else `~/.cache/moim`; `None`
/// if no variable names one. `variable` reads the environment ([`std::env::var_os`]).
pub fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value))
    };
    // The XDG base directory specification ignores relative paths.
    let cache_home = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    folder("MOIM_CACHE_DIR")
        .or_else(|| Some(cache_home?.join("moim")))
        .or_else(|| Some(folder("HOME")?.join(".cache/moim")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_folder_follows_the_environment() {
        let folder = |variables: &[(&str, &str)]| {
            let variables: BTreeMap<String, OsString> = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
                .collect();
            cache_folder(|name| variables.get(name).cloned())
        };
        let home = ("HOME", "/home/kim");
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(folder(&[home]), path("/home/kim/.cache/moim"));
        assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "/c")]), path("/c/moim"));
        assert_eq!(
            folder(&[home, ("XDG_CACHE_HOME", "c")]),
            path("/home/kim/.cache/moim")
        );
        assert_eq!(
            folder(&[home, ("XDG_CACHE_HOME", "/c"), ("MOIM_CACHE_DIR", "d")]),
            path("d")
        );
        assert_eq!(
            folder(&[home, ("MOIM_CACHE_DIR", "")]),
            path("/home/kim/.cache/moim")
        );
        assert_eq!(folder(&[]), None);
    }
}
