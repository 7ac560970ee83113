//! A made-up plan: a Korean experiment, and a model of two thousand million parameters.

use std::path::PathBuf;
use std::sync::Arc;

use moim_core::architecture::LlamaConfig;
use moim_core::memory::Shapes;

use super::Plan;
use crate::tui::data::World;
use crate::tui::data::plan::PlanFacts;
use crate::tui::screens::ScreenState;
use crate::tui::screens::experiments::sample::{self as folder, Scene};

/// The experiment that is open.
pub(crate) const OPEN: &str = "experiments/표준어.toml";

/// What is known of the sample's model and data.
pub(crate) fn facts() -> PlanFacts {
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 2048,
        "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": 4096, "tie_word_embeddings": true, "hidden_act": "silu",
    });
    PlanFacts {
        model: PathBuf::from("models/토끼-2B"),
        encoder: Some(PathBuf::from("models/encoder")),
        train: PathBuf::from("data/train.json"),
        records: Some(Ok(622)),
        capacity: Some(24 << 30),
        shapes: Some(Arc::new(Shapes {
            decoder: Ok(LlamaConfig::from_json(&config).unwrap()),
            encoder: None,
            has_cuda: true,
            cores: 16,
        })),
        ..PlanFacts::default()
    }
}

/// The folder of the Experiments screen, with the facts.
pub(crate) fn world() -> World {
    World {
        plan: Some(facts()),
        ..folder::world()
    }
}

/// The screen with the sample's experiment open.
pub(crate) fn plan(scene: &Scene) -> Plan {
    let mut plan = Plan::default();
    plan.load(&PathBuf::from(OPEN));
    plan.refresh(&scene.context());
    plan
}
