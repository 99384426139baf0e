//! Why rows could not be read or written.

use std::path::PathBuf;

use super::super::DatabaseError;
use super::super::error::BoxError;
use crate::convex::persistence::{MalformedRow, UnknownDocument, UnknownLayout};

/// Says why rows could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The tables are not those that are known.
    #[error(transparent)]
    Layout(#[from] UnknownLayout),
    /// A row is none that Convex writes.
    #[error(transparent)]
    Malformed(#[from] MalformedRow),
    /// A document that has to differ in the copy is not known.
    #[error(transparent)]
    Document(#[from] UnknownDocument),
    /// There is no room.
    #[error("{place} has no room for the rows")]
    NoSpace {
        /// A folder, or host and port of a server.
        place: String,
        /// What was said.
        source: BoxError,
    },
    /// A backend may use the database that rows would be written into.
    #[error("the database `{database}` has documents already, and is not one that a copy was begun in")]
    InUse {
        /// The database.
        database: String,
    },
    /// A row is larger than what the server takes at once.
    #[error("the database server {server} takes at most {limit} bytes at once, and a row is larger")]
    PacketLimit {
        /// Host and port.
        server: String,
        /// Its `max_allowed_packet`.
        limit: usize,
    },
    /// There is no database.
    #[error("there is no database at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("the database at {} cannot be {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried, as a participle.
        what: &'static str,
        /// Why.
        source: BoxError,
    },
    /// A server cannot be used.
    #[error(transparent)]
    Server(#[from] DatabaseError),
    /// Nothing came or went for a long time.
    #[error("no row was read or written for half an hour")]
    Stalled,
    /// The process ends, or a thread of it ended.
    #[error("the rows were not copied to their end")]
    Interrupted,
}

impl RowError {
    /// Returns a stable name of the situation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Layout(_) => "data.layout",
            Self::Malformed(_) => "data.malformed",
            Self::Document(_) => "data.document",
            Self::NoSpace { .. } => "data.no_space",
            Self::InUse { .. } => "data.in_use",
            Self::PacketLimit { .. } => "data.packet_limit",
            Self::Missing { .. } => "data.missing",
            Self::File { .. } => "data.file",
            Self::Server(error) => error.code(),
            Self::Stalled => "data.stalled",
            Self::Interrupted => "data.interrupted",
        }
    }

    /// Returns what to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Layout(_) | Self::Document(_) => {
                "a newer release of Convex made these tables: update convexinfra, or take the data over with\n    npx convex export \
                 --include-file-storage"
            }
            Self::Malformed(_) => "the database is damaged: have it checked by its engine, or restore a snapshot",
            Self::Stalled => "check that the server answers, and run the same command again",
            Self::NoSpace { .. } => "make room, and run the same command again",
            Self::InUse { .. } => "name an empty database; what is in this one stays as it is",
            Self::PacketLimit { .. } => {
                "have an administrator of the server run\n    SET PERSIST max_allowed_packet = 67108864;\nand run the same command again"
            }
            Self::Server(error) => return error.help(),
            Self::Missing { .. } | Self::File { .. } | Self::Interrupted => return None,
        };
        Some(help.to_owned())
    }
}
