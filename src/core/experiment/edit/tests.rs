use proptest::prelude::*;

use super::*;

/// A file that uses every form: a header, a dotted section, a section in braces, comments in odd
/// places, a value over several lines and a table with a separate header.
const FILE: &str = r#"# 실험 하나: 다섯 에폭
grpo.beta = 0.04   # KL
grpo.num_generations = 4

rollout = { temperature = 1.0, top_k = 20 } # braces

[model]
  path = "models/tiny"   # where it lies
  # device = "cpu"

[data]
train = 'train.json'
eval = "dev.json" # 평가

# a date that stays
date_string = "22 Nov 2026"
[data.chat_template_kwargs]
enable_thinking = false

[lora]
# nothing here yet

[reward]
answer_endings = [
  "가 옳다", # first
  "이 옳다",
]
[[reward.commands]]
name = "length"
command = ["./length"]"#;

fn document(text: &str) -> Document {
    Document::parse(text).unwrap()
}

/// The text after one change.
fn after(text: &str, key: &str, value: &str) -> String {
    let mut document = document(text);
    document.set(key, value).unwrap();
    document.text().to_owned()
}

fn value_in(text: &str, key: &str) -> Option<String> {
    read::read(text, &[]).finish().0.get(key)
}

/// What of `before` is not in `after`, and what of `after` was not in `before`.
fn changed<'a>(before: &'a str, after: &'a str) -> (&'a str, &'a str) {
    let pairs = before.char_indices().zip(after.chars());
    let start = pairs
        .take_while(|((_, old), new)| old == new)
        .map(|((at, old), _)| at + old.len_utf8())
        .last()
        .unwrap_or(0);
    let (old, new) = (&before[start..], &after[start..]);
    let end: usize = old
        .chars()
        .rev()
        .zip(new.chars().rev())
        .take_while(|(old, new)| old == new)
        .map(|(old, _)| old.len_utf8())
        .sum();
    (&old[..old.len() - end], &new[..new.len() - end])
}

#[test]
fn a_value_is_replaced_in_place() {
    for (key, value, old, new) in [
        ("model.path", "models/큰 모델", "tiny", "큰 모델"),
        ("grpo.beta", "0.1", "04", "1"),
        ("rollout.top_k", "5", "20", "5"),
        ("data.train", "data/train.json", "'t", "\"data/t"),
    ] {
        let text = after(FILE, key, value);
        let (was, is) = changed(FILE, &text);
        let is_it = was.starts_with(old) || old.starts_with(was);
        assert!(
            is_it && (is.starts_with(new) || new.starts_with(is)),
            "{key}: {was} to {is}"
        );
    }
    let text = after(FILE, "reward.answer_endings", "[\"끝\"]");
    assert!(
        text.contains("[reward]\nanswer_endings = [\"끝\"]\n[[reward.commands]]"),
        "{text}"
    );
}

#[test]
fn a_new_key_is_added_at_the_end_of_its_section() {
    for (key, value, expected) in [
        (
            "grpo.epsilon",
            "0.3",
            "grpo.num_generations = 4\ngrpo.epsilon = 0.3\n\nrollout",
        ),
        (
            "rollout.top_p",
            "0.9",
            "{ temperature = 1.0, top_k = 20, top_p = 0.9 } # braces\n",
        ),
        (
            "model.device",
            "cpu",
            "# where it lies\n  device = \"cpu\"\n  # device = \"cpu\"\n",
        ),
        (
            "data.num_few_shot",
            "2",
            "2026\"\nnum_few_shot = 2\n[data.chat_template_kwargs]\n",
        ),
        ("lora.r", "16", "[lora]\nr = 16\n# nothing here yet\n"),
        (
            "reward.formula",
            "format",
            "]\nformula = \"format\"\n[[reward.commands]]\n",
        ),
        (
            "run.seed",
            "7",
            "command = [\"./length\"]\n\n[run]\nseed = 7\n",
        ),
    ] {
        let text = after(FILE, key, value);
        assert!(text.contains(expected), "{key}: {text}");
        assert_eq!(changed(FILE, &text).0, "", "{key}");
    }
    assert_eq!(after("", "run.seed", "7"), "[run]\nseed = 7\n");
    assert_eq!(after("grpo = {}", "grpo.beta", "1"), "grpo = { beta = 1 }");
    assert_eq!(
        after("[data.chat_template_kwargs]\na = 1\n", "data.train", "t"),
        "[data.chat_template_kwargs]\na = 1\n\n[data]\ntrain = \"t\"\n"
    );
}

#[test]
fn line_endings_stay_unchanged() {
    let windows = FILE.replace('\n', "\r\n");
    let text = after(&after(&windows, "lora.r", "16"), "run.seed", "7");
    assert!(text.contains("[lora]\r\nr = 16\r\n# nothing"), "{text}");
    assert!(text.ends_with("\r\n\r\n[run]\r\nseed = 7\r\n"), "{text}");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
}

