//! The zip of an export, read again from its first byte to its last: a damaged one must be found on the day it is made.
//!
//! A folder for each table with one document a line, below `_components/NAME/` for those of a component; `_tables` lists the
//! tables; `_storage` describes the files, which lie beside their descriptions under their identifiers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Seek};

use base64::Engine as _;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::export::ExportedFiles;
use crate::model::{ArchiveContent, ArchivedTable};

/// The longest line that is read: a document has at most 1 MiB, which JSON may make a few times as long.
const LINE_MAX: u64 = 64 << 20;
/// The longest name that is kept: lines that hold nothing else unpack to a thousand times of what they take in the zip.
const NAME_MAX: usize = 1024;
const DOCUMENTS: &str = "documents.jsonl";

/// Says why an archive is no complete one.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read as a zip.
    #[error("{0}")]
    Zip(#[from] zip::result::ZipError),
    /// An entry cannot be read to its end, or its checksum is another.
    #[error("`{entry}` cannot be read: {source}")]
    Unreadable {
        /// The entry.
        entry: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is no document.
    #[error("line {line} of `{entry}` is no document")]
    NotADocument {
        /// The entry.
        entry: String,
        /// The line, from 1.
        line: usize,
    },
    /// A table is listed, and its documents are not there.
    #[error("the documents of table `{0}` are not in it")]
    TableMissing(String),
    /// A file is described, and its content is not there or is another.
    #[error("the file `{id}` {fault}")]
    File {
        /// The identifier of the file.
        id: String,
        /// What is wrong with it.
        fault: FileFault,
    },
}

/// Describes what is wrong with a file of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// Its content is not there.
    #[error("is described and not in it")]
    Missing,
    /// Its content has another length.
    #[error("has another length than its description says")]
    Length,
    /// Its content has another digest.
    #[error("has another SHA-256 than its description says")]
    Digest,
}

/// Says how a file is described.
#[derive(Deserialize)]
struct FileDescription {
    #[serde(rename = "_id")]
    id: String,
    sha256: Option<String>,
    size: Option<f64>,
}

/// Says how a table is listed.
#[derive(Deserialize)]
struct TableListing {
    name: String,
}

/// Reads an archive to its end and checks each of its lines and files.
///
/// # Errors
/// [`ArchiveError`] for the first thing in it that is not whole.
pub fn verify(archive: impl Read + Seek, files: ExportedFiles) -> Result<ArchiveContent, ArchiveError> {
    let mut archive = ZipArchive::new(archive)?;
    let mut content = ArchiveContent::default();
    let mut listed = BTreeSet::new();
    let mut described = BTreeMap::new();
    let mut stored = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let path = entry.name()?.into_owned();
        let Some((folder, name)) = path.rsplit_once('/') else {
            read_to_end(entry, &path)?;
            continue;
        };
        let (component, table) = folder.rsplit_once('/').map_or(("", folder), |(component, table)| (component, table));
        let component = component_path(component);
        match (table, name) {
            ("_tables", DOCUMENTS) => {
                read_documents(entry, &path, |listing: TableListing| {
                    let is_name = listing.name.len() <= NAME_MAX;
                    if is_name && !listing.name.starts_with('_') {
                        listed.insert((component.clone(), listing.name));
                    }
                    is_name
                })?;
            }
            ("_storage", DOCUMENTS) => {
                read_documents(entry, &path, |file: FileDescription| {
                    let is_name = |text: &String| text.len() <= NAME_MAX;
                    let is_description = is_name(&file.id) && file.sha256.as_ref().is_none_or(is_name);
                    if is_description {
                        described.insert((component.clone(), file.id.clone()), file);
                    }
                    is_description
                })?;
            }
            ("_storage", name) => {
                let id = name.split_once('.').map_or(name, |(id, _)| id).to_owned();
                stored.insert((component, id), read_to_end(entry, &path)?);
            }
            (table, DOCUMENTS) => {
                let documents = read_documents(entry, &path, |_: serde::de::IgnoredAny| true)?;
                content.tables.push(ArchivedTable { component, name: table.to_owned(), documents });
            }
            _ => drop(read_to_end(entry, &path)?),
        }
    }
    content.tables.sort_by(|one, other| (&one.component, &one.name).cmp(&(&other.component, &other.name)));
    let present: BTreeSet<_> = content.tables.iter().map(|table| (table.component.clone(), table.name.clone())).collect();
    if let Some((component, name)) = listed.difference(&present).next() {
        return Err(ArchiveError::TableMissing(format!("{component}{name}")));
    }
    if files == ExportedFiles::Included {
        for (key, file) in described {
            let found = stored.get(&key).ok_or(FileFault::Missing).and_then(|stored| stored.check(&file));
            content.file_bytes += found.map_err(|fault| ArchiveError::File { id: key.1, fault })?;
            content.files += 1;
        }
    }
    Ok(content)
}

/// Returns the path of a component from the folders of its entries, in which each name follows `_components`.
fn component_path(folders: &str) -> String {
    folders.split('/').filter(|folder| !folder.is_empty() && *folder != "_components").map(|name| format!("{name}/")).collect()
}

