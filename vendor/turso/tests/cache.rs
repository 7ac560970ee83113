//! The statements of `cubecl-environment` on a file that is shared, torn, damaged, or an old database's.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use turso::transaction::TransactionBehavior::Immediate;
use turso::{Builder, Connection, Error};

const INSERT: &str = "INSERT INTO entries (namespace, key, value, origin) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT(namespace, key) DO UPDATE SET value = excluded.value, origin = excluded.origin \
    WHERE entries.origin = 1 AND excluded.origin = 0";
const REPLACE: &str = "INSERT INTO entries (namespace, key, value, origin) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT(namespace, key) DO UPDATE SET value = excluded.value, origin = excluded.origin";
const SELECT: &str = "SELECT value FROM entries WHERE namespace = ?1 AND key = ?2";
const PURGE: &str = "DELETE FROM entries WHERE namespace = ?1";

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a statement never waits"),
    }
}

/// A file of its own for a test, in a folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("turso-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("default.db")
    }

    fn open(&self) -> Result<Connection, Error> {
        self.open_as(false)
    }

    fn open_as(&self, read_only: bool) -> Result<Connection, Error> {
        let builder = Builder::new_local(self.file().to_str().unwrap()).read_only(read_only);
        now(builder.build())?.connect()
    }

    fn size(&self) -> u64 {
        std::fs::metadata(self.file()).unwrap().len()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn put(connection: &Connection, key: &str, value: &[u8], origin: i64) -> Result<u64, Error> {
    now(connection.execute(
        INSERT,
        ("ns", key.as_bytes().to_vec(), value.to_vec(), origin),
    ))
}

fn get(connection: &Connection, key: &str) -> Option<Vec<u8>> {
    let mut rows = now(connection.query(SELECT, ("ns", key.as_bytes().to_vec()))).unwrap();
    now(rows.next()).unwrap().map(|row| row.get(0).unwrap())
}

#[test]
fn a_local_value_replaces_an_imported_one_and_nothing_else_is_replaced() {
    let folder = Folder::new("origin");
    let connection = folder.open().unwrap();
    assert_eq!(put(&connection, "k", b"shipped", 1), Ok(1));
    assert_eq!(put(&connection, "k", b"shipped again", 1), Ok(0));
    assert_eq!(put(&connection, "k", b"local", 0), Ok(1));
    assert_eq!(put(&connection, "k", b"other", 0), Ok(0));
    assert_eq!(get(&folder.open_as(true).unwrap(), "k").unwrap(), b"local");
}

#[test]
fn an_unknown_statement_is_an_error() {
    let folder = Folder::new("unknown");
    let connection = folder.open().unwrap();
    assert!(matches!(
        now(connection.query("SELECT 1", ())),
        Err(Error::Misuse(_))
    ));
    assert!(matches!(
        now(connection.execute("DELETE FROM entries", ())),
        Err(Error::Misuse(_))
    ));
    assert!(matches!(
        now(connection.execute(INSERT, ("ns",))),
        Err(Error::Misuse(_))
    ));
    assert_eq!(
        put(&connection, "k", b"v", 0),
        Ok(1),
        "the file is free again"
    );
}

#[test]
fn a_dropped_transaction_leaves_nothing() {
    let folder = Folder::new("rollback");
    let mut connection = folder.open().unwrap();
    let other = folder.open().unwrap();
    put(&connection, "before", b"1", 0).unwrap();
    let size = folder.size();
    {
        let transaction = now(connection.transaction_with_behavior(Immediate)).unwrap();
        assert_eq!(put(&transaction, "inside", b"2", 0), Ok(1));
        now(transaction.execute(PURGE, ("ns",))).unwrap();
        assert_eq!(get(&transaction, "before"), None);
        assert_eq!(
            get(&other, "before").unwrap(),
            b"1",
            "nothing is seen before the commit"
        );
        assert!(matches!(put(&other, "k", b"v", 0), Err(Error::Busy(_))));
    }
    assert_eq!(folder.size(), size);
    for connection in [&connection, &other, &folder.open().unwrap()] {
        assert_eq!(get(connection, "before").unwrap(), b"1");
        assert_eq!(get(connection, "inside"), None);
    }
}

#[test]
fn every_torn_tail_is_dropped_as_a_whole() {
    let folder = Folder::new("torn");
    let mut connection = folder.open().unwrap();
    put(&connection, "first", b"1", 0).unwrap();
    let whole = folder.size();
    let transaction = now(connection.transaction_with_behavior(Immediate)).unwrap();
    put(&transaction, "second", b"2", 0).unwrap();
    put(&transaction, "third", b"3", 0).unwrap();
    now(transaction.commit()).unwrap();
    drop(connection);
    let bytes = std::fs::read(folder.file()).unwrap();
    for len in whole as usize..bytes.len() {
        for zeros in [0, bytes.len() - len] {
            let torn = [&bytes[..len], &vec![0; zeros]].concat();
            std::fs::write(folder.file(), torn).unwrap();
            let reader = folder.open_as(true).unwrap();
            let writer = folder.open().unwrap();
            for connection in [&reader, &writer] {
                assert_eq!(get(connection, "first").unwrap(), b"1");
                assert_eq!(get(connection, "second"), None, "cut at {len}");
                assert_eq!(get(connection, "third"), None, "cut at {len}");
            }
            assert_eq!(put(&writer, "second", b"new", 0), Ok(1));
            assert_eq!(get(&reader, "second").unwrap(), b"new");
            assert_eq!(get(&folder.open().unwrap(), "second").unwrap(), b"new");
        }
    }
}

#[test]
fn no_flipped_bit_is_ever_read() {
    let folder = Folder::new("damage");
    let connection = folder.open().unwrap();
    put(&connection, "k", b"value", 0).unwrap();
    let bytes = std::fs::read(folder.file()).unwrap();
    for at in 32..bytes.len() {
        let flipped = [bytes[at] ^ 0x10];
        OpenOptions::new()
            .write(true)
            .open(folder.file())
            .unwrap()
            .write_all_at(&flipped, at as u64)
            .unwrap();
        assert!(
            get(&connection, "k").is_none_or(|value| value == b"value"),
            "byte {at}, open since before"
        );
        assert!(
            get(&folder.open_as(true).unwrap(), "k").is_none_or(|value| value == b"value"),
            "byte {at}"
        );
        let next = folder.open().unwrap();
        put(&next, "k", b"value", 0).unwrap();
        assert_eq!(get(&next, "k").unwrap(), b"value", "it is written again");
        assert_eq!(get(&connection, "k").unwrap(), b"value");
        std::fs::write(folder.file(), &bytes).unwrap();
    }
}

#[test]
fn an_old_database_is_replaced_and_a_foreign_file_is_left_alone() {
    let folder = Folder::new("old");
    let mut old = b"SQLite format 3\0\x10\0\x02\x02".to_vec();
    old.resize(8192, 7);
    std::fs::write(folder.file(), &old).unwrap();
    std::fs::write(folder.0.join("default.db-wal"), b"frames").unwrap();
    assert!(folder.open_as(true).is_err());
    assert_eq!(
        std::fs::read(folder.file()).unwrap(),
        old,
        "reading changes nothing"
    );
    let connection = folder.open().unwrap();
    assert_eq!(put(&connection, "k", b"v", 0), Ok(1));
    assert_eq!(get(&folder.open().unwrap(), "k").unwrap(), b"v");
    assert!(!folder.0.join("default.db-wal").exists());

    std::fs::write(folder.file(), b"precious").unwrap();
    assert!(folder.open().is_err());
    assert_eq!(std::fs::read(folder.file()).unwrap(), b"precious");
}

#[test]
fn dead_rows_are_left_behind_and_other_connections_follow() {
    let folder = Folder::new("vacuum");
    let connection = folder.open().unwrap();
    let other = folder.open().unwrap();
    put(&connection, "kept", b"v", 0).unwrap();
    for _ in 0..40 {
        let row = ("ns", b"large".to_vec(), vec![7; 200_000], 0);
        now(connection.execute(REPLACE, row)).unwrap();
    }
    assert!(folder.size() > 8_000_000);
    let reopened = folder.open().unwrap();
    assert!(
        folder.size() < 300_000,
        "opening rewrites a file that is mostly dead"
    );
    assert_eq!(put(&reopened, "new", b"1", 0), Ok(1));
    for connection in [&connection, &other] {
        assert_eq!(get(connection, "kept").unwrap(), b"v");
        assert_eq!(get(connection, "large").unwrap(), vec![7; 200_000]);
        assert_eq!(get(connection, "new").unwrap(), b"1");
    }
    now(reopened.execute("VACUUM", ())).unwrap();
    assert_eq!(put(&connection, "after", b"2", 0), Ok(1));
    assert_eq!(get(&reopened, "after").unwrap(), b"2");
}

#[test]
fn writers_wait_for_each_other() {
    let folder = Folder::new("writers");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let folder = &folder;
            scope.spawn(move || {
                let connection = folder.open().unwrap();
                connection.busy_timeout(Duration::from_secs(60)).unwrap();
                for entry in 0..50 {
                    assert_eq!(
                        put(&connection, &format!("{thread}-{entry}"), &[entry; 300], 0),
                        Ok(1)
                    );
                    assert!(get(&connection, &format!("{thread}-{entry}")).is_some());
                }
            });
        }
    });
    let connection = folder.open_as(true).unwrap();
    for thread in 0..8 {
        for entry in 0..50 {
            assert_eq!(
                get(&connection, &format!("{thread}-{entry}")).unwrap(),
                vec![entry; 300]
            );
        }
    }
}

#[test]
fn a_lock_that_another_holds_is_reported_as_busy() {
    let folder = Folder::new("busy");
    let connection = folder.open().unwrap();
    connection.busy_timeout(Duration::from_millis(20)).unwrap();
    let holder = File::open(folder.file()).unwrap();
    holder.lock().unwrap();
    assert!(matches!(
        put(&connection, "k", b"v", 0),
        Err(Error::Busy(_))
    ));
    assert_eq!(get(&connection, "k"), None, "readers take no lock");
    holder.unlock().unwrap();
    assert_eq!(put(&connection, "k", b"v", 0), Ok(1));
}
