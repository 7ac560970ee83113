//! Shows a training run: bars on a terminal, lines on stderr, and with `--json` the run's own events on
//! stdout.

use std::path::Path;

use indicatif::ProgressBar;
use moim_core::journal::{EventSink, Observer, Phase};
use moim_core::run::{Event, EventKind, Step};

use moim_ui::console::{Console, to_stdout};
use moim_ui::signals::StopSignal;

/// Shows the progress of a run.
pub struct Progress {
    console: Console,
    stop: StopSignal,
    /// Whether events are written to stdout.
    is_json: bool,
    logging_steps: usize,
    steps: Option<ProgressBar>,
    phase: Option<(Phase, usize, ProgressBar)>,
    /// Set by the first event.
    directory: Option<String>,
    has_started: bool,
    stdout_error: Option<anyhow::Error>,
}

impl Progress {
    /// `logging_steps` is the number of steps between two lines of metrics.
    pub fn new(console: Console, stop: StopSignal, logging_steps: usize) -> Self {
        Self {
            console,
            stop,
            is_json: false,
            logging_steps: logging_steps.max(1),
            steps: None,
            phase: None,
            directory: None,
            has_started: false,
            stdout_error: None,
        }
    }

    /// Writes every event to stdout if `is_json`.
    #[must_use]
    pub fn with_json(mut self, is_json: bool) -> Self {
        self.is_json = is_json;
        self
    }

    /// Whether the run has written an event.
    pub fn has_started(&self) -> bool {
        self.has_started
    }

    /// The run directory, as named by the first event of a new run.
    pub fn directory(&self) -> Option<&str> {
        self.directory.as_deref()
    }

    /// Removes the bars from the screen and returns the error of stdout, if any.
    pub fn finish(&mut self) -> Option<anyhow::Error> {
        self.end_phase();
        if let Some(bar) = self.steps.take() {
            bar.finish_and_clear();
        }
        self.stdout_error.take()
    }

    fn end_phase(&mut self) {
        if let Some((_, _, bar)) = self.phase.take() {
            bar.finish_and_clear();
        }
    }

    fn write_json(&mut self, event: &Event) {
        if self.stdout_error.is_some() {
            return;
        }
        if let Err(error) = to_stdout(&format!("{}\n", event.to_line())) {
            // There is no longer a reader: the run saves and stops.
            self.stdout_error = Some(error);
        }
    }

    fn show_step(&mut self, taken: &Step) {
        let (step, total) = (taken.step, taken.total_steps);
        if step.is_multiple_of(self.logging_steps) || step == total {
            self.console.note(&taken.to_string());
        }
        if !self.console.has_bars() {
            return;
        }
        match &self.steps {
            Some(bar) => bar.set_position(step as u64),
            None => {
                let bar = self.console.bar("step", total);
                bar.set_position(step as u64);
                // Estimates the remaining time from here, since a resumed run did not run
                // the earlier steps.
                bar.reset_eta();
                self.steps = Some(bar);
            }
        }
    }
}

/// Shows an event that is not a step.
fn show(console: &Console, event: &Event) {
    match &event.kind {
        EventKind::Alarm(_) => console.report(&event.to_string()),
        EventKind::Paused(_) => console.note(&format!(
            "{event}; create control/resume in the run directory to resume"
        )),
        // The checks print their findings before the run starts, and the end is printed after it.
        EventKind::Preflight(_) | EventKind::Done(_) | EventKind::Other(_) => {}
        _ => console.note(&event.to_string()),
    }
}

impl Observer for Progress {
    fn phase(&mut self, phase: Phase, done: usize, total: usize, detail: &str) {
        if !self.console.has_bars() {
            return;
        }
        let is_same =
            matches!(&self.phase, Some((current, of, _)) if (*current, *of) == (phase, total));
        if !is_same {
            self.end_phase();
            self.phase = Some((phase, total, self.console.bar(phase.name(), total)));
        }
        if let Some((_, _, bar)) = &self.phase {
            // Every change redraws, and most calls have the same detail.
            if bar.message() != detail {
                bar.set_message(detail.to_owned());
            }
            bar.set_position(done as u64);
        }
    }

    fn event(&mut self, event: &Event) {
        self.has_started = true;
        self.end_phase();
        let directory = match &event.kind {
            EventKind::Start(start) => start.directory.as_ref(),
            EventKind::Resume(resumed) => resumed.directory.as_ref(),
            _ => None,
        };
        if let Some(directory) = directory {
            self.directory = Some(directory.clone());
            self.console.open_log(&Path::new(directory).join("log.txt"));
        }
        if self.is_json {
            self.write_json(event);
        }
        match &event.kind {
            EventKind::Step(step) => self.show_step(step),
            _ => show(&self.console, event),
        }
    }

    fn event_sink(&self) -> Option<EventSink> {
        let (console, is_json) = (self.console.clone(), self.is_json);
        Some(Box::new(move |event| {
            if is_json {
                // The next event of the run itself meets and reports the same error.
                let _ = to_stdout(&format!("{}\n", event.to_line()));
            }
            show(&console, event);
        }))
    }

    fn notice(&mut self, message: &str) {
        self.console.report(&format!("warning: {message}"));
    }

    fn wants_to_stop(&self) -> bool {
        self.stop.is_requested() || self.stdout_error.is_some()
    }
}
