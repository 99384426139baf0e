//! The fake Fly itself, held against the facts.

#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]

mod apps;
mod backends;
mod capacity;
mod client;
mod contract_gaps;
mod drivers;
mod faults;
mod leases;
mod machines;
mod ordered;
mod standalone;
mod vault;
mod volumes;
