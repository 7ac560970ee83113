//! Checks the model's prompt and the end tokens.

use serde_json::{Value, json};

use crate::setup::{Question, Texts};
use moim_core::findings::Check;
use moim_core::text::{Message, RenderOptions, Role};

/// Characters of the prompt that the message shows, from its start and from its end.
const SHOWN: usize = 60;

/// One training prompt as the model reads it: complete in the details, shortened in the message.
///
/// A chat template can drop messages. Without the question nothing can be learned; without the system
/// message or the examples, not what was intended.
pub fn prompt(texts: &Texts) -> Check {
    const NAME: &str = "prompt";
    let Some(question) = texts.train.kept.first() else {
        return Check::error(NAME, "data.train has no prompt");
    };
    let details = json!({
        "id": question.record.id,
        "tokens": question.prompt.tokens.len(),
        "text": question.text,
    });
    let messages = match texts.builder.messages(&question.record) {
        Ok(messages) => messages,
        Err(error) => return Check::error(NAME, format!("{error:#}")).with(details),
    };
    let template = texts.builder.template().path().display();
    let lost = |role: Role| {
        messages
            .iter()
            .any(|message| message.role == role && !is_in(&question.text, message))
    };
    if messages
        .last()
        .is_some_and(|asked| !is_in(&question.text, asked))
    {
        let message = format!(
            "{template}: the chat template leaves out the question of item {:?}, so the model never \
             sees it; use another template (data.chat_template)",
            question.record.id
        );
        return Check::error(NAME, message).with(details);
    }
    let roles = [
        (Role::System, "the system message"),
        (Role::User, "an example's question"),
        (Role::Assistant, "an example's answer"),
    ];
    // A prompt that was too long has fewer examples, which another check reports.
    let is_shortened = texts.train.shortened.contains(&question.record.id);
    let lost: Vec<&str> = roles
        .into_iter()
        .filter(|(role, _)| (*role == Role::System || !is_shortened) && lost(*role))
        .map(|(_, name)| name)
        .collect();
    if !lost.is_empty() {
        let message = format!(
            "{template}: the chat template leaves out or changes {}; see the prompt with moim plan \
             --check, or use another template (data.chat_template)",
            lost.join(" and ")
        );
        return Check::warning(NAME, message).with(details);
    }
    let message = format!(
        "item {:?}, {} tokens: {:?}",
        question.record.id,
        question.prompt.tokens.len(),
        shortened(&question.text)
    );
    Check::ok(NAME, message).with(details)
}

/// Whether a prompt contains a message. Templates can trim messages.
fn is_in(prompt: &str, message: &Message) -> bool {
    prompt.contains(message.content.trim())
}

/// The text, or its start and end if it is long.
fn shortened(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= 2 * SHOWN {
        return text.to_owned();
    }
    let end = characters.len() - SHOWN;
    let part = |range: &[char]| range.iter().collect::<String>();
    format!(
        "{} … {}",
        part(&characters[..SHOWN]),
        part(&characters[end..])
    )
}

/// The end tokens, and whether the token that the chat template writes after an answer is one.
pub fn stop(texts: &Texts) -> Check {
    const NAME: &str = "stop";
    let tokens: Vec<Value> = texts
        .stop
        .tokens()
        .iter()
        .map(|token| json!({ "id": token.id, "text": token.text, "sources": token.sources }))
        .collect();
    let details = json!({ "tokens": tokens });
    let listed: Vec<String> = texts
        .stop
        .tokens()
        .iter()
        .map(|token| format!("{} {:?}", token.id, token.text))
        .collect();
    let turn_end = texts
        .train
        .kept
        .first()
        .and_then(|question| end_of_turn(texts, question));
    match turn_end {
        Some(id) if !texts.stop.contains(id) => {
            let text = texts.tokenizer.id_to_token(id).unwrap_or_default();
            let message = format!(
                "{}: the chat template ends an answer with {text:?} ({id}), which is not an end token, so \
                 completions continue to their limit; write rollout.stop_token_ids = {:?} (the end tokens \
                 are {})",
                texts.builder.template().path().display(),
                [&texts.experiment.rollout.stop_token_ids[..], &[id]].concat(),
                listed.join(", ")
            );
            Check::warning(NAME, message).with(details)
        }
        _ => Check::ok(NAME, format!("completions end at {}", listed.join(", "))).with(details),
    }
}

