mod drawing;

use std::path::Path;
use std::sync::Arc;

use moim_core::experiment::Difference;
use moim_core::run::{Liveness, Request, RunStatus};

use super::sample::{NOW, Scene, VALID, file, run, world};
use super::*;
use crate::tui::data::World;
use crate::tui::message::{Choice, Dialog, Effect, InputPurpose};
use crate::tui::state::Screen;

fn scene() -> Scene {
    Scene::new(world(), 120, 40)
}

/// A screen that has looked at the world once.
fn screen(scene: &Scene) -> Experiments {
    let mut screen = Experiments::default();
    assert!(screen.refresh(&scene.context()).is_empty());
    screen
}

/// The actions one after another, and what the last one comes to.
fn after(scene: &Scene, screen: &mut Experiments, actions: &[Action]) -> Vec<Command> {
    let mut commands = Vec::new();
    for action in actions {
        commands = screen.act(*action, &scene.context());
    }
    commands
}

fn selected(screen: &Experiments, scene: &Scene) -> PathBuf {
    let selected = screen.selected(&scene.context());
    selected.unwrap().path().to_owned()
}

fn run_cursor(screen: &Experiments, scene: &Scene) -> usize {
    let runs = screen.runs(&scene.context());
    screen.run_table.list.cursor(&runs)
}

fn error(commands: &[Command]) -> &str {
    match commands {
        [Command::Tell(notice)] if notice.is_error => &notice.text,
        other => panic!("no error: {other:?}"),
    }
}

fn question(commands: Vec<Command>) -> Dialog {
    match commands.into_iter().next() {
        Some(Command::Ask(dialog)) => dialog,
        other => panic!("no question: {other:?}"),
    }
}

fn answer(dialog: &Dialog, key: char) -> Vec<Command> {
    let is_it = |choice: &&Choice| choice.key == key;
    dialog.choices.iter().find(is_it).unwrap().commands.clone()
}

const RUNS: Action = Action::NextPane;

fn assert_has(lines: &[String], words: &[&str]) {
    let found = lines
        .iter()
        .any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "{words:?} in no line of\n{}", lines.join("\n"));
}

#[test]
fn enter_opens_what_is_selected() {
    let scene = scene();
    let mut screen = screen(&scene);
    let plan = after(&scene, &mut screen, &[Action::Down, Action::Open]);
    assert_eq!(
        plan,
        [Command::Plan(PathBuf::from("experiments/midm-base.toml"))]
    );
    let live = after(&scene, &mut screen, &[RUNS, Action::Open]);
    let attach = |run: &str, then| Command::Attach {
        run: PathBuf::from(run),
        then,
    };
    assert_eq!(live, [attach("outputs/표준어/셋째", Screen::Train)]);
    let finished = after(
        &scene,
        &mut screen,
        &[Action::Down, Action::Down, Action::Open],
    );
    assert_eq!(finished, [attach("outputs/demo/seed42", Screen::Ranking)]);
}

#[test]
fn an_experiment_with_faults_is_not_started_and_says_why() {
    let scene = scene();
    let mut screen = screen(&scene);
    let commands = after(&scene, &mut screen, &[Action::Down, Action::Start]);
    let [Command::Read { title, lines }] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    assert!(
        title.contains("midm-base cannot start: 2 faults"),
        "{title}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("line 8") && line.contains("multiple of G"))
    );
    let queued = after(&scene, &mut screen, &[Action::Queue]);
    assert!(error(&queued).contains("2 faults"));
}

#[test]
fn a_start_asks_about_runs_that_are_there_and_under_way() {
    let mut scene = scene();
    let mut screen = screen(&scene);
    let path = PathBuf::from("experiments/demo.toml");
    let commands = after(&scene, &mut screen, &[Action::Start]);
    let look = Effect::FindDuplicates {
        experiment: path.clone(),
    };
    assert!(commands.contains(&look.into()));
    // News of something else changes nothing.
    assert!(screen.refresh(&scene.context()).is_empty());
    let known = PathBuf::from("outputs/demo/seed42");
    scene.world.duplicates = Some((path.clone(), vec![known.clone()]));
    let dialog = question(screen.refresh(&scene.context()));
    let text = dialog.lines.join("\n");
    assert!(
        text.contains("outputs/demo/seed42") && text.contains("표준어/셋째"),
        "{text}"
    );
    let start = Command::Effect(Effect::Start {
        experiment: path.clone(),
    });
    assert_eq!(answer(&dialog, 's'), [start]);
    assert_eq!(answer(&dialog, 'a'), [Command::Enqueue(path)]);
    assert_eq!(
        answer(&dialog, 'o'),
        [Command::Attach {
            run: known,
            then: Screen::Ranking
        }]
    );
    // Asked once.
    assert!(screen.refresh(&scene.context()).is_empty());
}

