//! Everything that the screen depends on.

use std::collections::VecDeque;
use std::path::PathBuf;

use jiff::Timestamp;
use ratatui::layout::Rect;

use super::data::World;
use super::message::{Dialog, Effect, Input, Notice};
use super::overlay::Overlay;
use super::screens::Screens;
use super::theme::{ColorDepth, Glyphs, Look, Theme, ThemeName};

/// The six screens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Screen {
    #[default]
    Experiments,
    Plan,
    Train,
    Answers,
    Ranking,
    Compare,
}

impl Screen {
    /// In the order of their number keys.
    pub const ALL: [Self; 6] = [
        Self::Experiments,
        Self::Plan,
        Self::Train,
        Self::Answers,
        Self::Ranking,
        Self::Compare,
    ];

    /// The name in the title line.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Experiments => "Experiments",
            Self::Plan => "Plan",
            Self::Train => "Train",
            Self::Answers => "Answers",
            Self::Ranking => "Ranking",
            Self::Compare => "Compare",
        }
    }
}

/// How things are shown, chosen by flags, the environment and keys.
#[derive(Clone, Debug)]
pub struct Settings {
    pub theme_name: ThemeName,
    pub depth: ColorDepth,
    pub is_ascii: bool,
    pub has_mouse: bool,
    /// Styles and marks for the above.
    pub look: Look,
}

impl Settings {
    pub fn new(theme_name: ThemeName, depth: ColorDepth, is_ascii: bool, has_mouse: bool) -> Self {
        Self {
            theme_name,
            depth,
            is_ascii,
            has_mouse,
            look: Look::new(theme_name, depth, is_ascii),
        }
    }

    /// The same with the next theme.
    pub fn with_next_theme(&self) -> Self {
        Self::new(
            self.theme_name.next(),
            self.depth,
            self.is_ascii,
            self.has_mouse,
        )
    }
}

/// What a screen can read besides its own state.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub world: &'a World,
    pub settings: &'a Settings,
    pub now: Timestamp,
    /// The part of the terminal that a screen has, for the length of a page.
    pub body: Rect,
}

impl<'a> Context<'a> {
    /// Styles and marks, as widgets take them.
    pub fn look(&self) -> &'a Look {
        &self.settings.look
    }

    pub fn theme(&self) -> &'a Theme {
        &self.settings.look.theme
    }

    pub fn glyphs(&self) -> &'a Glyphs {
        &self.settings.look.glyphs
    }
}

/// The state of the program.
pub struct State {
    pub screen: Screen,
    pub screens: Screens,
    pub world: World,
    pub settings: Settings,
    pub now: Timestamp,
    pub size: Rect,
    /// What is shown over the screen and gets the keys.
    pub overlay: Option<Overlay>,
    /// Questions that wait behind the one that is shown.
    pub waiting: VecDeque<Dialog>,
    /// The first key of a sequence.
    pub pending_keys: Option<String>,
    /// The line above the footer, and since when.
    pub notice: Option<(Notice, Timestamp)>,
    /// A trainer is being started, and its run is not known yet.
    pub is_starting: bool,
    /// A run that is shown as soon as it is found, with the log of its start.
    pub launching: Option<Launch>,
    /// The program quits as soon as every edit has been written.
    pub leaves_when_saved: bool,
    /// The screen must be drawn again.
    pub is_dirty: bool,
    /// What must be done after the message that is being applied.
    pub effects: Vec<Effect>,
}

/// A trainer that was started and whose run directory does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub run: PathBuf,
    pub log: PathBuf,
}

/// The smallest terminal in which the screens fit.
pub const SMALLEST: (u16, u16) = (80, 24);

/// Lines above the body (title) and below it (notice, footer).
const TITLE_LINES: u16 = 1;
const FOOTER_LINES: u16 = 2;

impl State {
    pub fn new(settings: Settings, now: Timestamp, size: Rect) -> Self {
        Self {
            screen: Screen::default(),
            screens: Screens::default(),
            world: World::default(),
            settings,
            now,
            size,
            overlay: None,
            waiting: VecDeque::new(),
            pending_keys: None,
            notice: None,
            is_starting: false,
            launching: None,
            leaves_when_saved: false,
            is_dirty: true,
            effects: Vec::new(),
        }
    }

    /// Whether the terminal is too small for any screen.
    pub fn is_too_small(&self) -> bool {
        self.size.width < SMALLEST.0 || self.size.height < SMALLEST.1
    }

    /// The part of the terminal between title and footer.
    pub fn body(&self) -> Rect {
        Rect {
            x: self.size.x,
            y: self.size.y + TITLE_LINES.min(self.size.height),
            width: self.size.width,
            height: self.size.height.saturating_sub(TITLE_LINES + FOOTER_LINES),
        }
    }

    /// What screens read.
    pub fn context(&self) -> Context<'_> {
        Context {
            world: &self.world,
            settings: &self.settings,
            now: self.now,
            body: self.body(),
        }
    }

    /// Shows a question, after those that are being asked.
    pub fn ask(&mut self, dialog: Dialog) {
        match self.overlay {
            Some(Overlay::Dialog(_)) => self.waiting.push_back(dialog),
            _ => self.overlay = Some(Overlay::Dialog(dialog)),
        }
    }

    /// Asks for a line of text.
    pub fn ask_for_line(&mut self, input: Input) {
        self.overlay = Some(Overlay::line(input));
    }

    /// Shows a notice above the footer.
    pub fn tell(&mut self, text: impl Into<String>, is_error: bool) {
        let text = text.into();
        self.notice = Some((Notice { text, is_error }, self.now));
    }
}