/// The special token after an answer in the template's own rendering; `None` if there is none or the
/// template refuses.
fn end_of_turn(texts: &Texts, question: &Question) -> Option<u32> {
    let answer = question.record.answer.as_deref()?.trim();
    let data = &texts.experiment.data;
    let mut messages = texts.builder.messages(&question.record).ok()?;
    messages.push(Message::new(Role::Assistant, answer));
    let options = RenderOptions {
        add_generation_prompt: false,
        kwargs: data.chat_template_kwargs.clone(),
        date_string: data.date_string.clone(),
    };
    let whole = texts.builder.template().render(&messages, &options).ok()?;
    let after = &whole[whole.rfind(answer)? + answer.len()..];
    let tokens = texts.tokenizer.encode(after.trim_start(), false).ok()?;
    let first = *tokens.first()?;
    // Decoding skips special tokens.
    let is_special = texts.tokenizer.decode(&[first], true).ok()?.is_empty();
    is_special.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Folder;
    use super::*;
    use moim_core::findings::Severity;

    #[test]
    fn the_prompt_is_shown_with_its_tokens_and_the_end_of_a_turn_is_an_end_token() {
        let folder = Folder::new();
        let texts = folder.texts(|_| ());
        let shown = prompt(&texts);
        assert_eq!(shown.severity, Severity::Ok, "{}", shown.message);
        assert_eq!(shown.details["text"], json!(texts.train.kept[0].text));
        assert!(shown.message.contains("tokens: \""), "{}", shown.message);
        let ends = stop(&texts);
        assert_eq!(ends.severity, Severity::Ok, "{}", ends.message);
        assert!(ends.message.contains("<|im_end|>"), "{}", ends.message);
    }

    #[test]
    fn a_template_that_drops_the_question_is_an_error_and_one_that_drops_the_rest_a_warning() {
        let folder = Folder::new();
        folder.write("deaf.jinja", "{{ messages[0].content }}");
        folder.write("rude.jinja", "{{ messages[-1].content }}");
        let with = |template: &str| {
            let path = folder.path(template);
            folder.texts(|experiment| {
                experiment.data.chat_template = Some(path);
                experiment.data.system_prompt = Some("바르게 답하라.".to_owned());
            })
        };
        let deaf = prompt(&with("deaf.jinja"));
        assert_eq!(deaf.severity, Severity::Error);
        assert!(deaf.message.contains("deaf.jinja"), "{}", deaf.message);
        let rude = prompt(&with("rude.jinja"));
        assert_eq!(rude.severity, Severity::Warning);
        assert!(
            rude.message.contains("the system message"),
            "{}",
            rude.message
        );
    }

    #[test]
    fn a_turn_that_ends_without_an_end_token_is_a_warning() {
        let folder = Folder::new();
        // The header of a turn is a special token that no file names as an end.
        folder.write(
            "other.jinja",
            "{% for m in messages %}{{ m.content }}<|im_start|>{% endfor %}",
        );
        let path = folder.path("other.jinja");
        let texts = folder.texts(|experiment| experiment.data.chat_template = Some(path));
        let ends = stop(&texts);
        assert_eq!(ends.severity, Severity::Warning, "{}", ends.message);
        assert!(
            ends.message.contains("<|im_start|>")
                && ends.message.contains("rollout.stop_token_ids"),
            "{}",
            ends.message
        );
    }

    #[test]
    fn a_long_prompt_is_shortened_to_its_start_and_end() {
        let text = "가".repeat(200);
        assert_eq!(shortened(&text).chars().count(), 2 * SHOWN + 3);
        assert_eq!(shortened("짧다"), "짧다");
    }
}
