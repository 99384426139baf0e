//! The variables of a container: those that are written out, and those of Secrets and ConfigMaps.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use serde_json::Value;

use super::super::cluster::Cluster;
use super::super::error::KubernetesError;
use super::super::kind::Kind;
use crate::convex::tuning::is_set_by_launch;

/// The variables of a container.
#[derive(Default)]
pub(super) struct Variables {
    /// Their values by name.
    pub(super) values: BTreeMap<String, String>,
    /// The names of those that only a Pod that runs has a value for.
    pub(super) unknown: BTreeSet<String>,
}

/// Where values come from, each object read once.
pub(super) struct Sources<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
    known: BTreeMap<(Kind, String), BTreeMap<String, String>>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(cluster: &'a Cluster, namespace: &'a str) -> Self {
        Self { cluster, namespace, known: BTreeMap::new() }
    }

    /// Reads the variables of a container, as the kubelet sets them: whole objects first, then single ones, which may refer to those
    /// before them.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub(super) async fn read(&mut self, container: &Value) -> Result<Variables, String> {
        let mut variables = Variables::default();
        for source in container["envFrom"].as_array().into_iter().flatten() {
            let prefix = source["prefix"].as_str().unwrap_or_default();
            for (kind, field) in [(Kind::ConfigMap, "configMapRef"), (Kind::Secret, "secretRef")] {
                if let Some(name) = source[field]["name"].as_str() {
                    let data = self.object(kind, name, &source[field]).await?;
                    variables.values.extend(data.iter().map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
                }
            }
        }
        for item in container["env"].as_array().into_iter().flatten() {
            let Some(name) = item["name"].as_str() else { continue };
            let value = match self.value(item, &variables.values).await? {
                Some(value) => value,
                None if is_set_by_launch(name) => {
                    return Err(format!(
                        "sets `{name}` to something that only its Pod knows: write the value itself there first"
                    ));
                }
                None => {
                    variables.unknown.insert(name.to_owned());
                    continue;
                }
            };
            variables.values.insert(name.to_owned(), value);
        }
        Ok(variables)
    }

    /// Returns the value of one variable; none where it is a field of the Pod.
    async fn value(&mut self, item: &Value, before: &BTreeMap<String, String>) -> Result<Option<String>, String> {
        let from = &item["valueFrom"];
        for (kind, field) in [(Kind::ConfigMap, "configMapKeyRef"), (Kind::Secret, "secretKeyRef")] {
            if let (Some(name), Some(key)) = (from[field]["name"].as_str(), from[field]["key"].as_str()) {
                return Ok(Some(self.object(kind, name, &from[field]).await?.get(key).cloned().unwrap_or_default()));
            }
        }
        Ok(from.is_null().then(|| expanded(item["value"].as_str().unwrap_or_default(), before)))
    }

    /// Returns the texts of a Secret or ConfigMap.
    async fn object(&mut self, kind: Kind, name: &str, reference: &Value) -> Result<&BTreeMap<String, String>, String> {
        let key = (kind, name.to_owned());
        if !self.known.contains_key(&key) {
            let found = self.cluster.get(kind, self.namespace, name).await.map_err(|error| match error {
                KubernetesError::Forbidden { .. } => format!(
                    "takes variables from the {} `{name}`, which the account may not read; add to its Role\n    - {{ apiGroups: [\"\"], \
                     resources: [\"{}\"], verbs: [\"get\"] }}",
                    kind.noun(),
                    kind.plural()
                ),
                other => format!("takes variables from the {} `{name}`: {other}", kind.noun()),
            })?;
            let data = match found {
                Some(object) => texts(kind, &object),
                None if reference["optional"] == true => BTreeMap::new(),
                None => return Err(format!("takes variables from the {} `{name}`, which is not there", kind.noun())),
            };
            self.known.insert(key.clone(), data);
        }
        self.known.get(&key).ok_or_else(|| "reads nothing".to_owned())
    }
}

fn texts(kind: Kind, object: &Value) -> BTreeMap<String, String> {
    let entries = object["data"].as_object().into_iter().flatten();
    let text = |value: &str| match kind {
        Kind::Secret => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
            String::from_utf8(bytes).ok()
        }
        _ => Some(value.to_owned()),
    };
    entries.filter_map(|(name, value)| Some((name.clone(), text(value.as_str()?)?))).collect()
}

/// Replaces `$(NAME)` by what was set before, as the kubelet does: `$$` stands for `$`, and a name that is not known stays.
fn expanded(text: &str, before: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((plain, after)) = rest.split_once('$') {
        out.push_str(plain);
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
            continue;
        }
        let named = after.strip_prefix('(').and_then(|named| named.split_once(')'));
        match named.and_then(|(name, tail)| Some((before.get(name)?, tail))) {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_between_variables_are_those_of_the_kubelet() {
        let before = BTreeMap::from([("PASSWORD".to_owned(), "p$(w)".to_owned())]);
        for (text, value) in [
            ("postgres://u:$(PASSWORD)@h", "postgres://u:p$(w)@h"),
            ("$(OTHER) $$(PASSWORD) $", "$(OTHER) $(PASSWORD) $"),
            ("$(PASSWORD", "$(PASSWORD"),
            ("plain", "plain"),
        ] {
            assert_eq!(expanded(text, &before), value);
        }
    }
}
