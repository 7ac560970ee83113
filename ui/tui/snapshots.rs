//! Whole frames as a person sees them: every screen at three sizes, and what lies over them. A
//! frame that changes shows up in review as the changed lines of a file in `snapshots/`; with
//! `INSTA_UPDATE=always` the files are written anew.

use std::path::Path;

use crossterm::event::{KeyCode, KeyEvent};
use jiff::Timestamp;
use moim_core::run::{Liveness, RunStatus};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::data::World;
use super::data::comparison::ComparisonData;
use super::message::{Command, Data, Effect, Message};
use super::screens::{answers, compare, experiments, plan, ranking, train};
use super::state::{Screen, Settings, State};
use super::theme::{ColorDepth, ThemeName};
use super::update::{execute, update};
use super::view;
use super::widgets::testing::lines;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (160, 50)];

/// What the samples of all screens come to, with the Train screen's run as the open one.
fn world() -> World {
    let run = Path::new(train::sample::RUN);
    let ranked = ranking::sample::world();
    let comparison = ComparisonData {
        run: run.to_owned(),
        files: ["inference_epoch0.json", "inference_epoch1.json"]
            .map(str::to_owned)
            .to_vec(),
        comparison: compare::sample::comparison(&[0, 1]),
    };
    let mut world = World {
        plan: Some(plan::sample::facts()),
        ..experiments::sample::world()
    };
    world.attach(run);
    world.ranking = ranked.ranking;
    world.comparison = Some(Ok(comparison.into()));
    let news = train::sample::news(RunStatus::Running, Liveness::Alive);
    world.apply(Data::Run(news.into()));
    world
}

/// The program with a screen at the front, its questions answered.
fn program(screen: Screen, settings: Settings, (width, height): (u16, u16)) -> State {
    let now: Timestamp = experiments::sample::NOW.parse().unwrap();
    let mut state = State::new(settings, now, Rect::new(0, 0, width, height));
    state.world = world();
    let first = match screen {
        Screen::Plan => Command::Plan(plan::sample::OPEN.into()),
        _ => Command::Show(screen),
    };
    for effect in execute(&mut state, vec![first]) {
        answer(&mut state, effect);
    }
    state
}

/// Answers as a reader would.
fn answer(state: &mut State, effect: Effect) {
    if let Effect::ReadAnswers(query) = effect {
        let mut page = answers::sample::page(query.number);
        page.run = query.run;
        update(state, Message::Data(Data::Answers(page)));
    }
}

fn press(state: &mut State, keys: &[KeyCode]) {
    for &key in keys {
        for effect in update(state, Message::Key(KeyEvent::from(key))) {
            answer(state, effect);
        }
    }
}

fn typed(text: &str) -> Vec<KeyCode> {
    text.chars().map(KeyCode::Char).collect()
}

fn plain() -> Settings {
    Settings::new(ThemeName::None, ColorDepth::None, false, true)
}

fn ascii() -> Settings {
    Settings::new(ThemeName::None, ColorDepth::None, true, true)
}

fn frame(state: &State) -> Buffer {
    let backend = TestBackend::new(state.size.width, state.size.height);
    let mut terminal = Terminal::new(backend).unwrap();
    let frame = terminal.draw(|frame| view::draw(state, frame)).unwrap();
    frame.buffer.clone()
}

fn drawn(state: &State) -> String {
    lines(&frame(state)).join("\n")
}

/// Compares with `snapshots/<name>.snap`.
fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn every_screen_at_three_sizes() {
    for screen in Screen::ALL {
        for size in SIZES {
            let name = format!("{}_{}x{}", screen.title().to_lowercase(), size.0, size.1);
            assert_snapshot(&name, &drawn(&program(screen, plain(), size)));
        }
    }
}

#[test]
fn every_screen_before_anything_was_read() {
    for screen in Screen::ALL {
        let now: Timestamp = experiments::sample::NOW.parse().unwrap();
        let mut state = State::new(plain(), now, Rect::new(0, 0, 80, 24));
        execute(&mut state, vec![Command::Show(screen)]);
        let name = format!("{}_empty", screen.title().to_lowercase());
        assert_snapshot(&name, &drawn(&state));
    }
}

#[test]
fn what_lies_over_a_screen() {
    let over = |name: &str, screen: Screen, keys: &[KeyCode]| {
        let mut state = program(screen, plain(), (80, 24));
        press(&mut state, keys);
        assert_snapshot(name, &drawn(&state));
    };
    over("help", Screen::Train, &typed("?"));
    over("palette", Screen::Train, &typed(":smooth"));
    over("dialog", Screen::Train, &typed("q"));
    over("filter", Screen::Answers, &typed("/치렀"));
    over("line", Screen::Experiments, &typed("c"));
}

#[test]
fn one_completion_alone_and_one_chart_alone() {
    let mut state = program(Screen::Answers, plain(), (120, 40));
    press(&mut state, &typed("d"));
    assert_snapshot("answers_one", &drawn(&state));
    let mut state = program(Screen::Train, plain(), (120, 40));
    press(&mut state, &typed("e"));
    assert_snapshot("train_expanded", &drawn(&state));
}

#[test]
fn a_terminal_that_is_too_small() {
    assert_snapshot(
        "too_small",
        &drawn(&program(Screen::Train, plain(), (60, 10))),
    );
}

#[test]
fn ascii_is_ascii_but_for_what_the_files_say() {
    for screen in Screen::ALL {
        let text = drawn(&program(screen, ascii(), (120, 40)));
        let is_hangul = |sign: char| matches!(sign, '가'..='힣' | 'ㄱ'..='ㅣ');
        let strange: String = text
            .chars()
            .filter(|sign| !sign.is_ascii() && !is_hangul(*sign))
            .collect();
        assert_eq!(strange, "", "{}\n{text}", screen.title());
    }
    for screen in [Screen::Plan, Screen::Train] {
        let name = format!("{}_ascii", screen.title().to_lowercase());
        assert_snapshot(&name, &drawn(&program(screen, ascii(), (120, 40))));
    }
}

/// Colours and emphasis, which the other snapshots leave out.
#[test]
fn styles_of_a_screen() {
    for theme in [ThemeName::Dark, ThemeName::ColorBlind] {
        let settings = Settings::new(theme, ColorDepth::True, false, true);
        let state = program(Screen::Ranking, settings, (80, 24));
        let name = format!("styles_{}", theme.name());
        assert_snapshot(&name, &format!("{:?}", frame(&state)));
    }
}
