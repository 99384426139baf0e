//! The stand-in itself, held against the facts.

mod apps;
mod backends;
mod capacity;
mod client;
mod drivers;
mod faults;
mod leases;
mod machines;
mod ordered;
mod tour;
mod vault;
mod volumes;
