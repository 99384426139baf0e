//! Databases where only HTTP leaves the control plane: the owner of the server prepares them.
//!
//! Must not do: claim that anything was made or looked at.

use super::Host;
use super::findings::Findings;
use crate::api::ProgressFn;
use crate::authority::{DatabaseState, EffectResult};
use crate::model::{DatabaseReclaim, DatabaseRole, Diagnostic, ResolvedBackend};

/// Names what has to be there. A backend whose database is missing says so itself when it starts.
pub(super) async fn prepare(_: &Host, placement: &ResolvedBackend, notice: ProgressFn<'_>) -> EffectResult {
    let name = placement.instance_name.database();
    if placement.spec.storage.server().is_some_and(|server| server.role == DatabaseRole::LeastPrivilege) {
        let message = format!("this control plane reaches no database server, so it can make no role for `{name}`");
        let help =
            "leave `role` out, so that the backend connects as the URL says, or use a control plane of `convexinfra serve`";
        return EffectResult::failed(Diagnostic::new("database.unreached", message).with_help(help));
    }
    notice(format!("this control plane reaches no database server: the database `{name}` has to be there already"));
    EffectResult::StoragePrepared
}

/// Leaves the database where it is.
pub(super) async fn release(
    _: &Host,
    placement: &ResolvedBackend,
    disposal: DatabaseReclaim,
    notice: ProgressFn<'_>,
) -> (EffectResult, Option<String>) {
    let name = placement.instance_name.database();
    let end = match disposal {
        DatabaseReclaim::Retain => {
            notice(format!("the database `{name}` stays on its server"));
            EffectResult::StorageReleased(DatabaseState::Present)
        }
        DatabaseReclaim::Delete | DatabaseReclaim::DeleteWithFiles => {
            let message = format!("this control plane reaches no database server, so it cannot drop `{name}`");
            let help = "destroy the backend without `--with-database`, and drop the database on its server yourself";
            EffectResult::failed(Diagnostic::new("database.unreached", message).with_help(help))
        }
    };
    (end, None)
}

/// Looks at nothing.
pub(super) async fn look(_: &Host, _: &ResolvedBackend, _: &mut Findings) {}

/// Returns at once: nothing is connected to.
pub(super) async fn permit(_: &Host, _: &ResolvedBackend) -> Option<()> {
    Some(())
}
