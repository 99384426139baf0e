//! The provider `docker`: containers on an engine of the control plane's machine.

use super::{
    Location, ProviderDescriptor, ReleaseSource, SettingKind, SettingTable, SettingsReader, TextSetting, TextShape, about,
    noted_internal_url, setting,
};
use crate::model::diagnostic::Diagnostic;
use crate::model::field::{EXTRA_ENV, FieldSet};
use crate::model::impact::ChangeImpact;
use crate::model::name::BackendName;
use crate::model::provider::ProviderKind;
use crate::model::provider_settings::{DockerSettings, ProviderSettings, PullPolicy};
use crate::model::route::{RouteError, routes};
use crate::model::route_tls::RouteTls;
use crate::model::server::Server;
use crate::model::spec::{BackendSpec, Storage};

/// How the labels begin by which the driver knows what it made.
const RESERVED_LABELS: &str = "convexinfra.";

/// The keys of its table in a manifest.
static SETTINGS: SettingTable = SettingTable {
    title: "The provider `docker`",
    doc: "What only the provider `docker` understands.",
    aliases: &[],
    keys: &[
        setting("image", SettingKind::Text(TextShape::Image), "The backend's image instead of the official one."),
        setting(
            "proxy_image",
            SettingKind::Text(TextShape::Image),
            "The image of convexinfra's own proxy instead of its server's `proxy_image`, or the official one of Caddy.",
        ),
        setting("dashboard_image", SettingKind::Text(TextShape::Image), "The dashboard's image instead of the official one."),
        setting(
            "database_image",
            SettingKind::Text(TextShape::Image),
            "The image of a managed database server instead of the official one.",
        ),
        setting(
            "pull",
            SettingKind::Word {
                code: "manifest.unknown_pull_policy",
                noun: "a pull policy",
                words: &["missing", "always", "never"],
            },
            "When images are fetched; `missing` when left out.",
        ),
        setting(
            "publish",
            SettingKind::Text(TextShape::Address),
            "The address that ports are published on; loopback when left out.",
        ),
        setting("network", SettingKind::Text(TextShape::Word), "A network to join."),
        setting(
            "networks",
            SettingKind::Texts(TextShape::Word),
            "Further networks of the backend's container, such as a proxy's.",
        ),
        setting("aliases", SettingKind::Texts(TextShape::Word), "Further names of the backend in its networks."),
        setting("labels", SettingKind::Labels, "Labels for others, such as a proxy."),
        setting("extra_hosts", SettingKind::Texts(TextShape::HostEntry), "Names that resolve inside, each with its address."),
        setting("dns", SettingKind::Texts(TextShape::Address), "Name servers instead of the engine's."),
        setting(
            "mounts",
            SettingKind::Texts(TextShape::Mount),
            "What is mounted beside the data: a volume or a directory of the engine's machine.",
        )
        .alias(&["volumes"]),
        setting("arguments", SettingKind::Texts(TextShape::Line), "Further arguments of the backend.")
            .alias(&["command", "args"]),
        setting("extra_env", SettingKind::Variables, "Variables of the backend's process that no other key sets.")
            .alias(&["environment", "env"]),
        setting("api_port", SettingKind::Port, "The port of the API inside the container; the one outside when left out."),
        setting(
            "site_port",
            SettingKind::Port,
            "The port of the HTTP actions inside the container; the one outside when left out.",
        ),
        setting("shm_size", SettingKind::Size, "Shared memory; the engine's default when left out."),
    ],
};

pub(super) static DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    settings: &SETTINGS,
    runs_dashboards: true,
    stops: true,
    takes_snapshots: true,
    moves_rows: true,
    imports: true,
    limit_impact: |path, _, after| match (path, after) {
        // Volumes of an engine have no size.
        ("resources.disk", _) => ChangeImpact::Record,
        // An engine sets and changes the limits of a running container, and cannot lift them.
        (_, None) => ChangeImpact::Restart,
        (_, Some(_)) => ChangeImpact::InPlace,
    },
    setting_impacts: &[
        ("docker.pull", ChangeImpact::Record),
        ("docker.dashboard_image", ChangeImpact::InPlace),
        (RouteTls::FIELD, ChangeImpact::InPlace),
        (RouteTls::CERT, ChangeImpact::InPlace),
        (RouteTls::KEY, ChangeImpact::InPlace),
        (RouteTls::ACME, ChangeImpact::InPlace),
        (RouteTls::ROOT, ChangeImpact::InPlace),
        ("docker.proxy_image", ChangeImpact::InPlace),
        ("server", ChangeImpact::MovesData),
        // Another way to the same engine, which its id proves; another engine is refused.
        ("server.host", ChangeImpact::Record),
        ("server.port", ChangeImpact::Record),
        ("server.identity", ChangeImpact::Record),
        ("server.host_key", ChangeImpact::Record),
        ("server.socket", ChangeImpact::Record),
    ],
    read_settings,
    has_settings: |settings| *settings.docker != DockerSettings::default(),
    fields,
    texts,
    publish_address: |settings| settings.docker.publish.as_deref(),
    refusals,
    lints,
    publishing_help: |spec| match spec.settings.docker.publish {
        Some(_) => "",
        None => {
            ", and `docker.publish` to the address of that machine on which its ports are published, or put a proxy before it"
        }
    },
    internal_url: noted_internal_url,
    ..ProviderDescriptor::new(ProviderKind::Docker, Location::Engine, ReleaseSource::Images)
};

