//! The colours of the themes, before they are brought down to the terminal.

use ratatui::style::Color;

/// The colours that a theme is made of.
pub struct Palette {
    /// Text that may be overlooked; without a colour the terminal's own, dimmed.
    pub dim: Option<Color>,
    /// The box of the pane that has the keyboard.
    pub focus: Color,
    /// Behind the row under the cursor; without a colour the row is reversed.
    pub selection: Option<Color>,
    pub good: Color,
    pub bad: Color,
    pub warn: Color,
    pub info: Color,
    pub accent: Color,
    pub series: [Color; 8],
    pub parts: [Color; 11],
}

const fn rgb(value: u32) -> Color {
    Color::from_u32(value)
}

pub const DARK: Palette = Palette {
    dim: Some(rgb(0x8a8f98)),
    focus: rgb(0x7aa2f7),
    selection: Some(rgb(0x2b334d)),
    good: rgb(0x9ece6a),
    bad: rgb(0xf7768e),
    warn: rgb(0xe0af68),
    info: rgb(0x7dcfff),
    accent: rgb(0xbb9af7),
    series: [
        rgb(0x7aa2f7),
        rgb(0xe0af68),
        rgb(0x9ece6a),
        rgb(0xf7768e),
        rgb(0xbb9af7),
        rgb(0x7dcfff),
        rgb(0xff9e64),
        rgb(0xc0caf5),
    ],
    parts: [
        rgb(0x7aa2f7),
        rgb(0xe0af68),
        rgb(0x9ece6a),
        rgb(0xf7768e),
        rgb(0xbb9af7),
        rgb(0x7dcfff),
        rgb(0xff9e64),
        rgb(0x73daca),
        rgb(0xd07fd0),
        rgb(0xcfc9a2),
        rgb(0x9aa5ce),
    ],
};

pub const LIGHT: Palette = Palette {
    dim: Some(rgb(0x6a6e76)),
    focus: rgb(0x1f5fbf),
    selection: Some(rgb(0xd3e2f7)),
    good: rgb(0x2e7d32),
    bad: rgb(0xb71c1c),
    warn: rgb(0x9a5b00),
    info: rgb(0x00678a),
    accent: rgb(0x6a1b9a),
    series: [
        rgb(0x1f5fbf),
        rgb(0xb35c00),
        rgb(0x2e7d32),
        rgb(0xb71c1c),
        rgb(0x6a1b9a),
        rgb(0x007a87),
        rgb(0x8d4e2a),
        rgb(0x454a52),
    ],
    parts: [
        rgb(0x1f5fbf),
        rgb(0xb35c00),
        rgb(0x2e7d32),
        rgb(0xb71c1c),
        rgb(0x6a1b9a),
        rgb(0x007a87),
        rgb(0x8d4e2a),
        rgb(0x9c2760),
        rgb(0x5b7f00),
        rgb(0x3f6f5f),
        rgb(0x454a52),
    ],
};

/// Okabe and Ito, "Color Universal Design" (2008). Blue is good and vermilion bad.
pub const COLOR_BLIND: Palette = Palette {
    dim: None,
    focus: rgb(0x56b4e9),
    selection: None,
    good: rgb(0x56b4e9),
    bad: rgb(0xd55e00),
    warn: rgb(0xe69f00),
    info: rgb(0x009e73),
    accent: rgb(0xcc79a7),
    series: [
        rgb(0x56b4e9),
        rgb(0xe69f00),
        rgb(0x009e73),
        rgb(0xcc79a7),
        rgb(0xd55e00),
        rgb(0xf0e442),
        rgb(0x0072b2),
        rgb(0x999999),
    ],
    parts: [
        rgb(0x56b4e9),
        rgb(0xe69f00),
        rgb(0x009e73),
        rgb(0xcc79a7),
        rgb(0xd55e00),
        rgb(0xf0e442),
        rgb(0x0072b2),
        rgb(0x999999),
        rgb(0x8cd1f5),
        rgb(0x44aa99),
        rgb(0xb07a00),
    ],
};

pub const SIXTEEN: Palette = Palette {
    dim: None,
    focus: Color::Cyan,
    selection: None,
    good: Color::Green,
    bad: Color::Red,
    warn: Color::Yellow,
    info: Color::Cyan,
    accent: Color::Magenta,
    series: [
        Color::Blue,
        Color::Yellow,
        Color::Green,
        Color::Red,
        Color::Magenta,
        Color::Cyan,
        Color::LightRed,
        Color::Gray,
    ],
    parts: [
        Color::Blue,
        Color::Yellow,
        Color::Green,
        Color::Red,
        Color::Magenta,
        Color::Cyan,
        Color::LightRed,
        Color::LightBlue,
        Color::LightGreen,
        Color::LightMagenta,
        Color::Gray,
    ],
};
