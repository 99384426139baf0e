//! Session: a connection to an API server with credentials that hold, from a kubeconfig or the account of a Pod.
//!
//! What a kubeconfig names may hang, files as well as programs, so all of it has a deadline.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use kube::config::{AuthInfo, ExecConfig, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::Mutex;

use super::error::KubernetesError;
use super::plugin::{self, Credentials};
use crate::model::error_chain;
use crate::system::OWN_SECRET_VARIABLES;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long the files and programs that a kubeconfig names may take, beside its plugin.
const READ_WITHIN: Duration = Duration::from_secs(20);
/// How long before their end credentials are renewed.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_secs(60);

/// Where an API server and the credentials for it are named.
struct Source {
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
}

/// A connection to an API server, whose credentials are renewed before they end.
pub(super) struct Session {
    source: Source,
    current: Mutex<(Client, Option<Timestamp>)>,
}

impl Session {
    /// Opens the cluster of a context; the current one where none is named, and the one that this process runs in where there is no
    /// kubeconfig.
    pub(super) async fn open(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(Self, Opened), KubernetesError> {
        let source = Source { kubeconfig: kubeconfig.map(Path::to_owned), context: context.map(str::to_owned) };
        let opened = source.open().await?;
        let current = Mutex::new((opened.client.clone(), opened.valid_until));
        Ok((Self { source, current }, opened))
    }

    /// Returns a client whose credentials hold.
    pub(super) async fn client(&self) -> Result<Client, KubernetesError> {
        let mut current = self.current.lock().await;
        if current.1.is_some_and(|until| Timestamp::now() + RENEW_BEFORE >= until) {
            let opened = self.source.open().await?;
            *current = (opened.client, opened.valid_until);
        }
        Ok(current.0.clone())
    }
}

/// What a source leads to.
pub(super) struct Opened {
    client: Client,
    valid_until: Option<Timestamp>,
    /// The address of the API server.
    pub(super) server: String,
    /// The namespace of the context.
    pub(super) namespace: String,
    /// The program that hands out credentials, where there is one.
    pub(super) plugin: Option<String>,
    /// Whether this process runs in the cluster itself.
    pub(super) is_inside: bool,
}

impl Source {
    async fn open(&self) -> Result<Opened, KubernetesError> {
        let (kubeconfig, context) = (self.kubeconfig.clone(), self.context.clone());
        let (mut config, is_inside) =
            within_deadline(async move { read(kubeconfig.as_deref(), context.as_deref()).await }).await?;
        let (plugin, valid_until) = match exec_of(&mut config.auth_info) {
            Some(plugin) => {
                let given = plugin::run(&plugin).await.map_err(|reason| KubernetesError::NoCluster { reason })?;
                let valid_until = given.valid_until;
                set_credentials(&mut config.auth_info, given);
                (plugin.command, valid_until)
            }
            None => (None, None),
        };
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_WITHIN);
        let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
        let client = within_deadline(async move { Client::try_from(config).map_err(no_cluster) }).await?;
        Ok(Opened { client, valid_until, server, namespace, plugin, is_inside })
    }
}

/// Runs what reads files, and programs of an old kind, off the threads that answer others, and gives it up after a while.
async fn within_deadline<T: Send + 'static>(
    work: impl Future<Output = Result<T, KubernetesError>> + Send + 'static,
) -> Result<T, KubernetesError> {
    let runtime = tokio::runtime::Handle::current();
    let running = tokio::task::spawn_blocking(move || runtime.block_on(work));
    let failed = |reason: String| Err(KubernetesError::NoCluster { reason });
    match tokio::time::timeout(READ_WITHIN, running).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => failed(format!("it could not be read: {error}")),
        Err(_) => {
            failed(format!("a file or a program that the kubeconfig names has not answered within {} s", READ_WITHIN.as_secs()))
        }
    }
}

/// Reads the kubeconfig, or the account of this process's own Pod where there is none.
async fn read(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(Config, bool), KubernetesError> {
    // Two of the libraries here would each choose another provider of cryptography.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from) {
        Ok(mut file) => {
            keep_secrets_from_programs(&mut file);
            let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
            Ok((Config::from_custom_kubeconfig(file, &options).await.map_err(no_cluster)?, false))
        }
        Err(error) => match Config::incluster() {
            Ok(config) if context.is_none() => Ok((config, true)),
            _ => Err(no_cluster(error)),
        },
    }
}

fn no_cluster(error: impl std::error::Error) -> KubernetesError {
    KubernetesError::NoCluster { reason: error_chain(&error) }
}

/// Takes the program out of a user that hands out its credentials; none where the file has them itself.
fn exec_of(user: &mut AuthInfo) -> Option<ExecConfig> {
    let has_own = user.token.is_some() || user.token_file.is_some() || user.auth_provider.is_some();
    user.exec.take().filter(|_| !has_own && user.password.is_none())
}

fn set_credentials(user: &mut AuthInfo, given: Credentials) {
    if let Some((certificate, key)) = given.certificate {
        user.client_certificate_data = Some(STANDARD.encode(certificate));
        user.client_key_data = Some(STANDARD.encode(key.expose()).into());
    }
    user.token = given.token.map(|token| token.expose().to_owned().into());
}

/// Keeps the secrets of this process out of the environment of programs of an old kind, which are not run here.
fn keep_secrets_from_programs(file: &mut Kubeconfig) {
    for user in file.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut()) {
        if let Some(provider) = &mut user.auth_provider {
            provider.config.insert("cmd-drop-env".to_owned(), OWN_SECRET_VARIABLES.join(" "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_a_kubeconfig_inherit_no_secret_of_ours() {
        let text = "users:\n- name: b\n  user:\n    auth-provider: { name: gcp, config: { cmd-path: plugin, cmd-drop-env: NOTHING } }\n\
                    - name: c\n  user: { token: x }\n";
        let mut file = Kubeconfig::from_yaml(text).unwrap();
        keep_secrets_from_programs(&mut file);
        let user = file.auth_infos[0].auth_info.as_ref().unwrap();
        let dropped = user.auth_provider.as_ref().unwrap().config["cmd-drop-env"].clone();
        for name in OWN_SECRET_VARIABLES {
            assert!(dropped.split(' ').any(|dropped| dropped == name), "{name}");
        }
    }
}
