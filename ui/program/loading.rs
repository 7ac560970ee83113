//! A model while it is loaded: a bar while it is quantised, warnings as they come.

use anyhow::Result;
use indicatif::ProgressBar;
use moim_engine::model::LoadProgress;

use moim_ui::console::Console;

/// What loading tells, shown on `console`.
pub fn loading(console: &Console) -> impl FnMut(LoadProgress) -> Result<()> + '_ {
    let mut bar: Option<ProgressBar> = None;
    move |told| {
        match told {
            LoadProgress::Warning(warning) => console.tell(&format!("warning: {warning}")),
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
