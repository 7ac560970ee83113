//! The columns of the table: what they show, how they sort, and which of them fit.

use std::cmp::Ordering;

use moim_core::score::average::Means;
use moim_core::score::names::natural_order;
use moim_core::score::render::state_in_words;
use moim_core::score::statistics::Interval;
use moim_core::score::{Delta, Difference, Row};

use crate::tui::screens::words::without_ending;
use crate::tui::text;
use crate::tui::widgets::table::Column as TableColumn;

/// What the difference column is taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reference {
    /// The file of epoch 0: what training has changed.
    #[default]
    EpochZero,
    /// The best file.
    Best,
}

impl Reference {
    pub(super) fn other(self) -> Self {
        match self {
            Self::EpochZero => Self::Best,
            Self::Best => Self::EpochZero,
        }
    }

    /// In words, after "against".
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::EpochZero => "epoch 0",
            Self::Best => "the best",
        }
    }

    /// The difference of a file from it.
    pub(super) fn of(self, row: &Row) -> Option<&Difference> {
        match self {
            Self::EpochZero => row.against_epoch0.as_ref(),
            Self::Best => row.against_best.as_ref(),
        }
    }
}

/// A column of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Column {
    Rank,
    File,
    #[default]
    FinalMean,
    Interval,
    Rouge1,
    BertScore,
    Em,
    Format,
    Difference,
    HolmP,
    State,
}

/// The order of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: Column,
    /// Against the order in which the column is read at first: the best first, names from A.
    pub(super) is_reversed: bool,
}

impl Sort {
    /// Whether the largest values come first.
    pub(super) fn is_descending(self) -> bool {
        let is_ascending_first = matches!(
            self.column,
            Column::Rank | Column::File | Column::HolmP | Column::State
        );
        is_ascending_first == self.is_reversed
    }

    /// Orders two files. Those that are not ranked come after those that are, and a file
    /// without a value after those with one, in either direction.
    pub(super) fn compare(self, left: &Row, right: &Row, reference: Reference) -> Ordering {
        let is_apart = |row: &Row| row.rank.is_none();
        let in_direction = |order: Ordering| match self.is_descending() {
            true => order.reverse(),
            false => order,
        };
        let by_column = || match self.column {
            Column::File => in_direction(natural_order(&left.scored.file, &right.scored.file)),
            Column::State => in_direction(state_in_words(left).cmp(&state_in_words(right))),
            column => match (
                column.value(left, reference),
                column.value(right, reference),
            ) {
                (Some(left), Some(right)) => in_direction(left.total_cmp(&right)),
                (left, right) => right.is_some().cmp(&left.is_some()),
            },
        };
        is_apart(left).cmp(&is_apart(right)).then_with(by_column)
    }
}

impl Column {
    /// From left to right.
    pub(super) const ALL: [Self; 11] = [
        Self::Rank,
        Self::File,
        Self::FinalMean,
        Self::Interval,
        Self::Rouge1,
        Self::BertScore,
        Self::Em,
        Self::Format,
        Self::Difference,
        Self::HolmP,
        Self::State,
    ];

    /// The next column from left to right, round and round.
    pub(super) fn next(self) -> Self {
        let place = Self::ALL.iter().position(|column| *column == self);
        let next = place.map_or(0, |place| place + 1) % Self::ALL.len();
        Self::ALL.get(next).copied().unwrap_or_default()
    }

