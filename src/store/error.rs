//! Why rows could not be read or written.

/// Says why rows could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file belongs to a newer convexinfra.
    #[error("the store `{path}` was written by a newer convexinfra (schema {found}, this one knows up to {known})")]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: u32,
        /// The newest schema that this build knows.
        known: u32,
    },
    /// The file is not a store, or a damaged one.
    #[error("the store `{path}` is damaged or is no convexinfra store")]
    Damaged {
        /// The file.
        path: String,
        /// What SQLite says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no room to write.
    #[error("there is no room left to write `{path}`")]
    Full {
        /// The file.
        path: String,
    },
    /// The file may not be read or written.
    #[error("the store `{path}` may not be read or written")]
    Denied {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has been writing for too long.
    #[error("the store `{path}` stayed locked by another process")]
    Busy {
        /// The file.
        path: String,
    },
    /// A row does not say what a row says.
    #[error("the store `{path}` has a row that cannot be read: {what}")]
    Row {
        /// The file.
        path: String,
        /// Which one.
        what: String,
    },
    /// Anything else that SQLite says.
    #[error("the store `{path}` could not be used")]
    Sql {
        /// The file.
        path: String,
        /// What SQLite says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What should be written has no form that could be read again.
    #[error("a row cannot be written")]
    Unwritable(#[source] serde_json::Error),
    /// The store ran no transaction where it should have run one.
    #[error("the store could not execute a statement")]
    NotRun,
}
