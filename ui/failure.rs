//! Exit codes, and how an error is reported: one message, never a backtrace.

use moim_core::dataset::DataError;
use moim_core::experiment::ExperimentError;
use moim_core::score::{Fault, LabelsError, RankError};

use crate::console::StdoutClosed;

/// The exit codes of the program.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// A check failed, or nothing was found.
    pub const NOTHING: u8 = 1;
    /// Usage or configuration.
    pub const USAGE: u8 = 2;
    /// Training or generating failed.
    pub const FAILED: u8 = 3;
    /// Data that exists but is invalid.
    pub const DATA: u8 = 4;
    /// Added to the number of the signal that ended the program.
    pub const SIGNAL: u8 = 128;
}

/// The result of a command: an exit code, or an error with one.
pub type Outcome = Result<u8, Failure>;

/// An error that ends the program.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    /// The code if the error itself does not determine one.
    otherwise: u8,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    /// Usage or configuration, unless the type of the error determines another code.
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            otherwise: exit::USAGE,
        }
    }
}

/// A failure of work that had started: exit code 3.
pub fn of_work(error: anyhow::Error) -> Failure {
    Failure {
        error,
        otherwise: exit::FAILED,
    }
}

/// Wrong usage: exit code 2.
pub fn usage(message: impl Into<String>) -> Failure {
    Failure::from(anyhow::Error::msg(message.into()))
}

impl Failure {
    /// The exit code. The type of the error distinguishes data from configuration; a path that does not
    /// exist is configuration.
    pub fn code(&self) -> u8 {
        self.error
            .chain()
            .find_map(code_of)
            .unwrap_or(self.otherwise)
    }

    /// The text to print; `None` if the reader of our output has exited.
    pub fn text(&self) -> Option<String> {
        let is_closed = self.error.chain().any(|cause| cause.is::<StdoutClosed>());
        (!is_closed).then(|| describe(&self.error))
    }
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<StdoutClosed>() {
        return Some(exit::DONE);
    }
    if let Some(error) = cause.downcast_ref::<DataError>() {
        return Some(match error {
            DataError::Read { .. } => exit::USAGE,
            _ => exit::DATA,
        });
    }
    // A fault in reading a label file is a `DataError`, the next cause.
    if let Some(LabelsError::Invalid { .. }) = cause.downcast_ref() {
        return Some(exit::DATA);
    }
    if cause.is::<Fault>() {
        return Some(exit::DATA);
    }
    if cause.is::<ExperimentError>() {
        return Some(exit::USAGE);
    }
    match cause.downcast_ref::<RankError>() {
        Some(RankError::NothingFound { .. }) => Some(exit::NOTHING),
        _ => None,
    }
}

/// The error with its causes, without repeating a message that already contains its cause.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if text.contains(message.as_str()) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&message);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;

    use super::*;

    fn unreadable() -> DataError {
        DataError::Read {
            path: "labels.json".into(),
            source: io::Error::from(io::ErrorKind::NotFound),
        }
    }

    #[test]
    fn causes_are_not_repeated() {
        let failure = Failure::from(anyhow::Error::new(unreadable()).context("moim rank"));
        assert_eq!(
            failure.text().as_deref(),
            Some("moim rank: cannot read labels.json: entity not found")
        );
        assert_eq!(failure.code(), exit::USAGE);
    }

    #[test]
    fn the_kind_of_an_error_is_found_under_its_context() {
        let labels = LabelsError::File(unreadable());
        assert_eq!(Failure::from(labels).code(), exit::USAGE);
        let broken = LabelsError::Invalid {
            path: None,
            reason: "no item".to_owned(),
        };
        let error = Err::<(), _>(broken).context("outer").unwrap_err();
        assert_eq!(Failure::from(Fault::new("empty")).code(), exit::DATA);
        assert_eq!(of_work(error).code(), exit::DATA);
        assert_eq!(of_work(anyhow::anyhow!("no memory")).code(), exit::FAILED);
        assert_eq!(usage("wrong").code(), exit::USAGE);
        let nothing = RankError::NothingFound {
            directory: "x".into(),
        };
        assert_eq!(Failure::from(nothing).code(), exit::NOTHING);
        let closed = Failure::from(StdoutClosed);
        assert_eq!((closed.code(), closed.text()), (exit::DONE, None));
    }
}
