//! Ports of this machine that lead to a backend on a server.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::dashboard;
use super::engine::Engine;
use super::inventory::inspect_container;
use super::labels::{ResourceNames, ResourceRole};
use super::{Docker, ProviderError};
use crate::model::{BackendId, BackendSpec, InstanceName, error_chain};
use crate::provider::kit::tunnel;

/// How long it is waited before a server is asked again that could not be reached.
const AGAIN_AFTER: Duration = Duration::from_secs(20);

/// A part of a backend that has a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardPart {
    /// The API.
    Api,
    /// The HTTP actions.
    Site,
    /// The dashboard beside it.
    Dashboard,
}

impl ForwardPart {
    fn words(self) -> &'static str {
        match self {
            Self::Api => "the API",
            Self::Site => "the HTTP actions",
            Self::Dashboard => "the dashboard",
        }
    }

    /// The flag that tells a backend its port.
    fn flag(self) -> Option<&'static str> {
        match self {
            Self::Api => Some("--port"),
            Self::Site => Some("--site-proxy-port"),
            Self::Dashboard => None,
        }
    }
}

/// What is forwarded to this machine.
#[derive(Debug, Clone, Copy)]
pub struct ServerForward<'a> {
    /// The identity of the backend.
    pub id: &'a BackendId,
    /// What its process calls itself.
    pub instance_name: &'a InstanceName,
    /// What it is.
    pub spec: &'a BackendSpec,
    /// The parts, each with the port of this machine.
    pub ports: &'a [(ForwardPart, u16)],
}

impl Docker {
    /// Forwards ports of this machine to a backend on a server until an error ends it. A connection that is lost is made again.
    ///
    /// # Errors
    /// [`ProviderError`] when the server is not reached at first, nothing runs there, or a port of this machine is taken.
    pub async fn forward(
        &self,
        target: &ServerForward<'_>,
        tell: impl Fn(String) + Clone + Send + Sync + 'static,
    ) -> Result<(), ProviderError> {
        let mut engine = self.engine_of(target.spec).await?;
        let names = ResourceNames::new(target.id, target.instance_name);
        let mut listeners = Vec::new();
        for (part, outside) in target.ports {
            let container = match part {
                ForwardPart::Dashboard => names.container(ResourceRole::Dashboard),
                ForwardPart::Api | ForwardPart::Site => names.backend(),
            };
            let inside = inside_port(&engine, &container, *part).await?;
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, *outside)).await;
            let listener = bound.map_err(|_| ProviderError::PortTaken { port: *outside, holder: None })?;
            tell(format!("forwards 127.0.0.1:{outside} to {} of `{container}`", part.words()));
            listeners.push((listener, container, inside));
        }
        loop {
            let ports: Vec<_> = listeners
                .iter()
                .filter_map(|(listener, container, port)| Some((listener, engine.container_port(container, *port)?.1)))
                .collect();
            let serving = ports.into_iter().map(|(listener, port)| tunnel::serve(listener, port, tell.clone()));
            let Some(link) = engine.link.clone() else { return Ok(()) };
            tokio::select! {
                _ = futures_util::future::join_all(serving) => return Ok(()),
                () = link.connection.ended() => tell("the connection was lost, and is made again".to_owned()),
            }
            engine = loop {
                match self.engine_of(target.spec).await {
                    Ok(engine) => break engine,
                    Err(error) => tell(error_chain(&error)),
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            };
        }
    }
}

/// Returns the port on which a part listens inside its container, as its command line says it.
async fn inside_port(engine: &Engine, container: &str, part: ForwardPart) -> Result<u16, ProviderError> {
    let missing = || ProviderError::Unsupported(format!("there is no container `{container}` on the server to forward to"));
    let seen = inspect_container(engine, container).await?.ok_or_else(missing)?;
    let Some(flag) = part.flag() else { return Ok(dashboard::INSIDE) };
    let words = seen.config.and_then(|config| config.cmd).unwrap_or_default();
    let port = words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1)?.parse().ok());
    port.ok_or_else(|| {
        ProviderError::Unsupported(format!("the command of `{container}` does not say which port {} has", part.words()))
    })
}
