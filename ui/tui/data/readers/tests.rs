use std::sync::mpsc::channel;
use std::time::Duration;

use moim_core::run::{RunDir, RunState};

use super::*;
use crate::tui::data::World;

#[test]
fn everything_that_is_asked_for_comes_and_the_threads_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = Experiment::default();
    experiment.model.path = "m".into();
    experiment.data.train = "t".into();
    experiment.data.eval = "e".into();
    let file = folder.path().join("a.toml");
    std::fs::write(&file, experiment.to_toml()).unwrap();
    let run = RunDir::create(folder.path(), "a", Some("첫째"), &experiment).unwrap();
    RunState::begin(run.id(), "cpu")
        .save(&run.run_json())
        .unwrap();

    let (sender, messages) = channel();
    let mut readers = Readers::start(folder.path(), folder.path(), sender, false);
    let mut world = World::default();
    world.attach(run.path());
    // As `update` does before the question goes out.
    world.comparing = Some(Vec::new());
    readers.open_run(run.path());
    readers.read_answers(AnswersQuery {
        run: run.path().to_owned(),
        ..AnswersQuery::default()
    });
    readers.compare(run.path().to_owned(), Vec::new());
    readers.read_plan_facts(experiment);
    readers.find_duplicates(file.clone());
    readers.read_differences(vec![file.clone(), run.path().to_owned()]);
    readers.rescan();
    let is_whole = |world: &World| {
        world.index.is_some()
            && world.open.as_ref().is_some_and(|open| open.state.is_ok())
            && world.answers.is_some()
            && world.comparison.is_some()
            && world.plan.is_some()
            && world.duplicates.is_some()
            && world.differences.is_some()
            && world.ranking.problem.is_some()
    };
    while !is_whole(&world) {
        match messages.recv_timeout(Duration::from_secs(30)).unwrap() {
            Message::Data(data) => world.apply(data),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.duplicates, Some((file, vec![run.path().to_owned()])));
    assert!(
        world
            .differences
            .is_some_and(|found| found[0].1 == Ok(Vec::new()))
    );

    drop(readers);
    // The channel closes when the last thread is gone.
    while messages.recv_timeout(Duration::from_secs(10)).is_ok() {}
    let end = messages.recv_timeout(Duration::from_secs(10)).unwrap_err();
    assert_eq!(end, std::sync::mpsc::RecvTimeoutError::Disconnected);
}
