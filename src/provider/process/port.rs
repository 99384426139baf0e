//! Checks whether ports of this machine are free. No port is kept, and nothing is sent to a listener.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::port_holder::port_holder;
use crate::model::PortPair;
use crate::provider::ProviderError;

/// Returns whether a process accepts connections on this port.
pub(super) async fn is_listening(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
        // Without a listener, TCP may connect a port out of the ephemeral range to itself.
        Ok(Ok(stream)) => stream.local_addr().ok() != stream.peer_addr().ok(),
        _ => false,
    }
}

/// Binds a port without listening on it. A child that another thread is just starting has a copy of every socket until
/// it becomes its program, and a copy that listened would look like another process on the backend's port.
fn bind(port: u16) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

/// Refuses when one of the ports is taken. Binding alone is not enough: macOS lets a process bind the loopback
/// address of a port on whose wildcard address another process already listens.
pub(super) async fn require_free(ports: PortPair) -> Result<(), ProviderError> {
    for port in [ports.api, ports.site] {
        match bind(port) {
            Ok(socket) => drop(socket),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(taken(port)),
            Err(error) => return Err(ProviderError::Unreachable(format!("port {port} cannot be listened on: {error}"))),
        }
        if is_listening(port).await {
            return Err(taken(port));
        }
    }
    Ok(())
}

fn taken(port: u16) -> ProviderError {
    ProviderError::PortTaken { port, holder: port_holder(port) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_is_taken_by_a_listener_only() {
        let (api, site) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("0.0.0.0:0").unwrap());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let ports = PortPair { api: port(&api), site: port(&site) };
        let taken = async || match require_free(ports).await {
            Err(ProviderError::PortTaken { port, .. }) => Some(port),
            other => other.map(|()| None).unwrap(),
        };
        assert_eq!(taken().await, Some(ports.api));
        drop(api);
        assert_eq!(taken().await, Some(ports.site));
        drop(site);
        // Like the copies of a child that is being started during another check.
        let _copies = (bind(ports.api).unwrap(), bind(ports.site).unwrap());
        assert_eq!(taken().await, None);
        assert!(TcpListener::bind(("127.0.0.1", ports.api)).is_ok());
    }
}
