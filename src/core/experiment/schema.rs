//! One definition per key: the `section!` and `choice!` macros generate the struct, its defaults,
//! its reader, its writer and its help from the same lines.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

/// A parsed TOML value together with its byte range in the text it came from.
pub type Node<'a> = Spanned<DeValue<'a>>;

/// What is wrong with one value, before its key is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The byte range to point at, if it is narrower than the whole value.
    pub span: Option<Range<usize>>,
    /// The part of the key below `section.key`, e.g. `[0].name`.
    pub below: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub hint: String,
}

impl Problem {
    pub(super) fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            span: None,
            below: String::new(),
            problem: problem.into(),
            hint: hint.into(),
        }
    }

    /// The same problem, seen from the value's container.
    pub(super) fn inside(mut self, below: &str, span: Range<usize>) -> Self {
        self.below = format!("{below}{}", self.below);
        self.span.get_or_insert(span);
        self
    }
}

/// A type of a value in an experiment file.
pub trait Setting: Sized {
    /// What to write, as text: `a whole number of at least 0`.
    fn expected() -> String;
    /// Reads the value, or returns every problem it has.
    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>>;
    /// The TOML value, or `None` if the key is not set.
    fn write(&self) -> Option<toml::Value>;
}

/// One key of the experiment file, for validation, help and forms.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The section, e.g. `grpo`.
    pub section: &'static str,
    /// The key inside the section, e.g. `num_generations`.
    pub name: &'static str,
    /// The key's documentation, in one paragraph.
    pub help: String,
    /// What can be written, e.g. `a whole number of at least 0`.
    pub expected: String,
    /// The default as TOML; `None` if the key is required or off by default.
    pub default: Option<String>,
}

impl Key {
    /// `section.key`, as `--set` spells it.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// A section of the experiment file, as the reader and the writer see it.
pub trait Section {
    /// The section's name in brackets.
    fn name(&self) -> &'static str;
    /// Every key with its help and its default.
    fn keys(&self) -> Vec<Key>;
    /// Sets a key from TOML; `None` if the section has no such key.
    fn set(&mut self, key: &str, node: &Node<'_>) -> Option<Result<(), Vec<Problem>>>;
    /// The key's value: the outer `None` means no such key, the inner `None` that it is not set.
    fn get(&self, key: &str) -> Option<Option<toml::Value>>;
}

/// Defines a section: a struct with defaults that can be read and written key by key.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        pub struct $Section:ident in $name:literal {
            $( $(#[doc = $doc:literal])* pub $field:ident: $type:ty = $default:expr, )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $Section { $( $(#[doc = $doc])* pub $field: $type, )* }

        impl Default for $Section {
            fn default() -> Self { Self { $( $field: $default, )* } }
        }

        impl $crate::experiment::schema::Section for $Section {
            fn name(&self) -> &'static str { $name }

            fn keys(&self) -> Vec<$crate::experiment::schema::Key> {
                use $crate::experiment::schema::{Key, Setting};
                let defaults = Self::default();
                vec![$( Key {
                    section: $name,
                    name: stringify!($field),
                    help: [$($doc.trim()),*].join(" "),
                    expected: <$type as Setting>::expected(),
                    default: Setting::write(&defaults.$field)
                        .map(|value| $crate::experiment::schema::to_text(&value)),
                }, )*]
            }

            fn set(
                &mut self,
                key: &str,
                node: &$crate::experiment::schema::Node<'_>,
            ) -> Option<Result<(), Vec<$crate::experiment::schema::Problem>>> {
                use $crate::experiment::schema::Setting;
                $( if key == stringify!($field) {
                    return Some(<$type as Setting>::read(node).map(|value| self.$field = value));
                } )*
                None
            }

            fn get(&self, key: &str) -> Option<Option<toml::Value>> {
                use $crate::experiment::schema::Setting;
                $( if key == stringify!($field) { return Some(Setting::write(&self.$field)); } )*
                None
            }
        }
    };
}

/// Defines a key whose value is one of a few words.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        pub enum $Choice:ident {
            $( $(#[doc = $variant_doc:literal])* $variant:ident = $word:literal, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $Choice {
            $( $(#[doc = $variant_doc])* #[serde(rename = $word)] $variant, )*
        }

        impl $Choice {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The word in the experiment file.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }

            /// The value that `word` names.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.as_str() == word)
            }
        }

        impl std::fmt::Display for $Choice {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl $crate::experiment::schema::Word for $Choice {
            const WORDS: &'static [&'static str] = &[$( $word, )*];
            fn from_word(word: &str) -> Option<Self> { Self::from_word(word) }
            fn word(&self) -> &'static str { self.as_str() }
        }
    };
}

pub(crate) use {choice, section};

/// A type defined by `choice!`.
pub trait Word: Sized {
    /// The allowed words.
    const WORDS: &'static [&'static str];
    /// The value that `word` names.
    fn from_word(word: &str) -> Option<Self>;
    /// The word that names the value.
    fn word(&self) -> &'static str;
}

