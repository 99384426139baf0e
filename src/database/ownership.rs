//! Ownership of a database, judged by its content, and whether a backend may take it.
//!
//! Pure decisions over [`DatabaseContent`].

use super::{DatabaseError, DatabaseSpec};
use crate::model::BackendId;

/// What the label of an owner ends with while the backend is destroyed and its files are retained with the database.
const RETAINED_SUFFIX: &str = ", which was destroyed and whose files stay where it ran";

/// The owner of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseOwner {
    /// The backend's identity, which no other control plane hands out.
    pub backend: BackendId,
    /// Project and backend by name, for people.
    pub label: String,
}

impl DatabaseOwner {
    /// Returns the same owner while its backend is destroyed and its data retained.
    pub(super) fn retaining(&self) -> Self {
        Self { backend: self.backend.clone(), label: format!("{}{RETAINED_SUFFIX}", self.label) }
    }
}

/// Says whether a database may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// It may.
    MayCreate,
    /// It holds the backend's data: an empty one in its place would hide that the data is gone.
    MustExist,
}

/// Says how a database came to be the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseOrigin {
    /// It was created now.
    Created,
    /// It was there and empty.
    FoundEmpty,
    /// It was left with its data by a backend that was destroyed: for any of its name, or for the same one again.
    Retained,
    /// It was the backend's before.
    AlreadyOwned,
}

/// Describes the content of a database, as far as it shows its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DatabaseContent {
    /// How many tables there are besides the owner's mark.
    pub(super) tables: u64,
    /// Whether Convex's table of documents is there and has a row.
    pub(super) has_documents: bool,
    /// Whether some of Convex's tables are there and others are not: a first start that was cut off.
    pub(super) is_half_made: bool,
    /// What the owner's mark says.
    pub(super) mark: OwnerMark,
}

impl DatabaseContent {
    /// Returns whether there is nothing in it that a backend would miss.
    fn is_empty(&self) -> bool {
        self.tables == 0 || (self.is_half_made && !self.has_documents)
    }
}

/// Describes what the owner's mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnerMark {
    /// There is none.
    Absent,
    /// The last owner released the database.
    Released,
    /// It names a backend, by id and label.
    HeldBy(String, String),
}

/// Decides how a database becomes the backend's.
///
/// # Errors
/// [`DatabaseError`]: why it must not.
pub(super) fn check_ownership(content: &DatabaseContent, spec: &DatabaseSpec) -> Result<DatabaseOrigin, DatabaseError> {
    let database = || spec.database.clone();
    match (&content.mark, spec.expectation) {
        (OwnerMark::HeldBy(id, label), _) if *id != spec.owner.backend.as_str() => {
            Err(DatabaseError::OwnedByOther { database: database(), holder: label.clone() })
        }
        // Its own mark in a database that has lost everything else says that the data is gone.
        (_, Expectation::MustExist) if content.is_empty() => Err(DatabaseError::DataMissing { database: database() }),
        (OwnerMark::HeldBy(_, label), _) if label.ends_with(RETAINED_SUFFIX) => Ok(DatabaseOrigin::Retained),
        // It ran on this database before there were marks.
        (_, Expectation::MustExist) | (OwnerMark::HeldBy(..), _) => Ok(DatabaseOrigin::AlreadyOwned),
        (OwnerMark::Absent, Expectation::MayCreate) if content.tables > 0 => {
            Err(DatabaseError::NotEmpty { database: database(), tables: content.tables })
        }
        (_, Expectation::MayCreate) if content.is_empty() => Ok(DatabaseOrigin::FoundEmpty),
        (OwnerMark::Released | OwnerMark::Absent, Expectation::MayCreate) => Ok(DatabaseOrigin::Retained),
    }
}

