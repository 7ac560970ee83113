use std::sync::Arc;

use super::sample::{ITEMS, board, board_of, body, context, drawn, scored, settings, world};
use super::*;
use crate::tui::data::World;
use crate::tui::message::Dialog;
use crate::tui::state::Screen;
use crate::tui::widgets::table::{GAP, fitting};
use moim_core::watch::DirectoryCondition;

/// Indices of columns, and how many there are.
const FILE: usize = 1;
const ROUGE1: usize = 4;
const HOLM_P: usize = 9;
const COLUMNS: usize = 11;

fn act(screen: &mut Ranking, world: &World, action: Action) -> Vec<Command> {
    let settings = settings(false);
    screen.act(action, &context(world, &settings, body(120, 40)))
}

fn refreshed(world: &World) -> Ranking {
    let mut screen = Ranking::default();
    let settings = settings(false);
    screen.refresh(&context(world, &settings, body(120, 40)));
    screen
}

fn at_cursor<'a>(screen: &Ranking, world: &'a World) -> &'a str {
    let view = View::of(screen, world).unwrap();
    &view.selected(screen).unwrap().scored.file
}

fn order(screen: &Ranking, world: &World) -> Vec<u64> {
    let view = View::of(screen, world).unwrap();
    view.files().filter_map(|row| row.scored.epoch).collect()
}

fn told(commands: &[Command]) -> &str {
    commands
        .iter()
        .find_map(|command| match command {
            Command::Tell(notice) => Some(notice.text.as_str()),
            _ => None,
        })
        .unwrap_or_default()
}

fn compared(commands: &[Command]) -> Vec<&str> {
    commands
        .iter()
        .find_map(|command| match command {
            Command::Effect(Effect::Compare { files, .. }) => Some(
                files
                    .iter()
                    .map(|file| crate::tui::screens::words::without_ending(file))
                    .collect(),
            ),
            _ => None,
        })
        .unwrap_or_default()
}

#[test]
fn live_updates_do_not_move_the_cursor_off_its_file() {
    let mut world = world();
    let mut screen = refreshed(&world);
    assert_eq!(at_cursor(&screen, &world), "inference_epoch2.json");
    act(&mut screen, &world, Action::Bottom);
    act(&mut screen, &world, Action::Top);
    act(&mut screen, &world, Action::Down);
    act(&mut screen, &world, Action::Down);
    assert_eq!(at_cursor(&screen, &world), "inference_epoch1.json");
    // Epoch 1 is rewritten and becomes the best.
    let mut files: Vec<_> = board().rows.into_iter().map(|row| row.scored).collect();
    for file in &mut files {
        if file.epoch == Some(1) {
            *file = scored("inference_epoch1.json", 39, ITEMS);
        }
    }
    world.ranking.board = Some(Arc::new(board_of(files)));
    let settings = settings(false);
    screen.refresh(&context(&world, &settings, body(120, 40)));
    assert_eq!(at_cursor(&screen, &world), "inference_epoch1.json");
    assert_eq!(order(&screen, &world).first(), Some(&1));
}

#[test]
fn files_ranked_apart_stay_at_the_end_in_every_order() {
    let world = world();
    let mut screen = refreshed(&world);
    assert_eq!(order(&screen, &world), [2, 3, 1, 0, 7, 4, 5, 6]);
    for _ in 0..COLUMNS {
        for _ in 0..2 {
            act(&mut screen, &world, Action::ReverseSort);
            let order = order(&screen, &world);
            let mut ranked = order[..4].to_vec();
            ranked.sort_unstable();
            assert_eq!(ranked, [0, 1, 2, 3], "{:?}", screen.sort);
        }
        act(&mut screen, &world, Action::Sort);
    }
    screen.sort.column = FILE;
    assert_eq!(order(&screen, &world), [0, 1, 2, 3, 4, 5, 6, 7]);
    act(&mut screen, &world, Action::ReverseSort);
    assert_eq!(order(&screen, &world), [3, 2, 1, 0, 7, 6, 5, 4]);
}

