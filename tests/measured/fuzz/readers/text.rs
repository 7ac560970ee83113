//! Tokenizers, the small files of a model folder, chat templates and the morpheme dictionary.

use moim::text::{
    ChatTemplate, MecabDictionary, Message, RenderOptions, Role, SpecialTokens, StopSet, Tokenizer,
};

use super::{Folder, content, shown, told};
use crate::fuzz::harness::{MEMORY, Reader, fuzz};
use crate::fuzz::miniature;
use crate::fuzz::mutate::Form;

const SAMPLE: &str = "<s>[CLS] 나는 학교에 간다. Hello 123 \u{1f600}\u{301}<|im_end|>\n\n";

const TOKENIZER_WORDS: &[&str] = &[
    "BPE",
    "WordPiece",
    "Unigram",
    "WordLevel",
    "Sequence",
    "ByteLevel",
    "Split",
    "Regex",
    "Replace",
    "Precompiled",
    "TemplateProcessing",
    "Metaspace",
    "Prepend",
    "Strip",
    "Fuse",
    "ByteFallback",
    "unk_id",
    "unk_token",
    "byte_fallback",
    "type",
    "pattern",
    "(a+)+$",
    "(?:",
    "",
    "[PAD]",
    "a",
    "merges",
    "vocab",
    "dropout",
    "content",
    "normalizers",
    "pretokenizers",
    "CTC",
    "max_input_chars_per_word",
    "precompiled_charsmap",
    "AAAA",
    "BertProcessing",
    "sep",
    "cls",
];

fn messages() -> Vec<Message> {
    vec![
        Message::new(Role::System, "규범을 따른다."),
        Message::new(Role::User, "질문 {{ a }} <s>"),
        Message::new(Role::Assistant, "답"),
        Message::new(Role::User, "다시"),
    ]
}

#[test]
fn tokenizers() {
    let folder = Folder::new();
    fuzz(Reader {
        name: "tokenizer.json",
        form: Form::Json,
        examples: [
            "tests/golden/text/tokenizer/tokenizer.json",
            "data/demo/model/tokenizer.json",
            "tests/golden/encoder/bert/tokenizer.json",
            "tests/golden/encoder/xlm-roberta/tokenizer.json",
            "tests/golden/encoder/roberta/tokenizer.json",
        ]
        .map(content)
        .into(),
        words: TOKENIZER_WORDS,
        cases: 1500,
        // A vocabulary is kept as text, as hash maps and as a trie.
        memory: (1000, 64 << 20),
        names: "tokenizer",
        read: Box::new(|input| {
            let path = folder.write("tokenizer.json", input);
            let tokenizer = Tokenizer::from_file(&path).map_err(told)?;
            let ids = tokenizer.encode(SAMPLE, true).map_err(told)?;
            tokenizer.encode("", false).map_err(told)?;
            tokenizer.decode(&ids, false).map_err(told)?;
            tokenizer.decode(&[0, 1, u32::MAX], true).map_err(told)?;
            tokenizer.id_to_token(u32::MAX);
            Ok(())
        }),
    });
}

#[test]
fn small_files_of_a_model() {
    let folder = Folder::with("data/demo/model", &["tokenizer.json", "config.json"]);
    let tokenizer = Tokenizer::from_model_dir(folder.path()).unwrap();
    for name in [
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "chat_template.json",
    ] {
        let whole = Folder::with(
            "data/demo/model",
            &[
                "tokenizer_config.json",
                "special_tokens_map.json",
                "generation_config.json",
            ],
        );
        let template = r#"{"chat_template": "{{ bos_token }}{{ messages[0]['content'] }}"}"#;
        whole.write("chat_template.json", template.as_bytes());
        if name == "chat_template.json" {
            whole.write("tokenizer_config.json", b"{\"eos_token\": \"</s>\"}");
        }
        let example = std::fs::read(whole.path().join(name)).unwrap();
        fuzz(Reader {
            name,
            form: Form::Json,
            examples: vec![example],
            words: &[
                "eos_token",
                "eos_token_id",
                "content",
                "chat_template",
                "default",
                "name",
                "template",
                "{{",
                "extra_special_tokens",
            ],
            cases: 1500,
            memory: MEMORY,
            names: "",
            read: Box::new(|input| {
                whole.write(name, input);
                SpecialTokens::from_model_dir(whole.path()).map_err(told)?;
                StopSet::from_model_dir(whole.path(), &tokenizer, &[]).map_err(told)?;
                let template = ChatTemplate::from_model_dir(whole.path()).map_err(told)?;
                let options = RenderOptions::default();
                template
                    .render(&messages(), &options)
                    .map(|_| ())
                    .map_err(told)
            }),
        });
    }
}

