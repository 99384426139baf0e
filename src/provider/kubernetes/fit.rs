//! Whether a cluster has a place for a backend: quotas, nodes, storage classes. Pure.
//!
//! Where a claim, a Pod or another object is refused by the server's own trial, its words are used; what is here is what a trial
//! does not say.

use serde_json::Value;

use super::quantity;
use crate::model::{RoomClaim, RoomUnit};

/// The annotation of the class that claims have which name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Returns why a Pod that takes the place of a running one would be over a quota. The server's trial counts both of them.
pub(super) fn over_quota(template: &Value, running: &Value, quotas: &[Value]) -> Option<String> {
    for quota in quotas.iter().filter(|quota| is_unscoped(quota)) {
        for (key, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
            let (part, name) = key.split_once('.').unwrap_or(("requests", key));
            if !matches!((part, name), ("requests" | "limits", "cpu" | "memory")) {
                continue;
            }
            let (wanted, has) = (amount(template, part, name), amount(running, part, name));
            let used = quota["status"]["used"][key].as_str().unwrap_or("0");
            let (Some(limit), Some(before)) = (hard.as_str().and_then(quantity::milli), quantity::milli(used)) else {
                continue;
            };
            if wanted > has && before - has + wanted > limit {
                let quota = quota["metadata"]["name"].as_str().unwrap_or_default();
                let asked = template["spec"]["containers"][0]["resources"][part][name].as_str().unwrap_or_default();
                let hard = hard.as_str().unwrap_or_default();
                return Some(format!(
                    "exceeded quota: {quota}, its Pod asks for {key}={asked} instead of what it has, used: {key}={used}, limited: \
                     {key}={hard}"
                ));
            }
        }
    }
    None
}

/// What a backend is about to take of a cluster.
pub(super) struct Demand<'a> {
    /// Its Pod, as the server would make it.
    pub(super) pod: &'a Value,
    /// The Pod that it replaces.
    pub(super) running: Option<&'a Value>,
    /// Its claim, where that is yet to be made.
    pub(super) claim: Option<&'a Value>,
}

impl Demand<'_> {
    /// Returns what it takes of a resource of a quota, beside what it has; none for what is not counted here.
    fn of(&self, key: &str) -> Option<(RoomUnit, i128)> {
        let (part, name) = key.split_once('.').unwrap_or(("requests", key));
        let new = i128::from(self.running.is_none()) * 1000;
        match (part, name) {
            ("requests" | "limits", "cpu" | "memory") => {
                let has = self.running.map_or(0, |running| amount(running, part, name));
                let unit = if name == "cpu" { RoomUnit::MilliCpus } else { RoomUnit::Bytes };
                Some((unit, amount(self.pod, part, name) - has))
            }
            ("requests", "pods") => Some((RoomUnit::Count, new)),
            ("requests", "persistentvolumeclaims") => Some((RoomUnit::Count, i128::from(self.claim.is_some()) * 1000)),
            ("requests", "storage") if key != name => {
                let size = self.claim.and_then(|claim| claim["spec"]["resources"]["requests"]["storage"].as_str());
                Some((RoomUnit::Bytes, size.and_then(quantity::milli).unwrap_or(0)))
            }
            _ => None,
        }
    }

    /// Returns what it takes of each quota of its namespace, and of the nodes.
    pub(super) fn room(&self, namespace: &str, quotas: &[Value], nodes: &[Value]) -> Vec<RoomClaim> {
        let claim = |place: &str, resource: &str, free: i128, is_firm: bool| {
            let (unit, wanted) = self.of(resource)?;
            // Quantities are in thousandths, and so are processors.
            let whole = |milli: i128| {
                let amount = if unit == RoomUnit::MilliCpus { milli } else { milli / 1000 };
                u64::try_from(amount.max(0)).unwrap_or(u64::MAX)
            };
            let (place, resource) = (place.to_owned(), resource.to_owned());
            Some(RoomClaim { place, resource, unit, wanted: whole(wanted), free: whole(free), is_firm })
        };
        let mut room = Vec::new();
        for quota in quotas.iter().filter(|quota| is_unscoped(quota)) {
            let place = format!(
                "the quota `{}` of the namespace `{namespace}`",
                quota["metadata"]["name"].as_str().unwrap_or_default()
            );
            for (key, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
                let used = quota["status"]["used"][key].as_str().unwrap_or("0");
                if let (Some(hard), Some(used)) = (hard.as_str().and_then(quantity::milli), quantity::milli(used)) {
                    room.extend(claim(&place, key, hard - used, true));
                }
            }
        }
        // What runs there already is not counted, so this is the most that can be free.
        for name in ["cpu", "memory"] {
            let all: i128 = open_nodes(nodes).map(|node| allocatable(node, name)).sum();
            if all > 0 {
                room.extend(claim("all nodes of the cluster together", name, all, false));
            }
        }
        room
    }
}

