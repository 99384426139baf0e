//! What an archive of a deployment holds.

use serde::Serialize;

/// A table in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ArchivedTable {
    /// The path of its component, with a slash after each name; empty for the app itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// Its name.
    pub name: String,
    /// How many documents it has.
    pub documents: usize,
}

/// Describes what an archive holds, all of it read and checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct ArchiveContent {
    /// The tables of users, in the order of their components and names.
    pub tables: Vec<ArchivedTable>,
    /// How many files it holds.
    pub files: usize,
    /// Their bytes.
    pub file_bytes: u64,
}

impl ArchiveContent {
    /// Counts the documents of all tables.
    pub fn documents(&self) -> usize {
        self.tables.iter().map(|table| table.documents).sum()
    }
}
