//! The Experiments screen: what can be run and what was run.

mod changes;
mod details;
mod differences;
mod keys;
pub(super) mod launch;
#[cfg(test)]
pub(crate) mod sample;
mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Constraint::{Fill, Length};
use ratatui::layout::{Layout, Position, Rect};
use ratatui::style::Style;
use ratatui::text::Line;

use super::ScreenState;
use super::words::name;
use crate::tui::data::index::{ExperimentFile, RunEntry};
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::Command;
use crate::tui::state::Context;
use crate::tui::widgets::focus::{self, Areas, Focus};
use crate::tui::widgets::list::{Item, Marks};
use crate::tui::widgets::pane::Pane;
use crate::tui::widgets::panel::Panel;
use crate::tui::widgets::scroll::{ScrollText, text_width, wrapped};
use crate::tui::widgets::table::{Sheet, Sort, Table};
use changes::Changes;
use launch::Launch;

/// The state of the Experiments screen.
#[derive(Debug)]
pub struct Experiments {
    focus: Focus<Part>,
    /// The list that had the keyboard last: the details are those of its selected line.
    list: Part,
    file_table: Table<PathBuf>,
    run_table: Table<PathBuf>,
    reading: Pane,
    filter: Filter,
    /// The order of the runs.
    sort: Sort,
    /// Files and runs to be compared.
    marks: Marks<PathBuf>,
    launch: Launch,
    /// Configurations whose differences have been asked for.
    comparing: Option<Vec<PathBuf>>,
    changes: Changes,
}

impl Default for Experiments {
    fn default() -> Self {
        Self {
            focus: Focus::default(),
            list: Part::Files,
            file_table: Table::default(),
            run_table: Table::default(),
            reading: Pane::default(),
            filter: Filter::default(),
            sort: Sort::by(table::STARTED),
            marks: Marks::default(),
            launch: Launch::default(),
            comparing: None,
            changes: Changes::default(),
        }
    }
}

/// The parts of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Files,
    Runs,
    Details,
    /// Shown while something is queued.
    Queue,
}

impl focus::Part for Part {
    const RING: &'static [Self] = &[Self::Files, Self::Runs, Self::Details];
}

/// The selected line.
enum Selected<'a> {
    File(&'a ExperimentFile),
    Run(&'a RunEntry),
}

impl Selected<'_> {
    fn path(&self) -> &PathBuf {
        match self {
            Self::File(file) => &file.path,
            Self::Run(run) => &run.path,
        }
    }
}

impl Experiments {
    /// The selected line of the list that had the keyboard last.
    fn selected<'a>(&self, context: &Context<'a>) -> Option<Selected<'a>> {
        if self.list == Part::Files {
            let files = self.files(context);
            let file = self.file_table.list.selected(&files).copied();
            file.map(Selected::File)
        } else {
            let runs = self.runs(context);
            let run = self.run_table.list.selected(&runs).copied();
            run.map(Selected::Run)
        }
    }

    /// Keeps both cursors on their lines.
    fn follow(&mut self, context: &Context<'_>) {
        self.file_table.list.follow(&self.files(context));
        self.run_table.list.follow(&self.runs(context));
    }

    /// The keyboard has moved to another part.
    fn focused(&mut self) {
        self.reading.reset();
        if !self.focus.is(Part::Details) {
            self.list = self.focus.now();
        }
    }
}

