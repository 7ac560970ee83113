//! The table: its lines, filtered and sorted, and its columns.

use moim_core::score::average::Means;
use moim_core::score::file::TypeMeans;
use moim_core::score::render::state_in_words;
use moim_core::score::{Difference, FileState, Leaderboard, Row};
use ratatui::style::Style;

use super::Ranking;
use super::details::type_name;
use super::words::{certainty, interval, marked_difference, number, probability};
use crate::tui::data::World;
use crate::tui::screens::words::without_ending;
use crate::tui::text;
use crate::tui::theme::{Look, Theme};
use crate::tui::widgets::list::Item;
use crate::tui::widgets::table::{Cell, Column, Key, Order};

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

    /// Its name after "against".
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

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    File(&'a Row),
    /// A question type of the file above.
    Type(&'a TypeMeans),
    /// What follows is not ranked.
    Apart,
}

impl Item for Line<'_> {
    type Id = String;

    fn id(&self) -> Option<&String> {
        self.file().map(|row| &row.scored.file)
    }
}

impl<'a> Line<'a> {
    pub(super) fn file(&self) -> Option<&'a Row> {
        match self {
            Self::File(row) => Some(row),
            Self::Type(_) | Self::Apart => None,
        }
    }

    fn means(&self) -> Option<&'a Means> {
        match self {
            Self::File(row) => row.means.as_ref(),
            Self::Type(kind) => Some(&kind.means),
            Self::Apart => None,
        }
    }

    /// What is written in the column of the files.
    fn name(&self) -> String {
        match self {
            Self::File(row) => without_ending(&row.scored.file).to_owned(),
            Self::Type(kind) => format!("  {}, {}", type_name(&kind.question_type), kind.items),
            Self::Apart => "ranked apart:".to_owned(),
        }
    }

    /// The colours of the line.
    pub(super) fn style(&self, look: &Look) -> Style {
        match self {
            Self::File(row) if row.rank.is_some() => look.theme.text,
            Self::File(_) | Self::Type(_) => look.theme.dim,
            Self::Apart => Style::new(),
        }
    }
}

/// Index of the column by which the table is sorted at first.
pub(super) const FINAL_MEAN: usize = 2;

/// The columns from left to right. `longest` is the longest name in cells.
fn columns<'a>(
    screen: &Ranking,
    board: &'a Leaderboard,
    world: &'a World,
    longest: usize,
) -> Vec<Column<'a, Line<'a>>> {
    let longest = u16::try_from(longest).unwrap_or(u16::MAX);
    let reference = screen.reference;
    let (versus, difference_from) = match reference {
        Reference::EpochZero => ("vs ep. 0", "difference from epoch 0"),
        Reference::Best => ("vs best", "difference from the best"),
    };
    let final_mean = move |row: &'a Row| reference.of(row).map(|all| all.final_mean);
    let holm_p = move |row: &'a Row| final_mean(row).map(|delta| delta.p_holm);
    let holm_p_name = format!("Holm p of the {difference_from}");
    let mut columns = vec![
        Column::number("#", 3, move |line: &Line<'a>, look| {
            let row = line.file();
            row.map(|row| Cell::styled(rank(row, board, look), look.theme.accent))
                .unwrap_or_default()
        })
        .sorts("rank", Order::Ascending, |line| {
            Key::number(line.file().and_then(|row| Some(row.rank? as f64)))
        }),
        Column::text(
            "File (.json)",
            longest.clamp(12, 40),
            |line: &Line<'a>, look| match line {
                Line::Apart => Cell::styled(line.name(), look.theme.dim),
                line => line.name().into(),
            },
        )
        .minimum(longest.clamp(12, 24))
        .sorts("file name", Order::Ascending, |line| match line.file() {
            Some(row) => Key::Name(row.scored.file.clone()),
            None => Key::Missing,
        }),
        mean("Final", "Final Mean", |means| means.final_mean),
        Column::number("interval", 13, |line: &Line<'a>, _| {
            let intervals = line.file().and_then(|row| row.intervals);
            intervals
                .map(|all| interval(all.final_mean))
                .unwrap_or_default()
        })
        .sorts("lower end of the interval", Order::Descending, |line| {
            let intervals = line.file().and_then(|row| row.intervals);
            Key::number(intervals.map(|all| all.final_mean.low))
        })
        .priority(7),
        mean("ROUGE", "ROUGE-1", |means| means.rouge1).priority(5),
        mean("BERT", "BERTScore", |means| means.bertscore).priority(6),
        mean("EM", "EM", |means| means.em).priority(4),
        mean("Form", "format", |means| means.format).priority(9),
        Column::number(versus, 8, move |line: &Line<'a>, look| {
            line.file()
                .map(|row| difference(row, reference, look))
                .unwrap_or_default()
        })
        .sorts(difference_from, Order::Descending, move |line| {
            Key::number(
                line.file()
                    .and_then(final_mean)
                    .map(|delta| delta.difference),
            )
        })
        .priority(3),
        Column::number("Holm p", 7, move |line: &Line<'a>, _| {
            line.file()
                .and_then(holm_p)
                .map(probability)
                .unwrap_or_default()
        })
        .sorts(holm_p_name, Order::Ascending, move |line| {
            Key::number(line.file().and_then(holm_p))
        })
        .priority(8),
        Column::text("State", 8, move |line: &Line<'a>, look| match line.file() {
            Some(row) => {
                let words = state(row, revision(world, row), look);
                Cell::styled(words, state_style(row, &look.theme))
            }
            None => Cell::default(),
        })
        .minimum(8)
        .growing()
        .sorts("state", Order::Ascending, |line| {
            Key::Text(line.file().map(state_in_words).unwrap_or_default())
        })
        .priority(2),
    ];
    // The column of the order is never left out.
    if let Some(column) = columns.get_mut(screen.sort.column) {
        column.priority = column.priority.min(1);
    }
    columns
}

