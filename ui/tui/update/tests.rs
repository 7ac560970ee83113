use std::path::PathBuf;
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyModifiers};
use moim_core::run::{Liveness, RunState, RunStatus};

use super::super::data::index::{Index, RunEntry};
use super::super::message::Input;
use super::super::state::Settings;
use super::super::theme::{ColorDepth, ThemeName};
use super::*;

fn state() -> State {
    let settings = Settings::new(ThemeName::Dark, ColorDepth::None, false, false);
    let now = "2026-11-22T09:00:00Z".parse().unwrap();
    State::new(settings, now, Rect::new(0, 0, 80, 24))
}

fn key(code: KeyCode) -> Message {
    Message::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Presses letters one after another and gathers what is to be done.
fn press(state: &mut State, letters: &str) -> Vec<Effect> {
    letters
        .chars()
        .flat_map(|letter| update(state, key(KeyCode::Char(letter))))
        .collect()
}

/// A run of this process, so that it counts as alive.
fn run(path: &str, status: RunStatus) -> RunEntry {
    let mut state = RunState::begin(path, "cpu");
    state.state = status;
    RunEntry {
        path: PathBuf::from(path),
        experiment: "demo".to_owned(),
        name: path.to_owned(),
        liveness: if status.is_over() {
            Liveness::Ended
        } else {
            Liveness::Alive
        },
        state: Ok(state),
        last_words: Vec::new(),
    }
}

fn index(runs: Vec<RunEntry>) -> Message {
    Message::Data(Data::Index(Index {
        runs: runs.into_iter().map(Arc::new).collect(),
        ..Index::default()
    }))
}

#[test]
fn numbers_lead_to_the_screens() {
    let mut state = state();
    for (number, screen) in ('1'..).zip(Screen::ALL) {
        press(&mut state, &number.to_string());
        assert_eq!(state.screen, screen);
    }
}

#[test]
fn help_opens_scrolls_and_closes() {
    let mut state = state();
    press(&mut state, "?jj");
    let Some(Overlay::Text { pane, .. }) = &state.overlay else {
        panic!("{:?}", state.overlay);
    };
    assert_eq!(pane.shown(99, 9).start, 2);
    update(&mut state, key(KeyCode::Esc));
    assert!(state.overlay.is_none());
}

#[test]
fn the_palette_finds_an_action_by_a_few_letters() {
    let mut state = state();
    press(&mut state, ":theme");
    update(&mut state, key(KeyCode::Enter));
    assert_eq!(state.settings.theme_name, ThemeName::Light);
    press(&mut state, ":dump");
    assert_eq!(
        update(&mut state, key(KeyCode::Enter)),
        [Effect::DumpScreen]
    );
}

#[test]
fn a_sequence_waits_and_is_forgotten_when_it_leads_nowhere() {
    let mut state = state();
    press(&mut state, "g");
    assert_eq!(state.pending_keys.as_deref(), Some("g"));
    press(&mut state, "?");
    assert!(state.pending_keys.is_none() && state.overlay.is_none());
}

#[test]
fn nothing_runs_so_quitting_asks_nothing() {
    assert_eq!(press(&mut state(), "q"), [Effect::Quit]);
}

#[test]
fn quitting_beside_a_run_asks_what_becomes_of_it() {
    let mut state = state();
    let path = PathBuf::from("outputs/demo/a");
    state.world.attach(&path);
    if let Some(open) = &mut state.world.open {
        open.state = run("outputs/demo/a", RunStatus::Running).state;
        open.liveness = Liveness::Alive;
    }
    assert_eq!(press(&mut state, "q"), []);
    assert!(matches!(state.overlay, Some(Overlay::Dialog(_))));
    let stop = Effect::Ask {
        run: path,
        request: Request::Stop,
    };
    assert_eq!(press(&mut state, "s"), [stop, Effect::Quit]);
}

#[test]
fn pasted_text_is_never_taken_for_keys() {
    let mut state = state();
    assert_eq!(update(&mut state, Message::Paste("qqq1".to_owned())), []);
    assert_eq!(state.screen, Screen::Experiments);
}

#[test]
fn the_queue_starts_its_next_experiment_when_nothing_runs() {
    let mut state = state();
    let next = PathBuf::from("experiments/b.toml");
    state.world.queue.push(next.clone());
    let busy = run("a", RunStatus::Running);
    assert!(update(&mut state, index(vec![busy])).is_empty());
    let over = run("a", RunStatus::Finished);
    let effects = update(&mut state, index(vec![over]));
    assert_eq!(
        effects[..2],
        [
            Effect::KeepQueue(Vec::new()),
            Effect::Start { experiment: next }
        ]
    );
}

#[test]
fn a_run_is_shown_as_soon_as_it_is_started() {
    let mut state = state();
    let run = PathBuf::from("outputs/demo/b");
    let effects = update(
        &mut state,
        Message::Done(Outcome::Started {
            run: run.clone(),
            log: PathBuf::from("log"),
        }),
    );
    assert!(effects.contains(&Effect::OpenRun(run.clone())));
    assert_eq!(state.screen, Screen::Train);
    assert_eq!(state.launching.map(|launch| launch.run), Some(run));
}

#[test]
fn what_is_typed_for_a_new_experiment_must_be_a_name() {
    let mut state = state();
    for (name, is_written) in [("../x", false), (".x", false), ("새 실험", true)] {
        state.ask_for_line(Input {
            title: "Name".to_owned(),
            initial: String::new(),
            purpose: InputPurpose::NewExperiment {
                text: "[model]".to_owned(),
            },
        });
        press(&mut state, name);
        let effects = update(&mut state, key(KeyCode::Enter));
        let writes = |effect: &Effect| matches!(effect, Effect::Write { .. });
        assert_eq!(effects.iter().any(writes), is_written, "{name}");
    }
}

#[test]
fn an_old_notice_goes() {
    let mut state = state();
    state.tell("done", false);
    let later = state.now + SignedDuration::from_secs(NOTICE_SECONDS + 1);
    update(&mut state, Message::Tick(later));
    assert!(state.notice.is_none());
}

#[test]
fn letting_a_button_go_hides_nothing_that_its_press_did() {
    let mut state = state();
    let mouse = |kind| {
        Message::Mouse(MouseEvent {
            kind,
            column: 16,
            row: 0,
            modifiers: KeyModifiers::NONE,
        })
    };
    state.is_dirty = false;
    update(&mut state, mouse(MouseEventKind::Moved));
    assert!(!state.is_dirty);
    update(&mut state, mouse(MouseEventKind::Down(MouseButton::Left)));
    update(&mut state, mouse(MouseEventKind::Up(MouseButton::Left)));
    assert!(state.is_dirty && state.screen == Screen::Plan);
}

#[test]
fn a_run_that_was_deleted_is_not_shown_any_more() {
    let mut state = state();
    let path = PathBuf::from("outputs/demo/a");
    state.world.attach(&path);
    let effects = update(&mut state, Message::Done(Outcome::Deleted { path }));
    assert!(effects.contains(&Effect::Rescan) && state.world.open.is_none());
}

#[test]
fn the_palette_leads_to_the_screen_that_an_action_belongs_to() {
    let mut state = state();
    press(&mut state, ":smoother");
    update(&mut state, key(KeyCode::Enter));
    assert_eq!(state.screen, Screen::Train);
}

/// A screen with an edit that is not saved, and the file.
fn edited() -> (State, PathBuf) {
    let mut state = state();
    state.world = super::super::screens::plan::sample::world();
    if let Some(index) = &mut state.world.index {
        index.runs.clear();
    }
    let path = PathBuf::from(super::super::screens::plan::sample::OPEN);
    execute(&mut state, vec![Command::Plan(path.clone())]);
    press(&mut state, "/run.seed");
    update(&mut state, key(KeyCode::Enter));
    update(&mut state, key(KeyCode::Enter));
    press(&mut state, "7");
    update(&mut state, key(KeyCode::Enter));
    (state, path)
}

#[test]
fn quitting_asks_once_about_edits_that_are_not_saved() {
    let (mut state, path) = edited();
    assert_eq!(press(&mut state, "q"), []);
    let Some(Overlay::Dialog(dialog)) = &state.overlay else {
        panic!("no question");
    };
    assert!(dialog.lines.concat().contains(&path.display().to_string()));
    update(&mut state, key(KeyCode::Esc));
    assert_eq!(press(&mut state, "qd"), [Effect::Quit]);

    let (mut state, path) = edited();
    let saved = press(&mut state, "qs");
    let [Effect::Write { path: written, .. }] = &saved[..] else {
        panic!("{saved:?}");
    };
    assert_eq!(*written, path);
    let written = Outcome::Written { path: path.clone() };
    assert_eq!(update(&mut state, Message::Done(written)), [Effect::Quit]);
}

#[test]
fn edits_that_cannot_be_saved_keep_the_program_open() {
    let (mut state, path) = edited();
    press(&mut state, "qs");
    let failed = Outcome::Failed("the disk is full".to_owned());
    assert_eq!(update(&mut state, Message::Done(failed)), []);
    let written = Outcome::Written { path };
    assert_eq!(update(&mut state, Message::Done(written)), [Effect::Rescan]);
}

#[test]
fn quitting_says_that_queued_experiments_wait() {
    let said = |state: &State| match &state.overlay {
        Some(Overlay::Dialog(dialog)) => dialog.lines.join("\n"),
        _ => panic!("no question"),
    };
    let mut state = state();
    state.world.queue.push(PathBuf::from("experiments/b.toml"));
    assert_eq!(press(&mut state, "q"), []);
    assert!(
        said(&state).contains("until moim is opened again"),
        "{}",
        said(&state)
    );
    update(&mut state, key(KeyCode::Esc));
    // The same next to a run that keeps running.
    state.world.attach(&PathBuf::from("outputs/demo/a"));
    if let Some(open) = &mut state.world.open {
        open.state = run("outputs/demo/a", RunStatus::Running).state;
        open.liveness = Liveness::Alive;
    }
    assert_eq!(press(&mut state, "q"), []);
    assert!(
        said(&state).contains("until moim is opened again"),
        "{}",
        said(&state)
    );
}
