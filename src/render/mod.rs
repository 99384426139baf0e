//! Nouns → text: plans, progress, status, errors.
//!
//! Must not do: write anywhere, decide anything, or know which stream it is for. It gets data and a [`Style`] and
//! returns text.

mod cost;
mod documents;
mod drift;
mod error;
mod graph;
mod log;
mod markdown;
mod plan;
mod plural;
mod problem;
mod progress;
mod quota;
mod releases;
mod sanitize;
mod snapshot;
mod status;
mod style;
mod table;
mod token;

pub use documents::{
    ArchiveDocument, DeprovisionDocument, DriftDocument, EnvDocument, InitDocument, LogLineDocument, ProvisionDocument,
    ProvisionedState, ValidateDocument, describe_archive,
};
pub use drift::drift;
pub use error::{ErrorDocument, error_document, report_text};
pub use graph::{GraphFormat, declared_graph, graph};
pub use log::{LogDocument, LogEntry, log, log_check};
pub use markdown::markdown;
pub use plan::{plan, refused_plan, summary_line};
pub use plural::{counted, duration, plural};
pub use problem::problems;
pub use progress::{Progress, RunningStep};
pub use quota::{QuotaDocument, QuotaEntry, UsageEntry, quota_table};
pub use releases::release_table;
pub use sanitize::{sanitize_json, sanitize_terminal};
pub use snapshot::{describe_snapshot, graded_data, snapshot_table};
pub use status::{
    EnvFileEntry, EnvFileStatus, LeaseEntry, OperationEntry, StatusAllDocument, StatusDocument, StatusEntry,
    describe_operation, status_all_table, status_table,
};
pub use style::Style;
pub use token::{IssuedDocument, TokenEntry, TokensDocument, token_table};
