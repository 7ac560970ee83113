//! The log of an offline run: LevelDB's log format with another checksum.
//!
//! After a head of seven bytes, records are cut into pieces that never cross a block of 32 KiB:
//!
//! ```text
//! piece: crc32 of type and data (u32) | length of the data (u16) | type (u8) | data
//! type:  1 whole, 2 first, 3 middle, 4 last
//! ```
//!
//! A rest of a block that cannot hold the head of a piece is zeros. Numbers are little-endian; the
//! head counts as part of the first block. LevelDB uses a masked CRC-32C, W&B the plain CRC-32 of
//! zlib (`wandb/sdk/internal/datastore.py` up to 0.21, `core/pkg/leveldb` since).

use std::path::Path;

use crate::report::file::GrowingFile;
use crate::report::protobuf::Message;
use crate::run::WriteError;

/// `:W&B`, the magic number 0xBEE1 and version 0.
const HEAD: [u8; 7] = *b":W&B\xe1\xbe\x00";
const BLOCK: usize = 32 * 1024;
/// Bytes of a piece before its data.
const PIECE_HEAD: usize = 7;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// `Record.num`.
const NUMBER: u32 = 1;

/// The one writer of the log.
#[derive(Debug)]
pub(super) struct RecordLog {
    file: GrowingFile,
    /// Records appended so far.
    count: i64,
}

impl RecordLog {
    /// Begins a log that is to stand at `path`.
    pub(super) fn create(path: &Path) -> Result<Self, WriteError> {
        let mut file = GrowingFile::create(path)?;
        file.append(&HEAD)?;
        Ok(Self { file, count: 0 })
    }

    /// Appends a `Record`, and gives it its number.
    pub(super) fn append(&mut self, record: Message) -> Result<(), WriteError> {
        let record = record.integer(NUMBER, self.count + 1);
        let offset = (self.file.length() % BLOCK as u64) as usize;
        self.file.append(&pieces(record.as_bytes(), offset))?;
        self.count += 1;
        Ok(())
    }

    /// Renames the log to its final path.
    pub(super) fn publish(&mut self) -> Result<(), WriteError> {
        self.file.publish()
    }
}

/// What stands in the file for a record that begins `offset` bytes into a block.
fn pieces(record: &[u8], offset: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(record.len() + 2 * PIECE_HEAD);
    let mut rest = record;
    let mut space = BLOCK - offset;
    let mut is_first = true;
    loop {
        if space < PIECE_HEAD {
            bytes.resize(bytes.len() + space, 0);
            space = BLOCK;
        }
        let (data, after) = rest.split_at(rest.len().min(space - PIECE_HEAD));
        let kind = match (is_first, after.is_empty()) {
            (true, true) => WHOLE,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&[kind]);
        checksum.update(data);
        bytes.extend(checksum.finalize().to_le_bytes());
        // At most 32 KiB.
        bytes.extend((data.len() as u16).to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(data);
        if after.is_empty() {
            return bytes;
        }
        (rest, space, is_first) = (after, BLOCK, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The kinds and lengths of the pieces, by block.
    fn shape(record: usize, offset: usize) -> Vec<(u8, usize)> {
        let bytes = pieces(&vec![7; record], offset);
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let space = BLOCK - (offset + at) % BLOCK;
            if space < PIECE_HEAD {
                assert!(bytes[at..at + space].iter().all(|byte| *byte == 0));
                at += space;
                continue;
            }
            let length = usize::from(bytes[at + 4]) | usize::from(bytes[at + 5]) << 8;
            found.push((bytes[at + 6], length));
            at += PIECE_HEAD + length;
        }
        assert_eq!(at, bytes.len());
        found
    }

    #[test]
    fn records_are_cut_at_blocks() {
        assert_eq!(shape(0, 7), [(WHOLE, 0)]);
        assert_eq!(shape(100, 7), [(WHOLE, 100)]);
        assert_eq!(shape(BLOCK - 14, 7), [(WHOLE, BLOCK - 14)]);
        assert_eq!(shape(BLOCK - 13, 7), [(FIRST, BLOCK - 14), (LAST, 1)]);
        assert_eq!(
            shape(2 * BLOCK, 7),
            [(FIRST, BLOCK - 14), (MIDDLE, BLOCK - 7), (LAST, 21)]
        );
        // Space for the head of a piece alone, and for less than that.
        assert_eq!(shape(5, BLOCK - 7), [(FIRST, 0), (LAST, 5)]);
        assert_eq!(shape(5, BLOCK - 6), [(WHOLE, 5)]);
    }

    proptest! {
        #[test]
        fn no_piece_crosses_a_block_and_none_is_lost(record in 0usize..100_000, offset in 0..BLOCK) {
            let found = shape(record, offset);
            prop_assert_eq!(found.iter().map(|(_, length)| length).sum::<usize>(), record);
            let last = found.len() - 1;
            for (at, (kind, _)) in found.into_iter().enumerate() {
                let expected = match (at == 0, at == last) {
                    (true, true) => WHOLE,
                    (true, false) => FIRST,
                    (false, false) => MIDDLE,
                    (false, true) => LAST,
                };
                prop_assert_eq!(kind, expected);
            }
        }
    }
}
