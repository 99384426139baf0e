//! A web server that fails in the ways in which downloads fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How the next answer goes wrong. When none is left, answers are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Half of the body, then the connection is closed.
    Cut,
    /// Half of the body, then nothing more.
    Stall,
    /// The length that is announced is one more than what comes.
    WrongLength,
    /// Status 503.
    Busy,
    /// The part that was asked for is ignored and everything is sent.
    IgnoreRange,
    /// Another part than the one that was asked for.
    OtherPart,
    /// Status 302 to this URL.
    RedirectTo(&'static str),
}

pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    files: Vec<(String, Vec<u8>)>,
    faults: VecDeque<Fault>,
    etag: bool,
    requests: Vec<String>,
}

impl Server {
    pub async fn start(files: Vec<(String, Vec<u8>)>, faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let faults = faults.iter().copied().collect();
        let state = Arc::new(Mutex::new(State { files, faults, etag: true, requests: Vec::new() }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state }
    }

    pub fn without_etag(self) -> Self {
        self.state.lock().unwrap().etag = false;
        self
    }

    /// What was asked for, as `path` or `path from byte`.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub fn put(&self, path: &str, body: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.files.retain(|(known, _)| known != path);
        state.files.push((path.to_owned(), body.to_owned()));
    }
}

async fn answer(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split_ascii_whitespace().nth(1).unwrap().to_owned();
    let range = request.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let from = range.map(|range| range.trim_end_matches('-').parse::<usize>().unwrap());
    let (body, fault, etag) = {
        let mut state = state.lock().unwrap();
        state.requests.push(from.map_or(path.clone(), |from| format!("{path} from {from}")));
        let body = state.files.iter().find(|(known, _)| *known == path).map(|(_, body)| body.clone());
        let fault = if body.is_some() { state.faults.pop_front() } else { None };
        (body, fault, if state.etag { "ETag: \"one\"\r\n" } else { "" })
    };
    let Some(body) = body else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        return;
    };
    if fault == Some(Fault::Busy) {
        let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        return;
    }
    if let Some(Fault::RedirectTo(url)) = fault {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        return;
    }
    let start = match (from, fault) {
        (None, _) | (_, Some(Fault::IgnoreRange)) => 0,
        (Some(_), Some(Fault::OtherPart)) => 1,
        (Some(from), _) => from,
    };
    let part = &body[start..];
    let status = match start {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => format!("HTTP/1.1 206 Part\r\nContent-Range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len()),
    };
    let length = part.len() + usize::from(fault == Some(Fault::WrongLength));
    let head = format!("{status}Content-Length: {length}\r\n{etag}Connection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let sent = if matches!(fault, Some(Fault::Cut | Fault::Stall)) { &part[..part.len() / 2] } else { part };
    let _ = stream.write_all(sent).await;
    let _ = stream.flush().await;
    if fault == Some(Fault::Stall) {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}
