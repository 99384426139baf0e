//! What a StatefulSet or Deployment of a Convex backend has, as far as its own description says it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::kind::Kind;
use super::super::labels::ID;
use super::super::owners::Tool;
use crate::convex::release::BACKEND_IMAGE;
use crate::provider::kit::image_reference::ImageReference;

/// Where the official image keeps its data.
const DATA: &str = "/convex/data";
/// The start of the official image, which may be written out.
const ENTRY: &str = "run_backend.sh";
/// Flags that say where data is, which the image's own entry point derives from variables.
const DATA_FLAGS: [&str; 3] = ["--local-storage", "--s3-storage", "--db"];

/// What is kept, read elsewhere, set by the server for everybody, or means nothing once a Pod of ours takes the place.
const POD_READ: [&str; 15] = [
    "automountServiceAccountToken",
    "containers",
    "dnsPolicy",
    "enableServiceLinks",
    "imagePullSecrets",
    "nodeName",
    "preemptionPolicy",
    "restartPolicy",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "subdomain",
    "hostname",
    "terminationGracePeriodSeconds",
    "volumes",
];
/// The fields of a container that are kept, read elsewhere, or set by the server for every container.
const CONTAINER_READ: [&str; 17] = [
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];

/// A workload, with the parts of it that matter.
pub(super) struct Workload<'a> {
    pub(super) kind: Kind,
    pub(super) object: &'a Value,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl<'a> Workload<'a> {
    fn spec(&self) -> &'a Value {
        &self.object["spec"]["template"]["spec"]
    }

    /// Refuses what a takeover would damage, or would be undone.
    pub(super) fn check(&self) -> Result<(), String> {
        let (kind, namespace, name) = (self.kind, self.namespace, self.name);
        if let Some(id) = self.object["metadata"]["labels"][ID].as_str() {
            return Err(format!("was made by convexinfra: it belongs to a backend already (identity {id})"));
        }
        if let Some(tool) = Tool::of(self.object) {
            return Err(format!(
                "belongs to {}, whose next run would start a second writer on its data; {}\nand import it again",
                tool.words(),
                tool.way_out(namespace, &format!("{}/{name}", kind.noun().to_lowercase()))
            ));
        }
        let scale =
            |replicas: u32| format!("kubectl -n {namespace} scale {} {name} --replicas={replicas}", kind.noun().to_lowercase());
        match self.object["spec"]["replicas"].as_u64().unwrap_or(1) {
            0 => Err(format!("does not run; start it, so that it can be seen to be what it seems\n    {}", scale(1))),
            1 => Ok(()),
            more => Err(format!("runs {more} Pods, and Convex has one writer; first scale it to one\n    {}", scale(1))),
        }
    }

    /// Returns the backend's container.
    pub(super) fn container(&self) -> Result<&'a Value, String> {
        let containers = self.spec()["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_backend = |container: &&Value| {
            let image = ImageReference::parse(container["image"].as_str().unwrap_or_default()).name;
            image == BACKEND_IMAGE || mount_at(container, DATA).is_some()
        };
        let found: Vec<&Value> = containers.iter().filter(is_backend).collect();
        match found.as_slice() {
            [container] => Ok(container),
            [] => Err(format!(
                "has no container with a volume at `{DATA}`, so it is not a Convex backend, or its data goes with its Pod"
            )),
            _ => Err(format!("has {} containers that look like a Convex backend", found.len())),
        }
    }

    /// Returns the claim that holds the data.
    pub(super) fn claim(&self, container: &Value) -> Result<String, String> {
        let Some(mount) = mount_at(container, DATA) else {
            return Err(format!(
                "has no volume at `{DATA}`, so its files go with its Pod; save them with `npx convex export`, and import that into a new \
                 backend"
            ));
        };
        if mount["subPath"].as_str().is_some_and(|path| !path.is_empty()) || mount["subPathExpr"].is_string() {
            return Err(
                "keeps its data in a folder of its volume (`subPath`), and a backend of convexinfra keeps it at its root: move it there \
                 with a Pod of yours while this is scaled to none, take `subPath` out, and import it again"
                    .to_owned(),
            );
        }
        let volume = mount["name"].as_str().unwrap_or_default();
        let templates = self.object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
        if templates.into_iter().any(|template| template["metadata"]["name"] == volume) {
            return Ok(format!("{volume}-{}-0", self.name));
        }
        let volumes = self.spec()["volumes"].as_array().into_iter().flatten();
        let found = volumes.into_iter().find(|known| known["name"] == volume);
        found.and_then(|found| found["persistentVolumeClaim"]["claimName"].as_str()).map(str::to_owned).ok_or_else(|| {
            format!(
                "keeps its data in the volume `{volume}`, which is no PersistentVolumeClaim, so it is lost with its Pod or its node; save it \
                 with `npx convex export`, and import that into a new backend"
            )
        })
    }

    /// Refuses a start that says itself where data is.
    pub(super) fn check_start(&self, container: &Value) -> Result<(), String> {
        let words = |field: &str| container[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_entry = |word: &str| word.rsplit('/').next() == Some(ENTRY);
        let says_where = |word: &str| DATA_FLAGS.iter().any(|flag| word.split('=').next() == Some(*flag));
        let is_own_command = words("command").next().is_some() && !words("command").all(is_entry);
        if is_own_command || words("args").any(says_where) {
            return Err(
                "starts with a command of its own, so nothing says where its data is: start it with the entry point of the official image \
                 and its variables, and import it again"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Names what the next apply drops, because no key of a manifest keeps it.
    pub(super) fn dropped(&self, container: &Value) -> BTreeSet<String> {
        let spec = self.spec();
        let mut dropped: BTreeSet<String> = unread(spec, &POD_READ).collect();
        dropped.extend(unread(container, &CONTAINER_READ));
        let names = |list: &'a Value| list.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str());
        let own = container["name"].as_str().unwrap_or_default();
        dropped.extend(names(&spec["containers"]).filter(|name| *name != own).map(|name| format!("container {name}")));
        dropped.extend(
            mounts(container)
                .filter(|mount| mount["mountPath"] != DATA)
                .filter_map(|mount| Some(format!("mount at {}", mount["mountPath"].as_str()?))),
        );
        if container["args"].as_array().is_some_and(|words| !words.is_empty()) {
            dropped.insert("args".to_owned());
        }
        let account = spec["serviceAccountName"].as_str().filter(|name| *name != "default");
        if account.is_none() {
            dropped.remove("serviceAccountName");
        }
        let annotations = self.object["spec"]["template"]["metadata"]["annotations"].as_object().into_iter().flatten();
        let given = annotations.filter(|(name, _)| *name != "kubectl.kubernetes.io/restartedAt");
        dropped.extend(given.map(|(name, _)| format!("annotation {name}")));
        let requests = &container["resources"]["requests"];
        for (name, amount) in requests.as_object().into_iter().flatten() {
            if container["resources"]["limits"][name.as_str()] != *amount {
                dropped.insert(format!("resources.requests.{name}"));
            }
        }
        dropped
    }

    /// Returns the labels of its Pods.
    pub(super) fn pod_labels(&self) -> BTreeMap<&'a str, &'a str> {
        let labels = self.object["spec"]["template"]["metadata"]["labels"].as_object().into_iter().flatten();
        labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
    }
}

fn mounts(container: &Value) -> impl Iterator<Item = &Value> {
    container["volumeMounts"].as_array().into_iter().flatten()
}

fn mount_at<'a>(container: &'a Value, path: &str) -> Option<&'a Value> {
    mounts(container).find(|mount| mount["mountPath"].as_str().is_some_and(|place| place.trim_end_matches('/') == path))
}

/// Returns the names of what is set and nothing reads: everything counts, also what a later server adds.
fn unread(object: &Value, read: &[&str]) -> impl Iterator<Item = String> {
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Array(list) => !list.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
    };
    let entries = object.as_object().into_iter().flatten();
    let found: Vec<String> =
        entries.filter(|(name, value)| !read.contains(&name.as_str()) && is_set(value)).map(|(name, _)| name.clone()).collect();
    found.into_iter()
}
