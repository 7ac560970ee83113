//! The JSON form.

use serde::Serialize;
use serde_json::Value;

use super::{ComparedFile, ComparedItem, Comparison, ItemFilter, Selection};
use crate::score::average::Averaging;
use crate::score::statistics::Resampling;

/// A [`Comparison`] with the selected items.
#[derive(Serialize)]
struct Report<'all> {
    averaging: Averaging,
    resampling: Resampling,
    files: &'all [ComparedFile],
    only: ItemFilter,
    question_type: Option<&'all str>,
    items: Vec<&'all ComparedItem>,
}

impl Comparison {
    /// The comparison as one JSON value, with the items of a selection. `files` and
    /// each item's `answers` are in the same order, the baseline first, and
    /// `first_right` counts in it from 0. The numbers of `files` are over all items.
    ///
    /// # Errors
    /// None in practice: every value here can be serialised.
    pub fn to_json(&self, selection: &Selection) -> serde_json::Result<Value> {
        serde_json::to_value(Report {
            averaging: self.averaging,
            resampling: self.resampling,
            files: &self.files,
            only: selection.filter,
            question_type: selection.question_type.as_deref(),
            items: self.selected(selection).collect(),
        })
    }
}
