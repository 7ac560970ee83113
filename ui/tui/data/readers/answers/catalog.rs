//! Where the groups of completions.jsonl lie, found from its end as far as is needed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::path::Path;

use moim_core::run::{CompletionRecord, LineChunk, Tail};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// A group: consecutive lines of one step and one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The place of its first line.
    pub offset: u64,
    pub step: usize,
    /// Numbers of names; see [`Catalog::name`].
    pub id: u32,
    pub question_type: u32,
}

impl Entry {
    fn is_of_same_group(&self, other: &Self) -> bool {
        self.step == other.step && self.id == other.id
    }
}

/// The groups from some place on to the end of the file.
pub(super) struct Catalog {
    tail: Tail,
    /// While there are earlier lines, the first one may be the rest of a group.
    entries: VecDeque<Entry>,
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    end: u64,
}

/// What has become of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// It was cut or replaced: earlier positions are no longer valid.
    pub has_restarted: bool,
    /// There are new lines.
    pub has_grown: bool,
}

impl Catalog {
    /// Nothing is read before [`refresh`](Self::refresh).
    pub fn new(path: &Path) -> Self {
        Self {
            tail: Tail::from_end(path),
            entries: VecDeque::new(),
            names: Vec::new(),
            numbers: HashMap::new(),
            end: 0,
        }
    }

    /// Reads what the file has got since the last time; at first, its end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn refresh(&mut self) -> io::Result<Change> {
        let mut change = Change {
            has_restarted: self.tail.look()?,
            has_grown: false,
        };
        if change.has_restarted {
            self.entries.clear();
            self.end = 0;
        }
        while let Some(lines) = self.tail.newer()? {
            change.has_grown = true;
            self.end = lines.offset + lines.bytes.len() as u64;
            for entry in entries(lines, &mut self.names, &mut self.numbers) {
                if !self
                    .entries
                    .back()
                    .is_some_and(|last| last.is_of_same_group(&entry))
                {
                    self.entries.push_back(entry);
                }
            }
        }
        Ok(change)
    }

    /// Whether there are groups before those that are known.
    pub fn has_earlier(&self) -> bool {
        self.tail.has_earlier()
    }

    /// Reads a piece of what lies before.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn extend_back(&mut self) -> io::Result<()> {
        let Some(lines) = self.tail.earlier()? else {
            return Ok(());
        };
        let mut found = entries(lines, &mut self.names, &mut self.numbers);
        if let (Some(last), Some(first)) = (found.last(), self.entries.front())
            && last.is_of_same_group(first)
        {
            // The group that was known in part begins here.
            self.entries.pop_front();
        }
        while let Some(entry) = found.pop() {
            self.entries.push_front(entry);
        }
        Ok(())
    }

    /// The first group at or behind a place, among those that are known whole.
    pub fn at_or_after(&self, offset: u64) -> Option<Entry> {
        let index = self.entries.partition_point(|entry| entry.offset < offset);
        self.entries.get(index.max(self.first_whole())).copied()
    }

    /// The last group before a place, among those that are known whole.
    pub fn before(&self, offset: u64) -> Option<Entry> {
        let index = self
            .entries
            .partition_point(|entry| entry.offset < offset)
            .checked_sub(1)?;
        self.entries
            .get(index)
            .copied()
            .filter(|_| index >= self.first_whole())
    }

    fn first_whole(&self) -> usize {
        usize::from(self.has_earlier())
    }

    /// Where the first group begins that is known whole.
    pub fn start(&self) -> u64 {
        if !self.has_earlier() {
            0
        } else {
            self.entries.get(1).map_or(self.end, |entry| entry.offset)
        }
    }

    /// Where the last group ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Where the last group begins, which may still grow.
    pub fn last(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.offset)
    }

    /// Where a group ends.
    pub fn end_of(&self, entry: &Entry) -> u64 {
        let next = self
            .entries
            .partition_point(|other| other.offset <= entry.offset);
        self.entries.get(next).map_or(self.end, |next| next.offset)
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", String::as_str)
    }

    /// The bytes of a group's lines.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bytes(&self, entry: &Entry) -> io::Result<Vec<u8>> {
        self.tail.read_at(entry.offset, self.end_of(entry))
    }

    /// The completions of a group, and how many of its lines are none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn records(&self, entry: &Entry) -> io::Result<(Vec<CompletionRecord>, usize)> {
        let bytes = self.bytes(entry)?;
        let lines = LineChunk {
            offset: entry.offset,
            bytes: &bytes,
        };
        let mut bad_lines = 0;
        let mut records: Vec<CompletionRecord> = Vec::new();
        for (_, line) in lines.each() {
            match serde_json::from_slice(line) {
                Ok(record) => records.push(record),
                Err(_) => bad_lines += 1,
            }
        }
        records.sort_by_key(|record| record.sample);
        Ok((records, bad_lines))
    }
}

/// The groups that begin in these lines. Lines that are no completions belong to the group before.
fn entries(
    lines: LineChunk<'_>,
    names: &mut Vec<String>,
    numbers: &mut HashMap<String, u32>,
) -> Vec<Entry> {
    let mut number_of = |name: &str| match numbers.get(name) {
        Some(number) => *number,
        None => {
            let number = names.len() as u32;
            names.push(name.to_owned());
            numbers.insert(name.to_owned(), number);
            number
        }
    };
    let mut found: Vec<Entry> = Vec::new();
    for (offset, line) in lines.each() {
        let Some(head) = head_of(line) else { continue };
        let entry = Entry {
            offset,
            step: head.step,
            id: number_of(&head.id),
            question_type: number_of(&head.question_type),
        };
        if !found
            .last()
            .is_some_and(|last| last.is_of_same_group(&entry))
        {
            found.push(entry);
        }
    }
    found
}

/// What tells groups apart.
#[derive(Debug, PartialEq)]
struct Head {
    step: usize,
    id: String,
    question_type: String,
}

#[derive(Default)]
struct HeadParts {
    step: Option<usize>,
    id: Option<String>,
    question_type: Option<String>,
}

fn head_of(line: &[u8]) -> Option<Head> {
    let mut parts = HeadParts::default();
    // The rest of the line, with its long texts, is not read: that ends in an error, and what
    // was found by then counts.
    let _ = serde_json::Deserializer::from_slice(line).deserialize_map(HeadVisitor(&mut parts));
    Some(Head {
        step: parts.step?,
        id: parts.id?,
        question_type: parts.question_type?,
    })
}

struct HeadVisitor<'a>(&'a mut HeadParts);

impl<'de> Visitor<'de> for HeadVisitor<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a completion")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let parts = self.0;
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "step" => parts.step = Some(map.next_value()?),
                "id" => parts.id = Some(map.next_value()?),
                "question_type" => parts.question_type = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if parts.step.is_some() && parts.id.is_some() && parts.question_type.is_some() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_without_the_rest_of_the_line() {
        let line =
            r#"{"step":3,"epoch":1,"id":"가 \"1\"","question_type":"선택형","sample":0,"prompt":"#;
        let head = head_of(line.as_bytes()).unwrap();
        assert_eq!(
            (head.step, head.id.as_str(), head.question_type.as_str()),
            (3, "가 \"1\"", "선택형")
        );
        for line in [
            "",
            "[1]",
            r#"{"step":3}"#,
            r#"{"step":"x","id":"1","question_type":""}"#,
        ] {
            assert_eq!(head_of(line.as_bytes()), None, "{line}");
        }
    }
}