/// The length and the digest of a file that was read to its end.
struct StoredFile {
    length: u64,
    sha256: String,
}

impl StoredFile {
    /// Compares the file with its description, and returns its length.
    #[expect(clippy::cast_precision_loss, reason = "a file has far less than 2^53 bytes, and Convex writes a float")]
    fn check(&self, description: &FileDescription) -> Result<u64, FileFault> {
        if description.size.is_some_and(|size| size != self.length as f64) {
            return Err(FileFault::Length);
        }
        if description.sha256.as_ref().is_some_and(|sha256| *sha256 != self.sha256) {
            return Err(FileFault::Digest);
        }
        Ok(self.length)
    }
}

fn read_to_end(mut entry: impl Read, path: &str) -> Result<StoredFile, ArchiveError> {
    let unreadable = |source| ArchiveError::Unreadable { entry: path.to_owned(), source };
    let mut digest = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match entry.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            read => {
                length += read as u64;
                digest.update(&buffer[..read]);
            }
        }
    }
    Ok(StoredFile { length, sha256: base64::engine::general_purpose::STANDARD.encode(digest.finalize()) })
}

/// Reads an entry line by line as far as each is one that is taken, and returns how many documents it has.
fn read_documents<T: serde::de::DeserializeOwned>(
    entry: impl Read,
    path: &str,
    mut take: impl FnMut(T) -> bool,
) -> Result<usize, ArchiveError> {
    let mut reader = BufReader::new(entry);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let unreadable = |source| ArchiveError::Unreadable { entry: path.to_owned(), source };
        if reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            return Ok(number - 1);
        }
        match serde_json::from_slice(&line).map(&mut take) {
            Ok(true) => {}
            _ => return Err(ArchiveError::NotADocument { entry: path.to_owned(), line: number }),
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn zipped(entries: &[(&str, &str)]) -> Cursor<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap()
    }

    const FILE: (&str, &str) = ("_storage/kg1.txt", "hello");
    const DESCRIBED: &str =
        r#"{"_id":"kg1","sha256":"LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=","size":5.0,"contentType":null}"#;

    #[test]
    fn tables_of_components_documents_and_files_are_counted() {
        let archive = zipped(&[
            ("README.md", "words\n"),
            ("_tables/documents.jsonl", "{\"name\":\"messages\",\"id\":10001}\n{\"name\":\"_storage\",\"id\":1}\n"),
            ("messages/documents.jsonl", "{\"_id\":\"a\",\"n\":9007199254740993}\n{\"_id\":\"b\"}\n"),
            ("messages/generated_schema.jsonl", "\"uniform\"\n"),
            ("_storage/documents.jsonl", DESCRIBED),
            FILE,
            ("_components/counter/_components/shard/counts/documents.jsonl", "{\"_id\":\"c\"}\n"),
        ]);
        let content = verify(archive, ExportedFiles::Included).unwrap();
        let table = |component: &str, name: &str, documents| ArchivedTable {
            component: component.to_owned(),
            name: name.to_owned(),
            documents,
        };
        assert_eq!(content.tables, [table("", "messages", 2), table("counter/shard/", "counts", 1)]);
        assert_eq!((content.files, content.file_bytes, content.documents()), (1, 5, 3));
    }

    #[test]
    fn what_is_not_whole_is_named() {
        let fault = |entries: &[(&str, &str)]| verify(zipped(entries), ExportedFiles::Included).unwrap_err().to_string();
        assert_eq!(fault(&[("_tables/documents.jsonl", "{\"name\":\"m\"}")]), "the documents of table `m` are not in it");
        assert_eq!(fault(&[("m/documents.jsonl", "{}\n{\"a\"")]), "line 2 of `m/documents.jsonl` is no document");
        assert_eq!(fault(&[("_storage/documents.jsonl", DESCRIBED)]), "the file `kg1` is described and not in it");
        // Names without end are kept nowhere.
        let long = format!("{{\"_id\":\"{}\",\"name\":\"{0}\"}}", "x".repeat(2000));
        for entry in ["_storage/documents.jsonl", "_tables/documents.jsonl"] {
            assert_eq!(fault(&[(entry, &long)]), format!("line 1 of `{entry}` is no document"));
        }
        let described = ("_storage/documents.jsonl", DESCRIBED);
        assert!(fault(&[described, (FILE.0, "hell")]).ends_with("another length than its description says"));
        assert!(fault(&[described, (FILE.0, "HELLO")]).ends_with("another SHA-256 than its description says"));
        assert!(verify(zipped(&[described]), ExportedFiles::Excluded).is_ok());
    }

    #[test]
    fn an_archive_that_lost_a_byte_anywhere_is_refused() {
        let whole =
            zipped(&[("m/documents.jsonl", "{\"_id\":\"a\"}\n"), ("_storage/documents.jsonl", DESCRIBED), FILE]).into_inner();
        for end in 0..whole.len() {
            assert!(verify(Cursor::new(&whole[..end]), ExportedFiles::Included).is_err(), "cut at {end}");
        }
    }
}
