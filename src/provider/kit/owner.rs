//! Ownership of what is found at a provider: a mark with the backend's identity proves it, a name does not.

use crate::model::BackendId;

/// Whose something is, as far as its mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership<'a> {
    /// It carries the identity of the backend, which only its control plane knows.
    Ours,
    /// It carries the identity of another backend of convexinfra.
    Other(&'a str),
    /// It carries no mark: something else made it.
    Unmarked,
}

impl<'a> Ownership<'a> {
    /// Reads a mark (a label, a piece of metadata, a file), if there is one.
    pub fn of(mark: Option<&'a str>, id: &BackendId) -> Self {
        match mark {
            Some(mark) if mark == id.as_str() => Self::Ours,
            Some(mark) => Self::Other(mark),
            None => Self::Unmarked,
        }
    }

    /// Returns whether it is ours.
    pub fn is_ours(self) -> bool {
        self == Self::Ours
    }
}