#[test]
fn a_start_that_nothing_stands_in_the_way_of_goes_ahead() {
    let mut world = world();
    let index = world.index.as_mut().unwrap();
    index.runs.retain(|run| !run.condition().is_active());
    let mut scene = Scene::new(world, 120, 40);
    let mut screen = screen(&scene);
    after(&scene, &mut screen, &[Action::Start]);
    let path = PathBuf::from("experiments/demo.toml");
    scene.world.duplicates = Some((path.clone(), Vec::new()));
    let commands = screen.refresh(&scene.context());
    assert_eq!(
        commands,
        [Command::Effect(Effect::Start { experiment: path })]
    );
}

#[test]
fn a_run_that_died_can_be_resumed_and_one_under_way_cannot() {
    let scene = scene();
    let mut screen = screen(&scene);
    let resumed = after(&scene, &mut screen, &[RUNS, Action::Down, Action::Resume]);
    let run = PathBuf::from("outputs/표준어/두 번째");
    // Another one is under way, so it is asked.
    let go = answer(&question(resumed), 'g');
    assert_eq!(go, [Command::Effect(Effect::Resume { run })]);
    let refused = after(&scene, &mut screen, &[Action::Top, Action::Resume]);
    assert!(error(&refused).contains("running already"));
    let finished = after(
        &scene,
        &mut screen,
        &[Action::Down, Action::Down, Action::Resume],
    );
    assert!(error(&finished).contains("clone it"));
}

#[test]
fn requests_go_to_runs_under_way_only() {
    let mut scene = scene();
    let paused = run("demo", "paused", RunStatus::Paused, Liveness::Alive);
    let index = scene.world.index.as_mut().unwrap();
    index.runs.push(Arc::new(paused));
    let mut screen = screen(&scene);
    let asked = |run: &str, request| {
        vec![Command::Effect(Effect::Ask {
            run: PathBuf::from(run),
            request,
        })]
    };
    let live = "outputs/표준어/셋째";
    let commands = after(&scene, &mut screen, &[RUNS, Action::PauseOrContinue]);
    assert_eq!(commands, asked(live, Request::Pause));
    let commands = after(&scene, &mut screen, &[Action::StopAfterStep]);
    assert_eq!(commands, asked(live, Request::Stop));
    let commands = after(
        &scene,
        &mut screen,
        &[Action::Bottom, Action::PauseOrContinue],
    );
    assert_eq!(commands, asked("outputs/demo/paused", Request::Resume));
    let commands = after(&scene, &mut screen, &[Action::Up, Action::StopAfterStep]);
    assert!(error(&commands).contains("is stopped, so no trainer"));
}

#[test]
fn killing_and_deleting_ask_first_and_name_what_goes() {
    let scene = scene();
    let mut screen = screen(&scene);
    let path = PathBuf::from("outputs/표준어/셋째");
    let dialog = question(after(&scene, &mut screen, &[RUNS, Action::Kill]));
    assert!(dialog.lines.join(" ").contains("since epoch_1"));
    assert_eq!(
        answer(&dialog, 'k'),
        [Command::Effect(Effect::Kill { run: path })]
    );
    let active = after(&scene, &mut screen, &[Action::Delete]);
    assert!(error(&active).contains("stop it first"));
    let dialog = question(after(&scene, &mut screen, &[Action::Down, Action::Delete]));
    assert!(dialog.lines.join(" ").contains("outputs/표준어/두 번째"));
    let path = PathBuf::from("outputs/표준어/두 번째");
    assert_eq!(
        answer(&dialog, 'd'),
        [Command::Effect(Effect::Delete { path })]
    );
    assert!(error(&after(&scene, &mut screen, &[Action::Kill])).contains("is dead"));
    let dialog = question(after(&scene, &mut screen, &[Action::Left, Action::Delete]));
    assert!(dialog.lines.join(" ").contains("experiments/demo.toml"));
}

