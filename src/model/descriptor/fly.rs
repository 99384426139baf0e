//! The provider `fly`: apps on Fly.io.

use super::{
    Addressing, AppAddress, Credential, Location, ProviderDescriptor, ReleaseSource, SettingKind, SettingTable, SettingsReader,
    TextSetting, TextShape, about, fly_prices, noted_internal_url, setting,
};
use crate::model::actual::Endpoints;
use crate::model::cpu_kind::CpuKind;
use crate::model::diagnostic::Diagnostic;
use crate::model::field::FieldSet;
use crate::model::fly::{APP_KEY, Guest, REGIONS, app_name, app_url, volume_gb};
use crate::model::identifier::BackendId;
use crate::model::impact::ChangeImpact;
use crate::model::name::{BackendName, InstanceName};
use crate::model::provider::ProviderKind;
use crate::model::provider_settings::{FlySettings, ProviderSettings};
use crate::model::release::Release;
use crate::model::resolved::{INTERNAL_URL, ProviderState};
use crate::model::spec::BackendSpec;

/// The keys of its table in a manifest.
static SETTINGS: SettingTable = SettingTable {
    title: "The provider `fly`",
    doc: "What only the provider `fly` understands.",
    aliases: &[],
    keys: &[
        setting("org", SettingKind::Text(TextShape::Label), "The organisation that owns the app.")
            .alias(&["organization", "organisation"]),
        setting("app", SettingKind::Text(TextShape::Label), "The app's name instead of a derived one.").alias(&["app_name"]),
        setting("image", SettingKind::Text(TextShape::Image), "The machine's image instead of the official one."),
        setting(
            "cpu_kind",
            SettingKind::Word {
                code: "manifest.unknown_cpu_kind",
                noun: "a kind of processor",
                words: &["shared", "performance"],
            },
            "The kind of its processors; `shared` when left out.",
        ),
        setting(
            "fallback_regions",
            SettingKind::Texts(TextShape::Region),
            "Regions to be made in when the region itself is full, in this order; none when left out.",
        ),
    ],
};

pub(super) static DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    settings: &SETTINGS,
    addressing: Addressing::App(allocate_app),
    credential: Some(Credential { variable: "FLY_API_TOKEN", command: "fly tokens create org" }),
    runs_dashboards: true,
    retains_volumes: true,
    limit_impact: |path, _, _| match path {
        "resources.disk" => ChangeImpact::InPlace,
        _ => ChangeImpact::Restart,
    },
    setting_impacts: &[
        ("fly.org", ChangeImpact::MovesData),
        ("fly.app", ChangeImpact::MovesData),
        ("fly.fallback_regions", ChangeImpact::Record),
    ],
    read_settings,
    has_settings: |settings| *settings.fly != FlySettings::default(),
    fields,
    texts,
    named_place: |settings| settings.fly.app.as_deref(),
    refusals,
    lints,
    price: fly_prices::monthly_cost,
    retained_price: fly_prices::volume_cost,
    unpriced_items: fly_prices::unpriced_items,
    price_source: fly_prices::source,
    internal_url: noted_internal_url,
    ..ProviderDescriptor::new(ProviderKind::Fly, Location::Platform, ReleaseSource::Images)
};

fn allocate_app(
    spec: &BackendSpec,
    instance: &InstanceName,
    id: &BackendId,
    state: &ProviderState,
    attempt: u32,
) -> AppAddress {
    let known = state.get(APP_KEY).filter(|_| attempt == 0).cloned();
    let named = spec.settings.fly.app.clone();
    let app = known.or(named).unwrap_or_else(|| app_name(instance, id, attempt));
    let url = spec.origins.api.clone().unwrap_or_else(|| app_url(&app));
    let site_url = spec.origins.site.clone().unwrap_or_else(|| format!("{url}/http"));
    let state = ProviderState::from([(INTERNAL_URL.to_owned(), app_url(&app)), (APP_KEY.to_owned(), app)]);
    AppAddress { endpoints: Endpoints { url, site_url }, state }
}

