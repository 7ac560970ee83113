mod saving;

use std::path::Path;
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyModifiers};

use super::sample::{OPEN, plan, world};
use super::*;
use crate::tui::message::{Choice, Dialog, Effect, InputPurpose};
use crate::tui::screens::experiments::sample::{FAULTY, Scene, VALID, file};

fn scene() -> Scene {
    Scene::new(world(), 160, 50)
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

/// Puts the cursor on a key.
fn go_to(plan: &mut Plan, path: &str) {
    let form = plan.form.as_ref().unwrap();
    let key = form.fields.iter().position(|field| field.path == path);
    let line = FormLine::Key(key.unwrap());
    plan.list.select_id(line);
    assert_eq!(plan.line(), Some(line), "{path}");
}

/// Types a value for a key without ending the edit.
fn typing(plan: &mut Plan, scene: &Scene, path: &str, value: &str) {
    go_to(plan, path);
    assert_eq!(plan.act(Action::Open, &scene.context()), []);
    assert!(plan.is_typing(), "{path}");
    let clear = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
    plan.type_key(clear, &scene.context());
    for letter in value.chars() {
        plan.type_key(key(KeyCode::Char(letter)), &scene.context());
    }
}

/// Gives a key another value.
fn edited(plan: &mut Plan, scene: &Scene, path: &str, value: &str) {
    typing(plan, scene, path, value);
    plan.type_key(key(KeyCode::Enter), &scene.context());
    assert!(!plan.is_typing());
}

fn text(plan: &Plan) -> &str {
    plan.form.as_ref().unwrap().text()
}

fn status(plan: &Plan, scene: &Scene) -> String {
    plan.status(&scene.context())
}

fn assert_has(lines: &[String], words: &[&str]) {
    let found = lines
        .iter()
        .any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "{words:?} in no line of\n{}", lines.join("\n"));
}

fn question(commands: &[Command]) -> &Dialog {
    match commands {
        [Command::Ask(dialog)] => dialog,
        other => panic!("no question: {other:?}"),
    }
}

fn answer(dialog: &Dialog, key: char) -> Vec<Command> {
    let is_it = |choice: &&Choice| choice.key == key;
    dialog.choices.iter().find(is_it).unwrap().commands.clone()
}

/// The sample's world with another text on the disk.
fn on_disk(scene: &mut Scene, text: &str) {
    let index = scene.world.index.as_mut().unwrap();
    index.experiments[2] = Arc::new(file("표준어", text));
}

#[test]
fn a_file_is_opened_when_it_has_been_read() {
    let scene = scene();
    let unread = Scene::new(crate::tui::data::World::default(), 80, 24);
    let mut plan = Plan::default();
    assert_has(&unread.drawn(&plan), &["No experiment is open"]);
    plan.load(&PathBuf::from(OPEN));
    assert!(plan.refresh(&unread.context()).is_empty());
    assert_has(&unread.drawn(&plan), &["표준어.toml is being read"]);
    let commands = plan.refresh(&scene.context());
    let is_facts = |command: &Command| {
        matches!(command, Command::Effect(Effect::ReadPlanFacts(experiment))
            if experiment.model.path == Path::new("models/토끼-2B"))
    };
    assert!(commands.iter().any(is_facts));
    // Asked once.
    assert!(plan.refresh(&scene.context()).is_empty());
    assert_eq!(status(&plan, &scene), "표준어");
}

