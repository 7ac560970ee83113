//! A group written to a file.

use std::path::Path;

use moim_core::run::CompletionRecord;

use crate::tui::data::answers::Group;
use crate::tui::message::{Command, Notice};
use crate::tui::screens::export::{Form, ask};

/// Asks in which form to write the group; the path can then be changed.
pub(super) fn dialog(run: &Path, group: &Group, sorted: &[&CompletionRecord]) -> Command {
    let json = match to_json_lines(sorted) {
        Ok(json) => json,
        Err(error) => {
            return Notice::error(format!("the group cannot be written as JSON: {error}"));
        }
    };
    // A name that every file system takes, whatever the id of the question.
    let is_plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_');
    let id = group.id.replace(|letter| !is_plain(letter), "_");
    let stem = format!("step_{}_question_{id}", group.step);
    let file = |ending| run.join("exports").join(format!("{stem}.{ending}"));
    let (count, id, step) = (sorted.len(), &group.id, group.step);
    ask(
        &format!("{count} completions of question {id} at step {step}"),
        vec![
            Form::new('j', "JSON lines", file("jsonl"), json),
            Form::new('m', "Markdown", file("md"), to_markdown(group, sorted)),
        ],
    )
}

fn to_json_lines(sorted: &[&CompletionRecord]) -> serde_json::Result<String> {
    let mut text = String::new();
    for record in sorted {
        text.push_str(&serde_json::to_string(record)?);
        text.push('\n');
    }
    Ok(text)
}

fn to_markdown(group: &Group, sorted: &[&CompletionRecord]) -> String {
    let mut text = format!(
        "# Question {} ({}) at step {}, epoch {}\n",
        group.id, group.question_type, group.step, group.epoch
    );
    let Some(first) = sorted.first() else {
        return text;
    };
    let (prompt, label) = (fenced(&first.prompt), fenced(&first.label));
    text += &format!("\n## Prompt\n\n{prompt}\n## Label\n\n{label}\n## Completions\n\n");
    text += "| sample | reward | advantage | tokens | finish reason |";
    text.extend(first.rewards.keys().map(|name| format!(" {name} |")));
    text += &format!("\n|{}\n", "---:|".repeat(5 + first.rewards.len()));
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
    for record in sorted {
        text += &format!(
            "| {} | {} | {} | {} | {} |",
            record.sample,
            number(record.reward),
            number(record.advantage),
            record.length,
            record.finish_reason
        );
        for name in first.rewards.keys() {
            let value = record.rewards.get(name).copied().flatten();
            text += &format!(" {} |", number(value));
        }
        text.push('\n');
    }
    for record in sorted {
        let completion = fenced(&record.completion);
        text += &format!("\n### Sample {}\n\n{completion}", record.sample);
    }
    text
}

/// A block that shows the text as it is, whatever it holds.
fn fenced(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max();
    let fence = "`".repeat(longest.unwrap_or(0).max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}
