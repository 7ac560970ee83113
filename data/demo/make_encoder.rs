//! Makes the demo's BERTScore encoder (data/demo/encoder) from nothing: a tiny BERT,
//! trained by masked-language modelling on data/demo/corpus_text.txt.
//!
//! ```text
//! python3 data/demo/build.py
//! cargo run --release --example demo_encoder
//! ```

use std::path::Path;

use anyhow::{Context, Result};
use moim::device::Compute;
use moim::encoder::load::StoredType;
use moim::encoder::{PretrainSettings, SentenceTokenizer, pretrain};
use moim_core::architecture::EncoderConfig;

const STEPS: usize = 2500;

fn main() -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo");
    let corpus = directory.join("corpus_text.txt");
    let text = std::fs::read_to_string(&corpus)
        .with_context(|| format!("{}: run python3 data/demo/build.py first", corpus.display()))?;
    let texts: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let encoder = directory.join("encoder");
    let config = EncoderConfig::from_model_dir(&encoder)?;
    let tokenizer = SentenceTokenizer::from_model_dir(&encoder, &config)?;
    let settings = PretrainSettings {
        steps: STEPS,
        batch_size: 32,
        ..PretrainSettings::default()
    };
    let trained = pretrain(
        &texts,
        &tokenizer,
        &config,
        &settings,
        &Compute::cpu().device,
        &mut |progress| {
            if progress.step % 50 == 0 {
                eprintln!(
                    "step {}/{}: loss {:.3}",
                    progress.step, progress.steps, progress.loss
                );
            }
        },
    )?;
    trained.save(&encoder, StoredType::Bfloat16)?;
    eprintln!(
        "{} parameters in {}",
        trained.num_parameters(),
        encoder.display()
    );
    Ok(())
}
