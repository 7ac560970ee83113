//! How many colours the terminal has, and the nearest it has to a colour.

use ratatui::style::Color;

/// The colours a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorDepth {
    /// 24 bits.
    True,
    /// The 256 colours of xterm.
    Ansi256,
    /// The sixteen named colours.
    Ansi16,
    /// None, or none wanted.
    None,
}

impl ColorDepth {
    /// The depth that the values of `COLORTERM`, `TERM` and `NO_COLOR` tell of; `None`
    /// where a variable is not set. `NO_COLOR` counts when it is not empty
    /// (<https://no-color.org>).
    pub fn detect(colorterm: Option<&str>, term: Option<&str>, no_color: Option<&str>) -> Self {
        /// Terminals that always have 24 bits and do not always say so.
        const WITH_24_BITS: [&str; 6] =
            ["kitty", "alacritty", "wezterm", "ghostty", "foot", "direct"];

        let term = term.unwrap_or_default().to_ascii_lowercase();
        let colorterm = colorterm.unwrap_or_default().to_ascii_lowercase();
        if no_color.is_some_and(|value| !value.is_empty()) || term == "dumb" {
            Self::None
        } else if colorterm == "truecolor"
            || colorterm == "24bit"
            || WITH_24_BITS.iter().any(|name| term.contains(name))
        {
            Self::True
        } else if term.contains("256") {
            Self::Ansi256
        } else {
            Self::Ansi16
        }
    }

    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "24-bit colour",
            Self::Ansi256 => "256 colours",
            Self::Ansi16 => "16 colours",
            Self::None => "no colour",
        }
    }

    /// The nearest colour of this depth. Named colours stay as they are: what they look
    /// like is the terminal's business.
    pub fn downgrade(self, color: Color) -> Color {
        let Color::Rgb(red, green, blue) = color else {
            return match self {
                Self::None => Color::Reset,
                _ => color,
            };
        };
        let wanted = [red, green, blue];
        match self {
            Self::True => color,
            Self::Ansi256 => Color::Indexed(nearest_indexed(wanted)),
            Self::Ansi16 => nearest_named(wanted),
            Self::None => Color::Reset,
        }
    }
}

/// A colour as `#rrggbb`, for pictures; `None` for the terminal's own foreground.
pub fn hex(color: Color) -> Option<String> {
    let [red, green, blue] = match color {
        Color::Reset => return None,
        Color::Rgb(red, green, blue) => [red, green, blue],
        Color::Indexed(index) => indexed(index),
        named => NAMED.iter().find(|(candidate, _)| *candidate == named)?.1,
    };
    Some(format!("#{red:02x}{green:02x}{blue:02x}"))
}

/// The sixteen colours in the order of their numbers, with xterm's values.
const NAMED: [(Color, [u8; 3]); 16] = [
    (Color::Black, [0, 0, 0]),
    (Color::Red, [205, 0, 0]),
    (Color::Green, [0, 205, 0]),
    (Color::Yellow, [205, 205, 0]),
    (Color::Blue, [0, 0, 238]),
    (Color::Magenta, [205, 0, 205]),
    (Color::Cyan, [0, 205, 205]),
    (Color::Gray, [229, 229, 229]),
    (Color::DarkGray, [127, 127, 127]),
    (Color::LightRed, [255, 0, 0]),
    (Color::LightGreen, [0, 255, 0]),
    (Color::LightYellow, [255, 255, 0]),
    (Color::LightBlue, [92, 92, 255]),
    (Color::LightMagenta, [255, 0, 255]),
    (Color::LightCyan, [0, 255, 255]),
    (Color::White, [255, 255, 255]),
];

fn nearest_named(wanted: [u8; 3]) -> Color {
    NAMED
        .iter()
        .min_by_key(|(_, value)| distance(*value, wanted))
        .map_or(Color::Reset, |(color, _)| *color)
}

/// Numbers 16 to 255: those below are the named colours, which themes of terminals change.
fn nearest_indexed(wanted: [u8; 3]) -> u8 {
    (16..=255)
        .min_by_key(|index| distance(indexed(*index), wanted))
        .unwrap_or(16)
}

/// xterm's value of a number: 16 to 231 are a cube of 6 levels, 232 to 255 greys.
fn indexed(index: u8) -> [u8; 3] {
    let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    match index {
        0..=15 => NAMED
            .get(usize::from(index))
            .map_or([0; 3], |(_, value)| *value),
        16..=231 => {
            let place = index - 16;
            [level(place / 36), level(place / 6 % 6), level(place % 6)]
        }
        232..=255 => [8 + 10 * (index - 232); 3],
    }
}

fn distance(one: [u8; 3], other: [u8; 3]) -> u32 {
    one.into_iter()
        .zip(other)
        .map(|(one, other)| u32::from(one.abs_diff(other)).pow(2))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_follows_the_environment() {
        let cases = [
            (
                (Some("truecolor"), Some("xterm-256color"), None),
                ColorDepth::True,
            ),
            ((None, Some("xterm-kitty"), None), ColorDepth::True),
            ((None, Some("tmux-256color"), None), ColorDepth::Ansi256),
            ((Some(""), Some("linux"), Some("")), ColorDepth::Ansi16),
            ((None, None, None), ColorDepth::Ansi16),
            (
                (Some("truecolor"), Some("xterm"), Some("1")),
                ColorDepth::None,
            ),
            ((None, Some("dumb"), None), ColorDepth::None),
        ];
        for ((colorterm, term, no_color), expected) in cases {
            assert_eq!(ColorDepth::detect(colorterm, term, no_color), expected);
        }
    }

    #[test]
    fn nearest_colours_are_near() {
        let red = Color::Rgb(250, 10, 5);
        assert_eq!(ColorDepth::Ansi256.downgrade(red), Color::Indexed(196));
        assert_eq!(ColorDepth::Ansi16.downgrade(red), Color::LightRed);
        let grey = Color::Rgb(128, 128, 128);
        assert_eq!(ColorDepth::Ansi256.downgrade(grey), Color::Indexed(244));
        assert_eq!(ColorDepth::True.downgrade(red), red);
        assert_eq!(ColorDepth::None.downgrade(red), Color::Reset);
    }

    #[test]
    fn colours_are_written_for_pictures() {
        assert_eq!(hex(Color::Rgb(1, 2, 255)).as_deref(), Some("#0102ff"));
        assert_eq!(hex(Color::Indexed(196)).as_deref(), Some("#ff0000"));
        assert_eq!(hex(Color::Cyan).as_deref(), Some("#00cdcd"));
        assert_eq!(hex(Color::Reset), None);
    }
}
