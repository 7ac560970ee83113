//! Pages of completions.jsonl, by query.
//!
//! A log of gigabytes is never held: a [`Catalog`] knows where groups lie, from the end of the
//! file as far back as was needed, and a [`Search`] walks over it until a page is known. A newer
//! query ends the search for an older one.

mod catalog;
mod page;
mod search;

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use self::catalog::Catalog;
use self::page::page;
use self::search::{Direction, Search};
use super::worker::{Inbox, Outbox, Shutdown, Worker};
use crate::tui::data::answers::{AnswersPage, AnswersQuery, GroupPlace, Place};
use crate::tui::message::{Data, Message};

/// How often is looked for new completions while a query stands.
const POLL: Duration = Duration::from_millis(400);

/// A search goes on over so many bytes rather than begin anew.
const WORTH_WALKING: u64 = 16 << 20;

/// After this long a search shows what it has.
const IMPATIENCE: Duration = Duration::from_millis(150);

/// How often a search tells how far it is after that.
const PROGRESS: Duration = Duration::from_millis(500);

/// Starts to answer queries.
pub(super) fn start(messages: &Sender<Message>) -> Worker<AnswersQuery> {
    Worker::start("answers", messages, |inbox, outbox| {
        let mut reader: Option<Reader> = None;
        let mut query: Option<AnswersQuery> = None;
        loop {
            if let Some(asked) = query.take() {
                let same = reader.take().filter(|reader| reader.run == asked.run);
                let reader = reader.insert(same.unwrap_or_else(|| Reader::new(&asked)));
                reader.answer(asked, inbox, outbox)?;
            }
            let pace = if reader.is_some() {
                POLL
            } else {
                Duration::from_secs(600)
            };
            let asked = inbox.wait(pace)?;
            query = inbox.newest()?.or(asked);
            if query.is_none() {
                query = reader.as_mut().and_then(Reader::query_after_growth);
            }
        }
    })
}

/// The completions of one run.
struct Reader {
    run: PathBuf,
    catalog: Catalog,
    search: Search,
    /// What was asked last, so as to stay on what is shown.
    standing: Option<AnswersQuery>,
    /// Whether the page that was sent last ends with the newest group.
    is_at_end: bool,
}

/// How a search ended.
enum End {
    Done,
    /// Something else was asked.
    Interrupted,
}

impl Reader {
    fn new(query: &AnswersQuery) -> Self {
        Self {
            run: query.run.clone(),
            catalog: Catalog::new(&query.run.join("completions.jsonl")),
            search: Search::new(query),
            standing: None,
            is_at_end: true,
        }
    }

    /// The query to be answered anew because the file has changed.
    fn query_after_growth(&mut self) -> Option<AnswersQuery> {
        let standing = self.standing.clone()?;
        let change = self.refresh().ok()?;
        (change.has_restarted || (change.has_grown && self.is_at_end)).then_some(standing)
    }

    fn refresh(&mut self) -> io::Result<catalog::Change> {
        let last = self.catalog.last();
        let change = self.catalog.refresh()?;
        if change.has_restarted {
            self.search = Search::default();
        } else if change.has_grown
            && let Some(last) = last
        {
            self.search.look_again_from(last);
        }
        Ok(change)
    }

    fn answer(
        &mut self,
        query: AnswersQuery,
        inbox: &mut Inbox<AnswersQuery>,
        outbox: &Outbox,
    ) -> Result<(), Shutdown> {
        match self.find(&query, inbox, outbox)? {
            Ok(End::Done | End::Interrupted) => Ok(()),
            Err(error) => {
                let note = format!("completions.jsonl cannot be read: {error}");
                let page = page(&query, None, &self.search, &self.catalog);
                match page {
                    Ok(page) => self.send(
                        AnswersPage {
                            note: Some(note),
                            ..page
                        },
                        outbox,
                    ),
                    Err(_) => Ok(()),
                }
            }
        }
    }

    fn find(
        &mut self,
        query: &AnswersQuery,
        inbox: &mut Inbox<AnswersQuery>,
        outbox: &Outbox,
    ) -> Result<io::Result<End>, Shutdown> {
        self.standing = Some(query.clone());
        if let Err(error) = self.refresh() {
            return Ok(Err(error));
        }
        if !self.search.is_for(query) {
            self.search = Search::new(query);
        }
        let begun = Instant::now();
        let mut tell_at = begun + IMPATIENCE;
        let mut has_begun = false;
        loop {
            if inbox.is_asked()? {
                return Ok(Ok(End::Interrupted));
            }
            let view = if has_begun || self.begin(query.place) {
                has_begun = true;
                self.search.view(query.place, &self.catalog)
            } else {
                search::View {
                    shown: None,
                    next: Some(Direction::Earlier),
                }
            };
            let Some(direction) = view.next else {
                return self
                    .finish(query, view.shown, outbox)
                    .map(|end| end.map(|()| End::Done));
            };
            if Instant::now() >= tell_at {
                tell_at = Instant::now() + PROGRESS;
                match self.interim(query, view.shown) {
                    Ok(page) => outbox.send(Data::Answers(page))?,
                    Err(error) => return Ok(Err(error)),
                }
            }
            let step = if has_begun {
                self.search.step(direction, &mut self.catalog)
            } else {
                self.catalog.extend_back()
            };
            if let Err(error) = step {
                return Ok(Err(error));
            }
        }
    }

    /// Sets the search to where the query begins; false while that is not known.
    fn begin(&mut self, place: Place) -> bool {
        let end = self.catalog.end();
        let (start, gap) = match place {
            // What the file has got since then is looked at, and the rest is not looked at again.
            Place::Latest => (end, WORTH_WALKING),
            Place::First => (0, 0),
            Place::At(place) | Place::After(place) | Place::Before(place) => (place.0.min(end), 0),
        };
        let is_known = start >= self.catalog.start();
        if is_known {
            self.search.begin_at(start, gap);
        }
        is_known
    }

    fn interim(&self, query: &AnswersQuery, shown: Option<u64>) -> io::Result<AnswersPage> {
        let page = page(query, shown, &self.search, &self.catalog)?;
        let (looked_at, end) = (
            self.catalog.end() - self.catalog.start(),
            self.catalog.end(),
        );
        let percent = 100 * looked_at / end.max(1);
        Ok(AnswersPage {
            note: Some(format!(
                "looking on: {percent} % of completions.jsonl is known"
            )),
            ..page
        })
    }

    fn finish(
        &mut self,
        query: &AnswersQuery,
        shown: Option<u64>,
        outbox: &Outbox,
    ) -> Result<io::Result<()>, Shutdown> {
        let mut page = match page(query, shown, &self.search, &self.catalog) {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        if self.catalog.end() == 0 {
            let note = "no completions yet; a run with run.log_completions = false writes none";
            page.note = Some(note.to_owned());
        }
        // From now on the same group is shown, however the file grows.
        if let (Some(shown), Some(standing)) = (shown, &mut self.standing)
            && standing.place != Place::Latest
        {
            standing.place = Place::At(GroupPlace(shown));
        }
        self.send(page, outbox).map(Ok)
    }

    fn send(&mut self, page: AnswersPage, outbox: &Outbox) -> Result<(), Shutdown> {
        self.is_at_end = !page.has_later;
        outbox.send(Data::Answers(page))
    }
}

#[cfg(test)]
mod tests;
