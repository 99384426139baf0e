//! Convex's own tables and documents: their rows on every engine, digests of them, and the few documents that are read.
//!
//! Pure: bytes in, rows and names out. The layout is that of one deployment per database (persistence version 5); a database
//! whose columns differ is refused by [`check_columns`].

mod digest;
mod edit;
pub mod index_key;
mod mysql_encoding;
mod row;
mod table;
mod version;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

pub use self::digest::{DatabaseDigest, Digester, TableDigest};
pub use self::edit::{Edit, FileLocation, UnknownDocument};
pub use self::row::{
    DocumentRow, FREE_LEASE, GlobalRow, IndexRow, InternalId, LeaseRow, MalformedRow, READ_ONLY, ReadOnlyRow, Row,
    TABLE_SUMMARY, VALUE_BYTES_MAX,
};
pub use self::table::{Column, Engine, KnownColumn, Table, UnknownLayout, check_columns};
pub use self::version::{VersionConflict, version_conflict};

/// The tables that a backend makes at its first start, besides `leases`, which others have as well. On MySQL it makes them
/// only while the schema has fewer than five tables of any kind.
pub const TABLES: [&str; 4] = ["documents", "indexes", "persistence_globals", "read_only"];

/// The global that names the table of all tables.
pub const TABLES_TABLE_ID: &str = "tables_table_id";

/// The table whose one document says where the deployment keeps its files.
pub const DATABASE_GLOBALS: &str = "_db";

/// Describes what a file of a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlobKind {
    /// A package of code, or of what code depends on.
    Module,
    /// An uploaded file.
    File,
}

impl BlobKind {
    /// Returns the kind of file that the documents of a table name; none for tables that name no file.
    pub fn of_table(name: &str) -> Option<Self> {
        match name {
            "_source_packages" | "_external_deps_packages" => Some(Self::Module),
            "_file_storage" => Some(Self::File),
            _ => None,
        }
    }
}

/// Returns the path of a file below the folder of files; none for a key that is no name of a file.
pub fn blob_path(kind: BlobKind, key: &str) -> Option<PathBuf> {
    let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let folder = match kind {
        BlobKind::Module => "modules",
        BlobKind::File => "files",
    };
    is_plain.then(|| PathBuf::from(folder).join(format!("{key}.blob")))
}

/// Returns the identity of a table, from the value of a global.
pub fn table_id(value: &[u8]) -> Option<[u8; 16]> {
    let text: String = serde_json::from_slice(value).ok()?;
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Returns a document from its row: JSON as text on every engine, or the compressed encoding of newer releases on MySQL.
pub fn decode_document(value: &[u8]) -> Option<Value> {
    match value.first()? {
        1 => mysql_encoding::decode(value.get(1..)?),
        _ => serde_json::from_slice(value).ok(),
    }
}

/// Returns the JSON of a live document from its row on MySQL, as Convex writes it on the other engines; none for what is no
/// document.
pub fn mysql_json(value: Vec<u8>) -> Option<Vec<u8>> {
    match value.first()? {
        1 => serde_json::to_vec(&mysql_encoding::decode(value.get(1..)?)?).ok(),
        _ => Some(value),
    }
}

/// Returns the name in a document of the table of all tables, where that table is in use.
pub fn active_table(document: &Value) -> Option<String> {
    let is_active = document.get("state").and_then(Value::as_str).is_none_or(|state| state == "active");
    document.get("name").and_then(Value::as_str).filter(|_| is_active).map(str::to_owned)
}

/// Returns the name in a document of the table of all tables, where that table is in use and belongs to the deployment itself
/// rather than to a component.
pub fn root_table(document: &Value) -> Option<String> {
    let is_root = document.get("namespace").is_none_or(Value::is_null);
    active_table(document).filter(|_| is_root)
}

/// Returns the component that a table belongs to, from its document in the table of all tables.
pub fn component(document: &Value) -> Option<String> {
    document.get("namespace")?.get("id").and_then(Value::as_str).map(str::to_owned)
}

/// Returns the version of a database, from the document of [`DATABASE_GLOBALS`].
pub fn database_version(document: &Value) -> Option<i64> {
    let version = document.get("version")?.get("$integer").and_then(Value::as_str)?;
    Some(i64::from_le_bytes(STANDARD.decode(version).ok()?.try_into().ok()?))
}

/// Returns the key of the file that a document names.
pub fn storage_key(document: &Value) -> Option<String> {
    document.get("storageKey").and_then(Value::as_str).map(str::to_owned)
}

/// Returns the prefix of all objects in S3, from the document of [`DATABASE_GLOBALS`]; none where files are kept elsewhere.
pub fn s3_prefix(document: &Value) -> Option<String> {
    let storage = document.get("storageType")?;
    let prefix = storage.get("s3Prefix").and_then(Value::as_str)?;
    // An empty one would stand for whole buckets.
    (storage.get("tag").and_then(Value::as_str) == Some("s3") && prefix.len() > 1).then(|| prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_say_which_files_they_name() {
        assert_eq!(table_id(br#""AAECAwQFBgcICQoLDA0ODw""#), Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]));
        assert_eq!(table_id(b"7"), None);
        let document = decode_document(br#"{"name":"_file_storage","number":{"$integer":"AgAAAAAAAAA="},"state":"active"}"#);
        assert_eq!(active_table(&document.unwrap()).as_deref(), Some("_file_storage"));
        assert_eq!(active_table(&json!({"name": "x", "state": "hidden"})), None);
        let key = storage_key(&json!({"storageKey": "ab-12"})).unwrap();
        assert_eq!(blob_path(BlobKind::Module, &key), Some(PathBuf::from("modules/ab-12.blob")));
        for key in ["", "../x", "a/b", "a.b"] {
            assert_eq!(blob_path(BlobKind::File, key), None, "{key}");
        }
    }

    #[test]
    fn only_a_real_prefix_counts() {
        let of = |storage: Value| s3_prefix(&json!({ "storageType": storage }));
        assert_eq!(of(json!({"tag": "s3", "s3Prefix": "dev-1/"})).as_deref(), Some("dev-1/"));
        assert_eq!(of(json!({"tag": "s3", "s3Prefix": ""})), None);
        assert_eq!(of(json!({"tag": "local", "dir": "/x"})), None);
        assert_eq!(of(Value::Null), None);
    }
}