impl BackendSpec {
    /// Returns where the certificates of its routes come from, where convexinfra's own proxy serves its origins.
    pub fn route_tls(&self) -> Option<&RouteTls> {
        self.settings.docker.tls.as_ref()
    }

    /// Returns the server that it is on.
    pub fn server(&self) -> Option<&Server> {
        self.settings.docker.server.as_ref()
    }
}

fn read_settings(table: &dyn SettingsReader, settings: &mut ProviderSettings) {
    let port = |key| table.count(key).and_then(|port| u16::try_from(port).ok());
    settings.docker = DockerSettings {
        server: table.server(),
        tls: table.route_tls(),
        proxy_image: table.text("proxy_image").or_else(|| table.server_proxy_image()),
        image: table.text("image"),
        dashboard_image: table.text("dashboard_image"),
        database_image: table.text("database_image"),
        pull: match table.word("pull") {
            Some("always") => PullPolicy::Always,
            Some("never") => PullPolicy::Never,
            _ => PullPolicy::Missing,
        },
        publish: table.text("publish"),
        network: table.text("network"),
        networks: table.texts("networks"),
        aliases: table.texts("aliases"),
        labels: table.labels("labels"),
        extra_hosts: table.texts("extra_hosts"),
        dns: table.texts("dns"),
        mounts: table.texts("mounts"),
        arguments: table.texts("arguments"),
        extra_env: table.variables("extra_env"),
        api_port: port("api_port"),
        site_port: port("site_port"),
        shm_size: table.size("shm_size"),
    }
    .into();
}

fn fields(settings: &ProviderSettings, fields: &mut FieldSet) {
    let docker = &settings.docker;
    if let Some(server) = &docker.server {
        fields.text("server", Some(&server.name));
        fields.text("server.host", Some(&server.host));
        fields.text("server.port", server.port);
        fields.text("server.identity", server.identity.as_ref());
        fields.text("server.host_key", server.host_key.as_ref());
        fields.text("server.socket", server.socket.as_ref());
    }
    fields.text(RouteTls::FIELD, docker.tls.as_ref());
    match &docker.tls {
        Some(RouteTls::Certificate { cert, key }) => {
            fields.secret(RouteTls::CERT, Some(cert));
            fields.secret(RouteTls::KEY, Some(key));
        }
        Some(RouteTls::Acme { directory, root }) => {
            fields.text(RouteTls::ACME, Some(directory));
            fields.secret(RouteTls::ROOT, root.as_ref());
        }
        Some(RouteTls::Auto | RouteTls::Internal) | None => {}
    }
    // Without a route there is no proxy.
    fields.text("docker.proxy_image", docker.proxy_image.as_ref().filter(|_| docker.tls.is_some()));
    fields.text("docker.image", docker.image.as_ref());
    fields.text("docker.dashboard_image", docker.dashboard_image.as_ref());
    fields.text("docker.database_image", docker.database_image.as_ref());
    fields.text("docker.pull", (docker.pull != PullPolicy::Missing).then_some(docker.pull));
    fields.text("docker.publish", docker.publish.as_ref());
    fields.text("docker.network", docker.network.as_ref());
    for (path, list) in [
        ("docker.networks", &docker.networks),
        ("docker.aliases", &docker.aliases),
        ("docker.extra_hosts", &docker.extra_hosts),
        ("docker.dns", &docker.dns),
        ("docker.mounts", &docker.mounts),
    ] {
        fields.text(path, (!list.is_empty()).then(|| list.join(", ")));
    }
    fields.text("docker.arguments", (!docker.arguments.is_empty()).then(|| docker.arguments.join(" ")));
    for (name, value) in &docker.labels {
        fields.text(&format!("docker.labels.{name}"), Some(value));
    }
    fields.text("docker.api_port", docker.api_port);
    fields.text("docker.site_port", docker.site_port);
    fields.text("docker.shm_size", docker.shm_size);
    for (name, source) in &docker.extra_env {
        fields.source(&format!("{EXTRA_ENV}{name}"), source);
    }
}