#[test]
fn what_is_compared_follows_from_the_marks() {
    let world = world();
    let mut screen = refreshed(&world);
    // None: the best against epoch 0, the baseline first.
    let commands = act(&mut screen, &world, Action::CompareMarked);
    assert_eq!(
        compared(&commands),
        ["inference_epoch0", "inference_epoch2"]
    );
    assert!(commands.contains(&Command::Show(Screen::Compare)));
    assert!(
        told(&commands).contains("the best and epoch 0"),
        "{commands:?}"
    );
    // One: against the best.
    screen
        .table
        .list
        .select_id("inference_epoch1.json".to_owned());
    act(&mut screen, &world, Action::Mark);
    let commands = act(&mut screen, &world, Action::CompareMarked);
    assert_eq!(
        compared(&commands),
        ["inference_epoch1", "inference_epoch2"]
    );
    assert!(told(&commands).contains("and the best"));
    // More: as marked, in the order of epochs, partial ones too.
    for file in ["inference_epoch4.json", "inference_epoch0.json"] {
        screen.table.list.select_id(file.to_owned());
        act(&mut screen, &world, Action::Mark);
    }
    let commands = act(&mut screen, &world, Action::CompareMarked);
    let expected = ["inference_epoch0", "inference_epoch1", "inference_epoch4"];
    assert_eq!(compared(&commands), expected);
    // A broken one cannot be.
    screen
        .table
        .list
        .select_id("inference_epoch6.json".to_owned());
    act(&mut screen, &world, Action::Mark);
    let commands = act(&mut screen, &world, Action::CompareMarked);
    assert!(compared(&commands).is_empty());
    assert!(
        told(&commands).contains("epoch6.json is broken"),
        "{commands:?}"
    );
    act(&mut screen, &world, Action::ClearMarks);
    assert!(screen.marks.all().is_empty());
}

#[test]
fn the_filter_is_an_expression_over_file_names() {
    let world = world();
    let mut screen = refreshed(&world);
    let settings = settings(false);
    let context = context(&world, &settings, body(120, 40));
    screen.set_filter("epoch[13]", &context);
    assert_eq!(order(&screen, &world), [3, 1]);
    act(&mut screen, &world, Action::NextMatch);
    assert_eq!(at_cursor(&screen, &world), "inference_epoch1.json");
    act(&mut screen, &world, Action::NextMatch);
    assert_eq!(at_cursor(&screen, &world), "inference_epoch3.json");
    act(&mut screen, &world, Action::Back);
    assert_eq!(order(&screen, &world).len(), 8);
    assert_eq!(at_cursor(&screen, &world), "inference_epoch3.json");
}

