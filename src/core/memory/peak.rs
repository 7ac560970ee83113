//! The result of a plan: peaks by component, and whether they fit.

use std::fmt;

use super::sizes::Sizes;

/// A component that needs memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The base model.
    Weights,
    /// The trained low-rank factors.
    Adapter,
    /// AdamW's moments.
    Optimizer,
    /// Gradients of the adapter.
    Gradients,
    /// Tensors that the forward pass keeps for the backward pass.
    LayerInputs,
    /// The layer that is being computed.
    LayerWork,
    /// Keys and values of the tokens so far, while sampling.
    KvCache,
    /// Logits and their derived tensors.
    Head,
    /// The BERTScore encoder.
    Encoder,
    /// Space in a card's pages that no buffer fits in.
    Pages,
    /// Memory that is not counted buffer by buffer.
    Reserve,
}

impl Component {
    /// All of them, in the order of a stacked bar.
    pub const ALL: [Self; 11] = [
        Self::Weights,
        Self::Adapter,
        Self::Optimizer,
        Self::Gradients,
        Self::LayerInputs,
        Self::LayerWork,
        Self::KvCache,
        Self::Head,
        Self::Encoder,
        Self::Pages,
        Self::Reserve,
    ];

    /// A short name: `KV cache`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Adapter => "adapter",
            Self::Optimizer => "optimizer",
            Self::Gradients => "gradients",
            Self::LayerInputs => "layer inputs",
            Self::LayerWork => "layer work",
            Self::KvCache => "KV cache",
            Self::Head => "head",
            Self::Encoder => "encoder",
            Self::Pages => "pages",
            Self::Reserve => "reserve",
        }
    }

    /// The name as a key of JSON: `kv_cache`.
    pub fn key(self) -> String {
        self.name().to_ascii_lowercase().replace(' ', "_")
    }

    /// A sentence about what it is and what it grows with.
    pub fn help(self) -> &'static str {
        match self {
            Self::Weights => "The frozen base model; a 4-bit base is about a quarter of bfloat16.",
            Self::Adapter => {
                "The trained LoRA factors in f32; grows with lora.r and lora.target_modules."
            }
            Self::Optimizer => "AdamW's two moments of the adapter, in f32.",
            Self::Gradients => {
                "Gradients of the adapter: the sums so far, and those of each part in progress."
            }
            Self::LayerInputs => {
                "Every layer's input, kept for the backward pass: of a micro-batch, or of the current part if memory is short."
            }
            Self::LayerWork => {
                "The current layer: a block of attention scores or a chunk of the MLP, which are limited; grows with B."
            }
            Self::KvCache => {
                "Keys and values of all layers while sampling; those of a prompt once per group."
            }
            Self::Head => {
                "Logits: a chunk of tokens in training, one row per completion while sampling."
            }
            Self::Encoder => {
                "The BERTScore encoder, its work on a batch of sentences, and on the CPU its cache."
            }
            Self::Pages => {
                "Space at the ends of the card's pages that no buffer fits in; estimated from measurements of the pools."
            }
            Self::Reserve => {
                "The program or the CUDA context, which are not counted buffer by buffer; an estimate."
            }
        }
    }
}

/// One component's share of a peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The component.
    pub component: Component,
    /// Its size.
    pub bytes: u64,
}

/// The fullest moment of a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peak {
    /// What runs at that moment: `the last token of the completions`.
    pub moment: &'static str,
    /// Components that are not empty, in the order of [`Component::ALL`].
    pub parts: Vec<Part>,
}

impl Peak {
    /// Bytes of all components.
    pub fn total(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// Bytes of one component.
    pub fn of(&self, component: Component) -> u64 {
        let found = self.parts.iter().find(|part| part.component == component);
        found.map_or(0, |part| part.bytes)
    }
}

/// A moment while it is counted. Bytes are real numbers, because the values in a form can give products
/// that overflow an integer.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    name: &'static str,
    bytes: [f64; Component::ALL.len()],
}

