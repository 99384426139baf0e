//! Databases where nothing but HTTP leaves the control plane: whoever owns the server prepares it.
//!
//! Must not do: claim that anything was made or looked at.

use super::perform::refused;
use crate::authority::EffectEnd;
use crate::control::Notice;
use crate::model::{DatabaseDisposal, DatabaseRole, Finding, Placement};

/// Says what has to be there. A backend whose database is missing says so itself when it starts.
pub(super) async fn prepare(placement: &Placement, notice: Notice<'_>) -> EffectEnd {
    let name = placement.instance_name.database();
    if placement.spec.storage.server().is_some_and(|server| server.role == DatabaseRole::LeastPrivilege) {
        let message = format!("this control plane reaches no database server, so it can make no role for `{name}`");
        let help =
            "leave `role` out, so that the backend connects as the URL says, or use a control plane of `convexinfra serve`";
        return refused(Finding::new("database.unreached", message).with_help(help));
    }
    notice(format!("this control plane reaches no database server: the database `{name}` has to be there already"));
    EffectEnd::DatabasePrepared
}

/// Leaves the database where it is.
pub(super) async fn release(placement: &Placement, disposal: DatabaseDisposal, notice: Notice<'_>) -> EffectEnd {
    let name = placement.instance_name.database();
    match disposal {
        DatabaseDisposal::Leave => {
            notice(format!("the database `{name}` stays on its server"));
            EffectEnd::DatabaseReleased
        }
        DatabaseDisposal::Drop => {
            let message = format!("this control plane reaches no database server, so it cannot drop `{name}`");
            let help = "destroy the backend without `--with-database`, and drop the database on its server yourself";
            refused(Finding::new("database.unreached", message).with_help(help))
        }
    }
}
