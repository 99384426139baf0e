//! The steps that write env files and take lines out of them again.
//!
//! Must not do: know how an env file is written; what stands in one was looked at before.

use std::collections::{BTreeMap, BTreeSet};

use super::build::PlanBuilder;
use super::{Action, ChangeImpact, FieldChange, KNOWN_AFTER_APPLY, Reason, Task, lint};
use crate::model::{
    ActualBackend, Address, BackendName, BackendSpec, DEFAULT_ENV_FILE, Diagnostic, EnvFileState, EnvFileTarget, FieldPath,
};

impl<'a> PlanBuilder<'a> {
    /// The backends whose env file this plan is about. Of several that name one file the first one gets it.
    fn env_file_owners(&mut self) -> Vec<(&'a BackendName, &'a EnvFileTarget)> {
        let mut owners: BTreeMap<&str, &BackendName> = BTreeMap::new();
        let mut result = Vec::new();
        for (name, backend) in &self.desired.backends {
            let Some(target) = backend.env_file.as_ref().filter(|_| !backend.spec.is_record_only()) else { continue };
            let path = target.path.trim_start_matches("./");
            if let Some(owner) = owners.get(path) {
                self.lints.push(lint::shared_env_file(name, owner, path));
            } else {
                owners.insert(path, name);
                if self.intent.selection.contains(name) {
                    result.push((name, target));
                }
            }
        }
        result
    }

    pub(super) fn write_env_files(&mut self) {
        // A plan does at most one thing to one address, and so far all addresses are backends.
        let by_backend: BTreeMap<BackendName, usize> =
            self.steps.iter().enumerate().map(|(index, step)| (step.address.backend.clone(), index)).collect();
        for (name, target) in self.env_file_owners() {
            let address = Address::env_file(name);
            let (current, url, admin_key, difference) = match self.actual.env_files.get(name) {
                None => (false, &None, &None, None),
                Some(EnvFileState::Refused { code, message }) => {
                    self.refusals.push(Diagnostic::new(code.clone(), message.clone()).about(address));
                    continue;
                }
                Some(EnvFileState::Writable { current, url, admin_key, warnings, difference }) => {
                    self.lints.extend(warnings.iter().map(|warning| lint::env_file(name, warning)));
                    (*current, url, admin_key, Some(difference).filter(|difference| !difference.is_empty()))
                }
            };
            let existing = self.existing.get(name).copied();
            let backend_step = by_backend.get(name).map(|index| &self.steps[*index]);
            let created = backend_step.is_some_and(|step| step.action == Action::Create);
            let spec = self.desired.backends.get(name).map(|backend| &backend.spec);
            let foreseen = spec.and_then(|spec| next_url(spec, existing.filter(|_| !created)));
            let url_now = existing.and_then(|backend| backend.endpoints.as_ref()).map(|endpoints| &endpoints.url);
            let moves_url = |path: &str| {
                path.starts_with("origins.") || path == "docker.publish" && (foreseen.is_none() || foreseen.as_ref() != url_now)
            };
            let moved_url = backend_step.is_some_and(|step| step.changes.iter().any(|c| moves_url(c.path.as_str())));
            if !created && !moved_url && current {
                continue;
            }
            let reason = if created || moved_url { Reason::BackendChanges } else { Reason::EnvFileDiffers };
            let unknown = || KNOWN_AFTER_APPLY.to_owned();
            let next_url = match existing.filter(|_| !created && !moved_url).and_then(|backend| backend.endpoints.as_ref()) {
                Some(endpoints) => endpoints.url.clone(),
                None => foreseen.unwrap_or_else(unknown),
            };
            let next_key =
                existing.filter(|_| !created).and_then(|b| b.admin_key.as_ref()).map_or_else(unknown, ToString::to_string);
            let pair = [
                ("CONVEX_SELF_HOSTED_URL", url.clone(), next_url),
                ("CONVEX_SELF_HOSTED_ADMIN_KEY", admin_key.as_ref().map(ToString::to_string), next_key),
            ];
            let mut changes: Vec<FieldChange> = pair
                .into_iter()
                .filter(|(_, before, after)| before.as_ref() != Some(after))
                .map(|(path, before, after)| FieldChange {
                    path: FieldPath::new(path),
                    before,
                    after: Some(after),
                    effect: ChangeImpact::Live,
                })
                .collect();
            if changes.is_empty() {
                changes.push(FieldChange {
                    path: FieldPath::new("lines"),
                    before: Some("in another form".to_owned()),
                    after: Some("one block, one line per variable".to_owned()),
                    effect: ChangeImpact::Live,
                });
            }
            self.step(
                address,
                Action::Write,
                reason,
                changes,
                Task::WriteEnvFile { backend: name.clone(), target: target.clone() },
            );
            if let Some(step) = self.steps.last_mut() {
                step.difference = difference.cloned();
            }
        }
    }

