//! Typed values out of the columns of one row, and into a statement.

use super::connection::{ColumnError, Columns};
use crate::model::{BackendName, ProjectName, Timestamp};
use crate::store::StoreError;

impl dyn Columns + '_ {
    /// Returns a number of any width.
    pub(super) fn number<T: TryFrom<i64>>(&self, column: usize) -> Result<T, ColumnError> {
        self.optional_number(column)?.ok_or_else(|| missing_value(column))
    }

    /// Returns a number, or none for NULL.
    pub(super) fn optional_number<T: TryFrom<i64>>(&self, column: usize) -> Result<Option<T>, ColumnError> {
        let convert =
            |number: i64| T::try_from(number).map_err(|_| ColumnError::new(column, format!("{number} is out of range")));
        self.integer(column)?.map(convert).transpose()
    }

    /// Returns a moment.
    pub(super) fn time(&self, column: usize) -> Result<Timestamp, ColumnError> {
        self.number(column).map(Timestamp)
    }

    /// Returns a moment, or none for NULL.
    pub(super) fn optional_time(&self, column: usize) -> Result<Option<Timestamp>, ColumnError> {
        Ok(self.integer(column)?.map(Timestamp))
    }

    /// Yes or no.
    pub(super) fn boolean(&self, column: usize) -> Result<bool, ColumnError> {
        Ok(self.number::<i64>(column)? != 0)
    }

    /// Returns a text.
    pub(super) fn string(&self, column: usize) -> Result<&str, ColumnError> {
        self.text(column)?.ok_or_else(|| missing_value(column))
    }

    /// Returns a text, or none for NULL.
    pub(super) fn optional_string(&self, column: usize) -> Result<Option<String>, ColumnError> {
        Ok(self.text(column)?.map(str::to_owned))
    }

    /// Returns bytes.
    pub(super) fn blob(&self, column: usize) -> Result<Vec<u8>, ColumnError> {
        self.bytes(column)?.map(<[u8]>::to_vec).ok_or_else(|| missing_value(column))
    }

    /// Returns the column's text as JSON.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, column: usize) -> Result<T, ColumnError> {
        serde_json::from_str(self.string(column)?).map_err(|error| ColumnError::new(column, error))
    }

    /// Returns the column's text as JSON, or none for NULL.
    pub(super) fn optional_json<T: serde::de::DeserializeOwned>(&self, column: usize) -> Result<Option<T>, ColumnError> {
        self.text(column)?.map(serde_json::from_str).transpose().map_err(|error| ColumnError::new(column, error))
    }

    /// Returns the name of a project.
    pub(super) fn project_name(&self, column: usize) -> Result<ProjectName, ColumnError> {
        ProjectName::parse(self.string(column)?).map_err(|error| ColumnError::new(column, error))
    }

    /// Returns the name of a backend.
    pub(super) fn backend_name(&self, column: usize) -> Result<BackendName, ColumnError> {
        BackendName::parse(self.string(column)?).map_err(|error| ColumnError::new(column, error))
    }
}

fn missing_value(column: usize) -> ColumnError {
    ColumnError::new(column, "is empty")
}

/// Returns a value as JSON.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::Unwritable)
}

/// Returns how a project is named where there may be none.
pub(super) fn project_key(project: Option<&ProjectName>) -> &str {
    project.map_or("", ProjectName::as_str)
}
