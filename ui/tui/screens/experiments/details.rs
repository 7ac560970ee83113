//! Everything about the selected line, and both lists as CSV.

use std::sync::Arc;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::lists::run_id;
use super::rows::batch;
use super::{Experiments, Selected};
use crate::tui::data::index::{Condition, ExperimentFile, RunEntry};
use crate::tui::screens::condition::sign;
use crate::tui::screens::words::{count, point_of};
use crate::tui::state::Context;
use crate::tui::text::{age, compact, wrap};

/// Lines that are collected before they are wrapped.
struct Lines {
    lines: Vec<Line<'static>>,
    room: usize,
}

impl Lines {
    fn say(&mut self, text: &str, style: Style) {
        let wrapped = wrap(text, self.room);
        self.lines
            .extend(wrapped.into_iter().map(|line| Line::styled(line, style)));
    }

    /// A name in front of a value.
    fn tell(&mut self, name: &str, value: &str, context: &Context<'_>) {
        let wrapped = wrap(value, self.room.saturating_sub(LABEL));
        for (index, line) in wrapped.into_iter().enumerate() {
            let label = match index {
                0 => crate::tui::text::fit(name, LABEL),
                _ => " ".repeat(LABEL),
            };
            self.lines.push(Line::from(vec![
                Span::styled(label, context.theme().dim),
                Span::raw(line),
            ]));
        }
    }
}

/// Cells of the names in front of values.
const LABEL: usize = 12;

/// The title and the lines about the selected line, wrapped to `room` cells.
pub fn lines(
    screen: &Experiments,
    context: &Context<'_>,
    room: usize,
) -> (String, Vec<Line<'static>>) {
    let mut lines = Lines {
        lines: Vec::new(),
        room,
    };
    let title = match screen.selected(context) {
        Some(Selected::File(file)) => {
            of_file(&mut lines, screen, file, context);
            file.name.clone()
        }
        Some(Selected::Run(run)) => {
            of_run(&mut lines, screen, run, context);
            run_id(run)
        }
        None => {
            nothing(&mut lines, screen, context);
            "Details".to_owned()
        }
    };
    (title, lines.lines)
}

fn nothing(lines: &mut Lines, screen: &Experiments, context: &Context<'_>) {
    let dim = context.theme().dim;
    let Some(index) = &context.world.index else {
        lines.say("Experiments and runs are being read.", dim);
        return;
    };
    match screen.filter.is_empty() {
        false => lines.say("Nothing passes the filter; esc clears it.", dim),
        true => lines.say(
            &format!(
                "Details of the selected line are shown here. Experiments are the TOML files in {}; \
                 s starts one, and its run appears under {}.",
                index.experiments_dir.display(),
                index.output_dir.display()
            ),
            dim,
        ),
    }
    for problem in &index.problems {
        lines.say(problem, context.theme().warn);
    }
}

fn of_file(lines: &mut Lines, screen: &Experiments, file: &ExperimentFile, context: &Context<'_>) {
    let theme = context.theme();
    if let Some(change) = screen.changes.of(&file.path, context.now) {
        lines.say(&format!("* {change}"), theme.accent);
    }
    for line in &file.description {
        lines.say(line, theme.text);
    }
    match &file.experiment {
        Err(faults) => {
            let count = count(faults.len(), "fault");
            lines.say(
                &format!(
                    "{} {count}; e edits, o opens an editor",
                    context.glyphs().bad
                ),
                theme.bad,
            );
            for fault in faults {
                lines.say(&fault.to_string(), theme.text);
            }
        }
        Ok(experiment) => {
            let marks = context.glyphs().times;
            let names = ["B", "G", "A", "D"].join(marks);
            let numbers = batch(experiment, context.look());
            lines.tell(
                &names,
                &format!("{numbers}, B in {}", experiment.grpo.batch_unit),
                context,
            );
            lines.tell(
                "model",
                &experiment.model.path.display().to_string(),
                context,
            );
        }
    }
    let written = file
        .modified
        .map(|time| format!(", written {}", age(context.now, time)));
    let path = file.path.display();
    lines.tell(
        "file",
        &format!("{path}{}", written.unwrap_or_default()),
        context,
    );
    lines.tell("runs", &runs_of(file, context), context);
}

/// How many runs an experiment has, and the best of them.
fn runs_of(file: &ExperimentFile, context: &Context<'_>) -> String {
    let runs = context.world.index.iter().flat_map(|index| &index.runs);
    let runs: Vec<&Arc<RunEntry>> = runs.filter(|run| run.experiment == file.name).collect();
    let bests = runs.iter().filter_map(|run| {
        let best = run.state.as_ref().ok()?.best.as_ref()?;
        Some((best.final_mean, &run.name))
    });
    let best = bests.max_by(|a, b| a.0.total_cmp(&b.0));
    match (runs.len(), best) {
        (0, _) => "none yet; s starts one".to_owned(),
        (number, Some((mean, name))) => {
            format!("{number}, the best Final Mean is {mean:.4} of {name}")
        }
        (number, None) => number.to_string(),
    }
}

