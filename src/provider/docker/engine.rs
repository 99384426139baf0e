//! Where the Docker engine is, and the connection to it.
//!
//! The engine is found as Docker's own command line finds it: `DOCKER_HOST`, then `DOCKER_CONTEXT`, then the context
//! that is chosen in the configuration, then the local socket. Must not do: connect before the first request, or take an
//! engine that does not answer for an engine without containers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use sha2::{Digest as _, Sha256};

use super::limits::{EngineCapabilities, EngineCapacity, with_field};
use super::ssh::{ContainerPort, SshConnection, SshError, SshFailure};
use crate::model::{ProviderState, Server, is_loopback_host};
use crate::provider::ProviderError;
use crate::provider::kit::tunnel::Tunnels;
use crate::system::read_regular_text;

/// How large a file of Docker's configuration may be in bytes.
const MAX_CONFIGURATION_BYTES: u64 = 1 << 20;
/// How long the engine may take for one answer, in seconds. Stopping a container takes as long as its grace period.
const TIMEOUT_S: u64 = 120;
/// How long it may take for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// Where the engine listens by default.
const SOCKET: &str = "/var/run/docker.sock";

/// What says where the engine is, as Docker's own tools read it.
#[derive(Debug, Clone, Default)]
pub struct EngineSource {
    /// `DOCKER_HOST`
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`
    pub context: Option<String>,
    /// `DOCKER_TLS_VERIFY`
    pub tls_verify: bool,
    /// `DOCKER_CERT_PATH`
    pub certificates: Option<PathBuf>,
    /// `DOCKER_CONFIG`, or `.docker` in the user's home.
    pub configuration: Option<PathBuf>,
    /// Sockets to try when nothing is said, first to last.
    pub sockets: Vec<PathBuf>,
}

impl EngineSource {
    /// What the variables say; `home` is the user's home directory.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>, home: Option<&Path>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut sockets = vec![PathBuf::from(SOCKET)];
        sockets.extend(given("XDG_RUNTIME_DIR").map(|runtime| Path::new(&runtime).join("docker.sock")));
        sockets.extend(home.map(|home| home.join(".docker/run/docker.sock")));
        Self {
            host: given("DOCKER_HOST"),
            context: given("DOCKER_CONTEXT"),
            tls_verify: given("DOCKER_TLS_VERIFY").is_some(),
            certificates: given("DOCKER_CERT_PATH").map(PathBuf::from),
            configuration: given("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home.map(|home| home.join(".docker"))),
            sockets,
        }
    }

    /// Docker's configuration file, if it can be read as one.
    pub(super) fn configuration_file(&self) -> Option<serde_json::Value> {
        let text = read_regular_text(&self.configuration.as_ref()?.join("config.json"), MAX_CONFIGURATION_BYTES).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn address(&self) -> Result<EngineAddress, ProviderError> {
        if let Some(url) = &self.host {
            let certificates = self.tls_verify.then(|| self.certificates.clone().or_else(|| self.configuration.clone()));
            return Ok(EngineAddress { url: url.clone(), certificates: certificates.flatten() });
        }
        let chosen = || self.configuration_file()?.get("currentContext")?.as_str().map(str::to_owned);
        match self.context.clone().or_else(chosen).filter(|name| !name.is_empty() && name != "default") {
            Some(name) => self.context_address(&name),
            None => {
                let there = self.sockets.iter().find(|path| path.exists()).or(self.sockets.first());
                let path = there.map_or(SOCKET.to_owned(), |path| path.display().to_string());
                Ok(EngineAddress { url: format!("unix://{path}"), certificates: None })
            }
        }
    }

    /// Contexts lie in folders that are named by the SHA-256 of their names.
    fn context_address(&self, name: &str) -> Result<EngineAddress, ProviderError> {
        let broken = |why: &str| ProviderError::EngineUnreachable {
            address: format!("context {name}"),
            reason: format!("{why}; list the contexts with `docker context ls`"),
        };
        let configuration = self.configuration.as_ref().ok_or_else(|| broken("there is no Docker configuration"))?;
        let folder = hex::encode(Sha256::digest(name.as_bytes()));
        let contexts = configuration.join("contexts");
        let text = read_regular_text(&contexts.join("meta").join(&folder).join("meta.json"), MAX_CONFIGURATION_BYTES)
            .map_err(|_| broken("there is no such context"))?;
        let meta: serde_json::Value = serde_json::from_str(&text).map_err(|_| broken("its file is damaged"))?;
        let url = meta.pointer("/Endpoints/docker/Host").and_then(|host| host.as_str());
        let url = url.ok_or_else(|| broken("it names no Docker engine"))?.to_owned();
        let certificates = contexts.join("tls").join(&folder).join("docker");
        Ok(EngineAddress { url, certificates: certificates.is_dir().then_some(certificates) })
    }
}

/// Where an engine is, and with which certificates it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EngineAddress {
    url: String,
    certificates: Option<PathBuf>,
}

impl EngineAddress {
    fn connect(&self) -> Result<Client, ProviderError> {
        let failed = |error: Error| unreachable(&self.url, &error);
        let scheme = self.url.split("://").next().unwrap_or_default();
        match (scheme, &self.certificates) {
            #[cfg(unix)]
            ("unix", _) => Client::connect_with_unix(&self.url, TIMEOUT_S, API_DEFAULT_VERSION).map_err(failed),
            #[cfg(windows)]
            ("npipe", _) => Client::connect_with_named_pipe(&self.url, TIMEOUT_S, API_DEFAULT_VERSION).map_err(failed),
            ("tcp" | "https", Some(folder)) => {
                let file = |name: &str| folder.join(name);
                let (key, certificate, ca) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
                Client::connect_with_ssl(&self.url, &key, &certificate, &ca, TIMEOUT_S, API_DEFAULT_VERSION).map_err(failed)
            }
            ("tcp" | "http", None) => Client::connect_with_http(&self.url, TIMEOUT_S, API_DEFAULT_VERSION).map_err(failed),
            ("ssh", _) => Err(ProviderError::Unsupported(format!(
                "the Docker engine at `{}` is reached over SSH, and the manifest has to say so: write\n    [servers.NAME]\n    \
                 host = \"{}\"\nand `server = \"NAME\"` into the backend's block",
                self.url,
                self.url.trim_start_matches("ssh://")
            ))),
            _ => Err(ProviderError::Unsupported(format!(
                "`{}` is not the address of a Docker engine: let `DOCKER_HOST`, or the Docker context, say \
                 `unix:///var/run/docker.sock`, `tcp://HOST:2375`, or `tcp://HOST:2376` with `DOCKER_TLS_VERIFY=1` and the \
                 certificates in `DOCKER_CERT_PATH`",
                self.url
            ))),
        }
    }

    /// The host of an engine that is not on this machine.
    fn remote_host(&self) -> Option<String> {
        let url = url::Url::parse(&self.url).ok().filter(|url| matches!(url.scheme(), "tcp" | "http" | "https"))?;
        let host = url.host().filter(|host| !is_loopback_host(host))?;
        Some(host.to_string().trim_matches(['[', ']']).to_owned())
    }
}

