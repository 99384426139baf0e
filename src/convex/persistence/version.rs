//! Which builds know which version of the database, by the day on which they were made.
//!
//! Migrations only go forward, and a build that is older than the data runs on it all the same and damages it.

/// The days on which versions came to be, `YYYY-MM-DD`, the oldest first. What came after the last one is not in the list.
const VERSIONS: [(i64, &str); 14] = [
    (116, "2025-02-20"),
    (117, "2025-03-27"),
    (118, "2025-04-01"),
    (119, "2025-04-02"),
    (120, "2025-07-02"),
    (121, "2025-07-14"),
    (122, "2025-08-27"),
    (123, "2025-11-12"),
    (124, "2025-11-20"),
    (125, "2026-05-12"),
    (126, "2026-06-27"),
    (127, "2026-07-14"),
    (128, "2026-07-14"),
    (129, "2026-08-14"),
];
/// Builds after this day migrate no database below the first version of the list.
const FLOOR_DAY: &str = "2025-05-28";

/// Says why a build cannot run on a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionConflict {
    /// No build before this day knows the version.
    BuildTooOld(&'static str),
    /// No build after this day migrates the version.
    DatabaseTooOld(&'static str),
}

/// Returns why a build of a day cannot run on a database of a version; none where nothing is known against it.
pub fn version_conflict(version: i64, build_day: &str) -> Option<VersionConflict> {
    // A version beyond the list is younger than the last one in it.
    let known_since = VERSIONS.into_iter().rev().find(|(known, _)| *known <= version).map(|(_, day)| day);
    match known_since {
        Some(day) if build_day < day => Some(VersionConflict::BuildTooOld(day)),
        None if build_day > FLOOR_DAY => Some(VersionConflict::DatabaseTooOld(FLOOR_DAY)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_runs_on_what_it_knows() {
        assert_eq!(version_conflict(128, "2026-08-21"), None);
        assert_eq!(version_conflict(128, "2026-07-14"), None);
        assert_eq!(version_conflict(128, "2026-07-13"), Some(VersionConflict::BuildTooOld("2026-07-14")));
        assert_eq!(version_conflict(133, "2026-08-13"), Some(VersionConflict::BuildTooOld("2026-08-14")));
        assert_eq!(version_conflict(133, "2026-09-30"), None);
        assert_eq!(version_conflict(115, "2025-05-28"), None);
        assert_eq!(version_conflict(115, "2026-08-21"), Some(VersionConflict::DatabaseTooOld("2025-05-28")));
    }

    #[test]
    fn versions_and_days_grow() {
        assert!(VERSIONS.is_sorted());
    }
}
