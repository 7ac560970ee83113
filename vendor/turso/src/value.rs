//! Parameters of a statement and rows of an answer.

use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// What [`Row::get`] can return.
pub trait FromValue: Sized {
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! values {
    ($($kind:ident: $type:ty),+) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$kind(value)
            }
        }

        impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                if let Value::$kind(value) = value { Some(value.clone()) } else { None }
            }
        }
    )+};
}
values!(Integer: i64, Text: String, Blob: Vec<u8>);

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

/// What a statement takes: a tuple of values, the first for `?1`.
pub trait IntoParams {
    fn into_params(self) -> Vec<Value>;
}

macro_rules! tuples {
    ($(($($name:ident)*))+) => {$(
        impl<$($name: Into<Value>),*> IntoParams for ($($name,)*) {
            #[allow(non_snake_case)]
            fn into_params(self) -> Vec<Value> {
                let ($($name,)*) = self;
                vec![$($name.into()),*]
            }
        }
    )+};
}
tuples!(() (A) (A B) (A B C) (A B C D));

#[derive(Clone, Debug)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// The column at `index`, counted from 0.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T> {
        let value = self.0.get(index).and_then(T::from_value);
        value.ok_or_else(|| Error::Misuse(format!("column {index} is missing or of another type")))
    }
}

#[derive(Debug)]
pub struct Rows(pub(crate) std::vec::IntoIter<Row>);

impl Rows {
    pub async fn next(&mut self) -> Result<Option<Row>> {
        Ok(self.0.next())
    }
}
