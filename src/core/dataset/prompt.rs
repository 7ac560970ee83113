//! Turns a question into the text that the model continues.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Instructions, QuestionType, Record};
use crate::text::{ChatTemplate, Message, RenderOptions, Role, answer};

/// The purpose of the draw in the hash that seeds it; changing it changes every draw.
const EXAMPLE_DRAW: &str = "moim few-shot examples v1";

/// The parts of a prompt.
#[derive(Debug)]
pub struct PromptSettings {
    /// `data.instruct`; `None` if the experiment names no file.
    pub instructions: Option<Instructions>,
    /// `data.system_prompt`: on its own line before the instructions.
    pub system_prompt: Option<String>,
    /// `data.few_shot`: the records that examples are drawn from; those without an answer are
    /// skipped.
    pub few_shot: Vec<Record>,
    /// `data.num_few_shot`: examples in a prompt.
    pub num_few_shot: usize,
    /// `data.question_prefix`, written before every question (default `"[질문]: "`).
    pub question_prefix: String,
    /// `run.seed`: together with the item's id it determines the examples.
    pub seed: u64,
    /// The model's chat template.
    pub template: ChatTemplate,
    /// How to render it; `add_generation_prompt` is always on here.
    pub render_options: RenderOptions,
}

/// Builds prompts: system message (general instruction, then that of the type), examples
/// of the same type as user and assistant turns, then the question.
#[derive(Debug)]
pub struct PromptBuilder {
    settings: PromptSettings,
    /// Examples with an answer, by type, as indices into `settings.few_shot`.
    by_type: HashMap<QuestionType, Vec<usize>>,
    /// All of them, for questions of an unknown type.
    all: Vec<usize>,
    /// Normalised questions of `settings.few_shot`.
    questions: Vec<String>,
}

impl PromptBuilder {
    /// Prepares the pools of examples.
    ///
    /// # Errors
    /// Examples are requested, but none has an answer.
    pub fn new(mut settings: PromptSettings) -> Result<Self> {
        settings.render_options.add_generation_prompt = true;
        let all: Vec<usize> = settings
            .few_shot
            .iter()
            .enumerate()
            .filter(|(_, record)| record.answer.is_some())
            .map(|(index, _)| index)
            .collect();
        if settings.num_few_shot > 0 && all.is_empty() {
            bail!(
                "data.num_few_shot = {}, but data.few_shot has no item with an answer; name a file \
                 that has one, or set data.num_few_shot = 0",
                settings.num_few_shot
            );
        }
        let mut by_type: HashMap<QuestionType, Vec<usize>> = HashMap::new();
        for index in &all {
            by_type
                .entry(settings.few_shot[*index].question_type.clone())
                .or_default()
                .push(*index);
        }
        let questions = settings
            .few_shot
            .iter()
            .map(|record| answer::normalize(&record.question))
            .collect();
        Ok(Self {
            settings,
            by_type,
            all,
            questions,
        })
    }

    /// Examples in a prompt by default (`data.num_few_shot`).
    pub fn num_few_shot(&self) -> usize {
        self.settings.num_few_shot
    }

    /// The template that prompts are rendered with.
    pub fn template(&self) -> &ChatTemplate {
        &self.settings.template
    }

    /// The conversation that ends with this question.
    ///
    /// # Errors
    /// Fewer examples of the type than `data.num_few_shot`, not counting the item itself.
    pub fn messages(&self, record: &Record) -> Result<Vec<Message>> {
        self.messages_with_examples(record, self.settings.num_few_shot)
    }

    /// [`Self::messages`] with `num_examples` instead of `data.num_few_shot`: the first ones of
    /// the same draw, so that fewer examples give a shorter form of the same prompt.
    ///
    /// # Errors
    /// Those of [`Self::messages`].
    pub fn messages_with_examples(
        &self,
        record: &Record,
        num_examples: usize,
    ) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        let system = self.system_message(&record.question_type);
        if !system.is_empty() {
            messages.push(Message::new(Role::System, system));
        }
        for example in self.examples(record, num_examples)? {
            messages.push(self.question(example));
            let answer = example.answer.as_deref().unwrap_or_default();
            messages.push(Message::new(Role::Assistant, answer));
        }
        messages.push(self.question(record));
        Ok(messages)
    }

    /// The prompt's text, for tokenizing without added special tokens.
    ///
    /// # Errors
    /// Those of [`Self::messages`], and a template that refuses the conversation.
    pub fn render(&self, record: &Record) -> Result<String> {
        self.render_with_examples(record, self.settings.num_few_shot)
    }

    /// [`Self::render`] with `num_examples` examples.
    ///
    /// # Errors
    /// Those of [`Self::render`].
    pub fn render_with_examples(&self, record: &Record, num_examples: usize) -> Result<String> {
        let messages = self.messages_with_examples(record, num_examples)?;
        self.settings
            .template
            .render(&messages, &self.settings.render_options)
            .with_context(|| {
                format!(
                    "cannot build the prompt of the item with id {:?}",
                    record.id
                )
            })
    }

    fn system_message(&self, question_type: &QuestionType) -> String {
        let instructions = self
            .settings
            .instructions
            .as_ref()
            .map_or_else(String::new, |instructions| {
                instructions.for_type(question_type)
            });
        match self.settings.system_prompt.as_deref() {
            None | Some("") => instructions,
            Some(system_prompt) if instructions.is_empty() => system_prompt.to_owned(),
            Some(system_prompt) => format!("{system_prompt}\n{instructions}"),
        }
    }

    fn question(&self, record: &Record) -> Message {
        let content = format!("{}{}", self.settings.question_prefix, record.question);
        Message::new(Role::User, content)
    }

    /// `num_examples` records of the type of `record`, drawn without replacement by (seed, id). The
    /// item itself, recognised by its id or its question, is never drawn.
    fn examples(&self, record: &Record, num_examples: usize) -> Result<Vec<&Record>> {
        if num_examples == 0 {
            return Ok(Vec::new());
        }
        let pool = match &record.question_type {
            QuestionType::Other(_) => self.all.as_slice(),
            known => self.by_type.get(known).map_or(&[][..], Vec::as_slice),
        };
        let question = answer::normalize(&record.question);
        let mut candidates: Vec<usize> = pool
            .iter()
            .copied()
            .filter(|index| {
                self.settings.few_shot[*index].id != record.id && self.questions[*index] != question
            })
            .collect();
        if candidates.len() < num_examples {
            bail!(
                "the item with id {:?} ({}) needs {num_examples} examples of its type, but \
                 data.few_shot has {} besides the item itself; lower data.num_few_shot or add \
                 examples",
                record.id,
                record.question_type.name(),
                candidates.len()
            );
        }
        let mut random = example_generator(self.settings.seed, &record.id);
        // The first steps of Fisher-Yates: a shorter draw is the start of a longer one.
        for drawn in 0..num_examples {
            let left = (candidates.len() - drawn) as u128;
            let step = (u128::from(random.next_u64()) * left) >> 64;
            candidates.swap(drawn, drawn + step as usize);
        }
        candidates.truncate(num_examples);
        Ok(candidates
            .into_iter()
            .map(|index| &self.settings.few_shot[index])
            .collect())
    }
}

