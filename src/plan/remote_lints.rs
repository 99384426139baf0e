//! What is worth a look where the control plane is on another machine: addresses that mean something else here.

use crate::model::{Address, BackendName, BackendSpec, ControlPlaneInfo, Diagnostic, is_local_url};

/// What a backend on the control plane's machine says that clients or their users would take for something of theirs.
pub(super) fn lints(name: &BackendName, spec: &BackendSpec, control_plane: &ControlPlaneInfo) -> Vec<Diagnostic> {
    let descriptor = spec.provider.descriptor();
    if !descriptor.location.is_on_this_machine() || !control_plane.outlives_commands() || is_local_url(&control_plane.name) {
        return Vec::new();
    }
    let lint = |code: &str, message: String| Diagnostic::warning(code, message).about(Address::backend(name));
    let mut lints = Vec::new();
    if let Some(missing) = missing_origins(spec).filter(|_| !spec.is_record_only()) {
        let how = (descriptor.publishing_help)(spec);
        lints.push(lint(
            "plan.loopback_elsewhere",
            format!(
                "its address is on loopback, and the control plane `{}` is on another machine: wherever an env file is written, that \
                 address leads to nothing, or to another backend, which then gets this admin key. Set {missing} to where clients \
                 reach it{how}",
                control_plane.name
            ),
        ));
    }
    lints
}

/// The origins that say nothing of a machine, if there are such.
fn missing_origins(spec: &BackendSpec) -> Option<&'static str> {
    let missing = |origin: &Option<String>| origin.as_deref().is_none_or(is_local_url);
    match (missing(&spec.origins.api), missing(&spec.origins.site)) {
        (true, true) => Some("`origins.api` and `origins.site`"),
        (true, false) => Some("`origins.api`"),
        (false, true) => Some("`origins.site`"),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Expiry, ProviderKind};

    fn codes(spec: &BackendSpec, url: &str) -> Vec<String> {
        let control_plane =
            ControlPlaneInfo { name: url.to_owned(), providers: Vec::new(), expiry: Expiry::Enforced, scope: None };
        let name = BackendName::parse("dev").unwrap();
        lints(&name, spec, &control_plane).into_iter().map(|lint| lint.code).collect()
    }

    #[test]
    fn a_loopback_url_is_warned_about() {
        const TEAM: &str = "https://convex-control.example.com";
        let mut spec = BackendSpec::new(ProviderKind::Docker);
        assert_eq!(codes(&spec, TEAM), ["plan.loopback_elsewhere"]);
        for here in ["embedded", "http://127.0.0.1:7310", "http://localhost:7310/", "http://[::1]:1"] {
            assert_eq!(codes(&spec, here), Vec::<String>::new(), "{here}");
        }
        spec.origins.api = Some("https://api.example.com".to_owned());
        assert_eq!(codes(&spec, TEAM), ["plan.loopback_elsewhere"], "the HTTP actions are still on loopback");
        spec.origins.site = Some("http://localhost:3211".to_owned());
        assert_eq!(codes(&spec, TEAM), ["plan.loopback_elsewhere"]);
        spec.origins.site = Some("https://example.com".to_owned());
        assert_eq!(codes(&spec, TEAM), Vec::<String>::new());
        assert_eq!(codes(&BackendSpec::new(ProviderKind::Fly), TEAM), Vec::<String>::new());
        let mut recorded = BackendSpec::new(ProviderKind::Simulated);
        assert_eq!(codes(&recorded, TEAM), ["plan.loopback_elsewhere"]);
        recorded.settings.simulated.listen = false;
        assert_eq!(codes(&recorded, TEAM), Vec::<String>::new());
    }
}
