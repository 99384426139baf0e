//! Asking the process on a loopback port who it is.
//!
//! Must not do: send a secret to whoever listens there before it is known who that is.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nobody listens.
    Refused,
    /// Somebody listens and says nothing in time, or nothing that makes sense.
    Silent,
    /// An instance of this name.
    Instance(String),
}

/// A healthy backend answers within milliseconds; a suspended one never does, and `status` waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks for `/instance_name`. One small exchange over loopback: a whole HTTP client would take longer to build
/// than everything else that observing a backend needs.
pub(super) async fn ask(port: u16) -> Answer {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await else { return Answer::Refused };
    match tokio::time::timeout(PATIENCE, exchange(stream, port)).await {
        Ok(Ok(text)) => parse(&text).map_or(Answer::Silent, Answer::Instance),
        _ => Answer::Silent,
    }
}

async fn exchange(mut stream: TcpStream, port: u16) -> std::io::Result<String> {
    let request = format!("GET /instance_name HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(16 * 1024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn parse(text: &str) -> Option<String> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut status = head.lines().next()?.split_ascii_whitespace();
    let is_http = status.next()?.starts_with("HTTP/1.");
    let name = body.trim();
    let plain = !name.is_empty() && name.len() <= 200 && name.chars().all(|c| c.is_ascii_graphic());
    (is_http && status.next()? == "200" && plain).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_a_plain_answer_is_a_name() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\nA: b\r\n\r\napp-dev"), Some("app-dev".to_owned()));
        assert_eq!(parse("HTTP/1.1 404 Not Found\r\n\r\napp-dev"), None);
        assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\n<html> hello"), None);
        assert_eq!(parse("SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(parse(""), None);
    }
}
