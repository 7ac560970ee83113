//! Executing what `update` asks for: reading and writing in threads, and what only the owner of
//! the terminal can do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, bail};
use moim_core::run::{Control, publish};

use super::Options;
use super::data::readers::Readers;
use super::input::{self, Input};
use super::message::{Effect, Message, Outcome};
use super::terminal::{Terminal, text_of};
use super::{launch, picture, queue};

/// The workers and the terminal.
pub struct Effects {
    readers: Readers,
    outputs: PathBuf,
    sender: Sender<Message>,
    input: Input,
    pub terminal: Terminal,
}

impl Effects {
    /// Starts the readers.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub fn start(options: &Options, sender: Sender<Message>, terminal: Terminal) -> Result<Self> {
        let input = Input::start(sender.clone()).context("cannot read from the terminal")?;
        let readers = Readers::start(
            &options.experiments,
            &options.outputs,
            sender.clone(),
            options.is_polling,
        );
        Ok(Self {
            readers,
            outputs: options.outputs.clone(),
            sender,
            input,
            terminal,
        })
    }

    /// The queue of an earlier terminal; a corrupt file is reported and left.
    pub fn kept_queue(&self) -> Vec<PathBuf> {
        queue::read(&self.outputs).unwrap_or_else(|problem| {
            self.report(Outcome::Failed(problem));
            Vec::new()
        })
    }

    /// Executes effects; returns whether the program must end.
    ///
    /// # Errors
    /// The terminal cannot be used.
    pub fn execute(&mut self, effects: Vec<Effect>) -> io::Result<bool> {
        for effect in effects {
            if effect == Effect::Quit {
                return Ok(true);
            }
            self.execute_one(effect)?;
        }
        Ok(false)
    }

    fn execute_one(&mut self, effect: Effect) -> io::Result<()> {
        match effect {
            Effect::Rescan => self.readers.rescan(),
            Effect::OpenRun(run) => self.readers.open_run(&run),
            Effect::CloseRun => self.readers.close_run(),
            Effect::ReadAnswers(query) => self.readers.read_answers(query),
            Effect::Compare { run, files } => self.readers.compare(run, files),
            Effect::ReadPlanFacts(experiment) => self.readers.read_plan_facts(*experiment),
            Effect::FindDuplicates { experiment } => self.readers.find_duplicates(experiment),
            Effect::ReadDifferences(paths) => self.readers.read_differences(paths),
            Effect::Start { experiment } => self.spawn(move |sender| {
                Ok(match launch::start(&experiment, sender) {
                    Ok((run, log)) => Outcome::Started { run, log },
                    Err(error) => Outcome::StartFailed {
                        experiment,
                        last_words: crate::failure::describe(&error),
                    },
                })
            }),
            Effect::Resume { run } => self.spawn(move |sender| {
                let log = launch::resume(&run, sender)?;
                Ok(Outcome::Started { run, log })
            }),
            Effect::Ask { run, request } => self.spawn(move |_| {
                Control::request(&run, request)?;
                Ok(Outcome::Done(format!(
                    "asked the trainer of {}: {}",
                    run.display(),
                    request.as_str()
                )))
            }),
            Effect::Kill { run } => self.spawn(move |_| {
                let pid = launch::kill(&run)?;
                Ok(Outcome::Done(format!("process {pid} was killed")))
            }),
            Effect::Delete { path } => self.spawn(move |_| {
                launch::delete(&path)?;
                Ok(Outcome::Deleted { path })
            }),
            Effect::Write {
                path,
                text,
                replaces,
            } => self.spawn(move |_| {
                write(&path, &text, replaces.as_deref())?;
                Ok(Outcome::Written { path })
            }),
            Effect::KeepQueue(queue) => {
                if let Err(problem) = queue::keep(&self.outputs, &queue) {
                    self.report(Outcome::Failed(problem));
                }
            }
            Effect::Copy(text) => {
                self.terminal.copy(&text)?;
                let words = format!("{} characters copied (OSC 52)", text.chars().count());
                self.report(Outcome::Done(words));
            }
            Effect::OpenInEditor(path) => {
                let outcome = self.lend_terminal(|| edit(&path))?;
                self.report(outcome);
            }
            Effect::DumpScreen => self.report(dump(&self.terminal)),
            Effect::SetMouse(is_on) => self.terminal.set_mouse(is_on)?,
            Effect::Suspend => self.lend_terminal(input::stop_this_process)?,
            Effect::Redraw => self.terminal.clear()?,
            // Ends the loop in `execute`.
            Effect::Quit => {}
        }
        Ok(())
    }

    /// Gives the terminal to another program while `work` runs. It may have another size then.
    fn lend_terminal<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<T> {
        let paused = self.input.pause();
        let result = self.terminal.lend(work)?;
        drop(paused);
        let size = self.terminal.size()?;
        self.send(Message::Resize {
            width: size.width,
            height: size.height,
        });
        Ok(result)
    }

    fn spawn(&self, work: impl FnOnce(Sender<Message>) -> Result<Outcome> + Send + 'static) {
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let outcome = work(sender.clone())
                .unwrap_or_else(|error| Outcome::Failed(crate::failure::describe(&error)));
            // The receiver is closed if the program has ended.
            let _ = sender.send(Message::Done(outcome));
        });
    }

    fn report(&self, outcome: Outcome) {
        self.send(Message::Done(outcome));
    }

    fn send(&self, message: Message) {
        // The receiver lives as long as the loop that executes effects.
        let _ = self.sender.send(message);
    }
}

/// Writes a file as a whole. An existing one is replaced only if its text is still what the user
/// saw.
fn write(path: &Path, text: &str, replaces: Option<&str>) -> Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    match (moim_core::regular_file::read_to_string(path), replaces) {
        (Ok(present), Some(seen)) if present != seen => bail!(
            "{} was changed by another program meanwhile; it is left unchanged",
            path.display()
        ),
        (Ok(_), None) => bail!(
            "{} already exists and is not overwritten; choose another name",
            path.display()
        ),
        _ => {}
    }
    Ok(publish(path, text.as_bytes())?)
}

/// Writes the screen to the current folder, as text and as an image.
fn dump(terminal: &Terminal) -> Outcome {
    let screen = terminal.drawn();
    let stamp = jiff::Zoned::now().strftime("%Y-%m-%d_%H-%M-%S");
    let text = PathBuf::from(format!("moim-screen-{stamp}.txt"));
    let image = text.with_extension("svg");
    let written = write(&text, &text_of(screen), None)
        .and_then(|()| write(&image, &picture::svg(screen), None));
    match written {
        Ok(()) => Outcome::Done(format!(
            "written: {} and {}",
            text.display(),
            image.display()
        )),
        Err(error) => Outcome::Failed(crate::failure::describe(&error)),
    }
}

/// Opens a file in the user's editor and waits for its end.
fn edit(path: &Path) -> Outcome {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let Some(program) = words.next() else {
        return Outcome::Failed("EDITOR is empty; set it to the name of an editor".to_owned());
    };
    match Command::new(program).args(words).arg(path).status() {
        Ok(status) if status.success() => Outcome::Written {
            path: path.to_owned(),
        },
        Ok(status) => Outcome::Failed(format!("{editor} ended with {status}")),
        Err(error) => Outcome::Failed(format!(
            "cannot start {editor:?}: {error}; set VISUAL or EDITOR to an editor"
        )),
    }
}