#[test]
fn a_key_is_removed_with_its_line() {
    for (key, gone) in [
        ("grpo.beta", "grpo.beta = 0.04   # KL\n"),
        ("model.path", "  path = \"models/tiny\"   # where it lies\n"),
        ("rollout.temperature", "temperature = 1.0, "),
        ("rollout.top_k", ", top_k = 20"),
        ("run.seed", ""),
    ] {
        let mut document = document(FILE);
        document.unset(key).unwrap();
        assert_eq!(document.text(), FILE.replacen(gone, "", 1), "{key}");
        assert_eq!(document.get(key), None);
    }
    let mut document = document(FILE);
    document.unset("reward.answer_endings").unwrap();
    assert!(document.text().contains("[reward]\n[[reward.commands]]"));
}

#[test]
fn what_cannot_be_changed_in_place_is_refused_and_nothing_is_lost() {
    let mut document = document(FILE);
    let refused = document.set("reward.commands", "[]").unwrap_err();
    assert!(refused.to_string().contains("in an editor"), "{refused}");
    assert!(document.unset("data.chat_template_kwargs").is_err());
    assert_eq!(
        document.set("grpo.betta", "1"),
        Err(EditError::UnknownKey("grpo.betta".to_owned()))
    );
    assert_eq!(document.text(), FILE);
    let not_toml = Document::parse("[model]\npath = \n").unwrap_err();
    assert!(
        not_toml.to_string().starts_with("line 2 is not TOML"),
        "{not_toml}"
    );
    let no_section = Document::parse("grpo = 1").unwrap().set("grpo.beta", "1");
    assert_eq!(no_section, Err(EditError::NoSection("grpo".to_owned())));
}

#[test]
fn a_refused_value_leaves_the_default_and_a_fault() {
    let mut document = document(FILE);
    document.set("grpo.num_generations", "여덟").unwrap();
    document
        .set("grpo.gradient_accumulation_steps", "4")
        .unwrap();
    let (experiment, faults) = document.understood();
    assert_eq!((experiment.batch().g, experiment.batch().a), (8, 4));
    let fault = faults
        .iter()
        .find(|fault| fault.key == "grpo.num_generations");
    assert_eq!(fault.and_then(Fault::line), Some(3));
}

#[test]
fn quotes_are_added_automatically() {
    for (key, typed, written) in [
        ("model.path", "models/a b", "\"models/a b\""),
        ("model.path", "\"models/a\"", "\"models/a\""),
        ("run.name", "2026", "\"2026\""),
        ("run.name", "참 = 거짓", "\"참 = 거짓\""),
        ("run.name", "a # b", "\"a # b\""),
        ("grpo.learning_rate", " 1e-5 ", "1e-5"),
        ("grpo.beta", "viel", "\"viel\""),
        ("grpo.beta", "1, x = 2", "\"1, x = 2\""),
        ("lora.target_modules", "all-linear", "\"all-linear\""),
        ("data.shuffle_dataset", "3", "3"),
        ("bertscore.model", "none", "\"none\""),
    ] {
        let text = after("", key, typed);
        let name = key.split_once('.').unwrap().1;
        assert!(
            text.ends_with(&format!("\n{name} = {written}\n")),
            "{typed}: {text}"
        );
    }
    let pattern = r#"^"[^"]+"[이가] 옳다\.?"#;
    let text = after(FILE, "reward.format_pattern", pattern);
    assert_eq!(
        document(&text).typed("reward.format_pattern").as_deref(),
        Some(pattern)
    );
}

#[test]
fn values_are_offered_on_one_line() {
    let document = document(FILE);
    let typed = |key: &str| document.typed(key).unwrap();
    assert_eq!(typed("model.path"), "models/tiny");
    assert_eq!(typed("rollout.temperature"), "1.0");
    assert_eq!(typed("reward.answer_endings"), "[\"가 옳다\", \"이 옳다\"]");
    assert!(document.get("reward.commands").unwrap().contains("length"));
    let quoted = Document::parse(
        "[run]\nname = \"true\"\n[data]\nsystem_prompt = \"\"\"a\nb\"\"\"\nquestion_prefix = ' '",
    );
    let quoted = quoted.unwrap();
    assert_eq!(quoted.typed("run.name").as_deref(), Some("true"));
    assert_eq!(
        quoted.typed("data.system_prompt").as_deref(),
        Some("\"a\\nb\"")
    );
    assert_eq!(
        quoted.typed("data.question_prefix").as_deref(),
        Some("\" \"")
    );
}