/// The candidate most like `word`, if it is similar enough.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // 0.55 accepts swapped, missing and doubled parts of a name ("num_generation", "batchsize")
    // and rejects unrelated names of the same length.
    const ALIKE: f64 = 0.55;
    most_alike(word, candidates)
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .map(|(_, candidate)| candidate)
}

/// The candidate most like `word`, however little, with its likeness from 0 to 1.
pub fn most_alike<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<(f64, &'c str)> {
    // Time and memory grow with the product of both lengths.
    const LONGEST: usize = 100;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let likeness = |candidate| strsim::normalized_damerau_levenshtein(&word, candidate);
    candidates
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))
}

/// A value as TOML text: small and large numbers as `1e-6`, everything else as `toml` writes it.
pub fn to_text(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(number)
            if *number != 0.0 && !(1e-3..1e6).contains(&number.abs()) && number.is_finite() =>
        {
            format!("{number:e}")
        }
        _ => value.to_string(),
    }
}

/// The type of a TOML value, as text.
pub fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The problem of a value whose type is not that of `T`.
pub fn wrong_type<T: Setting>(node: &Node<'_>) -> Vec<Problem> {
    let expected = T::expected();
    let hint = match node.get_ref() {
        DeValue::String(text)
            if text.parse::<f64>().is_ok() || matches!(&**text, "true" | "false") =>
        {
            format!("write {expected}, without quotes")
        }
        _ => format!("write {expected}"),
    };
    vec![Problem::new(
        format!("is {}", type_name(node.get_ref())),
        hint,
    )]
}

/// Reads a table with a fixed set of keys and passes each to `set`. An unknown or missing key is a
/// problem.
pub fn read_table(
    node: &Node<'_>,
    known: &[&str],
    required: &[&str],
    mut set: impl FnMut(&str, &Node<'_>) -> Result<(), Vec<Problem>>,
) -> Result<(), Vec<Problem>> {
    let DeValue::Table(entries) = node.get_ref() else {
        return Err(vec![Problem::new(
            format!("is {}", type_name(node.get_ref())),
            format!("write a table with {}", known.join(", ")),
        )]);
    };
    let mut problems = Vec::new();
    for (key, value) in entries {
        let name = key.get_ref();
        if known.contains(&&**name) {
            if let Err(found) = set(name, value) {
                let below = format!(".{name}");
                problems.extend(
                    found
                        .into_iter()
                        .map(|problem| problem.inside(&below, value.span())),
                );
            }
        } else {
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            problems
                .push(Problem::new("unknown key", hint).inside(&format!(".{name}"), key.span()));
        }
    }
    for name in required {
        if !entries.keys().any(|key| &**key.get_ref() == *name) {
            problems.push(Problem::new(
                format!("has no {name}"),
                format!("add {name}"),
            ));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

/// A problem of a value, for the types outside this file.
pub fn problem(problem: impl Into<String>, hint: impl Into<String>) -> Vec<Problem> {
    vec![Problem::new(problem, hint)]
}
