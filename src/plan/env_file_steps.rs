//! The steps that write env files and take blocks out of them again.
//!
//! How an env file is written is not known here; its content was observed before.

use std::collections::{BTreeMap, BTreeSet};

use super::build::PlanBuilder;
use super::{Action, ChangeImpact, FieldChange, KNOWN_AFTER_APPLY, Reason, Step, Task, lint};
use crate::model::{
    ActualBackend, Address, BackendName, BackendSpec, Diagnostic, EnvFileState, EnvFileTarget, FieldPath, RememberedEnvFile,
    RequestedBy,
};

const URL: &str = "CONVEX_SELF_HOSTED_URL";
const ADMIN_KEY: &str = "CONVEX_SELF_HOSTED_ADMIN_KEY";

/// What an env file is going to say, as far as that is known.
struct Expectation {
    reason: Option<Reason>,
    url: String,
    admin_key: String,
}

impl<'a> PlanBuilder<'a> {
    /// The env files of the backends that this plan is about. Of several backends that name one file the first one gets it.
    fn env_file_targets(&mut self) -> Vec<(Address, &'a BackendName, &'a EnvFileTarget)> {
        let mut owners: BTreeMap<&str, &BackendName> = BTreeMap::new();
        let mut targets = Vec::new();
        for (name, backend) in self.desired.backends.iter().filter(|(_, backend)| !backend.spec.is_record_only()) {
            for (address, target) in backend.env_file_addresses(name) {
                let path = target.path.trim_start_matches("./");
                match owners.get(path) {
                    Some(owner) => self.lints.push(lint::shared_env_file(name, owner, path)),
                    None => {
                        owners.insert(path, name);
                        let is_meant = self.intent.selection.contains(name) && !self.stays_expired(name);
                        targets.extend(is_meant.then_some((address, name, target)));
                    }
                }
            }
        }
        targets
    }

    pub(super) fn write_env_files(&mut self) {
        // A plan does at most one thing to one address, and so far all addresses are backends.
        let by_backend: BTreeMap<BackendName, usize> =
            self.steps.iter().enumerate().map(|(index, step)| (step.address.backend.clone(), index)).collect();
        for (address, name, target) in self.env_file_targets() {
            let state = match self.actual.env_files.get(&address) {
                Some(EnvFileState::Refused { code, message }) => {
                    self.refusals.push(Diagnostic::new(code.clone(), message.clone()).about(address));
                    continue;
                }
                other => other,
            };
            let expected = self.expected_values(name, by_backend.get(name).map(|index| &self.steps[*index]));
            let mut changes = Vec::new();
            let (mut up_to_date, mut is_exposed) = (false, false);
            if let Some(EnvFileState::Writable { warnings, .. }) = state {
                self.lints.extend(warnings.iter().map(|warning| lint::env_file(&address, warning)));
            }
            let (mut url, mut admin_key, mut difference) = (None, None, None);
            if let Some(EnvFileState::Writable { content, .. }) = state {
                up_to_date = content.up_to_date;
                (url, admin_key) = (content.url.clone(), content.admin_key.as_ref().map(ToString::to_string));
                difference = Some(content.difference.clone()).filter(|difference| !difference.is_empty());
                changes.extend(
                    content.needs_ignore_rule.then(|| change("ignored", Some("no".to_owned()), Some("yes".to_owned()))),
                );
                is_exposed = content.exposed_mode.is_some();
                changes.extend(
                    content
                        .exposed_mode
                        .map(|mode| change("mode", Some(format!("{mode:04o}")), Some(format!("{:04o}", mode & 0o700)))),
                );
            }
            let reason = match expected.reason {
                Some(reason) => reason,
                None if !up_to_date => Reason::EnvFileDiffers,
                None if is_exposed => Reason::EnvFileExposed,
                None if !changes.is_empty() => Reason::EnvFileNotIgnored,
                None => continue,
            };
            if !up_to_date || expected.reason.is_some() {
                changes.extend(value_changes(target, [(URL, url, expected.url), (ADMIN_KEY, admin_key, expected.admin_key)]));
            }
            self.step(
                address,
                Action::Write,
                reason,
                changes,
                Task::WriteEnvFile { backend: name.clone(), target: target.clone() },
            );
            if let Some(step) = self.steps.last_mut() {
                step.difference = difference;
            }
        }
    }

    /// What the env files of a backend are going to say once its own step has ended.
    fn expected_values(&self, name: &BackendName, backend_step: Option<&Step>) -> Expectation {
        let existing = self.existing.get(name).copied();
        let created = backend_step.is_some_and(|step| step.action == Action::Create);
        let spec = self.desired.backends.get(name).map(|backend| &backend.spec);
        let foreseen = spec.and_then(|spec| next_url(spec, existing.filter(|_| !created)));
        let url_now = existing.and_then(|backend| backend.endpoints.as_ref()).map(|endpoints| &endpoints.url);
        let moves_url = |path: &str| {
            matches!(path, "origins.api" | "origins.site")
                || path == "docker.publish" && (foreseen.is_none() || foreseen.as_ref() != url_now)
        };
        let moved = backend_step.is_some_and(|step| step.changes.iter().any(|change| moves_url(change.path.as_str())));
        let unknown = || KNOWN_AFTER_APPLY.to_owned();
        let url = match existing.filter(|_| !created && !moved).and_then(|backend| backend.endpoints.as_ref()) {
            Some(endpoints) => endpoints.url.clone(),
            None => foreseen.unwrap_or_else(unknown),
        };
        let key = existing.filter(|_| !created).and_then(|backend| backend.admin_key.as_ref());
        let reason = (created || moved).then_some(Reason::BackendChanges);
        Expectation { reason, url, admin_key: key.map_or_else(unknown, ToString::to_string) }
    }