#[test]
fn export_offers_four_forms_of_the_whole_board() {
    let world = world();
    let mut screen = refreshed(&world);
    let commands = act(&mut screen, &world, Action::Export);
    let [Command::Ask(Dialog { choices, .. })] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    let initial: Vec<&str> = choices
        .iter()
        .filter_map(|choice| match choice.commands.as_slice() {
            [Command::Input(input)] => Some(input.initial.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        initial,
        ["txt", "md", "csv", "json"].map(|ending| format!("ranking_demo_seed42.{ending}"))
    );
    let copied = act(&mut screen, &world, Action::Copy);
    let [Command::Effect(Effect::Copy(text))] = copied.as_slice() else {
        panic!("{copied:?}");
    };
    assert!(
        text.starts_with("inference_epoch2.json, rank 1, Final Mean 0."),
        "{text}"
    );
    screen
        .table
        .list
        .select_id("inference_epoch7.json".to_owned());
    let commands = act(&mut screen, &world, Action::OpenInEditor);
    assert!(told(&commands).contains("no longer exists"));
}

#[test]
fn the_narrowest_screen_shows_ranks_states_and_what_they_mean() {
    let world = world();
    let mut screen = refreshed(&world);
    let lines = drawn(&screen, &world, false, (80, 24));
    let text = lines.join("\n");
    let line_of = |name: &str| {
        lines
            .iter()
            .find(|line| line.contains(name))
            .unwrap()
            .clone()
    };
    assert!(line_of("inference_epoch2").contains("★1="), "{text}");
    assert!(line_of("inference_epoch2").contains("complete"), "{text}");
    assert!(line_of("inference_epoch0").contains("epoch 0"), "{text}");
    assert!(line_of("inference_epoch4").contains("partial"), "{text}");
    assert!(line_of("inference_epoch6").contains("broken"), "{text}");
    assert!(text.contains("ranked apart:"), "{text}");
    let words = lines.join(" ");
    assert!(
        words.contains("It ties with inference_epoch3.json"),
        "{text}"
    );
    assert!(words.contains("do not distinguish it from"), "{text}");
    assert!(text.contains("polling: 9p does not notify"), "{text}");
    screen
        .table
        .list
        .select_id("inference_epoch6.json".to_owned());
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(
        text.contains("inference_epoch6.json is broken: 3:14: 쉼표가"),
        "{text}"
    );
}

#[test]
fn wide_screens_show_reasons_types_and_details_beside_the_table() {
    let world = world();
    let mut screen = refreshed(&world);
    act(&mut screen, &world, Action::QuestionType);
    screen
        .table
        .list
        .select_id("inference_epoch6.json".to_owned());
    let text = drawn(&screen, &world, false, (160, 50)).join("\n");
    assert!(text.contains("선택형, 20"), "{text}");
    assert!(text.contains("broken: 3:14: 쉼표가 하나 더 있다"), "{text}");
    assert!(text.contains("Press o to open the file"), "{text}");
    screen
        .table
        .list
        .select_id("inference_epoch4.json".to_owned());
    let text = drawn(&screen, &world, false, (160, 50)).join("\n");
    assert!(text.contains("36 of 40 labels are answered."), "{text}");
    assert!(
        text.contains("Without an answer (4): 462, 463, 464, 465"),
        "{text}"
    );
    screen
        .table
        .list
        .select_id("inference_epoch1.json".to_owned());
    let text = drawn(&screen, &world, false, (120, 40)).join("\n");
    assert!(
        text.contains("updated, 2 good versions were read"),
        "{text}"
    );
    assert!(
        text.contains("Against epoch 0, inference_epoch0.json:"),
        "{text}"
    );
}

#[test]
fn nothing_to_rank_says_what_would_be_here() {
    let screen = Ranking::default();
    let mut world = World::default();
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(text.contains("No run is open: press 1"), "{text}");
    world.attach(std::path::Path::new("outputs/demo/seed42"));
    world.ranking.condition = Some(DirectoryCondition::Missing);
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(text.contains("There is no answer file"), "{text}");
    world.ranking.problem = Some("labels eval.json: cannot be read".to_owned());
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(text.contains("labels eval.json"), "{text}");
}

#[test]
fn it_draws_at_any_size_and_in_ascii_keeps_to_it() {
    let world = world();
    let mut screen = refreshed(&world);
    for details in [None, Some(true), Some(false)] {
        screen.details = details;
        for width in [1, 5, 20, 79, 80, 110, 150, 250] {
            for height in [4, 5, 9, 24, 60] {
                drawn(&screen, &world, false, (width, height));
            }
        }
    }
    for line in drawn(&screen, &world, true, (160, 50)) {
        let is_korean = |sign: char| ('가'..='힣').contains(&sign);
        assert!(
            line.chars().all(|sign| sign.is_ascii() || is_korean(sign)),
            "{line}"
        );
    }
}

#[test]
fn a_click_selects_a_file_or_sorts_by_a_head() {
    let world = world();
    let mut screen = refreshed(&world);
    let settings = settings(false);
    let context = context(&world, &settings, body(80, 24));
    let lines = drawn(&screen, &world, false, (80, 24));
    let row = lines
        .iter()
        .position(|line| line.contains("inference_epoch0"))
        .unwrap();
    screen.click(Position::new(10, row as u16), &context);
    assert_eq!(at_cursor(&screen, &world), "inference_epoch0.json");
    let heads = &lines[2];
    let column = heads.split("ROUGE").next().unwrap().chars().count();
    screen.click(Position::new(column as u16 + 1, 2), &context);
    assert_eq!(screen.sort.column, ROUGE1);
}

#[test]
fn columns_are_chosen_by_width_and_the_sorted_one_stays() {
    let world = world();
    let mut screen = refreshed(&world);
    let mut shown = |cells, sorted| -> Vec<String> {
        screen.sort.column = sorted;
        let view = View::of(&screen, &world).unwrap();
        let shown = fitting(&view.columns, cells, GAP);
        let heading = |index: usize| view.columns[index].heading.to_string();
        shown.iter().map(|(index, _)| heading(*index)).collect()
    };
    // 80 columns less the box, the marks and the scrollbar.
    let narrow = shown(73, FINAL_MEAN);
    let has = |shown: &[String], heading: &str| shown.iter().any(|it| it == heading);
    assert!(has(&narrow, "BERT") && has(&narrow, "State"));
    assert!(!has(&narrow, "Holm p"));
    assert!(has(&shown(73, HOLM_P), "Holm p"));
    assert_eq!(shown(120, FINAL_MEAN).len(), COLUMNS);
}

#[test]
fn every_column_is_reached_by_sorting() {
    let world = world();
    let mut screen = refreshed(&world);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..COLUMNS {
        seen.insert(screen.sort.column);
        act(&mut screen, &world, Action::Sort);
    }
    assert_eq!(screen.sort.column, FINAL_MEAN);
    assert_eq!(seen.len(), COLUMNS);
}

#[test]
fn the_p_value_is_that_of_the_difference_next_to_it() {
    let world = world();
    let mut screen = refreshed(&world);
    for reference in [Reference::EpochZero, Reference::Best] {
        let view = View::of(&screen, &world).unwrap();
        let look = settings(false).look;
        let column = &view.columns[HOLM_P];
        assert!(column.name.ends_with(reference.name()), "{}", column.name);
        for line in &view.lines {
            let row = line.file();
            let delta = row
                .and_then(|row| reference.of(row))
                .map(|all| all.final_mean);
            let p = delta.map(|delta| words::probability(delta.p_holm));
            assert_eq!((column.cell)(line, &look).text, p.unwrap_or_default());
        }
        drop(view);
        act(&mut screen, &world, Action::Baseline);
    }
}