/// An engine that has answered.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    /// The connection.
    pub(super) client: Client,
    /// What the engine can enforce.
    pub(super) capabilities: EngineCapabilities,
    /// What the engine has.
    pub(super) capacity: EngineCapacity,
    /// The host that it runs on, where that is another machine.
    pub(super) remote_host: Option<String>,
    /// The way there, where it is on a server of the user's own.
    pub(super) link: Option<Arc<ServerLink>>,
    /// Which engine it is.
    pub(super) identity: EngineIdentity,
    url: String,
}

/// The way to an engine on a server, and to its containers.
#[derive(Debug)]
pub(super) struct ServerLink {
    pub(super) connection: Arc<SshConnection>,
    /// By container and port.
    tunnels: Tunnels<(String, u16)>,
}

/// The engine that answers, at any address: another one knows nothing of a backend, which does not mean that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineIdentity(String);

impl EngineIdentity {
    /// The key of the identity in the provider state.
    const ID: &'static str = "engine_id";
    /// The key of the address at which the engine was reached.
    const ADDRESS: &'static str = "engine_address";

    fn of(info: &SystemInfo) -> Self {
        // Two engines of one machine may share an id, and never a directory.
        let parts = [&info.id, &info.docker_root_dir].map(|part| part.clone().unwrap_or_default());
        Self(hex::encode(&Sha256::digest(parts.join("\n").as_bytes())[..8]))
    }

