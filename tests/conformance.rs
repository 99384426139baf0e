//! One conversation with every control plane there is: same answers, same errors, same history.
//!
//! The same list of requests goes to the routes over the embedded authority, to `convexinfra serve`, and to the Worker
//! under workerd. Every answer is held against what the list expects, and the three records against each other, with
//! nothing but moments, ids and hashes taken out.
//!
//! The Worker takes part where `CONVEXINFRA_WORKERD` names a workerd and `worker/bundle` was built; with
//! `CONVEXINFRA_REQUIRE_WORKERD=1` it must.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conversation;
mod outside;
mod place;
mod resume;
mod script;
mod worker;

use conversation::Conversation;
use place::Place;

fn record(place: &Place) -> Vec<String> {
    let mut conversation = Conversation::new(place);
    script::all(&mut conversation);
    conversation.record
}

/// Says which line is the first that differs; whole records are too long to look at.
fn same(name: &str, one: &[String], other: &[String]) {
    for (index, (one, other)) in one.iter().zip(other).enumerate() {
        assert_eq!(one, other, "exchange {index} with {name}");
    }
    assert_eq!(one.len(), other.len(), "{name}");
}

#[test]
fn every_control_plane_answers_alike() {
    let embedded = record(&Place::embedded());
    same("convexinfra serve", &embedded, &record(&Place::served()));
    if let Some(place) = Place::worker() {
        same("the Worker", &embedded, &record(&place));
    }
}
