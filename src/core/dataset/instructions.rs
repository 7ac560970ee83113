//! The instructions before the questions: `instruct.json`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::QuestionType;

const KEYS: [&str; 3] = ["prompt", "selection_prompt", "correction_prompt"];

/// A key this close to a known one (Jaro-Winkler) is considered a typing error.
const TYPING_ERROR_SIMILARITY: f64 = 0.9;
/// Keys longer than this, in bytes, are not compared.
const LONGEST_SLIP: usize = 100;

/// The general instruction and those of each question type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Written before every question.
    pub prompt: String,
    /// Follows it for 선택형; default empty.
    pub selection_prompt: String,
    /// Follows it for 교정형; default empty.
    pub correction_prompt: String,
}

impl Instructions {
    /// Reads a JSON object with `prompt`, `selection_prompt` and `correction_prompt`, each
    /// a string; `prompt` is required.
    ///
    /// # Errors
    /// An unreadable file, bad JSON (with line and column), a value that is not a string, or a
    /// misspelt one of the three keys. Other keys are ignored.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = crate::regular_file::read_to_string(path)
            .with_context(|| format!("cannot read {shown}"))?;
        let value: Value = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text))
            .with_context(|| format!("{shown} is not valid JSON"))?;
        let Value::Object(fields) = value else {
            bail!(
                "{shown}: is not a JSON object; write {{\"prompt\": \"…\", \"selection_prompt\": \
                 \"…\", \"correction_prompt\": \"…\"}}"
            );
        };
        // A longer key is not a typing error, and comparing it would take long.
        let unknown = |key: &&String| !KEYS.contains(&key.as_str()) && key.len() <= LONGEST_SLIP;
        for key in fields.keys().filter(unknown) {
            let near = KEYS
                .iter()
                .find(|known| strsim::jaro_winkler(known, key) >= TYPING_ERROR_SIMILARITY);
            if let Some(known) = near {
                bail!("{shown}: unknown key {key:?}; did you mean {known:?}?");
            }
        }
        let text_of = |key: &str| match fields.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => bail!("{shown}: {key} is {other}; write it as one string"),
        };
        let prompt = text_of("prompt")?.with_context(|| {
            format!("{shown}: the key prompt, the general instruction, is missing")
        })?;
        Ok(Self {
            prompt,
            selection_prompt: text_of("selection_prompt")?.unwrap_or_default(),
            correction_prompt: text_of("correction_prompt")?.unwrap_or_default(),
        })
    }

    /// The general prompt followed directly by that of the type; unknown types have only the
    /// general one.
    pub fn for_type(&self, question_type: &QuestionType) -> String {
        let of_type = match question_type {
            QuestionType::Selection => self.selection_prompt.as_str(),
            QuestionType::Correction => self.correction_prompt.as_str(),
            QuestionType::Other(_) => "",
        };
        format!("{}{of_type}", self.prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Instructions, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Instructions::load(file.path()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_prompt_of_the_type_follows_the_general_one() {
        let instructions = load(
            r#"{"prompt": "일반.\n", "selection_prompt": "선택.", "correction_prompt": "교정.", "note": 1}"#,
        )
        .unwrap();
        assert_eq!(
            instructions.for_type(&QuestionType::Selection),
            "일반.\n선택."
        );
        assert_eq!(
            instructions.for_type(&QuestionType::Correction),
            "일반.\n교정."
        );
        assert_eq!(
            instructions.for_type(&QuestionType::Other("서술형".to_owned())),
            "일반.\n"
        );
    }

    #[test]
    fn faults_name_the_key() {
        assert!(
            load("{\"prompt\": \"a\", \"selction_prompt\": \"b\"}")
                .unwrap_err()
                .contains("did you mean \"selection_prompt\"")
        );
        assert!(
            load("{\"prompt\": [\"a\"]}")
                .unwrap_err()
                .contains("write it as one string")
        );
        assert!(
            load("{\"selection_prompt\": \"a\"}")
                .unwrap_err()
                .contains("the key prompt, the general instruction, is missing")
        );
        assert!(load("{\"prompt\": \n").unwrap_err().contains("line 2"));
        assert!(load("[]").unwrap_err().contains("is not a JSON object"));
    }
}
