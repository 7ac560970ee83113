//! The punishment of long completions.

/// The punishment of completions close to the length limit (DAPO, arXiv 2503.14476), as TRL's
/// `get_soft_overlong_punishment`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overlong {
    /// Tokens over which it grows.
    pub(super) cache: usize,
    /// The longest length, in tokens.
    pub(super) max_completion_length: usize,
}

impl Overlong {
    /// 0 up to the cache, then down to −1 at the longest length, and −1 beyond.
    pub(super) fn punishment(self, tokens: usize) -> f64 {
        let free = self.max_completion_length.saturating_sub(self.cache);
        if tokens > self.max_completion_length {
            return -1.0;
        }
        -(tokens.saturating_sub(free) as f64 / self.cache.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of TRL's `get_soft_overlong_punishment`.
    #[test]
    fn long_completions_are_punished_as_by_trl() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/golden/grpo/losses.json");
        let golden: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let golden = &golden["overlong"];
        let overlong = Overlong {
            cache: golden["soft_punish_cache"].as_u64().unwrap() as usize,
            max_completion_length: golden["max_completion_length"].as_u64().unwrap() as usize,
        };
        let lengths = golden["lengths"].as_array().unwrap();
        for (length, expected) in lengths.iter().zip(golden["rewards"].as_array().unwrap()) {
            let found = overlong.punishment(length.as_u64().unwrap() as usize);
            assert!(
                (found - expected.as_f64().unwrap()).abs() < 1e-7,
                "{length}: {found}"
            );
        }
    }
}
