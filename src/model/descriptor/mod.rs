//! One descriptor for each provider: what its backends can do, cost and show, as pure data and functions.
//!
//! Plan, policy, manifest, server catalog and host read it, and nothing outside of this folder and of the driver itself
//! tells providers apart. A new driver adds a kind, a descriptor here and a module below `provider`.

mod docker;
mod fly;
mod fly_prices;
mod kubernetes;
mod local;
mod process;
mod setting;
mod simulated;

use std::collections::BTreeMap;

use self::setting::setting;
pub use self::setting::{SettingKey, SettingKind, SettingTable};
use super::actual::Endpoints;
use super::cost::{Cost, PriceSource};
use super::diagnostic::Diagnostic;
use super::field::FieldSet;
use super::identifier::BackendId;
use super::impact::ChangeImpact;
use super::name::{BackendName, InstanceName};
use super::provider::ProviderKind;
use super::provider_settings::ProviderSettings;
use super::resolved::{INTERNAL_URL, ProviderState, ResolvedBackend};
use super::route_tls::RouteTls;
use super::secret::SecretSource;
use super::server::Server;
use super::size::ByteSize;
use super::spec::{BackendSpec, Files, Resources};

/// All that is known of a provider without asking it.
#[derive(Debug)]
pub struct ProviderDescriptor {
    /// The provider.
    pub kind: ProviderKind,
    /// Where its backends run, seen from the control plane.
    pub location: Location,
    /// The builds of Convex that it runs.
    pub releases: ReleaseSource,
    /// How clients reach its backends.
    pub addressing: Addressing,
    /// What the control plane needs to reach it; none where it needs nothing.
    pub credential: Option<Credential>,
    /// Whether it runs dashboards beside backends.
    pub runs_dashboards: bool,
    /// Whether it stops a backend and leaves it where it is.
    pub stops: bool,
    /// Whether it removes a backend and retains its volume for the next one.
    pub retains_volumes: bool,
    /// Whether the data of its backends on SQLite, with their files, is read and replaced as a whole.
    pub takes_snapshots: bool,
    /// Whether its driver can ask the place of a backend what it would refuse.
    pub looks_ahead: bool,
    /// Whether its backends keep Convex's rows where this machine reaches them, so that they can move to another database.
    pub moves_rows: bool,
    /// Whether its backends keep their files themselves and ignore `files`.
    pub keeps_files_itself: bool,
    /// Whether it imports and recovers what runs there, and so tells backends apart by their owner labels.
    pub imports: bool,
    /// The impact of another region.
    pub region_impact: ChangeImpact,
    /// The impact of another limit (`resources.cpus`, `resources.memory`, `resources.disk`), or of none any more.
    pub limit_impact: fn(path: &str, recorded: &Resources, after: Option<&str>) -> ChangeImpact,
    /// The impact of its settings, by path. What is not listed restarts the backend.
    pub setting_impacts: &'static [(&'static str, ChangeImpact)],
    /// Its table in a manifest.
    pub settings: &'static SettingTable,
    /// Reads its settings from the manifest.
    pub read_settings: fn(&dyn SettingsReader, &mut ProviderSettings),
    /// Whether any of its settings is written.
    pub has_settings: fn(&ProviderSettings) -> bool,
    /// Adds its settings to the fields of a specification.
    pub fields: fn(&ProviderSettings, &mut FieldSet),
    /// The texts among its settings, each with the shape that it must have.
    pub texts: fn(&ProviderSettings) -> Vec<TextSetting<'_>>,
    /// Whether a backend exists only as a record: nothing is started and nothing answers.
    pub is_record_only: fn(&ProviderSettings) -> bool,
    /// The place that the user names for a backend, and that may hold data from before, such as an app.
    pub named_place: fn(&ProviderSettings) -> Option<&str>,
    /// The place where a volume that was retained is found again by the identity of its backend; none where it is not.
    pub volume_place: fn(&ProviderSettings) -> Option<String>,
    /// The one address of its machine on which ports are published, where the user names it.
    pub publish_address: fn(&ProviderSettings) -> Option<&str>,
    /// Whether nothing but the manifest decides which build runs.
    pub pins_build: fn(&BackendSpec) -> bool,
    /// Refuses what it does not have, before anything is begun.
    pub refusals: fn(&BackendName, &BackendSpec) -> Vec<Diagnostic>,
    /// Warns about what it does with a specification otherwise than one might think.
    pub lints: fn(&BackendName, &BackendSpec) -> Vec<Diagnostic>,
    /// Says what makes a backend on another machine reachable, as it follows "set `origins.api`".
    pub publishing_help: fn(&BackendSpec) -> &'static str,
    /// Returns what a backend costs a month, in the region that it is in, where that is known.
    pub price: fn(&BackendSpec, region: Option<&str>) -> Cost,
    /// Returns what the data of a backend costs a month that is retained when the backend goes.
    pub retained_price: fn(&BackendSpec) -> Cost,
    /// Names what it bills beside [`Self::price`].
    pub unpriced_items: fn(&BackendSpec) -> Vec<&'static str>,
    /// The source of its prices, if there are any.
    pub price_source: fn() -> Option<&'static PriceSource>,
    /// Returns the URL under which the control plane reaches a backend, independent of the URLs of its clients.
    pub internal_url: fn(&ResolvedBackend) -> String,
}

