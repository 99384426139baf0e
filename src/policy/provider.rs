//! Rules of each provider about what may be asked of it.

use crate::model::fly::{Guest, REGIONS, volume_gb};
use crate::model::{
    Address, BackendName, BackendSpec, Diagnostic, FieldPath, ProviderKind, Release, SecretState, Storage, Tls,
};
use std::collections::BTreeMap;

fn refusal(code: &str, name: &BackendName, message: impl Into<String>) -> Diagnostic {
    Diagnostic { address: Some(Address::backend(name)), ..Diagnostic::new(code, message.into()) }
}

/// Refuses a backend whose provider the control plane cannot carry out.
pub(crate) fn provider_available(name: &BackendName, spec: &BackendSpec, available: &[ProviderKind]) -> Option<Diagnostic> {
    let provider = spec.provider;
    if available.contains(&provider) {
        return None;
    }
    let available: Vec<String> = available.iter().map(|kind| format!("`{kind}`")).collect();
    let remedy = match provider {
        ProviderKind::Fly => {
            "; it is where `FLY_API_TOKEN` is set for the control plane, to a token that `fly tokens create org` makes"
        }
        _ => "",
    };
    let available = available.join(", ");
    let message = format!("provider `{provider}` is not available in this control plane; available here: {available}{remedy}");
    Some(refusal("plan.provider_unavailable", name, message))
}

/// Refuses what the provider of a specification does not have.
pub(crate) fn provider_refusals(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    let mut refusals = fly_refusals(name, spec);
    refusals.extend(storage_available(name, spec));
    refusals
}

/// Refuses a region or a size that Fly does not have.
fn fly_refusals(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    if spec.provider != ProviderKind::Fly {
        return Vec::new();
    }
    let mut refusals = Vec::new();
    let known = || REGIONS.map(|region| format!("`{region}`")).join(", ");
    if spec.region.is_none() {
        let message =
            format!("a backend on Fly is in one region, and `{name}` names none; add `region = \"…\"`, one of {}", known());
        refusals.push(refusal("plan.region_missing", name, message));
    }
    for region in spec.region.iter().chain(&spec.settings.fly.fallback_regions) {
        if !REGIONS.contains(&region.as_str()) {
            let message = format!("Fly has no region `{region}` that is known here; choose one of {}", known());
            refusals.push(refusal("plan.unknown_region", name, message));
        }
    }
    let sizes = [Guest::from_spec(spec).err(), volume_gb(spec).err()];
    refusals.extend(sizes.into_iter().flatten().map(|error| refusal("plan.unknown_size", name, error.to_string())));
    if let (true, Some(Release::Digest(_))) = (spec.dashboard, &spec.release) {
        let message = "a release by digest names the backend's image alone, so nothing says which dashboard goes with it; name its \
             commit, or leave `dashboard` out";
        refusals.push(refusal("plan.dashboard_release_unknown", name, message));
    }
    if let Some(server) = spec.storage.server() {
        if server.managed {
            let message =
                "provider `fly` runs no database server of its own; name one with `storage.url`, or leave `storage` out";
            refusals.push(refusal("plan.storage_unavailable", name, message));
        }
        if let Tls::Ca(_) = server.tls {
            let message = "provider `fly` cannot bring a file of certificates along; use a server whose certificate is public";
            refusals.push(refusal("plan.tls_unavailable", name, message));
        }
    }
    refusals
}

/// Refuses a managed database server that the provider does not run.
fn storage_available(name: &BackendName, spec: &BackendSpec) -> Option<Diagnostic> {
    if !spec.storage.server().is_some_and(|server| server.managed) {
        return None;
    }
    let message = match spec.provider {
        ProviderKind::Docker if !matches!(spec.storage, Storage::Postgres(_)) => {
            "provider `docker` runs PostgreSQL servers of its own and no MySQL; write `engine = \"postgres\"`, or give it `storage.url`"
                .to_owned()
        }
        ProviderKind::Simulated | ProviderKind::Local => format!(
            "provider `{}` runs no database server, so `storage.managed` takes effect with `docker` only; name a server of yours \
             with `storage.url`",
            spec.provider
        ),
        ProviderKind::Docker | ProviderKind::Fly | ProviderKind::Kubernetes => return None,
    };
    Some(refusal("plan.storage_unavailable", name, message))
}

/// Refuses values from outside that Convex would not take, before anything is begun with them.
pub(crate) fn usable_secrets(name: &BackendName, secrets: &BTreeMap<FieldPath, SecretState>) -> Vec<Diagnostic> {
    let unusable = secrets.iter().filter_map(|(path, state)| match state {
        SecretState::Unusable(why) => Some((path, why)),
        SecretState::Known(_)
        | SecretState::Unkeyed
        | SecretState::Unavailable(_)
        | SecretState::Unreadable(_)
        | SecretState::Withheld => None,
    });
    unusable.map(|(path, why)| refusal("plan.value_unusable", name, format!("`{path}` is of no use: {why}"))).collect()
}