    /// Takes the blocks out of the env files of backends that go or are told not to run, and of files that the manifest names
    /// no more.
    pub(super) fn clear_env_files(&mut self) {
        let written: BTreeSet<String> = self
            .desired
            .backends
            .values()
            .filter(|backend| !self.intent.destroy && !backend.spec.is_record_only())
            .flat_map(|backend| backend.env_files.iter().map(|target| target.path.clone()))
            .collect();
        let going: BTreeSet<BackendName> = self
            .steps
            .iter()
            .filter_map(|step| match &step.task {
                Some(Task::Remove { backend, .. }) => Some(backend.clone()),
                _ => None,
            })
            .collect();
        let mut candidates: Vec<(Address, BackendName, EnvFileTarget, Option<&RememberedEnvFile>)> = Vec::new();
        for (name, backend) in &self.desired.backends {
            let targets = backend.env_file_addresses(name);
            candidates.extend(targets.map(|(address, target)| (address, name.clone(), target.clone(), None)));
        }
        candidates.extend(
            self.actual
                .remembered
                .iter()
                .map(|file| (file.address.clone(), file.address.backend.clone(), file.target.clone(), Some(file))),
        );
        for (address, name, target, remembered) in candidates {
            let Some(EnvFileState::Writable { content, outside, .. }) = self.actual.env_files.get(&address) else { continue };
            if !content.has_block || written.contains(&target.path) {
                continue;
            }
            let Some(reason) = self.reason_to_clear(&name, &target.path, remembered, &going) else { continue };
            if *outside {
                self.lints.push(lint::env_file_elsewhere(&address, &name, &target.path));
                continue;
            }
            let pair = [(URL, content.url.clone()), (ADMIN_KEY, content.admin_key.as_ref().map(ToString::to_string))];
            let changes = pair.into_iter().filter(|(_, before)| before.is_some());
            let changes = changes.map(|(path, before)| change(path, before, None)).collect();
            let difference = Some(content.removal.clone()).filter(|difference| !difference.is_empty());
            self.step(address, Action::Write, reason, changes, Task::ClearEnvFile { backend: name, target });
            if let Some(step) = self.steps.last_mut() {
                step.difference = difference;
            }
        }
    }

    /// Why the block of a backend is taken out of a file; none where it stays.
    fn reason_to_clear(
        &mut self,
        name: &BackendName,
        path: &str,
        remembered: Option<&RememberedEnvFile>,
        going: &BTreeSet<BackendName>,
    ) -> Option<Reason> {
        let existing = self.existing.get(name).copied();
        let desired = self.desired.backends.get(name).filter(|_| !self.intent.destroy);
        let selected = self.intent.selection.contains(name);
        if existing.is_some_and(|existing| going.contains(&existing.name)) || going.contains(name) {
            return Some(Reason::BackendDestroyed);
        }
        // Another checkout of the repository has a manifest of its own, which names its files.
        let remembered = match remembered {
            Some(file)
                if file.elsewhere
                    && file.requested_by == RequestedBy::Manifest
                    && desired.is_some_and(|desired| !desired.spec.is_record_only()) =>
            {
                return None;
            }
            remembered => remembered.map(|file| file.requested_by),
        };
        match (desired, remembered) {
            (Some(desired), _) if desired.spec.is_record_only() => selected.then_some(Reason::BackendDestroyed),
            // It went by itself, or another machine took it away.
            (None, Some(_)) if existing.is_none() => selected.then_some(Reason::BackendDestroyed),
            (Some(desired), Some(RequestedBy::Manifest)) if !desired.env_files.is_empty() => {
                selected.then_some(Reason::EnvFileNotNamed)
            }
            (Some(_), Some(RequestedBy::Manifest)) if selected => {
                self.lints.push(lint::env_file_unnamed(name, path));
                None
            }
            _ => None,
        }
    }
}

fn change(path: &str, before: Option<String>, after: Option<String>) -> FieldChange {
    FieldChange { path: FieldPath::new(path), before, after, effect: ChangeImpact::Live }
}

/// The values that change, or that the lines get another form.
fn value_changes(target: &EnvFileTarget, values: [(&str, Option<String>, String); 2]) -> Vec<FieldChange> {
    let pair = values.into_iter().filter(|_| target.contents.has_pair());
    let mut changes: Vec<FieldChange> = pair
        .filter(|(_, before, after)| before.as_ref() != Some(after))
        .map(|(path, before, after)| change(path, before, Some(after)))
        .collect();
    if changes.is_empty() {
        changes.push(change("lines", Some("in another form".to_owned()), Some("one block, one line per variable".to_owned())));
    }
    changes
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
