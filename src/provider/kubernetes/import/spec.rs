//! What a workload is, in the words of the manifest, and where the two contradict each other in a way that would move or lose
//! data. Pure.

use std::collections::BTreeMap;

use super::ExternalWorkload;
use crate::model::kubernetes::AccessMode;
use crate::model::{BackendSpec, FieldPath, FieldValue, Secret, fields};
use crate::provider::kit::external::{ImportConflict, ImportedSpec, conflict};

impl ExternalWorkload {
    /// Returns the block of a manifest that says what it is: each field with its value as TOML.
    pub fn manifest_entry(&self) -> Vec<(String, String)> {
        let text = |text: &str| toml::Value::from(text).to_string();
        let mut entry = vec![("provider".to_owned(), text("kubernetes"))];
        let mut add = |key: &str, value: Option<String>| entry.extend(value.map(|value| (key.to_owned(), value)));
        add("release", self.release.as_ref().map(|release| text(&release.to_string())));
        add("resources.cpus", self.resources.cpus.map(|cpus| cpus.to_string()));
        add("resources.memory", self.resources.memory.map(|memory| text(&memory.to_string())));
        add("resources.disk", self.resources.disk.map(|disk| text(&disk.to_string())));
        for line in self.launch.manifest_lines() {
            if let Some((key, value)) = line.split_once(" = ") {
                add(key, Some(value.to_owned()));
            }
        }
        let origins = self.launch.origins_beside(None);
        add("origins.api", origins.api.as_deref().map(text));
        add("origins.site", origins.site.as_deref().map(text));
        let settings = &self.settings;
        add("kubernetes.namespace", settings.namespace.as_deref().map(text));
        add("kubernetes.storage_class", settings.storage_class.as_deref().map(text));
        let mode = settings.access_mode;
        add("kubernetes.access_mode", (mode != AccessMode::default()).then(|| text(mode.as_str())));
        add("kubernetes.image", self.image.as_deref().map(text));
        add("kubernetes.image_pull_secret", settings.image_pull_secret.as_deref().map(text));
        add("kubernetes.expose", Some(text(settings.expose.as_str())));
        add("kubernetes.ingress_class", settings.ingress_class.as_deref().map(text));
        add("kubernetes.gateway", settings.gateway.as_deref().map(text));
        add("kubernetes.tls_secret", settings.tls_secret.as_deref().map(text));
        let mut knobs = BackendSpec::new(crate::model::ProviderKind::Kubernetes);
        knobs.tuning = self.launch.tuning.clone();
        for (path, value) in fields(&knobs) {
            let FieldValue::Text(value) = value else { continue };
            if path.as_str().starts_with("tuning.") {
                let is_bare = value.parse::<u64>().is_ok() || matches!(value.as_str(), "true" | "false");
                add(path.as_str(), Some(if is_bare { value } else { text(&value) }));
            }
        }
        entry
    }

    /// Returns the workload as a specification. What the manifest says in other words for the same thing stays as it is written
    /// there, so that the next plan shows real differences only.
    ///
    /// # Errors
    /// [`ImportConflict`] where documents, files or the claim are elsewhere than the manifest says: a difference there is a move of
    /// data, and no import.
    pub fn to_spec(
        &self,
        manifest: &BackendSpec,
        secrets: &BTreeMap<FieldPath, Secret>,
    ) -> Result<ImportedSpec, ImportConflict> {
        let (mut spec, mut secrets) = (manifest.clone(), secrets.clone());
        self.launch.check(manifest, &secrets)?;
        self.check_place(manifest)?;
        self.launch.record(manifest, &mut spec);
        spec.release.clone_from(&self.release);
        spec.dashboard = false;
        spec.env.clear();
        secrets.retain(|path, _| !path.as_str().starts_with("env."));
        spec.resources.clone_from(&self.resources);
        if manifest.resources.disk.is_none() {
            spec.resources.disk = None;
        }
        spec.origins = self.launch.origins_beside(None);
        spec.settings.kubernetes.image.clone_from(&self.image);
        spec.settings.kubernetes.image_pull_secret.clone_from(&self.settings.image_pull_secret);
        Ok(ImportedSpec { spec, secrets })
    }

    /// Checks that the manifest names the place of the claim.
    fn check_place(&self, manifest: &BackendSpec) -> Result<(), ImportConflict> {
        let (written, there) = (&manifest.settings.kubernetes, &self.settings);
        let differs = |field: &str, there: &str, written: &str| {
            Err(conflict(
                format!("its claim has `{there}`, where `kubernetes.{field}` in the manifest is `{written}`"),
                format!("the data stays where it is: write\n    {field} = \"{there}\""),
            ))
        };
        if let (Some(written), Some(there)) = (&written.namespace, &there.namespace)
            && written != there
        {
            return differs("namespace", there, written);
        }
        if let (Some(written), there) = (&written.storage_class, &there.storage_class)
            && Some(written) != there.as_ref()
        {
            return differs("storage_class", there.as_deref().unwrap_or_default(), written);
        }
        if written.access_mode != there.access_mode {
            return differs("access_mode", there.access_mode.as_str(), written.access_mode.as_str());
        }
        Ok(())
    }
}
