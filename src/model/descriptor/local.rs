//! The provider `local`: real `convex-local-backend` processes.

use super::{ProviderDescriptor, ReleaseSource, TextSetting, TextShape, process};
use crate::model::provider::ProviderKind;
use crate::model::provider_settings::LocalSettings;
use crate::model::release::Release;

pub(super) static DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    read_settings: |table, settings| {
        settings.local = LocalSettings { binary: table.text("binary"), archive_digest: table.archive_digest() };
    },
    has_settings: |settings| settings.local != LocalSettings::default(),
    fields: |settings, fields| {
        fields.text("local.binary", settings.local.binary.as_ref());
        fields.text("release.sha256", settings.local.archive_digest.as_ref());
    },
    texts: |settings| {
        let settings = [
            ("local.binary", TextShape::Path, &settings.local.binary),
            ("release.sha256", TextShape::Sha256, &settings.local.archive_digest),
        ];
        let given = settings.into_iter().filter_map(|(path, shape, text)| Some((path, shape, text.as_deref()?)));
        given.map(|(path, shape, text)| TextSetting { path, shape, text }).collect()
    },
    moves_rows: true,
    // An executable of the user's own is what it is.
    pins_build: |spec| spec.settings.local.binary.is_some() || spec.release.as_ref().is_some_and(Release::is_pinned),
    ..process::descriptor(ProviderKind::Local, ReleaseSource::Archives)
};