    /// Records the engine that has a backend.
    pub(super) fn record(&self, address: &str, state: &mut ProviderState) {
        state.insert(Self::ID.to_owned(), self.0.clone());
        state.insert(Self::ADDRESS.to_owned(), address.to_owned());
    }

    /// Returns the address of the engine that has a backend, where that is another one.
    pub(super) fn differs_from(&self, state: &ProviderState) -> Option<String> {
        let other = state.get(Self::ID).is_some_and(|id| *id != self.0);
        other.then(|| state.get(Self::ADDRESS).cloned().unwrap_or_else(|| "an unknown address".to_owned()))
    }
}

impl Engine {
    /// Finds the engine and asks what it is.
    pub(super) async fn connect(source: &EngineSource) -> Result<Self, ProviderError> {
        let address = source.address()?;
        let remote_host = address.remote_host();
        Ok(Self { remote_host, ..Self::greet(address.connect()?, address.url).await? })
    }

    /// Connects to a server and asks its engine what it is: through its socket, or through Docker's own command where the
    /// server forwards no sockets.
    pub(super) async fn connect_server(ssh: &OsStr, server: &Server) -> Result<Self, ProviderError> {
        let connection = Arc::new(SshConnection::open(ssh, server).await?);
        let client = |socket: PathBuf| {
            let socket = format!("unix://{}", socket.display());
            Client::connect_with_unix(&socket, TIMEOUT_S, API_DEFAULT_VERSION).map_err(|error| unreachable(&socket, &error))
        };
        let forwarded = Self::greet(client(connection.engine_socket().await?)?, server.address()).await;
        let greeted = match forwarded {
            Err(ProviderError::EngineUnreachable { .. }) => {
                Self::greet(client(connection.dial_stdio_socket()?)?, server.address()).await
            }
            other => other,
        };
        let engine = greeted.map_err(|error| match error {
            ProviderError::EngineUnreachable { reason, .. } => {
                connection.failure().unwrap_or_else(|| SshError::new(SshFailure::NoDocker, server, &reason)).into()
            }
            other => other,
        })?;
        connection.forget_failures();
        Ok(Self { link: Some(Arc::new(ServerLink { connection, tunnels: Tunnels::default() })), ..engine })
    }

