//! The provider `kubernetes`: StatefulSets of clusters.

use super::{
    Addressing, Location, ProviderDescriptor, ReleaseSource, SettingKind, SettingTable, SettingsReader, TextSetting, TextShape,
    about, setting,
};
use crate::model::cost::Cost;
use crate::model::diagnostic::Diagnostic;
use crate::model::field::FieldSet;
use crate::model::impact::ChangeImpact;
use crate::model::kubernetes::{AccessMode, Exposure, KubernetesSettings};
use crate::model::name::BackendName;
use crate::model::provider::ProviderKind;
use crate::model::provider_settings::ProviderSettings;
use crate::model::release::Release;
use crate::model::resolved::INTERNAL_URL;
use crate::model::spec::{BackendSpec, Resources};

/// The keys of its table in a manifest.
static SETTINGS: SettingTable = SettingTable {
    title: "The provider `kubernetes`",
    doc: "What only the provider `kubernetes` understands.",
    aliases: &["k8s"],
    keys: &[
        setting("context", SettingKind::Text(TextShape::Line), "The context of the kubeconfig; the current one when left out."),
        setting("namespace", SettingKind::Text(TextShape::Label), "The namespace; that of the context when left out."),
        setting("create_namespace", SettingKind::Flag, "Whether a namespace that is missing is made."),
        setting(
            "storage_class",
            SettingKind::Text(TextShape::Word),
            "The storage class of the volume; the cluster's default when left out.",
        ),
        setting(
            "access_mode",
            SettingKind::Word { code: "manifest.unknown_access_mode", noun: "an access mode", words: &AccessMode::WORDS },
            "How the volume is accessed; `ReadWriteOncePod` when left out, which some volumes do not have.",
        ),
        setting("image", SettingKind::Text(TextShape::Image), "The image instead of the official one."),
        setting("dashboard_image", SettingKind::Text(TextShape::Image), "The dashboard's image instead of the official one."),
        setting("image_pull_secret", SettingKind::Text(TextShape::Word), "The Secret with which nodes fetch images."),
        setting(
            "expose",
            SettingKind::Word { code: "manifest.unknown_exposure", noun: "a way to reach a backend", words: &Exposure::WORDS },
            "How clients reach it; `port-forward` when left out.",
        ),
        setting(
            "ingress_class",
            SettingKind::Text(TextShape::Word),
            "The class of its Ingress; the cluster's default when left out.",
        ),
        setting(
            "gateway",
            SettingKind::Text(TextShape::Gateway),
            "The Gateway of its HTTPRoute, as `name` or `namespace/name`.",
        ),
        setting("tls_secret", SettingKind::Text(TextShape::Word), "The Secret with the certificate of its Ingress."),
        setting(
            "cluster_issuer",
            SettingKind::Text(TextShape::Word),
            "The cluster issuer of cert-manager that makes this certificate.",
        ),
        setting(
            "network_policy",
            SettingKind::Flag,
            "Whether a NetworkPolicy admits only the pods of the namespace, or its ports only.",
        ),
    ],
};

pub(super) static DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    settings: &SETTINGS,
    addressing: Addressing::Noted,
    runs_dashboards: true,
    stops: true,
    retains_volumes: true,
    looks_ahead: true,
    volume_place: |settings| {
        let kubernetes = &settings.kubernetes;
        let [context, namespace] = [&kubernetes.context, &kubernetes.namespace].map(|name| name.as_deref().unwrap_or_default());
        Some(format!("{context}/{namespace}"))
    },
    limit_impact,
    setting_impacts: &[
        ("kubernetes.context", ChangeImpact::MovesData),
        ("kubernetes.namespace", ChangeImpact::MovesData),
        ("kubernetes.storage_class", ChangeImpact::MovesData),
        ("kubernetes.access_mode", ChangeImpact::MovesData),
        ("kubernetes.create_namespace", ChangeImpact::Record),
        ("kubernetes.dashboard_image", ChangeImpact::InPlace),
        ("kubernetes.ingress_class", ChangeImpact::InPlace),
        ("kubernetes.gateway", ChangeImpact::InPlace),
        ("kubernetes.tls_secret", ChangeImpact::InPlace),
        ("kubernetes.cluster_issuer", ChangeImpact::InPlace),
        ("kubernetes.network_policy", ChangeImpact::InPlace),
    ],
    read_settings,
    has_settings: |settings| *settings.kubernetes != KubernetesSettings::default(),
    fields,
    texts,
    refusals,
    price: |_, _| Cost::Unknown,
    retained_price: |_| Cost::Unknown,
    // Its driver names the service. What the manifest calls its URL must never be sent the admin key instead.
    internal_url: |resolved| resolved.provider_state.get(INTERNAL_URL).cloned().unwrap_or_default(),
    ..ProviderDescriptor::new(ProviderKind::Kubernetes, Location::Platform, ReleaseSource::Images)
};

/// A running Pod is resized. A first or a last limit changes its class of service, which needs another Pod.
fn limit_impact(path: &str, recorded: &Resources, after: Option<&str>) -> ChangeImpact {
    let had_one = match path {
        "resources.disk" => return ChangeImpact::InPlace,
        "resources.cpus" => recorded.cpus.is_some(),
        _ => recorded.memory.is_some(),
    };
    if had_one && after.is_some() { ChangeImpact::InPlace } else { ChangeImpact::Restart }
}