/// Returns what a Pod's container asks for, in thousandths.
fn amount(pod: &Value, part: &str, name: &str) -> i128 {
    let text = &pod["spec"]["containers"][0]["resources"][part][name];
    text.as_str().and_then(quantity::milli).unwrap_or(0)
}

/// Whether a quota is about every Pod of its namespace.
fn is_unscoped(quota: &Value) -> bool {
    quota["spec"]["scopes"].is_null() && quota["spec"]["scopeSelector"].is_null()
}

fn open_nodes(nodes: &[Value]) -> impl Iterator<Item = &Value> {
    nodes.iter().filter(|node| node["spec"]["unschedulable"] != true)
}

fn allocatable(node: &Value, name: &str) -> i128 {
    node["status"]["allocatable"][name].as_str().and_then(quantity::milli).unwrap_or(0)
}

/// Returns what is short where no node alone has what a Pod asks for.
pub(super) fn no_node(template: &Value, nodes: &[Value]) -> Option<String> {
    let asked = &template["spec"]["containers"][0]["resources"]["requests"];
    let wants = |name: &str| asked[name].as_str().and_then(quantity::milli).unwrap_or(0);
    let open: Vec<&Value> = open_nodes(nodes).collect();
    let fits = |node: &&Value| ["cpu", "memory"].into_iter().all(|name| allocatable(node, name) >= wants(name));
    if open.is_empty() || open.iter().any(fits) {
        return None;
    }
    let largest = |name: &str| {
        let node = open.iter().max_by_key(|node| allocatable(node, name));
        node.and_then(|node| node["status"]["allocatable"][name].as_str()).unwrap_or_default().to_owned()
    };
    let shown = |name: &str| asked[name].as_str().unwrap_or("none").to_owned();
    Some(format!(
        "no node alone has what it asks for (cpu {}, memory {}): the largest has cpu {} and memory {}; it waits until there is one, \
         which only a cluster does that adds nodes by itself",
        shown("cpu"),
        shown("memory"),
        largest("cpu"),
        largest("memory")
    ))
}

