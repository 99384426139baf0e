//! The provider `fly` against the stand-in: what it makes, what it finds, what goes wrong, what is left.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]

mod capacity;
mod consistency;
mod crash;
mod drift;
mod faults;
mod fixture;
mod life;
mod random_faults;
mod scenario;
mod served;