    /// Asks an engine what it is.
    async fn greet(client: Client, url: String) -> Result<Self, ProviderError> {
        let first = async {
            let client = client.negotiate_version().await?;
            let (info, version) = tokio::try_join!(client.info(), client.version())?;
            Ok::<_, Error>((client, info, version))
        };
        let (client, info, version) = match tokio::time::timeout(FIRST_ANSWER, first).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unreachable(&url, &error)),
            Err(_) => {
                let reason = format!("no answer within {} s", FIRST_ANSWER.as_secs());
                return Err(ProviderError::EngineUnreachable { address: url, reason });
            }
        };
        if info.os_type.as_deref().is_some_and(|system| system != "linux") {
            return Err(ProviderError::Unsupported(format!(
                "the Docker engine at `{url}` runs containers of another system than Linux, and Convex has images for Linux only"
            )));
        }
        let components = version.components.unwrap_or_default();
        if components.iter().any(|component| component.name.to_lowercase().contains("podman")) {
            return Err(ProviderError::Unsupported(format!(
                "the engine at `{url}` is Podman, which echoes settings in other words than Docker, so that every plan would find \
                 drift: use a Docker engine, or the provider `local`"
            )));
        }
        let enforces = EngineCapabilities {
            memory: info.memory_limit.unwrap_or(false),
            swap: info.swap_limit.unwrap_or(false),
            cpus: info.cpu_cfs_quota.unwrap_or(false),
            pids: info.pids_limit.unwrap_or(false),
        };
        let capacity = EngineCapacity { cpus: info.ncpu, memory: info.mem_total };
        let identity = EngineIdentity::of(&info);
        Ok(Self { client, capabilities: enforces, capacity, remote_host: None, link: None, identity, url })
    }

    /// Whether it runs on another machine.
    pub(super) fn is_remote(&self) -> bool {
        self.remote_host.is_some() || self.link.is_some()
    }

    /// Whether its connection has come to an end, so that another one is needed.
    pub(super) fn is_lost(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.connection.has_ended())
    }

    /// Returns a URL on this machine that leads to a port of a container on a server; none where the engine is elsewhere.
    pub(super) async fn tunnel(&self, container: &str, port: u16) -> Result<Option<String>, ProviderError> {
        let Some((link, target)) = self.container_port(container, port) else { return Ok(None) };
        if let Some(error) = link.connection.forwarding_failure() {
            return Err(error.into());
        }
        let opened = link.tunnels.url((container.to_owned(), port), target).await;
        let failed = |error| ProviderError::Unreachable(format!("no port of this machine could be opened: {error}"));
        opened.map(Some).map_err(failed)
    }

    /// Returns the way to a port of a container on a server.
    pub(super) fn container_port(&self, container: &str, port: u16) -> Option<(&ServerLink, ContainerPort)> {
        let link = self.link.as_deref()?;
        let (connection, client) = (Arc::clone(&link.connection), self.client.clone());
        Some((link, ContainerPort { connection, client, container: container.to_owned(), port }))
    }

    /// Returns the address at which it answers.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What an error of the engine means.
    pub(super) fn failed(&self, verb: &str, error: Error) -> ProviderError {
        match error {
            Error::DockerResponseServerError { message, .. } => {
                ProviderError::Engine { verb: verb.to_owned(), reason: with_field(message) }
            }
            Error::DockerStreamError { error } => ProviderError::Engine { verb: verb.to_owned(), reason: error },
            other => match (&self.link, unreachable(&self.url, &other)) {
                (Some(link), ProviderError::EngineUnreachable { reason, .. }) => link.connection.lost(&reason).into(),
                (_, error) => error,
            },
        }
    }
}

/// What is said is the innermost cause: those around it speak of the library that the engine is asked with.
fn unreachable(url: &str, error: &Error) -> ProviderError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    let reason = text.split(" (os error").next().unwrap_or_default().to_owned();
    ProviderError::EngineUnreachable { address: url.to_owned(), reason }
}

