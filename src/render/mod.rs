//! Nouns → text: plans, progress, status, errors.
//!
//! Must not do: write anywhere, decide anything, or know which stream it is for. It gets data and a [`Style`] and
//! returns text.

mod cost;
mod drift;
mod error;
mod graph;
mod markdown;
mod plan;
mod problem;
mod progress;
mod status;
mod style;
mod words;

pub use drift::drift;
pub use error::{ErrorDocument, error_document, report_text};
pub use graph::{GraphFormat, graph};
pub use markdown::markdown;
pub use plan::{plan, refused_plan, summary_line};
pub use problem::problems;
pub use progress::{Progress, Running};
pub use status::{LeaseEntry, StatusDocument, StatusEntry, status_table};
pub use style::Style;
pub use words::{counted, duration, plural};
