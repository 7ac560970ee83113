//! Looking for groups in a catalog, a group at a time, so that it can be interrupted.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;

use serde::Deserialize;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::catalog::{Catalog, Entry};
use crate::tui::data::answers::{AnswersQuery, Place};
use crate::tui::filter::Filter;
use moim_core::run::LineChunk;

/// Groups that are listed on each side of the one that is shown.
pub(super) const NEIGHBOURS: usize = 20;

/// What a group has to be like.
#[derive(Debug, Default)]
pub(super) struct Criteria {
    id: Option<String>,
    question_type: Option<String>,
    filter: Filter,
}

/// A search in one catalog. The groups between `from` and `to` have been looked at.
#[derive(Debug, Default)]
pub(super) struct Search {
    criteria: Criteria,
    from: u64,
    to: u64,
    /// The places of groups that match, ascending.
    found: VecDeque<u64>,
}

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The group to show, as far as is known.
    pub shown: Option<u64>,
    /// Which way to look on; `None` when everything is known.
    pub next: Option<Direction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Earlier,
    Later,
}

#[derive(Deserialize)]
struct Texts<'a> {
    #[serde(borrow)]
    prompt: Cow<'a, str>,
    #[serde(borrow)]
    completion: Cow<'a, str>,
    #[serde(borrow)]
    label: Cow<'a, str>,
}

impl Search {
    /// A search that has not looked at anything.
    pub fn new(query: &AnswersQuery) -> Self {
        Self {
            criteria: Criteria {
                id: query.id.clone(),
                question_type: query.question_type.clone(),
                filter: Filter::new(query.filter.as_deref().unwrap_or_default()),
            },
            ..Self::default()
        }
    }

    /// Whether it looks for what the query asks for.
    pub fn is_for(&self, query: &AnswersQuery) -> bool {
        self.criteria.id == query.id
            && self.criteria.question_type == query.question_type
            && self.criteria.filter.text() == query.filter.as_deref().unwrap_or_default()
    }

    /// Starts at a position, unless the part that was searched already reaches it, or nearly: up to
    /// `gap` bytes before it.
    pub fn begin_at(&mut self, place: u64, gap: u64) {
        let is_new = self.from == self.to;
        if is_new || place < self.from || place > self.to + gap {
            self.from = place;
            self.to = place;
            self.found.clear();
        }
    }

    /// Looks again from a place on: the group there has grown.
    pub fn look_again_from(&mut self, place: u64) {
        self.to = self.to.min(place.max(self.from));
        while self.found.back().is_some_and(|last| *last >= place) {
            self.found.pop_back();
        }
    }

    /// The places that were found around one, and how many of them lie before it.
    pub fn around(&self, shown: u64) -> (Vec<u64>, bool, bool) {
        let index = self.found.partition_point(|place| *place < shown);
        let first = index.saturating_sub(NEIGHBOURS);
        let places = self
            .found
            .iter()
            .skip(first)
            .take(index - first + 1 + NEIGHBOURS);
        let has_later = self.found.len() > index + 1;
        (places.copied().collect(), index > 0, has_later)
    }

    /// Whether everything before, and everything after, was looked at.
    pub fn is_exhausted(&self, catalog: &Catalog, direction: Direction) -> bool {
        match direction {
            Direction::Earlier => !catalog.has_earlier() && catalog.before(self.from).is_none(),
            Direction::Later => catalog.at_or_after(self.to).is_none(),
        }
    }

