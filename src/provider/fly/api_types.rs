//! What Fly's Machines API answers. Its specification says of no field that it is always there, so none is taken for
//! granted here, and what is not known is passed over.
//!
//! Must not do: read anything into a field that is missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads a field that a server may write as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Declares types of answers, each field of which may be missing or `null`.
macro_rules! api_type {
    ($($(#[$meta:meta])* struct $name:ident { $($(#[$attribute:meta])* $visibility:vis $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct $name {
            $($(#[$attribute])* #[serde(deserialize_with = "or_default")] $visibility $field: $type,)*
        }
    )*};
}

api_type! {
    /// An app.
    struct App {
        pub(super) network: Option<String>,
        /// An object with a `slug`; others answer with the bare slug.
        organization: Option<Value>,
    }
}

impl App {
    /// The slug of the organisation that it belongs to.
    pub(super) fn organisation(&self) -> Option<&str> {
        let slug = match self.organization.as_ref()? {
            Value::String(slug) => slug,
            other => other.get("slug")?.as_str()?,
        };
        Some(slug).filter(|slug| !slug.is_empty())
    }
}

api_type! {
    /// What may be done with a token.
    struct TokenList {
        pub(super) tokens: Vec<TokenInfo>,
    }

    struct TokenInfo {
        pub(super) org_slug: Option<String>,
    }

    struct IpAssignments {
        pub(super) ips: Vec<IpAssignment>,
    }

    /// An address of an app.
    struct IpAssignment {
        pub(super) ip: String,
        pub(super) created_at: Option<String>,
    }
}

impl IpAssignment {
    /// Whether the world reaches the app under it by IPv6; `fdaa:` is the organisation's own network.
    pub(super) fn is_v6(&self) -> bool {
        self.ip.contains(':') && !self.ip.starts_with("fdaa:")
    }

    /// Whether the world reaches the app under it by IPv4, shared or not.
    pub(super) fn is_v4(&self) -> bool {
        !self.ip.is_empty() && !self.ip.contains(':')
    }
}

api_type! {
    struct AppSecrets {
        pub(super) secrets: Vec<SecretEntry>,
        version: Option<u64>,
        /// What the same number was called before.
        #[serde(rename = "Version")]
        old_version: Option<u64>,
    }
}

impl AppSecrets {
    /// The version of the vault after a change.
    pub(super) fn version(&self) -> Option<u64> {
        self.version.or(self.old_version)
    }

    /// Adds what the answer to one set secret says.
    pub(super) fn add(&mut self, name: &str, set: SetSecretResponse) {
        if !set.digest.is_empty() {
            self.secrets.push(SecretEntry { name: name.to_owned(), digest: set.digest });
        }
        self.version = set.version.or(set.old_version).or(self.version);
    }

    /// Adds what is not there yet.
    pub(super) fn add_missing(&mut self, listed: Self) {
        for entry in listed.secrets {
            if !self.secrets.iter().any(|known| known.name == entry.name) {
                self.secrets.push(entry);
            }
        }
    }

    /// The digests by name.
    pub(super) fn digests(&self) -> BTreeMap<&str, &str> {
        self.secrets.iter().map(|entry| (entry.name.as_str(), entry.digest.as_str())).collect()
    }
}

api_type! {
    struct SecretEntry {
        pub(super) name: String,
        pub(super) digest: String,
    }

    /// The answer to one secret that was set.
    struct SetSecretResponse {
        digest: String,
        version: Option<u64>,
        #[serde(rename = "Version")]
        old_version: Option<u64>,
    }

    /// A volume.
    struct Volume {
        pub(super) id: String,
        pub(super) name: String,
        pub(super) state: String,
        pub(super) region: String,
        pub(super) size_gb: u32,
        pub(super) attached_machine_id: Option<String>,
        pub(super) created_at: Option<String>,
        pub(super) host_status: Option<String>,
        /// Only where the volumes of a whole organisation are listed.
        pub(super) app_name: Option<String>,
    }
}

impl Volume {
    /// Whether it is there to stay. A volume that was deleted is listed for a day more.
    pub(super) fn is_live(&self) -> bool {
        !matches!(
            self.state.as_str(),
            "scheduling_destroy" | "fork_cleanup" | "waiting_for_detach" | "pending_destroy" | "destroying" | "destroyed"
        )
    }

    /// Whether a machine can be made with it.
    pub(super) fn is_usable(&self) -> bool {
        // Where the state is left out, it is not one of those that say no.
        matches!(self.state.as_str(), "created" | "") || (self.is_live() && self.attached_machine_id.is_some())
    }

    /// Whether the host that it is on answers.
    pub(super) fn is_host_reachable(&self) -> bool {
        is_host_ok(self.host_status.as_deref())
    }

    /// The machine that it is attached to.
    pub(super) fn attached_machine(&self) -> Option<&str> {
        self.attached_machine_id.as_deref().filter(|id| !id.is_empty())
    }
}

api_type! {
    struct ExtendResponse {
        pub(super) needs_restart: bool,
    }

    struct VolumePage {
        pub(super) volumes: Vec<Volume>,
        pub(super) next_cursor: Option<String>,
        /// Regions that did not answer, so that their volumes are not listed.
        pub(super) error_regions: Vec<String>,
    }
}

/// Whether a host answers that is in this state.
fn is_host_ok(host_status: Option<&str>) -> bool {
    matches!(host_status, None | Some("" | "ok"))
}

api_type! {
    /// A machine.
    struct Machine {
        pub(super) id: String,
        pub(super) name: String,
        pub(super) state: String,
        pub(super) region: String,
        pub(super) instance_id: Option<String>,
        pub(super) config: Option<Value>,
        /// What little is known of the configuration while the host does not answer.
        pub(super) incomplete_config: Option<Value>,
        pub(super) host_status: Option<String>,
        pub(super) checks: Option<Vec<HealthCheck>>,
        pub(super) image_ref: Option<ImageRef>,
    }

    struct HealthCheck {
        pub(super) name: String,
        pub(super) status: String,
        pub(super) output: Option<String>,
    }

    struct ImageRef {
        pub(super) digest: Option<String>,
    }
}

impl Machine {
    /// Whether it is there to stay: one that was destroyed may still be answered for.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.state.as_str(), "destroying" | "destroyed" | "replaced" | "migrated")
    }

    /// One entry of its metadata.
    pub(super) fn metadata(&self, key: &str) -> Option<&str> {
        self.config.as_ref().or(self.incomplete_config.as_ref())?.get("metadata")?.get(key)?.as_str()
    }

    /// The volume that it mounts.
    pub(super) fn mounted_volume(&self) -> Option<&str> {
        self.config.as_ref().or(self.incomplete_config.as_ref())?.get("mounts")?.get(0)?.get("volume")?.as_str()
    }

    /// The digest of the image that it was made from.
    pub(super) fn image_digest(&self) -> Option<&str> {
        let resolved = self.image_ref.as_ref().and_then(|image| image.digest.as_deref()).filter(|digest| !digest.is_empty());
        resolved.or_else(|| self.config.as_ref()?.get("image")?.as_str()?.rsplit_once('@').map(|(_, digest)| digest))
    }

    /// Whether its state does not change by itself.
    pub(super) fn is_settled(&self) -> bool {
        // `created` is not among them: it is what a machine is while its image is pulled.
        matches!(self.state.as_str(), "started" | "stopped" | "suspended" | "failed" | "launch_failed")
    }

    /// Whether the host that it is on answers.
    pub(super) fn is_host_reachable(&self) -> bool {
        is_host_ok(self.host_status.as_deref())
    }

    /// Its health checks, without those that Fly makes for its own deployments.
    pub(super) fn health_checks(&self) -> Vec<&HealthCheck> {
        let checks = self.checks.iter().flatten();
        checks.filter(|check| !check.name.starts_with("bg_deployments_compat")).collect()
    }
}

api_type! {
    /// A lease, which comes wrapped though the specification says that it does not.
    struct LeaseResponse {
        data: Option<Box<LeaseResponse>>,
        nonce: Option<String>,
        version: Option<String>,
    }
}

impl LeaseResponse {
    fn inner(&self) -> &Self {
        self.data.as_deref().unwrap_or(self)
    }

    pub(super) fn nonce(&self) -> Option<&str> {
        self.inner().nonce.as_deref().filter(|nonce| !nonce.is_empty())
    }

    /// The version of the machine that it is a lease of.
    pub(super) fn version(&self) -> Option<&str> {
        self.inner().version.as_deref().filter(|version| !version.is_empty())
    }
}

api_type! {
    /// Something that happened to a machine.
    struct MachineEvent {
        request: Option<Value>,
    }
}

impl MachineEvent {
    /// Returns how the process ended, unless a stop was requested.
    pub(super) fn exit_reason(&self) -> Option<String> {
        let exit = self.request.as_ref()?.get("exit_event")?;
        let flag = |name: &str| exit.get(name).and_then(Value::as_bool).unwrap_or_default();
        if flag("requested_stop") {
            return None;
        }
        // What is zero is left out.
        let code = exit.get("exit_code").and_then(Value::as_i64).unwrap_or_default();
        Some(if flag("oom_killed") { "killed for lack of memory".to_owned() } else { format!("exit code {code}") })
    }
}

api_type! {
    /// The certificate of a host.
    struct Certificate {
        pub(super) configured: bool,
        pub(super) dns_requirements: Option<DnsRequirements>,
    }

    /// The DNS records that the owner of the domain has to set.
    struct DnsRequirements {
        pub(super) a: Vec<String>,
        pub(super) aaaa: Vec<String>,
        pub(super) cname: Option<String>,
        pub(super) acme_challenge: Option<DnsRecord>,
        pub(super) ownership: Option<OwnershipRecord>,
    }

    struct DnsRecord {
        pub(super) name: String,
        pub(super) target: String,
    }

    struct OwnershipRecord {
        pub(super) name: String,
        pub(super) app_value: String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(text: &str) -> T {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_organisation_is_an_object_or_its_slug() {
        assert_eq!(read::<App>(r#"{"organization":{"slug":"acme","name":"Acme"}}"#).organisation(), Some("acme"));
        assert_eq!(read::<App>(r#"{"organization":"acme"}"#).organisation(), Some("acme"));
        assert_eq!(read::<App>("{}").organisation(), None);
    }

    #[test]
    fn a_deleted_volume_is_not_there_though_it_is_listed() {
        for state in ["scheduling_destroy", "fork_cleanup", "waiting_for_detach", "pending_destroy", "destroying", "destroyed"]
        {
            assert!(!read::<Volume>(&format!(r#"{{"state":"{state}"}}"#)).is_live(), "{state}");
        }
        for state in ["creating", "created", "extending", "restoring", "hydrating", "recovering"] {
            assert!(read::<Volume>(&format!(r#"{{"state":"{state}"}}"#)).is_live(), "{state}");
        }
    }

    #[test]
    fn a_lease_is_read_wrapped_and_bare() {
        let wrapped = read::<LeaseResponse>(r#"{"status":"success","data":{"nonce":"n1","version":"v1","expires_at":1}}"#);
        assert_eq!((wrapped.nonce(), wrapped.version()), (Some("n1"), Some("v1")));
        assert_eq!(read::<LeaseResponse>(r#"{"nonce":"n2"}"#).nonce(), Some("n2"));
        assert_eq!(read::<LeaseResponse>("{}").nonce(), None);
    }

    #[test]
    fn an_exit_event_omits_zero_values() {
        assert_eq!(
            read::<MachineEvent>(r#"{"request":{"exit_event":{"exited_at":5}}}"#).exit_reason().as_deref(),
            Some("exit code 0")
        );
        assert_eq!(
            read::<MachineEvent>(r#"{"request":{"exit_event":{"exit_code":137,"oom_killed":true}}}"#).exit_reason().as_deref(),
            Some("killed for lack of memory")
        );
        assert_eq!(read::<MachineEvent>(r#"{"request":{"exit_event":{"requested_stop":true}}}"#).exit_reason(), None);
        assert_eq!(read::<MachineEvent>(r#"{"type":"start"}"#).exit_reason(), None);
    }

    #[test]
    fn addresses_of_the_organisations_network_are_not_the_worlds() {
        let address = |ip: &str| IpAssignment { ip: ip.to_owned(), created_at: None };
        assert!(address("2a09:8280:1::1").is_v6() && !address("fdaa:0:1::3").is_v6());
        assert!(address("66.241.125.1").is_v4() && !address("2a09::1").is_v4());
    }

    #[test]
    fn empty_lists_may_be_null() {
        assert!(read::<IpAssignments>(r#"{"ips":null}"#).ips.is_empty());
        assert!(read::<AppSecrets>(r#"{"secrets":null,"version":null}"#).secrets.is_empty());
        assert!(read::<Machine>(r#"{"id":"m","name":null,"checks":null,"config":null}"#).health_checks().is_empty());
        assert_eq!(read::<Volume>(r#"{"id":"v","attached_machine_id":null,"size_gb":null}"#).attached_machine(), None);
    }

    #[test]
    fn the_version_of_the_vault_had_another_name() {
        assert_eq!(read::<AppSecrets>(r#"{"Version":3,"secrets":[]}"#).version(), Some(3));
        assert_eq!(read::<AppSecrets>(r#"{"Version":3,"version":4}"#).version(), Some(4));
    }
}
