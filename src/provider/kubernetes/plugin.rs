//! Plugin: the program of a kubeconfig that hands out credentials.
//!
//! It may be anything, and hang: it is run once for each set of credentials, under a deadline, and ended with it. Must not do:
//! show its arguments, its environment or what it wrote, or hand a secret of this process on to it.

use std::io::IsTerminal as _;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use kube::config::{ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::model::Secret;

/// How long a plugin may take that asks no person.
const WITHIN: Duration = Duration::from_secs(20);
/// How long it may take at a terminal, where it may wait for a login in a browser.
const WITHIN_AT_TERMINAL: Duration = Duration::from_secs(300);
/// The most bytes of its answer.
const ANSWER_MAX: u64 = 1 << 20;

/// Credentials that a plugin handed out.
#[derive(Debug)]
pub(super) struct Credentials {
    /// A bearer token.
    pub(super) token: Option<Secret>,
    /// A client certificate and its key, as PEM.
    pub(super) certificate: Option<(String, Secret)>,
    /// When they end.
    pub(super) valid_until: Option<Timestamp>,
}

/// Runs a plugin.
///
/// # Errors
/// Why there are no credentials, after the name of the plugin.
pub(super) async fn run(plugin: &ExecConfig) -> Result<Credentials, String> {
    if plugin.interactive_mode == Some(ExecInteractiveMode::Never) || !std::io::stdin().is_terminal() {
        return run_within(plugin, false, WITHIN).await;
    }
    // A login takes as long as its person does, and the deadlines of what needs it do not run meanwhile.
    let log_in = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(run_within(plugin, true, WITHIN_AT_TERMINAL))
    };
    let done = std::thread::scope(|threads| threads.spawn(log_in).join());
    done.unwrap_or_else(|_| Err("the login broke off".to_owned()))
}

async fn run_within(plugin: &ExecConfig, has_person: bool, within: Duration) -> Result<Credentials, String> {
    let program = plugin.command.as_deref().unwrap_or_default();
    let told = |what: String| format!("`{program}`, which hands out the credentials of the kubeconfig, {what}");
    let mut command = crate::system::command(program);
    command.args(plugin.args.iter().flatten());
    for variable in plugin.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            command.env(name, value);
        }
    }
    let mut asked = json!({ "interactive": has_person });
    if plugin.provide_cluster_info {
        asked["cluster"] = json!(plugin.cluster);
    }
    let asked = json!({ "apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": asked });
    command.env("KUBERNETES_EXEC_INFO", asked.to_string());
    // What it says to a person goes to the person.
    command.stdin(if has_person { Stdio::inherit() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let started = tokio::process::Command::from(command).kill_on_drop(true).spawn();
    let mut child = started.map_err(|error| {
        let hint = plugin.install_hint.as_deref().map(|hint| format!("; {}", hint.trim())).unwrap_or_default();
        told(format!("could not be started: {error}{hint}"))
    })?;
    let answering = async {
        let mut answer = zeroize::Zeroizing::new(Vec::new());
        if let Some(stdout) = child.stdout.take() {
            stdout.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        }
        child.wait().await.map(|status| (status, answer))
    };
    let (status, answer) = match tokio::time::timeout(within, answering).await {
        Ok(ended) => ended.map_err(|error| told(format!("broke off: {error}")))?,
        Err(_) => return Err(told(format!("did not end within {} s", within.as_secs()))),
    };
    if !status.success() {
        return Err(told(format!("failed: {status}")));
    }
    // Some write YAML, of which JSON is a part.
    let answer: Option<Answer> = std::str::from_utf8(&answer).ok().and_then(|text| serde_saphyr::from_str(text).ok());
    let given = answer.and_then(|answer| answer.status).ok_or_else(|| told("answered with no credentials".to_owned()))?;
    let valid_until = given.expiration.as_deref().map(str::parse).transpose();
    let valid_until = valid_until.map_err(|_| told("says when they end in a way that is no time".to_owned()))?;
    let certificate = given.certificate.zip(given.key.map(Secret::new));
    let token = given.token.filter(|token| !token.is_empty()).map(Secret::new);
    if token.is_none() && certificate.is_none() {
        return Err(told("answered with no credentials".to_owned()));
    }
    Ok(Credentials { token, certificate, valid_until })
}

#[derive(Deserialize)]
struct Answer {
    status: Option<Given>,
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    #[serde(rename = "clientCertificateData")]
    certificate: Option<String>,
    #[serde(rename = "clientKeyData")]
    key: Option<String>,
    #[serde(rename = "expirationTimestamp")]
    expiration: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(script: &str, within: Duration) -> Result<Credentials, String> {
        let plugin: ExecConfig = serde_json::from_value(json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh",
            "args": ["-c", script],
            "env": [{ "name": "PLUGIN_VALUE", "value": "from-the-file" }],
        }))
        .unwrap();
        run_within(&plugin, false, within).await
    }

    #[tokio::test]
    async fn a_plugin_hands_out_a_token_or_a_certificate() {
        let minute = Duration::from_secs(60);
        let json = r#"echo "{\"status\":{\"token\":\"$PLUGIN_VALUE\",\"expirationTimestamp\":\"2030-01-02T03:04:05Z\"}}""#;
        let given = answer(json, minute).await.unwrap();
        assert_eq!(given.token.unwrap().expose(), "from-the-file");
        assert_eq!(given.valid_until.unwrap().to_string(), "2030-01-02T03:04:05Z");
        let yaml = "printf 'status:\n  clientCertificateData: a certificate\n  clientKeyData: a key\n'";
        let (certificate, key) = answer(yaml, minute).await.unwrap().certificate.unwrap();
        assert_eq!((certificate.as_str(), key.expose()), ("a certificate", "a key"));
        let asked = "printf '{\"status\":{\"token\":\"'; printf %s \"$KUBERNETES_EXEC_INFO\" | tr -d '\"\\n'; printf '\"}}'";
        assert!(answer(asked, minute).await.unwrap().token.unwrap().expose().contains("interactive:false"));
    }

    #[tokio::test]
    async fn a_plugin_that_gives_none_says_why_and_shows_nothing_secret() {
        for (script, why) in [
            ("echo '{\"status\":{\"token\":\"t0p\"}}'; exit 3", "failed: exit status: 3"),
            ("echo t0p", "answered with no credentials"),
            ("echo '{\"status\":{}}'", "answered with no credentials"),
            ("echo '{\"status\":{\"token\":\"t0p\",\"expirationTimestamp\":\"soon\"}}'", "in a way that is no time"),
            ("exec sleep 60", "did not end within"),
            ("exec cat /dev/zero", "failed: signal"),
        ] {
            let within = Duration::from_millis(if why.ends_with("within") { 500 } else { 60_000 });
            let error = answer(script, within).await.unwrap_err();
            assert!(error.contains(why) && error.starts_with("`sh`") && !error.contains("t0p"), "{script}: {error}");
        }
    }
}
