//! The fields of an event as JSON: in order, with the names of numbers that are not finite.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::checkpoints::SavePoint;
use super::state::RunStatus;

/// The key that lists the fields whose numbers are not finite.
const NONFINITE: &str = "nonfinite";

/// Fields by name, in the order of the file. JSON has no NaN and no infinity: such a number is null, and its
/// name is in a list that is written last, under `nonfinite`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    values: Map<String, Value>,
    nonfinite: Vec<String>,
}

impl Fields {
    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The JSON value of a field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Sets a field.
    pub fn set(&mut self, key: &str, value: &impl Field) {
        value.write(key, self);
    }

    /// Sets a field to its JSON value; null with `is_finite` false is a number that is not finite.
    pub(super) fn insert(&mut self, key: &str, value: Value, is_finite: bool) {
        self.nonfinite.retain(|listed| listed != key);
        if !is_finite {
            self.nonfinite.push(key.to_owned());
        }
        self.values.insert(key.to_owned(), value);
    }

    /// Whether a field is a number that is not finite.
    fn is_nonfinite(&self, key: &str) -> bool {
        self.nonfinite.iter().any(|listed| listed == key)
    }

    /// Removes a field.
    pub(super) fn remove(&mut self, key: &str) {
        self.values.shift_remove(key);
        self.nonfinite.retain(|listed| listed != key);
    }

    /// Removes every number, in order; `None` is one that is not finite.
    pub(super) fn take_numbers(&mut self) -> Vec<(String, Option<Number>)> {
        let mut numbers = Vec::with_capacity(self.values.len());
        let mut others = Map::new();
        for (key, value) in std::mem::take(&mut self.values) {
            match value {
                Value::Number(number) => numbers.push((key, Some(number))),
                Value::Null if self.is_nonfinite(&key) => numbers.push((key, None)),
                value => _ = others.insert(key, value),
            }
        }
        self.values = others;
        let values = &self.values;
        self.nonfinite.retain(|listed| values.contains_key(listed));
        numbers
    }

    /// Appends the fields of `other` whose names are not used yet.
    pub(super) fn append(&mut self, other: &Self) {
        for (key, value) in &other.values {
            if !self.values.contains_key(key) {
                self.insert(key, value.clone(), !other.is_nonfinite(key));
            }
        }
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(mut values: Map<String, Value>) -> Self {
        let listed = values.get(NONFINITE).map(Vec::<String>::deserialize);
        let nonfinite = match listed {
            Some(Ok(listed)) => {
                values.shift_remove(NONFINITE);
                listed
            }
            // Not a list of names: a field like any other.
            Some(Err(_)) | None => Vec::new(),
        };
        Self { values, nonfinite }
    }
}

impl From<Fields> for Map<String, Value> {
    fn from(fields: Fields) -> Self {
        let mut values = fields.values;
        if !fields.nonfinite.is_empty() {
            values.insert(NONFINITE.to_owned(), fields.nonfinite.into());
        }
        values
    }
}

/// A type that a field of an event can have.
pub trait Field: Sized {
    /// Sets the field; an `Option` that is `None` is left out.
    fn write(&self, key: &str, fields: &mut Fields);

    /// Removes the field and returns its value. `None` if it is missing or of another type; then it stays.
    fn read(key: &str, fields: &mut Fields) -> Option<Self>;
}

/// Removes a field that `read` understands.
fn take<T>(key: &str, fields: &mut Fields, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
    let value = read(fields.values.get(key)?)?;
    fields.remove(key);
    Some(value)
}

impl Field for f64 {
    fn write(&self, key: &str, fields: &mut Fields) {
        fields.insert(key, Value::from(*self), self.is_finite());
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        let is_nonfinite = fields.is_nonfinite(key);
        take(key, fields, |value| match value {
            Value::Null if is_nonfinite => Some(Self::NAN),
            value => value.as_f64(),
        })
    }
}

impl Field for usize {
    fn write(&self, key: &str, fields: &mut Fields) {
        fields.insert(key, Value::from(*self), true);
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        take(key, fields, |value| match value.as_u64() {
            Some(count) => usize::try_from(count).ok(),
            // A program that rewrites logs may turn 3 into 3.0.
            None => value
                .as_f64()
                .filter(|count| *count >= 0.0 && count.fract() == 0.0)
                .map(|count| count as usize),
        })
    }
}

impl Field for u64 {
    fn write(&self, key: &str, fields: &mut Fields) {
        fields.insert(key, Value::from(*self), true);
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        take(key, fields, Value::as_u64)
    }
}

impl Field for bool {
    fn write(&self, key: &str, fields: &mut Fields) {
        fields.insert(key, Value::from(*self), true);
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        take(key, fields, Value::as_bool)
    }
}

impl Field for String {
    fn write(&self, key: &str, fields: &mut Fields) {
        fields.insert(key, Value::from(self.as_str()), true);
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        take(key, fields, |value| value.as_str().map(str::to_owned))
    }
}

/// Any other JSON value; null is none.
impl Field for Value {
    fn write(&self, key: &str, fields: &mut Fields) {
        fields.insert(key, self.clone(), true);
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        take(key, fields, |value| {
            Some(value.clone()).filter(|value| !value.is_null())
        })
    }
}

impl Field for Timestamp {
    fn write(&self, key: &str, fields: &mut Fields) {
        fields.insert(key, self.to_string().into(), true);
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        take(key, fields, |value| value.as_str()?.parse().ok())
    }
}

/// Types whose JSON form is that of serde and holds no number that may be not finite.
macro_rules! as_serde_has_it {
    ($($type:ty),* $(,)?) => {$(
        impl $crate::run::fields::Field for $type {
            fn write(&self, key: &str, fields: &mut $crate::run::fields::Fields) {
                // These types have text keys and finite numbers only: this cannot fail.
                let value = serde_json::to_value(self).unwrap_or_default();
                fields.insert(key, value, true);
            }

            fn read(key: &str, fields: &mut $crate::run::fields::Fields) -> Option<Self> {
                let value = <$type as serde::Deserialize>::deserialize(fields.get(key)?).ok()?;
                fields.remove(key);
                Some(value)
            }
        }
    )*};
}
pub(super) use as_serde_has_it;

as_serde_has_it!(SavePoint, RunStatus, Vec<u32>, Vec<String>, Map<String, Value>);

impl<T: Field> Field for Option<T> {
    fn write(&self, key: &str, fields: &mut Fields) {
        if let Some(value) = self {
            value.write(key, fields);
        }
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        Some(T::read(key, fields))
    }
}