/// Where backends run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// As processes of the control plane's machine, which nothing but the control plane starts again.
    Process,
    /// On an engine of the control plane's machine, which starts them again by itself.
    Engine,
    /// On a platform elsewhere, where every look is a request.
    Platform,
}

impl Location {
    /// Returns whether backends take what the control plane's machine has: its ports, processor and memory.
    pub fn is_on_this_machine(self) -> bool {
        matches!(self, Self::Process | Self::Engine)
    }
}

/// Where a provider gets the builds of Convex from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseSource {
    /// It answers as any release, because it runs none.
    Any,
    /// Archives, which have no digest as images have.
    Archives,
    /// Images of a registry.
    Images,
}

/// How clients reach a backend where its manifest names no origins.
#[derive(Debug, Clone, Copy)]
pub enum Addressing {
    /// At a pair of ports that the control plane allocates.
    Ports,
    /// At the host of an app, whose name is decided before the app is made.
    App(AllocateApp),
    /// Where its driver notes it once the backend is there; at such a pair where it notes nothing.
    Noted,
}

/// Decides the app of a backend from its specification, identity and provider state. `attempt` counts the names that turned
/// out to be taken.
pub type AllocateApp = fn(&BackendSpec, &InstanceName, &BackendId, &ProviderState, attempt: u32) -> AppAddress;

/// Where an app is reached, and what is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppAddress {
    /// Where clients reach it.
    pub endpoints: Endpoints,
    /// The keys of the provider state that name it.
    pub state: ProviderState,
}

/// What the control plane must be given to use a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// The variable that holds it.
    pub variable: &'static str,
    /// The command that makes one.
    pub command: &'static str,
}

/// A text among the settings of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextSetting<'a> {
    /// The path of its field.
    pub path: &'static str,
    /// What it must look like.
    pub shape: TextShape,
    /// The text.
    pub text: &'a str,
}

/// What a text must look like; `policy::formats` has the pattern of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextShape {
    /// The path of a file.
    Path,
    /// One line.
    Line,
    /// Letters, digits, `-`, `_` and `.`.
    Word,
    /// A name in lower case, as in a host name.
    Label,
    /// A reference to an image.
    Image,
    /// An IP address.
    Address,
    /// The name of a region.
    Region,
    /// `NAME:ADDRESS`.
    HostEntry,
    /// `SOURCE:TARGET`.
    Mount,
    /// A SHA-256 digest.
    Sha256,
    /// `NAME` or `NAMESPACE/NAME`.
    Gateway,
    /// `USER@HOST`, a host, or an alias.
    SshHost,
    /// The type of a public key and the key.
    HostKey,
    /// The absolute path of a socket.
    Socket,
}

