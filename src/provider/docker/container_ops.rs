//! Single operations on one container: create, fill, start, stop, rename, remove, update.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody, NetworkConnectRequest, NetworkDisconnectRequest,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
    StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use super::desired::{ContainerSpec, PublishedPort};
use super::engine::{Engine, is_absent, is_conflict};
use super::hardening::published_ports;
use super::inventory::{id_of, inspect_container};
use super::launch_file::{FileOwner, SecretFiles};
use crate::failpoint;
use crate::provider::ProviderError;

/// How long to wait before looking again at what is in the way.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often a container is started whose port is taken, and how long is waited in between: two seconds in all.
const PORT_TRIES: u32 = 8;
const PORT_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
/// How long a removal that is under way may take.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an engine may take for the data of a backend.
const UNPACK_TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);
/// How long a container is given at least before it is killed, in seconds.
const MIN_GRACE_S: i32 = 1;

/// What came of making a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CreateOutcome {
    /// It is there, and this is its id.
    Created(String),
    /// Another container has the name.
    NameTaken(String),
}

impl Engine {
    /// Makes a container that does not run yet, and puts its files into its volume.
    pub(super) async fn create_container(&self, wanted: &ContainerSpec) -> Result<CreateOutcome, ProviderError> {
        let options = CreateContainerOptionsBuilder::default().name(&wanted.name).build();
        let id = match self.client.create_container(Some(options), wanted.body()).await {
            Ok(made) => made.id,
            Err(error) if is_conflict(&error) => return Ok(CreateOutcome::NameTaken(error.to_string())),
            Err(error) => return Err(self.failed("make a container", error)),
        };
        failpoint::hit("provider.docker.container_made");
        for network in wanted.networks.iter().skip(1) {
            self.connect_network(&id, network, wanted).await?;
        }
        if let Some(files) = &wanted.files {
            self.upload_files(&id, files).await?;
        }
        Ok(CreateOutcome::Created(id))
    }

    /// Puts files into the volume of a container.
    pub(super) async fn upload_files(&self, id: &str, files: &SecretFiles) -> Result<(), ProviderError> {
        let archive =
            files.archive().map_err(|source| ProviderError::File { path: files.target.to_owned(), verb: "packed", source })?;
        let options = UploadToContainerOptionsBuilder::default().path(files.target).build();
        let body = bollard::body_full(archive.into());
        self.client
            .upload_to_container(id, Some(options), body)
            .await
            .map_err(|error| self.failed("put the credentials into the volume", error))?;
        failpoint::hit("provider.docker.files_sent");
        Ok(())
    }

    /// Returns the user that an image runs as, by number.
    pub(super) async fn image_user(&self, image: &str) -> Result<FileOwner, ProviderError> {
        let inspected = self.client.inspect_image(image).await.map_err(|error| self.failed("look at an image", error))?;
        FileOwner::of_image(image, &inspected.config.and_then(|config| config.user).unwrap_or_default())
    }

    /// Unpacks a large archive in a container, at the speed at which the engine takes it.
    pub(super) async fn unpack(
        &self,
        id: &str,
        path: &str,
        archive: BoxStream<'static, io::Result<Vec<u8>>>,
        verb: &str,
    ) -> Result<(), ProviderError> {
        let options = UploadToContainerOptionsBuilder::default().path(path).build();
        let body = bollard::body_try_stream(archive.map_ok(Into::into));
        let client = self.client.clone().with_timeout(UNPACK_TIMEOUT);
        client.upload_to_container(id, Some(options), body).await.map_err(|error| self.failed(verb, error))
    }

    /// Starts a container. That one of its ports is taken is told as that, once it stays taken: a container that was
    /// just stopped gives its ports back a moment later than the engine says.
    pub(super) async fn start_container(&self, id: &str, ports: &[PublishedPort]) -> Result<(), ProviderError> {
        let mut tries = 0;
        loop {
            let started = self.client.start_container(id, None).await;
            failpoint::hit("provider.docker.started");
            let Err(error) = started else { return Ok(()) };
            let error = self.failed("start the container", error);
            let taken = match &error {
                ProviderError::Engine { reason, .. } => taken_port(reason, ports),
                _ => None,
            };
            let Some(port) = taken else { return Err(error) };
            tries += 1;
            if tries == PORT_TRIES {
                return Err(self.port_taken(port, id).await);
            }
            tokio::time::sleep(PORT_PAUSE).await;
        }
    }