#[test]
fn the_arithmetic_follows_every_key() {
    let scene = scene();
    let mut plan = plan(&scene);
    let before = "completions: B×A×D = 8×4×1 = 32, (B÷G)×A×D = (8÷8)×4×1 = 4 prompts";
    let one_line = |plan: &Plan| {
        let scene = Scene::new(world(), 80, 24);
        scene.drawn(plan)
    };
    assert_has(&one_line(&plan), &["▸", before]);
    assert_has(
        &one_line(&plan),
        &["prompts: B×G×A×D = 8×8×4×1 = 256, B×A×D = 8×4×1 = 32 prompts"],
    );
    assert_has(
        &one_line(&plan),
        &["622 prompts ÷ 4 = 155 steps/epoch, 2 dropped; 5 epochs = 775 steps"],
    );
    typing(&mut plan, &scene, "grpo.num_generations", "4");
    assert_has(&one_line(&plan), &["(B÷G)×A×D = (8÷4)×4×1 = 8 prompts"]);
    assert_has(
        &one_line(&plan),
        &["a step: 8 prompts, 32 completions, A×D = 4 micro-batches of 8"],
    );
    // Half a number is worked out as it stands, and a broken rule says the way out.
    plan.type_key(key(KeyCode::Backspace), &scene.context());
    plan.type_key(key(KeyCode::Char('3')), &scene.context());
    assert_has(
        &one_line(&plan),
        &["✗ completions: B = 8 is not a multiple of G = 3"],
    );
    assert_has(&one_line(&plan), &["set B to 6 or 9, or G to 2 or"]);
    plan.type_key(key(KeyCode::Esc), &scene.context());
    assert_eq!(text(&plan), VALID);
}

#[test]
fn the_memory_follows_every_key() {
    let scene = scene();
    let mut plan = plan(&scene);
    let total = |plan: &Plan| {
        plan.memory
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap()
            .plan
            .fullest()
            .1
    };
    let before = total(&plan);
    typing(&mut plan, &scene, "rollout.max_completion_length", "2048");
    assert!(total(&plan) > before);
    let lines = scene.drawn(&plan);
    assert_has(&lines, &["Memory", "of 24.0 GiB"]);
    assert_has(&lines, &["rollout"]);
    assert_has(&lines, &["rollout", "training", "inference"]);
    assert_has(&lines, &["weights", "GiB"]);
    let memory = plan.memory.as_ref().unwrap().as_ref().unwrap();
    assert!(memory.limits.contains("at most G") && memory.plan.capacity == Some(24 << 30));
}

#[test]
fn no_plan_of_memory_says_why() {
    let mut scene = scene();
    let facts = scene.world.plan.as_mut().unwrap();
    let mut shapes = (**facts.shapes.as_ref().unwrap()).clone();
    shapes.decoder = Err("models/토끼-2B has no config.json".to_owned());
    facts.shapes = Some(Arc::new(shapes));
    let mut plan = plan(&scene);
    assert_has(&scene.drawn(&plan), &["No plan yet: models/토끼-2B has no"]);
    // Facts of another model are no facts.
    edited(&mut plan, &scene, "model.path", "models/다른");
    assert_has(
        &scene.drawn(&plan),
        &["No plan yet: the shape of models/다른 is being"],
    );
}

#[test]
fn values_take_quotes_by_themselves_and_comments_stay() {
    let scene = scene();
    let mut plan = plan(&scene);
    edited(&mut plan, &scene, "model.path", "models/새 토끼");
    edited(&mut plan, &scene, "run.seed", "7");
    let expected = VALID.replace("토끼-2B", "새 토끼") + "\n[run]\nseed = 7\n";
    assert_eq!(text(&plan), expected);
    assert_eq!(status(&plan, &scene), "표준어 (unsaved)");
    assert_has(&scene.drawn(&plan), &["표준어 (unsaved)"]);
    go_to(&mut plan, "model.path");
    assert_has(&scene.drawn(&plan), &["▸* path", "새 토끼"]);
    assert_has(&scene.drawn(&plan), &["device", "\"auto\" (default)"]);
}

#[test]
fn facts_are_asked_for_when_an_edit_of_a_path_is_done() {
    let scene = scene();
    let mut plan = plan(&scene);
    typing(&mut plan, &scene, "data.train", "data/더.json");
    let asked = plan.type_key(key(KeyCode::Enter), &scene.context());
    assert!(matches!(
        asked.as_slice(),
        [Command::Effect(Effect::ReadPlanFacts(_))]
    ));
    typing(&mut plan, &scene, "grpo.beta", "0.1");
    assert_eq!(plan.type_key(key(KeyCode::Enter), &scene.context()), []);
}

