//! The names of images, and the credentials for their registries.
//!
//! Credentials come from where `docker login` keeps them: Docker's configuration file and its helpers. Must not do: keep
//! or show a password.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::engine::EngineSource;
use crate::provider::kit::image_reference::ImageReference;

/// How long a credential helper may take.
const HELPER: Duration = Duration::from_secs(20);
/// What a helper says that has no login for a server.
const NOT_KEPT: &str = "credentials not found in native keychain";
/// What Docker's configuration calls its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The credentials for the registry of an image, if the user has any.
///
/// # Errors
/// Why the helper that keeps them gave none, where nothing else has any either.
pub(super) async fn credentials(source: &EngineSource, image: &str) -> Result<Option<DockerCredentials>, String> {
    let Some(configuration) = source.configuration_file() else { return Ok(None) };
    let registry = ImageReference::parse(image).registry();
    let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
    let helper = configuration
        .pointer("/credHelpers")
        .and_then(|helpers| helpers.get(server))
        .or_else(|| configuration.get("credsStore"))
        .and_then(Value::as_str);
    let kept = match helper.filter(|helper| !helper.is_empty()) {
        Some(helper) => from_helper(helper, server)
            .await
            .map_err(|reason| format!("`docker-credential-{helper}`, which keeps the login for `{registry}`, {reason}")),
        None => Ok(None),
    };
    match kept {
        Ok(Some(found)) => Ok(Some(found)),
        none => from_file(&configuration, server).map_or(none, |found| Ok(Some(found))),
    }
}

fn from_file(configuration: &Value, server: &str) -> Option<DockerCredentials> {
    let logins = configuration.get("auths")?.as_object()?;
    let host = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.split('/').next().unwrap_or_default().to_owned()
    };
    let login =
        logins.get(server).or_else(|| logins.iter().find(|(name, _)| host(name) == host(server)).map(|(_, login)| login))?;
    let text = |name: &str| login.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let decoded = text("auth").and_then(|auth| STANDARD.decode(auth).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
    let username = text("username").or_else(|| pair.map(|(name, _)| name.to_owned()));
    let password = text("password").or_else(|| pair.map(|(_, password)| password.trim_end_matches('\0').to_owned()));
    let identitytoken = text("identitytoken");
    (identitytoken.is_some() || password.is_some()).then(|| DockerCredentials {
        username,
        password,
        identitytoken,
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    })
}

/// Asks `docker-credential-<helper>`, which answers with a document, or that it has none. What else it says is not told
/// on: it may hold a password.
async fn from_helper(helper: &str, server: &str) -> Result<Option<DockerCredentials>, String> {
    if helper.contains(['/', '\\']) {
        return Err("is not the name of a program".to_owned());
    }
    let mut child = tokio::process::Command::from(crate::system::command(format!("docker-credential-{helper}")))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("could not be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read may answer all the same.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let output = tokio::time::timeout(HELPER, child.wait_with_output())
        .await
        .map_err(|_| format!("did not answer within {} s", HELPER.as_secs()))?
        .map_err(|error| format!("broke off: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        return if said.trim() == NOT_KEPT { Ok(None) } else { Err(format!("failed with {}", output.status)) };
    }
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    let (Some(username), Some(secret)) = (text("Username"), text("Secret")) else {
        return Err("answered with something that is no login".to_owned());
    };
    let token = username == "<token>";
    Ok(Some(DockerCredentials {
        identitytoken: token.then(|| secret.clone()),
        username: (!token).then_some(username),
        password: (!token).then_some(secret),
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    }))
}

/// What a registry's or the engine's words about an image mean, and what to do about it.
pub(super) fn explain_pull_error(image: &str, words: &str) -> String {
    let registry = ImageReference::parse(image).registry();
    let low = words.to_lowercase();
    let said = |parts: &[&str]| parts.iter().any(|part| low.contains(part));
    let meaning = if said(&["denied", "unauthorized", "forbidden", "no basic auth"]) {
        format!("`{registry}` has no such image, or requires a login; try\n    docker login {registry}")
    } else if said(&["manifest unknown", "not found", "no such image"]) {
        format!(
            "`{registry}` has no such image; Convex tags its images with the full commit of 40 digits, so check the release \
             or the tag"
        )
    } else if said(&["no matching manifest", "does not match the specified platform"]) {
        "it is not built for the engine's kind of processor".to_owned()
    } else if said(&["no space left"]) {
        "the engine's disk is full: make room with `docker system df` and `docker image prune`, and run the same command again"
            .to_owned()
    } else if said(&["no such host", "connection refused", "timeout", "deadline", "eof", "reset by peer", "unreachable"]) {
        format!("the engine does not reach `{registry}`, or the connection broke off: run the same command again")
    } else {
        return words.to_owned();
    };
    format!("{words}\n{meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_read_from_the_configuration() {
        let configuration = serde_json::json!({ "auths": {
            "ghcr.io": { "auth": STANDARD.encode("me:a:b") },
            "https://mirror.test/v1/": { "identitytoken": "token" },
            "empty.test": {},
        }});
        let login = from_file(&configuration, "ghcr.io").unwrap();
        assert_eq!((login.username.as_deref(), login.password.as_deref()), (Some("me"), Some("a:b")));
        assert_eq!(from_file(&configuration, "mirror.test").unwrap().identitytoken.as_deref(), Some("token"));
        assert!(from_file(&configuration, "empty.test").is_none() && from_file(&configuration, "other.test").is_none());
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_not_one_that_has_no_login() {
        let folder = tempfile::tempdir().unwrap();
        let source = EngineSource { configuration: Some(folder.path().to_owned()), ..EngineSource::default() };
        let configure = |configuration: Value| {
            std::fs::write(folder.path().join("config.json"), configuration.to_string()).unwrap();
        };
        let helper = serde_json::json!({ "ghcr.io": "convexinfra-is-not-there" });
        configure(serde_json::json!({ "credHelpers": helper }));
        let reason = credentials(&source, "ghcr.io/a/b").await.unwrap_err();
        assert!(reason.contains("docker-credential-convexinfra-is-not-there") && reason.contains("started"), "{reason}");
        assert!(credentials(&source, "other.test/a").await.unwrap().is_none());
        // Credentials in the file itself work too.
        let login = serde_json::json!({ "ghcr.io": { "auth": STANDARD.encode("me:a") } });
        configure(serde_json::json!({ "credHelpers": helper, "auths": login }));
        assert_eq!(credentials(&source, "ghcr.io/a/b").await.unwrap().unwrap().username.as_deref(), Some("me"));
    }

    #[test]
    fn registry_errors_are_explained() {
        let image = "ghcr.io/get-convex/convex-backend:abc";
        for (words, meaning) in [
            ("denied: requested access to the resource is denied", "docker login ghcr.io"),
            ("manifest unknown", "full commit"),
            ("no matching manifest for linux/arm64/v8 in the manifest list entries", "processor"),
            ("write /x: no space left on device", "make room"),
            ("unexpected EOF", "broke off"),
        ] {
            assert!(explain_pull_error(image, words).contains(meaning), "{words}");
        }
        assert_eq!(explain_pull_error(image, "something new"), "something new");
    }
}
