//! Carrying out what `update` asks for. Reading and writing happen in threads; what only the
//! loop can do, since the terminal is its own, comes back as a [`Wish`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, bail};
use moim_core::run::{Control, publish};
use ratatui::buffer::Buffer;

use super::Options;
use super::data::readers::Readers;
use super::message::{Effect, Message, Outcome};
use super::terminal::text_of;
use super::{launch, picture, queue};

/// What the loop has to do with the terminal.
#[derive(Debug)]
pub enum Wish {
    Quit,
    Redraw,
    Suspend,
    DumpScreen,
    SetMouse(bool),
    Copy(String),
    Edit(PathBuf),
}

/// The workers.
pub struct Effects {
    readers: Readers,
    outputs: PathBuf,
    sender: Sender<Message>,
}

impl Effects {
    /// Starts the readers.
    pub fn start(options: &Options, sender: Sender<Message>) -> Self {
        let readers = Readers::start(
            &options.experiments,
            &options.outputs,
            sender.clone(),
            options.is_polling,
        );
        Self {
            readers,
            outputs: options.outputs.clone(),
            sender,
        }
    }

    /// The queue of an earlier terminal; a broken file is told of and left.
    pub fn kept_queue(&self) -> Vec<PathBuf> {
        queue::read(&self.outputs).unwrap_or_else(|problem| {
            self.tell(Outcome::Failed(problem));
            Vec::new()
        })
    }

    /// Carries an effect out, or hands it to the loop.
    pub fn carry_out(&mut self, effect: Effect) -> Option<Wish> {
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
                Ok(Outcome::Told(format!(
                    "asked the trainer of {}: {}",
                    run.display(),
                    request.as_str()
                )))
            }),
            Effect::Kill { run } => self.spawn(move |_| {
                let pid = launch::kill(&run)?;
                Ok(Outcome::Told(format!("process {pid} was killed")))
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
                    self.tell(Outcome::Failed(problem));
                }
            }
            Effect::Copy(text) => return Some(Wish::Copy(text)),
            Effect::OpenInEditor(path) => return Some(Wish::Edit(path)),
            Effect::DumpScreen => return Some(Wish::DumpScreen),
            Effect::SetMouse(is_on) => return Some(Wish::SetMouse(is_on)),
            Effect::Suspend => return Some(Wish::Suspend),
            Effect::Redraw => return Some(Wish::Redraw),
            Effect::Quit => return Some(Wish::Quit),
        }
        None
    }

    fn spawn(&self, work: impl FnOnce(Sender<Message>) -> Result<Outcome> + Send + 'static) {
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let outcome = work(sender.clone())
                .unwrap_or_else(|error| Outcome::Failed(crate::failure::describe(&error)));
            // Nobody listens any more when the program has ended.
            let _ = sender.send(Message::Done(outcome));
        });
    }

    fn tell(&self, outcome: Outcome) {
        let _ = self.sender.send(Message::Done(outcome));
    }
}

/// Writes a file as a whole. One that is there is replaced only where it still says what the
/// person saw.
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
            "{} was changed by somebody else meanwhile; it is left as it is",
            path.display()
        ),
        (Ok(_), None) => bail!(
            "{} is there already and is not written over; choose another name",
            path.display()
        ),
        _ => {}
    }
    Ok(publish(path, text.as_bytes())?)
}

/// Writes the screen to the current folder, as text and as a picture.
pub fn dump(screen: &Buffer) -> Outcome {
    let stamp = jiff::Zoned::now().strftime("%Y-%m-%d_%H-%M-%S");
    let text = PathBuf::from(format!("moim-screen-{stamp}.txt"));
    let picture = text.with_extension("svg");
    let written = write(&text, &text_of(screen), None)
        .and_then(|()| write(&picture, &picture::svg(screen), None));
    match written {
        Ok(()) => Outcome::Told(format!(
            "written: {} and {}",
            text.display(),
            picture.display()
        )),
        Err(error) => Outcome::Failed(crate::failure::describe(&error)),
    }
}

/// Opens a file in the person's editor and waits for its end.
pub fn edit(path: &Path) -> Outcome {
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