#[test]
fn faults_are_shown_at_their_key_and_jumped_to() {
    let mut scene = scene();
    on_disk(&mut scene, FAULTY);
    let mut plan = plan(&scene);
    assert_eq!(status(&plan, &scene), "표준어, 2 faults");
    go_to(&mut plan, "run.seed");
    plan.act(Action::NextFault, &scene.context());
    assert_eq!(plan.line(), Some(FormLine::Loose(0)));
    assert_has(&scene.drawn(&plan), &["✗ ", "grpo.betta", "did you mean"]);
    plan.act(Action::NextFault, &scene.context());
    assert_has(
        &scene.drawn(&plan),
        &["▸✗ per_device_train_batch_size", "10"],
    );
    let started = plan.act(Action::Start, &scene.context());
    assert!(matches!(&started[..], [Command::Tell(notice)] if notice.text.contains("2 faults")));
    edited(&mut plan, &scene, "grpo.per_device_train_batch_size", "16");
    assert_eq!(status(&plan, &scene), "표준어 (unsaved), 1 fault");
}

#[test]
fn choices_cycle_and_flags_switch() {
    let scene = scene();
    let mut plan = plan(&scene);
    let value = |plan: &Plan, path: &str| plan.form.as_ref().unwrap().experiment.get(path).unwrap();
    go_to(&mut plan, "grpo.loss_type");
    plan.act(Action::Right, &scene.context());
    assert_eq!(value(&plan, "grpo.loss_type"), "\"luspo\"");
    plan.act(Action::Left, &scene.context());
    plan.act(Action::Left, &scene.context());
    assert_eq!(value(&plan, "grpo.loss_type"), "\"dr_grpo\"");
    plan.act(Action::Open, &scene.context());
    plan.type_key(key(KeyCode::Char(' ')), &scene.context());
    assert_has(&scene.drawn(&plan), &["loss_type", "< dapo >"]);
    plan.type_key(key(KeyCode::Esc), &scene.context());
    assert_eq!(value(&plan, "grpo.loss_type"), "\"dr_grpo\"");
    go_to(&mut plan, "data.shuffle_dataset");
    plan.act(Action::Open, &scene.context());
    assert_eq!(value(&plan, "data.shuffle_dataset"), "false");
    go_to(&mut plan, "model.path");
    plan.act(Action::Right, &scene.context());
    assert_eq!(value(&plan, "model.path"), "\"models/토끼-2B\"");
}

#[test]
fn every_change_can_be_taken_back() {
    let scene = scene();
    let mut plan = plan(&scene);
    edited(&mut plan, &scene, "grpo.num_generations", "4");
    go_to(&mut plan, "grpo.beta");
    plan.act(Action::Delete, &scene.context());
    go_to(&mut plan, "bertscore.idf");
    plan.act(Action::Right, &scene.context());
    assert!(!text(&plan).contains("beta") && text(&plan).contains("idf = true"));
    for _ in 0..3 {
        assert!(plan.act(Action::Undo, &scene.context()).is_empty());
    }
    assert_eq!(text(&plan), VALID);
    assert_eq!(status(&plan, &scene), "표준어");
    assert_eq!(plan.act(Action::Undo, &scene.context()).len(), 1);
    // An empty value means the default, so the key goes.
    edited(&mut plan, &scene, "grpo.beta", "");
    assert!(!text(&plan).contains("beta"));
}

#[test]
fn what_has_tables_of_its_own_is_not_edited_in_a_line() {
    let mut scene = scene();
    let commands = "\n[[reward.commands]]\nname = \"length\"\ncommand = [\"./length\"]\n";
    on_disk(&mut scene, &format!("{VALID}{commands}"));
    let mut plan = plan(&scene);
    go_to(&mut plan, "reward.commands");
    let refused = plan.act(Action::Open, &scene.context());
    assert!(
        matches!(&refused[..], [Command::Tell(notice)] if notice.text.contains("in an editor"))
    );
    assert!(!plan.is_typing());
}