fn read_settings(table: &dyn SettingsReader, settings: &mut ProviderSettings) {
    settings.kubernetes = KubernetesSettings {
        context: table.text("context"),
        namespace: table.text("namespace"),
        create_namespace: table.flag("create_namespace").unwrap_or_default(),
        storage_class: table.text("storage_class"),
        access_mode: table.word("access_mode").and_then(AccessMode::parse).unwrap_or_default(),
        image: table.text("image"),
        dashboard_image: table.text("dashboard_image"),
        image_pull_secret: table.text("image_pull_secret"),
        expose: table.word("expose").and_then(Exposure::parse).unwrap_or_default(),
        ingress_class: table.text("ingress_class"),
        gateway: table.text("gateway"),
        tls_secret: table.text("tls_secret"),
        cluster_issuer: table.text("cluster_issuer"),
        network_policy: table.flag("network_policy").unwrap_or_default(),
    }
    .into();
}

fn fields(settings: &ProviderSettings, fields: &mut FieldSet) {
    let kubernetes = &settings.kubernetes;
    fields.text("kubernetes.context", kubernetes.context.as_ref());
    fields.text("kubernetes.namespace", kubernetes.namespace.as_ref());
    fields.flag("kubernetes.create_namespace", kubernetes.create_namespace);
    fields.text("kubernetes.storage_class", kubernetes.storage_class.as_ref());
    let mode = kubernetes.access_mode;
    fields.text("kubernetes.access_mode", (mode != AccessMode::default()).then_some(mode));
    fields.text("kubernetes.image", kubernetes.image.as_ref());
    fields.text("kubernetes.dashboard_image", kubernetes.dashboard_image.as_ref());
    fields.text("kubernetes.image_pull_secret", kubernetes.image_pull_secret.as_ref());
    let expose = kubernetes.expose;
    fields.text("kubernetes.expose", (expose != Exposure::default()).then_some(expose));
    fields.text("kubernetes.ingress_class", kubernetes.ingress_class.as_ref());
    fields.text("kubernetes.gateway", kubernetes.gateway.as_ref());
    fields.text("kubernetes.tls_secret", kubernetes.tls_secret.as_ref());
    fields.text("kubernetes.cluster_issuer", kubernetes.cluster_issuer.as_ref());
    fields.flag("kubernetes.network_policy", kubernetes.network_policy);
}

fn texts(settings: &ProviderSettings) -> Vec<TextSetting<'_>> {
    let kubernetes = &settings.kubernetes;
    let texts = [
        ("kubernetes.context", &kubernetes.context),
        ("kubernetes.namespace", &kubernetes.namespace),
        ("kubernetes.storage_class", &kubernetes.storage_class),
        ("kubernetes.image", &kubernetes.image),
        ("kubernetes.dashboard_image", &kubernetes.dashboard_image),
        ("kubernetes.image_pull_secret", &kubernetes.image_pull_secret),
        ("kubernetes.ingress_class", &kubernetes.ingress_class),
        ("kubernetes.gateway", &kubernetes.gateway),
        ("kubernetes.tls_secret", &kubernetes.tls_secret),
        ("kubernetes.cluster_issuer", &kubernetes.cluster_issuer),
    ];
    let written = texts.into_iter().filter_map(|(path, text)| Some((path, text.as_deref()?)));
    SETTINGS.shaped(written).collect()
}

/// Refuses an exposure that lacks the names that only a manifest can give, and what no driver runs in a cluster.
fn refusals(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    let settings = &spec.settings.kubernetes;
    let expose = settings.expose;
    let mut refusals = Vec::new();
    let mut refuse = |code: &str, message: String| refusals.push(about(name, Diagnostic::new(code, message)));
    if expose.needs_origins() && spec.origins.api.is_none() {
        refuse(
            "plan.origins_missing",
            format!(
                "`expose = \"{expose}\"` leads from a host name to `{name}`, and the manifest names none; add\n    \
                 origins = {{ api = \"https://api.example.com\", site = \"https://example.com\" }}"
            ),
        );
    }
    if expose == Exposure::ClusterIp && spec.origins.api.is_some() {
        let message = "`expose = \"cluster-ip\"` is reached by the name of its Service, so `origins` would name something else; leave \
                       `origins` out, or choose `ingress` or `gateway`";
        refuse("plan.origins_unused", message.to_owned());
    }
    if expose == Exposure::Gateway && settings.gateway.is_none() {
        let message = "an HTTPRoute belongs to a Gateway, and none is named; add `gateway = \"namespace/name\"` to its table `kubernetes`";
        refuse("plan.gateway_missing", message.to_owned());
    }
    if let (true, Some(Release::Digest(_)), None) = (spec.dashboard, &spec.release, &settings.dashboard_image) {
        let message = "a release by digest names the backend's image alone, so nothing says which dashboard goes with it; name that \
                       with `dashboard_image`, or leave `dashboard` out";
        refuse("plan.dashboard_release_unknown", message.to_owned());
    }
    if spec.storage.server().is_some_and(|server| server.managed) {
        let message = "provider `kubernetes` runs no database server of its own; name one with `storage.url`, such as the Service of \
                       an operator's";
        refuse("plan.storage_unavailable", message.to_owned());
    }
    refusals
}
