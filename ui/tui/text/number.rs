//! Numbers as people read them.

use jiff::Timestamp;

/// A number in at most four significant digits: `0`, `0.0312`, `1.21`, `1 234`,
/// `1.234e-5`, `1.2e9`; `nan`, `inf` and `-inf` by name.
pub fn compact(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-3..999_999.5).contains(&size) {
        let written = format!("{value:.3e}");
        return match written.split_once('e') {
            Some((digits, exponent)) => format!("{}e{exponent}", without_zeros(digits)),
            None => written,
        };
    }
    if size >= 999.5 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", integer(size.round() as u64));
    }
    // 123.4, 12.34, 1.234, 0.1234, 0.01234: four digits from the first that counts.
    let first = size.log10().floor() as i32;
    let decimals = usize::try_from(3 - first).unwrap_or(0);
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

/// A whole number with spaces between its thousands: `1 234 567`.
fn integer(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes in binary units: `512 B`, `1.5 KiB`, `11.2 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut name = "B";
    for unit in UNITS {
        // 1023.95 would be written as 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        name = unit;
    }
    format!("{value:.1} {name}")
}

/// A length of time by its two largest units: `0.4s`, `12s`, `3m 05s`, `2h 07m`,
/// `4d 03h`; `?` where it is not known (negative or not finite).
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {:02}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {:02}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// How long before `now` something was: `now`, `12s ago`, `3h ago`, and `in 5m` for what a clock
/// elsewhere calls the future.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    let whole = seconds.unsigned_abs();
    let amount = match whole {
        0 => return "now".to_owned(),
        1..60 => format!("{whole}s"),
        60..3_600 => format!("{}m", whole / 60),
        3_600..86_400 => format!("{}h", whole / 3_600),
        _ => format!("{}d", whole / 86_400),
    };
    if seconds > 0 {
        format!("{amount} ago")
    } else {
        format!("in {amount}")
    }
}

/// A ratio as a percentage with one digit: `45.3%`; `?` where it is not finite.
pub fn percent(ratio: f64) -> String {
    if ratio.is_finite() {
        format!("{:.1}%", ratio * 100.0)
    } else {
        "?".to_owned()
    }
}

/// A difference with its sign: `+0.0123`, `-0.5000`, `0` where nothing of it is left after
/// rounding to `decimals`; `?` where it is not finite.
pub fn delta(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    let written = format!("{value:+.decimals$}");
    if written.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        written
    } else {
        "0".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_keeps_four_digits() {
        let cases = [
            (0.0, "0"),
            (0.000_012_34, "1.234e-5"),
            (1e-5, "1e-5"),
            (0.0312, "0.0312"),
            (0.5, "0.5"),
            (1.21, "1.21"),
            (12.0, "12"),
            (123.456, "123.5"),
            (999.7, "1 000"),
            (1234.0, "1 234"),
            (-45_678.4, "-45 678"),
            (1.2e9, "1.2e9"),
            (999_999.9, "1e6"),
            (-0.25, "-0.25"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(compact(value), expected);
        }
    }

    #[test]
    fn bytes_in_binary_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(24 << 30), "24.0 GiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn times_by_their_largest_units() {
        assert_eq!(duration(0.44), "0.4s");
        assert_eq!(duration(59.7), "1m 00s");
        assert_eq!(duration(185.0), "3m 05s");
        assert_eq!(duration(7_620.0), "2h 07m");
        assert_eq!(duration(356_400.0), "4d 03h");
        assert_eq!(duration(f64::INFINITY), "?");
        let at = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap();
        assert_eq!(age(at(100_000), at(100_400)), "now");
        assert_eq!(age(at(100_000), at(40_000)), "1m ago");
        assert_eq!(age(at(100_000), at(400_000)), "in 5m");
    }

    #[test]
    fn differences_have_a_sign_where_they_are_seen() {
        assert_eq!(delta(0.0123, 4), "+0.0123");
        assert_eq!(delta(-0.5, 2), "-0.50");
        assert_eq!(delta(-0.000_01, 3), "0");
        assert_eq!(percent(0.4567), "45.7%");
        assert_eq!(percent(f64::NAN), "?");
        assert_eq!(integer(1_234_567), "1 234 567");
    }
}
