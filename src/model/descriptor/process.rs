//! What holds for backends that are plain processes of the control plane's machine, for every provider.

use super::{Location, ProviderDescriptor, ReleaseSource, about};
use crate::model::diagnostic::Diagnostic;
use crate::model::impact::ChangeImpact;
use crate::model::name::BackendName;
use crate::model::provider::ProviderKind;
use crate::model::spec::{BackendSpec, Resources};

/// Returns the descriptor of a provider that runs processes.
pub(super) const fn descriptor(kind: ProviderKind, releases: ReleaseSource) -> ProviderDescriptor {
    ProviderDescriptor {
        stops: true,
        // What runs on this machine stays there with any region.
        region_impact: ChangeImpact::Record,
        // Nothing enforces limits on a plain process, so nothing has to happen to it.
        limit_impact: |_, _, _| ChangeImpact::Record,
        refusals,
        lints,
        publishing_help: |_| ", and put a proxy before it on that machine, because the process listens on its loopback alone",
        ..ProviderDescriptor::new(kind, Location::Process, releases)
    }
}

fn refusals(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    if !spec.storage.server().is_some_and(|server| server.managed) {
        return Vec::new();
    }
    let message = format!(
        "provider `{}` runs no database server, so `storage.managed` takes effect with `docker` only; name a server of yours \
         with `storage.url`",
        spec.provider
    );
    vec![about(name, Diagnostic::new("plan.storage_unavailable", message))]
}

fn lints(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    let provider = spec.provider;
    let lint = |code: &str, message: String| about(name, Diagnostic::warning(code, message));
    let mut lints = Vec::new();
    if spec.resources != Resources::default() {
        lints.push(lint(
            "plan.limits_not_enforced",
            format!("provider `{provider}` cannot enforce `resources`; they are recorded and counted against the budget only"),
        ));
    }
    if spec.dashboard {
        lints.push(lint(
            "plan.dashboard_unavailable",
            format!("provider `{provider}` runs no dashboard; `dashboard = true` takes effect with `docker` or `fly`"),
        ));
    }
    if spec.region.is_some() {
        lints.push(lint(
            "plan.region_ignored",
            format!("provider `{provider}` runs on this machine; `region` is recorded only"),
        ));
    }
    lints
}
