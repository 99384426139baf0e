//! Room: what the backends of a plan take together of a place that has enough for each of them alone. Pure.

use crate::model::{BackendName, CrowdedRoom, Diagnostic, RoomClaim, crowded_rooms};

use super::Plan;

/// Adds what does not fit together: a refusal where the place would refuse one of them, a lint where it would wait. A plan that
/// removes something as well may make the room that it needs.
pub fn add_crowded_rooms(plan: &mut Plan, claims: &[(BackendName, RoomClaim)], removes: bool) {
    for room in crowded_rooms(claims) {
        let is_refused = room.claim.is_firm && !removes;
        let found = crowded(&room);
        if is_refused { plan.refusals.push(found) } else { plan.lints.push(found.as_warning()) }
    }
    plan.lints.sort();
}

fn crowded(room: &CrowdedRoom) -> Diagnostic {
    let CrowdedRoom { backends, claim, wanted } = room;
    let names: Vec<String> = backends.iter().map(|name| format!("`{name}`")).collect();
    let message = format!(
        "{} together need {} of {}, and {} has {} left",
        names.join(", "),
        claim.unit.words(*wanted),
        claim.resource,
        claim.place,
        claim.unit.words(claim.free)
    );
    let help = "each of them fits alone: make room there, ask for less in `resources`, or apply fewer of them";
    Diagnostic::new("plan.no_room", message).with_help(help)
}
