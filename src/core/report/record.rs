//! TFRecord: how TensorBoard's files frame their messages.
//!
//! A record is its length (u64), a checksum of those eight bytes, the data, a checksum of the data, all
//! little-endian. Checksums are CRC-32C, rotated and shifted so that a checksum of checksums stays
//! useful (`tensorflow/core/lib/hash/crc32c.h`).

/// Added to every checksum.
const MASK: u32 = 0xa282_ead8;

/// The record that holds `data`.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend(masked_checksum(data).to_le_bytes());
    record
}

fn masked_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_tensorflows() {
        // tensorboard.summary.writer.record_writer.RecordWriter of tensorboard 2.21.0 wrote this.
        let hex: String = framed(b"moim")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "0400000000000000424552046d6f696ddea7c292");
    }
}
