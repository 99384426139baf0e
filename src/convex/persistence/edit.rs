//! The few documents that have to differ in a copy, edited in place: same row, same moment, other JSON.
//!
//! That is consistent as long as no field changes that an index has. So jobs, crons and log sinks are not edited here: a
//! paused backend is asked to cancel jobs and to remove sinks.

use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

/// Where a backend keeps its files, as its database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileLocation {
    /// In a folder, as the backend is started with it.
    Folder(String),
    /// In S3, under a prefix that begins with the name of the instance and ends with a slash.
    S3(String),
}

/// A change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Names another place of the files.
    MoveFiles(FileLocation),
    /// Lets the backend start paused.
    Pause,
}

/// Says that a document does not look as it is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the document of `{table}` does not look as it is known, so it cannot be edited")]
pub struct UnknownDocument {
    /// Its table.
    pub table: &'static str,
}

impl Edit {
    /// Returns the table of the deployment itself whose one document it changes.
    pub fn table(&self) -> &'static str {
        match self {
            Self::MoveFiles(_) => super::DATABASE_GLOBALS,
            Self::Pause => "_backend_state",
        }
    }

    /// Returns the document as it has to be. What is not changed stays as it was written, byte for byte.
    ///
    /// # Errors
    /// [`UnknownDocument`] when it does not look as it is known.
    pub fn apply(&self, json: &[u8]) -> Result<Vec<u8>, UnknownDocument> {
        let unknown = UnknownDocument { table: self.table() };
        self.edited(json).ok_or(unknown)
    }

    fn edited(&self, json: &[u8]) -> Option<Vec<u8>> {
        // Convex writes fields in this order as well.
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(json).ok()?;
        match self {
            Self::MoveFiles(location) => {
                fields.contains_key("version").then_some(())?;
                let place = match location {
                    FileLocation::Folder(folder) => BTreeMap::from([("dir", folder.as_str()), ("tag", "local")]),
                    FileLocation::S3(prefix) => BTreeMap::from([("s3Prefix", prefix.as_str()), ("tag", "s3")]),
                };
                *fields.get_mut("storageType")? = to_raw_value(&place).ok()?;
            }
            Self::Pause => {
                // Before version 125 of the database there was one state, and nothing else kept a backend from running.
                let (name, running) = if fields.contains_key("user") { ("user", "\"none\"") } else { ("state", "\"running\"") };
                let state = fields.get_mut(name)?;
                match state.get() {
                    value if value == running => *state = to_raw_value("paused").ok()?,
                    "\"paused\"" | "\"disabled\"" | "\"suspended\"" => {}
                    _ => return None,
                }
            }
        }
        serde_json::to_vec(&fields).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(edit: &Edit, json: &str) -> Option<String> {
        edit.apply(json.as_bytes()).ok().map(|json| String::from_utf8(json).unwrap())
    }

    #[test]
    fn one_field_changes_and_nothing_else() {
        let globals = r#"{"_creationTime":1795970821723.208,"_id":"h02","storageType":{"dir":"storage","tag":"local"},"version":{"$integer":"fAAAAAAAAAA="}}"#;
        let moved = edited(&Edit::MoveFiles(FileLocation::S3("dev-1/".to_owned())), globals).unwrap();
        assert_eq!(moved, globals.replace(r#"{"dir":"storage","tag":"local"}"#, r#"{"s3Prefix":"dev-1/","tag":"s3"}"#));
        let back = edited(&Edit::MoveFiles(FileLocation::Folder("storage".to_owned())), &moved).unwrap();
        assert_eq!(back, globals);
    }

    #[test]
    fn a_copy_is_paused_in_both_shapes() {
        let now = r#"{"_creationTime":1.0,"_id":"k","system":"none","usage_limit":"none","user":"none"}"#;
        let paused = edited(&Edit::Pause, now).unwrap();
        assert_eq!(paused, now.replace(r#""user":"none""#, r#""user":"paused""#));
        assert_eq!(edited(&Edit::Pause, &paused).as_deref(), Some(paused.as_str()));
        assert_eq!(edited(&Edit::Pause, r#"{"state":"running"}"#).as_deref(), Some(r#"{"state":"paused"}"#));
        assert_eq!(edited(&Edit::Pause, r#"{"state":"disabled"}"#).as_deref(), Some(r#"{"state":"disabled"}"#));
    }

    #[test]
    fn what_looks_otherwise_is_not_edited() {
        for json in ["", "7", "{}", r#"{"state":7}"#, r#"{"user":{"a":1}}"#, r#"{"storageType":null}"#] {
            assert_eq!(edited(&Edit::Pause, json), None, "{json}");
            assert_eq!(edited(&Edit::MoveFiles(FileLocation::Folder(String::new())), json), None, "{json}");
        }
    }
}
