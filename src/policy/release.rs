//! The order of releases, and when a release may run on data that another one has written.

use crate::model::{Address, BackendName, Diagnostic, DowngradeConsent, Release, ReleaseOrder};

/// The builds whose commits are known to have been published as a tag: the first seven digits of the commit, and the day.
/// A commit by itself says nothing about its age.
const KNOWN_BUILDS: [(&str, &str); 2] = [("903b8b9", "2026-06-26"), ("652b828", "2026-08-22")];

/// Returns the newest release that this program knows to have been published. Only commands ask.
#[cfg(feature = "native")]
pub(crate) fn newest_known_release() -> Option<Release> {
    let newest = KNOWN_BUILDS.into_iter().max_by_key(|(_, day)| *day);
    newest.map(|(short, date)| Release::Precompiled { date: date.to_owned(), short: short.to_owned() })
}

/// Returns the day of a build, where its name or the table of known builds says so.
pub(crate) fn build_day(release: &Release) -> Option<&str> {
    match release {
        Release::Precompiled { date, .. } => Some(date),
        Release::Commit(commit) => KNOWN_BUILDS.iter().find(|(short, _)| commit.starts_with(short)).map(|(_, day)| *day),
        Release::Digest(_) | Release::Latest => None,
    }
}

/// The code of a refusal that consent answers, or builds that say themselves when they were made.
pub(crate) const RELEASE_ORDER_UNKNOWN: &str = "plan.release_order_unknown";

/// The newest release that was asked for on some data.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReleaseOnData<'a> {
    /// The release.
    pub(super) release: &'a Release,
    /// The day of the build that last ran there, where its provider knows it.
    pub(super) built_on: Option<&'a str>,
    /// Whether that build is the release: an update that did not end may have left an older one.
    pub(super) is_running: bool,
}

impl ReleaseOnData<'_> {
    /// Returns the order of `next` and what has run on the data. Where their names do not tell, the day does on which the
    /// build that ran there was made.
    fn order(self, next: &Release) -> ReleaseOrder {
        let by_name = release_order(self.release, next);
        match (by_name, self.built_on, build_day(next)) {
            (ReleaseOrder::Unknown, Some(ran), Some(day)) if day < ran => ReleaseOrder::Older,
            (ReleaseOrder::Unknown, Some(ran), Some(day)) if day > ran && self.is_running => ReleaseOrder::Newer,
            _ => by_name,
        }
    }
}

/// Returns the order of `next` and `known` in time.
pub(crate) fn release_order(known: &Release, next: &Release) -> ReleaseOrder {
    match (known.compare(next), build_day(known), build_day(next)) {
        (ReleaseOrder::Unknown, Some(before), Some(after)) => match before.cmp(after) {
            std::cmp::Ordering::Less => ReleaseOrder::Newer,
            std::cmp::Ordering::Greater => ReleaseOrder::Older,
            std::cmp::Ordering::Equal => ReleaseOrder::Unknown,
        },
        // What is newest when it is fetched is not older than what ran before.
        (ReleaseOrder::Unknown, _, _) if *next == Release::Latest => ReleaseOrder::Newer,
        (order, _, _) => order,
    }
}

/// Refuses an older release on data that a newer one has written, and one of unknown age without consent.
pub(super) fn release_refusal(
    name: &BackendName,
    ran: ReleaseOnData<'_>,
    next: &Release,
    consent: DowngradeConsent,
) -> Option<Diagnostic> {
    let known = ran.release;
    let (code, message) = match (ran.order(next), consent) {
        (ReleaseOrder::Older, _) => (
            "plan.downgrade",
            format!(
                "release `{next}` is older than `{known}`, which has already run on this data; the data's format only goes \
                 forward, so an older build may damage it. Name `{known}` or a newer release"
            ),
        ),
        (ReleaseOrder::Unknown, DowngradeConsent::Missing) => (
            RELEASE_ORDER_UNKNOWN,
            format!(
                "nothing says whether release `{next}` is newer than `{known}`, which has already run on this data; the data's \
                 format only goes forward, so an older build may damage it. If it is newer, add `--allow-downgrade {name}`"
            ),
        ),
        _ => return None,
    };
    Some(Diagnostic { address: Some(Address::backend(name)), ..Diagnostic::new(code, message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_of_the_build_that_ran_orders_what_names_do_not() {
        let release = |text: &str| Release::parse(text).unwrap();
        let unknown = release("aaaaaaa000000000000000000000000000000000");
        let order =
            |built_on, is_running, next: &str| ReleaseOnData { release: &unknown, built_on, is_running }.order(&release(next));
        let ran = Some("2026-07-15");
        assert_eq!(order(ran, true, "precompiled-2026-06-26-903b8b9"), ReleaseOrder::Older);
        assert_eq!(order(ran, true, "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf"), ReleaseOrder::Newer);
        // What was begun and did not end may be newer than what ran.
        assert_eq!(order(ran, false, "precompiled-2026-06-26-903b8b9"), ReleaseOrder::Older);
        assert_eq!(order(ran, false, "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf"), ReleaseOrder::Unknown);
        assert_eq!(order(ran, true, "precompiled-2026-07-15-bbbbbbb"), ReleaseOrder::Unknown);
        assert_eq!(order(None, true, "precompiled-2026-06-26-903b8b9"), ReleaseOrder::Unknown);
    }

    #[test]
    fn known_commits_are_ordered_by_the_day_of_their_build() {
        let release = |text: &str| Release::parse(text).unwrap();
        let old = release("903b8b9000000000000000000000000000000000");
        let new = release("652b828b5129e6cdbcaa3c20efa8d116d09ff3bf");
        let unknown = release("aaaaaaa000000000000000000000000000000000");
        assert_eq!(release_order(&old, &new), ReleaseOrder::Newer);
        assert_eq!(release_order(&new, &old), ReleaseOrder::Older);
        assert_eq!(release_order(&new, &unknown), ReleaseOrder::Unknown);
        assert_eq!(release_order(&new, &release("precompiled-2026-09-01-aaaaaaa")), ReleaseOrder::Newer);
        assert_eq!(release_order(&new, &Release::Latest), ReleaseOrder::Newer);
        assert_eq!(release_order(&Release::Latest, &new), ReleaseOrder::Unknown);
    }
}