impl ScreenState for Experiments {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        self.execute(action, context)
    }

    fn set_filter(&mut self, filter: &str, context: &Context<'_>) -> Vec<Command> {
        self.filter = Filter::new(filter);
        self.follow(context);
        Vec::new()
    }

    fn filter(&self) -> &str {
        self.filter.text()
    }

    /// Selects a line; a click on the heading of a column of runs sorts by it.
    fn click(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        let part = areas(context.body, context.world.queue.len()).at(at);
        let Some(part @ (Part::Files | Part::Runs)) = part else {
            return Vec::new();
        };
        self.focus.set(part);
        self.focused();
        if part == Part::Files {
            self.file_table.list.click(at, &self.files(context));
        } else if let Some(column) = self.run_table.column_at(at) {
            let mut sort = self.sort;
            sort.choose(column, &self.run_columns(context));
            self.sort = sort;
            self.follow(context);
        } else {
            self.run_table.list.click(at, &self.runs(context));
        }
        Vec::new()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        self.changes.look(context);
        self.follow(context);
        let mut commands = self.launch.refresh(context);
        commands.extend(self.show_differences(context));
        commands
    }

    fn status(&self, context: &Context<'_>) -> String {
        if context.world.index.is_none() {
            return "reading".to_owned();
        }
        let running = launch::active_here(context).count();
        match context.world.queue.len() {
            0 => format!("{running} running"),
            queued => format!("{running} running, {queued} queued"),
        }
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        let buf = frame.buffer_mut();
        let areas = areas(area, context.world.queue.len());
        let empty = match &context.world.index {
            None => Some("The folder is being read."),
            Some(_) if !self.filter.is_empty() => Some("Nothing passes the filter."),
            Some(_) => None,
        };
        let index = context.world.index.as_ref();
        let folder =
            index.map(|index| format!("No .toml file in {}.", index.experiments_dir.display()));
        let files = Sheet {
            columns: &self.file_columns(context),
            items: &self.files(context),
            marks: self.marks.all(),
            sort: None,
            style: &|_, _| Style::new(),
            empty: empty.or(folder.as_deref()).unwrap_or_default(),
        };
        self.draw_table(Part::Files, &files, context, buf, &areas);
        let runs = Sheet {
            columns: &self.run_columns(context),
            items: &self.runs(context),
            marks: self.marks.all(),
            sort: Some(self.sort),
            style: &|_, _| Style::new(),
            empty: empty.unwrap_or("No run yet: select an experiment and start it with s."),
        };
        self.draw_table(Part::Runs, &runs, context, buf, &areas);
        let details = areas.of(Part::Details);
        let (title, lines) = details::lines(self, context, text_width(focus::inside(details)));
        let panel = Panel::new(&title, self.focus.is(Part::Details));
        self.reading
            .draw_boxed(&panel, &lines, details, buf, context.look());
        if areas.shows(Part::Queue) {
            draw_queue(context, buf, areas.of(Part::Queue));
        }
    }
}

impl Experiments {
    fn draw_table<T: Item<Id = PathBuf>>(
        &self,
        part: Part,
        sheet: &Sheet<'_, T>,
        context: &Context<'_>,
        buf: &mut Buffer,
        areas: &Areas<Part>,
    ) {
        let (title, table) = match part {
            Part::Files => ("Experiments", &self.file_table),
            _ => ("Runs", &self.run_table),
        };
        let note = match sheet.items.len() {
            0 => String::new(),
            len => format!("{} of {len}", table.list.cursor(sheet.items) + 1),
        };
        let panel = Panel::new(title, self.focus.is(part)).note(&note);
        let inside = panel.render(areas.of(part), buf, context.look());
        table.draw(sheet, inside, buf, context.look());
    }
}

/// The boxes of the screen: from 160 columns the runs have their own side with every column, from
/// 120 both lists are next to each other, below that one above the other.
fn areas(body: Rect, queued: usize) -> Areas<Part> {
    let (files, runs, details, queue);
    if body.width >= 160 {
        let left;
        [left, runs] = Layout::horizontal([Length(52), Fill(1)]).areas(body);
        let lines = if queued == 0 {
            0
        } else {
            queued.min(8) as u16 + 2
        };
        [files, details, queue] = Layout::vertical([Fill(2), Fill(3), Length(lines)]).areas(left);
    } else {
        let below;
        if body.width >= 120 {
            let lists;
            [lists, below] = Layout::vertical([Fill(3), Fill(2)]).areas(body);
            [files, runs] = Layout::horizontal([Fill(1), Fill(2)]).areas(lists);
        } else {
            [files, runs, below] = Layout::vertical([Fill(3), Fill(4), Fill(4)]).areas(body);
        }
        let cells = if queued == 0 { 0 } else { 30 };
        [details, queue] = Layout::horizontal([Fill(1), Length(cells)]).areas(below);
    }
    Areas::new([
        (Part::Files, files),
        (Part::Runs, runs),
        (Part::Details, details),
        (Part::Queue, queue),
    ])
}

fn draw_queue(context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let queue = &context.world.queue;
    let note = format!("{} wait", queue.len());
    let area = Panel::new("Queue", false)
        .note(&note)
        .render(area, buf, context.look());
    let lines = queue.iter().enumerate().flat_map(|(index, path)| {
        let words = format!("{} {}", index + 1, name(path));
        wrapped(&words, text_width(area), context.theme().text)
    });
    let lines: Vec<Line<'_>> = lines.collect();
    ScrollText {
        lines: &lines,
        offset: 0,
    }
    .render(area, buf, context.look());
}
