//! The one table of keys. Dispatch, the help of each screen, the footer, the
//! palette and the generated documentation all read [`BINDINGS`].

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::Screen;

/// What the user can do. Names are those of the palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Another of the six screens.
    Show(Screen),
    Quit,
    Help,
    Palette,
    Filter,
    NextMatch,
    PreviousMatch,
    NextPane,
    PreviousPane,
    Back,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Top,
    Bottom,
    Open,
    Mark,
    ClearMarks,
    Copy,
    Export,
    DumpScreen,
    Rescan,
    OpenInEditor,
    NextTheme,
    ToggleMouse,
    Suspend,
    Redraw,
    // Experiments
    Start,
    Resume,
    Edit,
    Clone,
    Queue,
    ClearQueue,
    FindDuplicates,
    CompareConfigurations,
    Delete,
    // A running run
    PauseOrContinue,
    SaveNow,
    StopAfterStep,
    Kill,
    ShowLog,
    // Plan
    Save,
    Undo,
    NextFault,
    // Charts
    Expand,
    LogScale,
    MoreSmoothing,
    LessSmoothing,
    ShorterWindow,
    LongerWindow,
    Freeze,
    // Tables and texts
    Sort,
    ReverseSort,
    Wrap,
    Layout,
    History,
    NextChange,
    PreviousChange,
    NextRegression,
    PreviousRegression,
    CompareMarked,
    Baseline,
    DiffMode,
    ItemFilter,
    QuestionType,
    Metric,
}

/// Where a binding is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On every screen, unless the screen binds the key itself.
    Everywhere,
    /// On this screen.
    On(Screen),
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The keys, each as [`key_name`] writes it; two after one another with a space between.
    pub keys: &'static [&'static str],
    pub action: Action,
    pub scope: Scope,
    /// A word or two, for the footer.
    pub label: &'static str,
    /// A sentence without its full stop, for help and palette.
    pub help: &'static str,
    /// Place in the footer, the smallest first; `None` keeps it out.
    pub footer: Option<u8>,
}

const fn bind(
    scope: Scope,
    keys: &'static [&'static str],
    action: Action,
    label: &'static str,
    help: &'static str,
    footer: Option<u8>,
) -> Binding {
    Binding {
        keys,
        action,
        scope,
        label,
        help,
        footer,
    }
}

use Action as A;
use Scope::{Everywhere, On};