fn texts(settings: &ProviderSettings) -> Vec<TextSetting<'_>> {
    let docker = &settings.docker;
    let single = [
        ("docker.image", &docker.image),
        ("docker.proxy_image", &docker.proxy_image),
        ("docker.dashboard_image", &docker.dashboard_image),
        ("docker.database_image", &docker.database_image),
        ("docker.publish", &docker.publish),
        ("docker.network", &docker.network),
    ];
    let lists = [
        ("docker.networks", &docker.networks),
        ("docker.aliases", &docker.aliases),
        ("docker.extra_hosts", &docker.extra_hosts),
        ("docker.dns", &docker.dns),
        ("docker.mounts", &docker.mounts),
        ("docker.arguments", &docker.arguments),
    ];
    let single = single.into_iter().filter_map(|(path, text)| Some((path, text.as_deref()?)));
    let server = docker.server.iter().flat_map(|server| {
        [
            ("server", TextShape::Word, Some(&server.name)),
            ("server.host", TextShape::SshHost, Some(&server.host)),
            ("server.identity", TextShape::Path, server.identity.as_ref()),
            ("server.host_key", TextShape::HostKey, server.host_key.as_ref()),
            ("server.socket", TextShape::Socket, server.socket.as_ref()),
        ]
    });
    let server = server.filter_map(|(path, shape, text)| Some(TextSetting { path, shape, text: text?.as_str() }));
    let lists = lists.into_iter().flat_map(|(path, list)| list.iter().map(move |text| (path, text.as_str())));
    server.chain(SETTINGS.shaped(single.chain(lists))).collect()
}

fn refusals(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    let mut refusals = Vec::new();
    let reserved = |label: &&String| label.to_lowercase().starts_with(RESERVED_LABELS);
    if let Some(label) = spec.settings.docker.labels.keys().find(reserved) {
        let label: String = label.chars().take(64).flat_map(char::escape_debug).collect();
        let message = format!(
            "`docker.labels` has `{}`, and labels that begin with `{RESERVED_LABELS}` prove whose a container is; choose another name",
            label.replace('`', "'")
        );
        refusals.push(about(name, Diagnostic::new("plan.reserved_label", message)));
    }
    if let Err(error) = routes(spec) {
        let help = match error {
            RouteError::NoOrigins => "add `domain = \"example.com\"`, or `origins` with `api` and `site`",
            RouteError::Unsuitable { .. } => {
                "write it as `https://api.example.com`, or leave `tls` out and put a proxy of yours before it"
            }
            RouteError::SharedHost => "give the dashboard a host of its own",
            RouteError::NoDashboard => "add `dashboard = true`, or leave `origins.dashboard` out",
        };
        refusals.push(about(name, Diagnostic::new("plan.route", error.to_string()).with_help(help)));
    }
    let is_managed = spec.storage.server().is_some_and(|server| server.managed);
    if is_managed && !matches!(spec.storage, Storage::Postgres(_)) {
        let message = "provider `docker` runs PostgreSQL servers of its own and no MySQL; write `engine = \"postgres\"`, or give it \
                       `storage.url`";
        refusals.push(about(name, Diagnostic::new("plan.storage_unavailable", message)));
    }
    refusals
}

fn lints(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    let lint = |code: &str, message: &str| about(name, Diagnostic::warning(code, message));
    let mut lints = Vec::new();
    if spec.resources.disk.is_some() {
        lints.push(lint(
            "plan.disk_not_enforced",
            "volumes of a Docker engine have no size; `resources.disk` is recorded and counted against the budget only",
        ));
    }
    if spec.origins.dashboard.is_some() {
        lints.push(lint(
            "plan.dashboard_public",
            "`origins.dashboard` shows the dashboard to everybody, who then needs the admin key to enter; without it the dashboard is \
             reached by `convexinfra forward NAME dashboard` alone",
        ));
    }
    if matches!(spec.settings.docker.tls, Some(RouteTls::Internal)) {
        lints.push(lint(
            "plan.internal_certificates",
            "`tls = \"internal\"` has certificates of the proxy's own authority, which browsers and `npx convex` do not trust by \
             themselves; it is for tests and closed networks",
        ));
    }
    if spec.route_tls().and_then(RouteTls::acme) == Some(RouteTls::STAGING) {
        lints.push(lint(
            "plan.staging_certificates",
            "certificates of the staging authority try the way to real ones, and nothing trusts them; write `tls = \"auto\"` once they come",
        ));
    }
    let publishes_on_v6 = spec.settings.docker.publish.as_deref().is_some_and(|address| address.contains(':'));
    if publishes_on_v6 && spec.origins.api.is_none() {
        lints.push(lint(
            "plan.node_actions_unreachable",
            "`docker.publish` is an IPv6 address, and the backend listens on IPv4 only inside its container, so node actions cannot \
             call back; publish on an IPv4 address, or set `origins` to URLs that lead there from everywhere",
        ));
    }
    lints
}
