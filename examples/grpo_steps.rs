//! Takes ten GRPO steps on the demo and prints the reward of each.
//!
//!   cargo run --release --example grpo_steps

use std::path::Path;

use anyhow::Result;
use moim::experiment::Experiment;
use moim::grpo;
use moim::journal::{Observer, Phase};
use moim::run::{Event, EventKind};
use moim::session::Loaded;

/// Prints a line for each step. An observer may also show progress and ask the run to stop.
struct Rewards;

impl Observer for Rewards {
    fn phase(&mut self, _: Phase, _: usize, _: usize, _: &str) {}

    fn event(&mut self, event: &Event) {
        if let EventKind::Step(step) = &event.kind {
            let reward = step.metrics.get("reward").unwrap_or(f64::NAN);
            println!("step {}: reward {reward:.4}", step.step);
        }
    }

    fn wants_to_stop(&self) -> bool {
        false
    }
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let settings = [
        "grpo.max_steps=10".to_owned(),
        "inference.before_training=false".to_owned(),
        format!("run.output_dir={}", folder.path().display()),
    ];
    let experiment = Experiment::load(Path::new("experiments/demo.toml"), &settings)?;
    // Everything but the weights first, so that a mistake is found before they are loaded.
    let ready = Loaded::load(&experiment)?.with_weights(&mut |_| Ok(()))?;
    let (run, ending) = grpo::train(ready, "demo", Box::new(Rewards))?;
    println!("{ending:?}: {}", run.directory.path().display());
    Ok(())
}