/// Returns the class of a claim that is yet to be made.
///
/// # Errors
/// Why there is none.
pub(super) fn storage_class<'a>(claim: &Value, classes: &'a [Value]) -> Result<&'a Value, String> {
    let name = |class: &Value| class["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let all = || {
        let names: Vec<String> = classes.iter().map(|class| format!("`{}`", name(class))).collect();
        if names.is_empty() { "it has none at all".to_owned() } else { format!("it has {}", names.join(", ")) }
    };
    match claim["spec"]["storageClassName"].as_str() {
        Some(named) => {
            let found = classes.iter().find(|class| class["metadata"]["name"] == named);
            found.ok_or_else(|| format!("the cluster has no storage class `{named}`; {}", all()))
        }
        None => {
            let found = classes.iter().find(|class| class["metadata"]["annotations"][DEFAULT_CLASS] == "true");
            found.ok_or_else(|| {
                format!("no storage class of the cluster is the default, so `storage_class` has to name one; {}", all())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, memory: &str) -> Value {
        let amounts = json!({ "cpu": cpu, "memory": memory });
        json!({ "spec": { "containers": [{ "resources": { "requests": amounts, "limits": amounts } }] } })
    }

    #[test]
    fn a_pod_that_replaces_another_is_counted_once() {
        let quota = json!({
            "metadata": { "name": "team" },
            "status": { "hard": { "limits.memory": "2Gi", "cpu": "1", "pods": "3" }, "used": { "limits.memory": "1536Mi", "cpu": "500m" } },
        });
        let quotas = [quota];
        assert_eq!(over_quota(&pod("500m", "1Gi"), &pod("500m", "512Mi"), &quotas), None);
        let over = over_quota(&pod("500m", "2Gi"), &pod("500m", "512Mi"), &quotas).unwrap();
        assert!(over.contains("exceeded quota: team") && over.contains("limits.memory=2Gi"), "{over}");
        assert!(over_quota(&pod("2", "512Mi"), &pod("500m", "512Mi"), &quotas).unwrap().contains("cpu=2"));
        // A quota that was lowered under what runs does not hold up what asks for no more.
        assert_eq!(over_quota(&pod("500m", "512Mi"), &pod("500m", "512Mi"), &quotas), None);
    }

    #[test]
    fn what_is_left_of_a_quota_and_of_all_nodes_is_told() {
        let quotas = [json!({
            "metadata": { "name": "team" },
            "status": {
                "hard": {
                    "limits.memory": "2Gi", "cpu": "1", "pods": "3", "persistentvolumeclaims": "2", "requests.storage": "10Gi", "secrets": "9",
                },
                "used": { "limits.memory": "1536Mi", "cpu": "300m", "pods": "1", "persistentvolumeclaims": "1", "requests.storage": "4Gi" },
            },
        })];
        let nodes = [
            json!({ "status": { "allocatable": { "cpu": "2", "memory": "4Gi" } } }),
            json!({ "status": { "allocatable": { "cpu": "1500m", "memory": "1Gi" } } }),
        ];
        let (new, claim) = (pod("500m", "256Mi"), json!({ "spec": { "resources": { "requests": { "storage": "5Gi" } } } }));
        let told = |demand: &Demand<'_>| {
            let room = demand.room("shop", &quotas, &nodes);
            room.iter()
                .map(|room| format!("{} {}/{}", room.resource, room.unit.words(room.wanted), room.unit.words(room.free)))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            told(&Demand { pod: &new, running: None, claim: Some(&claim) }),
            [
                "cpu 0.5/0.7",
                "limits.memory 256 MiB/512 MiB",
                "persistentvolumeclaims 1/1",
                "pods 1/2",
                "requests.storage 5 GiB/6 GiB",
                "cpu 0.5/3.5",
                "memory 256 MiB/5 GiB"
            ]
        );
        // What replaces a running Pod takes what it has more.
        let running = pod("600m", "128Mi");
        assert_eq!(
            told(&Demand { pod: &new, running: Some(&running), claim: None })[..2],
            ["cpu 0/0.7".to_owned(), "limits.memory 128 MiB/512 MiB".to_owned()]
        );
    }

    #[test]
    fn one_node_has_to_have_all_of_it() {
        let node = |cpu: &str, memory: &str, closed: bool| json!({ "spec": { "unschedulable": closed }, "status": { "allocatable": { "cpu": cpu, "memory": memory } } });
        let nodes = [node("4", "2Gi", false), node("1", "16Gi", false), node("8", "32Gi", true)];
        assert_eq!(no_node(&pod("2", "1Gi"), &nodes), None);
        let short = no_node(&pod("2", "4Gi"), &nodes).unwrap();
        assert!(short.contains("the largest has cpu 4 and memory 16Gi"), "{short}");
        assert_eq!(no_node(&pod("2", "4Gi"), &[]), None);
    }

    #[test]
    fn a_claim_needs_a_class() {
        let class =
            |name: &str, default: &str| json!({ "metadata": { "name": name, "annotations": { DEFAULT_CLASS: default } } });
        let claim = |name: Value| json!({ "spec": { "storageClassName": name } });
        let classes = [class("slow", "false"), class("fast", "true")];
        assert_eq!(storage_class(&claim(Value::Null), &classes).unwrap()["metadata"]["name"], "fast");
        assert_eq!(storage_class(&claim(json!("slow")), &classes).unwrap()["metadata"]["name"], "slow");
        assert!(storage_class(&claim(json!("none")), &classes).unwrap_err().contains("it has `slow`, `fast`"));
        assert!(storage_class(&claim(Value::Null), &classes[..1]).unwrap_err().contains("is the default"));
        assert!(storage_class(&claim(Value::Null), &[]).unwrap_err().contains("none at all"));
    }
}
