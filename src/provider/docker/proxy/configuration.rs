//! The configuration of the proxy as it is in its volume, and the commands of Caddy that check and load it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::{Duration, Instant};

use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::StreamExt;

use super::super::engine::Engine;
use super::super::inventory::read_archive;
use super::super::launch_file::{FileOwner, SecretFiles};
use super::error::ProxyError;
use super::site::{Site, SiteHeader};
use crate::provider::ProviderError;

/// The volume, as the proxy sees it.
pub(super) const ROOT: &str = "/etc/caddy";
/// The main file and the sites.
const FOLDER: &str = "/etc/caddy/conf";
/// The main file, below the volume.
pub(super) const MAIN_FILE: &str = "conf/Caddyfile";
/// The file by which a set of sites is validated before it counts.
const CANDIDATE: &str = "candidate.caddyfile";
/// More than hundreds of backends have.
const MAX_BYTES: usize = 4 << 20;
/// How much of what a command says is kept, in bytes.
const MAX_WORDS: usize = 64 << 10;
/// How long a command may take. Files of certificates are read and checked in it.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// How long Caddy may take to listen for its commands after its start.
const LISTENS_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);

/// What holds for all sites.
const GLOBAL: &str = "{\n\tadmin unix//run/caddy.sock\n\tpersist_config off\n\tskip_install_trust\n}\n";

/// Returns the main file.
pub(super) fn main_file() -> String {
    format!("# Made by convexinfra. The routes of each backend are a file in `sites`.\n{GLOBAL}import {FOLDER}/sites/*.caddy\n")
}

/// The files of the configuration that count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Configuration {
    pub(super) main: Option<String>,
    /// The sites by the names of their files. A site that was removed is an empty file, which is left out.
    pub(super) sites: BTreeMap<String, String>,
}

impl Configuration {
    /// Reads the configuration of a proxy, which need not run.
    pub(super) async fn read(engine: &Engine, container: &str) -> Result<Self, ProviderError> {
        let Some(start) = read_archive(engine, container, FOLDER, MAX_BYTES).await? else { return Ok(Self::default()) };
        let unreadable =
            |reason: String| ProviderError::Engine { verb: "read the configuration of the proxy".to_owned(), reason };
        if !start.is_whole {
            return Err(unreadable(format!("it has more than {} MiB", MAX_BYTES >> 20)));
        }
        let mut found = Self::default();
        let mut archive = tar::Archive::new(start.bytes.as_slice());
        for entry in archive.entries().map_err(|error| unreadable(error.to_string()))? {
            let mut entry = entry.map_err(|error| unreadable(error.to_string()))?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().map_err(|error| unreadable(error.to_string()))?.display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(|error| unreadable(format!("`{path}`: {error}")))?;
            match path.trim_start_matches("./").trim_start_matches("conf/") {
                "Caddyfile" => found.main = Some(text),
                path => {
                    if let Some(name) =
                        path.strip_prefix("sites/").filter(|name| name.ends_with(".caddy") && !text.trim().is_empty())
                    {
                        found.sites.insert(name.to_owned(), text);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns what the first lines of all sites say, with the names of their files.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, SiteHeader)> {
        self.sites.iter().filter_map(|(file, text)| Some((file.as_str(), Site::header(text)?)))
    }

    /// Has Caddy check all sites together, from a file that is not in use.
    ///
    /// # Errors
    /// [`ProxyError::Refused`] with what it says.
    pub(super) async fn validate(&self, engine: &Engine, container: &str) -> Result<(), ProviderError> {
        let text: String = std::iter::once(GLOBAL).chain(self.sites.values().map(String::as_str)).collect();
        let mut files = files();
        files.add(CANDIDATE, text.as_bytes());
        engine.upload_files(container, &files).await?;
        let path = format!("{ROOT}/{CANDIDATE}");
        run(engine, container, &["caddy", "validate", "--adapter", "caddyfile", "--config", &path]).await
    }
}

/// Has Caddy load the configuration. What runs already is not loaded again.
///
/// # Errors
/// [`ProxyError::Refused`] with what it says; what ran before runs on.
pub(super) async fn reload(engine: &Engine, container: &str) -> Result<(), ProviderError> {
    let path = format!("{FOLDER}/Caddyfile");
    let words = ["caddy", "reload", "--adapter", "caddyfile", "--config", &path, "--address", "unix//run/caddy.sock"];
    let deadline = Instant::now() + LISTENS_WITHIN;
    loop {
        match run(engine, container, &words).await {
            // It was started a moment ago.
            Err(ProviderError::Proxy(ProxyError::Refused { reason }))
                if reason.contains("dial unix") && Instant::now() < deadline =>
            {
                tokio::time::sleep(POLL).await;
            }
            done => return done,
        }
    }
}

/// Returns files for the volume of the configuration.
pub(super) fn files() -> SecretFiles {
    SecretFiles::new(ROOT, FileOwner::default())
}

/// Runs a command in a container until it ends.
async fn run(engine: &Engine, container: &str, words: &[&str]) -> Result<(), ProviderError> {
    let verb = format!("run `{}` in the proxy", words.iter().take(2).copied().collect::<Vec<_>>().join(" "));
    let failed = |error| engine.failed(&verb, error);
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
        ..ExecConfig::default()
    };
    let id = engine.client.create_exec(container, config).await.map_err(failed)?.id;
    let mut said = Vec::new();
    let drained = async {
        if let StartExecResults::Attached { mut output, .. } =
            engine.client.start_exec(&id, None::<StartExecOptions>).await.map_err(failed)?
        {
            while let Some(piece) = output.next().await {
                let piece = piece.map_err(failed)?.into_bytes();
                let rest = MAX_WORDS.saturating_sub(said.len());
                said.extend(piece.iter().take(rest));
            }
        }
        Ok::<_, ProviderError>(())
    };
    let timed_out =
        |_| ProviderError::Engine { verb: verb.clone(), reason: format!("no end within {} s", COMMAND_WITHIN.as_secs()) };
    tokio::time::timeout(COMMAND_WITHIN, drained).await.map_err(timed_out)??;
    match engine.client.inspect_exec(&id).await.map_err(failed)?.exit_code {
        Some(0) => Ok(()),
        _ => Err(ProxyError::Refused { reason: refusal(&String::from_utf8_lossy(&said)) }.into()),
    }
}

/// Returns the line in which Caddy says what is wrong, among those of its log.
fn refusal(said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let logged = |line: &str| {
        let entry: serde_json::Value =
            serde_json::from_str(line).ok().filter(|entry: &serde_json::Value| entry["level"] == "error")?;
        Some(entry["msg"].as_str()?.to_owned())
    };
    let plain = |line: &str| line.strip_prefix("Error: ").map(str::to_owned);
    let found = lines().rev().find_map(|line| plain(line).or_else(|| logged(line)));
    let found = found.or_else(|| lines().next_back().map(str::to_owned)).unwrap_or_else(|| "it said nothing".to_owned());
    found.chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_among_the_lines_of_a_log() {
        let said =
            "{\"level\":\"info\",\"msg\":\"using config from file\"}\nError: adapting config using caddyfile: ambiguous\n";
        assert_eq!(refusal(said), "adapting config using caddyfile: ambiguous");
        let logged = "{\"level\":\"warn\",\"msg\":\"empty\"}\n{\"level\":\"error\",\"msg\":\"ambiguous site definition\"}\n";
        assert_eq!(refusal(logged), "ambiguous site definition");
        assert_eq!(refusal("panic\n"), "panic");
        assert_eq!(refusal(""), "it said nothing");
    }
}
