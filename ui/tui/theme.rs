//! Styles by role and the marks that carry the same meaning without colour.
//!
//! A view asks for `theme.bad`, never for red: the theme decides, and with
//! [`ThemeName::None`] or `NO_COLOR` only modifiers remain. No theme paints a background
//! behind ordinary text, so the terminal's own stays. ratatui and crossterm send a
//! 24-bit colour to any terminal; [`Theme::new`] brings colours down to what the terminal
//! has.

mod color;
mod glyphs;
mod palette;

use ratatui::style::{Modifier, Style};

pub use color::{ColorDepth, hex};
pub use glyphs::{Glyphs, Marker};
use palette::Palette;

/// What a widget needs to draw: colours and marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Styles by role.
    pub theme: Theme,
    /// Marks, borders and patterns.
    pub glyphs: Glyphs,
}

impl Look {
    /// The look of a theme on a terminal of `depth`; `is_ascii` keeps to ASCII marks.
    pub fn new(name: ThemeName, depth: ColorDepth, is_ascii: bool) -> Self {
        Self {
            theme: Theme::new(name, depth),
            glyphs: Glyphs::new(is_ascii),
        }
    }
}

/// The themes the user can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThemeName {
    /// For a dark background.
    Dark,
    /// For a light background.
    Light,
    /// The palette of Okabe and Ito: no pair depends on telling red from green.
    ColorBlind,
    /// The terminal's own sixteen colours.
    Sixteen,
    /// No colour: bold, dim, underline and reverse only.
    None,
}

impl ThemeName {
    /// Every theme, in the order in which [`ThemeName::next`] goes through them.
    pub const ALL: [Self; 5] = [
        Self::Dark,
        Self::Light,
        Self::ColorBlind,
        Self::Sixteen,
        Self::None,
    ];

    /// The word for it on the command line and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::Light => "light",
            Self::ColorBlind => "color-blind",
            Self::Sixteen => "16",
            Self::None => "none",
        }
    }

    /// The theme after this one, round and round.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Dark => Self::Light,
            Self::Light => Self::ColorBlind,
            Self::ColorBlind => Self::Sixteen,
            Self::Sixteen => Self::None,
            Self::None => Self::Dark,
        }
    }

    /// The theme that a word names, in either spelling of "colour" and with or without
    /// hyphens; `None` for any other word.
    pub fn from_word(word: &str) -> Option<Self> {
        let word: String = word
            .chars()
            .filter(|character| character.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect();
        match word.as_str() {
            "dark" => Some(Self::Dark),
            "light" => Some(Self::Light),
            "colorblind" | "colourblind" => Some(Self::ColorBlind),
            "16" | "16colors" | "16colours" | "sixteen" | "ansi" => Some(Self::Sixteen),
            "none" | "mono" => Some(Self::None),
            _ => None,
        }
    }
}

/// A style for each role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Ordinary text: the terminal's own colours.
    pub text: Style,
    /// What may be overlooked: units, labels, grid lines.
    pub dim: Style,
    /// Titles of panes.
    pub title: Style,
    /// The box of a pane.
    pub border: Style,
    /// The box of the pane that has the keyboard.
    pub border_focused: Style,
    /// The row under the cursor.
    pub selection: Style,
    /// The heads of table columns.
    pub header: Style,
    /// The keys in hints.
    pub key: Style,
    /// Success, healthy values.
    pub good: Style,
    /// Failure, loss of quality.
    pub bad: Style,
    /// Needs a look.
    pub warn: Style,
    /// Neutral information.
    pub info: Style,
    /// What should be found first: matches, the running step.
    pub accent: Style,
    /// Text that only the newer side has.
    pub added: Style,
    /// Text that only the older side has.
    pub removed: Style,
    /// Lines of a chart.
    pub series: [Style; 8],
    /// Parts of a stacked bar.
    pub parts: [Style; 11],
}

impl Theme {
    /// The theme `name` in the colours of a terminal of `depth`.
    pub fn new(name: ThemeName, depth: ColorDepth) -> Self {
        let palette = match name {
            ThemeName::Dark => palette::DARK,
            ThemeName::Light => palette::LIGHT,
            ThemeName::ColorBlind => palette::COLOR_BLIND,
            ThemeName::Sixteen => palette::SIXTEEN,
            ThemeName::None => return Self::monochrome(),
        };
        if depth == ColorDepth::None {
            return Self::monochrome();
        }
        Self::from_palette(&palette, depth)
    }

    /// Style of the `index`th line of a chart; the colours repeat after eight.
    pub fn series(&self, index: usize) -> Style {
        let position = index % self.series.len();
        self.series.get(position).copied().unwrap_or_default()
    }

