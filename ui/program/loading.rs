//! Shows the loading of a model: a bar while it is quantised, and warnings.

use anyhow::Result;
use indicatif::ProgressBar;
use moim_engine::model::LoadProgress;

use moim_ui::console::Console;

/// Shows the progress of loading on `console`.
pub fn loading(console: &Console) -> impl FnMut(LoadProgress) -> Result<()> + '_ {
    let mut bar: Option<ProgressBar> = None;
    move |progress| {
        match progress {
            LoadProgress::Warning(warning) => console.report(&format!("warning: {warning}")),
            LoadProgress::Quantizing { done, total } => {
                let bar = bar.get_or_insert_with(|| {
                    console.note(&format!("quantising {total} layers to 4 bits (NF4)"));
                    console.bar("quantise", total)
                });
                bar.set_position(done as u64);
                if done == total {
                    bar.finish_and_clear();
                }
            }
        }
        Ok(())
    }
}
