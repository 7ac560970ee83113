//! Numbers as text.

/// A number with this many decimals; a small one that would be shown as zero keeps its digits.
pub fn decimal(value: f64, digits: usize) -> String {
    let fixed = format!("{value:.digits$}");
    if value != 0.0 && value.is_finite() && fixed.parse::<f64>() == Ok(0.0) {
        return format!("{value:.2e}");
    }
    fixed
}

/// A time in seconds: `4.2 s`, `3 min 07 s`, `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// 1234567 as `1 234 567`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(duration(4.21), "4.2 s");
        assert_eq!(duration(187.0), "3 min 07 s");
        assert_eq!(duration(7500.0), "2 h 05 min");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(grouped(999), "999");
        assert_eq!(decimal(0.0, 3), "0.000");
        assert_eq!(decimal(-0.00001, 3), "-1.00e-5");
    }
}
