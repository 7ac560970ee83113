//! The text form: metric by metric for two files, one line per file for more.

use std::fmt::{self, Write};

use super::super::diff::{DiffUnit, diff, marked, sides};
use super::super::file::shown_type;
use super::super::render::{p_value, percent};
use super::{Against, ComparedItem, Comparison, ItemAnswer, ItemFilter, Selection};

impl Comparison {
    /// The comparison as text: totals, metrics, types, then the items of a selection with question,
    /// label and every answer, with changes marked `[-…-]{+…+}`. Without a selection, the items that
    /// changed, in brief.
    pub fn to_text(&self, selection: Option<&Selection>) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text, selection);
        text
    }

    fn write_text(&self, out: &mut String, selection: Option<&Selection>) -> fmt::Result {
        match self.files.as_slice() {
            [_, other] => {
                if let Some(against) = &other.against_baseline {
                    self.write_pair(out, against)?;
                }
            }
            _ => self.write_many(out)?,
        }
        let Some(selection) = selection else {
            let changed = self.items.iter();
            for item in changed.filter(|item| ItemFilter::Changed.keeps(item)) {
                self.write_brief(out, item)?;
            }
            return Ok(());
        };
        let items: Vec<&ComparedItem> = self.selected(selection).collect();
        writeln!(
            out,
            "\n{} of {} items ({}):",
            items.len(),
            self.items.len(),
            selection.description()
        )?;
        for item in items {
            self.write_whole(out, item)?;
        }
        Ok(())
    }

    fn write_pair(&self, out: &mut String, against: &Against) -> fmt::Result {
        for (name, file) in ["A", "B"].iter().zip(&self.files) {
            writeln!(out, "{name}: {}", file.file)?;
        }
        let counts = &against.outcome.counts;
        writeln!(
            out,
            "Items: {} in both, {} only in A, {} only in B",
            counts.items,
            against.only_baseline.len(),
            against.only_this.len()
        )?;
        writeln!(
            out,
            "Exact match: {} fixed, {} broken, {} both right, {} both wrong",
            counts.fixed, counts.broken, counts.both_right, counts.both_wrong
        )?;
        writeln!(
            out,
            "Item means: B better {}, worse {}, equal {}; sign test p {}",
            counts.wins,
            counts.losses,
            counts.ties,
            p_value(against.outcome.sign_test_p_value)
        )?;
        let Some(metrics) = &against.outcome.metrics else {
            return Ok(());
        };
        let confidence = percent(self.resampling.confidence);
        writeln!(
            out,
            "\n                 A       B     B - A    {confidence} % interval       p"
        )?;
        for (name, delta) in metrics.named() {
            writeln!(
                out,
                "{name:<11} {:>7.4} {:>7.4}   {:>+7.4}   {:>+7.4} to {:>+7.4}  {}",
                delta.baseline,
                delta.this,
                delta.difference,
                delta.interval.low,
                delta.interval.high,
                p_value(delta.p_value)
            )?;
        }
        writeln!(out)?;
        write_types(out, against)
    }

    fn write_many(&self, out: &mut String) -> fmt::Result {
        for (number, file) in (1..).zip(&self.files) {
            let note = if number == 1 { " (baseline)" } else { "" };
            write!(
                out,
                "{number}: {}{note}, {} items",
                file.file, file.answered
            )?;
            if let Some(against) = &file.against_baseline {
                let (missing, extra) = (against.only_baseline.len(), against.only_this.len());
                if missing + extra > 0 {
                    write!(out, " (without {missing} of 1, {extra} not in 1)")?;
                }
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "\nAgainst 1   Final Mean  {:>20}   Holm p       EM  Holm p   fixed  broken  better   worse   equal",
            format!("{} % interval", percent(self.resampling.confidence))
        )?;
        for (number, file) in (1..).zip(&self.files) {
            let Some(outcome) = file.against_baseline.as_ref().map(|all| &all.outcome) else {
                continue;
            };
            let Some(metrics) = &outcome.metrics else {
                writeln!(out, "{number:>9}   no item in common")?;
                continue;
            };
            let (mean, em, counts) = (metrics.final_mean, metrics.em, outcome.counts);
            writeln!(
                out,
                "{number:>9}      {:>+7.4}  {:>+8.4} to {:>+8.4}   {}  {:>+7.4}  {}  {:>6}  {:>6}  {:>6}  {:>6}  {:>6}",
                mean.difference,
                mean.interval.low,
                mean.interval.high,
                p_value(mean.p_holm),
                em.difference,
                p_value(em.p_holm),
                counts.fixed,
                counts.broken,
                counts.wins,
                counts.losses,
                counts.ties
            )?;
        }
        for (number, file) in (1..).zip(&self.files) {
            if let Some(against) = &file.against_baseline {
                writeln!(out, "\n{number} against 1, p by Holm:")?;
                write_types(out, against)?;
            }
        }
        Ok(())
    }

    /// The verdict, followed by the item's id and type.
    fn write_title(&self, out: &mut String, item: &ComparedItem) -> fmt::Result {
        let kind = shown_type(&item.question_type);
        if let [_, answer] = item.answers.as_slice() {
            let change = answer.as_ref().and_then(|answer| answer.against_baseline);
            return match change {
                Some(change) => {
                    let verdict = change.verdict.name();
                    writeln!(out, "\n[{verdict}] {} {kind} {:+.4}", item.id, change.delta)
                }
                None => writeln!(out, "\n[in one file] {} {kind}", item.id),
            };
        }
        let first_right = match item.first_right {
            Some(index) => format!("first right in {}", index + 1),
            None => "never right".to_owned(),
        };
        let (id, flips) = (&item.id, item.flips);
        writeln!(
            out,
            "\n[{}] {id} {kind}, {first_right}, flips: {flips}",
            trail(item)
        )
    }

    fn write_brief(&self, out: &mut String, item: &ComparedItem) -> fmt::Result {
        self.write_title(out, item)?;
        write_line(out, "label", &item.label)?;
        if self.files.len() > 2 {
            return Ok(());
        }
        for (index, answer) in item.answers.iter().enumerate() {
            let text = answer.as_ref().map_or("", |answer| &answer.text);
            write_line(out, &self.short_name(index), text)?;
        }
        Ok(())
    }

    fn write_whole(&self, out: &mut String, item: &ComparedItem) -> fmt::Result {
        self.write_title(out, item)?;
        if !item.question.is_empty() {
            write_line(out, "asked", &item.question)?;
        }
        write_line(out, "label", &item.label)?;
        let texts = item.answers.iter().map(Option::as_ref);
        let texts: Vec<Option<&str>> = texts.map(|answer| Some(answer?.text.as_str())).collect();
        if let [Some(a), Some(b)] = texts.as_slice() {
            let segments = diff(a, b, DiffUnit::Grapheme);
            let [a, b] = sides(&segments).map(|side| marked(&side));
            write_line(out, "A", &a)?;
            return write_line(out, "B", &b);
        }
        let baseline = texts.first().copied().flatten();
        for (index, answer) in item.answers.iter().enumerate() {
            let text = match answer {
                None => "(no answer)".to_owned(),
                Some(answer) => self.marked_answer(answer, baseline),
            };
            write_line(out, &self.short_name(index), &text)?;
        }
        Ok(())
    }

    /// An answer with its differences from the baseline's marked.
    fn marked_answer(&self, answer: &ItemAnswer, baseline: Option<&str>) -> String {
        match (answer.against_baseline, baseline) {
            (Some(change), _) if change.is_same => "(the same as 1)".to_owned(),
            (Some(_), Some(baseline)) => marked(&diff(baseline, &answer.text, DiffUnit::Grapheme)),
            _ => answer.text.clone(),
        }
    }

    fn short_name(&self, index: usize) -> String {
        match (self.files.len(), index) {
            (2, 0) => "A".to_owned(),
            (2, 1) => "B".to_owned(),
            _ => (index + 1).to_string(),
        }
    }
}

/// One line per question type.
fn write_types(out: &mut String, against: &Against) -> fmt::Result {
    for kind in &against.types {
        let counts = &kind.outcome.counts;
        write!(
            out,
            "{}: {} items, {} fixed, {} broken",
            shown_type(&kind.question_type),
            counts.items,
            counts.fixed,
            counts.broken
        )?;
        if let Some(metrics) = &kind.outcome.metrics {
            let delta = metrics.final_mean;
            write!(
                out,
                ", mean difference {:+.4} ({:+.4} to {:+.4}, p {})",
                delta.difference,
                delta.interval.low,
                delta.interval.high,
                p_value(delta.p_holm)
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// `+` for each file that is right, `-` for each that is wrong, `?` for each without an answer.
fn trail(item: &ComparedItem) -> String {
    let sign = |answer: &Option<ItemAnswer>| match answer {
        Some(answer) if answer.metrics.is_right() => '+',
        Some(_) => '-',
        None => '?',
    };
    item.answers.iter().map(sign).collect()
}

/// A named text whose further lines are indented.
fn write_line(out: &mut String, name: &str, text: &str) -> fmt::Result {
    let text = text.replace('\n', "\n          ");
    writeln!(out, "   {name:<5}: {text}")
}
