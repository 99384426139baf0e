//! The provider `simulated`: stand-in backends out of this very binary, or nothing but records.

use super::{ProviderDescriptor, ReleaseSource, SettingKind, SettingTable, process, setting};
use crate::model::impact::ChangeImpact;
use crate::model::provider::ProviderKind;
use crate::model::provider_settings::SimulatedSettings;

/// The keys of its table in a manifest.
static SETTINGS: SettingTable = SettingTable {
    title: "The provider `simulated`",
    doc: "What only the provider `simulated` understands.",
    aliases: &[],
    keys: &[setting("listen", SettingKind::Flag, "Whether a process runs; without one the backend exists only as a record.")],
};

pub(super) static DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    settings: &SETTINGS,
    setting_impacts: &[("simulated.listen", ChangeImpact::Restart)],
    read_settings: |table, settings| {
        settings.simulated = SimulatedSettings { listen: table.flag("listen").unwrap_or(true) }.into();
    },
    has_settings: |settings| *settings.simulated != SimulatedSettings::default(),
    fields: |settings, fields| fields.text("simulated.listen", (!settings.simulated.listen).then_some("false")),
    keeps_files_itself: true,
    is_record_only: |settings| !settings.simulated.listen,
    pins_build: |_| true,
    ..process::descriptor(ProviderKind::Simulated, ReleaseSource::Any)
};
