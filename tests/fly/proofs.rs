//! The stand-in itself, held against the facts.

mod apps;
mod asker;
mod backends;
mod capacity;
mod drivers;
mod faults;
mod leases;
mod machines;
mod ordered;
mod tour;
mod vault;
mod volumes;