/// Reads the table of one provider in a manifest.
pub trait SettingsReader {
    /// Returns a text.
    fn text(&self, key: &str) -> Option<String>;
    /// Returns one of a few words.
    fn word(&self, key: &str) -> Option<&'static str>;
    /// Returns a switch.
    fn flag(&self, key: &str) -> Option<bool>;
    /// Returns a whole number.
    fn count(&self, key: &str) -> Option<u32>;
    /// Returns a size.
    fn size(&self, key: &str) -> Option<ByteSize>;
    /// Returns a list of texts.
    fn texts(&self, key: &str) -> Vec<String>;
    /// Returns texts by names that the user chose.
    fn labels(&self, key: &str) -> BTreeMap<String, String>;
    /// Returns values or references by names that the user chose.
    fn variables(&self, key: &str) -> BTreeMap<String, SecretSource>;
    /// Returns the server that the backend's block names.
    fn server(&self) -> Option<Server>;
    /// Returns the image of the proxy on that server, where its block names one.
    fn server_proxy_image(&self) -> Option<String>;
    /// Returns where the certificates of the backend's routes come from.
    fn route_tls(&self) -> Option<RouteTls>;
    /// Returns the digest that pins the archive of the backend's release.
    fn archive_digest(&self) -> Option<String>;
}

impl ProviderDescriptor {
    /// Returns what holds for a provider that has no settings, no prices and nothing to refuse. Each driver replaces what is
    /// different.
    const fn new(kind: ProviderKind, location: Location, releases: ReleaseSource) -> Self {
        Self {
            kind,
            location,
            releases,
            addressing: Addressing::Ports,
            credential: None,
            runs_dashboards: false,
            stops: false,
            retains_volumes: false,
            takes_snapshots: matches!(location, Location::Process),
            looks_ahead: false,
            moves_rows: false,
            keeps_files_itself: false,
            imports: false,
            region_impact: ChangeImpact::MovesData,
            limit_impact: |_, _, _| ChangeImpact::Restart,
            setting_impacts: &[],
            settings: &SettingTable::NONE,
            read_settings: |_, _| {},
            has_settings: |_| false,
            fields: |_, _| {},
            texts: |_| Vec::new(),
            is_record_only: |_| false,
            named_place: |_| None,
            volume_place: |_| None,
            publish_address: |_| None,
            pins_build: |spec| spec.release.as_ref().is_some_and(super::release::Release::is_pinned),
            refusals: |_, _| Vec::new(),
            lints: |_, _| Vec::new(),
            publishing_help: |_| "",
            price: |_, _| Cost::Unmetered,
            retained_price: |_| Cost::Unmetered,
            unpriced_items: |_| Vec::new(),
            price_source: || None,
            internal_url: |resolved| format!("http://127.0.0.1:{}", resolved.ports.api),
        }
    }

    /// Returns the impact that one of its own settings has, where it is another one than a restart.
    pub fn impact_of_setting(&self, path: &str) -> Option<ChangeImpact> {
        self.setting_impacts.iter().find(|(setting, _)| *setting == path).map(|(_, impact)| *impact)
    }
}

/// Every descriptor, in the order of [`ProviderKind::ALL`].
pub static DESCRIPTORS: [&ProviderDescriptor; 5] =
    [&simulated::DESCRIPTOR, &local::DESCRIPTOR, &docker::DESCRIPTOR, &fly::DESCRIPTOR, &kubernetes::DESCRIPTOR];

impl ProviderKind {
    /// Returns the descriptor of this provider.
    pub fn descriptor(self) -> &'static ProviderDescriptor {
        match self {
            Self::Simulated => &simulated::DESCRIPTOR,
            Self::Local => &local::DESCRIPTOR,
            Self::Docker => &docker::DESCRIPTOR,
            Self::Fly => &fly::DESCRIPTOR,
            Self::Kubernetes => &kubernetes::DESCRIPTOR,
        }
    }
}

/// Returns the impact of a setting of any provider, where it is another one than a restart.
pub fn impact_of_setting(path: &str) -> Option<ChangeImpact> {
    DESCRIPTORS.iter().find_map(|descriptor| descriptor.impact_of_setting(path))
}

impl BackendSpec {
    /// Whether the backend exists only as a record: nothing is started and nothing answers.
    pub fn is_record_only(&self) -> bool {
        (self.provider.descriptor().is_record_only)(&self.settings)
    }

    /// Whether it keeps its documents in a database on a server of the user's own.
    pub fn has_own_server(&self) -> bool {
        !self.is_record_only() && self.storage.server().is_some_and(|server| !server.managed)
    }

    /// Returns whether ports of this machine can be led to it (`forward`): it is on a server, or in a cluster.
    pub fn is_forwardable(&self) -> bool {
        self.server().is_some() || matches!(self.provider.descriptor().addressing, Addressing::Noted)
    }

