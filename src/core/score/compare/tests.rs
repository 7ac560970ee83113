use super::super::answers::Answer;
use super::super::file::FileState;
use super::super::statistics::Interval;
use super::*;
use crate::metric::ItemScores;

type File = (String, ScoredFile, AnswerSheet);

/// A file of (id, exact match, ROUGE-1); the answer is `text(id)`.
fn file_with(name: &str, items: &[(&str, f64, f64)], text: impl Fn(&str) -> String) -> File {
    let answers = items.iter().map(|(id, ..)| Answer {
        id: (*id).to_owned(),
        text: text(id),
    });
    let scored = ScoredFile {
        items: items
            .iter()
            .map(|&(id, exact_match, rouge1)| ScoredItem {
                id: id.to_owned(),
                question_type: String::new(),
                scores: ItemScores {
                    format: 1.0,
                    exact_match,
                    rouge1,
                    bertscore: 0.5,
                    reason_missing: false,
                },
            })
            .collect(),
        ..ScoredFile::unscored(name, FileState::Complete)
    };
    (name.to_owned(), scored, AnswerSheet::new(answers.collect()))
}

fn file(name: &str, items: &[(&str, f64, f64)]) -> File {
    file_with(name, items, |id| format!("{name} {id}"))
}

fn labels(ids: &[&str]) -> Labels {
    let items = ids.iter().enumerate().map(|(index, id)| Label {
        id: (*id).to_owned(),
        question_type: ["선택형", "교정형"][index % 2].to_owned(),
        question: "질문".to_owned(),
        answer: format!("gold {id}"),
    });
    Labels::new(items.collect()).unwrap()
}

fn compared(files: &[File], labels: &Labels) -> Comparison {
    let sides: Vec<Side<'_>> = files
        .iter()
        .map(|(name, scored, sheet)| Side {
            name,
            scored,
            sheet,
        })
        .collect();
    compare(&sides, labels, Averaging::AllItems, &Resampling::default())
}

fn against(comparison: &Comparison, index: usize) -> &Against {
    comparison.files[index].against_baseline.as_ref().unwrap()
}

fn two() -> Comparison {
    let a = [
        ("1", 1.0, 0.5),
        ("2", 0.0, 0.5),
        ("3", 1.0, 0.5),
        ("4", 0.0, 0.5),
        ("5", 1.0, 0.5),
    ];
    // In another order, as another program might write it.
    let b = [
        ("6", 1.0, 0.5),
        ("4", 0.0, 0.8),
        ("3", 0.0, 0.5),
        ("2", 1.0, 0.5),
        ("1", 1.0, 0.5),
    ];
    let files = [file("a.json", &a), file("b.json", &b)];
    compared(&files, &labels(&["1", "2", "3", "4", "5", "6"]))
}

/// Right (1) or wrong (0) along four epochs; `None` is no answer.
const PATHS: [[Option<f64>; 4]; 5] = [
    [Some(1.0), Some(1.0), Some(1.0), Some(1.0)],
    [Some(0.0), Some(1.0), Some(0.0), Some(1.0)],
    [Some(0.0), Some(0.0), Some(0.0), Some(0.0)],
    [Some(1.0), Some(1.0), Some(0.0), None],
    [None, Some(0.0), Some(1.0), None],
];

fn four() -> Comparison {
    let ids = ["1", "2", "3", "4", "5"];
    let files: Vec<File> = (0..4)
        .map(|epoch| {
            let items = ids.iter().zip(PATHS);
            let items: Vec<_> = items
                .filter_map(|(id, path)| Some((*id, path[epoch]?, 0.5)))
                .collect();
            // The text of item 1 only changes its normalization.
            let name = format!("inference_epoch{epoch}.json");
            let text = |id: &str| match (id, epoch) {
                ("1", 2) => "한글".nfd().collect(),
                ("1", _) => "한글".to_owned(),
                _ => format!("답 {id} {epoch}"),
            };
            file_with(&name, &items, text)
        })
        .collect();
    compared(&files, &labels(&ids))
}

fn ids(comparison: &Comparison, filter: ItemFilter) -> Vec<&str> {
    let selection = Selection {
        filter,
        question_type: None,
    };
    let items = comparison.items.iter();
    items
        .filter(|item| selection.keeps(item))
        .map(|item| item.id.as_str())
        .collect()
}