#[test]
fn chat_templates() {
    let folder = Folder::new();
    let names = [
        "alternating_turns",
        "bracket_roles",
        "chatml_default_system",
        "chatml_thinking",
        "headers_korean_preamble",
        "headers_with_date",
        "language_details",
        "language_features",
        "tool_list_roles",
    ];
    let readable = |name: &&&str| {
        // Some are there to refuse a conversation of this kind.
        let source = content(&format!("tests/golden/text/templates/{name}.jinja"));
        let path = folder.write("try.jinja", &source);
        let template = ChatTemplate::from_file(&path, SpecialTokens::default()).unwrap();
        template
            .render(&messages(), &RenderOptions::default())
            .is_ok()
    };
    let examples: Vec<Vec<u8>> = names
        .iter()
        .filter(readable)
        .map(|name| content(&format!("tests/golden/text/templates/{name}.jinja")))
        .collect();
    assert!(examples.len() > 4);
    fuzz(Reader {
        name: "chat_template.jinja",
        form: Form::Text,
        examples,
        words: &[
            "{% for i in range(99999) %}",
            "{% endfor %}",
            "{{ ",
            " }}",
            "{% macro a(x) %}{{ a(x) }}{% endmacro %}{{ a(1) }}",
            "|join('x')",
            "|indent(99999999)",
            "|format",
            "{% include 'a' %}",
            "{% extends 'a' %}",
            "{% import 'a' as b %}",
            "{% set x = x ~ x %}",
            " * 99999999",
            "|tojson(indent=99999999)",
            "{% raw %}",
            "{# ",
            "messages",
            "loop.index",
            "|batch(99999999, 1)",
            "|slice(99999999)",
            "|replace('', 'a')",
            "strftime_now('%')",
            "|round(99999999)",
            " ** 99999",
            "'%99999999d'|format(1)",
            ".center(99999999)",
            "namespace(a=1)",
            "|map('map')",
            "{% recursive %}",
            "[::0]",
            "[-9223372036854775808:]",
        ],
        cases: 4000,
        memory: (2000, 192 << 20),
        names: "chat_template.jinja",
        read: Box::new(|input| {
            let path = folder.write("chat_template.jinja", input);
            let template =
                ChatTemplate::from_file(&path, SpecialTokens::default()).map_err(told)?;
            let options = RenderOptions {
                add_generation_prompt: true,
                ..RenderOptions::default()
            };
            template
                .render(&messages(), &options)
                .map(|_| ())
                .map_err(told)
        }),
    });
}

#[test]
fn morpheme_dictionaries() {
    let folder = Folder::new();
    miniature::write_dictionary(folder.path());
    for (name, form) in [
        ("sys.dic", Form::Bytes),
        ("unk.dic", Form::Bytes),
        ("matrix.bin", Form::Bytes),
        ("char.bin", Form::Bytes),
        ("dicrc", Form::Text),
    ] {
        let example = std::fs::read(folder.path().join(name)).unwrap();
        fuzz(Reader {
            name,
            form,
            examples: vec![example.clone()],
            words: &["left-space-penalty-factor = 1,2", "="],
            cases: 1000,
            memory: MEMORY,
            names: "",
            read: Box::new(|input| {
                folder.write(name, input);
                let dictionary = MecabDictionary::open(folder.path()).map_err(shown)?;
                dictionary.morphs("나는 학교에 abc 힣힣 \u{1f600}\u{301} \0\n");
                Ok(())
            }),
        });
        folder.write(name, &example);
    }
}
