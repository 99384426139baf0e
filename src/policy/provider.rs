//! Rules of each provider about what may be asked of it.

use std::collections::BTreeMap;

use crate::model::{
    Address, BackendName, BackendSpec, CertificateFile, DesiredBackend, Diagnostic, FieldPath, ProviderKind, SecretState,
};

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
    let remedy = provider.descriptor().credential.map_or_else(String::new, |credential| {
        let (variable, command) = (credential.variable, credential.command);
        format!("; it is where `{variable}` is set for the control plane, to a token that `{command}` makes")
    });
    let available = available.join(", ");
    let message = format!("provider `{provider}` is not available in this control plane; available here: {available}{remedy}");
    Some(refusal("plan.provider_unavailable", name, message))
}

/// Refuses what the provider of a specification does not have.
pub(crate) fn provider_refusals(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    (spec.provider.descriptor().refusals)(name, spec)
}

/// Refuses a file of certificates that cannot be used.
pub(crate) fn usable_certificates(name: &BackendName, wanted: &DesiredBackend) -> Option<Diagnostic> {
    let CertificateFile { path, problem } = wanted.certificate_file.as_ref()?;
    let message = format!("the certificates of `tls.ca` cannot be used: `{path}`: {}", problem.as_ref()?);
    Some(refusal("database.ca_file", name, message))
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