    /// Fails where a port is taken by something else than the container that gives way, before that one is stopped: the engine says
    /// it only at the start of the next one. The ports of an engine elsewhere cannot be tried.
    pub(super) async fn require_free_ports(
        &self,
        ports: &[PublishedPort],
        old: &ContainerInspectResponse,
    ) -> Result<(), ProviderError> {
        let host = old.host_config.clone().unwrap_or_default();
        if self.is_remote() || host.network_mode.as_deref() == Some("host") {
            return Ok(());
        }
        let own = published_ports(&host);
        for port in ports.iter().filter(|port| !own.iter().any(|own| own.outside == port.outside)) {
            let address = if port.address.is_empty() { "0.0.0.0" } else { &port.address };
            let bound = TcpListener::bind((address, port.outside));
            if bound.is_err_and(|error| error.kind() == ErrorKind::AddrInUse) {
                return Err(self.port_taken(port.outside, id_of(old)).await);
            }
        }
        Ok(())
    }

    /// Returns the failure of a port that is taken, with the container that publishes it where there is one.
    async fn port_taken(&self, port: u16, own: &str) -> ProviderError {
        match self.port_holder(port, own).await {
            Some(container) => ProviderError::PortPublished { port, container },
            None => ProviderError::PortTaken { port, holder: None },
        }
    }

    /// Returns the name of the container that publishes a port. A question that fails counts as none.
    async fn port_holder(&self, port: u16, own: &str) -> Option<String> {
        let filters = HashMap::from([("publish".to_owned(), vec![port.to_string()])]);
        let options = ListContainersOptionsBuilder::default().filters(&filters).build();
        let listed = self.client.list_containers(Some(options)).await.ok()?;
        let holder = listed.into_iter().find(|container| container.id.as_deref() != Some(own))?;
        Some(holder.names?.first()?.trim_start_matches('/').to_owned())
    }

    /// Stops a container: with its own signal, and after its own grace period with SIGKILL.
    pub(super) async fn stop_container(&self, container: &ContainerInspectResponse) -> Result<(), ProviderError> {
        let id = id_of(container);
        let status = container.state.as_ref().and_then(|state| state.status);
        if status == Some(ContainerStateStatusEnum::PAUSED) {
            // What is paused sees no signal. That it is not paused any more is as good.
            let _ = self.client.unpause_container(id).await;
        }
        let grace = container.config.as_ref().and_then(|config| config.stop_timeout).unwrap_or(10);
        let grace = i32::try_from(grace).unwrap_or(i32::MAX).max(MIN_GRACE_S);
        let options = StopContainerOptionsBuilder::default().t(grace).build();
        match self.client.stop_container(id, Some(options)).await {
            Ok(()) => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(self.failed("stop the container", error)),
        }
        failpoint::hit("provider.docker.stopped");
        Ok(())
    }

    /// Takes a container away, and with it, unless they are to be kept, the volumes without a name that its image asked
    /// for. Named ones stay.
    pub(super) async fn remove_container(&self, id: &str, with_unnamed_volumes: bool) -> Result<(), ProviderError> {
        self.remove_within(id, with_unnamed_volumes, REMOVAL_TIMEOUT).await
    }

