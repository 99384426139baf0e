//! Snapshots as text, and the data that is lost where it is destroyed or replaced.

use super::plural::counted;
use super::style::Style;
use super::table::table;
use crate::model::{DataSize, Timestamp};
use crate::snapshot::SnapshotManifest;

/// Renders bytes as people read them.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// Renders how long ago a moment was, in its largest unit.
pub(super) fn age(moment: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(moment).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Describes a snapshot in sentences for people.
pub fn describe_snapshot(manifest: &SnapshotManifest) -> String {
    let content = &manifest.content;
    let release = manifest.release.as_deref().map(|release| format!(", release {release}")).unwrap_or_default();
    let note = manifest.note.as_deref().map(|note| format!("; {note}")).unwrap_or_default();
    let downtime = match manifest.downtime_ms {
        Some(downtime) => format!("`{}` did not run for {downtime} ms meanwhile", manifest.backend),
        None => format!("`{}` did not run", manifest.backend),
    };
    format!(
        "snapshot `{}` of `{}`, as of {}: {} database of {} and {} of {}{release}{note}\n{downtime}; it added {} to the store\n",
        manifest.id,
        manifest.backend,
        manifest.created_at,
        manifest.engine,
        size(content.database_bytes),
        counted(usize::try_from(content.files).unwrap_or(usize::MAX), "file"),
        size(content.file_bytes),
        size(content.stored_bytes),
    )
}

/// Renders snapshots as a table.
pub fn snapshot_table(snapshots: &[SnapshotManifest], now: Timestamp, style: Style) -> String {
    let rows: Vec<[String; 6]> = snapshots
        .iter()
        .map(|manifest| {
            let content = &manifest.content;
            [
                manifest.id.to_string(),
                manifest.backend.to_string(),
                age(manifest.created_at, now),
                size(content.bytes()),
                size(content.stored_bytes),
                manifest.note.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(["SNAPSHOT", "BACKEND", "TAKEN", "SIZE", "ADDED", "NOTE"], &rows, style)
}

/// Renders the data of a backend that would be lost, as exactly as it is known.
pub fn graded_data(data: Option<&DataSize>, last_snapshot: Option<Timestamp>) -> String {
    let data = data.map_or_else(
        || "data of unknown size".to_owned(),
        |data| {
            let files = counted(usize::try_from(data.files).unwrap_or(usize::MAX), "file");
            format!("a database of {} and {files} of {}", size(data.database_bytes), size(data.file_bytes))
        },
    );
    let snapshot = last_snapshot.map_or_else(|| "no snapshot".to_owned(), |moment| format!("last snapshot of {moment}"));
    format!("{data}; {snapshot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_have_one_unit() {
        assert_eq!([size(0), size(1023), size(1024), size(1_288_490_188)], ["0 B", "1023 B", "1.0 KiB", "1.1 GiB"]);
        assert_eq!(size(u64::MAX), "16383.9 PiB");
        let ago = |milliseconds: i64| age(Timestamp(0), Timestamp(milliseconds));
        assert_eq!([ago(-5), ago(59_999), ago(3_600_000), ago(90_000_000)], ["0 s ago", "59 s ago", "1 h ago", "1 d ago"]);
    }
}
