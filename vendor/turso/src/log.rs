//! The file: a header, then records that are only ever appended.
//!
//! | bytes | header |
//! |---|---|
//! | 0..16 | SQLite's magic, by which `cubecl-environment` knows a bundle |
//! | 16..18 | 0: no page size of SQLite's, so SQLite and the real `turso` refuse the file |
//! | 18..20 | 2 2, or 1 1 once `cubecl-environment` has marked the file as finished |
//! | 20..32 | the format of this crate |
//!
//! A record is a CRC-32 of its rest, a [`Kind`], three lengths (namespace, key, value) and these
//! three; numbers are little-endian. A transaction is its records and then one [`Kind::Commit`], whose
//! value is the CRC-32 of their checksums. So:
//!
//! - What follows the last whole transaction does not count: a crash while writing loses that one
//!   transaction. The next writer leaves it out.
//! - Committed bytes never change, and nothing committed is ever cut off. Readers therefore take no
//!   lock. A row is checked again whenever it is read; a damaged one counts as absent.
//! - One process writes at a time, under the file's lock (`flock`). A new file ([`Log::rewrite`]) is
//!   written beside the old one, synced and renamed; the other processes notice by its inode.
//! - Nothing is synced per transaction: a power cut can lose the last ones, as it can with `turso` at
//!   `synchronous = NORMAL`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER: &[u8; 32] = b"SQLite format 3\0\0\0\x02\x02kernel-log 1";
const STATE_AT: u64 = 18;

/// Bytes of a record before its namespace: checksum, kind, lengths.
const HEAD: usize = 17;

/// How long opening waits for a writer in another process.
const OPEN_WAIT: Duration = Duration::from_secs(5);

/// Dead bytes beyond the live ones that a file may have before opening rewrites it.
const SLACK: u64 = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A row of `entries` whose `origin` is 0.
    Local = 1,
    /// A row of `entries` whose `origin` is 1.
    Imported = 2,
    /// The row is deleted.
    Removed = 3,
    /// All rows of `entries` are deleted.
    Clear = 4,
    /// A row of `meta`: the namespace is its key.
    Meta = 5,
    Commit = 6,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Local,
        Self::Imported,
        Self::Removed,
        Self::Clear,
        Self::Meta,
        Self::Commit,
    ];
}

#[derive(Debug)]
pub(crate) struct Record {
    pub kind: Kind,
    pub namespace: String,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Record {
    pub fn new(kind: Kind, namespace: &str, key: &[u8], value: &[u8]) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            key: key.into(),
            value: value.into(),
        }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0, 0, 0, 0, self.kind as u8];
        for part in [self.namespace.as_bytes(), &self.key, &self.value] {
            let len = u32::try_from(part.len())
                .map_err(|_| io::Error::other("a value of 4 GiB or more"))?;
            bytes.extend(len.to_le_bytes());
        }
        bytes.extend(self.namespace.as_bytes());
        bytes.extend(&self.key);
        bytes.extend(&self.value);
        let sum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }

    /// The next record of `reader`, its checksum and its length. `None` where the next `left` bytes
    /// hold no whole record.
    fn read(reader: &mut impl Read, left: u64) -> io::Result<Option<(Self, [u8; 4], u64)>> {
        let mut head = [0; HEAD];
        if left < HEAD as u64 || !filled(reader, &mut head)? {
            return Ok(None);
        }
        let [a, b, c, d, kind, lens @ ..] = head;
        let sum = [a, b, c, d];
        let Some(kind) = Kind::ALL.into_iter().find(|known| *known as u8 == kind) else {
            return Ok(None);
        };
        let (lens, _) = lens.as_chunks();
        let [namespace, key, value] =
            [lens[0], lens[1], lens[2]].map(|len| u64::from(u32::from_le_bytes(len)));
        let len = HEAD as u64 + namespace + key + value;
        if len > left {
            return Ok(None);
        }
        let mut parts = [namespace, key, value].map(|len| vec![0; len as usize]);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head[4..]);
        for part in &mut parts {
            if !filled(reader, part)? {
                return Ok(None);
            }
            hasher.update(part);
        }
        let [namespace, key, value] = parts;
        let Ok(namespace) = String::from_utf8(namespace) else {
            return Ok(None);
        };
        let record = Self {
            kind,
            namespace,
            key,
            value,
        };
        Ok((hasher.finalize().to_le_bytes() == sum).then_some((record, sum, len)))
    }
}

/// Whether `reader` had enough to fill `buffer`.
fn filled(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where the record of a row is in the file.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    at: u64,
    len: u64,
}

impl Slot {
    /// Bytes of the key and the value together.
    pub fn content_len(&self, namespace: &str) -> u64 {
        self.len - (HEAD + namespace.len()) as u64
    }
}

pub(crate) struct Log {
    path: PathBuf,
    writable: bool,
    file: File,
    /// End of the last committed transaction.
    end: u64,
    /// End of what the open transaction has written.
    tail: u64,
    /// Over the checksums of the open transaction.
    sums: crc32fast::Hasher,
    /// Whether a transaction is open, and with it the file locked.
    open: bool,
    meta: BTreeMap<String, String>,
    entries: BTreeMap<String, BTreeMap<Vec<u8>, Slot>>,
}