#[test]
fn items_are_joined_by_id_and_judged() {
    let comparison = two();
    let verdicts: Vec<(&str, Option<Verdict>)> = comparison
        .items
        .iter()
        .map(|item| {
            let answer = item.answers[1].as_ref();
            let change = answer.and_then(|answer| answer.against_baseline);
            (item.id.as_str(), change.map(|change| change.verdict))
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            ("1", Some(Verdict::BothRight)),
            ("2", Some(Verdict::Fixed)),
            ("3", Some(Verdict::Broken)),
            ("4", Some(Verdict::BothWrong)),
            ("5", None),
            ("6", None),
        ]
    );
    let against = against(&comparison, 1);
    let counts = against.outcome.counts;
    assert_eq!((counts.items, counts.fixed, counts.broken), (4, 1, 1));
    assert_eq!((counts.wins, counts.losses, counts.ties), (2, 1, 1));
    assert_eq!(against.only_baseline, ["5"]);
    assert_eq!(against.only_this, ["6"]);
    let answer = comparison.items[1].answers[1].as_ref().unwrap();
    assert_eq!(answer.text, "b.json 2");
    let metrics = against.outcome.metrics.unwrap();
    assert_eq!(metrics.em.p_value, 1.0);
    assert!((metrics.rouge1.difference - 0.3 / 4.0).abs() < 1e-12);
    assert_eq!(against.types.len(), 2);
    assert_eq!(against.types[1].question_type, "교정형");
    assert_eq!(against.types[1].outcome.counts.fixed, 1);
    assert_eq!(comparison.question_types(), ["선택형", "교정형"]);
}

#[test]
fn an_item_has_a_history_along_the_files() {
    let comparison = four();
    let histories: Vec<(Option<usize>, usize)> = comparison
        .items
        .iter()
        .map(|item| (item.first_right, item.flips))
        .collect();
    assert_eq!(
        histories,
        [
            (Some(0), 0),
            (Some(1), 3),
            (None, 0),
            (Some(0), 1),
            (Some(2), 1)
        ]
    );
    let same: Vec<Option<bool>> = comparison.items[0]
        .answers
        .iter()
        .map(|answer| Some(answer.as_ref()?.against_baseline?.is_same))
        .collect();
    assert_eq!(same, [None, Some(true), Some(true), Some(true)]);
    let last = against(&comparison, 3);
    assert_eq!(last.only_baseline, ["4"]);
    assert_eq!(last.outcome.counts.items, 3);
    assert_eq!(against(&comparison, 1).only_this, ["5"]);
    assert_eq!(comparison.files[2].epoch, Some(2));
    assert_eq!(comparison.files[0].against_baseline, None);
}

#[test]
fn filters_go_by_the_verdicts_of_all_files() {
    let four = four();
    assert_eq!(ids(&four, ItemFilter::All), ["1", "2", "3", "4", "5"]);
    assert_eq!(ids(&four, ItemFilter::Changed), ["2", "4"]);
    assert_eq!(ids(&four, ItemFilter::Fixed), ["2"]);
    assert_eq!(ids(&four, ItemFilter::Broken), ["4"]);
    assert_eq!(ids(&four, ItemFilter::BothWrong), ["3"]);
    assert_eq!(ids(&four, ItemFilter::BothRight), ["1"]);
    let of_type = |question_type: String| {
        let selection = Selection {
            filter: ItemFilter::All,
            question_type: Some(question_type),
        };
        four.selected(&selection).count()
    };
    assert_eq!(of_type("교정형".to_owned()), 2);
    assert_eq!(of_type("선택형".nfd().collect()), 3);
    assert_eq!(of_type("서술형".to_owned()), 0);
    for filter in ItemFilter::ALL {
        assert_eq!(filter.as_str().parse(), Ok(filter));
    }
    assert_eq!("both".parse::<ItemFilter>(), Err(UnknownFilter));
}

