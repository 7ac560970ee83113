use super::*;
use crate::score::Label;

const ONE: &str = r#"[{"id": "1", "answer": "a"}]"#;
const BOTH: &str = r#"[{"id": "1", "answer": "a"}, {"id": "2", "answer": "b"}]"#;
const OTHER: &str = r#"[{"id": "1", "answer": "x"}, {"id": "2", "answer": "b"}]"#;
const GROWING: &str = "[\n{\"id\": \"1\", \"ans";
const WRONG: &str = "[\n{\"id\": \"1\",}]";

/// A directory with one file, driven second by second.
struct Bench {
    state: DirectoryState,
    now: Duration,
    content: &'static str,
    stamp: Stamp,
    age: Duration,
}

impl Bench {
    fn new() -> Self {
        let labels = ["1", "2"].map(|id| Label {
            id: id.to_owned(),
            question_type: String::new(),
            question: String::new(),
            answer: "gold".to_owned(),
        });
        let labels = Labels::new(labels.to_vec()).unwrap();
        Self {
            state: DirectoryState::new(Arc::new(labels), Timing::default()),
            now: Duration::ZERO,
            content: "",
            stamp: Stamp {
                inode: 1,
                len: 0,
                modified_ns: 0,
            },
            age: Duration::ZERO,
        }
    }

    /// Writes other content, with a new time stamp.
    fn write(&mut self, content: &'static str) -> &mut Self {
        self.content = content;
        self.stamp.len = content.len() as u64;
        self.stamp.modified_ns += 1;
        self
    }

    fn after(&mut self, wait: Duration) -> &mut Self {
        self.now += wait;
        self
    }

    /// A scan that finds the file, and the readings that follow.
    fn look(&mut self) -> Vec<WatchUpdate> {
        let entry = Entry {
            name: "inference_epoch3.json".to_owned(),
            stamp: self.stamp,
            age: self.age,
        };
        let mut updates = self.state.scanned(self.now, Scan::Entries(vec![entry]));
        for name in self.state.due(self.now) {
            let reading = Reading::Content {
                before: self.stamp,
                after: self.stamp,
                bytes: self.content.as_bytes().to_vec(),
            };
            updates.extend(self.state.read(self.now, &name, reading));
        }
        updates
    }