impl Log {
    pub fn open(path: &Path, writable: bool) -> io::Result<Self> {
        let mut log = Self {
            path: path.into(),
            writable,
            file: open(path, writable, writable)?,
            end: 0,
            tail: 0,
            sums: crc32fast::Hasher::new(),
            open: false,
            meta: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        if writable {
            log.begin(OPEN_WAIT)?;
            let live: u64 = log
                .entries
                .values()
                .flat_map(BTreeMap::values)
                .map(|slot| slot.len)
                .sum();
            if log.end > 2 * live + SLACK {
                // Where this fails, the large file works too.
                let _ = log.rewrite();
            }
            log.commit()?;
        } else {
            log.check_header()?;
            log.replay()?;
        }
        Ok(log)
    }

    pub fn meta(&self, key: &str) -> Option<&str> {
        self.meta.get(key).map(String::as_str)
    }

    pub fn namespaces(&self) -> impl Iterator<Item = (&String, &BTreeMap<Vec<u8>, Slot>)> {
        self.entries.iter().filter(|(_, keys)| !keys.is_empty())
    }

    /// Namespace and key of the rows in the namespaces that `selected` picks, in order.
    pub fn keys(&self, selected: impl Fn(&str) -> bool) -> Vec<(String, Vec<u8>)> {
        let picked = self.entries.iter().filter(|(name, _)| selected(name));
        picked
            .flat_map(|(name, keys)| keys.keys().map(|key| (name.clone(), key.clone())))
            .collect()
    }

    /// The row of `entries`, if there is one and its bytes are as they were written.
    pub fn entry(&mut self, namespace: &str, key: &[u8]) -> io::Result<Option<Record>> {
        let Some(keys) = self.entries.get_mut(namespace) else {
            return Ok(None);
        };
        let Some(slot) = keys.get(key) else {
            return Ok(None);
        };
        let mut file = &self.file;
        file.seek(SeekFrom::Start(slot.at))?;
        match Record::read(&mut file, slot.len)? {
            Some((row, ..)) if row.namespace == namespace && row.key == key => Ok(Some(row)),
            _ => {
                keys.remove(key);
                Ok(None)
            }
        }
    }

    /// Takes in what other processes have committed.
    pub fn refresh(&mut self) -> io::Result<()> {
        if self.open {
            return Ok(());
        }
        if self.replaced()? {
            let there = open(&self.path, self.writable, false)?;
            let old = std::mem::replace(&mut self.file, there);
            if let Err(error) = self.check_header() {
                self.file = old;
                return Err(error);
            }
            self.forget();
        }
        self.replay()
    }

    /// Locks the file and brings the index up to date. Waits at most `wait` for other processes.
    pub fn begin(&mut self, wait: Duration) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "the file was opened read-only",
            ));
        }
        let ready = self.lock(wait).and_then(|()| self.ready());
        self.open = ready.is_ok();
        if !self.open {
            let _ = self.file.unlock();
        }
        ready
    }

    fn ready(&mut self) -> io::Result<()> {
        let mut header = [0; HEADER.len()];
        let len = self.file.metadata()?.len().min(HEADER.len() as u64) as usize;
        self.file.read_exact_at(&mut header[..len], 0)?;
        if header[..len] == HEADER[..len] && len < HEADER.len() {
            // New, or the process that created it ended before it got here.
            self.file.write_all_at(HEADER, 0)?;
        } else if !is_ours(&header) && header.starts_with(MAGIC) {
            self.forget();
            self.rewrite()?;
            for suffix in ["-wal", "-shm", "-tshm"] {
                let _ = std::fs::remove_file(beside(&self.path, suffix));
            }
        }
        self.check_header()?;
        self.replay()?;
        if self.file.metadata()?.len() != self.end {
            // Not cut off in place: another process may have indexed what this one finds damaged.
            self.rewrite()?;
        }
        self.tail = self.end;
        self.sums = crc32fast::Hasher::new();
        Ok(())
    }

    /// Writes one record of the open transaction.
    pub fn append(&mut self, record: Record) -> io::Result<()> {
        let bytes = record.encode()?;
        if self.tail == self.end {
            self.file.write_all_at(&HEADER[18..20], STATE_AT)?;
        }
        if let Err(error) = self.file.write_all_at(&bytes, self.tail) {
            let _ = self.file.set_len(self.tail);
            return Err(error);
        }
        self.sums.update(&bytes[..4]);
        let slot = Slot {
            at: self.tail,
            len: bytes.len() as u64,
        };
        self.tail += slot.len;
        self.apply(record, slot);
        Ok(())
    }

    /// Ends the transaction. On an error it is rolled back.
    pub fn commit(&mut self) -> io::Result<()> {
        if self.written() {
            let sums = self.sums.clone().finalize().to_le_bytes();
            if let Err(error) = self.append(Record::new(Kind::Commit, "", &[], &sums)) {
                self.roll_back();
                return Err(error);
            }
            self.end = self.tail;
        }
        self.open = false;
        self.file.unlock()
    }

    /// Ends the transaction as if it had not been.
    pub fn roll_back(&mut self) {
        // Where this fails, nothing commits the records, and the next writer leaves them behind.
        let _ = self.file.set_len(self.end);
        if self.written() {
            self.forget();
            // What cannot be read now is read before the next statement.
            let _ = self.replay();
        }
        self.open = false;
        let _ = self.file.unlock();
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Whether the open transaction has written anything.
    pub fn written(&self) -> bool {
        self.tail > self.end
    }

    /// Replaces the file by one that holds only the live rows. The file is locked before and after,
    /// and the open transaction has written nothing.
    pub fn rewrite(&mut self) -> io::Result<()> {
        let path = beside(&self.path, ".new");
        // The lock on the old file keeps every other process out of here.
        let file = open(&path, true, true)?;
        file.try_lock()?;
        let written = file
            .set_len(0)
            .and_then(|()| self.write_live(&file))
            .and_then(|()| std::fs::rename(&path, &self.path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.file = file;
        self.forget();
        self.replay()?;
        self.tail = self.end;
        Ok(())
    }

    fn write_live(&mut self, file: &File) -> io::Result<()> {
        let mut out = BufWriter::new(file);
        let mut sums = crc32fast::Hasher::new();
        out.write_all(HEADER)?;
        for (key, value) in &self.meta {
            let record = Record::new(Kind::Meta, key, &[], value.as_bytes()).encode()?;
            sums.update(&record[..4]);
            out.write_all(&record)?;
        }
        for (namespace, key) in self.keys(|_| true) {
            if let Some(row) = self.entry(&namespace, &key)? {
                let record = row.encode()?;
                sums.update(&record[..4]);
                out.write_all(&record)?;
            }
        }
        let commit = Record::new(Kind::Commit, "", &[], &sums.finalize().to_le_bytes());
        out.write_all(&commit.encode()?)?;
        out.flush()?;
        file.sync_all()
    }

    /// Reads the transactions that were committed since the last look.
    fn replay(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        if len == self.end {
            return Ok(());
        }
        if len < self.end {
            self.forget();
        }
        self.end = self.end.max(HEADER.len() as u64);
        let mut reader = BufReader::with_capacity(1 << 16, self.file.try_clone()?);
        reader.seek(SeekFrom::Start(self.end))?;
        let mut at = self.end;
        let mut pending = Vec::new();
        let mut sums = crc32fast::Hasher::new();
        while let Some((mut record, sum, size)) = Record::read(&mut reader, len.saturating_sub(at))?
        {
            let slot = Slot { at, len: size };
            at += size;
            if record.kind != Kind::Commit {
                sums.update(&sum);
                if record.kind != Kind::Meta {
                    record.value = Vec::new();
                }
                pending.push((record, slot));
                continue;
            }
            if record.value != std::mem::take(&mut sums).finalize().to_le_bytes() {
                break;
            }
            for (record, slot) in pending.drain(..) {
                self.apply(record, slot);
            }
            self.end = at;
        }
        Ok(())
    }

    fn apply(&mut self, record: Record, slot: Slot) {
        match record.kind {
            Kind::Local | Kind::Imported => {
                self.entries
                    .entry(record.namespace)
                    .or_default()
                    .insert(record.key, slot);
            }
            Kind::Removed => {
                if let Some(keys) = self.entries.get_mut(&record.namespace) {
                    keys.remove(&record.key);
                }
            }
            Kind::Clear => self.entries.clear(),
            Kind::Meta => {
                self.meta.insert(
                    record.namespace,
                    String::from_utf8_lossy(&record.value).into_owned(),
                );
            }
            Kind::Commit => {}
        }
    }

    fn forget(&mut self) {
        self.end = 0;
        self.meta.clear();
        self.entries.clear();
    }

    /// Locks the file that is at the path by then.
    fn lock(&mut self, wait: Duration) -> io::Result<()> {
        let deadline = Instant::now() + wait;
        loop {
            match self.file.try_lock() {
                Ok(()) if self.replaced()? => {
                    self.file = open(&self.path, true, true)?;
                    self.forget();
                }
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether another file is at the path than the open one. A deleted file is used until the end.
    fn replaced(&self) -> io::Result<bool> {
        match std::fs::metadata(&self.path) {
            Ok(there) => {
                let open = self.file.metadata()?;
                Ok((there.dev(), there.ino()) != (open.dev(), open.ino()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn check_header(&self) -> io::Result<()> {
        let mut header = [0; HEADER.len()];
        match self.file.read_exact_at(&mut header, 0) {
            Ok(()) if is_ours(&header) => Ok(()),
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
            _ => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("{} is not a cache", self.path.display()),
            )),
        }
    }
}

fn open(path: &Path, writable: bool, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(writable)
        .create(create)
        .truncate(false)
        .open(path)
}

fn is_ours(header: &[u8; HEADER.len()]) -> bool {
    header[..18] == HEADER[..18] && header[20..] == HEADER[20..]
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
