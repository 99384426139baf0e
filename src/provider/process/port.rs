//! Whether a port of this machine is free.
//!
//! Must not do: keep a port, or send anything to whoever listens there.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::model::PortPair;
use crate::provider::ProviderError;

/// Whether somebody accepts connections on this port.
pub(super) async fn is_listening(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
        // Where nobody listens, TCP may connect a port out of the ephemeral range to itself.
        Ok(Ok(stream)) => stream.local_addr().ok() != stream.peer_addr().ok(),
        _ => false,
    }
}

/// Takes a port without listening on it. A child that another thread is just starting has a copy of every socket until
/// it becomes its program, and a copy that listened would pose as a stranger, or keep the backend from its port.
fn bind(port: u16) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

/// Fails when one of the ports is taken. Binding alone would not do: macOS lets a process bind the loopback
/// address of a port whose wildcard address somebody else already listens on.
pub(super) async fn require_free(ports: PortPair) -> Result<(), ProviderError> {
    for port in [ports.api, ports.site] {
        match bind(port) {
            Ok(socket) => drop(socket),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(ProviderError::PortTaken { port }),
            Err(error) => return Err(ProviderError::Unreachable(format!("port {port} cannot be listened on: {error}"))),
        }
        if is_listening(port).await {
            return Err(ProviderError::PortTaken { port });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_is_taken_by_who_listens_and_by_nobody_else() {
        let (api, site) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("0.0.0.0:0").unwrap());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let ports = PortPair { api: port(&api), site: port(&site) };
        let taken = async || match require_free(ports).await {
            Err(ProviderError::PortTaken { port }) => Some(port),
            other => other.map(|()| None).unwrap(),
        };
        assert_eq!(taken().await, Some(ports.api));
        drop(api);
        assert_eq!(taken().await, Some(ports.site));
        drop(site);
        // As a child has it that was begun in the middle of another look.
        let _copies = (bind(ports.api).unwrap(), bind(ports.site).unwrap());
        assert_eq!(taken().await, None);
        assert!(TcpListener::bind(("127.0.0.1", ports.api)).is_ok());
    }
}