/// Every key of the program.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = &[
    bind(Everywhere, &["1"], A::Show(Screen::Experiments), "experiments", "Experiments, runs and the queue", None),
    bind(Everywhere, &["2"], A::Show(Screen::Plan), "plan", "Plan: parameters, batch and memory", None),
    bind(Everywhere, &["3"], A::Show(Screen::Train), "train", "Train: progress, charts, memory, alarms", None),
    bind(Everywhere, &["4"], A::Show(Screen::Answers), "answers", "Answers: completions as they are sampled", None),
    bind(Everywhere, &["5"], A::Show(Screen::Ranking), "ranking", "Ranking: checkpoints by Final Mean", None),
    bind(Everywhere, &["6"], A::Show(Screen::Compare), "compare", "Compare: checkpoints item by item", None),
    bind(Everywhere, &["?", "f1"], A::Help, "help", "The keys of this screen", Some(90)),
    bind(Everywhere, &[":", "ctrl-p"], A::Palette, "actions", "Find any action by its name", Some(91)),
    bind(Everywhere, &["/"], A::Filter, "filter", "Filter by a regular expression; a leading ! inverts it", Some(60)),
    bind(Everywhere, &["n"], A::NextMatch, "next match", "The next match of the filter", None),
    bind(Everywhere, &["N"], A::PreviousMatch, "previous match", "The previous match of the filter", None),
    bind(Everywhere, &["tab"], A::NextPane, "pane", "The next pane", None),
    bind(Everywhere, &["backtab"], A::PreviousPane, "previous pane", "The previous pane", None),
    bind(Everywhere, &["esc"], A::Back, "back", "Close, clear or go back", None),
    bind(Everywhere, &["k", "up"], A::Up, "up", "Up", None),
    bind(Everywhere, &["j", "down"], A::Down, "down", "Down", None),
    bind(Everywhere, &["h", "left"], A::Left, "left", "Left", None),
    bind(Everywhere, &["l", "right"], A::Right, "right", "Right", None),
    bind(Everywhere, &["ctrl-u", "pageup"], A::PageUp, "page up", "A page up", None),
    bind(Everywhere, &["ctrl-d", "pagedown"], A::PageDown, "page down", "A page down", None),
    bind(Everywhere, &["g g", "home"], A::Top, "first", "The first line", None),
    bind(Everywhere, &["G", "end"], A::Bottom, "last", "The last line", None),
    bind(Everywhere, &["enter"], A::Open, "open", "Open what is selected", Some(10)),
    bind(Everywhere, &["y"], A::Copy, "copy", "Copy what is selected to the clipboard (OSC 52)", None),
    bind(Everywhere, &["x"], A::Export, "export", "Write what is shown to a file", Some(70)),
    bind(Everywhere, &["X"], A::DumpScreen, "dump screen", "Write the screen to files, as text and as an image (SVG)", None),
    bind(Everywhere, &["r"], A::Rescan, "rescan", "Read everything again", None),
    bind(Everywhere, &["o"], A::OpenInEditor, "editor", "Open the file in $VISUAL or $EDITOR", None),
    bind(Everywhere, &["T"], A::NextTheme, "theme", "The next theme", None),
    bind(Everywhere, &["M"], A::ToggleMouse, "mouse", "Mouse on or off", None),
    bind(Everywhere, &["ctrl-z"], A::Suspend, "suspend", "Suspend moim; fg brings it back", None),
    bind(Everywhere, &["ctrl-l"], A::Redraw, "redraw", "Draw the screen again", None),
    bind(Everywhere, &["q", "ctrl-c"], A::Quit, "quit", "Quit; a run keeps running unless you stop it", Some(92)),

    bind(On(Screen::Experiments), &["h", "left"], A::Left, "experiments", "To the list of experiments", None),
    bind(On(Screen::Experiments), &["l", "right"], A::Right, "runs", "To the list of runs", None),
    bind(On(Screen::Experiments), &["s"], A::Start, "start", "Start the selected experiment", Some(20)),
    bind(On(Screen::Experiments), &["R"], A::Resume, "resume", "Resume the selected run from its latest save point", Some(21)),
    bind(On(Screen::Experiments), &["e"], A::Edit, "edit", "Edit the selected experiment on the Plan screen", Some(22)),
    bind(On(Screen::Experiments), &["c"], A::Clone, "clone", "Copy the selected experiment or a run's configuration under a new name and edit it", Some(23)),
    bind(On(Screen::Experiments), &["a"], A::Queue, "queue", "Add the selected experiment to the queue, to run after the others", Some(24)),
    bind(On(Screen::Experiments), &["A"], A::ClearQueue, "clear queue", "Empty the queue", None),
    bind(On(Screen::Experiments), &["u"], A::FindDuplicates, "duplicates", "Runs that were made with the same configuration", None),
    bind(On(Screen::Experiments), &["space"], A::Mark, "mark", "Mark or unmark the selected line", None),
    bind(On(Screen::Experiments), &["\\"], A::ClearMarks, "clear marks", "Unmark everything", None),
    bind(On(Screen::Experiments), &["v"], A::CompareConfigurations, "differences", "What differs between the marked experiments and runs", Some(25)),
    bind(On(Screen::Experiments), &["p"], A::PauseOrContinue, "pause", "Pause the selected run, or continue", None),
    bind(On(Screen::Experiments), &["t"], A::StopAfterStep, "stop", "Save and stop the selected run after its step", None),
    bind(On(Screen::Experiments), &["K"], A::Kill, "kill", "Kill the selected run immediately, without saving", None),
    bind(On(Screen::Experiments), &["D"], A::Delete, "delete", "Delete the selected run or experiment file", None),
    bind(On(Screen::Experiments), &["S"], A::Sort, "sort", "Sort by the next column", None),

    bind(On(Screen::Plan), &["enter"], A::Open, "edit", "Edit the selected value", Some(10)),
    bind(On(Screen::Plan), &["tab"], A::NextPane, "section", "The next section", None),
    bind(On(Screen::Plan), &["backtab"], A::PreviousPane, "previous section", "The first line of this section, or of the previous one", None),
    bind(On(Screen::Plan), &["h", "left"], A::Left, "previous word", "The previous of the words that the value can be", None),
    bind(On(Screen::Plan), &["l", "right"], A::Right, "next word", "The next of the words that the value can be", None),
    bind(On(Screen::Plan), &["x"], A::Export, "export", "Write the whole configuration, every default resolved, to a file", Some(70)),
    bind(On(Screen::Plan), &["ctrl-s", "w"], A::Save, "save", "Write the file, its comments kept", Some(20)),
    bind(On(Screen::Plan), &["s"], A::Start, "start", "Start the experiment as it is saved", Some(21)),
    bind(On(Screen::Plan), &["a"], A::Queue, "queue", "Add the experiment to the queue", None),
    bind(On(Screen::Plan), &["u", "ctrl-z"], A::Undo, "undo", "Undo the last change", Some(22)),
    bind(On(Screen::Plan), &["]"], A::NextFault, "next fault", "The next value with a fault", Some(23)),
    bind(On(Screen::Plan), &["d"], A::Delete, "unset", "Remove the key from the file, so that its default applies", None),
    bind(On(Screen::Plan), &["c"], A::Clone, "clone", "Save under a new name", None),

    bind(On(Screen::Train), &["p"], A::PauseOrContinue, "pause", "Pause training, or continue", Some(20)),
    bind(On(Screen::Train), &["S"], A::SaveNow, "save now", "Save a checkpoint now", Some(21)),
    bind(On(Screen::Train), &["t"], A::StopAfterStep, "stop", "Save and stop after this step", Some(22)),
    bind(On(Screen::Train), &["R"], A::Resume, "resume", "Resume this run from its latest save point", None),
    bind(On(Screen::Train), &["K"], A::Kill, "kill", "Kill the trainer immediately, without saving", None),
    bind(On(Screen::Train), &["e", "enter"], A::Expand, "expand", "Only the selected chart, or all again", Some(30)),
    bind(On(Screen::Train), &["L"], A::LogScale, "log scale", "Logarithmic or linear scale of the selected chart", Some(31)),
    bind(On(Screen::Train), &["+", "="], A::MoreSmoothing, "smoother", "More smoothing", Some(32)),
    bind(On(Screen::Train), &["-"], A::LessSmoothing, "rougher", "Less smoothing", None),
    bind(On(Screen::Train), &["<"], A::ShorterWindow, "shorter", "A shorter window of steps", Some(33)),
    bind(On(Screen::Train), &[">"], A::LongerWindow, "longer", "A longer window of steps", None),
    bind(On(Screen::Train), &["z"], A::Freeze, "freeze", "Freeze the charts, or let them run", None),
    bind(On(Screen::Train), &["g l"], A::ShowLog, "log", "The trainer's log", None),

    bind(On(Screen::Answers), &["d"], A::Layout, "layout", "The group in columns, or one completion at a time", Some(20)),
    bind(On(Screen::Answers), &["s"], A::Sort, "sort", "Sort the group by the next reward", Some(21)),
    bind(On(Screen::Answers), &["S"], A::ReverseSort, "reverse", "Reverse the order", None),
    bind(On(Screen::Answers), &["H"], A::History, "history", "This prompt over all steps", Some(22)),
    bind(On(Screen::Answers), &["w"], A::Wrap, "wrap", "Wrap lines, or cut them", None),
    bind(On(Screen::Answers), &["]"], A::NextChange, "next group", "The next group", Some(23)),
    bind(On(Screen::Answers), &["["], A::PreviousChange, "previous group", "The previous group", None),
    bind(On(Screen::Answers), &["t"], A::QuestionType, "type", "The next question type", None),
    bind(On(Screen::Answers), &["f"], A::ItemFilter, "follow", "Follow the newest step, or stay", Some(24)),

    bind(On(Screen::Ranking), &["enter"], A::Open, "details", "Show or hide the details of the file", Some(10)),
    bind(On(Screen::Ranking), &["space"], A::Mark, "mark", "Mark or unmark a file for comparing", Some(20)),
    bind(On(Screen::Ranking), &["\\"], A::ClearMarks, "clear marks", "Unmark every file", None),
    bind(On(Screen::Ranking), &["v", "c"], A::CompareMarked, "compare", "Compare the marked files item by item", Some(21)),
    bind(On(Screen::Ranking), &["s"], A::Sort, "sort", "Sort by the next column", Some(22)),
    bind(On(Screen::Ranking), &["S"], A::ReverseSort, "reverse", "Reverse the order", None),
    bind(On(Screen::Ranking), &["b"], A::Baseline, "baseline", "Show differences from the best, or from epoch 0", None),
    bind(On(Screen::Ranking), &["t"], A::QuestionType, "types", "Values of each question type", Some(23)),

    bind(On(Screen::Compare), &["enter"], A::Open, "item", "Give the keyboard to the item, or back to the list", Some(10)),
    bind(On(Screen::Compare), &["]"], A::NextChange, "next change", "The next item whose verdict or answer changed", Some(20)),
    bind(On(Screen::Compare), &["["], A::PreviousChange, "previous change", "The previous item that changed", None),
    bind(On(Screen::Compare), &["}"], A::NextRegression, "next regression", "The next item that was broken", Some(21)),
    bind(On(Screen::Compare), &["{"], A::PreviousRegression, "previous regression", "The previous item that was broken", None),
    bind(On(Screen::Compare), &["f"], A::ItemFilter, "show", "All, changed, fixed, broken, both wrong or both right", Some(22)),
    bind(On(Screen::Compare), &["t"], A::QuestionType, "type", "The next question type", Some(23)),
    bind(On(Screen::Compare), &["d"], A::DiffMode, "diff", "Differences inline or side by side, against the baseline or the gold answer, or none", Some(24)),
    bind(On(Screen::Compare), &["h", "left"], A::Left, "other file", "Of more than two files, the previous one to compare with the baseline", None),
    bind(On(Screen::Compare), &["l", "right"], A::Right, "other file", "Of more than two files, the next one to compare with the baseline", None),
    bind(On(Screen::Compare), &["b"], A::Baseline, "baseline", "The next file as the one compared with", None),
    bind(On(Screen::Compare), &["m"], A::Metric, "metric", "Sort by the change of the next metric", None),
    bind(On(Screen::Compare), &["S"], A::ReverseSort, "reverse", "Reverse the order", None),
    bind(On(Screen::Compare), &["w"], A::Wrap, "wrap", "Wrap lines, or cut them", None),
];

