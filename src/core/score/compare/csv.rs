//! The CSV form: one row per item, one group of columns per file.

use super::super::render::{csv_line, shown};
use super::{ComparedItem, Comparison, ItemAnswer, Selection};

impl Comparison {
    /// The items of a selection with a header line. Numbers have every digit; a missing value is
    /// empty. The columns of a file start with its name.
    pub fn to_csv(&self, selection: &Selection) -> String {
        let mut header: Vec<String> = [
            "id",
            "question_type",
            "question",
            "label",
            "first_right",
            "flips",
        ]
        .map(str::to_owned)
        .to_vec();
        for (index, file) in self.files.iter().enumerate() {
            let mut columns = vec![
                "answer",
                "format",
                "em",
                "rouge1",
                "bertscore",
                "final_mean",
            ];
            if index > 0 {
                columns.extend(["verdict", "same", "delta"]);
            }
            header.extend(
                columns
                    .iter()
                    .map(|column| format!("{}_{column}", file.file)),
            );
        }
        let mut csv = csv_line(&header);
        for item in self.selected(selection) {
            csv.push_str(&csv_line(&self.csv_cells(item)));
        }
        csv
    }

    fn csv_cells(&self, item: &ComparedItem) -> Vec<String> {
        let first_right = item.first_right.and_then(|index| self.files.get(index));
        let mut cells = vec![
            item.id.clone(),
            item.question_type.clone(),
            item.question.clone(),
            item.label.clone(),
            shown(first_right.map(|file| &file.file)),
            item.flips.to_string(),
        ];
        for (index, answer) in item.answers.iter().enumerate() {
            let answer = answer.as_ref();
            let metric = |value: fn(&ItemAnswer) -> f64| shown(answer.map(value));
            cells.extend([
                shown(answer.map(|answer| &answer.text)),
                metric(|answer| answer.metrics.format),
                metric(|answer| answer.metrics.em),
                metric(|answer| answer.metrics.rouge1),
                metric(|answer| answer.metrics.bertscore),
                metric(|answer| answer.metrics.final_mean),
            ]);
            if index > 0 {
                let change = answer.and_then(|answer| answer.against_baseline);
                cells.extend([
                    shown(change.map(|change| change.verdict.name())),
                    shown(change.map(|change| change.is_same)),
                    shown(change.map(|change| change.delta)),
                ]);
            }
        }
        cells
    }
}
