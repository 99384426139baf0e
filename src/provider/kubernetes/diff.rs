//! The difference between an object as it should be and as it is. Pure.
//!
//! Everything that is set must be so; what the server adds by itself is no difference. Lists whose items have a name are
//! compared item by item, and an item that was not asked for is named as foreign: an apply leaves alone what it does not own.

use serde_json::Value;

use super::labels::FINGERPRINT;
use super::quantity;
use crate::model::{FieldDrift, FieldPath, UNMANAGED_PREFIX};

/// The fields by which the items of a list are told apart, as the API declares them.
const KEYS: [&str; 5] = ["mountPath", "name", "containerPort", "port", "host"];
/// Lists in a Pod to which injectors and people add.
const OPEN_LISTS: [&str; 5] = ["containers", "initContainers", "env", "ports", "volumes"];
/// Annotations that stand for nothing that changes a Pod.
const HARMLESS: [&str; 2] = ["kubectl.kubernetes.io/restartedAt", FINGERPRINT];

/// Returns every difference of an object; `name` stands for the object in the paths.
pub(super) fn diff(name: &str, wanted: &Value, live: &Value) -> Vec<FieldDrift> {
    let mut found = Vec::new();
    for part in ["labels", "annotations"] {
        compare(&format!("{name}.{part}"), &wanted["metadata"][part], &live["metadata"][part], &mut found);
    }
    if wanted["kind"] == "Secret" {
        if wanted["data"] != live["data"] {
            found.push(drift(&format!("{name}.data"), "as it was made", "changed"));
        }
        return found;
    }
    compare(name, &wanted["spec"], &live["spec"], &mut found);
    if wanted["kind"] == "StatefulSet" {
        found.extend(foreign_parts(name, &wanted["spec"]["template"], &live["spec"]["template"]));
    }
    found
}

/// Returns one difference.
pub(super) fn drift(path: &str, recorded: impl Into<String>, observed: impl Into<String>) -> FieldDrift {
    FieldDrift { path: FieldPath::new(path), recorded: recorded.into(), observed: observed.into() }
}

fn compare(path: &str, wanted: &Value, live: &Value, found: &mut Vec<FieldDrift>) {
    match (wanted, live) {
        (Value::Null, _) => {}
        (Value::Object(wanted), Value::Object(live)) => {
            for (key, wanted) in wanted {
                compare(&step(path, key), wanted, live.get(key).unwrap_or(&Value::Null), found);
            }
        }
        // An empty object says that its parent is there.
        (Value::Object(wanted), Value::Null) if wanted.is_empty() => {}
        (Value::Array(wanted), Value::Array(live)) if key_of(wanted).is_some() => {
            let key = key_of(wanted).unwrap_or_default();
            for item in wanted {
                let name = scalar(&item[key]);
                let seen = live.iter().find(|seen| seen[key] == item[key]);
                match seen {
                    Some(seen) => compare(&format!("{path}.{name}"), item, seen, found),
                    None => found.push(drift(&format!("{path}.{name}"), shown(item), "missing")),
                }
            }
        }
        (Value::Array(_), Value::Array(_)) if wanted == live => {}
        (wanted, live) if equal(wanted, live) => {}
        (wanted, live) => {
            // A variable that was set by hand may hold a secret.
            let is_variable = path.contains(".env.");
            let observed = if is_variable && !live.is_null() { "another value".to_owned() } else { shown(live) };
            found.push(drift(path, shown(wanted), observed));
        }
    }
}

fn equal(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::String(wanted), Value::String(live)) => wanted == live || is_amount(wanted) && quantity::equal(wanted, live),
        // What is zero, false or empty is left out of an answer.
        (wanted, Value::Null) => wanted.as_u64() == Some(0) || wanted.as_bool() == Some(false) || wanted.as_str() == Some(""),
        (wanted, live) => wanted == live,
    }
}

fn is_amount(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit()) && quantity::milli(text).is_some()
}

/// Returns the field by which the items of a list are told apart; none where they are plain.
fn key_of(items: &[Value]) -> Option<&'static str> {
    KEYS.into_iter().find(|key| !items.is_empty() && items.iter().all(|item| item.get(key).is_some_and(|key| !key.is_object())))
}

fn step(path: &str, key: &str) -> String {
    match key {
        // Levels that say nothing to a reader.
        "spec" | "metadata" | "template" => path.to_owned(),
        _ => format!("{path}.{key}"),
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns a value for people: short, on one line.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "(not set)".to_owned(),
        Value::Object(item) if item.get("name").is_some_and(Value::is_string) => scalar(&item["name"]),
        other => scalar(other),
    };
    let mut short: String = text.chars().take(120).flat_map(char::escape_debug).collect();
    if text.chars().nth(120).is_some() {
        short.push('…');
    }
    short
}

/// Returns what others have put into a Pod's template.
fn foreign_parts(name: &str, wanted: &Value, live: &Value) -> Vec<FieldDrift> {
    let mut found = Vec::new();
    let annotations = live["metadata"]["annotations"].as_object().into_iter().flatten();
    for (annotation, _) in annotations.filter(|(annotation, _)| !HARMLESS.contains(&annotation.as_str())) {
        found.push(drift(&format!("{UNMANAGED_PREFIX}{name}.annotations.{annotation}"), "(not set)", "(set)"));
    }
    let path = format!("{UNMANAGED_PREFIX}{name}");
    extra_items(&path, &wanted["spec"], &live["spec"], &mut found);
    found
}

fn extra_items(path: &str, wanted: &Value, live: &Value, found: &mut Vec<FieldDrift>) {
    for list in OPEN_LISTS {
        let Some(items) = live[list].as_array() else { continue };
        let known = wanted[list].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(key) = key_of(items) else { continue };
        for item in items {
            match known.iter().find(|known| known[key] == item[key]) {
                Some(known) => extra_items(&format!("{path}.{list}.{}", scalar(&item[key])), known, item, found),
                None => found.push(drift(&format!("{path}.{list}.{}", scalar(&item[key])), "(not set)", "(set)")),
            }
        }
    }
}

/// Whether the backend's container in a Pod runs something else than its template says, however that came about. What only
/// resources say is no such difference.
pub(super) fn container_differs(template: &Value, pod: &Value) -> bool {
    let wanted = &template["spec"]["containers"][0];
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let Some(seen) = containers.into_iter().find(|container| container["name"] == wanted["name"]) else { return true };
    let mut found = Vec::new();
    for part in ["image", "command", "args", "env"] {
        compare(part, &wanted[part], &seen[part], &mut found);
    }
    !found.is_empty()
}
