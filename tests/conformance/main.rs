//! One conversation with every control plane there is: same answers, same errors, same history.
//!
//! The same list of requests goes to the routes over the embedded authority, to `convexinfra serve`, and to the Worker
//! under workerd. Every answer is held against what the list expects, and the three records against each other, with
//! nothing but moments, ids and hashes taken out.
//!
//! The Worker takes part where `CONVEXINFRA_WORKERD` names a workerd and `worker/bundle` was built; with
//! `CONVEXINFRA_REQUIRE_WORKERD=1` it must.

#![allow(clippy::disallowed_methods, reason = "tests read the files that they wrote themselves")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod commands;
mod conversation;
mod outside;
mod place;
mod policies;
mod resume;
mod script;
mod unknown;
mod worker;

use conversation::Conversation;
use place::Place;

fn record(place: &Place) -> Vec<String> {
    let mut conversation = Conversation::new(place);
    script::all(&mut conversation);
    conversation.record
}

/// Says which lines differ; whole records are too long to look at.
fn same(name: &str, expected: &[String], found: &[String]) {
    let differences: Vec<String> = expected
        .iter()
        .zip(found)
        .enumerate()
        .filter(|(_, (expected, found))| expected != found)
        .map(|(index, (expected, found))| format!("exchange {index}\n  embedded: {expected}\n  {name}: {found}"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(expected.len(), found.len(), "{name}");
}

#[test]
fn every_control_plane_answers_alike() {
    let embedded = record(&Place::embedded());
    same("convexinfra serve", &embedded, &record(&Place::served()));
    if let Some(place) = Place::worker() {
        same("the Worker", &embedded, &record(&place));
    }
}