    async fn remove_within(&self, id: &str, with_unnamed_volumes: bool, within: Duration) -> Result<(), ProviderError> {
        let deadline = Instant::now() + within;
        loop {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(with_unnamed_volumes).build();
            match self.client.remove_container(id, Some(options)).await {
                Ok(()) => {}
                Err(error) if is_absent(&error) => {}
                // Its removal is under way already, on behalf of a command that was killed.
                Err(error) if is_conflict(&error) && error.to_string().contains("already in progress") => {
                    if Instant::now() >= deadline {
                        return Err(self.failed("remove the container", error));
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                    if inspect_container(self, id).await?.is_some() {
                        continue;
                    }
                }
                Err(error) => return Err(self.failed("remove the container", error)),
            }
            failpoint::hit("provider.docker.container_removed");
            return Ok(());
        }
    }

    /// Gives a container another name.
    pub(super) async fn rename_container(&self, id: &str, name: &str) -> Result<(), ProviderError> {
        let options = RenameContainerOptionsBuilder::default().name(name).build();
        self.client
            .rename_container(id, options)
            .await
            .map_err(|error| self.failed(&format!("rename a container to `{name}`"), error))?;
        failpoint::hit("provider.docker.renamed");
        Ok(())
    }

    /// Changes limits and restart policy, while it runs.
    pub(super) async fn update_limits(&self, id: &str, wanted: &ContainerSpec) -> Result<(), ProviderError> {
        let limits = &wanted.limits;
        let body = ContainerUpdateBody {
            memory: limits.memory,
            memory_swap: limits.memory.filter(|_| limits.no_swap),
            nano_cpus: limits.nano_cpus,
            pids_limit: limits.processes,
            restart_policy: Some(restart(RestartPolicyNameEnum::UNLESS_STOPPED)),
            ..ContainerUpdateBody::default()
        };
        self.client.update_container(id, body).await.map_err(|error| self.failed("change the container's limits", error))
    }

    /// Sees to it that the engine does not start a container by itself.
    pub(super) async fn disable_restart(&self, id: &str) -> Result<(), ProviderError> {
        let body =
            ContainerUpdateBody { restart_policy: Some(restart(RestartPolicyNameEnum::NO)), ..ContainerUpdateBody::default() };
        self.client.update_container(id, body).await.map_err(|error| self.failed("change the restart policy", error))
    }

    /// Puts a container on its networks, under its aliases, and on no other.
    pub(super) async fn reconnect_networks(
        &self,
        container: &ContainerInspectResponse,
        wanted: &ContainerSpec,
    ) -> Result<(), ProviderError> {
        let id = id_of(container);
        let settings = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        for name in settings.into_iter().flat_map(|networks| networks.keys()) {
            let request = NetworkDisconnectRequest { container: id.to_owned(), force: Some(true) };
            match self.client.disconnect_network(name, request).await {
                Ok(()) => {}
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(self.failed("take the container off a network", error)),
            }
        }
        for network in &wanted.networks {
            self.connect_network(id, network, wanted).await?;
        }
        Ok(())
    }

    async fn connect_network(&self, id: &str, network: &str, wanted: &ContainerSpec) -> Result<(), ProviderError> {
        let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(wanted.endpoint()) };
        let connected = self.client.connect_network(network, request).await;
        connected.map_err(|error| self.failed(&format!("put the container on the network `{network}`"), error))
    }
}

fn restart(name: RestartPolicyNameEnum) -> RestartPolicy {
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

/// The port that an engine's words about a failed start speak of.
fn taken_port(reason: &str, ports: &[PublishedPort]) -> Option<u16> {
    if !["already allocated", "address already in use", "ports are not available"].iter().any(|words| reason.contains(words)) {
        return None;
    }
    let named = |port: u16| {
        let text = format!(":{port}");
        reason.match_indices(&text).any(|(at, _)| !reason[at + text.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    ports.iter().map(|port| port.outside).find(|port| named(*port))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::super::desired::PortProtocol;
    use super::super::engine::EngineSource;
    use super::*;

    /// An engine whose containers never go: their removal is always under way.
    fn stuck_engine() -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(request)) = lines.next() else { continue };
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let (status, body) = if request.starts_with("DELETE") {
                    ("409 Conflict", r#"{"message":"removal of container x is already in progress"}"#)
                } else if request.contains("/version") {
                    ("200 OK", r#"{"ApiVersion":"1.44","Version":"27.0"}"#)
                } else if request.contains("/containers/") {
                    ("200 OK", r#"{"Id":"x"}"#)
                } else {
                    ("200 OK", "{}")
                };
                let length = body.len();
                let head = "content-type: application/json\r\nconnection: close";
                let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}");
            }
        });
        address
    }

    #[tokio::test]
    async fn a_removal_that_never_ends_is_not_waited_for_for_ever() {
        let source = EngineSource { host: Some(stuck_engine()), ..EngineSource::default() };
        let engine = Engine::connect(&source).await.unwrap();
        let began = Instant::now();
        let error = engine.remove_within("x", true, Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(&error, ProviderError::Engine { reason, .. } if reason.contains("already in progress")), "{error}");
        assert!(began.elapsed() >= Duration::from_millis(300), "it may end in the meantime");
    }

    #[test]
    fn a_taken_port_is_parsed_from_engine_errors() {
        let port =
            |outside| PublishedPort { inside: 1, transport: PortProtocol::Tcp, address: "127.0.0.1".to_owned(), outside };
        let ports = [port(4210), port(4211)];
        for (reason, taken) in [
            (
                "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:4211 failed: port is already allocated",
                Some(4211),
            ),
            ("listen tcp4 127.0.0.1:4210: bind: address already in use", Some(4210)),
            ("listen tcp4 127.0.0.1:42100: bind: address already in use", None),
            ("no such image at 127.0.0.1:4210", None),
        ] {
            assert_eq!(taken_port(reason, &ports), taken, "{reason}");
        }
    }
}
