//! The provider `kubernetes`, which manifests can name and no control plane carries out yet.

use super::{Location, ProviderDescriptor, ReleaseSource, TextSetting, TextShape};
use crate::model::cost::Cost;
use crate::model::impact::ChangeImpact;
use crate::model::provider::ProviderKind;
use crate::model::provider_settings::KubernetesSettings;
use crate::model::resolved::INTERNAL_URL;

pub(super) static DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    runs_dashboards: true,
    limit_impact: |path, _| match path {
        "resources.disk" => ChangeImpact::InPlace,
        _ => ChangeImpact::Restart,
    },
    read_settings: |table, settings| {
        settings.kubernetes = KubernetesSettings {
            context: table.text("context"),
            namespace: table.text("namespace"),
            storage_class: table.text("storage_class"),
            image: table.text("image"),
        };
    },
    has_settings: |settings| settings.kubernetes != KubernetesSettings::default(),
    fields: |settings, fields| {
        fields.text("kubernetes.context", settings.kubernetes.context.as_ref());
        fields.text("kubernetes.namespace", settings.kubernetes.namespace.as_ref());
        fields.text("kubernetes.storage_class", settings.kubernetes.storage_class.as_ref());
        fields.text("kubernetes.image", settings.kubernetes.image.as_ref());
    },
    texts: |settings| {
        let kubernetes = &settings.kubernetes;
        let texts = [
            ("kubernetes.context", TextShape::Line, &kubernetes.context),
            ("kubernetes.namespace", TextShape::Label, &kubernetes.namespace),
            ("kubernetes.storage_class", TextShape::Word, &kubernetes.storage_class),
            ("kubernetes.image", TextShape::Image, &kubernetes.image),
        ];
        let written = texts.into_iter().filter_map(|(path, shape, text)| Some((path, shape, text.as_deref()?)));
        written.map(|(path, shape, text)| TextSetting { path, shape, text }).collect()
    },
    price: |_, _| Cost::Unknown,
    retained_price: |_| Cost::Unknown,
    // Its driver names the service. What the manifest calls its URL must never be sent the admin key instead.
    internal_url: |resolved| resolved.provider_state.get(INTERNAL_URL).cloned().unwrap_or_default(),
    ..ProviderDescriptor::new(ProviderKind::Kubernetes, Location::Platform, ReleaseSource::Images)
};
