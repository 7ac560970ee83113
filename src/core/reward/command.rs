//! Rewards that another program computes.
//!
//! The program is started once and answers batch after batch in the form that [`super::protocol`]
//! describes. If it ends early, answers late or answers something else, that is an error that names
//! it, never a reward of 0: a zero would train the model on the failure.

use std::ops::Range;
use std::process::ExitStatus;
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::RewardSample;
use super::process::{Event, Process};
use super::protocol::{ANSWER_FORM, Answer, write_request};

/// The interval at which a silent program is checked for having ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The longest time-out (a year); a much longer one would overflow the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A reward command failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("reward command `{name}` ({command}) {problem}{}", StderrLines(stderr))]
pub struct CommandError {
    /// The name of the reward.
    pub name: String,
    /// The program and its arguments, as they would be typed.
    pub command: String,
    /// What happened, and how to fix it.
    pub problem: String,
    /// The last lines that the program wrote to its standard error.
    pub stderr: Vec<String>,
}

struct StderrLines<'a>(&'a [String]);

impl std::fmt::Display for StderrLines<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        formatter.write_str("\nits standard error ended with:")?;
        self.0
            .iter()
            .try_for_each(|line| write!(formatter, "\n  {line}"))
    }
}

/// A running program that computes one reward.
#[derive(Debug)]
pub struct CommandReward {
    name: String,
    command: String,
    timeout: Duration,
    process: Option<Process>,
    /// Why there is no longer a process.
    ended: String,
    next_index: u64,
    pending: Option<Batch>,
    /// Indices of batches that were sent and never collected.
    abandoned: Vec<Range<u64>>,
    /// Rewards that were NaN or infinite since [`Self::take_nonfinite`] was last called.
    nonfinite: usize,
}

/// A batch that was sent and is not answered yet.
#[derive(Debug)]
struct Batch {
    indices: Range<u64>,
    deadline: Instant,
}

impl CommandReward {
    /// Starts `argv` in its own process group. `timeout` is for a whole batch, from sending it to its
    /// last answer.
    ///
    /// # Errors
    /// `argv` is empty, or the program cannot be started.
    pub fn start(name: &str, argv: &[String], timeout: Duration) -> Result<Self, CommandError> {
        let mut reward = Self {
            name: name.to_owned(),
            command: argv.join(" "),
            timeout: timeout.min(LONGEST_TIMEOUT),
            process: None,
            ended: String::new(),
            next_index: 0,
            pending: None,
            abandoned: Vec::new(),
            nonfinite: 0,
        };
        match Process::start(argv) {
            Ok(process) => {
                reward.process = Some(process);
                Ok(reward)
            }
            Err(error) => {
                let problem = format!(
                    "cannot be started: {error}; check the path and the permissions of `{}`",
                    argv.first().map_or("", String::as_str)
                );
                Err(reward.error(problem, Vec::new()))
            }
        }
    }

