//! What a container is, in the words of the manifest, and where the two contradict each other in a way that would move
//! or lose data.

use std::collections::BTreeMap;

use super::ExternalContainer;
use crate::model::{BackendSpec, DockerSettings, FieldPath, Origins, Resources, Secret, SecretRef, SecretSource};
use crate::provider::kit::external::{ImportConflict, ImportedSpec, conflict};

impl ExternalContainer {
    /// Returns the container as a specification. What the manifest says in other words for the same thing stays as it is
    /// written there, so that the next plan shows real differences only.
    ///
    /// # Errors
    /// [`ImportConflict`] where documents or files are elsewhere than the manifest says: a difference there is a move of
    /// data, and no import.
    pub fn to_spec(
        &self,
        manifest: &BackendSpec,
        secrets: &BTreeMap<FieldPath, Secret>,
    ) -> Result<ImportedSpec, ImportConflict> {
        let mut spec = manifest.clone();
        let mut secrets = secrets.clone();
        self.launch.check(manifest, &secrets)?;
        if let Some(why) = &self.database_conflict {
            let message = format!("the container `{}` {why}", self.name);
            return Err(conflict(message, "publish the port, and write the same URL into both"));
        }
        self.launch.record(manifest, &mut spec);
        spec.release = self.release.clone();
        spec.dashboard = false;
        spec.env.clear();
        secrets.retain(|path, _| !path.as_str().starts_with("env."));
        self.record_docker_settings(manifest, &mut spec, &mut secrets);
        spec.origins = self.origins_for(&spec);
        spec.resources = Resources { disk: manifest.resources.disk, ..self.resources.clone() };
        Ok(ImportedSpec { spec, secrets })
    }
    /// Returns the origins where they are other ones than those that follow from the ports.
    fn origins_for(&self, spec: &BackendSpec) -> Origins {
        let own = self.ports.map(|ports| {
            let host = spec.port_host();
            (format!("http://{host}:{}", ports.api), format!("http://{host}:{}", ports.site))
        });
        self.launch.origins_beside(own)
    }

    fn record_docker_settings(
        &self,
        manifest: &BackendSpec,
        spec: &mut BackendSpec,
        secrets: &mut BTreeMap<FieldPath, Secret>,
    ) {
        let written = &manifest.settings.docker;
        let there = &self.settings;
        let docker = &mut spec.settings.docker;
        docker.image.clone_from(&self.image);
        docker.publish = match (&self.publish, &written.publish) {
            // Loopback, written or left out.
            (None, Some(address)) if address == "127.0.0.1" => Some(address.clone()),
            (publish, _) => publish.clone(),
        };
        docker.network.clone_from(&there.network);
        docker.networks = in_written_order(&written.networks, &there.networks);
        docker.aliases = in_written_order(&written.aliases, &there.aliases);
        docker.labels.clone_from(&there.labels);
        docker.extra_hosts = in_written_order(&written.extra_hosts, &there.extra_hosts);
        docker.dns = in_written_order(&written.dns, &there.dns);
        docker.mounts = in_written_order(&written.mounts, &there.mounts);
        docker.arguments.clone_from(&there.arguments);
        docker.shm_size = there.shm_size;
        docker.api_port = there.api_port;
        docker.site_port = there.site_port;
        secrets.retain(|path, _| !path.as_str().starts_with("docker.extra_env."));
        docker.extra_env.clear();
        for (name, value) in &self.extra_env {
            let source = written.extra_env.get(name).cloned();
            let source = source.unwrap_or_else(|| SecretSource::Reference(SecretRef::Env(name.clone())));
            docker.extra_env.insert(name.clone(), source);
            secrets.insert(FieldPath::new(format!("docker.extra_env.{name}")), value.clone());
        }
    }
}

/// Returns the values of the container, in the order of the manifest where both have the same ones.
fn in_written_order(written: &[String], there: &[String]) -> Vec<String> {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    if sorted(written) == sorted(there) { written.to_vec() } else { there.to_vec() }
}

/// Returns the lines of `[backends.NAME.docker]` that keep what the container has and the manifest does not say.
pub fn missing_lines(manifest: &DockerSettings, recorded: &DockerSettings) -> Vec<String> {
    let text = |text: &str| toml::Value::from(text).to_string();
    let list = |items: &[String]| format!("[{}]", items.iter().map(|item| text(item)).collect::<Vec<_>>().join(", "));
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("{key} = {value}"));
    if let Some(network) = recorded.network.as_ref().filter(|_| recorded.network != manifest.network) {
        line("network", text(network));
    }
    for (key, written, there) in [
        ("networks", &manifest.networks, &recorded.networks),
        ("aliases", &manifest.aliases, &recorded.aliases),
        ("extra_hosts", &manifest.extra_hosts, &recorded.extra_hosts),
        ("dns", &manifest.dns, &recorded.dns),
        ("mounts", &manifest.mounts, &recorded.mounts),
        ("arguments", &manifest.arguments, &recorded.arguments),
    ] {
        if written != there && !there.is_empty() {
            line(key, list(there));
        }
    }
    for (key, written, there) in
        [("api_port", manifest.api_port, recorded.api_port), ("site_port", manifest.site_port, recorded.site_port)]
    {
        if let Some(port) = there.filter(|_| written != there) {
            line(key, port.to_string());
        }
    }
    if let Some(size) = recorded.shm_size.filter(|_| recorded.shm_size != manifest.shm_size) {
        line("shm_size", text(&size.to_string()));
    }
    for (name, value) in recorded.labels.iter().filter(|(name, value)| manifest.labels.get(*name) != Some(value)) {
        line(&format!("labels.{}", text(name)), text(value));
    }
    for name in recorded.extra_env.keys().filter(|name| !manifest.extra_env.contains_key(*name)) {
        line(&format!("extra_env.{name}"), format!("{{ env = {} }}", text(name)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_printed_as_manifest_lines() {
        let there = DockerSettings {
            network: Some("traefik".to_owned()),
            networks: vec!["data".to_owned()],
            aliases: vec!["backend".to_owned()],
            labels: BTreeMap::from([("traefik.http.routers.a.rule".to_owned(), "Host(`a.example.com`)".to_owned())]),
            api_port: Some(3210),
            extra_env: BTreeMap::from([("SENTRY_DSN".to_owned(), SecretSource::Literal(String::new()))]),
            ..DockerSettings::default()
        };
        let lines = missing_lines(&DockerSettings::default(), &there);
        let table: toml::Table = lines.join("\n").parse().unwrap();
        assert_eq!(table["labels"]["traefik.http.routers.a.rule"].as_str(), Some("Host(`a.example.com`)"));
        assert_eq!((table["network"].as_str(), table["api_port"].as_integer()), (Some("traefik"), Some(3210)));
        assert_eq!(table["extra_env"]["SENTRY_DSN"]["env"].as_str(), Some("SENTRY_DSN"));
        assert!(missing_lines(&there, &there).is_empty());
    }
}
