use std::fs;

use notify::event::{AccessKind, AccessMode, CreateKind, DataChange, ModifyKind, RenameMode};
use notify::{Event, EventKind};

use super::super::hints::hint_of;
use super::*;
use crate::score::{FileState, Label};
use crate::watch::{DirectoryCondition, FileUpdate};

const BOTH: &str = r#"[{"id": "1", "answer": "a"}, {"id": "2", "answer": "b"}]"#;

fn labels() -> Arc<Labels> {
    let labels = ["1", "2"].map(|id| Label {
        id: id.to_owned(),
        question_type: String::new(),
        question: String::new(),
        answer: "gold".to_owned(),
    });
    Arc::new(Labels::new(labels.to_vec()).unwrap())
}

#[test]
fn only_changes_of_answer_files_and_the_directory_are_hints() {
    let changed = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let created = EventKind::Create(CreateKind::Folder);
    let cases = [
        (changed, "/run/infer/epoch1.json", true),
        (renamed, "/run/infer/epoch1.json", true),
        (written, "/run/infer/epoch1.json", true),
        (opened, "/run/infer/epoch1.json", false),
        (changed, "/run/infer/.epoch1.json.writing", false),
        (changed, "/run/events.jsonl", false),
        (created, "/run/infer", true),
    ];
    for (kind, path, is_hint) in cases {
        let event = Event::new(kind).add_path(path.into());
        let directory = Path::new("/run/infer");
        let hint = hint_of(Ok(event), |path| concerns(directory, path));
        assert_eq!(hint, is_hint.then_some(Hint::Changed), "{kind:?} {path}");
    }
}

/// Waits for the first update that `wanted` picks; fails after a while.
fn wait_for<Found>(
    watcher: &Watcher,
    what: &str,
    mut wanted: impl FnMut(&WatchUpdate) -> Option<Found>,
) -> Found {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut seen = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match watcher.updates().recv_timeout(left) {
            Ok(update) => match wanted(&update) {
                Some(found) => return found,
                None => seen.push(update),
            },
            Err(error) => panic!("no {what}: {error}; seen {seen:#?}"),
        }
    }
}

fn file(state: &'static str, name: &'static str) -> impl FnMut(&WatchUpdate) -> Option<FileUpdate> {
    move |update| match update {
        WatchUpdate::File(file) if file.state.name() == state && file.name == name => {
            Some(file.clone())
        }
        _ => None,
    }
}

fn condition(wanted: DirectoryCondition) -> impl FnMut(&WatchUpdate) -> Option<()> {
    move |update| (*update == WatchUpdate::Directory(wanted.clone())).then_some(())
}

/// One life of a directory, with notifications and without.
fn follow_a_directory(poll: bool) {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("infer_results");
    let options = WatchOptions {
        timing: Timing {
            active_heartbeat: Duration::from_millis(if poll { 50 } else { 500 }),
            coalesce: Duration::from_millis(20),
            quiet_limit: Duration::from_millis(300),
            ..Timing::default()
        },
        poll,
        ..WatchOptions::default()
    };
    let watcher = Watcher::start(&directory, labels(), options).unwrap();
    let mode = wait_for(&watcher, "mode", |update| match update {
        WatchUpdate::Mode(mode) => Some(mode.clone()),
        _ => None,
    });
    // On a machine without notifications both runs poll.
    assert!(
        !poll || matches!(mode, WatchMode::Polling { .. }),
        "{mode:?}"
    );
    wait_for(&watcher, "absence", condition(DirectoryCondition::Missing));

    fs::create_dir(&directory).unwrap();
    wait_for(
        &watcher,
        "directory",
        condition(DirectoryCondition::Present),
    );

    // Published by rename, as we do it ourselves.
    let hidden = directory.join(".inference_epoch1.json.writing");
    fs::write(&hidden, BOTH).unwrap();
    fs::rename(&hidden, directory.join("inference_epoch1.json")).unwrap();
    let first = wait_for(
        &watcher,
        "epoch 1",
        file("complete", "inference_epoch1.json"),
    );
    assert_eq!((first.epoch, first.revision), (Some(1), 1));
    wait_for(&watcher, "rest", |update| {
        (*update == WatchUpdate::Settled { pending: 0 }).then_some(())
    });

    // Written in place and never finished. That it is pending in between is left
    // to the tests of the state: a busy machine may look only when it is too late.
    fs::write(directory.join("inference_epoch2.json"), &BOTH[..20]).unwrap();
    let broken = wait_for(&watcher, "broken", file("broken", "inference_epoch2.json"));
    assert!(matches!(broken.state, FileState::Broken(fault) if fault.line == Some(1)));

    fs::write(directory.join("inference_epoch1.json"), &BOTH[..27]).unwrap();
    fs::write(
        directory.join("inference_epoch1.json"),
        BOTH.replace("\"b\"", "\"c\""),
    )
    .unwrap();
    let updated = wait_for(&watcher, "update", |update| match update {
        WatchUpdate::File(file) if file.revision == 2 => Some(file.clone()),
        _ => None,
    });
    assert!(updated.is_updated());

    fs::remove_dir_all(&directory).unwrap();
    wait_for(&watcher, "deletion", condition(DirectoryCondition::Missing));
    wait_for(&watcher, "gone", file("gone", "inference_epoch1.json"));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("inference_epoch1.json"), BOTH).unwrap();
    wait_for(
        &watcher,
        "return",
        file("complete", "inference_epoch1.json"),
    );
    // The notifications follow the new directory as well.
    fs::write(directory.join("inference_epoch5.json"), BOTH).unwrap();
    wait_for(
        &watcher,
        "epoch 5",
        file("complete", "inference_epoch5.json"),
    );
    watcher.rescan();
}

#[test]
fn a_real_directory_is_followed_by_notifications() {
    follow_a_directory(false);
}

#[test]
fn a_real_directory_is_followed_by_polling() {
    follow_a_directory(true);
}

#[test]
fn labels_in_the_directory_are_not_answers() {
    let directory = tempfile::tempdir().unwrap();
    let label_file = directory.path().join("labels.json");
    fs::write(&label_file, BOTH).unwrap();
    fs::write(directory.path().join("epoch1.json"), BOTH).unwrap();
    let labels = Arc::new(Labels::load(&label_file).unwrap());
    let watcher = Watcher::start(directory.path(), labels, WatchOptions::default()).unwrap();
    let mut files = Vec::new();
    wait_for(&watcher, "rest", |update| {
        if let WatchUpdate::File(file) = update {
            files.push(file.name.clone());
        }
        matches!(update, WatchUpdate::Settled { .. }).then_some(())
    });
    assert_eq!(files, ["epoch1.json"]);
}

#[test]
fn dropping_the_receiver_ends_the_thread() {
    let directory = tempfile::tempdir().unwrap();
    let start = Instant::now();
    drop(Watcher::start(directory.path(), labels(), WatchOptions::default()).unwrap());
    assert!(start.elapsed() < Timing::default().active_heartbeat);
}
