//! Where a machine differs from what was asked for. Only what was asked for is compared: a server adds fields, leaves out
//! what it takes for a default, and writes durations and switches in other ways than they were sent.

use serde_json::Value;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigDifference {
    /// The field, such as `guest.memory_mb`.
    pub(super) path: String,
    /// What was asked for.
    pub(super) desired: String,
    /// What is seen; none where the field is missing.
    pub(super) observed: Option<String>,
}

/// Every field of `wanted` that `seen` has otherwise.
pub(super) fn diff(wanted: &Value, seen: &Value) -> Vec<ConfigDifference> {
    let mut found = Vec::new();
    diff_value("", wanted, Some(seen), &mut found);
    found
}

fn diff_value(path: &str, wanted: &Value, seen: Option<&Value>, found: &mut Vec<ConfigDifference>) {
    match (wanted, seen) {
        (Value::Object(fields), Some(Value::Object(others))) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                diff_value(&path, value, others.get(name), found);
            }
        }
        (Value::Array(items), Some(Value::Array(others))) if items.len() == others.len() => {
            for (index, (item, other)) in sorted(items).into_iter().zip(sorted(others)).enumerate() {
                let path = if items.len() == 1 { path.to_owned() } else { format!("{path}[{index}]") };
                diff_value(&path, item, Some(other), found);
            }
        }
        (wanted, seen) if is_equal(path, wanted, seen) => {}
        (wanted, seen) => found.push(ConfigDifference {
            path: path.to_owned(),
            desired: display(wanted),
            observed: seen.filter(|seen| !seen.is_null()).map(display),
        }),
    }
}

/// Lists whose order says nothing: services and ports by their number, words by themselves.
fn sorted(items: &[Value]) -> Vec<&Value> {
    let mut sorted: Vec<&Value> = items.iter().collect();
    sorted.sort_by_key(|item| {
        let number = item.get("internal_port").or_else(|| item.get("port")).and_then(Value::as_u64).unwrap_or_default();
        (number, item.as_str().unwrap_or_default().to_owned())
    });
    sorted
}

fn is_equal(path: &str, wanted: &Value, seen: Option<&Value>) -> bool {
    let Some(seen) = seen.filter(|seen| !seen.is_null()) else { return is_default(wanted) };
    let field = path.rsplit('.').next().unwrap_or(path);
    match field {
        "autostop" => switch(wanted) == switch(seen),
        "interval" | "timeout" | "grace_period" => match (nanoseconds(wanted), nanoseconds(seen)) {
            (Some(wanted), Some(seen)) => wanted == seen,
            _ => wanted == seen,
        },
        "method" => wanted.as_str().map(str::to_lowercase) == seen.as_str().map(str::to_lowercase),
        _ => wanted == seen || (wanted.as_f64().is_some() && wanted.as_f64() == seen.as_f64()),
    }
}

/// What a server may leave out.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_default),
        Value::Bool(true) => false,
    }
}

/// Old servers and new ones have two spellings for the same switch.
fn switch(value: &Value) -> Option<&str> {
    match value {
        Value::Bool(false) => Some("off"),
        Value::Bool(true) => Some("stop"),
        other => other.as_str(),
    }
}

/// A duration as Go writes it, or as a number of nanoseconds.
fn nanoseconds(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let text = value.as_str()?;
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (unit, factor) = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3_600e9)]
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit) && !(*unit == "m" && rest.starts_with("ms")))?;
        total += number * factor;
        rest = rest.get(unit.len()..)?;
    }
    // Durations of services are seconds to minutes.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (!text.is_empty()).then_some(total.round() as u64)
}

fn display(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() > 120 { format!("{}…", text.chars().take(120).collect::<String>()) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(wanted: Value, seen: Value) -> Vec<String> {
        diff(&wanted, &seen).into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn a_server_may_write_the_same_in_other_ways() {
        let wanted = json!({
            "services": [{
                "internal_port": 3210, "autostop": false, "autostart": true,
                "ports": [{ "port": 80, "handlers": ["http"], "force_https": true }, { "port": 443, "handlers": ["tls", "http"] }],
                "checks": [{ "interval": "5s", "timeout": "1m0s", "grace_period": "30s", "method": "GET" }],
            }],
            "stop_config": { "signal": "SIGINT", "timeout": "30s" },
        });
        let seen = json!({
            "init": {}, "dns": {},
            "services": [{
                "internal_port": 3210, "autostart": true, "force_instance_key": null,
                "ports": [{ "port": 443, "handlers": ["http", "tls"] }, { "port": 80, "handlers": ["http"], "force_https": true }],
                "checks": [{ "interval": 5_000_000_000_u64, "timeout": "60s", "grace_period": "0m30s", "method": "get", "headers": [] }],
            }],
            "stop_config": { "signal": "SIGINT", "timeout": "30000ms" },
        });
        assert_eq!(paths(wanted, seen), Vec::<String>::new());
        assert!(paths(json!({ "autostop": false }), json!({ "autostop": "off" })).is_empty());
        assert_eq!(paths(json!({ "autostop": false }), json!({ "autostop": "suspend" })), ["autostop"]);
    }

    #[test]
    fn differences_are_named() {
        let wanted = json!({ "guest": { "cpus": 4, "memory_mb": 1024 }, "env": { "A": "1", "B": "2" }, "mounts": [{ "volume": "vol_1" }] });
        let seen = json!({ "guest": { "cpus": 4.0, "memory_mb": 2048 }, "env": { "A": "1", "C": "3" }, "mounts": [] });
        let mut named = paths(wanted.clone(), seen.clone());
        named.sort();
        assert_eq!(named, ["env.B", "guest.memory_mb", "mounts"]);
        let found = diff(&wanted, &seen);
        let memory = found.iter().find(|difference| difference.path == "guest.memory_mb").unwrap();
        assert_eq!((memory.desired.as_str(), memory.observed.as_deref()), ("1024", Some("2048")));
        assert_eq!(found.iter().find(|difference| difference.path == "env.B").unwrap().observed, None);
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(nanoseconds(&json!("1m30s")), Some(90_000_000_000));
        assert_eq!(nanoseconds(&json!("1.5s")), Some(1_500_000_000));
        assert_eq!(nanoseconds(&json!("250ms")), Some(250_000_000));
        assert_eq!(nanoseconds(&json!(5)), Some(5));
        for text in ["", "5", "s", "5x", "-5s"] {
            assert_eq!(nanoseconds(&json!(text)), None, "{text}");
        }
    }
}
