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
    let form = |key, label: &str, ending, text| Form {
        key,
        label: label.to_owned(),
        file: run.join("exports").join(file_name(group, ending)),
        text,
    };
    ask(
        &format!(
            "{} completions of question {} at step {}",
            sorted.len(),
            group.id,
            group.step
        ),
        vec![
            form('j', "JSON lines", "jsonl", json),
            form('m', "Markdown", "md", to_markdown(group, sorted)),
        ],
    )
}

/// A name that every file system takes, whatever the id of the question.
fn file_name(group: &Group, extension: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_');
    let id: String = group
        .id
        .chars()
        .map(|letter| if is_plain(letter) { letter } else { '_' })
        .collect();
    format!("step_{}_question_{id}.{extension}", group.step)
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
    text.push_str(&format!("\n## Prompt\n\n{}", fenced(&first.prompt)));
    text.push_str(&format!(
        "\n## Label\n\n{}\n## Completions\n\n",
        fenced(&first.label)
    ));
    text.push_str("| sample | reward | advantage | tokens | finish reason |");
    let names: Vec<&String> = first.rewards.keys().collect();
    text.extend(names.iter().map(|name| format!(" {name} |")));
    text.push_str(&format!("\n|{}\n", "---:|".repeat(5 + names.len())));
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
    for record in sorted {
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} |",
            record.sample,
            number(record.reward),
            number(record.advantage),
            record.length,
            record.finish_reason
        ));
        let value = |name: &String| record.rewards.get(name).copied().flatten();
        text.extend(
            names
                .iter()
                .map(|name| format!(" {} |", number(value(name)))),
        );
        text.push('\n');
    }
    for record in sorted {
        text.push_str(&format!(
            "\n### Sample {}\n\n{}",
            record.sample,
            fenced(&record.completion)
        ));
    }
    text
}

/// A block that shows the text as it is, whatever it holds.
fn fenced(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max();
    let fence = "`".repeat(longest.unwrap_or(0).max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}
