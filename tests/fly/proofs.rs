//! The stand-in itself, held against the facts.

mod asker;
