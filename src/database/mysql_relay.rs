//! A relay between the MySQL driver and a server that others named, which bounds what the server sends during the login.
//!
//! Without TLS the driver encrypts the password with a public key that the server sends. It computes with a key of any size, for
//! years if need be, and no deadline ends that: it holds a thread and not a connection. The driver takes no stream of ours, so
//! the bound is put between the two.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::message_headers::MessageHeaders;

/// The most bytes of one packet before the driver sends its first command: a key of 8,192 bits has 1,450.
const MAX_LOGIN_PACKET: usize = 2048;
/// How much is passed on at once.
const PIECE: usize = 64 << 10;

/// Returns an address of this machine at which the server of this connection is reached, once and within a time.
pub(super) async fn start(server: TcpStream, within: Duration) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let Ok(Ok((driver, _))) = tokio::time::timeout(within, listener.accept()).await else { return };
        drop(listener);
        // Why it ended early is what the driver sees: the end of the connection.
        let _ = relay(driver, server).await;
    });
    Ok(address)
}

async fn relay(driver: TcpStream, server: TcpStream) -> Result<(), Error> {
    driver.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_driver, to_driver), (from_server, to_server)) = (driver.into_split(), server.into_split());
    // The driver numbers the packets of a login on from the server's first one. Each command begins again with 0.
    let is_logged_in = AtomicBool::new(false);
    let up = pass(from_driver, to_server, |packet| {
        if packet.sequence == 0 {
            is_logged_in.store(true, Ordering::Release);
        }
        Ok(())
    });
    let down = pass(from_server, to_driver, |packet| {
        if packet.length <= MAX_LOGIN_PACKET || is_logged_in.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidData, "the server sent a packet that no login has"))
    });
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// The header of a packet: three bytes of length, which counts the body only, and a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PacketHeader {
    length: usize,
    sequence: u8,
}

impl PacketHeader {
    const fn read([low, middle, high, sequence]: [u8; 4]) -> Self {
        Self { length: u32::from_le_bytes([low, middle, high, 0]) as usize, sequence }
    }
}

/// Passes bytes on in one direction until they end or a packet is refused.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    check: impl Fn(PacketHeader) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut headers, mut piece) = (MessageHeaders::new(), vec![0; PIECE]);
    loop {
        let length = from.read(&mut piece).await?;
        let bytes = piece.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        headers.follow(bytes, |header| {
            let packet = PacketHeader::read(header);
            check(packet).map(|()| packet.length)
        })?;
        to.write_all(bytes).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u8, length: usize) -> Vec<u8> {
        let [low, middle, high, _] = u32::try_from(length).unwrap().to_le_bytes();
        [&[low, middle, high, sequence], vec![7; length].as_slice()].concat()
    }

    #[test]
    fn headers_are_found_in_any_pieces() {
        let bytes = [packet(0, 0), packet(1, 1), packet(2, 70_000), packet(3, 5)].concat();
        for piece in [1, 3, 4, 5, 100_000] {
            let (mut headers, seen) = (MessageHeaders::new(), std::cell::RefCell::new(Vec::new()));
            let note = |header| {
                let packet = PacketHeader::read(header);
                seen.borrow_mut().push((packet.sequence, packet.length));
                Ok(packet.length)
            };
            bytes.chunks(piece).for_each(|part| headers.follow(part, note).unwrap());
            assert_eq!(seen.into_inner(), [(0, 0), (1, 1), (2, 70_000), (3, 5)], "{piece}");
        }
    }

    /// Returns both ends of a relay: the driver's and the server's.
    async fn ends() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let outgoing = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (TcpStream::connect(start(outgoing, Duration::from_secs(10)).await.unwrap()).await.unwrap(), server)
    }

    #[tokio::test]
    async fn a_login_has_small_packets_and_commands_have_any() {
        let (mut driver, mut server) = ends().await;
        let login = [packet(0, 90), packet(2, MAX_LOGIN_PACKET)].concat();
        server.write_all(&login).await.unwrap();
        let mut received = vec![0; login.len()];
        driver.read_exact(&mut received).await.unwrap();
        assert!(received == login);
        driver.write_all(&packet(0, 9)).await.unwrap();
        server.read_exact(&mut [0; 13]).await.unwrap();
        let rows = packet(1, 200_000);
        server.write_all(&rows).await.unwrap();
        let mut received = vec![0; rows.len()];
        driver.read_exact(&mut received).await.unwrap();
        assert!(received == rows);
    }

    #[tokio::test]
    async fn a_login_with_a_larger_packet_ends() {
        let (mut driver, mut server) = ends().await;
        driver.write_all(&packet(1, 32)).await.unwrap();
        server.write_all(&packet(0, MAX_LOGIN_PACKET + 1)).await.unwrap();
        let mut received = Vec::new();
        // A connection that is cut off may be reset.
        let _ = driver.read_to_end(&mut received).await;
        assert!(received.is_empty(), "{} bytes came through", received.len());
    }
}
