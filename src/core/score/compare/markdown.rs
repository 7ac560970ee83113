//! The Markdown form: tables for an issue or for notes.

use std::fmt::{self, Write};

use super::super::file::shown_type;
use super::super::render::{escape, p_value, percent};
use super::{ComparedItem, Comparison, Outcome, Selection};

impl Comparison {
    /// The files against the baseline, each question type, and the items of a
    /// selection. Files are numbered from 1 in the order given.
    pub fn to_markdown(&self, selection: &Selection) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut text, selection);
        text
    }

    fn write_markdown(&self, out: &mut String, selection: &Selection) -> fmt::Result {
        let baseline = self.files.first().map_or("", |file| &file.file);
        writeln!(
            out,
            "Compared with {}. Final Mean = {}. Differences over the items both files answer, with {} % \
             bootstrap intervals, paired permutation tests, EM exact McNemar; p adjusted by Holm.\n",
            escape(baseline),
            self.averaging.formula(),
            percent(self.resampling.confidence)
        )?;
        self.write_files(out)?;
        self.write_types(out)?;
        let items: Vec<&ComparedItem> = self.selected(selection).collect();
        writeln!(
            out,
            "\n{} of {} items ({}).",
            items.len(),
            self.items.len(),
            escape(&selection.description())
        )?;
        if !items.is_empty() {
            self.write_items(out, &items)?;
        }
        Ok(())
    }

    fn write_files(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "| | File | Answered | Final Mean | Difference | Interval | Holm p | EM | Fixed | Broken | \
             Holm p | Better | Worse | Equal | Only baseline | Only this |"
        )?;
        writeln!(
            out,
            "|---:|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        )?;
        for (number, file) in (1..).zip(&self.files) {
            write!(
                out,
                "| {number} | {} | {} |",
                escape(&file.file),
                file.answered
            )?;
            let means = file.means.as_ref();
            let mean = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.4}"));
            let em = mean(means.map(|means| means.em));
            write!(out, " {} |", mean(means.map(|means| means.final_mean)))?;
            let Some(against) = &file.against_baseline else {
                writeln!(out, " | | | {em} | | | | | | | | |")?;
                continue;
            };
            let outcome = &against.outcome;
            write!(out, " {} | {em} |", final_mean_cells(outcome))?;
            writeln!(
                out,
                " {} | {} | {} |",
                count_cells(outcome),
                against.only_baseline.len(),
                against.only_this.len()
            )?;
        }
        Ok(())
    }

    fn write_types(&self, out: &mut String) -> fmt::Result {
        if self.question_types().len() < 2 {
            return Ok(());
        }
        writeln!(
            out,
            "\n| | Type | Items | Difference | Interval | Holm p | Fixed | Broken | Holm p | Better | \
             Worse | Equal |"
        )?;
        writeln!(
            out,
            "|---:|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|"
        )?;
        for (number, file) in (1..).zip(&self.files) {
            for kind in file.against_baseline.iter().flat_map(|all| &all.types) {
                let outcome = &kind.outcome;
                writeln!(
                    out,
                    "| {number} | {} | {} | {} | {} |",
                    escape(shown_type(&kind.question_type)),
                    outcome.counts.items,
                    final_mean_cells(outcome),
                    count_cells(outcome)
                )?;
            }
        }
        Ok(())
    }

    fn write_items(&self, out: &mut String, items: &[&ComparedItem]) -> fmt::Result {
        write!(
            out,
            "\n| Id | Type | First right | Flips | Question | Label |"
        )?;
        for number in 1..=self.files.len() {
            write!(out, " {number} |")?;
            if number > 1 {
                write!(out, " {number} against 1 |")?;
            }
        }
        writeln!(out)?;
        let columns = 6 + (2 * self.files.len()).saturating_sub(1);
        writeln!(out, "|{}", "---|".repeat(columns))?;
        for item in items {
            let first_right = item.first_right.map(|index| (index + 1).to_string());
            write!(
                out,
                "| {} | {} | {} | {} | {} | {} |",
                escape(&item.id),
                escape(shown_type(&item.question_type)),
                first_right.unwrap_or_default(),
                item.flips,
                escape(&item.question),
                escape(&item.label)
            )?;
            for (index, answer) in item.answers.iter().enumerate() {
                let text = answer.as_ref().map_or("", |answer| &answer.text);
                write!(out, " {} |", escape(text))?;
                if index > 0 {
                    let change = answer.as_ref().and_then(|answer| answer.against_baseline);
                    let words = change.map(|change| {
                        let same = if change.is_same { ", same" } else { "" };
                        format!("{}{same} {:+.4}", change.verdict.name(), change.delta)
                    });
                    write!(out, " {} |", words.unwrap_or_default())?;
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Difference, interval and p of the Final Mean.
fn final_mean_cells(outcome: &Outcome) -> String {
    let Some(metrics) = &outcome.metrics else {
        return " | | ".to_owned();
    };
    let delta = metrics.final_mean;
    format!(
        "{:+.4} | {:+.4} to {:+.4} | {}",
        delta.difference,
        delta.interval.low,
        delta.interval.high,
        escape(&p_value(delta.p_holm))
    )
}

/// Fixed, broken and p of EM, then better, worse and equal.
fn count_cells(outcome: &Outcome) -> String {
    let counts = &outcome.counts;
    let p = outcome.metrics.map(|metrics| p_value(metrics.em.p_holm));
    format!(
        "{} | {} | {} | {} | {} | {}",
        counts.fixed,
        counts.broken,
        escape(&p.unwrap_or_default()),
        counts.wins,
        counts.losses,
        counts.ties
    )
}