    /// Style of the part of a bar with this style index; the colours repeat after ten.
    pub fn part(&self, index: usize) -> Style {
        let position = index % self.parts.len();
        self.parts.get(position).copied().unwrap_or_default()
    }

    fn from_palette(palette: &Palette, depth: ColorDepth) -> Self {
        let foreground = |color| Style::new().fg(depth.downgrade(color));
        let dim = match palette.dim {
            Some(color) => foreground(color),
            None => Style::new().add_modifier(Modifier::DIM),
        };
        let selection = match palette.selection {
            // The nearest of sixteen colours may be the terminal's own background.
            Some(color) if depth != ColorDepth::Ansi16 => Style::new().bg(depth.downgrade(color)),
            _ => Style::new().add_modifier(Modifier::REVERSED),
        };
        Self {
            text: Style::new(),
            dim,
            title: Style::new().add_modifier(Modifier::BOLD),
            border: dim,
            border_focused: foreground(palette.focus),
            selection,
            header: foreground(palette.info).add_modifier(Modifier::BOLD),
            key: foreground(palette.accent).add_modifier(Modifier::BOLD),
            good: foreground(palette.good),
            bad: foreground(palette.bad).add_modifier(Modifier::BOLD),
            warn: foreground(palette.warn),
            info: foreground(palette.info),
            accent: foreground(palette.accent).add_modifier(Modifier::BOLD),
            added: foreground(palette.good).add_modifier(Modifier::UNDERLINED),
            removed: foreground(palette.bad).add_modifier(Modifier::CROSSED_OUT),
            series: palette.series.map(foreground),
            parts: palette.parts.map(foreground),
        }
    }

    fn monochrome() -> Self {
        let plain = Style::new();
        let with = |modifier| plain.add_modifier(modifier);
        let (bold, dim) = (with(Modifier::BOLD), with(Modifier::DIM));
        Self {
            text: plain,
            dim,
            title: bold,
            border: dim,
            border_focused: bold,
            selection: with(Modifier::REVERSED),
            header: with(Modifier::BOLD | Modifier::UNDERLINED),
            key: bold,
            good: plain,
            bad: bold,
            warn: bold,
            info: plain,
            accent: bold,
            added: with(Modifier::UNDERLINED),
            removed: with(Modifier::CROSSED_OUT),
            series: [plain, bold, dim, plain, bold, dim, plain, bold],
            parts: [plain; 11],
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Color;

    use super::*;

    fn styles(theme: &Theme) -> Vec<Style> {
        let mut styles = vec![
            theme.text,
            theme.dim,
            theme.title,
            theme.border,
            theme.border_focused,
            theme.selection,
            theme.header,
            theme.key,
            theme.good,
            theme.bad,
            theme.warn,
            theme.info,
            theme.accent,
            theme.added,
            theme.removed,
        ];
        styles.extend(theme.series);
        styles.extend(theme.parts);
        styles
    }

    fn colors(theme: &Theme) -> Vec<Color> {
        styles(theme)
            .into_iter()
            .flat_map(|style| [style.fg, style.bg])
            .flatten()
            .collect()
    }

    #[test]
    fn every_theme_is_found_by_its_name_and_the_round_visits_all() {
        let mut name = ThemeName::Dark;
        for expected in ThemeName::ALL {
            assert_eq!(name, expected);
            assert_eq!(ThemeName::from_word(expected.name()), Some(expected));
            name = name.next();
        }
        assert_eq!(name, ThemeName::Dark);
        assert_eq!(
            ThemeName::from_word("Colour_Blind"),
            Some(ThemeName::ColorBlind)
        );
        assert_eq!(ThemeName::from_word("pink"), None);
    }

    #[test]
    fn no_colour_is_sent_where_none_is_wanted() {
        for name in ThemeName::ALL {
            assert!(colors(&Theme::new(name, ColorDepth::None)).is_empty());
        }
        assert!(colors(&Theme::new(ThemeName::None, ColorDepth::True)).is_empty());
    }

    #[test]
    fn colours_stay_within_what_the_terminal_has() {
        for name in ThemeName::ALL {
            for color in colors(&Theme::new(name, ColorDepth::Ansi256)) {
                assert!(!matches!(color, Color::Rgb(..)), "{name:?} {color:?}");
            }
            for color in colors(&Theme::new(name, ColorDepth::Ansi16)) {
                let is_named = !matches!(color, Color::Rgb(..) | Color::Indexed(_));
                assert!(is_named, "{name:?} {color:?}");
            }
        }
    }

    #[test]
    fn added_and_removed_differ_without_colour() {
        for name in ThemeName::ALL {
            let theme = Theme::new(name, ColorDepth::True);
            assert_ne!(theme.added.add_modifier, theme.removed.add_modifier);
        }
    }
}