/// What the keys pressed so far mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// They ask for this.
    Action(Action),
    /// They start a longer sequence.
    Prefix,
    /// Nothing.
    Nothing,
}

/// Looks the keys up, the screen's own bindings first.
pub fn lookup(screen: Screen, keys: &str) -> Lookup {
    let of = |scope: Scope| {
        BINDINGS
            .iter()
            .filter(move |binding| binding.scope == scope)
    };
    let exact = |binding: &&Binding| binding.keys.contains(&keys);
    if let Some(found) = of(On(screen))
        .find(exact)
        .or_else(|| of(Everywhere).find(exact))
    {
        return Lookup::Action(found.action);
    }
    let begins = |binding: &Binding| {
        let mut sequences = binding.keys.iter();
        sequences.any(|sequence| {
            sequence
                .strip_prefix(keys)
                .is_some_and(|rest| rest.starts_with(' '))
        })
    };
    if of(On(screen)).chain(of(Everywhere)).any(begins) {
        Lookup::Prefix
    } else {
        Lookup::Nothing
    }
}

/// The bindings that hold on a screen: its own, then those of every screen whose action or keys
/// it does not bind itself.
pub fn bindings_of(screen: Screen) -> impl Iterator<Item = &'static Binding> {
    let own = BINDINGS
        .iter()
        .filter(move |binding| binding.scope == On(screen));
    let common = BINDINGS.iter().filter(move |binding| {
        let is_bound_here = BINDINGS
            .iter()
            .any(|own| own.scope == On(screen) && own.action == binding.action);
        binding.scope == Everywhere
            && !is_bound_here
            && binding
                .keys
                .iter()
                .any(|keys| lookup(screen, keys) == Lookup::Action(binding.action))
    });
    own.chain(common)
}