fn of_run(lines: &mut Lines, screen: &Experiments, run: &RunEntry, context: &Context<'_>) {
    let theme = context.theme();
    if let Some(change) = screen.changes.of(&run.path, context.now) {
        lines.say(&format!("* {change}"), theme.accent);
    }
    let condition = run.condition();
    let (sign, style) = sign(condition, context.look());
    lines.say(&format!("{sign} {}", meaning(run)), style);
    let state = match &run.state {
        Ok(state) => state,
        Err(problem) => {
            lines.say(problem, theme.text);
            lines.tell("folder", &run.path.display().to_string(), context);
            return;
        }
    };
    if let Some(message) = &state.message {
        lines.say(message, theme.text);
    }
    if !run.last_words.is_empty() {
        lines.say("Its last words:", theme.dim);
        for line in &run.last_words {
            lines.say(line, theme.text);
        }
    }
    let progress = format!(
        "step {}/{}, epoch {}",
        state.step, state.total_steps, state.epoch
    );
    lines.tell("progress", &progress, context);
    if let Some(reward) = state.reward {
        lines.tell("reward", &compact(reward), context);
    }
    if let Some(best) = &state.best {
        let words = format!(
            "{} with Final Mean {:.4}",
            point_of(&best.file),
            best.final_mean
        );
        lines.tell("best", &words, context);
    }
    let point = match state.latest_checkpoint {
        Some(point) => point.to_string(),
        None => "none yet".to_owned(),
    };
    lines.tell("save point", &point, context);
    let times = format!(
        "started {}, last heard of {}",
        age(context.now, state.started),
        age(context.now, state.updated)
    );
    lines.tell("time", &times, context);
    let process = format!("{} on {}, device {}", state.pid, state.host, state.device);
    lines.tell("process", &process, context);
    lines.tell("folder", &run.path.display().to_string(), context);
}

/// What a condition means, and what can be done about it.
fn meaning(run: &RunEntry) -> String {
    let from = match run
        .state
        .as_ref()
        .ok()
        .and_then(|state| state.latest_checkpoint)
    {
        Some(point) => format!("from {point}"),
        None => "from the start".to_owned(),
    };
    match run.condition() {
        Condition::Running => "running; enter shows it".to_owned(),
        Condition::Paused => "paused; p goes on".to_owned(),
        Condition::Starting => "starting: what it needs is being loaded".to_owned(),
        Condition::Dead => {
            format!("dead: its process is gone. R goes on with it {from}")
        }
        Condition::Failed => format!("failed. R goes on with it {from}"),
        Condition::Stopped => format!("stopped as it was asked. R goes on with it {from}"),
        Condition::Finished => "finished; enter shows its ranking".to_owned(),
        Condition::Elsewhere => "under way on another machine, as far as is known".to_owned(),
        Condition::Unreadable => "its run.json cannot be read".to_owned(),
    }
}

/// The experiment files as CSV.
pub fn files_csv(files: &[&Arc<ExperimentFile>]) -> String {
    let mut text = "name,path,faults,model,B,G,A,D,batch_unit,epochs\n".to_owned();
    for file in files {
        let faults = file.experiment.as_ref().err().map_or(0, Vec::len);
        let mut fields = vec![
            file.name.clone(),
            file.path.display().to_string(),
            faults.to_string(),
        ];
        if let Ok(experiment) = &file.experiment {
            let batch = experiment.batch();
            fields.push(experiment.model.path.display().to_string());
            fields.extend([batch.b, batch.g, batch.a, batch.d].map(|number| number.to_string()));
            fields.push(batch.unit.to_string());
            fields.push(experiment.grpo.num_train_epochs.to_string());
        } else {
            fields.extend(std::iter::repeat_n(String::new(), 7));
        }
        text.push_str(&csv_line(&fields));
    }
    text
}

/// The runs as CSV.
pub fn runs_csv(runs: &[&Arc<RunEntry>]) -> String {
    let mut text =
        "run,path,state,step,total_steps,reward,best_file,best_final_mean,device,started,pid,host\n"
            .to_owned();
    for run in runs {
        let mut fields = vec![
            run_id(run),
            run.path.display().to_string(),
            run.condition().name().to_owned(),
        ];
        if let Ok(state) = &run.state {
            let number = |number: Option<f64>| number.map(|number| number.to_string());
            let best = state.best.as_ref();
            fields.extend([
                state.step.to_string(),
                state.total_steps.to_string(),
                number(state.reward).unwrap_or_default(),
                best.map(|best| best.file.clone()).unwrap_or_default(),
                number(best.map(|best| best.final_mean)).unwrap_or_default(),
                state.device.clone(),
                state.started.to_string(),
                state.pid.to_string(),
                state.host.clone(),
            ]);
        } else {
            fields.extend(std::iter::repeat_n(String::new(), 9));
        }
        text.push_str(&csv_line(&fields));
    }
    text
}

/// A line as RFC 4180 has it.
fn csv_line(fields: &[String]) -> String {
    let quoted = fields
        .iter()
        .map(|field| match field.contains(['"', ',', '\n', '\r']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field.clone(),
        });
    let mut line = quoted.collect::<Vec<String>>().join(",");
    line.push('\n');
    line
}
