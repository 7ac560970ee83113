//! Everything about the selected line.

use moim_core::run::RunState;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::launch::run_id;
use super::table::batch;
use super::{Experiments, Selected};
use crate::tui::data::index::{Condition, ExperimentFile, RunEntry};
use crate::tui::screens::condition::sign;
use crate::tui::screens::control::Run;
use crate::tui::screens::words::{count, point_of};
use crate::tui::state::Context;
use crate::tui::text::{age, compact, fit, wrap};
use crate::tui::widgets::page::Page;

/// Cells of the names in front of values.
const LABEL: usize = 12;

/// The lines about a file or a run.
struct Details<'a> {
    page: Page,
    context: &'a Context<'a>,
}

/// The title and the lines about the selected line, wrapped to `cells`.
pub fn lines(
    screen: &Experiments,
    context: &Context<'_>,
    cells: usize,
) -> (String, Vec<Line<'static>>) {
    let page = Page::new(cells);
    let mut lines = Details { page, context };
    let theme = context.theme();
    let selected = screen.selected(context);
    let path = selected.as_ref().map(Selected::path);
    if let Some(change) = path.and_then(|path| screen.changes.of(path, context.now)) {
        lines.say(format!("* {change}"), theme.accent);
    }
    let title = match (selected, &context.world.index) {
        (Some(Selected::File(file)), _) => {
            lines.of_file(file);
            file.name.clone()
        }
        (Some(Selected::Run(run)), _) => {
            lines.of_run(run);
            run_id(run)
        }
        (None, None) => {
            lines.say("Experiments and runs are being read.", theme.dim);
            "Details".to_owned()
        }
        (None, Some(index)) => {
            let words = format!(
                "Details of the selected line are shown here. Experiments are the TOML files in \
                 {}; s starts one, and its run appears under {}.",
                index.experiments_dir.display(),
                index.output_dir.display()
            );
            if screen.filter.is_empty() {
                lines.say(words, theme.dim);
            } else {
                lines.say("Nothing passes the filter; esc clears it.", theme.dim);
            }
            for problem in &index.problems {
                lines.say(problem, theme.warn);
            }
            "Details".to_owned()
        }
    };
    (title, lines.page.lines)
}

impl Details<'_> {
    fn say(&mut self, text: impl AsRef<str>, style: Style) {
        self.page.say(text, style);
    }

    /// A name in front of a value.
    fn name(&mut self, name: &str, value: impl AsRef<str>) {
        let wrapped = wrap(value.as_ref(), self.page.cells.saturating_sub(LABEL));
        for (index, line) in wrapped.into_iter().enumerate() {
            let label = fit(if index == 0 { name } else { "" }, LABEL);
            let label = Span::styled(label, self.context.theme().dim);
            self.page
                .lines
                .push(Line::from(vec![label, Span::raw(line)]));
        }
    }

    fn of_file(&mut self, file: &ExperimentFile) {
        let (context, theme) = (self.context, self.context.theme());
        for line in &file.description {
            self.say(line, theme.text);
        }
        match &file.experiment {
            Err(faults) => {
                let (sign, count) = (context.glyphs().bad, count(faults.len(), "fault"));
                self.say(
                    format!("{sign} {count}; e edits, o opens an editor"),
                    theme.bad,
                );
                for fault in faults {
                    self.say(fault.to_string(), theme.text);
                }
            }
            Ok(experiment) => {
                let names = ["B", "G", "A", "D"].join(context.glyphs().times);
                let numbers = batch(experiment, context.look());
                let unit = experiment.grpo.batch_unit;
                self.name(&names, format!("{numbers}, B in {unit}"));
                self.name("model", experiment.model.path.display().to_string());
            }
        }
        let written = file
            .modified
            .map(|time| format!(", written {}", age(context.now, time)));
        let path = file.path.display();
        self.name("file", format!("{path}{}", written.unwrap_or_default()));
        let runs = context.world.index.iter().flat_map(|index| &index.runs);
        let runs = runs.filter(|run| run.experiment == file.name);
        let best = runs.clone().filter_map(|run| {
            let best = run.state.as_ref().ok()?.best.as_ref()?;
            Some((best.final_mean, &run.name))
        });
        let best = best.max_by(|left, right| left.0.total_cmp(&right.0));
        let words = match (runs.count(), best) {
            (0, _) => "none yet; s starts one".to_owned(),
            (number, Some((mean, name))) => {
                format!("{number}, the best Final Mean is {mean:.4} of {name}")
            }
            (number, None) => number.to_string(),
        };
        self.name("runs", words);
    }

    fn of_run(&mut self, run: &RunEntry) {
        let (sign, style) = sign(run.condition(), self.context.look());
        self.say(format!("{sign} {}", meaning(run)), style);
        match &run.state {
            Err(problem) => self.say(problem, self.context.theme().text),
            Ok(state) => self.of_state(run, state),
        }
        self.name("folder", run.path.display().to_string());
    }

    fn of_state(&mut self, run: &RunEntry, state: &RunState) {
        let (theme, now) = (self.context.theme(), self.context.now);
        if let Some(message) = &state.message {
            self.say(message, theme.text);
        }
        if !run.last_words.is_empty() {
            self.say("Its last words:", theme.dim);
            for line in &run.last_words {
                self.say(line, theme.text);
            }
        }
        let (step, total, epoch) = (state.step, state.total_steps, state.epoch);
        self.name("progress", format!("step {step}/{total}, epoch {epoch}"));
        if let Some(reward) = state.reward {
            self.name("reward", compact(reward));
        }
        if let Some(best) = &state.best {
            let point = point_of(&best.file);
            self.name(
                "best",
                format!("{point} with Final Mean {:.4}", best.final_mean),
            );
        }
        let point = state.latest_checkpoint.map(|point| point.to_string());
        self.name("save point", point.as_deref().unwrap_or("none yet"));
        let (started, updated) = (age(now, state.started), age(now, state.updated));
        self.name(
            "time",
            format!("started {started}, last heard of {updated}"),
        );
        let RunState {
            pid, host, device, ..
        } = state;
        self.name("process", format!("{pid} on {host}, device {device}"));
    }
}

/// What a condition means, and what can be done about it.
fn meaning(run: &RunEntry) -> String {
    let hint = Run::from(run).resume_hint();
    match run.condition() {
        Condition::Running => "running; enter shows it".to_owned(),
        Condition::Paused => "paused; p continues it".to_owned(),
        Condition::Starting => "starting: what it needs is being loaded".to_owned(),
        Condition::Dead => format!("dead: its process has exited. {hint}"),
        Condition::Failed => format!("failed. {hint}"),
        Condition::Stopped => format!("stopped on request. {hint}"),
        Condition::Finished => "finished; enter shows its ranking".to_owned(),
        Condition::Elsewhere => "running on another machine, as far as is known".to_owned(),
        Condition::Unreadable => "its run.json cannot be read".to_owned(),
    }
}