/// Any value that a key may have, as TOML, by what the key says it expects.
fn values(expected: &str) -> BoxedStrategy<toml::Value> {
    let words: Vec<String> = expected
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|word| !matches!(*word, "cuda:N" | "none"))
        .map(str::to_owned)
        .collect();
    let text = || any::<String>().prop_map(toml::Value::String);
    match expected {
        _ if expected.starts_with("a whole number") => {
            (0i64..1 << 40).prop_map(toml::Value::Integer).boxed()
        }
        _ if expected.starts_with("a number") => (-1e9..1e9).prop_map(toml::Value::Float).boxed(),
        _ if expected.starts_with("true") => any::<bool>().prop_map(toml::Value::Boolean).boxed(),
        _ if expected.starts_with("a string") || expected.starts_with("a path") => text().boxed(),
        _ if expected.starts_with("an array in brackets, each element a string") => {
            prop::collection::vec(text(), 0..3)
                .prop_map(toml::Value::Array)
                .boxed()
        }
        _ if expected.starts_with("an array in brackets, each element a whole") => {
            prop::collection::vec((0i64..99).prop_map(toml::Value::Integer), 0..3)
                .prop_map(toml::Value::Array)
                .boxed()
        }
        _ if expected.starts_with("a table") => text()
            .prop_map(|text| toml::Value::Table([("tone".to_owned(), text)].into_iter().collect()))
            .boxed(),
        _ if expected.contains("array") => prop::sample::subsequence(words, 1..=2)
            .prop_map(|words| {
                toml::Value::Array(
                    words
                        .into_iter()
                        .filter(|word| word != "all-linear")
                        .map(toml::Value::String)
                        .collect(),
                )
            })
            .boxed(),
        _ => prop::sample::select(words)
            .prop_map(toml::Value::String)
            .boxed(),
    }
}

/// A key that fits on one line anywhere, with a value for it.
fn settings() -> impl Strategy<Value = (String, toml::Value)> {
    let keys: Vec<(String, String)> = Experiment::keys()
        .into_iter()
        .filter(|key| key.path() != "reward.commands")
        .map(|key| (key.path(), key.expected))
        .collect();
    prop::sample::select(keys).prop_flat_map(|(path, expected)| (Just(path), values(&expected)))
}

fn files() -> impl Strategy<Value = String> {
    let smallest = "[model]\npath = \"m\" # 모델\n\n[data]\ntrain = \"t\"\neval = \"e\"";
    let braces = "model = {path=\"m\"}\ndata = { train = 't', eval = 'e', }\n# end";
    let dotted = "model.path = \"m\"\ndata.train = 't'\n# between\ndata.eval = 'e'\ngrpo.beta=1";
    let many = FILE.replace("[data.chat_template_kwargs]\nenable_thinking = false\n", "");
    let texts = [
        String::new(),
        smallest.to_owned(),
        braces.to_owned(),
        dotted.to_owned(),
        many,
    ];
    let texts: Vec<String> = texts
        .iter()
        .flat_map(|text| {
            [
                text.clone(),
                text.replace('\n', "\r\n"),
                format!("{text}\n"),
            ]
        })
        .collect();
    prop::sample::select(texts)
}

proptest! {
    #[test]
    fn any_key_takes_any_value_and_nothing_else_changes(
        file in files(), changes in prop::collection::vec(settings(), 1..4),
    ) {
        let mut edited = document(&file);
        for (key, value) in &changes {
            let before = edited.text().to_owned();
            let old = edited.get(key);
            edited.set(key, &value.to_string()).unwrap();
            let (gone, _) = changed(&before, edited.text());
            prop_assert!(old.unwrap_or_default().contains(gone), "{key}: lost {gone:?}");
            let read = value_in(edited.text(), key);
            // "none" is how a key that may be absent is unset.
            if value.as_str() != Some("none") {
                prop_assert_eq!(read, expected(key, value), "{}", key);
            }
        }
    }

    #[test]
    fn a_bare_string_is_the_string_that_was_typed(name in any::<String>(), file in files()) {
        let mut edited = document(&file);
        edited.set("run.name", &name).unwrap();
        let read = value_in(edited.text(), "run.name");
        let is_quoted = single_value(name.trim()).is_some_and(|value| value.get_ref().is_str());
        if !is_quoted && name != "none" {
            let bare = toml::Value::String(name.trim().to_owned()).to_string();
            prop_assert_eq!(read, Some(bare));
        }
        // The form offers the current value for editing.
        let offered = edited.typed("run.name").unwrap();
        let mut again = edited.clone();
        again.set("run.name", &offered).unwrap();
        prop_assert_eq!(value_in(again.text(), "run.name"), value_in(edited.text(), "run.name"));
    }

    #[test]
    fn removing_an_added_key_restores_the_file(file in files(), (key, value) in settings()) {
        let mut edited = document(&file);
        prop_assume!(edited.get(&key).is_none());
        edited.set(&key, &value.to_string()).unwrap();
        edited.unset(&key).unwrap();
        prop_assert_eq!(edited.get(&key), None);
        let (gone, left) = changed(&file, edited.text());
        prop_assert_eq!(gone, "");
        // The header of a section that was added, and the line ending that the last line did not have.
        let section = format!("[{}]", key.split('.').next().unwrap_or_default());
        prop_assert!(left.trim().is_empty() || left.trim() == section, "{left:?}");
    }
}

/// The value as an experiment writes it, e.g. target modules in their fixed order.
fn expected(key: &str, value: &toml::Value) -> Option<String> {
    let mut experiment = Experiment::default();
    let (section, name) = key.split_once('.').unwrap();
    let text = value.to_string();
    let node = DeValue::parse(&text).unwrap();
    experiment.section_mut(section).unwrap().set(name, &node);
    experiment.get(key)
}
