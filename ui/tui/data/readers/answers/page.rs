//! A page of groups, from where they lie.

use std::io;

use moim_core::run::CompletionRecord;

use super::catalog::{Catalog, Entry};
use super::search::{Direction, Search};
use crate::tui::data::answers::{AnswersPage, AnswersQuery, Group, GroupLine, GroupPlace};

/// Characters of a question in the list.
const QUESTION_CHARS: usize = 120;

/// Words that stand alone in a template for who speaks.
const ROLES: [&str; 6] = ["system", "user", "assistant", "model", "human", "bot"];

/// The page of a query. `shown` is the group to show.
///
/// # Errors
/// The file cannot be read.
pub(super) fn page(
    query: &AnswersQuery,
    shown: Option<u64>,
    search: &Search,
    catalog: &Catalog,
) -> io::Result<AnswersPage> {
    let mut page = AnswersPage {
        run: query.run.clone(),
        number: query.number,
        group: None,
        neighbours: Vec::new(),
        has_later: false,
        has_earlier: false,
        note: None,
    };
    let Some(shown) = shown else {
        return Ok(page);
    };
    let (places, has_earlier, has_later) = search.around(shown);
    // What was not looked at yet may hold more.
    page.has_earlier = has_earlier || !search.is_exhausted(catalog, Direction::Earlier);
    page.has_later = has_later || !search.is_exhausted(catalog, Direction::Later);
    for place in places {
        let Some(entry) = catalog.at_or_after(place) else {
            continue;
        };
        let (records, bad_lines) = catalog.records(&entry)?;
        page.neighbours.push(line(&entry, &records, catalog));
        if place == shown {
            page.note =
                (bad_lines > 0).then(|| format!("{bad_lines} lines of this group cannot be read"));
            page.group = Some(Group {
                place: GroupPlace(entry.offset),
                step: entry.step,
                epoch: records.first().map_or(0, |record| record.epoch),
                id: catalog.name(entry.id).to_owned(),
                question_type: catalog.name(entry.question_type).to_owned(),
                completions: records,
            });
        }
    }
    Ok(page)
}

fn line(entry: &Entry, records: &[CompletionRecord], catalog: &Catalog) -> GroupLine {
    let rewards: Vec<f64> = records.iter().filter_map(|record| record.reward).collect();
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let is_constant = rewards.len() == records.len()
        && rewards
            .windows(2)
            .all(|pair| matches!(pair, [left, right] if left == right));
    GroupLine {
        place: GroupPlace(entry.offset),
        step: entry.step,
        id: catalog.name(entry.id).to_owned(),
        question_type: catalog.name(entry.question_type).to_owned(),
        mean_reward: (!rewards.is_empty()).then_some(mean),
        is_constant,
        question: records
            .first()
            .map_or_else(String::new, |record| question(&record.prompt)),
    }
}

/// The last line of a rendered prompt that a person wrote: the marks and roles that a chat
/// template puts around it are left out.
fn question(prompt: &str) -> String {
    let lines = prompt.lines().rev().map(without_marks);
    let written = lines.map(|line| line.trim().to_owned());
    let found = written
        .into_iter()
        .find(|line| !line.is_empty() && !ROLES.contains(&line.as_str()));
    let line = found.unwrap_or_default();
    match line.char_indices().nth(QUESTION_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// A line without `<|im_end|>`, `</s>`, `<start_of_turn>`, `[INST]` and the like.
fn without_marks(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(['<', '[']) {
        let (before, behind) = rest.split_at(start);
        kept.push_str(before);
        let close = if behind.starts_with('<') { '>' } else { ']' };
        let mark = behind
            .split_inclusive(close)
            .next()
            .filter(|mark| is_mark(mark));
        match mark {
            Some(mark) => rest = behind.get(mark.len()..).unwrap_or_default(),
            None => {
                // Text of its own; both signs are one byte long.
                kept.push_str(behind.get(..1).unwrap_or_default());
                rest = behind.get(1..).unwrap_or_default();
            }
        }
    }
    kept + rest
}

fn is_mark(text: &str) -> bool {
    let inner = |open, close| {
        text.strip_prefix(open)
            .and_then(|rest: &str| rest.strip_suffix(close))
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '|' | '_' | '/'))
    };
    inner('<', '>').is_some_and(is_name)
        || inner('[', ']').is_some_and(|name| matches!(name, "INST" | "/INST"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_what_a_person_wrote() {
        let cases = [
            (
                "<|im_start|>user\n[질문]: 어느 것이 옳은가?<|im_end|>\n<|im_start|>assistant\n",
                "[질문]: 어느 것이 옳은가?",
            ),
            ("<s>[INST] 고르세요. [/INST]", "고르세요."),
            (
                "<start_of_turn>user\n2 < 3 이고 a[0] > 1<end_of_turn>\n<start_of_turn>model\n",
                "2 < 3 이고 a[0] > 1",
            ),
            ("plain\n\n", "plain"),
            ("<|im_start|>assistant\n", ""),
        ];
        for (prompt, expected) in cases {
            assert_eq!(question(prompt), expected);
        }
        assert_eq!(
            question(&"가".repeat(200)).chars().count(),
            QUESTION_CHARS + 1
        );
    }
}