#[test]
fn files_compared_together_have_the_numbers_of_a_pair_and_a_holm_adjustment() {
    let items = |right: usize| -> Vec<(String, f64, f64)> {
        (0..30)
            .map(|index| (index.to_string(), f64::from(u8::from(index < right)), 0.5))
            .collect()
    };
    let file_of = |name: &str, right: usize, count: usize| {
        let items = items(right);
        let items: Vec<_> = items[..count]
            .iter()
            .map(|(id, em, rouge)| (id.as_str(), *em, *rouge))
            .collect();
        file(name, &items)
    };
    let files = [
        file_of("0", 5, 30),
        file_of("1", 20, 30),
        file_of("2", 9, 20),
        file_of("3", 8, 30),
    ];
    let names: Vec<String> = (0..30).map(|id| id.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let labels = labels(&names);
    let together = compared(&files, &labels);
    for index in 1..4 {
        let alone = compared(&[files[0].clone(), files[index].clone()], &labels);
        let strip = |against: &Against| {
            let delta = against.outcome.metrics.unwrap().final_mean;
            (
                against.outcome.counts,
                delta.difference,
                delta.interval,
                delta.p_value,
            )
        };
        assert_eq!(strip(against(&together, index)), strip(against(&alone, 1)));
        let delta = against(&alone, 1).outcome.metrics.unwrap().em;
        assert_eq!(delta.p_holm, delta.p_value);
    }
    let em = |index| against(&together, index).outcome.metrics.unwrap().em;
    assert!((em(1).p_holm - 3.0 * em(1).p_value).abs() < 1e-12);
    assert!(em(1).p_holm < 0.001);
    let of_type = &against(&together, 1).types[0].outcome;
    assert_eq!(of_type.counts.items, 15);
    assert!(of_type.metrics.unwrap().final_mean.interval.low > 0.0);
}

#[test]
fn a_file_against_itself_and_against_a_stranger() {
    let labels = labels(&["1", "2"]);
    let itself = file("a.json", &[("1", 1.0, 0.5), ("2", 0.0, 0.5)]);
    let stranger = file("b.json", &[]);
    let same = compared(&[itself.clone(), itself.clone()], &labels);
    let metrics = against(&same, 1).outcome.metrics.unwrap();
    let same_mean = metrics.final_mean;
    assert_eq!((same_mean.difference, same_mean.p_value), (0.0, 1.0));
    let zero = Interval {
        low: 0.0,
        high: 0.0,
    };
    assert_eq!(same_mean.interval, zero);
    let nothing = compared(&[itself, stranger], &labels);
    assert_eq!(against(&nothing, 1).outcome.metrics, None);
    assert_eq!(against(&nothing, 1).only_baseline, ["1", "2"]);
    assert!(!nothing.has_pairs() && same.has_pairs());
    let text = nothing.to_text(None);
    assert!(text.contains("0 in both, 2 only in A"), "{text}");
    assert!(
        nothing
            .to_markdown(&Selection::default())
            .contains("| b.json | 0 |")
    );
    assert!(!compared(&[], &labels).has_pairs());
}

#[test]
fn the_text_marks_what_changed() {
    let comparison = two();
    let brief = comparison.to_text(None);
    assert!(
        brief.contains("1 fixed, 1 broken, 1 both right, 1 both wrong"),
        "{brief}"
    );
    assert!(brief.contains("[fixed] 2 교정형 +0.3333"), "{brief}");
    assert!(!brief.contains("[both wrong]"), "{brief}");
    let only = |filter| {
        comparison.to_text(Some(&Selection {
            filter,
            question_type: None,
        }))
    };
    let broken = only(ItemFilter::Broken);
    assert!(broken.contains("1 of 6 items (broken):"), "{broken}");
    for line in [
        "   asked: 질문\n",
        "   label: gold 3\n",
        "   A    : [-a-].json 3\n",
        "   B    : {+b+}.json 3\n",
    ] {
        assert!(broken.contains(line), "{line:?} is not in: {broken}");
    }
    assert!(!broken.contains("[fixed]"), "{broken}");
    let all = only(ItemFilter::All);
    assert!(all.contains("[in one file] 5 선택형"), "{all}");
    assert!(all.contains("   B    : (no answer)"), "{all}");
    let four = four();
    let brief = four.to_text(None);
    assert!(
        brief.contains("[-+-+] 2 교정형, first right in 2, flips: 3"),
        "{brief}"
    );
    assert!(!brief.contains("답"), "{brief}");
    let whole = four.to_text(Some(&Selection::default()));
    for line in [
        "[++-?] 4 교정형, first right in 1, flips: 1",
        "   3    : 답 4 [-0-]{+2+}",
        "   2    : (the same as 1)",
        "4: inference_epoch3.json, 3 items (without 1 of 1, 0 not in 1)",
    ] {
        assert!(whole.contains(line), "{line:?} is not in: {whole}");
    }
}

#[test]
fn exports_contain_the_selected_items_and_every_file() {
    let comparison = four();
    let changed = Selection {
        filter: ItemFilter::Changed,
        question_type: None,
    };
    let csv = comparison.to_csv(&changed);
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 3, "{csv}");
    assert!(rows.iter().all(|row| row.len() == 6 + 6 + 3 * 9), "{csv}");
    assert!(rows[0].contains(&"inference_epoch1.json_verdict"), "{csv}");
    assert_eq!(
        rows[1][..6],
        [
            "2",
            "교정형",
            "질문",
            "gold 2",
            "inference_epoch1.json",
            "3"
        ]
    );
    assert!(rows[1].contains(&"fixed"), "{csv}");

    let markdown = comparison.to_markdown(&changed);
    assert!(markdown.contains("2 of 5 items (changed)."), "{markdown}");
    let widths: Vec<usize> = markdown
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.matches('|').count())
        .collect();
    let expected = [vec![17; 2 + 4], vec![13; 2 + 6], vec![14; 2 + 2]].concat();
    assert_eq!(widths, expected, "{markdown}");

    let json = comparison.to_json(&changed).unwrap();
    assert_eq!(json["only"], "changed");
    assert_eq!(json["items"].as_array().unwrap().len(), 2);
    assert_eq!(
        json["items"][0]["answers"][1]["against_baseline"]["verdict"],
        "fixed"
    );
    assert_eq!(
        json["items"][0]["answers"][1]["against_baseline"]["same"],
        false
    );
    assert_eq!(json["items"][0]["answers"][1]["em"], 1.0);
    assert!(json["items"][1]["answers"][3].is_null());
    assert_eq!(json["files"][1]["against_baseline"]["counts"]["fixed"], 1);
    assert!(json["files"][0]["against_baseline"].is_null());
}
