//! The nouns of the house: names, sizes, specifications, what is wanted and what is.
//!
//! Must not do: IO, async, clocks, randomness, the terminal. Everything here is plain data that
//! every other module may use and that uses none of them.

mod access;
mod actual;
mod address;
mod cost;
mod database;
mod desired;
mod exit;
mod field;
mod fingerprint;
pub mod fly;
mod identifier;
mod name;
mod operation;
mod placement;
mod provider;
mod published;
mod quota;
mod release;
mod report;
mod secret;
mod size;
mod spec;
mod time;

pub use access::{Actor, IssuedToken, Scope, TokenRecord, TokenRequest, TokenState};
pub use actual::{
    ActualBackend, ControlPlane, Data, Deviation, Endpoints, Expiry, FOREIGN, Observation, Phase, Removal, RunState, Snapshot,
};
pub use address::{Address, AddressKind};
pub use cost::{Cost, PriceSource, Usd, billed_elsewhere, monthly_cost, monthly_sum, price_source};
pub use database::{DatabaseDisposal, DatabaseRole};
pub use desired::{Budget, DEFAULT_ENV_FILE, Desired, DesiredBackend, EnvFileActual, EnvFileTarget, Moved, SecretState};
pub use exit::Exit;
pub use field::{FieldPath, FieldValue, STORAGE_SERVER, STORAGE_URL, fields, secret_slots};
pub use fingerprint::{Digest, Fingerprint, FingerprintKey};
pub use identifier::{BackendId, Generation, OperationId, Revision, StepKey, TokenId};
pub use name::{BackendName, INSTANCE_NAME_MAX, InstanceName, NAME_MAX, NameError, ProjectName};
pub use operation::{OperationKind, OperationRecord, OperationState};
pub use placement::{DASHBOARD_URL, Placement, PortPair, REACH, References, VolumeDisposal};
pub use provider::ProviderKind;
pub use quota::{Excess, Quota, Usage};
pub use release::{Release, ReleaseError, ReleaseOrder};
pub use report::{Edit, Finding, Report, Span, chain};
pub use secret::{Secret, SecretRef, SecretSource};
pub use size::{ByteSize, Cpus, SizeError};
pub use spec::{
    BackendSpec, BucketNames, DockerSettings, Files, FlySettings, KubernetesSettings, LocalSettings, Origins, ProviderSettings,
    PullPolicy, Resources, S3Credentials, S3Files, ServerStorage, SimulatedSettings, Storage, TextValue, Tls, Tuning,
};
pub use time::{TimeSpan, TimeSpanError, Timestamp};
