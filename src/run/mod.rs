//! The run directory: the only thing that a trainer and whoever watches it share.
//!
//! A trainer takes the [`RunLock`], appends to the [`EventLog`] and the [`CompletionLog`], keeps
//! [`RunState`] (run.json) current and takes [`Request`]s from `control/`. A watcher reads the same
//! files, at any time, over any file system, and drops requests. Every file that is not append-only
//! is written beside its place and renamed ([`publish`](publish::publish)), so a reader never sees
//! half of it.

mod checkpoints;
mod completions;
mod control;
mod directory;
mod events;
mod fingerprint;
mod index;
mod jsonl;
mod lock;
mod process;
pub mod publish;
mod reading;
mod state;

pub use checkpoints::{Checkpoint, SavePoint, checkpoints, prune_checkpoints};
pub use completions::{CompletionLog, CompletionRecord};
pub use control::{Control, Request};
pub use directory::RunDir;
pub use events::{Event, EventLog, FieldValue, Observer};
pub use fingerprint::{file_fingerprint, model_fingerprint};
pub use index::{RunEntry, list_runs};
pub use lock::{LockError, LockOwner, RunLock};
pub use process::{Liveness, host_name};
pub use publish::{WriteError, publish};
pub use reading::{BadLine, Follower, Lines, Update, read_lines};
pub use state::{RunState, RunStatus};
