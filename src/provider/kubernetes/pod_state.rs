//! What a Pod and its events say about why it does not run. Pure.

use serde_json::Value;

use super::pod::CONTAINER;

/// Reasons to wait that waiting does not end.
const FATAL: [&str; 7] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// Warnings that explain nothing: what they say is said elsewhere, or is no reason.
const IDLE_WARNINGS: [&str; 3] = ["MissingClusterDNS", "BackOff", "Failed"];

/// How a Pod is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PodState {
    /// It answers its probe.
    Ready,
    /// It is on its way, for this reason.
    Waiting(String),
    /// It does not get anywhere by itself, for this reason.
    Stuck(String),
}

/// Returns how a Pod is doing.
pub(super) fn pod_state(pod: &Value) -> PodState {
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return PodState::Waiting("it is ending".to_owned());
    }
    let status = &pod["status"];
    if let Some(reason) = status["reason"].as_str().filter(|_| status["phase"] == "Failed") {
        return PodState::Stuck(with_message(reason, &status["message"]));
    }
    if let Some(condition) = condition(pod, "PodScheduled").filter(|condition| condition["status"] == "False") {
        return PodState::Waiting(with_message("it has no node", &condition["message"]));
    }
    let Some(container) = container(pod) else { return PodState::Waiting("its node has not taken it up".to_owned()) };
    let waiting = &container["state"]["waiting"];
    if let Some(reason) = waiting["reason"].as_str() {
        let last = last_end(container).map(|end| format!("; it ended before: {end}")).unwrap_or_default();
        let text = with_message(reason, &waiting["message"]) + &last;
        return if FATAL.contains(&reason) { PodState::Stuck(text) } else { PodState::Waiting(text) };
    }
    if let Some(end) = end(&container["state"]["terminated"]) {
        return PodState::Waiting(end);
    }
    if condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True") {
        return PodState::Ready;
    }
    match last_end(container) {
        Some(end) if container["restartCount"].as_u64() > Some(1) => PodState::Stuck(format!("it ends again and again: {end}")),
        Some(end) => PodState::Waiting(format!("it runs and does not answer yet; it ended before: {end}")),
        None => PodState::Waiting("it runs and does not answer yet".to_owned()),
    }
}

/// Returns how the backend's container ended the last time.
pub(super) fn last_end_of(pod: &Value) -> Option<String> {
    container(pod).and_then(last_end)
}

fn container(pod: &Value) -> Option<&Value> {
    pod["status"]["containerStatuses"].as_array()?.iter().find(|container| container["name"] == CONTAINER)
}

/// Returns a condition of an object.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn last_end(container: &Value) -> Option<String> {
    end(&container["lastState"]["terminated"])
}

fn end(terminated: &Value) -> Option<String> {
    let code = terminated["exitCode"].as_i64()?;
    Some(match terminated["reason"].as_str() {
        Some("OOMKilled") => format!("killed because its memory was used up (exit code {code})"),
        Some("Completed") => format!("it ended by itself (exit code {code})"),
        _ => format!("exit code {code}"),
    })
}

fn with_message(reason: &str, message: &Value) -> String {
    match message.as_str().map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

/// Returns what warnings say, the last one last, each once.
pub(super) fn warnings(events: &[Value]) -> Vec<String> {
    let time = |event: &Value| {
        let times = [&event["lastTimestamp"], &event["eventTime"], &event["series"]["lastObservedTime"]];
        times.into_iter().filter_map(Value::as_str).max().unwrap_or_default().to_owned()
    };
    let mut warnings: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "Warning" && !event["reason"].as_str().is_some_and(|why| IDLE_WARNINGS.contains(&why)))
        .collect();
    warnings.sort_by_key(|event| time(event));
    let mut texts: Vec<String> = Vec::new();
    for event in warnings {
        let text = with_message(event["reason"].as_str().unwrap_or("Warning"), &event["message"]);
        texts.retain(|known| *known != text);
        texts.push(text);
    }
    texts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Value {
        json!({ "metadata": {}, "status": status })
    }

    #[test]
    fn the_ways_not_to_run_are_told_apart() {
        let container = |state: Value, last: Value, restarts: u64| {
            pod(json!({ "containerStatuses": [{
                "name": "backend", "state": state, "lastState": last, "restartCount": restarts,
            }] }))
        };
        let oom = json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } });
        let cases = [
            (
                pod(json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" })),
                "stuck Evicted: low on memory",
            ),
            (
                pod(json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes" }] })),
                "waiting it has no node: 0/1 nodes",
            ),
            (
                container(json!({ "waiting": { "reason": "ImagePullBackOff", "message": "not found" } }), json!({}), 0),
                "stuck ImagePullBackOff: not found",
            ),
            (container(json!({ "waiting": { "reason": "ErrImagePull" } }), json!({}), 0), "waiting ErrImagePull"),
            (
                container(json!({ "waiting": { "reason": "CrashLoopBackOff" } }), oom.clone(), 3),
                "stuck CrashLoopBackOff; it ended before: killed because its memory was used up (exit code 137)",
            ),
            (
                container(json!({ "running": {} }), oom, 2),
                "stuck it ends again and again: killed because its memory was used up (exit code 137)",
            ),
            (container(json!({ "running": {} }), json!({}), 0), "waiting it runs and does not answer yet"),
            (pod(json!({})), "waiting its node has not taken it up"),
        ];
        for (pod, expected) in cases {
            let seen = match pod_state(&pod) {
                PodState::Ready => "ready".to_owned(),
                PodState::Waiting(why) => format!("waiting {why}"),
                PodState::Stuck(why) => format!("stuck {why}"),
            };
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn warnings_come_in_the_order_of_their_last_time_and_once() {
        let event = |reason: &str, time: &str| json!({ "type": "Warning", "reason": reason, "lastTimestamp": time });
        let events =
            [event("B", "2026-01-02"), event("A", "2026-01-01"), event("B", "2026-01-03"), json!({ "type": "Normal" })];
        assert_eq!(warnings(&events), ["A", "B"]);
    }
}