    /// What is to be shown, and where to look on.
    pub fn view(&self, place: Place, catalog: &Catalog) -> View {
        use Direction::{Earlier, Later};
        let is_open = |direction: Direction| !self.is_exhausted(catalog, direction);
        let at_or_after = |place: u64| {
            let index = self.found.partition_point(|found| *found < place);
            self.found.get(index).copied()
        };
        let before = |place: u64| {
            let index = self.found.partition_point(|found| *found < place);
            self.found.get(index.checked_sub(1)?).copied()
        };
        // In the order of preference: the next found that way; once that way is at its end, the
        // last of the other way.
        let (first, wanted, second, instead) = match place {
            Place::Latest => (Later, None, Earlier, self.found.back().copied()),
            Place::First => (Earlier, None, Later, self.found.front().copied()),
            Place::At(place) => (Later, at_or_after(place.0), Earlier, before(place.0)),
            Place::After(place) => (
                Later,
                at_or_after(place.0 + 1),
                Earlier,
                before(place.0 + 1),
            ),
            Place::Before(place) => (Earlier, before(place.0), Later, at_or_after(place.0)),
        };
        let shown = match wanted {
            Some(wanted) => wanted,
            None if is_open(first) => {
                return View {
                    shown: None,
                    next: Some(first),
                };
            }
            None => match instead {
                Some(instead) => instead,
                None => {
                    let next = Some(second).filter(|direction| is_open(*direction));
                    return View { shown: None, next };
                }
            },
        };
        let index = self.found.partition_point(|found| *found < shown);
        let next = if index < NEIGHBOURS && is_open(Earlier) {
            Some(Earlier)
        } else if self.found.len() - index <= NEIGHBOURS && is_open(Later) {
            Some(Later)
        } else {
            None
        };
        View {
            shown: Some(shown),
            next,
        }
    }

    /// Looks at one more group, or reads more of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn step(&mut self, direction: Direction, catalog: &mut Catalog) -> io::Result<()> {
        match direction {
            Direction::Earlier => match catalog.before(self.from) {
                Some(entry) => {
                    if self.criteria.is_met_by(&entry, catalog)? {
                        self.found.push_front(entry.offset);
                    }
                    self.from = entry.offset;
                }
                None => catalog.extend_back()?,
            },
            Direction::Later => {
                if let Some(entry) = catalog.at_or_after(self.to) {
                    if self.criteria.is_met_by(&entry, catalog)? {
                        self.found.push_back(entry.offset);
                    }
                    self.to = catalog.end_of(&entry);
                }
            }
        }
        Ok(())
    }
}

impl Criteria {
    fn is_met_by(&self, entry: &Entry, catalog: &Catalog) -> io::Result<bool> {
        let is = |wanted: &Option<String>, number: u32| {
            wanted
                .as_ref()
                .is_none_or(|wanted| catalog.name(number) == wanted)
        };
        if !is(&self.id, entry.id) || !is(&self.question_type, entry.question_type) {
            return Ok(false);
        }
        if self.filter.is_empty() {
            return Ok(true);
        }
        let bytes = catalog.bytes(entry)?;
        let lines = LineChunk {
            offset: entry.offset,
            bytes: &bytes,
        };
        let mut texts: Vec<Cow<'_, str>> = Vec::new();
        for (_, line) in lines.each() {
            let Ok(record) = serde_json::from_slice::<Texts<'_>>(line) else {
                continue;
            };
            // Prompt and label are the same for the whole group.
            if texts.is_empty() {
                texts.extend([composed(record.prompt), composed(record.label)]);
            }
            texts.push(composed(record.completion));
        }
        Ok(self.filter.passes(texts.iter().map(|text| &**text)))
    }
}

/// As a person types it: Hangul in whole syllables.
fn composed(text: Cow<'_, str>) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text,
        _ => Cow::Owned(text.nfc().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_starts_where_it_is_sent_and_keeps_what_it_has_read() {
        let mut search = Search::default();
        search.begin_at(5_000, 16 << 20);
        assert_eq!((search.from, search.to), (5_000, 5_000));
        search.to = 6_000;
        search.begin_at(6_500, 1_000);
        assert_eq!((search.from, search.to), (5_000, 6_000));
        search.begin_at(8_000, 1_000);
        assert_eq!((search.from, search.to), (8_000, 8_000));
    }
}