/// Whether the engine says that there is no such thing. Only this means "absent".
pub(super) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the engine says that something is in the way, such as another container of the same name.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(variables: &[(&str, &str)], home: &Path) -> EngineSource {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        EngineSource::from_variables(variable, Some(home))
    }

    #[test]
    fn the_engine_is_found_as_dockers_own_tools_find_it() {
        let home = tempfile::tempdir().unwrap();
        let configuration = home.path().join(".docker");
        let folder = hex::encode(Sha256::digest(b"far"));
        let meta = configuration.join("contexts/meta").join(&folder);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far.test:2376"}}}"#)
            .unwrap();
        std::fs::write(configuration.join("config.json"), r#"{"currentContext":"far"}"#).unwrap();

        let url = |variables: &[(&str, &str)]| source(variables, home.path()).address().unwrap().url;
        assert_eq!(url(&[]), "tcp://far.test:2376");
        assert_eq!(url(&[("DOCKER_CONTEXT", "default"), ("XDG_RUNTIME_DIR", "/nowhere")]), "unix:///var/run/docker.sock");
        assert_eq!(url(&[("DOCKER_HOST", "unix:///x.sock"), ("DOCKER_CONTEXT", "far")]), "unix:///x.sock");
        assert_eq!(url(&[("DOCKER_HOST", "")]), "tcp://far.test:2376");
        let unknown = source(&[("DOCKER_CONTEXT", "near")], home.path()).address().unwrap_err();
        assert!(unknown.to_string().contains("no such context"), "{unknown}");

        let certificates = configuration.join("contexts/tls").join(&folder).join("docker");
        std::fs::create_dir_all(&certificates).unwrap();
        assert_eq!(source(&[], home.path()).address().unwrap().certificates, Some(certificates));
        let secured = [("DOCKER_HOST", "tcp://a:1"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")];
        assert_eq!(source(&secured, home.path()).address().unwrap().certificates, Some(PathBuf::from("/certs")));
    }

    #[test]
    fn remote_engines_are_recognized() {
        let host = |url: &str| EngineAddress { url: url.to_owned(), certificates: None }.remote_host();
        for url in ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://localhost:2375", "tcp://[::1]:2375"] {
            assert_eq!(host(url), None, "{url}");
        }
        assert_eq!(host("tcp://10.0.0.7:2376").as_deref(), Some("10.0.0.7"));
        assert_eq!(host("tcp://docker:2375").as_deref(), Some("docker"));
    }

    /// Answers as Podman 4.3.1 does, shortened.
    fn recorded_podman() -> String {
        use std::io::{BufRead, BufReader, Write};
        const VERSION: &str = r#"{"Platform":{"Name":"linux/amd64/debian-12"},"Components":[{"Name":"Podman Engine","Version":"4.3.1",
            "Details":{"APIVersion":"4.3.1","MinAPIVersion":"4.0.0"}},{"Name":"Conmon","Version":"conmon version 2.1.6"}],
            "Version":"4.3.1","ApiVersion":"1.41","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"}"#;
        const INFO: &str = r#"{"ID":"941c18ff-ece2-4b77-9eef-4b1753dd15bf","Name":"vm","ServerVersion":"4.3.1","Driver":"vfs",
            "OperatingSystem":"debian","OSType":"linux","DockerRootDir":"/var/lib/containers/storage","MemTotal":1}"#;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(request)) = lines.next() else { continue };
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let body = if request.contains("/info") { INFO } else { VERSION };
                let head = "content-type: application/json\r\nconnection: close";
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            }
        });
        address
    }

    #[tokio::test]
    async fn podman_is_refused_by_name_at_the_first_contact() {
        let source = EngineSource { host: Some(recorded_podman()), ..EngineSource::default() };
        let told = Engine::connect(&source).await.unwrap_err();
        assert!(matches!(&told, ProviderError::Unsupported(said) if said.contains("is Podman")), "{told}");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_unreachable() {
        let home = tempfile::tempdir().unwrap();
        let socket = format!("unix://{}/none.sock", home.path().display());
        let told = Engine::connect(&source(&[("DOCKER_HOST", &socket)], home.path())).await.unwrap_err();
        assert!(matches!(&told, ProviderError::EngineUnreachable { address, .. } if *address == socket), "{told}");
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let unused = format!("tcp://127.0.0.1:{port}");
        let told = Engine::connect(&source(&[("DOCKER_HOST", &unused)], home.path())).await.unwrap_err().to_string();
        assert!(told.contains(&unused) && told.contains("refused") && !told.contains("hyper"), "{told}");
        for (address, words) in [("ssh://user@far", "host = \"user@far\""), ("bogus", "unix:///var/run/docker.sock")] {
            let told = Engine::connect(&source(&[("DOCKER_HOST", address)], home.path())).await.unwrap_err();
            assert!(matches!(&told, ProviderError::Unsupported(said) if said.contains(words)), "{told}");
        }
    }
}
