use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::sample::{RUN, page, world};
use super::*;
use crate::tui::data::World;
use crate::tui::message::InputPurpose;
use crate::tui::state::Settings;
use crate::tui::theme::{ColorDepth, ThemeName};
use crate::tui::widgets::testing::lines;

fn settings() -> Settings {
    Settings::new(ThemeName::Dark, ColorDepth::None, false, false)
}

fn context<'a>(world: &'a World, settings: &'a Settings, size: (u16, u16)) -> Context<'a> {
    Context {
        world,
        settings,
        now: Timestamp::UNIX_EPOCH,
        body: Rect::new(0, 0, size.0, size.1),
    }
}

/// The screen after its first question was answered, and the world it looks at.
fn opened(size: (u16, u16)) -> (Answers, World) {
    let settings = settings();
    let mut answers = Answers::default();
    let empty = world(None);
    let asked = answers.refresh(&context(&empty, &settings, size));
    assert_eq!(asked_for(&asked), Some((1, Place::Latest)));
    let world = world(Some(page(1)));
    assert_eq!(answers.refresh(&context(&world, &settings, size)), []);
    (answers, world)
}

fn asked_for(commands: &[Command]) -> Option<(u64, Place)> {
    commands.iter().find_map(|command| match command {
        Command::Effect(Effect::ReadAnswers(query)) => Some((query.number, query.place)),
        _ => None,
    })
}

fn drawn(answers: &Answers, world: &World, size: (u16, u16), is_ascii: bool) -> Vec<String> {
    let settings = Settings::new(ThemeName::None, ColorDepth::None, is_ascii, false);
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let context = context(world, &settings, size);
    let frame = terminal
        .draw(|frame| answers.draw(&context, frame, frame.area()))
        .unwrap();
    lines(frame.buffer)
}