    /// The name of the reward.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a batch without waiting for its answers. An earlier batch that was never collected is
    /// abandoned: its answers are ignored.
    ///
    /// # Errors
    /// The program has ended because of an earlier error.
    pub fn send(&mut self, samples: &[RewardSample<'_>]) -> Result<(), CommandError> {
        let first_index = self.next_index;
        let mut lines = Vec::new();
        for (sample, index) in samples.iter().zip(first_index..) {
            if let Err(error) = write_request(&mut lines, sample, index) {
                return Err(self.error(format!("cannot be sent a sample: {error}"), Vec::new()));
            }
        }
        let Some(process) = &mut self.process else {
            let problem = format!("was stopped earlier: it {}", self.ended);
            return Err(self.error(problem, Vec::new()));
        };
        process.send(lines);
        self.next_index += samples.len() as u64;
        let batch = Batch {
            indices: first_index..self.next_index,
            deadline: Instant::now() + self.timeout,
        };
        if let Some(previous) = self.pending.replace(batch) {
            self.abandoned.push(previous.indices);
        }
        Ok(())
    }

    /// Waits for the answers to the batch that was sent last and returns them in the order of its
    /// samples.
    ///
    /// # Errors
    /// The program ends, is late, or writes a line that is not an answer. It is then killed, with
    /// everything it started.
    pub fn collect(&mut self) -> Result<Vec<Option<f64>>, CommandError> {
        let Some(batch) = self.pending.take() else {
            return Ok(Vec::new());
        };
        let mut answers: Vec<Slot> = batch.indices.clone().map(|_| Slot::Awaited).collect();
        let mut missing = answers.len();
        while missing > 0 {
            let answered = match self.next_line(batch.deadline) {
                Ok(answer) => self
                    .record_answer(answer, &batch.indices, &mut answers)
                    .map_err(Failure::BadAnswer),
                Err(failure) => Err(failure),
            };
            match answered {
                Ok(is_new) => missing -= usize::from(is_new),
                Err(failure) => return Err(self.fail(&failure, missing, answers.len())),
            }
        }
        Ok(answers
            .into_iter()
            .map(|answer| match answer {
                Slot::Answered(reward) => reward,
                Slot::Awaited => None,
            })
            .collect())
    }

    /// The answer on the program's next line before `deadline`.
    fn next_line(&mut self, deadline: Instant) -> Result<Result<(u64, Answer), String>, Failure> {
        let mut was_seen_ended = false;
        loop {
            let Some(process) = &mut self.process else {
                return Err(Failure::Ended);
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let event = if left.is_zero() {
                process.events().try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                })
            } else {
                process.events().recv_timeout(left.min(POLL_INTERVAL))
            };
            match event {
                // It was written in time, even if it is only read now.
                Ok(Event::Line { at, answer }) if at <= deadline => return Ok(answer),
                Ok(Event::Line { .. }) => return Err(Failure::Late),
                Ok(Event::LineTooLong { limit }) => return Err(Failure::LineTooLong { limit }),
                Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Ended);
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Failure::Late),
                // A child of the program can keep its output open forever. Everything the program
                // wrote before it ended has arrived by the second poll.
                Err(RecvTimeoutError::Timeout) if was_seen_ended => return Err(Failure::Ended),
                Err(RecvTimeoutError::Timeout) => was_seen_ended = process.has_ended(),
            }
        }
    }

    /// The number of rewards that were NaN or infinite since the last call; they count as missing.
    pub(super) fn take_nonfinite(&mut self) -> usize {
        std::mem::take(&mut self.nonfinite)
    }

    /// Records the answer of a line. Returns false if it belongs to an abandoned batch.
    fn record_answer(
        &mut self,
        answer: Result<(u64, Answer), String>,
        indices: &Range<u64>,
        answers: &mut [Slot],
    ) -> Result<bool, String> {
        let (index, reward) = answer?;
        if self.abandoned.iter().any(|batch| batch.contains(&index)) {
            return Ok(false);
        }
        let position = index
            .checked_sub(indices.start)
            .and_then(|position| usize::try_from(position).ok());
        match position.and_then(|position| answers.get_mut(position)) {
            Some(answer @ Slot::Awaited) => {
                *answer = Slot::Answered(match reward {
                    Answer::Number(number) => Some(number),
                    Answer::Missing | Answer::NotFinite => None,
                });
                self.nonfinite += usize::from(reward == Answer::NotFinite);
                Ok(true)
            }
            Some(Slot::Answered(_)) => Err(format!("answered index {index} twice: {ANSWER_FORM}")),
            None => Err(format!(
                "answered index {index}, which is not in this batch ({indices:?}): {ANSWER_FORM}"
            )),
        }
    }

    /// Kills the program and returns the error.
    fn fail(&mut self, failure: &Failure, missing: usize, asked: usize) -> CommandError {
        let Some(process) = self.process.take() else {
            let problem = format!("was stopped earlier: it {}", self.ended);
            return self.error(problem, Vec::new());
        };
        let was_asked_to_end = !matches!(failure, Failure::Ended);
        let report = process.end(was_asked_to_end);
        let unanswered = format!("{missing} of the {asked} samples of the batch");
        self.ended = match failure {
            Failure::Late => format!(
                "answered too late: after {} s, {unanswered} had no answer; make it faster, \
                 flush its output after each batch, or raise its timeout_seconds",
                self.timeout.as_secs_f64()
            ),
            Failure::Ended => match report.status {
                Some(status) => format!(
                    "ended with {}, leaving {unanswered} without an answer; it must run until \
                     its standard input ends",
                    status_text(status)
                ),
                None => {
                    format!("closed its standard output, leaving {unanswered} without an answer")
                }
            },
            Failure::LineTooLong { limit } => format!(
                "wrote a line of more than {limit} bytes to its standard output, which is only for \
                 answers"
            ),
            Failure::BadAnswer(problem) => problem.clone(),
        };
        self.error(self.ended.clone(), report.stderr)
    }

    fn error(&self, problem: String, stderr: Vec<String>) -> CommandError {
        CommandError {
            name: self.name.clone(),
            command: self.command.clone(),
            problem,
            stderr,
        }
    }
}

