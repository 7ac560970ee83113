//! The contest's way of joining labels: answer and label are paired by position and their ids must
//! agree.

use super::answers::{AnswerSheet, Fault};
use super::labels::Labels;

/// Checks the same as the official evaluation before it scores: as many answers as labels, each with
/// the id of the label at its position.
///
/// # Errors
/// The first position that differs, with both ids.
pub fn check_positions(sheet: &AnswerSheet, labels: &Labels) -> Result<(), Fault> {
    let ids = sheet.answers().iter().map(|answer| answer.id.as_str());
    for (position, (found, expected)) in ids.zip(labels.ids()).enumerate() {
        if found != expected {
            return Err(Fault::new(format!(
                "the contest pairs by position, but item {} has id {found:?} and its label has \
                 {expected:?}; sort the answers like the labels, or rank without --contest",
                position + 1
            )));
        }
    }
    let (found, expected) = (sheet.item_count(), labels.items().len());
    if found == expected {
        Ok(())
    } else {
        Err(Fault::new(format!(
            "the contest pairs by position, but there are {found} answers for {expected} labels; \
             rank without --contest to join by id"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::Answer;
    use super::super::labels::Label;
    use super::*;

    #[test]
    fn ids_must_be_in_the_order_of_the_labels() {
        let labels = ["1", "2"].map(|id| Label {
            id: id.to_owned(),
            question_type: String::new(),
            question: String::new(),
            answer: "a".to_owned(),
        });
        let labels = Labels::new(labels.to_vec()).unwrap();
        let cases = [
            (&["1", "2"][..], None),
            (&["2", "1"], Some("item 1 has id \"2\"")),
            (&["1", "2", "3"], Some("3 answers for 2 labels")),
            (&["1"], Some("1 answers for 2 labels")),
        ];
        for (ids, expected) in cases {
            let answers = ids.iter().map(|id| Answer {
                id: (*id).to_owned(),
                text: String::new(),
            });
            let result = check_positions(&AnswerSheet::new(answers.collect()), &labels);
            match expected {
                None => assert_eq!(result, Ok(())),
                Some(part) => {
                    let fault = result.unwrap_err();
                    assert!(fault.reason.contains(part), "{fault}");
                }
            }
        }
    }
}