    /// Whether it keeps its files in buckets.
    pub fn has_buckets(&self) -> bool {
        !self.is_record_only() && matches!(self.files, Files::S3(_))
    }

    /// Whether its data is in two places that need each other: documents on such a server, files beside the process.
    pub fn has_split_data(&self) -> bool {
        self.has_own_server() && self.files == Files::Local
    }

    /// The place that the manifest names for it, and that may hold data from before.
    pub fn named_place(&self) -> Option<&str> {
        (self.provider.descriptor().named_place)(&self.settings)
    }
}

/// Returns what a backend costs a month at its provider: machine, volume and dashboard, in the region that it is in, where
/// that is known and still allowed. [`unpriced_items`] names what is not in it.
pub fn monthly_cost(spec: &BackendSpec, region: Option<&str>) -> Cost {
    (spec.provider.descriptor().price)(spec, region)
}

/// Names what a backend is billed for elsewhere.
pub fn unpriced_items(spec: &BackendSpec) -> Vec<&'static str> {
    let mut parts = vec!["traffic"];
    parts.extend((spec.provider.descriptor().unpriced_items)(spec));
    if spec.storage.server().is_some() {
        parts.push("its database");
    }
    if matches!(spec.files, Files::S3(_)) {
        parts.push("its buckets");
    }
    parts
}

/// Returns where the prices of a provider come from, if there are any.
pub fn price_source(provider: ProviderKind) -> Option<&'static PriceSource> {
    (provider.descriptor().price_source)()
}

/// Returns the URL that the provider has noted, else the one that it gave to clients; empty where the only one known is an
/// origin, which the author of the manifest chooses: the admin key goes to this URL.
fn noted_internal_url(resolved: &ResolvedBackend) -> String {
    let given = || resolved.spec.origins.api.is_none().then(|| resolved.endpoints.url.clone());
    resolved.provider_state.get(INTERNAL_URL).cloned().or_else(given).unwrap_or_default()
}

