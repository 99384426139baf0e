//! A raw HTTP/1.1 client: sends the bytes that it is given, and reads one response within a deadline.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest wait for a response: a guard against hanging, and longer than any server of these tests gives a request.
const DEADLINE: Duration = fixture::DEADLINE;
/// The size of the largest response that is read, in bytes.
const MAX_RESPONSE: usize = 4 << 20;

/// One response as it arrived.
#[derive(Debug, Default)]
pub(crate) struct RawResponse {
    /// 0 when the connection was closed without a response.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl RawResponse {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let is_it = |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.head.lines().find(is_it).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }

    /// The code of the first error of the document in the body.
    pub(crate) fn code(&self) -> String {
        let document: Value = serde_json::from_str(&self.body).unwrap_or_default();
        document["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The head and the body of a request, written by hand.
#[derive(Debug, Clone)]
pub(crate) struct RawRequest {
    line: String,
    headers: String,
    body: Vec<u8>,
}

impl RawRequest {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self { line: format!("{method} {target} HTTP/1.1"), headers: "Host: control.test\r\n".to_owned(), body: Vec::new() }
    }

    /// Asks under another name than the one that stands for all servers here.
    pub(crate) fn host(self, host: &str) -> Self {
        Self { headers: self.headers.replace("Host: control.test", &format!("Host: {host}")), ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn token(self, token: Option<&str>) -> Self {
        match token {
            Some(token) => self.header("Authorization", &format!("Bearer {token}")),
            None => self,
        }
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        let request = self.header("Content-Type", "application/json").header("Content-Length", &body.len().to_string());
        Self { body, ..request }
    }

    /// Adds bytes behind the head, which may announce other ones.
    pub(crate) fn bytes(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [format!("{}\r\n{}\r\n", self.line, self.headers).as_bytes(), &self.body].concat()
    }

    pub(crate) fn send(&self, address: SocketAddr) -> RawResponse {
        exchange(address, &self.to_bytes())
    }
}

/// Sends bytes and reads one response.
fn exchange(address: SocketAddr, bytes: &[u8]) -> RawResponse {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes);
    read_response(&mut stream)
}

/// Reads the head of a response whose body may have no end, and returns its status.
pub(crate) fn read_head(stream: &mut TcpStream) -> u16 {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).unwrap().parse().unwrap()
}

/// Reads one response, to its announced length or to the end of the connection.
pub(crate) fn read_response(stream: &mut TcpStream) -> RawResponse {
    let started = Instant::now();
    let (mut received, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        if let Some(response) = parse(&received, false) {
            return response;
        }
        let left = DEADLINE.saturating_sub(started.elapsed());
        assert!(!left.is_zero() && received.len() < MAX_RESPONSE, "no whole response: {}", String::from_utf8_lossy(&received));
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        match stream.read(&mut piece) {
            Ok(0) => return parse(&received, true).unwrap_or_default(),
            Ok(length) => received.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return parse(&received, true).unwrap_or_default();
            }
            Err(error) => panic!("no response within {DEADLINE:?}: {error}"),
        }
    }
}

fn parse(bytes: &[u8], is_over: bool) -> Option<RawResponse> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let response = RawResponse { status, head: head.to_owned(), body: body.to_owned() };
    let length = response.header("content-length").and_then(|length| length.parse::<usize>().ok());
    let is_whole = match (status, length) {
        (204 | 304, _) => true,
        (_, Some(length)) => body.len() >= length,
        (_, None) => body.ends_with("\r\n0\r\n\r\n") || body.ends_with("0\r\n\r\n"),
    };
    (is_whole || is_over).then_some(response)
}
