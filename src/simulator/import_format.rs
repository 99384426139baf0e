//! From the bytes of an import to documents: zip, lines of JSON, one array of JSON, CSV.

use std::io::{BufRead, BufReader, Cursor, Read};

use serde_json::{Map, Value};

use super::documents::Tables;

/// The most that an import may unfold to.
const DECOMPRESSED_MAX: u64 = 256 << 20;

/// Says how documents are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ImportFormat {
    Csv,
    JsonLines,
    JsonArray,
    Zip,
}

/// Says why bytes are not what they are said to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParseError {
    #[error("a table's name is letters, digits and `_`, with a letter in front: `{0}` is not one")]
    TableName(String),
    #[error("this format needs the name of a table, and only zip does without")]
    NoTable,
    #[error("a zip file brings its tables along, so it takes no name of a table")]
    NeedlessTable,
    #[error("the zip file cannot be read")]
    Zip(#[from] zip::result::ZipError),
    #[error("the bytes cannot be read")]
    Read(#[from] std::io::Error),
    #[error("the CSV cannot be read")]
    Csv(#[from] csv::Error),
    #[error("`{table}`, document {number}: {source}")]
    Json { table: String, number: usize, source: serde_json::Error },
    #[error("there is more in it than {DECOMPRESSED_MAX} bytes")]
    TooLarge,
}

/// Reads the documents.
pub(super) fn parse(format: ImportFormat, table: Option<&str>, bytes: &[u8]) -> Result<Tables, ParseError> {
    if format == ImportFormat::Zip {
        return if table.is_some() { Err(ParseError::NeedlessTable) } else { zip(bytes) };
    }
    let table = table.ok_or(ParseError::NoTable)?;
    if !is_table_name(table) {
        return Err(ParseError::TableName(table.to_owned()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let documents = match format {
        ImportFormat::JsonArray => {
            serde_json::from_slice(bytes).map_err(|source| ParseError::Json { table: table.to_owned(), number: 1, source })?
        }
        ImportFormat::Csv => comma_separated(bytes)?,
        ImportFormat::JsonLines | ImportFormat::Zip => lines(table, bytes)?,
    };
    Ok(Tables::from([(table.to_owned(), documents)]))
}

/// Returns whether a text may name a table of users: names beginning with `_` are Convex's own.
pub(super) fn is_table_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn zip(bytes: &[u8]) -> Result<Tables, ParseError> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes))?;
    let mut tables = Tables::new();
    let mut left = DECOMPRESSED_MAX;
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let Some(table) = entry.name()?.strip_suffix("/documents.jsonl").map(str::to_owned) else { continue };
        // `_tables`, `_storage` and components: not kept here.
        if table.starts_with('_') {
            continue;
        }
        if !is_table_name(&table) {
            return Err(ParseError::TableName(table));
        }
        let mut text = Vec::new();
        entry.take(left + 1).read_to_end(&mut text)?;
        left = left.checked_sub(text.len() as u64).ok_or(ParseError::TooLarge)?;
        let documents = lines(&table, &text)?;
        tables.insert(table, documents);
    }
    Ok(tables)
}

fn lines(table: &str, bytes: &[u8]) -> Result<Vec<Map<String, Value>>, ParseError> {
    let mut documents = Vec::new();
    for (index, line) in BufReader::new(bytes).split(b'\n').enumerate() {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let document = serde_json::from_slice(&line).map_err(|source| ParseError::Json {
            table: table.to_owned(),
            number: index + 1,
            source,
        })?;
        documents.push(document);
    }
    Ok(documents)
}

/// Returns what reads as a number becomes one, everything else a text.
fn comma_separated(bytes: &[u8]) -> Result<Vec<Map<String, Value>>, ParseError> {
    let mut reader = csv::Reader::from_reader(bytes);
    let names = reader.headers()?.clone();
    let value = |text: &str| match text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    };
    reader
        .records()
        .map(|row| Ok(names.iter().zip(row?.iter()).map(|(name, text)| (name.to_owned(), value(text))).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_format_is_read() {
        for (format, text) in [
            (ImportFormat::JsonLines, "{\"a\":1}\n\n{\"a\":2}\n"),
            (ImportFormat::JsonArray, "\u{feff}[{\"a\":1},{\"a\":2}]"),
            (ImportFormat::Csv, "a\n1\n2\n"),
        ] {
            let tables = parse(format, Some("notes"), text.as_bytes()).unwrap();
            let values: Vec<f64> = tables["notes"].iter().map(|document| document["a"].as_f64().unwrap()).collect();
            assert_eq!(values, [1.0, 2.0], "{format:?}");
        }
        assert!(matches!(parse(ImportFormat::JsonLines, None, b""), Err(ParseError::NoTable)));
        assert!(matches!(parse(ImportFormat::JsonLines, Some("_x"), b""), Err(ParseError::TableName(_))));
        assert!(matches!(parse(ImportFormat::Zip, Some("x"), b""), Err(ParseError::NeedlessTable)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in [ImportFormat::JsonLines, ImportFormat::JsonArray, ImportFormat::Csv] {
                let _ = parse(format, Some("t"), &bytes);
            }
            let _ = parse(ImportFormat::Zip, None, &bytes);
        }
    }
}
