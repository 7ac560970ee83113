//! Interprets file names: whether it is an answer file, its epoch, and its natural order.

use std::cmp::Ordering;

/// Whether a directory entry with this name is an answer file: `*.json`, except hidden files and
/// temporary files that a writer has not published yet.
pub fn is_answer_file(name: &str) -> bool {
    let lower = name.to_lowercase();
    let Some(stem) = lower.strip_suffix(".json") else {
        return false;
    };
    let is_temporary = [".tmp", ".temp", ".partial", ".part", "~"]
        .iter()
        .any(|suffix| stem.ends_with(suffix));
    !stem.is_empty() && !lower.starts_with(['.', '~', '#']) && !is_temporary
}

/// The epoch of an answer file: the last whole number that follows "epoch", with
/// or without a separator (`inference_epoch3.json`, `epoch-12_dev_results.json`).
pub fn epoch_of(name: &str) -> Option<u64> {
    let lower = name.to_lowercase();
    lower
        .match_indices("epoch")
        .filter_map(|(start, word)| {
            let rest = lower[start + word.len()..].trim_start_matches(['_', '-', ' ', '=', '.']);
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            rest[..digits].parse().ok()
        })
        .last()
}

/// Natural order: runs of digits by value (`epoch9` before `epoch10`), the rest by characters. A total
/// order: only equal names are equal.
pub fn natural_order(left: &str, right: &str) -> Ordering {
    let (mut left_rest, mut right_rest) = (left, right);
    loop {
        let (left_run, right_run) = (leading_digits(left_rest), leading_digits(right_rest));
        let order = if left_run.is_empty() || right_run.is_empty() {
            match (left_rest.chars().next(), right_rest.chars().next()) {
                (None, None) => return left.cmp(right),
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(left_char), Some(right_char)) => {
                    left_rest = &left_rest[left_char.len_utf8()..];
                    right_rest = &right_rest[right_char.len_utf8()..];
                    left_char.cmp(&right_char)
                }
            }
        } else {
            left_rest = &left_rest[left_run.len()..];
            right_rest = &right_rest[right_run.len()..];
            compare_numbers(left_run, right_run)
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn leading_digits(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    &text[..end]
}

/// By value, for numbers of any length.
fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_read_from_many_names() {
        let cases = [
            ("inference_epoch0.json", Some(0)),
            ("inference_epoch12.json", Some(12)),
            ("epoch3_dev_results.json", Some(3)),
            ("Epoch-007.json", Some(7)),
            ("epoch_1_of_epoch_5.json", Some(5)),
            ("epochs.json", None),
            ("answers.json", None),
            ("2025_epoch.json", None),
            ("말평_epoch 4.json", Some(4)),
        ];
        for (name, epoch) in cases {
            assert_eq!(epoch_of(name), epoch, "{name}");
        }
    }

    #[test]
    fn temporaries_are_not_answer_files() {
        for name in ["inference_epoch1.json", "답변.JSON", "a.b.json"] {
            assert!(is_answer_file(name), "{name}");
        }
        for name in [
            ".inference_epoch1.json",
            "inference_epoch1.json.tmp",
            "inference_epoch1.tmp.json",
            "inference_epoch1.partial.json",
            "inference_epoch1.json.partial",
            "a~.json",
            "#a.json",
            ".json",
            "notes.txt",
        ] {
            assert!(!is_answer_file(name), "{name}");
        }
    }

    #[test]
    fn natural_order_counts() {
        let mut names = ["e10", "e9", "e1", "e01", "e", "f0", "e9b", "e9a"];
        names.sort_by(|left, right| natural_order(left, right));
        assert_eq!(names, ["e", "e01", "e1", "e9", "e9a", "e9b", "e10", "f0"]);
        assert_eq!(natural_order("한10", "한9"), Ordering::Greater);
    }
}