    /// The whole name, for sentences.
    pub(super) fn name(self, reference: Reference) -> &'static str {
        match self {
            Self::Rank => "rank",
            Self::File => "file name",
            Self::FinalMean => "Final Mean",
            Self::Interval => "lower end of the interval",
            Self::Rouge1 => "ROUGE-1",
            Self::BertScore => "BERTScore",
            Self::Em => "EM",
            Self::Format => "format",
            Self::Difference => match reference {
                Reference::EpochZero => "difference from epoch 0",
                Reference::Best => "difference from the best",
            },
            Self::HolmP => "Holm p against the best",
            Self::State => "state",
        }
    }

    /// The head of the column; a cell is left for the mark of the order.
    pub(super) const fn title(self, reference: Reference) -> &'static str {
        match self {
            Self::Rank => "#",
            Self::File => "File (.json)",
            Self::FinalMean => "Final",
            Self::Interval => "interval",
            Self::Rouge1 => "ROUGE",
            Self::BertScore => "BERT",
            Self::Em => "EM",
            Self::Format => "Form",
            Self::Difference => match reference {
                Reference::EpochZero => "vs ep. 0",
                Reference::Best => "vs best",
            },
            Self::HolmP => "Holm p",
            Self::State => "State",
        }
    }

    /// The column as a table takes it. `longest` is the longest file name in cells; the column
    /// of the order is never left out.
    pub(super) fn in_table(
        self,
        reference: Reference,
        longest: usize,
        sorted: Self,
    ) -> TableColumn {
        let title = self.title(reference);
        let longest = u16::try_from(longest).unwrap_or(u16::MAX);
        let column = match self {
            Self::Rank => TableColumn::number(title, 3),
            Self::File => {
                TableColumn::text(title, longest.clamp(12, 40)).minimum(longest.clamp(12, 24))
            }
            Self::Interval => TableColumn::number(title, 13),
            Self::FinalMean | Self::Rouge1 | Self::BertScore | Self::Em | Self::Format => {
                TableColumn::number(title, 6)
            }
            Self::Difference => TableColumn::number(title, 8),
            Self::HolmP => TableColumn::number(title, 7),
            Self::State => TableColumn::text(title, 8).minimum(8).growing(),
        };
        let priority = match self {
            column if column == sorted => 1,
            Self::Rank | Self::File | Self::FinalMean => 0,
            Self::State => 2,
            Self::Difference => 3,
            Self::Em => 4,
            Self::Rouge1 => 5,
            Self::BertScore => 6,
            Self::Interval => 7,
            Self::HolmP => 8,
            Self::Format => 9,
        };
        column.priority(priority)
    }

    /// The number that the column sorts by; `None` where there is none or it is not finite.
    fn value(self, row: &Row, reference: Reference) -> Option<f64> {
        let mean = |value: fn(&Means) -> f64| row.means.as_ref().map(value);
        let value = match self {
            Self::Rank => row.rank.map(|rank| rank as f64),
            Self::FinalMean => mean(|means| means.final_mean),
            Self::Interval => row.intervals.map(|intervals| intervals.final_mean.low),
            Self::Rouge1 => mean(|means| means.rouge1),
            Self::BertScore => mean(|means| means.bertscore),
            Self::Em => mean(|means| means.em),
            Self::Format => mean(|means| means.format),
            Self::Difference => {
                let difference = reference.of(row);
                difference.map(|difference| difference.final_mean.difference)
            }
            Self::HolmP => {
                let difference = row.against_best.as_ref();
                difference.map(|difference| difference.final_mean.p_holm)
            }
            Self::File | Self::State => None,
        };
        value.filter(|value| value.is_finite())
    }

    /// The mean of this column; `None` for columns that show no mean.
    pub(super) fn mean(self, means: &Means) -> Option<f64> {
        match self {
            Self::FinalMean => Some(means.final_mean),
            Self::Rouge1 => Some(means.rouge1),
            Self::BertScore => Some(means.bertscore),
            Self::Em => Some(means.em),
            Self::Format => Some(means.format),
            _ => None,
        }
    }

    /// What the column shows of a file that is in this state.
    pub(super) fn text(self, row: &Row, reference: Reference, state: &str) -> String {
        match self {
            Self::Rank => row.rank.map(|rank| rank.to_string()).unwrap_or_default(),
            Self::File => without_ending(&row.scored.file).to_owned(),
            Self::Interval => row
                .intervals
                .map(|intervals| interval(intervals.final_mean))
                .unwrap_or_default(),
            Self::Difference => match reference.of(row) {
                Some(difference) => marked_difference(&difference.final_mean),
                None => own_reference(row, reference).to_owned(),
            },
            Self::HolmP => {
                let difference = row.against_best.as_ref();
                let p = difference.map(|difference| difference.final_mean.p_holm);
                p.map(probability).unwrap_or_default()
            }
            Self::State => state.to_owned(),
            column => {
                let value = row.means.as_ref().and_then(|means| column.mean(means));
                value.map(number).unwrap_or_default()
            }
        }
    }
}

/// What stands where a file would be compared with itself.
fn own_reference(row: &Row, reference: Reference) -> &'static str {
    match reference {
        Reference::Best if row.rank == Some(1) => "best",
        Reference::EpochZero if row.rank.is_some() && row.scored.epoch == Some(0) => "epoch 0",
        _ => "",
    }
}

/// Whether a difference is more than these items leave to chance, by its interval.
pub(in crate::tui::screens) fn excludes_zero(interval: Interval) -> bool {
    interval.low > 0.0 || interval.high < 0.0
}

/// A difference with its sign; a star where its interval excludes 0.
fn marked_difference(delta: &Delta) -> String {
    let mark = if excludes_zero(delta.interval) {
        "*"
    } else {
        " "
    };
    format!("{}{mark}", text::delta(delta.difference, 4))
}

/// A mean with four decimals; `-` where it could not be computed.
pub(in crate::tui::screens) fn number(value: f64) -> String {
    match value.is_finite() {
        true => format!("{value:.4}"),
        false => "-".to_owned(),
    }
}

/// Both ends of an interval.
pub(super) fn interval(interval: Interval) -> String {
    match interval.low.is_finite() && interval.high.is_finite() {
        true => format!("{:.4}-{:.4}", interval.low, interval.high),
        false => "-".to_owned(),
    }
}

/// A p-value; of a probability zero is never claimed.
pub(in crate::tui::screens) fn probability(p: f64) -> String {
    match p {
        p if !p.is_finite() => "-".to_owned(),
        p if p < 0.00005 => "<.0001".to_owned(),
        p => format!("{p:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::widgets::table::{GAP, fitting};

    #[test]
    fn columns_are_chosen_by_width_and_the_sorted_one_stays() {
        let shown = |cells, sorted| -> Vec<Column> {
            let reference = Reference::EpochZero;
            let columns = Column::ALL.map(|column| column.in_table(reference, 16, sorted));
            let shown = fitting(&columns, cells, GAP);
            shown.iter().map(|(index, _)| Column::ALL[*index]).collect()
        };
        // 80 columns less the box, the marks and the scrollbar.
        let narrow = shown(73, Column::FinalMean);
        assert!(narrow.contains(&Column::BertScore) && narrow.contains(&Column::State));
        assert!(!narrow.contains(&Column::HolmP));
        assert!(shown(73, Column::HolmP).contains(&Column::HolmP));
        assert_eq!(shown(120, Column::FinalMean), Column::ALL);
    }

    #[test]
    fn every_column_is_reached_by_sorting() {
        let mut column = Column::default();
        let mut seen = Vec::new();
        for _ in Column::ALL {
            seen.push(column);
            column = column.next();
        }
        assert_eq!(column, Column::default());
        assert!(Column::ALL.iter().all(|column| seen.contains(column)));
    }

    #[test]
    fn no_probability_is_called_zero() {
        assert_eq!(probability(0.0), "<.0001");
        assert_eq!(probability(0.04996), "0.0500");
        assert_eq!(probability(f64::NAN), "-");
    }
}
