//! The real server of a world: started, asked for its address, killed, started again at the same one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::world::{EXECUTABLE, wait_until};

/// A server, while it runs.
pub struct Server {
    child: Child,
    variables: BTreeMap<String, String>,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Makes the first operator token of a home.
    pub fn init(variables: &BTreeMap<String, String>) -> String {
        let output = Command::new(EXECUTABLE).args(["serve", "--init"]).env_clear().envs(variables).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts a server at any free port.
    pub fn start(variables: &BTreeMap<String, String>) -> Self {
        let mut variables = variables.clone();
        // Some stories bring an executable of their own.
        variables.insert("CONVEXINFRA_ALLOW_LOCAL_BINARIES".to_owned(), "1".to_owned());
        Self::spawn(variables, "127.0.0.1:0", &[], Arc::default())
    }

    fn spawn(variables: BTreeMap<String, String>, listen: &str, extra: &[(&str, &str)], log: Arc<Mutex<String>>) -> Self {
        let mut child = Command::new(EXECUTABLE)
            .args(["serve", "--listen", listen])
            .env_clear()
            .envs(&variables)
            .envs(extra.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (found, address) = std::sync::mpsc::channel();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(at) = line.find("listening on http") {
                    let url = line[at + "listening on ".len()..].split_whitespace().next().unwrap_or_default();
                    let _ = found.send(url.to_owned());
                }
                let mut log = lines.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let url = address.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|error| {
            let _ = child.kill();
            panic!("the server does not listen ({error}):\n{}", log.lock().unwrap());
        });
        Self { child, variables, url, log }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for its end, however it comes.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "the server does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What a power cut does to it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// Asks it to stop, and waits for that.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        rustix::process::kill_process(self.pid(), Signal::TERM).unwrap();
        self.wait()
    }

    /// Starts it again where it was, once it has ended.
    pub fn start_again(&mut self, extra: &[(&str, &str)]) {
        assert!(self.has_ended());
        let listen = self.url.strip_prefix("http://").unwrap().to_owned();
        // The system may hold the port for a moment after its process is gone.
        wait_until("the port is free", || std::net::TcpListener::bind(&listen).is_ok());
        *self = Self::spawn(self.variables.clone(), &listen, extra, Arc::clone(&self.log));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
