//! Whether a port of this machine is free.
//!
//! Must not do: keep a port, or send anything to whoever listens there.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::model::PortPair;
use crate::provider::ProviderError;

/// Whether somebody accepts connections on this port.
pub(super) async fn listens(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
        // Where nobody listens, TCP may connect a port out of the ephemeral range to itself.
        Ok(Ok(stream)) => stream.local_addr().ok() != stream.peer_addr().ok(),
        _ => false,
    }
}

/// Fails when one of the ports is taken. Binding alone would not do: macOS lets a process bind the loopback
/// address of a port whose wildcard address somebody else already listens on.
pub(super) async fn require_free(ports: PortPair) -> Result<(), ProviderError> {
    for port in [ports.api, ports.site] {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => drop(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(ProviderError::PortTaken { port }),
            Err(error) => return Err(ProviderError::Unreachable(format!("port {port} cannot be listened on: {error}"))),
        }
        if listens(port).await {
            return Err(ProviderError::PortTaken { port });
        }
    }
    Ok(())
}
