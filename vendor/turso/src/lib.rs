//! Stand-in for `turso` with no SQL engine behind it.
//!
//! CubeCL keeps compiled kernels and tuning results in one table with four columns, through
//! `cubecl-environment`, which asks the crate `turso` for it: a whole SQL database, a tenth of the work
//! of a clean build, for about twenty fixed statements. This crate has the surface which that one crate
//! uses and knows these statements by their text. Any other statement is an error. The rows are in one
//! append-only file; `log.rs` has its format and what it guarantees.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod log;
mod sql;
mod value;

use log::Log;
pub use value::{FromValue, IntoParams, Row, Rows, Value};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Another connection or another process held the file for longer than the busy timeout.
    Busy(String),
    /// Never returned; `cubecl-environment` names it.
    BusySnapshot(String),
    /// Never returned; `cubecl-environment` makes it.
    IoError(std::io::ErrorKind, &'static str),
    /// The file could not be read or written, or is not a cache.
    Error(String),
    /// A statement that this crate does not know.
    Misuse(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoError(kind, doing) => write!(f, "{doing}: {kind}"),
            Self::Busy(text)
            | Self::BusySnapshot(text)
            | Self::Error(text)
            | Self::Misuse(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::WouldBlock => Self::Busy(error.to_string()),
            _ => Self::Error(error.to_string()),
        }
    }
}

/// What to open and how.
pub struct Builder {
    path: String,
    read_only: bool,
}

impl Builder {
    /// The file at `path`, read and written. It is created where there is none.
    pub fn new_local(path: &str) -> Self {
        Self {
            path: path.into(),
            read_only: false,
        }
    }

    /// Several processes can always share a file.
    pub fn experimental_multiprocess_wal(self, _: bool) -> Self {
        self
    }

    /// `VACUUM` always works.
    pub fn experimental_vacuum(self, _: bool) -> Self {
        self
    }

    /// Opens a file that exists and never writes it.
    pub fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// Opens the file. A database in SQLite's format, which the real `turso` wrote, is replaced when
    /// it is opened for writing: it is a cache, so the cost is one cold start.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or locked, or is not a cache.
    pub async fn build(self) -> Result<Database> {
        let log = Log::open(Path::new(&self.path), !self.read_only)?;
        let state = Mutex::new(State {
            log,
            owner: None,
            connections: 0,
        });
        Ok(Database(Arc::new(Shared {
            state,
            released: Condvar::new(),
        })))
    }
}

/// One open file; its connections share the index of its rows.
pub struct Database(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Signalled when a transaction ends.
    released: Condvar,
}

struct State {
    log: Log,
    /// The connection whose transaction is open. The others wait, readers too, because the index
    /// already holds what the transaction changes.
    owner: Option<u64>,
    connections: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    pub fn connect(&self) -> Result<Connection> {
        let mut state = self.0.lock();
        state.connections += 1;
        Ok(Connection {
            id: state.connections,
            shared: self.0.clone(),
            timeout: Mutex::default(),
        })
    }
}

pub struct Connection {
    id: u64,
    shared: Arc<Shared>,
    timeout: Mutex<Duration>,
}

impl Connection {
    /// How long a statement waits for another connection or process. Default: not at all.
    pub fn busy_timeout(&self, timeout: Duration) -> Result<()> {
        *self.timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
        Ok(())
    }

    fn timeout(&self) -> Duration {
        *self.timeout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, once no other connection has a transaction open.
    fn turn(&self) -> Result<MutexGuard<'_, State>> {
        let (state, waited) = self
            .shared
            .released
            .wait_timeout_while(self.shared.lock(), self.timeout(), |state| {
                state.owner.is_some_and(|owner| owner != self.id)
            })
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(Error::Busy(
                "another connection has a transaction open".into(),
            ));
        }
        Ok(state)
    }

    /// The rows of a `SELECT`.
    pub async fn query(&self, sql: impl AsRef<str>, params: impl IntoParams) -> Result<Rows> {
        let log = &mut self.turn()?.log;
        log.refresh()?;
        Ok(Rows(
            sql::query(log, sql.as_ref(), &params.into_params())?.into_iter(),
        ))
    }

    /// Runs any other statement; returns how many rows it changed.
    pub async fn execute(&self, sql: impl AsRef<str>, params: impl IntoParams) -> Result<u64> {
        let mut state = self.turn()?;
        let in_transaction = state.owner.is_some();
        let log = &mut state.log;
        if !in_transaction {
            log.begin(self.timeout())?;
        }
        let changed = sql::execute(log, sql.as_ref(), &params.into_params());
        if !in_transaction {
            match changed {
                Ok(_) => log.commit()?,
                Err(_) => log.roll_back(),
            }
        }
        changed
    }

    /// `synchronous = NORMAL` is how the file is written anyway; `wal_checkpoint(TRUNCATE)` syncs it
    /// and answers with a row that begins with 0, for done.
    pub async fn pragma_query(
        &self,
        pragma: &str,
        mut row: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        match pragma {
            "synchronous = NORMAL" => Ok(()),
            "wal_checkpoint(TRUNCATE)" => {
                self.turn()?.log.sync()?;
                row(&Row(vec![Value::Integer(0)]))
            }
            _ => Err(Error::Misuse(format!("unknown pragma: {pragma}"))),
        }
    }

    /// Locks the file for writing until the transaction is committed or dropped, whatever `_behavior`
    /// says.
    pub async fn transaction_with_behavior(
        &mut self,
        _behavior: transaction::TransactionBehavior,
    ) -> Result<transaction::Transaction<'_>> {
        let mut state = self.turn()?;
        state.log.begin(self.timeout())?;
        state.owner = Some(self.id);
        drop(state);
        Ok(transaction::Transaction(self))
    }

    /// Ends the transaction of this connection, if one is open.
    fn end(&self, finish: impl FnOnce(&mut Log) -> Result<()>) -> Result<()> {
        let mut state = self.shared.lock();
        if state.owner != Some(self.id) {
            return Ok(());
        }
        state.owner = None;
        self.shared.released.notify_all();
        finish(&mut state.log)
    }
}

pub mod transaction {
    use super::{Connection, Deref, Result};

    #[derive(Clone, Copy, Debug)]
    pub enum TransactionBehavior {
        Deferred,
        Immediate,
    }

    /// Statements that take effect together. Dropped without [`commit`](Self::commit), it is rolled back.
    pub struct Transaction<'connection>(pub(super) &'connection Connection);

    impl Transaction<'_> {
        /// # Errors
        ///
        /// When the file cannot be written; the transaction is rolled back then.
        pub async fn commit(self) -> Result<()> {
            self.0.end(|log| Ok(log.commit()?))
        }
    }

    impl Drop for Transaction<'_> {
        fn drop(&mut self) {
            let _ = self.0.end(|log| {
                log.roll_back();
                Ok(())
            });
        }
    }

    impl Deref for Transaction<'_> {
        type Target = Connection;

        fn deref(&self) -> &Connection {
            self.0
        }
    }
}
