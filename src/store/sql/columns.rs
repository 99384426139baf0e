//! Typed values out of the columns of one row, and into a statement.
//!
//! Must not do: know which table a row is of.

use super::connection::{Columns, Unreadable};
use crate::model::{BackendName, ProjectName, Timestamp};
use crate::store::StoreError;

impl dyn Columns + '_ {
    /// A number of whatever width.
    pub(super) fn number<T: TryFrom<i64>>(&self, column: usize) -> Result<T, Unreadable> {
        self.optional_number(column)?.ok_or_else(|| nothing(column))
    }

    /// A number, or none for NULL.
    pub(super) fn optional_number<T: TryFrom<i64>>(&self, column: usize) -> Result<Option<T>, Unreadable> {
        let convert =
            |number: i64| T::try_from(number).map_err(|_| Unreadable::new(column, format!("{number} is out of range")));
        self.integer(column)?.map(convert).transpose()
    }

    /// A moment.
    pub(super) fn time(&self, column: usize) -> Result<Timestamp, Unreadable> {
        self.number(column).map(Timestamp)
    }

    /// A moment, or none for NULL.
    pub(super) fn optional_time(&self, column: usize) -> Result<Option<Timestamp>, Unreadable> {
        Ok(self.integer(column)?.map(Timestamp))
    }

    /// Yes or no.
    pub(super) fn truth(&self, column: usize) -> Result<bool, Unreadable> {
        Ok(self.number::<i64>(column)? != 0)
    }

    /// A text.
    pub(super) fn words(&self, column: usize) -> Result<&str, Unreadable> {
        self.text(column)?.ok_or_else(|| nothing(column))
    }

    /// A text, or none for NULL.
    pub(super) fn optional_words(&self, column: usize) -> Result<Option<String>, Unreadable> {
        Ok(self.text(column)?.map(str::to_owned))
    }

    /// Bytes.
    pub(super) fn blob(&self, column: usize) -> Result<Vec<u8>, Unreadable> {
        self.bytes(column)?.map(<[u8]>::to_vec).ok_or_else(|| nothing(column))
    }

    /// Whatever stands there as JSON.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, column: usize) -> Result<T, Unreadable> {
        serde_json::from_str(self.words(column)?).map_err(|error| Unreadable::new(column, error))
    }

    /// Whatever stands there as JSON, or none for NULL.
    pub(super) fn optional_json<T: serde::de::DeserializeOwned>(&self, column: usize) -> Result<Option<T>, Unreadable> {
        self.text(column)?.map(serde_json::from_str).transpose().map_err(|error| Unreadable::new(column, error))
    }

    /// The name of a project.
    pub(super) fn project_name(&self, column: usize) -> Result<ProjectName, Unreadable> {
        ProjectName::parse(self.words(column)?).map_err(|error| Unreadable::new(column, error))
    }

    /// The name of a backend.
    pub(super) fn backend_name(&self, column: usize) -> Result<BackendName, Unreadable> {
        BackendName::parse(self.words(column)?).map_err(|error| Unreadable::new(column, error))
    }
}

fn nothing(column: usize) -> Unreadable {
    Unreadable::new(column, "is empty")
}

/// A value as JSON.
pub(super) fn text_of<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::Unwritable)
}

/// How a project is named where there may be none.
pub(super) fn project_key(project: Option<&ProjectName>) -> &str {
    project.map_or("", ProjectName::as_str)
}
