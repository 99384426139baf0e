//! The nouns of the house: names, sizes, specifications, what is wanted and what is.
//!
//! No IO, clocks or randomness: `tests/architecture` holds it, and that its files are a graph without cycles.

mod access;
mod actual;
mod address;
mod archive;
mod certificates;
mod cost;
mod cpu_kind;
mod database;
mod descriptor;
mod desired;
mod diagnostic;
mod exit;
mod field;
mod fingerprint;
pub mod fly;
mod host_policy;
mod identifier;
mod impact;
pub mod kubernetes;
mod loopback;
mod name;
mod operation;
mod provider;
mod provider_settings;
mod published;
mod quota;
mod reclaim;
mod release;
mod resolved;
mod room;
mod route;
mod route_tls;
mod secret;
mod serde_skip;
mod server;
mod shell_word;
mod size;
mod sparse;
mod spec;
mod spec_fields;
mod time;

pub use access::{Actor, IssuedToken, Scope, TokenRecord, TokenRequest, TokenState};
pub use actual::{
    ActualBackend, ControlPlaneInfo, DataSize, DataState, Endpoints, Expiry, FieldDrift, Observation, Phase, RetainedData,
    RunState, Snapshot, UNMANAGED_PREFIX,
};
pub use address::{Address, AddressKind};
pub use archive::{ArchiveContent, ArchivedTable};
pub use certificates::{CertificateFile, Certificates, CertificatesError};
pub use cost::{Cost, PriceSource, Usd, monthly_sum};
pub use database::DatabaseRole;
pub use descriptor::{
    Addressing, AllocateApp, AppAddress, Credential, DESCRIPTORS, Location, ProviderDescriptor, ReleaseSource, SettingKey,
    SettingKind, SettingTable, SettingsReader, TextSetting, TextShape, impact_of_setting, monthly_cost, price_source,
    unpriced_items,
};
pub use desired::{
    Budget, DEFAULT_ENV_FILE, Desired, DesiredBackend, EnvFileContent, EnvFileContents, EnvFileState, EnvFileTarget, Moved,
    REMOTE_ORIGIN, RememberedEnvFile, RequestedBy, SecretState,
};
pub use diagnostic::{Diagnostic, Edit, NO_AUTHORITIES, Report, Severity, Span, error_chain};
pub use exit::Exit;
pub use field::{EXTRA_ENV, FieldPath, FieldSet, FieldValue, STORAGE_SERVER, STORAGE_TLS, STORAGE_URL};
pub use fingerprint::{Digest, Fingerprint, FingerprintKey};
pub use host_policy::{HostPolicy, HostRule, HostRuleError};
pub use identifier::{BackendId, Generation, OperationId, Revision, StepKey, TokenId};
pub use impact::ChangeImpact;
pub use loopback::{is_local_host, is_local_url, is_loopback_host, is_loopback_url};
pub use name::{BackendName, INSTANCE_NAME_MAX, InstanceName, NAME_MAX, NameError, ProjectName, SnapshotId};
pub use operation::{OperationKind, OperationRecord, OperationState, OperationStep};
pub use provider::ProviderKind;
pub use provider_settings::{DockerSettings, FlySettings, LocalSettings, ProviderSettings, PullPolicy, SimulatedSettings};
pub use quota::{Quota, QuotaExcess, Usage};
pub use reclaim::{DatabaseReclaim, FinalSnapshot, ReclaimPolicy, VolumeReclaim};
pub use release::{DowngradeConsent, MoveConsent, Release, ReleaseError, ReleaseOrder};
pub use resolved::{
    CLIENT_SITE_URL, CLIENT_URL, DASHBOARD_URL, DATA_KEYS, DATA_VOLUME, INTERNAL_URL, MOVE_LOCK, NEWEST_BEFORE, NOT_REPLACED,
    PortPair, ProviderState, RELEASE_CREATED, ResolvedBackend, SWITCHED_TO, VOLUME_BEFORE,
};
pub use room::{CrowdedRoom, RoomClaim, RoomUnit, crowded_rooms};
pub use route::{Route, RouteError, RoutePart, routes};
pub use route_tls::RouteTls;
pub use secret::{Secret, SecretRef, SecretSource};
pub use server::Server;
pub use shell_word::shell_word;
pub use size::{ByteSize, Cpus, SizeError};
pub use spec::{
    BackendSpec, BucketNames, Files, NamedBuckets, Origins, Resources, S3Credentials, S3Files, ServerStorage, Storage,
    TextValue, Tls, Tuning,
};
pub use spec_fields::{fields, secret_slots};
pub use time::{TimeSpan, TimeSpanError, Timestamp};