impl Moment {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            bytes: [0.0; Component::ALL.len()],
        }
    }

    /// The same moment with `bytes` more of a component.
    pub(super) fn with(mut self, component: Component, bytes: f64) -> Self {
        self.bytes[component as usize] += bytes;
        self
    }

    pub(super) fn total(&self) -> f64 {
        self.bytes.iter().sum()
    }

    fn into_peak(self) -> Peak {
        let parts = Component::ALL.into_iter().zip(self.bytes);
        Peak {
            moment: self.name,
            parts: parts
                .filter(|(_, bytes)| *bytes >= 1.0)
                // A number that is too large for the type saturates.
                .map(|(component, bytes)| Part {
                    component,
                    bytes: bytes as u64,
                })
                .collect(),
        }
    }

    /// The fullest of the moments of a phase.
    pub(super) fn peak(moments: impl IntoIterator<Item = Self>) -> Peak {
        let fullest = moments
            .into_iter()
            .max_by(|a, b| a.total().total_cmp(&b.total()));
        fullest.unwrap_or_else(|| Self::new("")).into_peak()
    }
}

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Sampling completions and rewarding them.
    Rollout,
    /// Forward, backward and update.
    Training,
    /// Answering the evaluation set after an epoch.
    Inference,
}

impl Phase {
    /// `rollout`, `training`, `inference`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::Training => "training",
            Self::Inference => "inference",
        }
    }
}

/// Whether a plan fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits with `spare` bytes left.
    Fits {
        /// Bytes left in the fullest phase.
        spare: u64,
    },
    /// It fits by less than the plan's possible error (a twentieth of the capacity).
    Tight {
        /// Bytes left in the fullest phase.
        spare: u64,
    },
    /// It does not fit.
    TooLarge {
        /// Bytes that the fullest phase needs in addition.
        missing: u64,
        /// That phase.
        phase: Phase,
    },
    /// The size of the memory is not known.
    Unknown,
}

impl Verdict {
    /// `fits`, `tight`, `too_large`, `unknown`.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Fits { .. } => "fits",
            Self::Tight { .. } => "tight",
            Self::TooLarge { .. } => "too_large",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use super::size::Bytes;
        match *self {
            Self::Fits { spare } => write!(formatter, "fits, {} to spare", Bytes(spare)),
            Self::Tight { spare } => write!(formatter, "fits barely, {} to spare", Bytes(spare)),
            Self::TooLarge { missing, phase } => {
                write!(
                    formatter,
                    "does not fit: {} needs {} more",
                    phase.name(),
                    Bytes(missing)
                )
            }
            Self::Unknown => formatter.write_str("the size of the memory is not known"),
        }
    }
}

/// The peaks of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Sampling completions and rewarding them.
    pub rollout: Peak,
    /// Forward, backward and update.
    pub training: Peak,
    /// Answering the evaluation set after an epoch.
    pub inference: Peak,
    /// How much goes through the model at a time.
    pub sizes: Sizes,
    /// The memory that it is compared with, in bytes.
    pub capacity: Option<u64>,
}

impl MemoryPlan {
    /// Every phase with its peak.
    pub fn phases(&self) -> [(Phase, &Peak); 3] {
        [
            (Phase::Rollout, &self.rollout),
            (Phase::Training, &self.training),
            (Phase::Inference, &self.inference),
        ]
    }

    /// The phase that needs most, and its bytes.
    pub fn fullest(&self) -> (Phase, u64) {
        let [rollout, training, inference] =
            self.phases().map(|(phase, peak)| (phase, peak.total()));
        [training, inference].into_iter().fold(
            rollout,
            |most, next| {
                if next.1 > most.1 { next } else { most }
            },
        )
    }

    /// Whether it fits.
    pub fn verdict(&self) -> Verdict {
        let Some(capacity) = self.capacity else {
            return Verdict::Unknown;
        };
        let (phase, bytes) = self.fullest();
        match capacity.checked_sub(bytes) {
            None => Verdict::TooLarge {
                missing: bytes - capacity,
                phase,
            },
            Some(spare) if spare < capacity / 20 => Verdict::Tight { spare },
            Some(spare) => Verdict::Fits { spare },
        }
    }

    /// Whether it fits or the size of the memory is not known.
    pub(super) fn is_possible(&self) -> bool {
        !matches!(self.verdict(), Verdict::TooLarge { .. })
    }
}
