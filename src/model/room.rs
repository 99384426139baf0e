//! Room: what backends take of a place that holds only so much. Pure.

use serde::{Deserialize, Serialize};

use super::name::BackendName;
use super::size::{ByteSize, Cpus};

/// What one backend takes of one thing at a place, and what is left of it there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RoomClaim {
    /// The place, in words that are the same for every backend there, such as "the quota `team` of the namespace `convex`".
    pub place: String,
    /// What is taken, in the words of the place, such as `limits.memory`.
    pub resource: String,
    /// What it is counted in.
    pub unit: RoomUnit,
    /// What the backend takes beside what it has.
    pub wanted: u64,
    /// What is left for all backends together.
    pub free: u64,
    /// Whether the place refuses what it has no room for. Otherwise that waits until there is some.
    pub is_firm: bool,
}

/// What room is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomUnit {
    /// Bytes.
    Bytes,
    /// Thousandths of a processor.
    MilliCpus,
    /// Pieces.
    Count,
}

impl RoomUnit {
    /// Returns an amount for people.
    pub fn words(self, amount: u64) -> String {
        match self {
            Self::Bytes => ByteSize::from_bytes(amount).to_string(),
            Self::MilliCpus => Cpus::from_milli(u32::try_from(amount).unwrap_or(u32::MAX)).to_string(),
            Self::Count => amount.to_string(),
        }
    }
}

/// Claims that fit one by one, and not all together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrowdedRoom {
    /// The backends that take something of it.
    pub backends: Vec<BackendName>,
    /// One of their claims.
    pub claim: RoomClaim,
    /// What they take together.
    pub wanted: u64,
}

/// Returns the room that several backends claim and that has not enough for all of them. What does not fit alone is told by its
/// place.
pub fn crowded_rooms(claims: &[(BackendName, RoomClaim)]) -> Vec<CrowdedRoom> {
    let mut rooms: Vec<CrowdedRoom> = Vec::new();
    for (backend, claim) in claims.iter().filter(|(_, claim)| claim.wanted > 0) {
        match rooms.iter_mut().find(|room| room.claim.place == claim.place && room.claim.resource == claim.resource) {
            Some(room) => {
                room.backends.push(backend.clone());
                room.wanted = room.wanted.saturating_add(claim.wanted);
                // Each was told at a moment of its own.
                room.claim.free = room.claim.free.min(claim.free);
            }
            None => rooms.push(CrowdedRoom { backends: vec![backend.clone()], claim: claim.clone(), wanted: claim.wanted }),
        }
    }
    rooms.retain(|room| room.backends.len() > 1 && room.wanted > room.claim.free);
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(backend: &str, resource: &str, wanted: u64, free: u64) -> (BackendName, RoomClaim) {
        let claim = RoomClaim {
            place: "the quota `team`".to_owned(),
            resource: resource.to_owned(),
            unit: RoomUnit::Bytes,
            wanted,
            free,
            is_firm: true,
        };
        (BackendName::parse(backend).unwrap(), claim)
    }

    #[test]
    fn what_fits_alone_may_not_fit_together() {
        let all = [
            claim("one", "limits.memory", 60, 100),
            claim("two", "limits.memory", 60, 100),
            claim("two", "pods", 1, 2),
            claim("one", "pods", 1, 2),
            // It takes no more than it has.
            claim("three", "limits.memory", 0, 100),
        ];
        let crowded = crowded_rooms(&all);
        assert_eq!(crowded.len(), 1);
        assert_eq!((crowded[0].wanted, crowded[0].claim.free), (120, 100));
        let names: Vec<&str> = crowded[0].backends.iter().map(BackendName::as_str).collect();
        assert_eq!(names, ["one", "two"]);
        // One alone is told by its place.
        assert!(crowded_rooms(&[claim("one", "limits.memory", 160, 100)]).is_empty());
    }
}
