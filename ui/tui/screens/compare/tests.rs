use moim_core::score::Verdict;

use super::sample::world;
use super::*;
use crate::tui::message::Dialog;
use crate::tui::screens::ranking::sample::{body, context, drawn, settings, world as ranked_world};

fn act(screen: &mut Compare, world: &World, action: Action) -> Vec<Command> {
    let settings = settings(false);
    screen.act(action, &context(world, &settings, body(80, 24)))
}

fn refresh(screen: &mut Compare, world: &World) -> Vec<Command> {
    let settings = settings(false);
    screen.refresh(&context(world, &settings, body(80, 24)))
}

/// Tells the world what is asked, as the program does.
fn ask(world: &mut World, commands: &[Command]) {
    for command in commands {
        if let Command::Effect(effect) = command {
            world.asked(effect);
        }
    }
}

fn refreshed(world: &World) -> Compare {
    let mut screen = Compare::default();
    assert!(refresh(&mut screen, world).is_empty());
    screen
}

fn at_cursor(screen: &Compare) -> &str {
    screen
        .selected()
        .map(|item| item.id.as_str())
        .unwrap_or_default()
}

fn ids(screen: &Compare) -> Vec<&str> {
    let comparison = &screen.data.as_ref().unwrap().comparison;
    let id = |index: &usize| comparison.items[*index].id.as_str();
    screen.shown.iter().map(id).collect()
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

fn asked(commands: &[Command]) -> Vec<&str> {
    commands
        .iter()
        .find_map(|command| match command {
            Command::Effect(Effect::Compare { files, .. }) => {
                Some(files.iter().map(|file| without_ending(file)).collect())
            }
            _ => None,
        })
        .unwrap_or_default()
}

#[test]
fn each_filter_shows_its_items() {
    let world = world(&[0, 1]);
    let mut screen = refreshed(&world);
    let expected: [(&str, &[&str]); 6] = [
        ("all items", &["426", "427", "428", "429", "430", "431"]),
        ("changed items", &["426", "427", "431"]),
        ("fixed items", &["426", "431"]),
        ("broken items", &["427"]),
        ("items both have wrong", &["429"]),
        ("items both have right", &["428"]),
    ];
    for (words, expected) in expected {
        assert_eq!(ids(&screen), expected);
        assert_eq!(screen.query.in_words(2), words);
        act(&mut screen, &world, Action::ItemFilter);
    }
    assert_eq!(ids(&screen).len(), 6);
    act(&mut screen, &world, Action::QuestionType);
    assert_eq!(ids(&screen), ["426", "428", "431"]);
    act(&mut screen, &world, Action::QuestionType);
    assert_eq!(ids(&screen), ["427", "429", "430"]);
    let settings = settings(false);
    screen.set_filter("초코렛", &context(&world, &settings, body(80, 24)));
    assert_eq!(ids(&screen), ["429"]);
    assert_eq!(screen.query.in_words(2), "all items, 교정형, /초코렛/");
    act(&mut screen, &world, Action::Back);
    act(&mut screen, &world, Action::Back);
    assert_eq!(ids(&screen).len(), 6);
}

#[test]
fn jumps_find_changes_and_regressions_and_say_where_they_wrap() {
    let world = world(&[0, 1]);
    let mut screen = refreshed(&world);
    assert_eq!(at_cursor(&screen), "426");
    assert!(told(&act(&mut screen, &world, Action::NextChange)).is_empty());
    assert_eq!(at_cursor(&screen), "427");
    act(&mut screen, &world, Action::NextChange);
    assert_eq!(at_cursor(&screen), "431");
    let commands = act(&mut screen, &world, Action::NextChange);
    assert_eq!(at_cursor(&screen), "426");
    assert!(told(&commands).contains("this is the first one"));
    let commands = act(&mut screen, &world, Action::PreviousRegression);
    assert_eq!(at_cursor(&screen), "427");
    assert!(told(&commands).contains("this is the last one"));
    screen.query.selection.filter = ItemFilter::BothRight;
    act(&mut screen, &world, Action::QuestionType);
    let commands = act(&mut screen, &world, Action::NextRegression);
    assert!(
        told(&commands).contains("there is no broken item"),
        "{commands:?}"
    );
}

#[test]
fn sorting_begins_at_the_largest_change_and_filters_keep_the_cursor() {
    let world = world(&[0, 1]);
    let mut screen = refreshed(&world);
    act(&mut screen, &world, Action::Metric);
    // The largest loss first, the item without a change last.
    assert_eq!(ids(&screen), ["427", "428", "429", "426", "431", "430"]);
    assert_eq!(at_cursor(&screen), "427");
    act(&mut screen, &world, Action::ReverseSort);
    assert_eq!(ids(&screen), ["426", "431", "428", "429", "427", "430"]);
    assert_eq!(at_cursor(&screen), "426");
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(
        text.contains("by Final Mean, B minus A, gains first"),
        "{text}"
    );
    act(&mut screen, &world, Action::Down);
    act(&mut screen, &world, Action::ItemFilter);
    assert_eq!(ids(&screen), ["426", "431", "427"]);
    assert_eq!(at_cursor(&screen), "431");
}

#[test]
fn nothing_asked_for_compares_the_best_with_epoch_zero_once() {
    let mut world = ranked_world();
    let mut screen = Compare::default();
    let commands = refresh(&mut screen, &world);
    assert_eq!(asked(&commands), ["inference_epoch0", "inference_epoch2"]);
    ask(&mut world, &commands);
    assert!(refresh(&mut screen, &world).is_empty());
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(
        text.contains("Comparing inference_epoch0.json, inference_epoch2.json"),
        "{text}"
    );
    // A failure is told and not repeated for ever.
    world.comparing = None;
    world.comparison = Some(Err("inference_epoch2.json is broken".to_owned()));
    assert!(refresh(&mut screen, &world).is_empty());
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(
        text.contains("could not be compared: inference_epoch2.json is broken"),
        "{text}"
    );
    assert!(text.contains("mark two or more files with space"), "{text}");
    assert_eq!(asked(&act(&mut screen, &world, Action::Rescan)).len(), 2);
}

#[test]
fn answers_that_changed_on_the_disk_are_said_and_compared_anew() {
    let mut world = world(&[0, 1]);
    let mut screen = refreshed(&world);
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(!text.contains("since; r compares again"), "{text}");
    world
        .ranking
        .revisions
        .insert("inference_epoch1.json".to_owned(), 3);
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    let expected = "inference_epoch1.json has changed since; r compares again";
    assert!(text.contains(expected), "{text}");
    let commands = act(&mut screen, &world, Action::Rescan);
    assert_eq!(asked(&commands), ["inference_epoch0", "inference_epoch1"]);
    ask(&mut world, &commands);
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(
        text.contains("comparing inference_epoch0.json, inference_epoch1.json now"),
        "{text}"
    );
}

#[test]
fn the_baseline_goes_through_the_files_in_the_order_of_epochs() {
    let mut screen = refreshed(&world(&[0, 1, 2]));
    let present = world(&[0, 1, 2]);
    let commands = act(&mut screen, &present, Action::Baseline);
    assert_eq!(
        asked(&commands),
        ["inference_epoch1", "inference_epoch0", "inference_epoch2"]
    );
    let present = world(&[1, 0, 2]);
    refresh(&mut screen, &present);
    let commands = act(&mut screen, &present, Action::Baseline);
    assert_eq!(
        asked(&commands),
        ["inference_epoch2", "inference_epoch0", "inference_epoch1"]
    );
}

#[test]
fn two_files_at_the_narrowest_show_verdict_and_difference() {
    let world = world(&[0, 1]);
    let mut screen = refreshed(&world);
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(text.contains("A inference_epoch0"), "{text}");
    assert!(
        text.contains("B against A: 5 joined, 1 only in B; better 2, worse 1, equal 2"),
        "{text}"
    );
    assert!(
        text.contains("2 fixed, 1 broken, 1 both right, 1 both wrong"),
        "{text}"
    );
    assert!(text.contains("+ fixed   426"), "{text}");
    assert!(text.contains("only B    430"), "{text}");
    assert!(text.contains("= right   428"), "{text}");
    assert!(
        text.contains("\"우리는 어의없는"),
        "the line that tells it from others: {text}"
    );
    act(&mut screen, &world, Action::NextPane);
    act(&mut screen, &world, Action::Bottom);
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(text.contains("미[-싯-]{+숫+}가루를"), "{text}");
    assert!(
        text.contains("B  1.000 +0.583 1 +1 1.000 +0.500 1.000 +0.250 1"),
        "{text}"
    );
    act(&mut screen, &world, Action::DiffMode);
    act(&mut screen, &world, Action::Bottom);
    let text = drawn(&screen, &world, false, (80, 24)).join("\n");
    assert!(text.contains("side by side with A"), "{text}");
    assert!(
        text.contains("미[-싯-]가루를") && text.contains("미{+숫+}가루를"),
        "{text}"
    );
}

#[test]
fn differences_are_against_the_baseline_or_the_gold_answer() {
    let world = world(&[0, 1]);
    let mut screen = refreshed(&world);
    let mut shown = Vec::new();
    for _ in 0..5 {
        let text = drawn(&screen, &world, false, (160, 50)).join("\n");
        shown.push((screen.diff.name(), text));
        act(&mut screen, &world, Action::DiffMode);
    }
    assert_eq!(screen.diff, DiffMode::default());
    for (words, text) in &shown {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        shown[2].1.contains("미[-숫-]{+싯+}가루를"),
        "{}",
        shown[2].1
    );
    assert!(
        shown[2].1.contains("The same text as the gold answer"),
        "{}",
        shown[2].1
    );
    assert!(!shown[4].1.contains("[-"), "{}", shown[4].1);
}

#[test]
fn more_than_two_files_show_the_course_of_every_item() {
    let world = world(&[1, 0, 2]);
    let mut screen = refreshed(&world);
    // Along the epochs, whichever is the baseline: B is epoch 0, A epoch 1, C epoch 2.
    let text = drawn(&screen, &world, false, (120, 40)).join("\n");
    assert!(text.contains("✗✓✓"), "{text}");
    act(&mut screen, &world, Action::Down);
    let text = drawn(&screen, &world, false, (120, 40)).join("\n");
    assert!(
        text.contains("B✓ A✗ C✓; first right in inference_epoch0; flipped 2"),
        "{text}"
    );
    assert_eq!(screen.other, 2);
    let commands = act(&mut screen, &world, Action::Right);
    assert_eq!(
        (screen.other, told(&commands)),
        (1, "changes are those of B against A")
    );
    let item = screen.selected().unwrap();
    assert_eq!(model::change(item, 1).unwrap().verdict, Verdict::Fixed);
}

#[test]
fn what_the_list_shows_is_exported_and_an_item_copied() {
    let world = world(&[0, 1]);
    let mut screen = refreshed(&world);
    screen.query.selection.filter = ItemFilter::Changed;
    let settings = settings(false);
    screen.set_filter("미숫가루", &context(&world, &settings, body(80, 24)));
    let commands = act(&mut screen, &world, Action::Export);
    let [Command::Ask(Dialog { choices, .. })] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    let texts: Vec<(&str, &str)> = choices
        .iter()
        .filter_map(|choice| match choice.commands.as_slice() {
            [Command::Input(input)] => match &input.purpose {
                crate::tui::message::InputPurpose::ExportTo { text } => {
                    Some((input.initial.as_str(), text.as_str()))
                }
                _ => None,
            },
            _ => None,
        })
        .collect();
    let names: Vec<&str> = texts.iter().map(|(name, _)| *name).collect();
    let stem = "compare_seed42_epoch0_epoch1";
    assert_eq!(
        names,
        ["md", "csv", "json"].map(|ending| format!("{stem}.{ending}"))
    );
    for (name, text) in texts {
        assert!(
            text.contains("426") && !text.contains("431"),
            "{name}: {text}"
        );
        assert!(text.contains("미숫가루"), "{name}: {text}");
    }
    let copied = act(&mut screen, &world, Action::Copy);
    let [Command::Effect(Effect::Copy(text))] = copied.as_slice() else {
        panic!("{copied:?}");
    };
    assert!(text.starts_with("### 426 (선택형): + fixed"), "{text}");
    assert!(text.contains("> \"우유에 미싯가루를"), "{text}");
}

#[test]
fn decomposed_hangul_is_found_and_differs_in_nothing() {
    use unicode_normalization::UnicodeNormalization;
    let mut world = world(&[0, 1]);
    if let Some(Ok(data)) = &mut world.comparison {
        let data = Arc::get_mut(data).unwrap();
        for item in &mut data.comparison.items {
            item.question = item.question.nfd().collect();
            if let [Some(_), Some(other)] = item.answers.as_mut_slice() {
                other.text = other.text.nfd().collect();
            }
        }
    }
    let mut screen = refreshed(&world);
    let settings = settings(false);
    // Of these items it stands in the question alone.
    screen.set_filter("고치세요", &context(&world, &settings, body(80, 24)));
    assert_eq!(ids(&screen), ["429", "430"]);
    let text = drawn(&screen, &world, false, (160, 50)).join("\n");
    assert!(text.contains("The same text as A"), "{text}");
}

#[test]
fn it_draws_at_any_size_and_in_ascii_keeps_to_it() {
    for epochs in [&[0, 1][..], &[0, 1, 2]] {
        let world = world(epochs);
        let mut screen = refreshed(&world);
        for _ in 0..5 {
            act(&mut screen, &world, Action::DiffMode);
            act(&mut screen, &world, Action::NextPane);
            act(&mut screen, &world, Action::Wrap);
            for width in [1, 5, 20, 80, 110, 140, 250] {
                for height in [4, 5, 9, 24, 60] {
                    drawn(&screen, &world, false, (width, height));
                }
            }
        }
        let is_korean = |sign: char| ('가'..='힣').contains(&sign);
        for line in drawn(&screen, &world, true, (160, 50)) {
            assert!(
                line.chars().all(|sign| sign.is_ascii() || is_korean(sign)),
                "{line}"
            );
        }
    }
}
