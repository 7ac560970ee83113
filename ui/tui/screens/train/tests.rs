use moim_core::run::{Liveness, RunStatus};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::sample::{RUN, news, now, running, samples, world};
use super::*;
use crate::tui::data::World;
use crate::tui::data::run::RunUpdate;
use crate::tui::message::{Effect, InputPurpose};
use crate::tui::state::Settings;
use crate::tui::theme::{ColorDepth, ThemeName};
use crate::tui::widgets::testing::lines;

const SIZES: [(u16, u16); 3] = [(80, 21), (120, 37), (160, 47)];

fn context<'a>(world: &'a World, settings: &'a Settings, size: (u16, u16)) -> Context<'a> {
    Context {
        world,
        settings,
        now: now(),
        body: Rect::new(0, 0, size.0, size.1),
    }
}

fn settings(is_ascii: bool) -> Settings {
    Settings::new(ThemeName::None, ColorDepth::None, is_ascii, false)
}

fn drawn_as(train: &Train, world: &World, size: (u16, u16), is_ascii: bool) -> Vec<String> {
    let settings = settings(is_ascii);
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let context = context(world, &settings, size);
    let frame = terminal
        .draw(|frame| train.draw(&context, frame, frame.area()))
        .unwrap();
    lines(frame.buffer)
}

fn drawn(train: &Train, world: &World, size: (u16, u16)) -> Vec<String> {
    drawn_as(train, world, size, false)
}

/// The screen after these actions.
fn after(actions: &[Action], world: &World, size: (u16, u16)) -> Train {
    let settings = settings(false);
    let context = context(world, &settings, size);
    let mut train = Train::default();
    train.refresh(&context);
    for action in actions {
        train.act(*action, &context);
    }
    train
}

/// What one action asks for.
fn asked(action: Action, world: &World) -> Vec<Command> {
    let settings = settings(false);
    let mut train = Train::default();
    train.act(action, &context(world, &settings, (120, 37)))
}

#[track_caller]
fn assert_line(lines: &[String], words: &[&str]) {
    let has_all = |line: &String| words.iter().all(|word| line.contains(word));
    assert!(
        lines.iter().any(has_all),
        "no line with {words:?}: {lines:#?}"
    );
}

#[test]
fn the_header_tells_how_far_the_run_has_come() {
    let world = running();
    for size in SIZES {
        let lines = drawn(&Train::default(), &world, size);
        assert_line(
            &lines[..1],
            &["demo/씨앗42", "→ running", "step 40/106", "epoch 1 75.0%"],
        );
        assert_line(&lines[1..2], &["run [", "37.7%", "rollout", "46.9%"]);
        assert_line(&lines[2..3], &["reward 1", "best Final Mean 0.6497 epoch0"]);
    }
    let lines = drawn(&Train::default(), &world, (160, 47));
    assert_line(
        &lines[..1],
        &["✗ 2 alarms, 1 critical", "elapsed 2m 34s  on cuda:0"],
    );
    assert_line(&lines[1..2], &["3m 18s left", "30/64  4.0s  1820 tokens"]);
    assert_line(
        &lines[2..3],
        &[
            "steps/s 0.3333",
            "rollout tokens/s 2 100",
            "backward tokens/s 3 400",
        ],
    );
}

#[test]
fn charts_and_panes_are_laid_out_by_the_width() {
    let world = running();
    let lines = drawn(&Train::default(), &world, (80, 21));
    assert_line(&lines, &["Charts 1 to", "of 13", "all steps"]);
    assert_line(&lines, &["reward"]);
    assert_line(&lines, &["Alarms 2", "tab: Memory, Events, Log"]);
    let lines = drawn(&Train::default(), &world, (120, 37));
    assert_line(&lines, &["Memory", "Alarms 2", "tab: Events, Log"]);
    let lines = drawn(&Train::default(), &world, (160, 47));
    for title in ["Memory", "Alarms 2", "Events 2", "Log"] {
        assert_line(&lines, &[title]);
    }
    assert_line(&lines, &["reward", "bertscore", "exact_match"]);
}

#[test]
fn memory_is_that_of_the_card_or_of_the_host() {
    let mut world = running();
    let train = Train::default();
    let lines = drawn(&train, &world, (160, 47));
    assert_line(&lines, &["in use 4.9 GiB, reserved 8.0 GiB, peak 7.0 GiB"]);
    assert_line(&lines, &["predicted 9.0 GiB"]);
    assert_line(&lines, &["GPU 93% busy, 61 C, 284 W"]);
    assert_line(&lines, &["card 11.0 GiB of 24.0 GiB"]);
    assert_line(&lines, &["host: trainer 840.0 MiB, 20.0 GiB of 32.0 GiB"]);
    let mut news = RunUpdate::of(std::path::Path::new(RUN));
    news.system = samples(false);
    news.has_system_restarted = true;
    world.open.as_mut().unwrap().apply(news);
    let lines = drawn(&train, &world, (160, 47));
    assert_line(&lines, &["No GPU in use: what grows is host memory."]);
    assert_line(&lines, &["host 12.0 GiB of 32.0 GiB"]);
}

