use super::super::answers::Answer;
use super::super::file::FileState;
use super::super::labels::Label;
use super::*;
use crate::metric::ItemScores;

fn side(name: &str, items: &[(&str, f64, f64)]) -> (ScoredFile, AnswerSheet) {
    let answers = items.iter().map(|(id, ..)| Answer {
        id: (*id).to_owned(),
        text: format!("{name} {id}"),
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
    (scored, AnswerSheet::new(answers.collect()))
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

#[test]
fn items_are_joined_by_id_and_judged() {
    let labels = labels(&["1", "2", "3", "4", "5", "6"]);
    let (scored_a, sheet_a) = side(
        "a.json",
        &[
            ("1", 1.0, 0.5),
            ("2", 0.0, 0.5),
            ("3", 1.0, 0.5),
            ("4", 0.0, 0.5),
            ("5", 1.0, 0.5),
        ],
    );
    // Another order, as another program may write it.
    let (scored_b, sheet_b) = side(
        "b.json",
        &[
            ("6", 1.0, 0.5),
            ("4", 0.0, 0.8),
            ("3", 0.0, 0.5),
            ("2", 1.0, 0.5),
            ("1", 1.0, 0.5),
        ],
    );
    let comparison = compare(
        Side {
            scored: &scored_a,
            sheet: &sheet_a,
        },
        Side {
            scored: &scored_b,
            sheet: &sheet_b,
        },
        &labels,
        Averaging::AllItems,
        &Resampling::default(),
    );
    let verdicts: Vec<(&str, Verdict)> = comparison
        .items
        .iter()
        .map(|item| (item.id.as_str(), item.verdict))
        .collect();
    assert_eq!(
        verdicts,
        [
            ("1", Verdict::BothRight),
            ("2", Verdict::Fixed),
            ("3", Verdict::Broken),
            ("4", Verdict::BothWrong),
        ]
    );
    let counts = comparison.counts;
    assert_eq!((counts.wins, counts.losses, counts.ties), (2, 1, 1));
    assert_eq!(comparison.only_a, ["5"]);
    assert_eq!(comparison.only_b, ["6"]);
    assert_eq!(comparison.items[1].answer_b, "b.json 2");
    let metrics = comparison.metrics.unwrap();
    assert_eq!(metrics.em.p_value, 1.0);
    assert!((metrics.rouge1.difference - 0.3 / 4.0).abs() < 1e-12);
    assert_eq!(comparison.types.len(), 2);
    assert_eq!(comparison.types[1].question_type, "교정형");
    assert_eq!(comparison.types[1].counts.fixed, 1);
    let text = comparison.to_text();
    assert!(
        text.contains("1 fixed, 1 broken, 1 both right, 1 both wrong"),
        "{text}"
    );
    assert!(text.contains("[fixed] 2 교정형 +0.3333"), "{text}");
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["items"][1]["verdict"], "fixed");
}

#[test]
fn a_file_against_itself_and_against_a_stranger() {
    let labels = labels(&["1", "2"]);
    let (scored, sheet) = side("a.json", &[("1", 1.0, 0.5), ("2", 0.0, 0.5)]);
    let (other_scored, other_sheet) = side("b.json", &[]);
    let itself = Side {
        scored: &scored,
        sheet: &sheet,
    };
    let stranger = Side {
        scored: &other_scored,
        sheet: &other_sheet,
    };
    let run = |b| {
        compare(
            itself,
            b,
            &labels,
            Averaging::AllItems,
            &Resampling::default(),
        )
    };
    let same = run(itself).metrics.unwrap().final_mean;
    assert_eq!((same.difference, same.p_value), (0.0, 1.0));
    assert_eq!((same.interval.low, same.interval.high), (0.0, 0.0));
    let nothing = run(stranger);
    assert_eq!(nothing.metrics, None);
    assert_eq!(nothing.only_a, ["1", "2"]);
    assert!(nothing.to_text().contains("0 in both, 2 only in A"));
}