fn example_generator(seed: u64, id: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key(EXAMPLE_DRAW);
    hasher.update(&seed.to_le_bytes());
    hasher.update(id.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::text::SpecialTokens;

    fn record(id: usize, question_type: QuestionType) -> Record {
        Record {
            id: id.to_string(),
            question_type,
            question: format!("질문 {id}"),
            answer: Some(format!("답 {id}")),
            raw: Value::Null,
        }
    }

    fn builder(num_few_shot: usize, seed: u64) -> PromptBuilder {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("template.jinja");
        std::fs::write(&path, "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}").unwrap();
        let mut few_shot: Vec<Record> = (0..10)
            .map(|id| record(id, QuestionType::Selection))
            .collect();
        few_shot.extend((10..13).map(|id| record(id, QuestionType::Correction)));
        few_shot.push(Record {
            answer: None,
            ..record(13, QuestionType::Correction)
        });
        PromptBuilder::new(PromptSettings {
            instructions: Some(Instructions {
                prompt: "일반. ".to_owned(),
                selection_prompt: "선택.".to_owned(),
                correction_prompt: "교정.".to_owned(),
            }),
            system_prompt: None,
            few_shot,
            num_few_shot,
            question_prefix: "[질문]: ".to_owned(),
            seed,
            template: ChatTemplate::from_file(&path, SpecialTokens::default()).unwrap(),
            render_options: RenderOptions::default(),
        })
        .unwrap()
    }

    #[test]
    fn a_prompt_is_instructions_examples_and_the_question() {
        let builder = builder(1, 42);
        let item = record(10, QuestionType::Correction);
        let text = builder.render(&item).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "system:일반. 교정.");
        assert!(
            ["user:[질문]: 질문 11", "user:[질문]: 질문 12"].contains(&lines[1]),
            "{text}"
        );
        assert_eq!(
            lines[2],
            lines[1].replace("user:[질문]: 질문", "assistant:답")
        );
        assert_eq!(lines[3..], ["user:[질문]: 질문 10", "assistant:"]);
    }

    #[test]
    fn draws_are_seeded_nested_and_never_the_item_itself() {
        let builder = builder(4, 42);
        let item = record(3, QuestionType::Selection);
        let four = builder.messages(&item).unwrap();
        assert_eq!(four, builder.messages(&item).unwrap());
        let two = builder.messages_with_examples(&item, 2).unwrap();
        assert_eq!(two[..5], four[..5]);
        assert_eq!(builder.messages_with_examples(&item, 0).unwrap().len(), 2);
        assert_ne!(four, self::builder(4, 43).messages(&item).unwrap());

        let asks = |messages: &[Message], question: &str| {
            messages
                .iter()
                .filter(|message| message.content.ends_with(question))
                .count()
        };
        for id in 0..10 {
            let item = record(id, QuestionType::Selection);
            let all = builder.messages_with_examples(&item, 9).unwrap();
            assert_eq!(asks(&all, &item.question), 1, "its own example");
            let renamed = Record {
                id: "other".to_owned(),
                ..item
            };
            let all = builder.messages_with_examples(&renamed, 9).unwrap();
            assert_eq!(
                asks(&all, &renamed.question),
                1,
                "an example of the same question"
            );
            assert!(builder.messages_with_examples(&renamed, 10).is_err());
        }
    }

    #[test]
    fn too_few_examples_are_an_error_and_unknown_types_draw_from_all() {
        let builder = builder(3, 42);
        let message = builder
            .messages(&record(10, QuestionType::Correction))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("id \"10\" (교정형) needs 3 examples"),
            "{message}"
        );
        let other = record(99, QuestionType::Other("서술형".to_owned()));
        let messages = builder.messages_with_examples(&other, 13).unwrap();
        assert_eq!(messages.len(), 1 + 26 + 1);
        assert_eq!(messages[0].content, "일반. ");
    }

    #[test]
    fn the_first_draws_are_pinned() {
        // A change of generator or hash would silently change every recorded run.
        let builder = builder(3, 42);
        let drawn: Vec<&str> = builder
            .examples(&record(3, QuestionType::Selection), 3)
            .unwrap()
            .iter()
            .map(|record| record.id.as_str())
            .collect();
        assert_eq!(drawn, ["1", "4", "8"]);
    }
}