fn read_settings(table: &dyn SettingsReader, settings: &mut ProviderSettings) {
    settings.fly = FlySettings {
        org: table.text("org"),
        app: table.text("app"),
        image: table.text("image"),
        cpu_kind: match table.word("cpu_kind") {
            Some("performance") => CpuKind::Performance,
            _ => CpuKind::Shared,
        },
        fallback_regions: table.texts("fallback_regions"),
    }
    .into();
}

fn fields(settings: &ProviderSettings, fields: &mut FieldSet) {
    let fly = &settings.fly;
    fields.text("fly.org", fly.org.as_ref());
    fields.text("fly.app", fly.app.as_ref());
    fields.text("fly.image", fly.image.as_ref());
    fields.text("fly.cpu_kind", (fly.cpu_kind != CpuKind::Shared).then_some(fly.cpu_kind));
    fields.text("fly.fallback_regions", (!fly.fallback_regions.is_empty()).then(|| fly.fallback_regions.join(", ")));
}

fn texts(settings: &ProviderSettings) -> Vec<TextSetting<'_>> {
    let fly = &settings.fly;
    let single = [("fly.org", &fly.org), ("fly.app", &fly.app), ("fly.image", &fly.image)];
    let single = single.into_iter().filter_map(|(path, text)| Some((path, text.as_deref()?)));
    let regions = fly.fallback_regions.iter().map(|text| ("fly.fallback_regions", text.as_str()));
    SETTINGS.shaped(single.chain(regions)).collect()
}

/// Refuses regions and sizes that Fly does not have, and what an app cannot bring along.
fn refusals(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    let refusal = |code: &str, message: String| about(name, Diagnostic::new(code, message));
    let mut refusals = Vec::new();
    let known = || REGIONS.map(|region| format!("`{region}`")).join(", ");
    if spec.region.is_none() {
        let message =
            format!("a backend on Fly is in one region, and `{name}` names none; add `region = \"…\"`, one of {}", known());
        refusals.push(refusal("plan.region_missing", message));
    }
    for region in spec.region.iter().chain(&spec.settings.fly.fallback_regions) {
        if !REGIONS.contains(&region.as_str()) {
            let message = format!("Fly has no region `{region}` that is known here; choose one of {}", known());
            refusals.push(refusal("plan.unknown_region", message));
        }
    }
    let sizes = [Guest::from_spec(spec).err(), volume_gb(spec).err()];
    refusals.extend(sizes.into_iter().flatten().map(|error| refusal("plan.unknown_size", error.to_string())));
    if let (true, Some(Release::Digest(_))) = (spec.dashboard, &spec.release) {
        let message = "a release by digest names the backend's image alone, so nothing says which dashboard goes with it; name its \
             commit, or leave `dashboard` out";
        refusals.push(refusal("plan.dashboard_release_unknown", message.to_owned()));
    }
    if let Some(server) = spec.storage.server() {
        if server.managed {
            let message =
                "provider `fly` runs no database server of its own; name one with `storage.url`, or leave `storage` out";
            refusals.push(refusal("plan.storage_unavailable", message.to_owned()));
        }
        if server.tls.has_own_authorities() {
            let message = "provider `fly` cannot bring a file of certificates along; use a server whose certificate is public";
            refusals.push(refusal("plan.tls_unavailable", message.to_owned()));
        }
    }
    refusals
}

fn lints(name: &BackendName, spec: &BackendSpec) -> Vec<Diagnostic> {
    let Some(site) = spec.origins.site.as_deref().filter(|site| !routes_http_actions(site)) else { return Vec::new() };
    let message = format!(
        "Fly leads requests by port and not by host, so HTTP actions answer at `…/http` of the API's origin; `{site}` reaches \
         them only through a proxy of yours. Write `{site}/http`, or a port such as `{site}:3211`, to do without one"
    );
    vec![about(name, Diagnostic::warning("plan.site_origin_unrouted", message))]
}

/// Whether an origin of the HTTP actions says how they are reached on an app that has one port for everything else.
fn routes_http_actions(site: &str) -> bool {
    site.ends_with("/http") || url::Url::parse(site).is_ok_and(|url| url.port().is_some())
}
