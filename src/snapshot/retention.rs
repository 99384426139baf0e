//! Retention: which snapshots of a backend are kept, and which may go.
//!
//! Must not do: delete anything.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::SnapshotManifest;
use crate::model::{BackendName, SnapshotId};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// From the Monday before the first of January 1970 to that day.
const DAYS_FROM_MONDAY: i64 = 3;

/// Says which snapshots of each backend are kept: its newest ones, and the newest one of each of the last days and weeks that have
/// any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// How many of the newest ones.
    pub last: usize,
    /// Of how many days, in UTC.
    pub daily: usize,
    /// Of how many weeks, from Monday in UTC.
    pub weekly: usize,
}

impl Retention {
    /// Returns the snapshots that may go, oldest first, of a list that has the oldest first. Kept in any case are the newest one of
    /// each backend, the one that `rollback` goes back to, and those whose origin no key proves: they were brought here on purpose.
    pub fn expired<'a>(&self, snapshots: &'a [SnapshotManifest]) -> Vec<&'a SnapshotManifest> {
        let mut of_backends = BTreeMap::<&BackendName, Vec<&SnapshotManifest>>::new();
        for manifest in snapshots.iter().rev().filter(|manifest| manifest.is_proven()) {
            of_backends.entry(&manifest.backend).or_default().push(manifest);
        }
        let kept: BTreeSet<&SnapshotId> = of_backends.values().flat_map(|newest_first| self.kept(newest_first)).collect();
        snapshots.iter().filter(|manifest| manifest.is_proven() && !kept.contains(&manifest.id)).collect()
    }

    fn kept<'a>(&self, newest_first: &[&'a SnapshotManifest]) -> BTreeSet<&'a SnapshotId> {
        let day = |manifest: &SnapshotManifest| manifest.created_at.0.div_euclid(DAY_MS);
        let week = |manifest: &SnapshotManifest| (day(manifest) + DAYS_FROM_MONDAY).div_euclid(7);
        let mut kept: BTreeSet<&SnapshotId> = newest_first.iter().take(self.last.max(1)).map(|manifest| &manifest.id).collect();
        kept.extend(newest_of_each(newest_first, day, self.daily));
        kept.extend(newest_of_each(newest_first, week, self.weekly));
        kept.extend(newest_first.iter().find(|manifest| manifest.before_upgrade_to.is_some()).map(|manifest| &manifest.id));
        kept
    }
}

/// Returns the newest snapshot of each of the last periods that have any.
fn newest_of_each<'a>(
    newest_first: &[&'a SnapshotManifest],
    period: impl Fn(&SnapshotManifest) -> i64,
    count: usize,
) -> Vec<&'a SnapshotId> {
    let mut newest: Vec<(i64, &SnapshotId)> = newest_first.iter().map(|manifest| (period(manifest), &manifest.id)).collect();
    newest.dedup_by_key(|(period, _)| *period);
    newest.into_iter().take(count).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackendId, InstanceName, ProjectName, ProviderKind, Timestamp};
    use crate::snapshot::manifest::{FORMAT, RowEncoding, SnapshotContent, UNPROVEN};

    fn taken(backend: &str, hour: i64) -> SnapshotManifest {
        SnapshotManifest {
            format: FORMAT,
            id: SnapshotId::parse(&format!("{backend}-{hour}")).unwrap(),
            project: ProjectName::parse("gremlin").unwrap(),
            backend: BackendName::parse(backend).unwrap(),
            backend_id: BackendId::new("id"),
            instance: InstanceName::parse("gremlin-dev").unwrap(),
            provider: ProviderKind::Simulated,
            engine: "sqlite".to_owned(),
            encoding: RowEncoding::SqlitePages,
            release: None,
            note: None,
            before_upgrade_to: None,
            created_at: Timestamp(hour * 60 * 60 * 1000),
            downtime_ms: None,
            content: SnapshotContent::default(),
            listing: Vec::new(),
        }
    }

    fn left(retention: Retention, snapshots: &[SnapshotManifest]) -> Vec<String> {
        let gone = retention.expired(snapshots);
        let stays = |manifest: &&SnapshotManifest| !gone.iter().any(|gone| gone.id == manifest.id);
        snapshots.iter().filter(stays).map(|manifest| manifest.id.to_string()).collect()
    }

    #[test]
    fn the_newest_ones_and_the_newest_of_each_day_and_week_stay() {
        // From Thursday, 1 January 1970, every six hours for twelve days.
        let snapshots: Vec<_> = (0..48).map(|number| taken("dev", number * 6)).collect();
        let keep = |last, daily, weekly| left(Retention { last, daily, weekly }, &snapshots);
        assert_eq!(keep(2, 0, 0), ["dev-276", "dev-282"]);
        assert_eq!(keep(0, 0, 0), ["dev-282"], "the newest one stays in any case");
        assert_eq!(keep(1, 3, 0), ["dev-234", "dev-258", "dev-282"]);
        // The weeks end on Sunday, the 4th, and Sunday, the 11th.
        assert_eq!(keep(0, 0, 9), ["dev-90", "dev-258", "dev-282"]);
        assert_eq!(keep(1, 1, 2), ["dev-258", "dev-282"]);
        assert_eq!(keep(100, 0, 0).len(), 48);
    }

    #[test]
    fn a_day_without_a_snapshot_counts_as_none() {
        let snapshots = [taken("dev", 1), taken("dev", 2), taken("dev", 24 * 300), taken("dev", 24 * 400)];
        let retention = Retention { last: 0, daily: 3, weekly: 0 };
        assert_eq!(left(retention, &snapshots), ["dev-2", "dev-7200", "dev-9600"]);
    }

    #[test]
    fn backends_are_counted_each_and_what_has_a_purpose_stays() {
        let mut snapshots: Vec<_> = (0..4).map(|hour| taken("dev", hour)).collect();
        snapshots.push(taken("old", 0));
        snapshots[0].backend_id = BackendId::new(UNPROVEN);
        snapshots[1].before_upgrade_to = Some("1.0".to_owned());
        let retention = Retention { last: 1, daily: 0, weekly: 0 };
        assert_eq!(left(retention, &snapshots), ["dev-0", "dev-1", "dev-3", "old-0"]);
    }
}