/// A refusal or a lint about one backend.
fn about(name: &BackendName, diagnostic: Diagnostic) -> Diagnostic {
    diagnostic.about(super::address::Address::backend(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_descriptor() {
        assert_eq!(DESCRIPTORS.map(|descriptor| descriptor.kind), ProviderKind::ALL);
        for descriptor in DESCRIPTORS {
            assert!(std::ptr::eq(descriptor.kind.descriptor(), descriptor), "{}", descriptor.kind);
        }
    }

    #[test]
    fn settings_belong_to_their_own_provider() {
        for descriptor in DESCRIPTORS {
            let own = format!("{}.", descriptor.kind);
            let is_own = |path: &str| {
                path.starts_with(&own)
                    || path == "server"
                    || path.starts_with("server.")
                    || path == "tls"
                    || path.starts_with("tls.")
            };
            let paths = descriptor.setting_impacts.iter().map(|(path, _)| *path);
            for path in paths.chain((descriptor.texts)(&ProviderSettings::default()).iter().map(|setting| setting.path)) {
                assert!(is_own(path), "{path} is a setting of {}", descriptor.kind);
            }
            assert!(!(descriptor.has_settings)(&ProviderSettings::default()), "{}: defaults are no settings", descriptor.kind);
        }
    }

    /// A table in which every key is written, and which knows what was read.
    struct FullTable {
        keys: &'static [SettingKey],
        read: std::cell::RefCell<std::collections::BTreeSet<String>>,
    }

    impl FullTable {
        /// Notes that a key is read, which has to be one that takes what is read.
        fn kind(&self, name: &str) -> SettingKind {
            self.read.borrow_mut().insert(name.to_owned());
            self.keys.iter().find(|key| key.name == name).unwrap_or_else(|| panic!("`{name}` is no key")).kind
        }
    }

    impl SettingsReader for FullTable {
        fn text(&self, key: &str) -> Option<String> {
            assert!(matches!(self.kind(key), SettingKind::Text(_)), "{key}");
            Some("x".to_owned())
        }

        fn word(&self, key: &str) -> Option<&'static str> {
            let SettingKind::Word { words, .. } = self.kind(key) else { panic!("{key}") };
            words.last().copied()
        }

        fn flag(&self, key: &str) -> Option<bool> {
            assert!(matches!(self.kind(key), SettingKind::Flag), "{key}");
            Some(false)
        }

        fn count(&self, key: &str) -> Option<u32> {
            assert!(matches!(self.kind(key), SettingKind::Port), "{key}");
            Some(3210)
        }

        fn size(&self, key: &str) -> Option<ByteSize> {
            assert!(matches!(self.kind(key), SettingKind::Size), "{key}");
            None
        }

        fn texts(&self, key: &str) -> Vec<String> {
            assert!(matches!(self.kind(key), SettingKind::Texts(_)), "{key}");
            vec!["x".to_owned()]
        }

        fn labels(&self, key: &str) -> BTreeMap<String, String> {
            assert!(matches!(self.kind(key), SettingKind::Labels), "{key}");
            BTreeMap::new()
        }

        fn variables(&self, key: &str) -> BTreeMap<String, SecretSource> {
            assert!(matches!(self.kind(key), SettingKind::Variables), "{key}");
            BTreeMap::new()
        }

        fn server(&self) -> Option<Server> {
            None
        }

        fn server_proxy_image(&self) -> Option<String> {
            None
        }

        fn route_tls(&self) -> Option<RouteTls> {
            None
        }

        fn archive_digest(&self) -> Option<String> {
            None
        }
    }

    #[test]
    fn every_key_is_read_and_every_text_is_checked_as_its_key_says() {
        for descriptor in DESCRIPTORS {
            let keys = descriptor.settings.keys;
            let (table, mut settings) = (FullTable { keys, read: Default::default() }, ProviderSettings::default());
            (descriptor.read_settings)(&table, &mut settings);
            assert_eq!(table.read.into_inner(), keys.iter().map(|key| key.name.to_owned()).collect(), "{}", descriptor.kind);
            let mut checked: Vec<_> =
                (descriptor.texts)(&settings).iter().map(|text| (text.path.to_owned(), format!("{:?}", text.shape))).collect();
            let mut texts: Vec<_> = keys
                .iter()
                .filter_map(|key| match key.kind {
                    SettingKind::Text(shape) | SettingKind::Texts(shape) => {
                        Some((format!("{}.{}", descriptor.kind, key.name), format!("{shape:?}")))
                    }
                    _ => None,
                })
                .collect();
            checked.sort();
            texts.sort();
            assert_eq!(checked, texts);
        }
    }

    fn backend_at(provider: ProviderKind, origin: &str) -> ResolvedBackend {
        let mut spec = BackendSpec::new(provider);
        spec.origins.api = Some(origin.to_owned());
        ResolvedBackend {
            id: crate::model::BackendId::new("b1"),
            project: crate::model::ProjectName::parse("shop").unwrap(),
            name: BackendName::parse("dev").unwrap(),
            instance_name: crate::model::InstanceName::parse("shop-dev").unwrap(),
            spec,
            generation: crate::model::Generation(1),
            instance_secret: crate::model::Secret::new(""),
            admin_key: crate::model::Secret::new(""),
            secrets: std::collections::BTreeMap::new(),
            ports: crate::model::PortPair { api: 4210, site: 4211 },
            endpoints: crate::model::Endpoints { url: origin.to_owned(), site_url: origin.to_owned() },
            has_been_ready: true,
            provider_state: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn no_provider_reaches_a_backend_by_an_origin() {
        let origin = "https://elsewhere.example.com";
        for descriptor in DESCRIPTORS {
            let mut resolved = backend_at(descriptor.kind, origin);
            assert_ne!((descriptor.internal_url)(&resolved), origin, "{}", descriptor.kind);
            resolved.provider_state.insert(INTERNAL_URL.to_owned(), "http://10.0.0.1:3210".to_owned());
            assert_ne!((descriptor.internal_url)(&resolved), origin, "{}", descriptor.kind);
        }
    }

    #[test]
    fn a_provider_without_costs_has_no_price_source() {
        for descriptor in DESCRIPTORS {
            let metered = (descriptor.price)(&BackendSpec::new(descriptor.kind), None) != Cost::Unmetered;
            assert_eq!(metered, !descriptor.location.is_on_this_machine(), "{}", descriptor.kind);
        }
    }
}
