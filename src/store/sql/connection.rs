//! The port to a SQLite: statements with parameters in, columns out.

use std::borrow::Cow;

use crate::store::StoreError;

/// Runs statements of SQLite's SQL, one at a time, in the open transaction.
pub trait Connection {
    /// Runs a statement that returns nothing.
    ///
    /// # Errors
    /// Why it could not be run.
    fn run(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<(), StoreError>;

    /// Runs a statement and hands every row to `each`, in order.
    ///
    /// # Errors
    /// Why it could not be run, or [`StoreError::Row`] for the first row that `each` cannot read.
    fn query(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        each: &mut dyn FnMut(&dyn Columns) -> Result<(), ColumnError>,
    ) -> Result<(), StoreError>;

    /// Runs several statements without parameters.
    ///
    /// # Errors
    /// Why one of them could not be run.
    fn batch(&self, statements: &str) -> Result<(), StoreError>;
}

/// One row of an answer. A column that is not there or is of another kind is [`ColumnError`].
pub trait Columns {
    /// Returns a whole number, or none for NULL.
    fn integer(&self, column: usize) -> Result<Option<i64>, ColumnError>;
    /// Returns a text, or none for NULL.
    fn text(&self, column: usize) -> Result<Option<&str>, ColumnError>;
    /// Returns bytes, or none for NULL.
    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, ColumnError>;
}

/// A row does not say what such a row says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct ColumnError {
    /// Which column, from 0.
    pub column: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl ColumnError {
    /// Returns a column with what is wrong with it.
    pub fn new(column: usize, reason: impl ToString) -> Self {
        Self { column, reason: reason.to_string() }
    }
}

/// A value that goes into a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter<'a> {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(Cow<'a, str>),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl From<i64> for Parameter<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u64> for Parameter<'_> {
    fn from(number: u64) -> Self {
        // A number beyond what SQLite can count to is after everything.
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Parameter<'_> {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u16> for Parameter<'_> {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<bool> for Parameter<'_> {
    fn from(yes: bool) -> Self {
        Self::Integer(yes.into())
    }
}

impl<'a> From<&'a str> for Parameter<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Parameter<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Parameter<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'a> From<&'a [u8]> for Parameter<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Parameter<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a, T: Into<Parameter<'a>>> From<Option<T>> for Parameter<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