/// The name of a key: `a`, `G`, `ctrl-u`, `enter`, `space`, `left`, `f1`.
///
/// A Korean layout sends Hangul letters where a command was meant, so the letters of the
/// two-set keyboard stand for the keys they are on.
pub fn key_name(key: KeyEvent) -> Option<String> {
    let name = match key.code {
        KeyCode::Char(' ') => "space".to_owned(),
        KeyCode::Char(letter) => latin(letter).to_string(),
        KeyCode::Enter => "enter".to_owned(),
        KeyCode::Esc => "esc".to_owned(),
        KeyCode::Tab => "tab".to_owned(),
        KeyCode::BackTab => "backtab".to_owned(),
        KeyCode::Backspace => "backspace".to_owned(),
        KeyCode::Delete => "delete".to_owned(),
        KeyCode::Up => "up".to_owned(),
        KeyCode::Down => "down".to_owned(),
        KeyCode::Left => "left".to_owned(),
        KeyCode::Right => "right".to_owned(),
        KeyCode::PageUp => "pageup".to_owned(),
        KeyCode::PageDown => "pagedown".to_owned(),
        KeyCode::Home => "home".to_owned(),
        KeyCode::End => "end".to_owned(),
        KeyCode::F(number) => format!("f{number}"),
        _ => return None,
    };
    // Shift is in the character already, and in `backtab`.
    let mut prefix = String::new();
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        prefix.push_str("ctrl-");
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        prefix.push_str("alt-");
    }
    Some(format!("{prefix}{name}"))
}

/// The Latin letter on the key of a Hangul letter of the two-set keyboard.
fn latin(letter: char) -> char {
    const HANGUL: &str = "ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔㅁㄴㅇㄹㅎㅗㅓㅏㅣㅋㅌㅊㅍㅠㅜㅡㅃㅉㄸㄲㅆㅒㅖ";
    const LATIN: &str = "qwertyuiopasdfghjklzxcvbnmQWERTOP";
    HANGUL
        .chars()
        .zip(LATIN.chars())
        .find_map(|(hangul, latin)| (hangul == letter).then_some(latin))
        .unwrap_or(letter)
}

#[cfg(test)]
mod tests;
