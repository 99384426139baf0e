//! What the client makes of servers that are no Convex deployment, and the simulator of clients that are no clients.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use convexinfra::convex::deployment::{Deployment, DeploymentClient, DeploymentError};
use convexinfra::convex::readiness::{Readiness, probe_readiness};

use super::backend::{NAME, Place, admin_key};

/// Answers every connection with these bytes, and ends with the test's process.
fn server(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer);
        }
    });
    url
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn foreign_servers_are_recognized() {
    let html = b"<html>\n<h1>It works!</h1>\n</html>".to_vec();
    let deployment = |bytes| Deployment::new(&DeploymentClient::default(), server(bytes), Some(admin_key()));

    let page = deployment(answer("200 OK", &html));
    assert!(matches!(page.instance_name().await, Err(DeploymentError::NotConvex { .. })));
    assert!(matches!(page.check_admin_key().await, Err(DeploymentError::NotConvex { .. })));
    let endless = deployment(answer("200 OK", &vec![b'x'; 9 << 20]));
    assert!(matches!(endless.environment().await, Err(DeploymentError::NotConvex { .. })));
    let failing = deployment(answer("500 Oops", &html));
    assert!(matches!(failing.check_admin_key().await, Err(DeploymentError::Refused { status: 500, code: None, .. })));
    // The key must not follow a redirection to somewhere else.
    let moved = deployment(answer("302 Found\r\nLocation: http://127.0.0.1:1/", b""));
    assert!(matches!(moved.check_admin_key().await, Err(DeploymentError::Refused { status: 302, .. })));
    let torn = deployment(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec());
    assert!(matches!(torn.version().await, Err(DeploymentError::NoResponse { .. })));
    let noise = server(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec());
    assert!(matches!(probe_readiness(&DeploymentClient::default(), &noise, NAME, &admin_key()).await, Readiness::Failing(_)));
}

#[tokio::test]
async fn an_old_build_is_asked_for_its_variables_in_the_old_way() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 4096]);
            let length = stream.read(&mut request).unwrap();
            let said = match String::from_utf8_lossy(&request[..length]).starts_with("POST /api/query ") {
                true => answer("200 OK", br#"{"status":"success","value":[{"name":"A","value":"b","_id":"x"}]}"#),
                false => answer("404 Not Found", b""),
            };
            stream.write_all(&said).unwrap();
        }
    });
    let deployment = Deployment::new(&DeploymentClient::default(), url, Some(admin_key()));
    assert_eq!(deployment.environment().await.unwrap()["A"].expose(), "b");
}

#[tokio::test]
async fn malformed_requests_are_refused_without_harm() {
    let place = Place::new();
    let mut backend = place.start(&place.setup()).await;
    let key = admin_key().expose().to_owned();
    let token = "{%22objectKey%22:%22../../x%22,%22filepath%22:%22/etc/passwd%22}";
    for (request, status) in [
        ("GET /api/export/zip/../../etc/passwd".to_owned(), "404"),
        ("GET /api/export/zip/18446744073709551616".to_owned(), "400"),
        ("GET /api/export/zip/1".to_owned(), "404"),
        ("POST /api/import?format=zip&mode=append".to_owned(), "400"),
        ("POST /api/import/upload_part?uploadToken=nonsense&partNumber=1".to_owned(), "400"),
        ("POST /api/import/upload_part?uploadToken=x&partNumber=-1".to_owned(), "400"),
        // A forged token names no file: bytes go nowhere but into the database.
        (format!("POST /api/import/upload_part?uploadToken={token}&partNumber=1"), "200"),
        ("POST /api/deploy2/start_push".to_owned(), "400"),
        ("GET /api/1.0/sync".to_owned(), "400"),
        ("GET /api/check_admin_key?adminKey=x".to_owned(), "200"),
        ("BREW /".to_owned(), "405"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", backend.api)).unwrap();
        let rest = format!("Host: x\r\nConnection: close\r\nAuthorization: Convex {key}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(format!("{request} HTTP/1.1\r\n{rest}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    let mut noise = TcpStream::connect(("127.0.0.1", backend.api)).unwrap();
    noise.write_all(&[0xff; 64]).unwrap();
    assert!(backend.is_running());
    assert_eq!(backend.interrupt().code(), Some(0));
    assert!(!place.text().contains(&key), "no key in the log");
}
