//! Where an external backend keeps its data: ours keep it at fixed places of one volume, so what is elsewhere would stay behind. Pure.

use std::collections::BTreeMap;

use super::ExternalS3;

/// Where the official image keeps everything.
const DATA: &str = "/convex/data";
/// The directory that relative paths start from in the official image.
const WORKING_DIRECTORY: &str = "/convex";

/// What a backend keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// The database file.
    Documents,
    /// Files and modules.
    Files,
}

/// Data that lies at another place than ours will.
#[derive(Debug)]
pub(crate) struct Misplaced {
    pub(crate) what: Data,
    pub(crate) variable: &'static str,
    pub(crate) path: String,
    pub(crate) place: String,
}

impl Misplaced {
    /// Says what lies where.
    pub(crate) fn sentence(&self) -> String {
        let Self { what, variable, path, place } = self;
        let what = match what {
            Data::Documents => "documents",
            Data::Files => "files and modules",
        };
        format!("its {what} in `{path}` (`{variable}`) instead of `{place}`")
    }
}

/// Returns what these variables put to another place than ours will be.
pub(crate) fn misplaced_data(variables: &BTreeMap<String, String>) -> Vec<Misplaced> {
    let given = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let data = given("DATA_DIR").map_or(DATA.to_owned(), |path| absolute(path));
    let files = given("STORAGE_DIR").map_or(format!("{data}/storage"), |path| absolute(path));
    let documents = given("SQLITE_DB").map_or(format!("{data}/db.sqlite3"), |path| absolute(path));
    let has_server = ["POSTGRES_URL", "MYSQL_URL", "DATABASE_URL"].into_iter().any(|name| given(name).is_some());
    let has_s3 = ExternalS3::read(|name| given(name).cloned()).is_some();
    let mut moves = Vec::new();
    for (what, variable, path, place, counts) in [
        (Data::Documents, "SQLITE_DB", documents, format!("{DATA}/db.sqlite3"), !has_server),
        (Data::Files, "STORAGE_DIR", files, format!("{DATA}/storage"), !has_s3),
    ] {
        if counts && path != place {
            let variable = if given(variable).is_some() { variable } else { "DATA_DIR" };
            moves.push(Misplaced { what, variable, path, place });
        }
    }
    moves
}

/// Returns a path of the official image without what means nothing.
fn absolute(path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{WORKING_DIRECTORY}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
