//! Names that users choose, and the instance name that follows from them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The longest project or backend name, in characters.
///
/// Two of these joined by a dash must stay within [`INSTANCE_NAME_MAX`]; a single one may use most of it.
pub const NAME_MAX: usize = 40;

/// The longest `project-backend`, in characters.
///
/// PostgreSQL cuts database names at 63 bytes, MySQL at 64, Fly app names end at 63, and the pods of a
/// Kubernetes StatefulSet need ten characters of their 63 for themselves. 48 leaves room for a suffix that
/// tells two equal names apart on every one of them.
pub const INSTANCE_NAME_MAX: usize = 48;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name needs at least one character")]
    Empty,
    /// The text is longer than the limit.
    #[error("a name has at most {limit} characters, this one has {length}")]
    TooLong {
        /// Characters found.
        length: usize,
        /// Characters allowed.
        limit: usize,
    },
    /// A character outside `[a-z][a-z0-9-]*`.
    #[error("a name starts with a letter a-z and goes on with letters a-z, digits and dashes")]
    Characters,
    /// The last character is a dash, which neither DNS labels nor Fly accept.
    #[error("a name ends with a letter or a digit")]
    TrailingDash,
}

fn check(text: &str, limit: usize) -> Result<(), NameError> {
    let mut characters = text.chars();
    let Some(first) = characters.next() else { return Err(NameError::Empty) };
    if !first.is_ascii_lowercase() || !characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Err(NameError::Characters);
    }
    if text.len() > limit {
        return Err(NameError::TooLong { length: text.len(), limit });
    }
    if text.ends_with('-') {
        return Err(NameError::TrailingDash);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $limit:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String", extend("pattern" = "^[a-z]([a-z0-9-]*[a-z0-9])?$", "maxLength" = $limit))]
        pub struct $name(String);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// [`NameError`] when the text breaks the rule that the error names.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text, $limit)?;
                Ok(Self(text.to_owned()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                check(&text, $limit)?;
                Ok(Self(text))
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
    };
}

name!(
    /// The name of a project: one namespace of backends inside one control plane.
    ProjectName, NAME_MAX
);
name!(
    /// The name of one backend inside a project, as the manifest spells it.
    BackendName, NAME_MAX
);
name!(
    /// The name that the Convex process calls itself: prefix of its keys, source of its database name.
    ///
    /// The control plane chooses it once and keeps it for the life of the data, because renaming an instance
    /// voids every key (recorded: "other name on same data").
    InstanceName, INSTANCE_NAME_MAX + 4
);

name!(
    /// Names one snapshot of a backend: the backend, the moment and a few random digits.
    SnapshotId, NAME_MAX + 40
);

impl SnapshotId {
    /// Returns the name of a snapshot of a backend at a moment.
    ///
    /// # Errors
    /// Never for a moment of this age of the world.
    pub fn of(backend: &BackendName, moment: Timestamp, random: [u8; 3]) -> Result<Self, NameError> {
        let digits: String =
            moment.to_string().chars().filter(char::is_ascii_alphanumeric).take("20261130t215500".len()).collect();
        Self::parse(&format!("{backend}-{}-{}", digits.to_lowercase(), hex::encode(random)))
    }
}

impl InstanceName {
    /// Returns the name that a backend gets when no other backend has it.
    ///
    /// # Errors
    /// [`NameError::TooLong`] when both names together exceed [`INSTANCE_NAME_MAX`].
    pub fn preferred(project: &ProjectName, backend: &BackendName) -> Result<Self, NameError> {
        let text = format!("{project}-{backend}");
        check(&text, INSTANCE_NAME_MAX)?;
        Ok(Self(text))
    }

    /// Returns the preferred name with a number, for two projects whose names join to the same text.
    ///
    /// # Errors
    /// [`NameError::TooLong`] when the number does not fit.
    pub fn numbered(&self, number: u32) -> Result<Self, NameError> {
        Self::parse(&format!("{}-{number}", self.0))
    }

    /// The name of the database that Convex insists on: the instance name with `-` as `_`.
    pub fn database(&self) -> String {
        self.0.replace('-', "_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_that_the_error_states() {
        assert!(BackendName::parse("dev").is_ok());
        assert!(BackendName::parse("a1-b2").is_ok());
        assert_eq!(BackendName::parse(""), Err(NameError::Empty));
        assert_eq!(BackendName::parse("Dev"), Err(NameError::Characters));
        assert_eq!(BackendName::parse("1dev"), Err(NameError::Characters));
        assert_eq!(BackendName::parse("dév"), Err(NameError::Characters));
        assert_eq!(BackendName::parse("dev-"), Err(NameError::TrailingDash));
        assert!(matches!(BackendName::parse(&"a".repeat(41)), Err(NameError::TooLong { .. })));
    }

    #[test]
    fn instance_names_fit_every_database() {
        let project = ProjectName::parse("gremlin").unwrap();
        let backend = BackendName::parse("dev").unwrap();
        let instance = InstanceName::preferred(&project, &backend).unwrap();
        assert_eq!(instance.as_str(), "gremlin-dev");
        assert_eq!(instance.database(), "gremlin_dev");
        assert_eq!(instance.numbered(2).unwrap().as_str(), "gremlin-dev-2");
        let long = ProjectName::parse(&"p".repeat(40)).unwrap();
        let eight = BackendName::parse("abcdefgh").unwrap();
        assert!(InstanceName::preferred(&long, &eight).is_err());
    }
}
