//! The machine below: reads files within bounds and starts children without the secrets of this process.
//!
//! Every file that others may have put in place, such as one that a manifest names, is read here.

mod child;
mod contained;
mod file;
mod http;

pub use child::{OWN_SECRET_VARIABLES, command, without_own_secrets};
pub use contained::{ContainedPanic, contained, is_contained};
pub use file::{FileReadError, read_regular, read_regular_text, read_regular_text_within};
pub use http::{lacks_authorities, proxy_hint};
