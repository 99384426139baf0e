//! Connections to deployments, made when first needed.
//!
//! Must not do: load certificates or look for a proxy for a backend on this machine.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::Client;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to deployments, shared by whoever has a clone, made when first needed.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Clients>);

#[derive(Debug, Default)]
struct Clients {
    loopback: OnceLock<Client>,
    remote: OnceLock<Client>,
}

impl Connections {
    pub(super) fn client(&self, url: &str) -> Result<&Client, reqwest::Error> {
        let is_loopback = is_plain_loopback(url);
        let cell = if is_loopback { &self.0.loopback } else { &self.0.remote };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("convexinfra/", env!("CARGO_PKG_VERSION")));
        // A backend on this machine needs neither the system's certificates nor a proxy, which might answer in its place.
        // Nor are its connections kept: it may be stopped and started again between two requests.
        let builder = match is_loopback {
            true => builder.no_proxy().tls_certs_only([]).pool_max_idle_per_host(0),
            false => builder,
        };
        let client = builder.build()?;
        Ok(cell.get_or_init(|| client))
    }
}

fn is_plain_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_rest_of_the_world() {
        for url in ["http://127.0.0.1:3210", "http://localhost:1", "http://[::1]:3210/x", "http://127.9.9.9"] {
            assert!(is_plain_loopback(url), "{url}");
        }
        for url in ["https://127.0.0.1", "http://example.com", "http://10.0.0.1:1", "http://localhost.example.com"] {
            assert!(!is_plain_loopback(url), "{url}");
        }
    }
}