#[test]
fn alarms_and_events_have_the_newest_first_and_the_log_its_end() {
    let world = running();
    let lines = drawn(&Train::default(), &world, (160, 47));
    let place = |word: &str| lines.iter().position(|line| line.contains(word)).unwrap();
    assert!(place("entropy_collapse") < place("reward_constant"));
    assert_line(&lines, &["✗ critical entropy_collapse  step 40, 34s ago"]);
    assert_line(&lines, &["the entropy fell to 0.0020; 온도를 높이세요"]);
    assert_line(&lines, &["step_30 saved at step 30"]);
    assert_line(&lines, &["로그 30"]);
    let mut log = after(&[Action::PreviousPane], &world, (80, 21));
    assert_line(&drawn(&log, &world, (80, 21)), &["로그 30"]);
    let settings = settings(false);
    log.act(Action::Top, &context(&world, &settings, (80, 21)));
    assert_line(&drawn(&log, &world, (80, 21)), &["로그 1"]);
}

#[test]
fn a_chart_expands_and_its_crosshair_reads_values() {
    let world = running();
    let size = (80, 21);
    let train = after(&[Action::Right, Action::Expand], &world, size);
    let lines = drawn(&train, &world, size);
    assert_line(&lines, &["Charts 2 of 13"]);
    assert_line(&lines, &["rewards/bertscore/mean"]);
    let train = after(&[Action::Expand, Action::Left, Action::Left], &world, size);
    assert_eq!(train.crosshair, Some(39.0));
    assert_line(
        &drawn(&train, &world, size),
        &["reward · step 39", "0.9875"],
    );
    let train = after(&[Action::Expand, Action::Top], &world, size);
    assert_eq!(train.crosshair, Some(1.0));
    let train = after(
        &[Action::Expand, Action::Left, Action::Back, Action::Back],
        &world,
        size,
    );
    assert_eq!((train.crosshair, train.is_expanded), (None, false));
}

#[test]
fn pages_of_charts_are_turned_and_keep_within_what_there_is() {
    let world = running();
    let size = (80, 21);
    let train = after(&[Action::PageDown], &world, size);
    assert!(
        !drawn(&train, &world, size)
            .iter()
            .any(|line| line.contains("Charts 1 to"))
    );
    let train = after(&[Action::Bottom, Action::Right, Action::Down], &world, size);
    assert_eq!(
        train.selected.as_deref(),
        Some("tokens_per_second/backward")
    );
    let train = after(
        &[Action::Bottom, Action::Top, Action::Left, Action::Up],
        &world,
        size,
    );
    assert_eq!(train.selected.as_deref(), Some("reward"));
}

#[test]
fn window_smoothing_scale_and_filter_change_what_is_drawn() {
    let world = running();
    let size = (80, 21);
    let mut train = after(
        &[Action::ShorterWindow; 4]
            .into_iter()
            .chain([Action::MoreSmoothing, Action::LogScale])
            .collect::<Vec<_>>(),
        &world,
        size,
    );
    let settings = settings(false);
    train.set_filter("entropy|kl", &context(&world, &settings, size));
    let lines = drawn(&train, &world, size);
    assert_line(
        &lines,
        &["Charts 1 to 1 of 1", "last 50 steps", "smoothing 0.5"],
    );
    assert_line(&lines, &["entropy", "smooth 0.5"]);
    assert!(train.log_scales.contains("reward"));
    train.set_filter("없는 지표", &context(&world, &settings, size));
    assert_line(
        &drawn(&train, &world, size),
        &["No metric matches /없는 지표"],
    );
}

#[test]
fn frozen_charts_stay_while_the_run_goes_on() {
    let mut world = running();
    let size = (120, 37);
    let train = after(&[Action::Freeze], &world, size);
    let before = drawn(&train, &world, size);
    assert_line(&before, &["frozen at step 40"]);
    world
        .open
        .as_mut()
        .unwrap()
        .history
        .push("reward", 41.0, 100.0);
    let chart = |lines: &[String]| lines[4..12].to_vec();
    assert_eq!(chart(&drawn(&train, &world, size)), chart(&before));
    assert_ne!(
        chart(&drawn(&Train::default(), &world, size)),
        chart(&before)
    );
}

#[test]
fn a_run_that_starts_died_or_failed_says_so_and_shows_its_log() {
    let mut starting = RunUpdate::of(std::path::Path::new(RUN));
    starting.log = Some(vec!["loading 모델".to_owned()]);
    let lines = drawn(&Train::default(), &world(starting), (80, 21));
    assert_line(&lines, &["… starting"]);
    assert_line(
        &lines,
        &["It is starting: the model and the data are read."],
    );
    assert_line(&lines, &["loading 모델"]);

    let dead = world(news(RunStatus::Running, Liveness::Dead));
    let lines = drawn(&Train::default(), &dead, (80, 21));
    assert_line(&lines, &["✗ dead"]);
    assert_line(&lines, &["Its process has exited. R resumes from step_30"]);
    assert_line(&lines, &["로그 30"]);

    let failed = world(news(RunStatus::Failed, Liveness::Ended));
    let lines = drawn(&Train::default(), &failed, (120, 37));
    assert_line(&lines, &["디스크가 가득 찼다. R resumes from step_30"]);
}

