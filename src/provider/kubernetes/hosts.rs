//! Hosts: what else of a namespace answers for the host of a backend, such as the Ingress of what it was before. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::labels::ID;
use crate::model::Diagnostic;

/// Returns what serves a host of a backend's objects beside them.
pub(super) fn shared_hosts<'a>(wanted: impl Iterator<Item = &'a Value>, others: &[Value], id: &str) -> Vec<Diagnostic> {
    let own: BTreeSet<&str> = wanted.flat_map(hosts_of).collect();
    let others = others.iter().filter(|other| other["metadata"]["labels"][ID] != id);
    let found = others.filter_map(|other| {
        let host = hosts_of(other).into_iter().find(|host| own.contains(host))?;
        let (kind, name) =
            (other["kind"].as_str().unwrap_or("Ingress"), other["metadata"]["name"].as_str().unwrap_or_default());
        let message =
            format!("the {kind} `{name}` answers for `{host}` as well, and which of the two does is up to their controller");
        let namespace = other["metadata"]["namespace"].as_str().unwrap_or_default();
        let help =
            format!("remove it once the backend is ready\n    kubectl -n {namespace} delete {} {name}", kind.to_lowercase());
        Some(Diagnostic::new("kubernetes.host_shared", message).with_help(help))
    });
    found.collect()
}

/// Returns the hosts that an Ingress or HTTPRoute answers for.
fn hosts_of(object: &Value) -> Vec<&str> {
    let rules = object["spec"]["rules"].as_array().into_iter().flatten().filter_map(|rule| rule["host"].as_str());
    let names = object["spec"]["hostnames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    rules.chain(names).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_one_for_the_same_host_is_named() {
        let ingress = |name: &str, host: &str, id: &str| {
            json!({
                "kind": "Ingress",
                "metadata": { "name": name, "namespace": "shop", "labels": { ID: id } },
                "spec": { "rules": [{ "host": host }] },
            })
        };
        let route =
            json!({ "kind": "HTTPRoute", "metadata": { "name": "route" }, "spec": { "hostnames": ["api.example.com"] } });
        let own = ingress("own", "api.example.com", "abc");
        let others = [own.clone(), ingress("old", "api.example.com", ""), ingress("other", "example.com", ""), route];
        let found = shared_hosts([&own].into_iter(), &others, "abc");
        let words: Vec<&str> = found.iter().map(|found| found.message.as_str()).collect();
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].contains("the Ingress `old` answers for `api.example.com`") && words[1].contains("HTTPRoute `route`"));
        assert!(found[0].help.as_ref().unwrap().ends_with("kubectl -n shop delete ingress old"));
    }
}
