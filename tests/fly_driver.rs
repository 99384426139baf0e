//! The provider `fly` against the stand-in: what it makes, what it finds, what goes wrong, what is left.

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
