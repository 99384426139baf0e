//! Origins over all backends of a store: a URL leads to one backend only.
//!
//! A backend gives its origins up in the transaction that accepts its own put or ends its removal, so a plan that hands one
//! over orders these two operations. Must not do: say which project another holder belongs to.

use super::AuthorityError;
use crate::api::ControlError;
use crate::model::{BackendSpec, ProjectName};
use crate::policy;
use crate::store::{BackendRow, Rows};

/// Refuses an origin that another backend holds. What a backend has already stays its own.
pub(super) fn check(
    rows: &dyn Rows,
    project: &ProjectName,
    existing: Option<&BackendRow>,
    spec: &BackendSpec,
) -> Result<(), AuthorityError> {
    let claimed: Vec<_> = policy::newly_claimed_origins(spec, existing.map(|row| &row.spec)).collect();
    if claimed.is_empty() {
        return Ok(());
    }
    let others = rows.backends(project)?;
    let others = others.iter().filter(|row| existing.is_none_or(|own| own.id != row.id));
    for other in others {
        if let Some((text, _)) = claimed.iter().find(|(_, place)| policy::claims(&other.spec, place)) {
            return Err(ControlError::Refused(policy::shared_origin(text, other.name.as_str()).into()).into());
        }
    }
    // Two projects may each have a backend on a machine of their own.
    let public: Vec<_> = claimed.into_iter().filter(|(_, place)| !place.is_loopback()).collect();
    if public.is_empty() {
        return Ok(());
    }
    for elsewhere in rows.projects()?.into_iter().filter(|other| other != project) {
        for other in rows.backends(&elsewhere)? {
            if let Some((text, _)) = public.iter().find(|(_, place)| policy::claims(&other.spec, place)) {
                return Err(ControlError::Refused(policy::foreign_origin(text).into()).into());
            }
        }
    }
    Ok(())
}
