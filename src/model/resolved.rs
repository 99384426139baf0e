//! One backend as a provider gets it: everything that was decided, nothing left to choose.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::actual::Endpoints;
use super::field::FieldPath;
use super::identifier::{BackendId, Generation};
use super::name::{BackendName, InstanceName, ProjectName};
use super::secret::Secret;
use super::spec::BackendSpec;

/// Everything that a provider needs to observe, ensure or remove one backend.
#[derive(Debug, Clone)]
pub struct ResolvedBackend {
    /// Its identity across renames.
    pub id: BackendId,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// Its name in that project.
    pub name: BackendName,
    /// What its process calls itself.
    pub instance_name: InstanceName,
    /// What it should be.
    pub spec: BackendSpec,
    /// How often that has changed.
    pub generation: Generation,
    /// Its instance secret: 64 hex digits.
    pub instance_secret: Secret,
    /// Its admin key.
    pub admin_key: Secret,
    /// The values of the specification's secrets, by field.
    pub secrets: BTreeMap<FieldPath, Secret>,
    /// The ports that it listens on, for providers on this machine.
    pub ports: PortPair,
    /// Where clients reach it.
    pub endpoints: Endpoints,
    /// Whether it has ever been ready: whether there is data to lose.
    pub has_been_ready: bool,
    /// What the provider noted when it last ensured this backend.
    pub provider_state: ProviderState,
}

impl ResolvedBackend {
    /// Returns the backend as the target of a move of its rows: the database has nothing of it yet, its files stay where they are,
    /// and the lock is the source's.
    #[must_use]
    pub fn into_move_target(mut self) -> Self {
        self.has_been_ready = false;
        self.provider_state.remove(MOVE_LOCK);
        self.provider_state.insert(MOVE_TARGET.to_owned(), "true".to_owned());
        self
    }

    /// Returns whether it is the target of a move.
    pub fn is_move_target(&self) -> bool {
        self.provider_state.contains_key(MOVE_TARGET)
    }
}

/// Two ports of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PortPair {
    /// Of the API.
    pub api: u16,
    /// Of the HTTP actions.
    pub site: u16,
}

/// What a provider wants to remember about a backend, by its own keys (a binary's digest, a machine's id).
pub type ProviderState = BTreeMap<String, String>;

/// The key under which a provider notes when the build that runs was made, in RFC 3339.
pub const RELEASE_CREATED: &str = "release.created";

/// The key under which the control plane notes the newest release from before a change, until something of it was brought up.
pub const NEWEST_BEFORE: &str = "release.newest_before";

/// The code of a change that was taken back: what ran before runs again.
pub const NOT_REPLACED: &str = "provider.not_replaced";

/// The key under which a provider notes the volume of the data of a backend, where its labels do not say it.
pub const DATA_VOLUME: &str = "volume";

/// The key under which a provider notes the volume that was that of the data before.
pub const VOLUME_BEFORE: &str = "volume.before";

/// The key under which a provider notes the snapshot whose volume was switched to and has not come up yet.
pub const SWITCHED_TO: &str = "volume.switched";

/// The keys that say where the data of a backend is: they stay when its record is put back.
pub const DATA_KEYS: [&str; 3] = [DATA_VOLUME, VOLUME_BEFORE, SWITCHED_TO];

/// The key under which the control plane notes that the data of a backend is moving, so that it may be locked where it is
/// recorded to be.
pub const MOVE_LOCK: &str = "move.lock";
/// The key that marks a backend as the target of a move. It is never recorded.
const MOVE_TARGET: &str = "move.target";

/// The key under which a provider notes where the dashboard of a backend is.
pub const DASHBOARD_URL: &str = "dashboard_url";

/// The key under which a provider notes the URL at which the control plane reaches a backend, where that is not the URL
/// of its clients.
pub const INTERNAL_URL: &str = "reach";

/// The key under which a provider notes the URL of the API for clients, where only the place itself knows it.
pub const CLIENT_URL: &str = "client_url";

/// The key under which a provider notes the URL of the HTTP actions for clients, where only the place itself knows it.
pub const CLIENT_SITE_URL: &str = "client_site_url";
