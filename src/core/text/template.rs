//! Chat templates: a model's own Jinja, rendered as transformers renders it.
//!
//! The environment is that of `apply_chat_template` (transformers
//! `utils/chat_template_utils.py`): blocks trimmed, `loopcontrols`, Python's string and
//! dict methods, `tojson` without HTML escapes, `raise_exception`, `strftime_now`, and
//! `{% generation %}`, which marks text without changing it. A template comes with the model and
//! is not trusted: it can access neither files nor this process.

mod bindings;
mod bounds;
mod environment;
mod methods;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use minijinja::{Environment, Value};
use serde_json::Map;

use super::model_files::{read_object, token_text};

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Standing instructions.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that templates compare with.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// The special tokens that a template may write, by name (`bos_token`, `eos_token`, …).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    tokens: Vec<(String, String)>,
}

impl SpecialTokens {
    /// The `*_token` keys of `tokenizer_config.json`, then those of
    /// `special_tokens_map.json` that the former does not have. A folder without either has none.
    ///
    /// # Errors
    /// A file that is not a JSON object.
    pub fn from_model_dir(directory: &Path) -> Result<Self> {
        let mut special = Self::default();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let Some(object) = read_object(directory, name)? else {
                continue;
            };
            let extra = object
                .get("extra_special_tokens")
                .and_then(|extra| extra.as_object());
            for (key, value) in object.iter().chain(extra.into_iter().flatten()) {
                if let Some(text) = token_text(value).filter(|_| key.ends_with("_token")) {
                    special.insert(key, text);
                }
            }
        }
        Ok(special)
    }

    /// Adds a token, unless the name already has one.
    pub fn insert(&mut self, name: &str, text: &str) {
        if self.get(name).is_none() {
            self.tokens.push((name.to_owned(), text.to_owned()));
        }
    }

    /// The text of a token.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.tokens
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, text)| text.as_str())
    }
}

/// What a rendering depends on besides the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderOptions {
    /// End with the header of the assistant's turn, so that the model answers.
    /// Default false, as in transformers.
    pub add_generation_prompt: bool,
    /// `data.chat_template_kwargs`: variables for the template, which override its special
    /// tokens.
    pub kwargs: Map<String, serde_json::Value>,
    /// `data.date_string`: the template's current date. The template sees it as the variable
    /// `date_string`. `strftime_now` formats it if it is a date (`2025-07-04` or `04 Jul 2025`),
    /// else returns it unchanged. Without it, `strftime_now` uses the current time and prompts
    /// change from day to day.
    pub date_string: Option<String>,
}

