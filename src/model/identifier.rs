//! Identifiers and counters that the control plane hands out.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes a text that the control plane made.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text_identifier!(
    /// One backend for its whole life, across renames; also the name of its directory.
    BackendId
);
text_identifier!(
    /// One accepted piece of work.
    OperationId
);
text_identifier!(
    /// The public part of a token: by it a token is listed, named in the history and revoked.
    TokenId
);

/// One step of one plan: the name under which work is accepted once, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StepKey {
    /// The digest of the plan.
    pub plan: String,
    /// The step in it.
    pub step: String,
}

impl StepKey {
    /// Reads what [`fmt::Display`] wrote: a digest holds no `/`.
    pub fn parse(text: &str) -> Self {
        let (plan, step) = text.split_once('/').unwrap_or(("", text));
        Self { plan: plan.to_owned(), step: step.to_owned() }
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.plan, self.step)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next value.
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// How often the record of a project has changed; a plan names the revision it was made from.
    Revision
);
counter!(
    /// How often the specification of one backend has changed.
    Generation
);