#[test]
fn the_form_is_filtered_and_walked_by_section() {
    let scene = scene();
    let mut plan = plan(&scene);
    plan.act(Action::NextPane, &scene.context());
    assert_has(&scene.drawn(&plan), &["▸  load_in_4bit"]);
    plan.act(Action::Down, &scene.context());
    plan.act(Action::PreviousPane, &scene.context());
    assert_has(&scene.drawn(&plan), &["▸  load_in_4bit"]);
    plan.act(Action::PreviousPane, &scene.context());
    assert_has(&scene.drawn(&plan), &["▸  path"]);
    plan.set_filter("learning_rate", &scene.context());
    let lines = scene.drawn(&plan);
    assert_has(&lines, &["[sft]"]);
    assert!(!lines.iter().any(|line| line.contains("load_in_4bit")));
    plan.act(Action::Back, &scene.context());
    assert_eq!(plan.filter(), "");
}

#[test]
fn the_caret_stands_behind_what_is_typed() {
    let scene = scene();
    let mut plan = plan(&scene);
    typing(&mut plan, &scene, "model.path", "토끼");
    let area = scene.body;
    let mut buffer = ratatui::buffer::Buffer::empty(area);
    let caret = draw::draw(&plan, &scene.context(), &mut buffer, area).unwrap();
    let line = crate::tui::widgets::testing::lines(&buffer)[usize::from(caret.y)].clone();
    // The box, the cursor and the mark, the name with its gap, and two wide syllables.
    assert_eq!(caret.x, 1 + 3 + 27 + 2 + 4, "{line}");
    assert!(line.contains("path") && line.contains("토끼"));
    plan.paste("-2B\n", &scene.context());
    assert!(
        text(&plan).contains("path = \"토끼-2B\"      # where it lies"),
        "{}",
        text(&plan)
    );
}

#[test]
fn a_click_selects_a_key() {
    let scene = scene();
    let mut plan = plan(&scene);
    let lines = scene.drawn(&plan);
    let row = lines
        .iter()
        .position(|line| line.contains("lora_alpha"))
        .unwrap();
    plan.click(Position::new(9, row as u16), &scene.context());
    assert_has(&scene.drawn(&plan), &["▸  lora_alpha"]);
}

#[test]
fn every_size_shows_the_form_and_all_panels() {
    for (width, height) in [(80, 24), (120, 40), (160, 50)] {
        let scene = Scene::new(world(), width, height);
        let mut plan = plan(&scene);
        go_to(&mut plan, "grpo.num_generations");
        let lines = scene.drawn(&plan);
        assert_has(&lines, &["표준어", "✓ no fault"]);
        assert_has(&lines, &["▸  num_generations", "8"]);
        assert_has(&lines, &["G, the completions of one prompt"]);
        assert_has(&lines, &["Write a whole number of at least 0"]);
        assert_has(&lines, &["Batch", "B 8  G 8  A 4  D 1"]);
        assert_has(&lines, &["B×G×A×D = 8×8×4×1 = 256"]);
        assert_has(&lines, &["622 prompts ÷ 4 = 155 steps/epoch"]);
        assert_has(&lines, &["Memory", "of 24.0 GiB"]);
        assert_has(&lines, &["training", "GiB"]);
        assert_has(&lines, &["✓ fits"]);
    }
}

#[test]
fn any_size_can_be_drawn_and_ascii_is_ascii() {
    for (width, height) in [
        (0, 4),
        (1, 4),
        (9, 9),
        (40, 12),
        (80, 24),
        (120, 30),
        (300, 120),
    ] {
        let mut scene = Scene::new(world(), 1.max(width), height);
        scene.body.width = width;
        for is_ascii in [false, true] {
            scene.settings.look.glyphs = crate::tui::theme::Glyphs::new(is_ascii);
            let mut plan = plan(&scene);
            typing(&mut plan, &scene, "data.eval", "dev");
            let drawn = scene.drawn(&plan).join("\n");
            assert!(
                !is_ascii || !drawn.contains(['×', '÷', '…', '│']),
                "{drawn}"
            );
            plan.act(Action::PageDown, &scene.context());
        }
    }
}

#[test]
fn the_wheel_and_a_click_end_an_edit_with_the_value_as_it_stands() {
    let scene = scene();
    let mut plan = plan(&scene);
    typing(&mut plan, &scene, "grpo.beta", "0.5");
    plan.act(Action::Down, &scene.context());
    assert!(!plan.is_typing() && text(&plan).contains("beta = 0.5"));
    plan.act(Action::Undo, &scene.context());
    assert_eq!(text(&plan), VALID);
}
