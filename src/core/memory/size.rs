//! Human-readable numbers of bytes.

use std::fmt;
use std::str::FromStr;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A number of bytes. Reads `24GiB`, `24g`, `24000MiB` or plain bytes (every unit is a power of
/// 1024, as on the card's box) and displays `23.4 GiB`, `640 MiB`, `12 KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A text that is not a number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a size: write a number with a unit, such as 24GiB, 24g or 24000MiB, or a number of bytes"
)]
pub struct NotASize(pub String);

impl Bytes {
    /// From a number of GiB, as in `memory.budget_gib`.
    pub fn from_gib(gib: f64) -> Self {
        // Reading an experiment refuses a negative number; here `as` makes it 0.
        Self((gib * GIB as f64) as u64)
    }
}

impl FromStr for Bytes {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let wrong = || NotASize(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => KIB,
            "m" | "mb" | "mib" => MIB,
            "g" | "gb" | "gib" => GIB,
            "t" | "tb" | "tib" => TIB,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * unit as f64;
        if bytes < 1.0 || bytes >= u64::MAX as f64 {
            return Err(wrong());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self.0 {
            bytes if bytes >= TIB => format!("{:.1} TiB", bytes as f64 / TIB as f64),
            bytes if bytes >= GIB => format!("{:.1} GiB", bytes as f64 / GIB as f64),
            bytes if bytes >= MIB => format!("{} MiB", (bytes + MIB / 2) / MIB),
            bytes if bytes >= KIB => format!("{} KiB", (bytes + KIB / 2) / KIB),
            bytes => format!("{bytes} B"),
        };
        formatter.pad(&shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        for (text, bytes) in [
            ("24GiB", 24 * GIB),
            ("24g", 24 * GIB),
            (" 24 GB ", 24 * GIB),
            ("24000MiB", 24_000 * MIB),
            ("1.5k", 1536),
            ("1000000", 1_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "GiB", "24 apples", "-1g", "0", "1e99", "1.2.3g"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_displayed_in_the_most_readable_unit() {
        let shown =
            [24 * GIB, 640 * MIB, 1600 * MIB, 12 * KIB, 7].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(shown, ["24.0 GiB", "640 MiB", "1.6 GiB", "12 KiB", "7 B"]);
        assert_eq!(format!("{:>9}", Bytes(KIB)), "    1 KiB");
    }
}