/// The state of one sample of a batch.
enum Slot {
    Awaited,
    Answered(Option<f64>),
}

/// Why a batch will not be answered.
enum Failure {
    Late,
    Ended,
    LineTooLong { limit: usize },
    BadAnswer(String),
}

fn status_text(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each line with its own index and the given reward.
    const ECHO: &str = r#"sed -u 's/.*"index":\([0-9]*\)}$/{"index":\1,"reward":0.25}/'"#;

    fn start(script: &str, timeout: Duration) -> CommandReward {
        let argv = ["sh", "-c", script].map(str::to_owned);
        CommandReward::start("custom", &argv, timeout).unwrap()
    }

    fn samples(count: usize) -> Vec<RewardSample<'static>> {
        vec![
            RewardSample {
                id: "7",
                prompt: "질문",
                completion: "\"답\"이 옳다.\n이유",
                label: "\"답\"이 옳다.",
                question_type: "선택형",
                tokens: 0,
                step: 3,
            };
            count
        ]
    }

    fn ask(reward: &mut CommandReward, count: usize) -> Result<Vec<Option<f64>>, CommandError> {
        reward.send(&samples(count))?;
        reward.collect()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn answers_come_batch_after_batch_from_one_process() {
        let mut reward = start(ECHO, LONG);
        assert_eq!(ask(&mut reward, 3).unwrap(), [Some(0.25); 3]);
        assert_eq!(ask(&mut reward, 2).unwrap(), [Some(0.25); 2]);
        assert_eq!(ask(&mut reward, 0).unwrap(), []);
    }

    #[test]
    fn a_batch_larger_than_any_pipe_is_answered() {
        let mut reward = start(ECHO, LONG);
        let long = "가".repeat(2000);
        let samples: Vec<RewardSample<'_>> = samples(200)
            .into_iter()
            .map(|sample| RewardSample {
                completion: &long,
                ..sample
            })
            .collect();
        reward.send(&samples).unwrap();
        assert_eq!(reward.collect().unwrap(), [Some(0.25); 200]);
    }

    #[test]
    fn answers_may_come_in_any_order_and_be_null() {
        let script = r#"read a; read b; read c
            echo '{"index":2,"reward":null}'
            echo '{"index":0,"reward":-1}'
            echo '{"index":1,"reward":0.5,"note":"extra keys are fine"}'
            cat >/dev/null"#;
        let mut reward = start(script, LONG);
        assert_eq!(ask(&mut reward, 3).unwrap(), [Some(-1.0), Some(0.5), None]);
    }

    #[test]
    fn the_program_reads_one_json_object_per_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!(
            "read -r line; printf '%s' \"$line\" > '{}'; echo '{{\"index\":0,\"reward\":1}}'; cat",
            file.path().display()
        );
        let mut reward = start(&script, LONG);
        assert_eq!(ask(&mut reward, 1).unwrap(), [Some(1.0)]);
        let line = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(
            line,
            r#"{"id":"7","prompt":"질문","completion":"\"답\"이 옳다.\n이유","label":"\"답\"이 옳다.","question_type":"선택형","step":3,"index":0}"#
        );
    }

    #[test]
    fn a_crash_names_the_command_its_status_and_its_last_lines() {
        let mut reward = start("read line; echo 'no such table: norms' >&2; exit 3", LONG);
        let message = ask(&mut reward, 2).unwrap_err().to_string();
        for part in [
            "reward command `custom` (sh -c",
            "ended with exit status 3, leaving 2 of the 2 samples",
            "no such table: norms",
        ] {
            assert!(message.contains(part), "{part:?} is not in {message}");
        }
        let message = ask(&mut reward, 1).unwrap_err().to_string();
        assert!(
            message.contains("was stopped earlier: it ended with"),
            "{message}"
        );
    }

    #[test]
    fn a_signal_is_named_too() {
        let mut reward = start("read line; kill -SEGV $$", LONG);
        let message = ask(&mut reward, 1).unwrap_err().to_string();
        assert!(message.contains("ended with signal 11"), "{message}");
    }

    #[test]
    fn an_end_is_seen_even_if_a_child_holds_the_output_open() {
        let mut reward = start("sleep 300 & exit 4", LONG);
        let message = ask(&mut reward, 1).unwrap_err().to_string();
        assert!(message.contains("exit status 4"), "{message}");
    }

    #[test]
    fn a_late_answer_is_an_error() {
        let script = "read a; echo '{\"index\":0,\"reward\":1}'; sleep 300";
        let mut reward = start(script, Duration::from_millis(300));
        let error = ask(&mut reward, 2).unwrap_err();
        assert!(
            error.problem.contains("after 0.3 s, 1 of the 2 samples")
                && error.problem.contains("timeout_seconds"),
            "{error}"
        );
    }

    #[test]
    fn an_answer_after_the_time_out_is_late_even_if_it_was_not_polled_before() {
        let dir = tempfile::tempdir().unwrap();
        let written = dir.path().join("written");
        let script = format!(
            "read a; sleep 0.3; echo '{{\"index\":0,\"reward\":1}}'; : > '{}'; cat >/dev/null",
            written.display()
        );
        let mut reward = start(&script, Duration::from_millis(100));
        reward.send(&samples(1)).unwrap();
        let deadline = Instant::now() + LONG;
        while !written.exists() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(written.exists());
        let error = reward.collect().unwrap_err();
        assert!(error.problem.contains("answered too late"), "{error}");
    }

    #[test]
    fn lines_that_are_not_answers_are_errors() {
        for (line, part) in [
            ("loading model", "`loading model`, which is not JSON"),
            (r#"{"index":0}"#, "neither a number nor null"),
            (
                r#"{"index":9,"reward":1}"#,
                "answered index 9, which is not",
            ),
        ] {
            let mut reward = start(&format!("echo '{line}'; cat >/dev/null"), LONG);
            let message = ask(&mut reward, 2).unwrap_err().to_string();
            assert!(message.contains(part), "{part:?} is not in {message}");
            assert!(message.contains("`custom`"), "{message}");
        }
        let answer = r#"echo '{"index":0,"reward":1}'"#;
        let mut reward = start(&format!("{answer}; {answer}; cat >/dev/null"), LONG);
        let message = ask(&mut reward, 2).unwrap_err().to_string();
        assert!(message.contains("index 0 twice"), "{message}");
    }

    #[test]
    fn answers_to_an_abandoned_batch_are_ignored() {
        let mut reward = start(ECHO, LONG);
        reward.send(&samples(2)).unwrap();
        assert_eq!(ask(&mut reward, 1).unwrap(), [Some(0.25)]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let argv = ["/nowhere/scorer".to_owned()];
        let message = CommandReward::start("custom", &argv, LONG)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("`custom` (/nowhere/scorer) cannot be started"),
            "{message}"
        );
        assert!(CommandReward::start("custom", &[], LONG).is_err());
    }

    #[test]
    fn dropping_ends_the_program_and_what_it_started() {
        let script = "sleep 300 & echo \"{\\\"index\\\":0,\\\"reward\\\":$!}\"; wait";
        let mut reward = start(script, LONG);
        let child = ask(&mut reward, 1).unwrap()[0].unwrap();
        drop(reward);
        // The signal is sent; the system decides when it takes effect. A killed child may
        // still wait to be reaped by its new parent.
        let deadline = Instant::now() + LONG;
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
                break;
            }
            assert!(Instant::now() < deadline, "still there: {stat}");
            std::thread::yield_now();
        }
    }
}