#[test]
fn what_has_not_been_read_yet_and_what_cannot_be_is_told_in_a_line() {
    let mut news = news(RunStatus::Running, Liveness::Alive);
    let reading = news.reading.as_mut().unwrap();
    reading.bytes = 250;
    reading.bad_lines = 2;
    reading.latest_bad_line = Some("line 7 is torn".to_owned());
    let lines = drawn(&Train::default(), &world(news), (120, 37));
    assert_line(
        &lines[3..4],
        &[
            "reading the history: 25.0% of 1000 B; 2 lines cannot be read, the latest: line 7 is torn",
        ],
    );
}

#[test]
fn charts_are_exported_and_copied() {
    let world = running();
    let commands = asked(Action::Copy, &world);
    assert!(
        matches!(&commands[..], [Command::Effect(Effect::Copy(text))] if text.starts_with("reward: last 1"))
    );
    let commands = asked(Action::Export, &world);
    let [Command::Ask(dialog)] = &commands[..] else {
        panic!("{commands:?}");
    };
    let written = |key: char| {
        let choice = dialog
            .choices
            .iter()
            .find(|choice| choice.key == key)
            .unwrap();
        match &choice.commands[..] {
            [Command::Input(input)] => match &input.purpose {
                InputPurpose::ExportTo { text } => (input.initial.clone(), text.clone()),
                InputPurpose::NewExperiment { .. } => panic!("{key}"),
            },
            commands => panic!("{commands:?}"),
        }
    };
    let (path, svg) = written('s');
    assert_eq!(path, format!("{RUN}/exports/reward.svg"));
    assert!(svg.starts_with("<svg"));
    let (path, csv) = written('c');
    assert_eq!(path, format!("{RUN}/exports/metrics.csv"));
    assert!(csv.starts_with("metric,step,value\nreward,1,0.5125\n"));
}

#[test]
fn the_log_opens_and_the_experiment_is_edited() {
    let world = running();
    let commands = asked(Action::ShowLog, &world);
    assert!(matches!(&commands[..], [Command::Read { lines, .. }] if lines.len() == 30));
    assert_eq!(
        asked(Action::OpenInEditor, &world),
        [Effect::OpenInEditor(PathBuf::from(RUN).join("experiment.toml")).into()]
    );
}

#[test]
fn a_click_selects_a_chart_expands_it_and_gives_panes_the_keyboard() {
    let world = running();
    let size = (120, 37);
    let settings = settings(false);
    let context = context(&world, &settings, size);
    let mut train = Train::default();
    train.click(Position::new(50, 6), &context);
    assert_eq!(train.selected.as_deref(), Some("rewards/bertscore/mean"));
    assert!(!train.is_expanded);
    train.click(Position::new(50, 6), &context);
    assert!(train.is_expanded);
    train.act(Action::Back, &context);
    train.click(Position::new(5, 30), &context);
    assert_eq!(train.focus.now(), Part::Memory);
}

#[test]
fn without_a_run_the_screen_says_how_to_open_one() {
    let lines = drawn(&Train::default(), &World::default(), (80, 21));
    assert_line(&lines, &["No run is open: press 1"]);
    assert_eq!(asked(Action::Kill, &World::default()), []);
}

#[test]
fn no_size_is_too_small_and_ascii_stays_ascii() {
    let world = running();
    for width in [0, 1, 4, 27, 60, 111, 151] {
        for height in [0, 1, 3, 4, 7, 12, 40] {
            let size = (width, height);
            drawn(&after(&[], &world, size), &world, size);
            let steps = [Action::Down, Action::PageDown, Action::Expand, Action::Left];
            drawn(&after(&steps, &world, size), &world, size);
            drawn(
                &after(&[Action::NextPane, Action::Expand], &world, size),
                &world,
                size,
            );
        }
    }
    for line in drawn_as(&Train::default(), &world, (160, 47), true) {
        let is_korean = |letter| matches!(letter, '가'..='힣');
        assert!(
            line.chars()
                .all(|letter| letter.is_ascii() || is_korean(letter)),
            "{line}"
        );
    }
}

#[test]
fn stopping_asks_first() {
    let commands = asked(Action::StopAfterStep, &running());
    let [Command::Ask(dialog)] = &commands[..] else {
        panic!("{commands:?}");
    };
    let stop = Effect::Ask {
        run: PathBuf::from(RUN),
        request: moim_core::run::Request::Stop,
    };
    assert_eq!(dialog.choices[0].commands, [stop.into()]);
    let over = world(news(RunStatus::Finished, Liveness::Ended));
    let refused = asked(Action::StopAfterStep, &over);
    assert!(matches!(&refused[..], [Command::Tell(notice)] if notice.is_error));
}
