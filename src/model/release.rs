//! Which Convex build runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One Convex build. Convex publishes no semantic versions: images are tagged with a commit, binaries with a
/// `precompiled-…` tag, and either can be pinned by digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Release {
    /// A commit of the backend's repository, 40 lower-case hex digits.
    Commit(String),
    /// A tag `precompiled-YYYY-MM-DD-xxxxxxx`.
    Precompiled {
        /// The day of the build, `YYYY-MM-DD`.
        date: String,
        /// The first seven digits of the commit.
        short: String,
    },
    /// An image digest, `sha256:` and 64 hex digits.
    Digest(String),
    /// The newest one at the time of the download: works, but is linted.
    Latest,
}

/// Why a text is not a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a release is a commit of 40 hex digits, a tag such as `precompiled-2026-08-21-652b828`, an image digest `sha256:…`, or `latest`"
)]
pub struct ReleaseError;

/// The order of two releases in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseOrder {
    /// The same build.
    Same,
    /// The second is newer than the first.
    Newer,
    /// The second is older than the first: going there is a downgrade.
    Older,
    /// Their names do not tell.
    Unknown,
}

/// Whether the user said by name that a release of unknown age may run on the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DowngradeConsent {
    /// Nothing was said.
    #[default]
    Missing,
    /// `--allow-downgrade NAME`.
    Given,
}

/// Whether the user said by name that the data of a backend may move to another place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MoveConsent {
    /// Nothing was said.
    #[default]
    Missing,
    /// `--allow-move NAME`.
    Given,
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_date(text: &str) -> bool {
    text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10
}

impl Release {
    /// Parses the text of a manifest.
    ///
    /// # Errors
    /// [`ReleaseError`] when the text has none of the known shapes.
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if is_hex(text, 40) {
            return Ok(Self::Commit(text.to_owned()));
        }
        if let Some(hex) = text.strip_prefix("sha256:") {
            return if is_hex(hex, 64) { Ok(Self::Digest(hex.to_owned())) } else { Err(ReleaseError) };
        }
        let rest = text.strip_prefix("precompiled-").ok_or(ReleaseError)?;
        match (rest.get(..10), rest.get(10..11), rest.get(11..)) {
            (Some(date), Some("-"), Some(short)) if is_date(date) && is_hex(short, 7) => {
                Ok(Self::Precompiled { date: date.to_owned(), short: short.to_owned() })
            }
            _ => Err(ReleaseError),
        }
    }

    /// Returns the order of `other` and this release in time.
    ///
    /// A build that crosses midnight UTC carries two tags with one commit (19 such pairs are known), so equal
    /// commits are the same build, even with other dates.
    pub fn compare(&self, other: &Self) -> ReleaseOrder {
        match (self, other) {
            (Self::Latest, _) | (_, Self::Latest) if self != other => ReleaseOrder::Unknown,
            (a, b) if a == b => ReleaseOrder::Same,
            (Self::Precompiled { short: a, .. }, Self::Precompiled { short: b, .. }) if a == b => ReleaseOrder::Same,
            (Self::Precompiled { date: a, .. }, Self::Precompiled { date: b, .. }) => match a.cmp(b) {
                std::cmp::Ordering::Less => ReleaseOrder::Newer,
                std::cmp::Ordering::Greater => ReleaseOrder::Older,
                std::cmp::Ordering::Equal => ReleaseOrder::Unknown,
            },
            (Self::Precompiled { short, .. }, Self::Commit(commit))
            | (Self::Commit(commit), Self::Precompiled { short, .. })
                if commit.starts_with(short.as_str()) =>
            {
                ReleaseOrder::Same
            }
            _ => ReleaseOrder::Unknown,
        }
    }

    /// The newer of what was known and what comes now. Where their names do not tell, the later word counts.
    pub fn newest(known: Option<Self>, now: Option<&Self>) -> Option<Self> {
        match (known, now) {
            (Some(known), Some(now)) if matches!(known.compare(now), ReleaseOrder::Older | ReleaseOrder::Same) => Some(known),
            (known, None) => known,
            (_, Some(now)) => Some(now.clone()),
        }
    }

    /// Whether the name always means the same build.
    pub fn is_pinned(&self) -> bool {
        !matches!(self, Self::Latest)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit(commit) => f.pad(commit),
            Self::Precompiled { date, short } => f.pad(&format!("precompiled-{date}-{short}")),
            Self::Digest(hex) => f.pad(&format!("sha256:{hex}")),
            Self::Latest => f.pad("latest"),
        }
    }
}

impl TryFrom<String> for Release {
    type Error = ReleaseError;
    fn try_from(text: String) -> Result<Self, ReleaseError> {
        Self::parse(&text)
    }
}

impl From<Release> for String {
    fn from(release: Release) -> String {
        release.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    #[test]
    fn the_known_shapes_parse_and_print() {
        for text in ["precompiled-2026-08-21-652b828", "652b828b5129e6cdbcaa3c20efa8d116d09ff3bf", "latest"] {
            assert_eq!(release(text).to_string(), text);
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(release(&digest).to_string(), digest);
        for text in
            ["", "1.2.3", "precompiled-2026-13-21-652b828", "precompiled-2026-08-21-652B828", "sha256:aa", "precompiled-é"]
        {
            assert_eq!(Release::parse(text), Err(ReleaseError), "{text}");
        }
    }

    #[test]
    fn time_orders_tags_and_one_commit_is_one_build() {
        let old = release("precompiled-2026-06-26-903b8b9");
        let new = release("precompiled-2026-08-21-652b828");
        assert_eq!(old.compare(&new), ReleaseOrder::Newer);
        assert_eq!(new.compare(&old), ReleaseOrder::Older);
        assert_eq!(new.compare(&release("precompiled-2026-08-22-652b828")), ReleaseOrder::Same);
        assert_eq!(new.compare(&release("652b828b5129e6cdbcaa3c20efa8d116d09ff3bf")), ReleaseOrder::Same);
        assert_eq!(old.compare(&release("652b828b5129e6cdbcaa3c20efa8d116d09ff3bf")), ReleaseOrder::Unknown);
        assert_eq!(Release::Latest.compare(&new), ReleaseOrder::Unknown);
        assert_eq!(Release::Latest.compare(&Release::Latest), ReleaseOrder::Same);
    }
}
