//! Runs single statements on the connection of one transaction.

use super::connection::{ColumnError, Columns, Connection, Parameter};
use crate::store::{StoreError, UnreadableRow};

/// Reads and writes the rows that one transaction sees.
pub struct SqlRows<'a, C> {
    pub(super) connection: &'a C,
}

impl<'a, C: Connection> SqlRows<'a, C> {
    /// Returns the rows behind a connection on which a transaction is open.
    pub fn new(connection: &'a C) -> Self {
        Self { connection }
    }

    pub(super) fn run(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<(), StoreError> {
        self.connection.run(statement, parameters)
    }

    /// Returns the first row of the answer.
    pub(super) fn one<T>(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        read: impl Fn(&dyn Columns) -> Result<T, ColumnError>,
    ) -> Result<Option<T>, StoreError> {
        let mut found = None;
        self.connection.query(statement, parameters, &mut |row| {
            if found.is_none() {
                found = Some(read(row)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Returns every row of the answer that can be read, and the names of the others: one bad row does not stop the rest.
    pub(super) fn many_readable<T>(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        table: &'static str,
        read: impl Fn(&dyn Columns) -> Result<T, ColumnError>,
    ) -> Result<(Vec<T>, Vec<UnreadableRow>), StoreError> {
        let (mut found, mut bad) = (Vec::new(), Vec::new());
        self.connection.query(statement, parameters, &mut |row| {
            match read(row) {
                Ok(value) => found.push(value),
                Err(error) => bad.push(unreadable(table, row, &error)),
            }
            Ok(())
        })?;
        Ok((found, bad))
    }

    /// Returns every row of the answer.
    pub(super) fn many<T>(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        read: impl Fn(&dyn Columns) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.connection.query(statement, parameters, &mut |row| {
            found.push(read(row)?);
            Ok(())
        })?;
        Ok(found)
    }
}

/// Returns the name of a row that cannot be read, as far as its first column says.
fn unreadable(table: &'static str, row: &dyn Columns, error: &ColumnError) -> UnreadableRow {
    let text = row.text(0).ok().flatten().map(str::to_owned);
    let number = || row.integer(0).ok().flatten().map(|number| number.to_string());
    UnreadableRow { table, key: text.or_else(number).unwrap_or_else(|| "?".to_owned()), reason: error.to_string() }
}
