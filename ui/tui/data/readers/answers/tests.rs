use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use moim_core::run::CompletionRecord;

use super::*;

const SAMPLES: usize = 4;

/// The lines of a group. `size` makes the completions longer.
fn group(step: usize, id: usize, size: usize) -> String {
    let lines = (0..SAMPLES).map(|sample| {
        let record = CompletionRecord {
            step,
            epoch: 1 + step / 100,
            id: id.to_string(),
            question_type: if id.is_multiple_of(2) {
                "선택형"
            } else {
                "교정형"
            }
            .to_owned(),
            sample,
            prompt: format!("<|im_start|>user\n질문 {id}<|im_end|>\n<|im_start|>assistant\n"),
            completion: format!("\"답 {step}\"가 옳다.{}", "가".repeat(size)),
            label: "\"답\"".to_owned(),
            length: 9,
            finish_reason: "stop".to_owned(),
            rewards: BTreeMap::from([("format".to_owned(), Some(1.0))]),
            reward: Some(if step == 3 { 1.0 } else { sample as f64 }),
            advantage: Some(0.0),
        };
        serde_json::to_string(&record).unwrap() + "\n"
    });
    lines.collect()
}

fn append(run: &Path, text: &str) {
    let path = run.join("completions.jsonl");
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

struct Terminal {
    run: PathBuf,
    worker: Worker<AnswersQuery>,
    messages: Receiver<Message>,
    number: u64,
}

impl Terminal {
    fn on(run: &Path) -> Self {
        let (sender, messages) = channel();
        Self {
            run: run.to_owned(),
            worker: start(&sender),
            messages,
            number: 0,
        }
    }

    fn ask(&mut self, change: impl FnOnce(&mut AnswersQuery)) -> AnswersPage {
        self.number += 1;
        let mut query = AnswersQuery {
            run: self.run.clone(),
            number: self.number,
            ..AnswersQuery::default()
        };
        change(&mut query);
        self.worker.ask(query);
        self.next(|page| {
            !page
                .note
                .as_ref()
                .is_some_and(|note| note.starts_with("looking on"))
        })
    }

    fn next(&self, is_wanted: impl Fn(&AnswersPage) -> bool) -> AnswersPage {
        loop {
            match self.messages.recv_timeout(Duration::from_secs(30)).unwrap() {
                Message::Data(Data::Answers(page))
                    if page.number == self.number && is_wanted(&page) =>
                {
                    return page;
                }
                Message::Data(Data::Answers(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn step(page: &AnswersPage) -> usize {
    page.group.as_ref().unwrap().step
}

fn place(page: &AnswersPage) -> GroupPlace {
    page.group.as_ref().unwrap().place
}

#[test]
fn groups_are_paged_and_followed_as_they_come() {
    let run = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::on(run.path());
    let page = terminal.ask(|_| {});
    assert!(page.group.is_none() && page.note.unwrap().contains("log_completions"));

    append(
        run.path(),
        &(1..=60)
            .map(|step| group(step, step % 7, 0))
            .collect::<String>(),
    );
    let page = terminal.next(|page| page.group.is_some());
    let shown = page.group.as_ref().unwrap();
    assert_eq!(
        (shown.step, shown.completions.len(), shown.id.as_str()),
        (60, SAMPLES, "4")
    );
    assert_eq!(page.neighbours.len(), 21);
    assert_eq!((page.has_earlier, page.has_later), (true, false));
    assert_eq!(
        (
            page.neighbours[0].question.as_str(),
            page.neighbours[0].mean_reward
        ),
        ("질문 5", Some(1.5))
    );

    let before = terminal.ask(|query| query.place = Place::Before(place(&page)));
    assert_eq!(
        (step(&before), before.neighbours.len(), before.has_later),
        (59, 22, true)
    );
    let after = terminal.ask(|query| query.place = Place::After(place(&before)));
    assert_eq!(step(&after), 60);
    let same = terminal.ask(|query| query.place = Place::After(place(&after)));
    assert_eq!(step(&same), 60, "the last stays where nothing follows");

    // It is still shown when the file grows, and knows that there is more.
    append(run.path(), &group(61, 1, 0));
    let page = terminal.next(|page| page.has_later);
    assert_eq!(step(&page), 60);
    let first = terminal.ask(|query| query.place = Place::First);
    assert_eq!(
        (step(&first), first.has_earlier, first.neighbours.len()),
        (1, false, 21)
    );
    assert_eq!(
        step(&terminal.ask(|query| query.place = Place::Before(place(&first)))),
        1
    );
    assert!(first.neighbours[2].is_constant && !first.neighbours[1].is_constant);
    assert_eq!(step(&terminal.ask(|_| {})), 61);
    append(run.path(), &group(62, 1, 0));
    terminal.next(|page| step(page) == 62);
}

#[test]
fn filters_types_and_the_history_of_one_question() {
    let run = tempfile::tempdir().unwrap();
    append(
        run.path(),
        &(1..=60)
            .map(|step| group(step, step % 7, 0))
            .collect::<String>(),
    );
    let mut terminal = Terminal::on(run.path());
    let page = terminal.ask(|query| query.id = Some("3".to_owned()));
    let steps: Vec<usize> = page.neighbours.iter().map(|line| line.step).collect();
    assert_eq!(steps, [3, 10, 17, 24, 31, 38, 45, 52, 59]);
    let page = terminal.ask(|query| query.question_type = Some("교정형".to_owned()));
    assert!(
        page.neighbours
            .iter()
            .all(|line| line.question_type == "교정형")
    );
    let filter = |text: &str| {
        let text = text.to_owned();
        move |query: &mut AnswersQuery| query.filter = Some(text)
    };
    let page = terminal.ask(filter("답 1[23]"));
    assert_eq!(
        (step(&page), page.neighbours.len(), page.has_earlier),
        (13, 2, true)
    );
    assert!(terminal.ask(filter("없는 말")).group.is_none());
    assert_eq!(step(&terminal.ask(filter("!답 60"))), 59);
    let page = terminal.ask(|query| {
        query.filter = Some("답 5".to_owned());
        query.place = Place::At(GroupPlace(0));
    });
    assert_eq!(step(&page), 5);
}

#[test]
fn a_group_that_grows_torn_lines_and_a_log_that_is_cut() {
    let run = tempfile::tempdir().unwrap();
    let second = group(2, 1, 0);
    let (half, rest) = second.split_at(second.len() / 2);
    append(run.path(), &(group(1, 1, 0) + "not json\n" + half));
    let mut terminal = Terminal::on(run.path());
    let page = terminal.ask(|_| {});
    assert_eq!(
        (step(&page), page.group.unwrap().completions.len()),
        (2, SAMPLES / 2)
    );
    append(run.path(), rest);
    terminal.next(|page| page.group.as_ref().unwrap().completions.len() == SAMPLES);
    let page = terminal.ask(|query| query.place = Place::First);
    assert_eq!(
        (step(&page), page.note.as_deref()),
        (1, Some("1 lines of this group cannot be read"))
    );

    let file = File::options()
        .write(true)
        .open(run.path().join("completions.jsonl"))
        .unwrap();
    file.set_len(group(1, 1, 0).len() as u64).unwrap();
    append(run.path(), &group(2, 5, 0));
    let page = terminal.ask(|_| {});
    assert_eq!(
        (page.group.unwrap().id.as_str(), page.neighbours.len()),
        ("5", 2)
    );
    std::fs::remove_file(run.path().join("completions.jsonl")).unwrap();
    assert!(
        terminal
            .ask(|_| {})
            .note
            .unwrap()
            .contains("cannot be read")
    );
}

#[test]
fn a_long_log_is_read_from_its_end_as_far_as_needed() {
    let run = tempfile::tempdir().unwrap();
    append(
        run.path(),
        &(1..=900)
            .map(|step| group(step, step % 7, 2000))
            .collect::<String>(),
    );
    let mut terminal = Terminal::on(run.path());
    let page = terminal.ask(|_| {});
    assert_eq!((step(&page), page.neighbours.len()), (900, 21));
    assert_eq!(page.neighbours[0].step, 880);
    let first = terminal.ask(|query| query.place = Place::First);
    assert_eq!((step(&first), first.neighbours.len()), (1, 21));
    let page = terminal.ask(|query| query.place = Place::At(GroupPlace(place(&page).0 / 2)));
    assert_eq!(
        (page.neighbours.len(), page.has_earlier, page.has_later),
        (41, true, true)
    );
    let steps: Vec<usize> = page.neighbours.iter().map(|line| line.step).collect();
    assert!(
        steps.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{steps:?}"
    );
    let page = terminal.ask(|query| query.filter = Some("답 77\"".to_owned()));
    assert_eq!((step(&page), page.neighbours.len()), (77, 1));
    // A group longer than the end that is read first.
    append(run.path(), &group(901, 1, 200_000));
    assert_eq!(step(&terminal.ask(|_| {})), 901);
}
