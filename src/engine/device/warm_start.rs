//! Compiled kernels and tuning results, kept from one start to the next.
//!
//! A first run on a card compiles a few hundred kernels and measures the ways to multiply matrices,
//! which takes minutes; all of it depends only on the card, the driver and the program.

use std::sync::Once;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

use crate::nf4::cache_folder;

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
