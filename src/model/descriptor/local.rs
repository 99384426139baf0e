//! The provider `local`: real `convex-local-backend` processes.

use super::{ProviderDescriptor, ReleaseSource, SettingKind, SettingTable, TextSetting, TextShape, process, setting};
use crate::model::provider::ProviderKind;
use crate::model::provider_settings::LocalSettings;
use crate::model::release::Release;

/// The keys of its table in a manifest.
static SETTINGS: SettingTable = SettingTable {
    title: "The provider `local`",
    doc: "What only the provider `local` understands.",
    aliases: &[],
    keys: &[setting("binary", SettingKind::Text(TextShape::Path), "The executable to run instead of the release's own.")
        .alias(&["path"])],
};

pub(super) static DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    settings: &SETTINGS,
    read_settings: |table, settings| {
        settings.local = LocalSettings { binary: table.text("binary"), archive_digest: table.archive_digest() }.into();
    },
    has_settings: |settings| *settings.local != LocalSettings::default(),
    fields: |settings, fields| {
        fields.text("local.binary", settings.local.binary.as_ref());
        fields.text("release.sha256", settings.local.archive_digest.as_ref());
    },
    texts: |settings| {
        let binary = settings.local.binary.iter().map(|path| ("local.binary", path.as_str()));
        let digest = settings.local.archive_digest.iter();
        let digest = digest.map(|text| TextSetting { path: "release.sha256", shape: TextShape::Sha256, text });
        SETTINGS.shaped(binary).chain(digest).collect()
    },
    moves_rows: true,
    // An executable of the user's own is what it is.
    pins_build: |spec| spec.settings.local.binary.is_some() || spec.release.as_ref().is_some_and(Release::is_pinned),
    ..process::descriptor(ProviderKind::Local, ReleaseSource::Archives)
};