/// Whether some line holds all of the words.
fn has_line(lines: &[String], words: &[&str]) -> bool {
    lines
        .iter()
        .any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn a_group_is_drawn_side_by_side_at_every_size() {
    for (size, columns) in [((80, 21), 2), ((120, 37), 2), ((160, 47), 3)] {
        let (answers, world) = opened(size);
        let lines = drawn(&answers, &world, size, false);
        assert!(
            has_line(&lines, &["▸", "12", "322", "선택형"]),
            "{lines:#?}"
        );
        assert!(has_line(&lines, &["Groups", "following"]), "{lines:#?}");
        assert!(
            has_line(&lines, &["label", "큰 행사를 무사히 치렀다"]),
            "{lines:#?}"
        );
        assert!(
            has_line(&lines, &[&format!("Completions 1 to {columns} of 8")]),
            "{lines:#?}"
        );
        assert!(
            has_line(
                &lines,
                &["▸#0", "reward 1.250", "adv +0.500", "#1", "0.750", "-0.500"]
            ),
            "{lines:#?}"
        );
        assert!(
            has_line(&lines, &["50 tokens · stop", "51 tokens · stop"]),
            "{lines:#?}"
        );
        assert!(
            has_line(&lines, &["413", "교정형", "="]) || has_line(&lines, &["403", "="]),
            "{lines:#?}"
        );
    }
}

#[test]
fn short_completions_are_drawn_in_several_rows() {
    let size = (160, 47);
    let (mut answers, world) = opened(size);
    answers
        .page
        .as_mut()
        .unwrap()
        .group
        .as_mut()
        .unwrap()
        .completions
        .pop();
    let lines = drawn(&answers, &world, size, false);
    assert!(has_line(&lines, &["Completions 1 to 7 of 7"]), "{lines:#?}");
    assert!(has_line(&lines, &["#3", "#4", "#5"]), "{lines:#?}");
}

#[test]
fn an_old_page_is_ignored_and_the_new_one_shown() {
    let size = (120, 37);
    let (mut answers, _) = opened(size);
    let settings = settings();
    let mut world = world(Some(page(1)));
    let asked = answers.act(Action::NextChange, &context(&world, &settings, size));
    assert_eq!(asked_for(&asked), Some((2, Place::At(GroupPlace(3000)))));
    // Pressed again before the answer is there: from where the first press led.
    let asked = answers.act(Action::NextChange, &context(&world, &settings, size));
    assert_eq!(asked_for(&asked), Some((3, Place::At(GroupPlace(4000)))));
    let mut old = page(2);
    old.group.as_mut().unwrap().id = "old".to_owned();
    world.answers = Some(old);
    answers.refresh(&context(&world, &settings, size));
    assert_eq!(answers.group().unwrap().id, "322");
    let mut new = page(3);
    new.group.as_mut().unwrap().id = "new".to_owned();
    world.answers = Some(new);
    answers.refresh(&context(&world, &settings, size));
    assert_eq!(answers.group().unwrap().id, "new");
}

#[test]
fn moving_away_from_the_newest_stops_following() {
    let size = (80, 21);
    let settings = settings();
    for (action, place) in [
        (Action::PreviousChange, Place::At(GroupPlace(1000))),
        (Action::Up, Place::At(GroupPlace(1000))),
        (Action::Top, Place::First),
    ] {
        let (mut answers, world) = opened(size);
        let asked = answers.act(action, &context(&world, &settings, size));
        assert_eq!(asked_for(&asked), Some((2, place)), "{action:?}");
        assert!(answers.stays, "{action:?}");
        let asked = answers.act(Action::ItemFilter, &context(&world, &settings, size));
        assert_eq!(asked_for(&asked), Some((3, Place::Latest)));
        assert!(!answers.stays);
    }
}

#[test]
fn a_new_step_is_asked_for_once_while_it_is_followed() {
    let size = (80, 21);
    let settings = settings();
    let (mut answers, mut world) = opened(size);
    let sampled = |world: &mut World, step| {
        let open = world.open.as_mut().unwrap();
        open.history.push("reward", step, 0.5);
    };
    sampled(&mut world, 12.0);
    let asked = answers.refresh(&context(&world, &settings, size));
    assert_eq!(asked_for(&asked), Some((2, Place::Latest)));
    sampled(&mut world, 13.0);
    // The question is still open, then answered, and only then asked again.
    assert_eq!(answers.refresh(&context(&world, &settings, size)), []);
    world.answers = Some(page(2));
    let asked = answers.refresh(&context(&world, &settings, size));
    assert_eq!(asked_for(&asked), Some((3, Place::Latest)));
    world.answers = Some(page(3));
    assert_eq!(answers.refresh(&context(&world, &settings, size)), []);
    // Who stays is not taken along, and is told of more where the list ends.
    answers.stays = true;
    sampled(&mut world, 14.0);
    assert_eq!(answers.refresh(&context(&world, &settings, size)), []);
    answers.page.as_mut().unwrap().has_later = false;
    world.answers.as_mut().unwrap().has_later = false;
    let asked = answers.refresh(&context(&world, &settings, size));
    assert_eq!(asked_for(&asked), Some((4, Place::At(GroupPlace(2000)))));
}

#[test]
fn another_run_begins_anew_and_pages_of_the_one_before_are_old() {
    let size = (80, 21);
    let settings = settings();
    let (mut answers, mut world) = opened(size);
    world.attach(std::path::Path::new("/nowhere/outputs/demo/other"));
    world.answers = Some(page(2));
    let asked = answers.refresh(&context(&world, &settings, size));
    assert_eq!(asked_for(&asked), Some((2, Place::Latest)));
    assert!(answers.group().is_none());
    answers.refresh(&context(&world, &settings, size));
    assert!(answers.group().is_none(), "that page is of the run before");
}

#[test]
fn beyond_the_list_the_next_group_is_asked_for_by_its_neighbour() {
    let size = (80, 21);
    let settings = settings();
    let (mut answers, mut world) = opened(size);
    let mut last = page(1);
    last.group.as_mut().unwrap().place = GroupPlace(4000);
    answers.page = Some(last.clone());
    world.answers = Some(last);
    let context = context(&world, &settings, size);
    let asked = answers.act(Action::NextChange, &context);
    assert_eq!(asked_for(&asked), Some((2, Place::After(GroupPlace(4000)))));
    answers.page.as_mut().unwrap().has_later = false;
    assert_eq!(answers.act(Action::NextChange, &context), []);
}

#[test]
fn history_type_and_filter_narrow_the_question_and_esc_takes_them_back() {
    let size = (80, 21);
    let settings = settings();
    let (mut answers, world) = opened(size);
    let context = context(&world, &settings, size);
    answers.act(Action::History, &context);
    assert_eq!(answers.query.id.as_deref(), Some("322"));
    answers.set_filter("치뤘", &context);
    assert_eq!((answers.filter(), answers.query.number), ("치뤘", 3));
    assert!(has_line(
        &drawn(&answers, &world, size, false),
        &["history of 322", "/치뤘", "reading"]
    ));
    answers.act(Action::QuestionType, &context);
    assert_eq!(answers.query.question_type.as_deref(), Some("교정형"));
    answers.act(Action::QuestionType, &context);
    assert_eq!(answers.query.question_type.as_deref(), Some("선택형"));
    answers.act(Action::Back, &context);
    assert_eq!(
        (&answers.query.question_type, answers.filter()),
        (&None, "치뤘")
    );
    answers.act(Action::Back, &context);
    assert_eq!(answers.filter(), "");
    assert_eq!(answers.act(Action::Back, &context), []);
}

#[test]
fn the_cursor_stays_within_the_group_and_sorting_reorders_it() {
    let size = (160, 47);
    let settings = settings();
    let (mut answers, world) = opened(size);
    let context = context(&world, &settings, size);
    answers.act(Action::Left, &context);
    assert_eq!(answers.selected().unwrap().sample, 0);
    for _ in 0..20 {
        answers.act(Action::Right, &context);
    }
    assert_eq!(answers.selected().unwrap().sample, 7);
    answers.act(Action::Sort, &context);
    assert_eq!(
        answers
            .sorted()
            .iter()
            .map(|record| record.sample)
            .collect::<Vec<_>>(),
        [0, 2, 4, 6, 1, 3, 5, 7]
    );
    answers.act(Action::ReverseSort, &context);
    assert_eq!(answers.sorted()[0].sample, 1);
}

#[test]
fn one_completion_is_compared_with_the_label() {
    let size = (80, 21);
    let settings = settings();
    let (mut answers, world) = opened(size);
    let context = context(&world, &settings, size);
    answers.act(Action::Layout, &context);
    let lines = drawn(&answers, &world, size, false);
    assert!(
        has_line(&lines, &["the same as the label"]),
        "sample 0 is the label: {lines:#?}"
    );
    answers.act(Action::Right, &context);
    let lines = drawn(&answers, &world, size, false);
    assert!(
        has_line(
            &lines,
            &["1 characters of the label are missing (-), 1 are not in it (+)"]
        ),
        "{lines:#?}"
    );
    assert!(has_line(&lines, &["{+뤘+}"]), "{lines:#?}");
}

#[test]
fn long_completions_scroll_to_their_end_and_no_further() {
    let size = (80, 21);
    let settings = settings();
    let (mut answers, world) = opened(size);
    let context = context(&world, &settings, size);
    answers.focus.set(Part::Completions);
    answers.act(Action::Layout, &context);
    for _ in 0..7 {
        answers.act(Action::Right, &context);
    }
    assert!(has_line(
        &drawn(&answers, &world, size, false),
        &["! length"]
    ));
    let at_the_start = drawn(&answers, &world, size, false);
    for _ in 0..50 {
        answers.act(Action::Down, &context);
    }
    let at_the_end = drawn(&answers, &world, size, false);
    assert_ne!(at_the_end, at_the_start);
    answers.act(Action::Down, &context);
    assert_eq!(drawn(&answers, &world, size, false), at_the_end);
    answers.act(Action::Up, &context);
    let before_the_end = drawn(&answers, &world, size, false);
    assert!(
        has_line(&before_the_end, &["1 more"]),
        "{before_the_end:#?}"
    );
}

#[test]
fn the_selected_completion_is_copied_opened_and_exported() {
    let size = (120, 37);
    let settings = settings();
    let (mut answers, world) = opened(size);
    let context = context(&world, &settings, size);
    answers.act(Action::Right, &context);
    let commands = answers.act(Action::Copy, &context);
    assert!(
        matches!(&commands[..], [Command::Effect(Effect::Copy(text))] if text.contains("치뤘다"))
    );
    let commands = answers.act(Action::Open, &context);
    let [Command::Read { title, lines }] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(title, "step 12, question 322, sample 1");
    assert!(lines.iter().any(|line| line.contains("exact_match 0")));
    let commands = answers.act(Action::Export, &context);
    let [Command::Ask(dialog)] = &commands[..] else {
        panic!("{commands:?}");
    };
    let written: Vec<(&str, &str)> = dialog
        .choices
        .iter()
        .filter_map(|choice| match &choice.commands[..] {
            [Command::Input(input)] => match &input.purpose {
                InputPurpose::ExportTo { text } => Some((input.initial.as_str(), text.as_str())),
                InputPurpose::NewExperiment { .. } => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(
        written[0].0,
        format!("{RUN}/exports/step_12_question_322.jsonl")
    );
    let lines: Vec<CompletionRecord> = written[0]
        .1
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, answers.group().unwrap().completions);
    assert!(
        written[1]
            .1
            .contains("| 7 | 0.7500 | -0.5000 | 57 | length |  | 0.0000 | 1.0000 |")
    );
}

#[test]
fn the_prompt_unfolds_and_a_click_selects() {
    let size = (120, 37);
    let settings = settings();
    let (mut answers, world) = opened(size);
    let context = context(&world, &settings, size);
    assert!(!has_line(
        &drawn(&answers, &world, size, false),
        &["어문 규범에 따라"]
    ));
    answers.act(Action::NextPane, &context);
    answers.act(Action::Open, &context);
    assert!(has_line(
        &drawn(&answers, &world, size, false),
        &["어문 규범에 따라"]
    ));
    answers.click(Position::new(100, 30), &context);
    assert_eq!(
        (answers.focus.now(), answers.cursor),
        (Part::Completions, 1)
    );
    let asked = answers.click(Position::new(5, 1), &context);
    assert_eq!(asked_for(&asked), Some((2, Place::At(GroupPlace(0)))));
}

#[test]
fn what_is_not_there_is_said_with_the_way_to_it() {
    let size = (80, 21);
    let answers = Answers::default();
    let lines = drawn(&answers, &World::default(), size, false);
    assert!(has_line(&lines, &["No run is open: press 1"]), "{lines:#?}");
    let (mut answers, world) = opened(size);
    answers.page.as_mut().unwrap().group = None;
    let lines = drawn(&answers, &world, size, false);
    assert!(
        has_line(&lines, &["Nothing has been sampled yet"]),
        "{lines:#?}"
    );
}

#[test]
fn no_size_is_too_small_and_ascii_stays_ascii() {
    for width in [0, 1, 3, 10, 40, 81, 121] {
        for height in [0, 1, 2, 5, 9, 22] {
            let (mut answers, world) = opened((width, height));
            drawn(&answers, &world, (width, height), true);
            let settings = settings();
            answers.act(Action::Layout, &context(&world, &settings, (width, height)));
            drawn(&answers, &world, (width, height), true);
        }
    }
    let (answers, world) = opened((120, 37));
    for line in drawn(&answers, &world, (120, 37), true) {
        let is_korean = |letter| matches!(letter, '가'..='힣' | 'ㄱ'..='ㅣ');
        assert!(
            line.chars()
                .all(|letter| letter.is_ascii() || is_korean(letter)),
            "{line}"
        );
    }
}