    /// As [`Self::look`], with the one file update that must result.
    fn next_update(&mut self) -> FileUpdate {
        let mut files = self.look().into_iter().filter_map(|update| match update {
            WatchUpdate::File(file) => Some(file),
            _ => None,
        });
        let file = files.next().expect("an update");
        assert_eq!(files.next(), None);
        file
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_file_grows_becomes_partial_complete_updated_and_gone() {
    let mut bench = Bench::new();
    let growing = bench.write(GROWING).next_update();
    assert_eq!(growing.epoch, Some(3));
    assert!(
        matches!(&growing.state, FileState::Pending { reason } if reason.contains("2:")),
        "{:?}",
        growing.state
    );
    let partial = bench.after(SECOND).write(ONE).next_update();
    assert_eq!(partial.state, FileState::Partial);
    let coverage = partial.coverage.unwrap();
    assert_eq!((coverage.answered, coverage.expected), (1, 2));
    assert_eq!(
        (partial.revision, coverage.missing),
        (1, vec!["2".to_owned()])
    );

    let complete = bench.after(SECOND).write(BOTH).next_update();
    assert_eq!(complete.state, FileState::Complete);
    assert!(complete.is_updated());
    let updated = bench.after(SECOND).write(OTHER).next_update();
    assert_eq!((updated.state, updated.revision), (FileState::Complete, 3));

    let gone = bench.state.scanned(bench.now, Scan::Entries(Vec::new()));
    let [WatchUpdate::File(gone)] = &gone[..] else {
        panic!("{gone:?}")
    };
    assert_eq!(gone.state, FileState::Gone);
    assert!(gone.answers.is_some(), "the last good version stays");
    // It comes back unchanged: known content is not a new revision.
    let back = bench.after(SECOND).next_update();
    assert_eq!((back.state, back.revision), (FileState::Complete, 3));
}

#[test]
fn an_unfinished_file_is_retried_with_growing_waits_and_then_broken() {
    let mut bench = Bench::new();
    bench.write(GROWING).look();
    let mut waits = Vec::new();
    let broken = loop {
        let wake = bench.state.next_wake(bench.now);
        waits.push(wake - bench.now);
        bench.now = wake;
        if let Some(WatchUpdate::File(update)) = bench.look().pop() {
            break update;
        }
        assert!(waits.len() < 50);
    };
    let millis: Vec<u128> = waits.iter().take(7).map(Duration::as_millis).collect();
    assert_eq!(millis, [50, 100, 200, 400, 800, 1600, 2000]);
    assert_eq!(bench.now, Timing::default().quiet_limit);
    assert!(
        matches!(&broken.state, FileState::Broken(fault) if fault.line == Some(2)),
        "{:?}",
        broken.state
    );
    assert_eq!(broken.answers, None);
    // A writer that was only slow can still finish later.
    let complete = bench.after(100 * SECOND).write(BOTH).next_update();
    assert_eq!(
        (complete.state, complete.revision),
        (FileState::Complete, 1)
    );
}

#[test]
fn a_change_restarts_the_wait() {
    let mut bench = Bench::new();
    bench.write("[").look();
    for length in [2, 3, 5, 8] {
        bench.after(29 * SECOND).write(&GROWING[..length]);
        assert!(bench.look().iter().all(|update| matches!(
            update,
            WatchUpdate::File(FileUpdate {
                state: FileState::Pending { .. },
                ..
            })
        )));
    }
    assert_eq!(bench.state.pending(), 1);
}

#[test]
fn a_file_left_unfinished_long_ago_is_broken_immediately() {
    let mut bench = Bench::new();
    bench.age = 3600 * SECOND;
    assert_eq!(bench.write(GROWING).next_update().state.name(), "broken");
}

#[test]
fn a_broken_file_keeps_its_last_good_version() {
    let mut bench = Bench::new();
    bench.write(BOTH).look();
    let broken = bench.after(SECOND).write(WRONG).next_update();
    assert!(
        matches!(&broken.state, FileState::Broken(fault)
            if (fault.line, fault.column) == (Some(2), Some(12))),
        "{:?}",
        broken.state
    );
    assert_eq!(
        (broken.revision, broken.answers.unwrap().answers().len()),
        (1, 2)
    );
    let mended = bench.after(SECOND).write(BOTH).next_update();
    assert_eq!((mended.state, mended.revision), (FileState::Complete, 1));
}

#[test]
fn the_same_content_with_a_new_stamp_is_not_an_update() {
    let mut bench = Bench::new();
    bench.write(BOTH).look();
    assert!(bench.after(SECOND).write(BOTH).look().is_empty());
    bench.stamp.inode += 1;
    assert!(bench.after(SECOND).look().is_empty());
    assert!(bench.after(SECOND).look().is_empty());
}

#[test]
fn a_second_write_with_the_same_stamp_is_found() {
    let mut bench = Bench::new();
    bench.write(BOTH).look();
    // Same length within one tick of a coarse clock.
    bench.content = OTHER;
    assert!(bench.after(SECOND).look().is_empty());
    assert_eq!(bench.after(2 * SECOND).next_update().revision, 2);
    // And on request.
    bench.after(100 * SECOND).look();
    bench.content = BOTH;
    assert!(bench.look().is_empty());
    bench.state.rescan(bench.now);
    assert_eq!(bench.next_update().revision, 3);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_pending() {
    let mut bench = Bench::new();
    let entry = Entry {
        name: "a.json".to_owned(),
        stamp: bench.stamp,
        age: Duration::ZERO,
    };
    bench.state.scanned(bench.now, Scan::Entries(vec![entry]));
    let grown = Stamp {
        len: 9,
        ..bench.stamp
    };
    let reading = Reading::Content {
        before: bench.stamp,
        after: grown,
        bytes: BOTH.into(),
    };
    let update = bench.state.read(bench.now, "a.json", reading);
    let Some(WatchUpdate::File(update)) = update else {
        panic!("{update:?}")
    };
    assert_eq!(update.state.name(), "pending");
    assert_eq!(bench.state.due(Timing::default().first_retry), ["a.json"]);
}

#[test]
fn readings_that_fail_are_reported_once_and_retried() {
    let mut bench = Bench::new();
    bench.write(BOTH).look();
    bench.state.rescan(bench.now);
    let name = "inference_epoch3.json";
    let denied = || Reading::Failed("permission denied".to_owned());
    let update = bench.state.read(bench.now, name, denied()).unwrap();
    let WatchUpdate::File(update) = update else {
        panic!()
    };
    assert_eq!(update.state.name(), "broken");
    assert!(update.answers.is_some());
    assert_eq!(bench.state.read(bench.now, name, denied()), None);
    assert_eq!(
        bench.after(2 * SECOND).next_update().state,
        FileState::Complete
    );

    let large = Reading::TooLarge { len: 10, limit: 5 };
    assert!(bench.state.read(bench.now, name, large).is_some());
    bench.state.rescan(bench.now);
    assert_eq!(bench.next_update().state, FileState::Complete);

    // Vanished between scan and reading, and back with its old stamp.
    assert_eq!(bench.state.read(bench.now, name, Reading::Vanished), None);
    bench.content = OTHER;
    assert_eq!(bench.next_update().revision, 2);
    assert_eq!(
        bench.state.read(bench.now, "never seen", Reading::Vanished),
        None
    );
}

#[test]
fn a_directory_vanishes_and_returns() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.state.scanned(bench.now, Scan::Missing),
        [WatchUpdate::Directory(DirectoryCondition::Missing)]
    );
    assert!(bench.state.scanned(bench.now, Scan::Missing).is_empty());
    let updates = bench.write(BOTH).look();
    assert_eq!(
        updates[0],
        WatchUpdate::Directory(DirectoryCondition::Present)
    );
    assert_eq!(updates.len(), 2);
    let updates = bench.state.scanned(bench.now, Scan::Missing);
    assert_eq!(
        updates[0],
        WatchUpdate::Directory(DirectoryCondition::Missing)
    );
    assert!(
        matches!(&updates[1], WatchUpdate::File(file) if file.state == FileState::Gone),
        "{updates:?}"
    );
    bench.stamp.inode = 77;
    assert_eq!(bench.look().len(), 2);
    // Nothing is known about the files of a directory that cannot be listed.
    let failed = Scan::Failed("input/output error".to_owned());
    assert_eq!(bench.state.scanned(bench.now, failed).len(), 1);
    assert_eq!(
        bench.look(),
        [WatchUpdate::Directory(DirectoryCondition::Present)]
    );
}

#[test]
fn the_heartbeat_slows_down_when_nothing_happens() {
    let mut bench = Bench::new();
    bench.write(BOTH).look();
    bench.after(3 * SECOND).look();
    assert_eq!(bench.state.next_wake(bench.now), bench.now + 2 * SECOND);
    bench.after(100 * SECOND).look();
    assert_eq!(bench.state.next_wake(bench.now), bench.now + 10 * SECOND);
}