fn mean<'a>(heading: &'a str, name: &'a str, of: fn(&Means) -> f64) -> Column<'a, Line<'a>> {
    Column::number(heading, 6, move |line: &Line<'a>, _| {
        line.means().map(of).map(number).unwrap_or_default()
    })
    .sorts(name, Order::Descending, move |line| {
        Key::number(line.means().map(of))
    })
}

/// The rank with the mark of the best, and `=` for a tie.
fn rank(row: &Row, board: &Leaderboard, look: &Look) -> String {
    let Some(rank) = row.rank else {
        return String::new();
    };
    let is_best = board.best().is_some_and(|best| std::ptr::eq(best, row));
    let best = if is_best { look.glyphs.best } else { "" };
    let tie = if row.tied_with.is_empty() { "" } else { "=" };
    format!("{best}{rank}{tie}")
}

fn difference(row: &Row, reference: Reference, look: &Look) -> Cell {
    let theme = &look.theme;
    let Some(delta) = reference.of(row).map(|difference| difference.final_mean) else {
        let itself = match reference {
            Reference::Best if row.rank == Some(1) => "best",
            Reference::EpochZero if row.rank.is_some() && row.scored.epoch == Some(0) => "epoch 0",
            _ => "",
        };
        return Cell::styled(itself, theme.text);
    };
    let style = certainty(delta.difference, delta.interval, theme);
    Cell::styled(marked_difference(&delta), style)
}

/// What the screen shows at the moment.
pub(super) struct View<'a> {
    pub(super) board: &'a Leaderboard,
    pub(super) columns: Vec<Column<'a, Line<'a>>>,
    /// The files that pass the filter in their order, with their question types, and the line
    /// above the files that are not ranked.
    pub(super) lines: Vec<Line<'a>>,
}

impl<'a> View<'a> {
    /// `None` if there is no file at all.
    pub(super) fn of(screen: &Ranking, world: &'a World) -> Option<Self> {
        world.open.as_ref()?;
        let board = world.ranking.board.as_deref()?;
        if board.rows.is_empty() {
            return None;
        }
        let mut rows: Vec<Line<'a>> = board
            .rows
            .iter()
            .filter(|row| {
                // Some file systems return decomposed Hangul.
                let name = text::nfc(&row.scored.file);
                screen.filter.passes([name.as_str()])
            })
            .map(Line::File)
            .collect();
        let types = |line: &Line<'a>| -> &'a [TypeMeans] {
            let row = line.file().filter(|_| screen.has_types);
            row.map(|row| row.types.as_slice()).unwrap_or_default()
        };
        let names = rows
            .iter()
            .flat_map(|line| std::iter::once(*line).chain(types(line).iter().map(Line::Type)));
        let longest = names.map(|line| text::width(&line.name())).max();
        let columns = columns(screen, board, world, longest.unwrap_or(0));
        let is_apart = |line: &Line<'a>| line.file().is_some_and(|row| row.rank.is_none());
        // A stable sort: equal ones stay in the order of the board.
        rows.sort_by(|left, right| {
            let by_column = || screen.sort.compare(&columns, left, right);
            is_apart(left).cmp(&is_apart(right)).then_with(by_column)
        });
        let first_apart = rows.iter().position(is_apart);
        let mut lines = Vec::new();
        for (index, line) in rows.into_iter().enumerate() {
            if first_apart == Some(index) {
                lines.push(Line::Apart);
            }
            lines.push(line);
            lines.extend(types(&line).iter().map(Line::Type));
        }
        Some(Self {
            board,
            columns,
            lines,
        })
    }

    /// The files in their order.
    pub(super) fn files(&self) -> impl Iterator<Item = &'a Row> {
        self.lines.iter().filter_map(Line::file)
    }

    /// The file under the cursor.
    pub(super) fn selected(&self, screen: &Ranking) -> Option<&'a Row> {
        screen.table.list.selected(&self.lines)?.file()
    }
}

/// Good versions of a file that have been read.
pub(super) fn revision(world: &World, row: &Row) -> u32 {
    let revisions = &world.ranking.revisions;
    revisions.get(&row.scored.file).copied().unwrap_or(0)
}

/// The state of a file. The sign before the number follows the glyphs.
pub(super) fn state(row: &Row, revision: u32, look: &Look) -> String {
    let mut words = state_in_words(row);
    if revision > 1 {
        let times = look.glyphs.times;
        words.push_str(&format!(", updated {times}{revision}"));
    }
    words
}

pub(super) fn state_style(row: &Row, theme: &Theme) -> Style {
    match row.scored.state {
        FileState::Complete => theme.dim,
        FileState::Partial | FileState::Gone => theme.warn,
        FileState::Pending { .. } => theme.info,
        FileState::Broken(_) => theme.bad,
    }
}
