//! The linear layers of a decoder layer.

use anyhow::{Result, bail};

use super::decoder::LlamaConfig;
use super::family::Family;

/// The linear layers of a decoder layer, under their checkpoint names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// Gate of the MLP.
    Gate,
    /// Up-projection of the MLP.
    Up,
    /// Down-projection of the MLP.
    Down,
}

/// The linear layers that have biases in some families.
pub const QKV: [Projection; 3] = [Projection::Q, Projection::K, Projection::V];

impl Projection {
    /// All of them, in the order of computation.
    pub const ALL: [Projection; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The name in Llama's checkpoints, and in an experiment: `q_proj` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// `(out, in)` of the weight.
    pub fn shape(self, config: &LlamaConfig) -> (usize, usize) {
        let hidden = config.hidden_size;
        match self {
            Self::Q => (config.query_size(), hidden),
            Self::K | Self::V => (config.key_value_size(), hidden),
            Self::O => (hidden, config.query_size()),
            Self::Gate | Self::Up => (config.intermediate_size, hidden),
            Self::Down => (hidden, config.intermediate_size),
        }
    }

    /// Reads an experiment's `lora.target_modules`. The names are Llama's for every family;
    /// `all-linear` is all seven.
    ///
    /// # Errors
    /// An empty list, or a name that no decoder layer has.
    pub fn parse_targets<S: AsRef<str>>(names: &[S]) -> Result<Vec<Projection>> {
        Self::parse_modules(names, Family::Llama)
    }

    /// Reads PEFT's `target_modules`, whose names are those of the family's checkpoints.
    ///
    /// # Errors
    /// As [`Projection::parse_targets`].
    pub fn parse_modules<S: AsRef<str>>(names: &[S], family: Family) -> Result<Vec<Projection>> {
        let names = || names.iter().map(AsRef::as_ref);
        let known = || Self::ALL.map(|it| family.module(it)).join(", ");
        if names().any(|name| name == "all-linear") {
            return Ok(Self::ALL.to_vec());
        }
        let mut targets = Vec::new();
        for name in names() {
            match Self::ALL.into_iter().find(|&it| family.module(it) == name) {
                Some(projection) if !targets.contains(&projection) => targets.push(projection),
                Some(_) => {}
                None => bail!(
                    "target_modules contains {name:?}; a decoder layer has {}, or write \"all-linear\"",
                    known()
                ),
            }
        }
        if targets.is_empty() {
            bail!("target_modules is empty; name at least one of {}", known());
        }
        targets.sort();
        Ok(targets)
    }
}
