//! What a step is about: `backend.dev`, `env_file.dev`, `env_file.dev:apps/web/.env.local`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::BackendName;

/// The kind of thing that an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressKind {
    /// The backend itself.
    Backend,
    /// The dashboard that belongs to it.
    Dashboard,
    /// The database that it keeps its documents in.
    Database,
    /// The env file that tells clients where it is.
    EnvFile,
}

impl AddressKind {
    const ALL: [Self; 4] = [Self::Backend, Self::Dashboard, Self::Database, Self::EnvFile];

    /// The word before the dot.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Dashboard => "dashboard",
            Self::Database => "database",
            Self::EnvFile => "env_file",
        }
    }
}

/// One thing that a plan can change: a kind and the backend that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Address {
    /// What kind of thing it is.
    pub kind: AddressKind,
    /// Whose it is.
    pub backend: BackendName,
    /// Which of several it is: the path of an env file that is not the first one of its backend.
    pub path: Option<String>,
}

impl Address {
    /// The address of a backend.
    pub fn backend(name: &BackendName) -> Self {
        Self { kind: AddressKind::Backend, backend: name.clone(), path: None }
    }

    /// Returns the address of the first env file of a backend.
    pub fn env_file(name: &BackendName) -> Self {
        Self { kind: AddressKind::EnvFile, backend: name.clone(), path: None }
    }

    /// Returns the address of another env file of a backend.
    pub fn env_file_at(name: &BackendName, path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..Self::env_file(name) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_ref().map(|path| format!(":{path}")).unwrap_or_default();
        f.pad(&format!("{}.{}{path}", self.kind.as_str(), self.backend))
    }
}

impl TryFrom<String> for Address {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (kind, name) = text.split_once('.').ok_or_else(|| format!("`{text}` is not an address such as `backend.dev`"))?;
        let kind = AddressKind::ALL
            .into_iter()
            .find(|candidate| candidate.as_str() == kind)
            .ok_or_else(|| format!("`{kind}` is not a kind of address"))?;
        let (name, path) = name.split_once(':').map_or((name, None), |(name, path)| (name, Some(path.to_owned())));
        Ok(Self { kind, backend: BackendName::parse(name).map_err(|error| error.to_string())?, path })
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}