/// A compiled chat template with the special tokens of its model.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    path: PathBuf,
    special_tokens: SpecialTokens,
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json` (a string, or a list of which `default` is taken), else
    /// `chat_template.json`.
    ///
    /// # Errors
    /// No template (a base model), several of which none is `default`, or one with a syntax error.
    /// The message names the file and how to fix it, `data.chat_template`.
    pub fn from_model_dir(directory: &Path) -> Result<Self> {
        let special_tokens = SpecialTokens::from_model_dir(directory)?;
        let path = directory.join("chat_template.jinja");
        if path.is_file() {
            return Self::from_file(&path, special_tokens);
        }
        for name in ["tokenizer_config.json", "chat_template.json"] {
            let path = directory.join(name);
            let Some(object) = read_object(directory, name)? else {
                continue;
            };
            if let Some(value) = object.get("chat_template")
                && !value.is_null()
            {
                let source = default_template(value, &path)?;
                return Self::compile(source, path, special_tokens);
            }
        }
        bail!(
            "{} has no chat template (chat_template.jinja, or chat_template in \
             tokenizer_config.json); set data.chat_template to the path of a Jinja file, for \
             example that of the model's -Instruct sibling",
            directory.display()
        )
    }

    /// A template file (`data.chat_template`): Jinja, or a JSON file with the key
    /// `chat_template`. The special tokens are those of the model it is used with.
    ///
    /// # Errors
    /// An unreadable file or a syntax error.
    pub fn from_file(path: &Path, special_tokens: SpecialTokens) -> Result<Self> {
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let directory = path.parent().unwrap_or(Path::new(""));
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let object = read_object(directory, &name)?
                .with_context(|| format!("{} does not exist", path.display()))?;
            let value = object
                .get("chat_template")
                .with_context(|| format!("{} has no key chat_template", path.display()))?;
            return Self::compile(
                default_template(value, path)?,
                path.to_owned(),
                special_tokens,
            );
        }
        let source = crate::regular_file::read_to_string(path)
            .with_context(|| format!("cannot read the chat template {}", path.display()))?;
        Self::compile(source, path.to_owned(), special_tokens)
    }

    /// The template that an experiment uses: the file of `data.chat_template` if one is
    /// given, else the model's own.
    ///
    /// # Errors
    /// Those of [`Self::from_file`] and [`Self::from_model_dir`].
    pub fn load(model_directory: &Path, chat_template: Option<&Path>) -> Result<Self> {
        match chat_template {
            Some(path) => Self::from_file(path, SpecialTokens::from_model_dir(model_directory)?),
            None => Self::from_model_dir(model_directory),
        }
    }

    fn compile(source: String, path: PathBuf, special_tokens: SpecialTokens) -> Result<Self> {
        let environment = environment::compile(&source)
            .with_context(|| format!("the chat template in {} does not compile", path.display()))?;
        Ok(Self {
            environment,
            source,
            path,
            special_tokens,
        })
    }

    /// The Jinja source, for fingerprints.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The file that the template came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The special tokens that the template sees.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special_tokens
    }

    /// Renders a conversation to the text that is tokenized (without adding special
    /// tokens: the template writes them).
    ///
    /// # Errors
    /// No message, or a template that fails or refuses the conversation
    /// (`raise_exception`), with the template's line.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String> {
        if messages.is_empty() {
            bail!("cannot render a chat template without a message");
        }
        let mut variables: Vec<(String, Value)> = self
            .special_tokens
            .tokens
            .iter()
            .map(|(name, text)| (name.clone(), Value::from(text)))
            .collect();
        if let Some(date) = &options.date_string {
            variables.push(("date_string".to_owned(), Value::from(date)));
        }
        variables.extend(
            options
                .kwargs
                .iter()
                .map(|(name, value)| (name.clone(), environment::value_of(value))),
        );
        let count = messages.len();
        let messages: Value = messages
            .iter()
            .map(|message| {
                Value::from_pairs([
                    ("role", Value::from(message.role.as_str())),
                    ("content", Value::from(&message.content)),
                ])
            })
            .collect();
        variables.extend([
            ("messages".to_owned(), messages),
            ("tools".to_owned(), Value::from(())),
            ("documents".to_owned(), Value::from(())),
            (
                "add_generation_prompt".to_owned(),
                Value::from(options.add_generation_prompt),
            ),
            (
                "strftime_now".to_owned(),
                environment::strftime_now(options.date_string.clone()),
            ),
        ]);
        environment::render(&self.environment, Value::from_pairs(variables)).with_context(|| {
            format!(
                "the chat template in {} cannot render a conversation of {} messages",
                self.path.display(),
                count
            )
        })
    }
}

/// `chat_template` as a string, or the entry `default` of a list of {name, template}.
fn default_template(value: &serde_json::Value, path: &Path) -> Result<String> {
    if let Some(source) = value.as_str() {
        return Ok(source.to_owned());
    }
    let mut names = Vec::new();
    for entry in value.as_array().into_iter().flatten() {
        let name = entry
            .get("name")
            .and_then(|name| name.as_str())
            .unwrap_or_default();
        if let (true, Some(source)) = (
            name == "default",
            entry.get("template").and_then(|source| source.as_str()),
        ) {
            return Ok(source.to_owned());
        }
        names.push(name);
    }
    bail!(
        "{}: chat_template is neither a string nor a list with an entry named \"default\" \
         (names found: {}); write the one you want to a file and set data.chat_template",
        path.display(),
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, text: &str) {
        std::fs::write(directory.join(name), text).unwrap();
    }

    fn user() -> Vec<Message> {
        vec![Message::new(Role::User, "말")]
    }

    fn rendered(directory: &Path, options: &RenderOptions) -> Result<String, String> {
        ChatTemplate::from_model_dir(directory)
            .and_then(|template| template.render(&user(), options))
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_template_is_found_in_each_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let options = RenderOptions::default();
        let message = rendered(path, &options).unwrap_err();
        assert!(message.contains("has no chat template"), "{message}");
        assert!(message.contains("data.chat_template"), "{message}");
        write(
            path,
            "chat_template.json",
            r#"{"chat_template": "json {{ messages[0].content }}"}"#,
        );
        assert_eq!(rendered(path, &options).unwrap(), "json 말");
        write(
            path,
            "tokenizer_config.json",
            r#"{"bos_token": {"content": "<s>"}, "eos_token": null, "add_bos_token": true,
                "chat_template": "config {{ bos_token }}{{ eos_token }}"}"#,
        );
        assert_eq!(rendered(path, &options).unwrap(), "config <s>");
        write(
            path,
            "special_tokens_map.json",
            r#"{"bos_token": "<other>", "eos_token": "</s>"}"#,
        );
        assert_eq!(rendered(path, &options).unwrap(), "config <s></s>");
        write(path, "chat_template.jinja", "jinja {{ eos_token }}\r\n\n");
        assert_eq!(rendered(path, &options).unwrap(), "jinja </s>\n");

        let file = path.join("other.jinja");
        write(path, "other.jinja", "other {{ eos_token }}");
        let template = ChatTemplate::load(path, Some(&file)).unwrap();
        assert_eq!(template.render(&user(), &options).unwrap(), "other </s>");
    }

    #[test]
    fn what_is_wrong_with_a_template_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let options = RenderOptions::default();
        for (template, expected) in [
            ("{% if %}", "does not compile"),
            (
                "{{ raise_exception('아니오') }}",
                "refused the conversation: 아니오",
            ),
            (
                "line\n{{ messages[0].content.nothing() }}",
                "chat_template:2",
            ),
            ("{{ missing.key }}", "undefined value"),
            ("{% include 'config.json' %}", "config.json"),
            (
                "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
                "recursion limit",
            ),
        ] {
            write(path, "chat_template.jinja", template);
            let message = rendered(path, &options).unwrap_err();
            assert!(message.contains(expected), "{template}: {message}");
            assert!(
                message.contains("chat_template.jinja"),
                "{template}: {message}"
            );
        }
        std::fs::remove_file(path.join("chat_template.jinja")).unwrap();
        write(
            path,
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "tool_use", "template": "x"}]}"#,
        );
        let message = rendered(path, &options).unwrap_err();
        assert!(message.contains("names found: tool_use"), "{message}");
        write(
            path,
            "tokenizer_config.json",
            "{\n  \"chat_template\" \"x\"}",
        );
        let message = rendered(path, &options).unwrap_err();
        assert!(
            message.contains("tokenizer_config.json") && message.contains("line 2"),
            "{message}"
        );
    }

    #[test]
    fn the_date_can_be_pinned() {
        let directory = tempfile::tempdir().unwrap();
        write(
            directory.path(),
            "chat_template.jinja",
            "{{ date_string }}|{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%-d %B') }}",
        );
        let with_date = |date: &str| {
            let options = RenderOptions {
                date_string: Some(date.to_owned()),
                ..Default::default()
            };
            rendered(directory.path(), &options).unwrap()
        };
        assert_eq!(with_date("2025-07-04"), "2025-07-04|04 Jul 2025|4 July");
        assert_eq!(with_date("04 Jul 2025"), "04 Jul 2025|04 Jul 2025|4 July");
        assert_eq!(with_date("오늘"), "오늘|오늘|오늘");
        let today = rendered(directory.path(), &RenderOptions::default()).unwrap();
        assert!(today.starts_with('|') && today.contains(" 20"), "{today}");
    }
}
