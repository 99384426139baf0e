//! A real S3 server (versitygw over a folder) as `tests/database/s3-server` builds it: one for the whole run.

use std::fs;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use fixture::{DEADLINE, free_ports, skipped};

/// The keys of the administrator, who may everything.
pub(crate) const ROOT: (&str, &str) = ("root-key-id", "root-secret-key-canary");
/// Those of a user whom policies have to admit.
pub(crate) const WEAK: (&str, &str) = ("weak-key-id", "weak-secret-key-canary");
/// The region that the server is in.
pub(crate) const REGION: &str = "us-east-1";

/// A server that runs until the tests end.
pub(crate) struct S3Server {
    pub(crate) port: u16,
    /// When this closes, the server ends and its directory goes.
    _life: ChildStdin,
}

/// The server, if it is built here.
pub(crate) fn server() -> Option<&'static S3Server> {
    static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
    SERVER.get_or_init(start).as_ref()
}

fn program() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    let built = std::env::var_os("CONVEXINFRA_S3_SERVER");
    let path = built.map_or_else(|| cache.join("convexinfra-ci/s3-1.8.0/versitygw"), PathBuf::from);
    Some(path).filter(|path| path.is_file())
}

fn start() -> Option<S3Server> {
    let Some(program) = program() else {
        let required = std::env::var("CONVEXINFRA_REQUIRE_DATABASES").is_ok_and(|value| value == "1");
        assert!(!required, "the S3 server is needed and not built: run tests/database/s3-server");
        skipped("the S3 server is not built (tests/database/s3-server), so buckets were not tried on a real one");
        return None;
    };
    let folder = tempfile::Builder::new().prefix("convexinfra-s3-").tempdir().unwrap().keep();
    let (data, accounts) = (folder.join("data"), folder.join("accounts"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&accounts).unwrap();
    let (port, _) = free_ports();
    // It lives exactly as long as the other end of its standard input is open, however the tests end.
    let life = format!(
        "trap '' INT TERM; \"$@\" >'{0}/log' 2>&1 </dev/null & server=$!; cat >/dev/null; kill -KILL $server; wait $server; rm -rf '{0}'",
        folder.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &life, "sh"])
        .arg(&program)
        .args(["--quiet", "--port", &format!("127.0.0.1:{port}"), "--region", REGION, "--iam-dir"])
        .arg(&accounts)
        .arg("posix")
        .arg(&data)
        .env("ROOT_ACCESS_KEY_ID", ROOT.0)
        .env("ROOT_SECRET_ACCESS_KEY", ROOT.1)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = S3Server { port, _life: child.stdin.take().unwrap() };
    // Ended by itself, see above.
    std::mem::forget(child);
    let started = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(started.elapsed() < DEADLINE, "the S3 server does not answer: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let made = Command::new(&program)
        .args(["admin", "--endpoint-url", &format!("http://127.0.0.1:{port}"), "create-user", "--role", "user"])
        .args(["--access", WEAK.0, "--secret", WEAK.1])
        .env("ADMIN_ACCESS_KEY_ID", ROOT.0)
        .env("ADMIN_SECRET_ACCESS_KEY", ROOT.1)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}{}", String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    Some(server)
}

impl S3Server {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn send(&self, method: &str, name: &str, key: &str, query: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let bucket = Bucket::new(self.url().parse().unwrap(), UrlStyle::Path, name.to_owned(), REGION).unwrap();
        let credentials = Credentials::new(ROOT.0, ROOT.1);
        let lifetime = Duration::from_secs(60);
        // Without a key it is about the bucket.
        let url = match method {
            "GET" => {
                let mut action = bucket.get_object(Some(&credentials), key);
                query.iter().for_each(|(name, value)| action.query_mut().insert((*name).to_owned(), (*value).to_owned()));
                action.sign(lifetime)
            }
            _ => {
                let mut action = bucket.put_object(Some(&credentials), key);
                query.iter().for_each(|(name, value)| action.query_mut().insert((*name).to_owned(), (*value).to_owned()));
                action.sign(lifetime)
            }
        };
        let body = body.to_vec();
        super::story::block(async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let answer = client.request(method.parse().unwrap(), url).body(body).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    pub(crate) fn make(&self, bucket: &str) {
        let made = self.send("PUT", bucket, "", &[], b"");
        assert_eq!(made.0, 200, "{made:?}");
    }

    pub(crate) fn put(&self, bucket: &str, key: &str, content: &[u8]) {
        let made = self.send("PUT", bucket, key, &[], content);
        assert_eq!(made.0, 200, "{made:?}");
    }

    pub(crate) fn policy(&self, bucket: &str, policy: &serde_json::Value) {
        let set = self.send("PUT", bucket, "", &[("policy", "")], policy.to_string().as_bytes());
        assert!([200, 204].contains(&set.0), "{set:?}");
    }

    /// The keys in a bucket; none where it is not there.
    pub(crate) fn keys(&self, bucket: &str) -> Option<Vec<String>> {
        let (status, body) = self.send("GET", bucket, "", &[("list-type", "2")], b"");
        let key = |part: &str| part.split("</Key>").next().unwrap().to_owned();
        (status == 200).then(|| body.split("<Key>").skip(1).map(key).collect())
    }
}