    /// Takes our lines out of the env files of backends that go, or that are told not to run.
    pub(super) fn clear_env_files(&mut self) {
        let going: BTreeSet<BackendName> = self
            .steps
            .iter()
            .filter_map(|step| match &step.task {
                Some(Task::Remove { backend, .. }) => Some(backend.clone()),
                _ => None,
            })
            .collect();
        let written: BTreeSet<&str> = self
            .desired
            .backends
            .values()
            .filter(|backend| !self.intent.destroy && !backend.spec.is_record_only())
            .filter_map(|backend| Some(backend.env_file.as_ref()?.path.as_str()))
            .collect();
        // A block that was removed took the path with it, but the usual file was looked at all the same.
        let usual = EnvFileTarget { path: DEFAULT_ENV_FILE.to_owned(), client_vars: false };
        let existing: Vec<(&BackendName, &ActualBackend)> = self.existing.iter().map(|(name, b)| (*name, *b)).collect();
        for (name, existing) in existing {
            let wanted = self.desired.backends.get(name);
            let Some(target) = wanted.map_or(Some(&usual), |wanted| wanted.env_file.as_ref()) else { continue };
            let Some(EnvFileState::Writable { url, admin_key, .. }) = self.actual.env_files.get(name) else { continue };
            let ours = admin_key.is_some() && existing.admin_key == *admin_key
                || url.is_some() && existing.endpoints.as_ref().map(|endpoints| &endpoints.url) == url.as_ref();
            let silenced = wanted.is_some_and(|wanted| wanted.spec.is_record_only()) && self.intent.selection.contains(name);
            let ends = (going.contains(&existing.name) || silenced) && !written.contains(target.path.as_str());
            if !ours || !ends {
                continue;
            }
            let pair = [
                ("CONVEX_SELF_HOSTED_URL", url.clone()),
                ("CONVEX_SELF_HOSTED_ADMIN_KEY", admin_key.as_ref().map(ToString::to_string)),
            ];
            let changes = pair
                .into_iter()
                .filter(|(_, before)| before.is_some())
                .map(|(path, before)| FieldChange {
                    path: FieldPath::new(path),
                    before,
                    after: None,
                    effect: ChangeImpact::Live,
                })
                .collect();
            let task = Task::ClearEnvFile { backend: name.clone(), target: target.clone() };
            self.step(Address::env_file(name), Action::Write, Reason::BackendDestroyed, changes, task);
        }
    }
}

/// The URL that a backend is going to have, where that follows from what is known: its ports stay.
fn next_url(spec: &BackendSpec, existing: Option<&ActualBackend>) -> Option<String> {
    if let Some(origin) = &spec.origins.api {
        return Some(origin.clone());
    }
    let existing =
        existing.filter(|backend| backend.recorded.origins.api.is_none() && backend.recorded.provider == spec.provider)?;
    let port = existing.endpoints.as_ref()?.url.rsplit_once(':')?.1.parse::<u16>().ok()?;
    Some(format!("http://{}:{port}", spec.port_host()))
}