#[test]
fn a_clone_takes_the_text_with_its_comments() {
    let scene = scene();
    let mut screen = screen(&scene);
    let of_file = after(&scene, &mut screen, &[Action::Bottom, Action::Clone]);
    let of_run = after(&scene, &mut screen, &[RUNS, Action::Clone]);
    for commands in [of_file, of_run] {
        let Some(Command::Input(input)) = commands.last() else {
            panic!("{commands:?}");
        };
        let purpose = InputPurpose::NewExperiment {
            text: VALID.to_owned(),
        };
        assert_eq!(
            (&input.purpose, input.initial.as_str()),
            (&purpose, "표준어-2")
        );
    }
    let mut lost = world();
    lost.index.as_mut().unwrap().experiments.remove(2);
    let scene = Scene::new(lost, 120, 40);
    let commands = after(&scene, &mut screen, &[Action::Clone]);
    assert!(error(&commands).contains("copy outputs/표준어/셋째/experiment.toml"));
}

#[test]
fn marked_configurations_are_compared_in_the_order_of_their_marks() {
    let mut scene = scene();
    let mut screen = screen(&scene);
    let too_few = after(
        &scene,
        &mut screen,
        &[Action::Mark, Action::CompareConfigurations],
    );
    assert!(error(&too_few).contains("mark two or more"));
    let commands = after(
        &scene,
        &mut screen,
        &[RUNS, Action::Mark, Action::CompareConfigurations],
    );
    let marked = ["experiments/demo.toml", "outputs/표준어/셋째"].map(PathBuf::from);
    assert_eq!(
        commands,
        [Command::Effect(Effect::ReadDifferences(marked.to_vec()))]
    );
    let beta = Difference {
        key: "grpo.beta".to_owned(),
        before: Some("0.04".to_owned()),
        after: Some("0.1".to_owned()),
    };
    scene.world.differences = Some(vec![(marked[1].clone(), Ok(vec![beta]))]);
    let commands = screen.refresh(&scene.context());
    let [Command::Read { lines, .. }] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    assert_eq!(lines[0], "           demo  표준어/셋째");
    assert_eq!(lines[1], "grpo.beta  0.04  0.1");
    after(&scene, &mut screen, &[Action::ClearMarks]);
    assert!(screen.marks.all().is_empty());
}

#[test]
fn the_cursor_stays_on_its_line_while_lists_change() {
    let mut scene = scene();
    let mut screen = screen(&scene);
    after(&scene, &mut screen, &[RUNS, Action::Down, Action::Down]);
    let before = selected(&screen, &scene);
    let new = run("demo", "seed8", RunStatus::Running, Liveness::Alive);
    scene
        .world
        .index
        .as_mut()
        .unwrap()
        .runs
        .insert(0, Arc::new(new));
    screen.refresh(&scene.context());
    assert_eq!(
        (selected(&screen, &scene), run_cursor(&screen, &scene)),
        (before.clone(), 3)
    );
    after(&scene, &mut screen, &[Action::Sort, Action::Sort]);
    assert_eq!(selected(&screen, &scene), before);
    screen.set_filter("표준어", &scene.context());
    assert_eq!(screen.runs(&scene.context()).len(), 2);
    screen.set_filter("!finished|valid", &scene.context());
    assert_eq!(screen.files(&scene.context()).len(), 1);
    after(&scene, &mut screen, &[Action::Back]);
    assert_eq!(screen.filter(), "");
}

#[test]
fn runs_are_sorted_by_the_next_column() {
    let scene = scene();
    let mut screen = screen(&scene);
    let first = |screen: &Experiments| launch::run_id(screen.runs(&scene.context())[0]);
    assert_eq!(first(&screen), "표준어/셋째");
    let expected = [
        "demo/seed42",
        "표준어/셋째",
        "demo/seed42",
        "표준어/셋째",
        "demo/seed42",
    ];
    for id in expected {
        screen.act(Action::Sort, &scene.context());
        assert_eq!(first(&screen), id, "{:?}", screen.sort);
    }
}

#[test]
fn the_lists_are_exported_as_csv() {
    let scene = scene();
    let mut screen = screen(&scene);
    let commands = after(&scene, &mut screen, &[RUNS, Action::Export]);
    let [Command::Input(input)] = commands.as_slice() else {
        panic!("{commands:?}");
    };
    let InputPurpose::ExportTo { text } = &input.purpose else {
        panic!("{input:?}");
    };
    assert_eq!(text.lines().count(), 5);
    assert!(text.contains("demo/seed42,outputs/demo/seed42,finished,106,106,0.8125,inference_epoch2.json,0.6213,cuda:0"));
}
