//! A child process whose three streams are served by threads, so that neither side ever blocks on a
//! full pipe.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::protocol::{Answer, read_answer};

/// Longest line of standard output, in bytes. Each line is parsed as it is read, so a program that
/// never stops writing fills only one of them.
const MAX_LINE: usize = 1 << 20;
/// Answers that can be queued before the process blocks.
const MAX_WAITING_ANSWERS: usize = 1 << 16;
/// Lines of standard error that are kept, and bytes of each.
const STDERR_LINES: usize = 20;
const STDERR_LINE: usize = 400;
/// The time that a process has to end after it closed its output, or after its input was closed
/// because it was dropped.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// The time that the last lines of standard error have to arrive.
const STDERR_GRACE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(5);

/// What the process did.
#[derive(Debug)]
pub(super) enum Event {
    /// It wrote a line: an index with its reward, or the problem with the line.
    Line {
        at: Instant,
        answer: Result<(u64, Answer), String>,
    },
    /// It wrote a line that is too long to be read to its end.
    LineTooLong { limit: usize },
    /// Its standard output ended.
    Closed,
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct EndReport {
    /// Its status, if it ended by itself.
    pub status: Option<ExitStatus>,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}

/// A process in its own group. Dropping it ends the group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    streams: Streams,
    is_reaped: bool,
}

/// The ends of the threads that serve a process.
#[derive(Debug)]
struct Streams {
    /// `None` once the standard input is closed.
    input: Option<Sender<Vec<u8>>>,
    events: Receiver<Event>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: JoinHandle<()>,
}

impl Process {
    /// Starts `argv[0]` with the rest as its arguments.
    pub(super) fn start(argv: &[String]) -> io::Result<Self> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "its command is empty",
            ));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the terminal must only reach the trainer, which still needs the
            // rewards of its current step.
            .process_group(0)
            .spawn()?;
        match Self::serve(&mut child) {
            Ok(streams) => Ok(Self {
                child,
                streams,
                is_reaped: false,
            }),
            Err(error) => {
                // Nothing can be done about a failure here.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Starts the threads that serve the three streams.
    fn serve(child: &mut Child) -> io::Result<Streams> {
        let (Some(stdin), Some(stdout), Some(stderr_pipe)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("its streams were not opened"));
        };
        let (input, batches) = channel();
        let (sender, events) = sync_channel(MAX_WAITING_ANSWERS);
        let stderr: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let kept = Arc::clone(&stderr);
        let thread = |name: &str| thread::Builder::new().name(format!("reward {name}"));
        thread("input").spawn(move || write_batches(stdin, &batches))?;
        thread("output").spawn(move || read_lines(stdout, &sender))?;
        let stderr_reader = thread("errors").spawn(move || keep_last_lines(stderr_pipe, &kept))?;
        Ok(Streams {
            input: Some(input),
            events,
            stderr,
            stderr_reader,
        })
    }

    /// Queues bytes for standard input. A process that no longer reads is noticed because its
    /// answers are missing.
    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        if let Some(input) = &self.streams.input {
            // Fails only once the process has closed its input.
            let _ = input.send(bytes);
        }
    }

    /// The events of the process, in order.
    pub(super) fn events(&self) -> &Receiver<Event> {
        &self.streams.events
    }

    /// Whether the process has ended by itself. It stays unreaped, so that its id still names its own
    /// group.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let id = WaitId::Pid(Pid::from_child(&self.child));
        self.is_reaped || matches!(waitid(id, options), Ok(Some(_)))
    }

    /// Ends the process and everything in its group. `immediately` gives it no time to end by itself;
    /// its status is then not reported.
    pub(super) fn end(mut self, immediately: bool) -> EndReport {
        if !immediately {
            self.wait_for_end(EXIT_GRACE);
        }
        let ended_by_itself = !immediately && self.has_ended();
        let status = self.kill_and_reap();
        let deadline = Instant::now() + STDERR_GRACE;
        while !self.streams.stderr_reader.is_finished() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        let stderr = self
            .streams
            .stderr
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        EndReport {
            status: status.filter(|_| ended_by_itself),
            stderr: stderr.iter().cloned().collect(),
        }
    }

    fn wait_for_end(&self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
    }

    fn kill_and_reap(&mut self) -> Option<ExitStatus> {
        if self.is_reaped {
            return None;
        }
        self.streams.input = None;
        // Fails only if no process of the group is left.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        self.is_reaped = true;
        self.child.wait().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.streams.input = None;
            self.wait_for_end(EXIT_GRACE);
            self.kill_and_reap();
        }
    }
}

fn write_batches(mut stdin: ChildStdin, batches: &Receiver<Vec<u8>>) {
    while let Ok(bytes) = batches.recv() {
        if stdin.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: impl Read, events: &SyncSender<Event>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let event = match read_line(&mut reader, MAX_LINE) {
            Ok(Some((_, true))) => Event::LineTooLong { limit: MAX_LINE },
            Ok(Some((bytes, false))) => Event::Line {
                at: Instant::now(),
                answer: read_answer(&bytes),
            },
            Ok(None) | Err(_) => Event::Closed,
        };
        let is_last = matches!(event, Event::Closed);
        if events.send(event).is_err() || is_last {
            return;
        }
    }
}

fn keep_last_lines(stderr: impl Read, kept: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(stderr);
    while let Ok(Some((bytes, _))) = read_line(&mut reader, STDERR_LINE) {
        let line = String::from_utf8_lossy(&bytes).into_owned();
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == STDERR_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// A line without its line end, and whether it was cut at `limit` bytes; `None` at the end of the
/// input.
fn read_line(reader: &mut impl BufRead, limit: usize) -> io::Result<Option<(Vec<u8>, bool)>> {
    let mut line = Vec::new();
    let mut is_cut = false;
    let mut is_empty_input = true;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok((!is_empty_input).then_some((line, is_cut)));
        }
        is_empty_input = false;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = limit - line.len();
        is_cut |= part.len() > room;
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            line.shrink_to_fit();
            return Ok(Some((line, is_cut)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_and_cut_at_the_limit() {
        let mut reader = BufReader::with_capacity(3, "가\n\n1234567\nend".as_bytes());
        let mut next = || {
            read_line(&mut reader, 5)
                .unwrap()
                .map(|(bytes, is_cut)| (String::from_utf8(bytes).unwrap(), is_cut))
        };
        assert_eq!(next(), Some(("가".to_owned(), false)));
        assert_eq!(next(), Some((String::new(), false)));
        assert_eq!(next(), Some(("12345".to_owned(), true)));
        assert_eq!(next(), Some(("end".to_owned(), false)));
        assert_eq!(next(), None);
    }

    #[test]
    fn only_the_last_lines_of_standard_error_are_kept() {
        let text: String = (0..100).map(|number| format!("{number}\n")).collect();
        let kept = Mutex::default();
        keep_last_lines(text.as_bytes(), &kept);
        let kept = kept.into_inner().unwrap();
        assert_eq!(kept.len(), STDERR_LINES);
        assert_eq!((&*kept[0], &*kept[19]), ("80", "99"));
    }
}