/// Returns whether a database is the backend's to release or drop.
pub(super) fn is_owned(content: &DatabaseContent, spec: &DatabaseSpec) -> bool {
    match (&content.mark, spec.expectation) {
        (OwnerMark::HeldBy(id, _), _) => *id == spec.owner.backend.as_str(),
        // Empty, released by an earlier owner, or its own from before there were marks.
        (OwnerMark::Released, _) | (OwnerMark::Absent, Expectation::MustExist) => true,
        (OwnerMark::Absent, Expectation::MayCreate) => content.tables == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BackendRole, FileStore};
    use super::*;

    fn spec(expectation: Expectation) -> DatabaseSpec {
        DatabaseSpec {
            database: "gremlin_dev".to_owned(),
            owner: DatabaseOwner { backend: BackendId::new("mine"), label: "gremlin/dev".to_owned() },
            role: BackendRole { name: "convex_mine".to_owned(), password: None },
            expectation,
            files: FileStore::Remote,
        }
    }

    fn content(tables: u64, mark: OwnerMark) -> DatabaseContent {
        DatabaseContent { tables, has_documents: tables > 0, is_half_made: false, mark }
    }

    fn held(id: &str) -> OwnerMark {
        OwnerMark::HeldBy(id.to_owned(), "other/dev".to_owned())
    }

    fn checked(content: &DatabaseContent, expectation: Expectation) -> Result<DatabaseOrigin, DatabaseError> {
        check_ownership(content, &spec(expectation))
    }

    #[test]
    fn only_an_own_released_or_empty_database_is_taken() {
        use Expectation::{MayCreate, MustExist};
        for tables in [0, 9] {
            for expectation in [MayCreate, MustExist] {
                assert!(matches!(
                    checked(&content(tables, held("theirs")), expectation),
                    Err(DatabaseError::OwnedByOther { holder, .. }) if holder == "other/dev"
                ));
            }
            assert!(matches!(checked(&content(tables, held("mine")), MayCreate), Ok(DatabaseOrigin::AlreadyOwned)));
        }
        assert!(matches!(checked(&content(9, held("mine")), MustExist), Ok(DatabaseOrigin::AlreadyOwned)));
        assert!(matches!(checked(&content(0, held("mine")), MustExist), Err(DatabaseError::DataMissing { .. })));
        let kept = OwnerMark::HeldBy("mine".to_owned(), format!("other/dev{RETAINED_SUFFIX}"));
        assert!(matches!(checked(&content(9, kept), MustExist), Ok(DatabaseOrigin::Retained)));
        assert!(matches!(checked(&content(0, OwnerMark::Absent), MayCreate), Ok(DatabaseOrigin::FoundEmpty)));
        assert!(matches!(checked(&content(9, OwnerMark::Absent), MayCreate), Err(DatabaseError::NotEmpty { tables: 9, .. })));
        assert!(matches!(checked(&content(9, OwnerMark::Released), MayCreate), Ok(DatabaseOrigin::Retained)));
        for mark in [OwnerMark::Absent, OwnerMark::Released] {
            assert!(matches!(checked(&content(0, mark.clone()), MustExist), Err(DatabaseError::DataMissing { .. })));
            assert!(matches!(checked(&content(9, mark), MustExist), Ok(DatabaseOrigin::AlreadyOwned)));
        }
    }

    #[test]
    fn a_half_made_schema_without_documents_is_as_good_as_empty() {
        let half = |mark| DatabaseContent { has_documents: false, is_half_made: true, ..content(4, mark) };
        let (may, must) = (Expectation::MayCreate, Expectation::MustExist);
        assert!(matches!(checked(&half(held("mine")), may), Ok(DatabaseOrigin::AlreadyOwned)));
        assert!(matches!(checked(&half(OwnerMark::Released), may), Ok(DatabaseOrigin::FoundEmpty)));
        assert!(matches!(checked(&half(held("mine")), must), Err(DatabaseError::DataMissing { .. })));
        // It may be the work of others all the same.
        assert!(matches!(checked(&half(OwnerMark::Absent), may), Err(DatabaseError::NotEmpty { .. })));
    }

    #[test]
    fn only_an_own_database_is_dropped() {
        use Expectation::{MayCreate, MustExist};
        let owned = |tables, mark, expectation| is_owned(&content(tables, mark), &spec(expectation));
        for expectation in [MayCreate, MustExist] {
            assert!(owned(9, held("mine"), expectation));
            assert!(!owned(9, held("theirs"), expectation) && !owned(0, held("theirs"), expectation));
        }
        assert!(!owned(9, OwnerMark::Absent, MayCreate));
        assert!(owned(9, OwnerMark::Absent, MustExist) && owned(0, OwnerMark::Absent, MayCreate));
    }
}
