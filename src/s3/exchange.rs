//! One request to an S3 service: to an address that the policy allows, through no proxy and no redirect, within a deadline
//! and a limit.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode, redirect};
use url::{Host, Url};

use crate::model::{HostPolicy, error_chain};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a whole exchange may take.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// The most that an answer may have: 1,000 objects with the longest keys.
const ANSWER_MAX: usize = 4 << 20;

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The region that the service says the bucket is in.
    pub(super) region: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The policy forbids every address of the host.
    Forbidden,
    /// It is larger than an answer may be.
    TooLarge,
    /// Anything else.
    Network(String),
}

/// Sends requests to a service.
pub(super) struct Exchange {
    policy: HostPolicy,
    /// Where a host is that only the networks of containers know.
    beside: Option<(String, IpAddr)>,
}

impl Exchange {
    pub(super) fn new(policy: HostPolicy) -> Self {
        Self { policy, beside: None }
    }

    /// Connects to this address instead of looking this host up here.
    pub(super) fn beside(self, host: &str, address: IpAddr) -> Self {
        Self { beside: Some((host.to_owned(), address)), ..self }
    }

    pub(super) async fn send(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<Answer, Failure> {
        let exchanged = self.exchange(method, url, body);
        let too_long = || Failure::Network(format!("it did not answer within {} s", EXCHANGE_TIMEOUT.as_secs()));
        tokio::time::timeout(EXCHANGE_TIMEOUT, exchanged).await.unwrap_or_else(|_| Err(too_long()))
    }

    async fn exchange(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<Answer, Failure> {
        // A URL with a signature is a secret for as long as the signature holds.
        let failed = |error: reqwest::Error| Failure::Network(error_chain(&error.without_url()));
        let client = self.client(&url).await?;
        let mut request = client.request(method, url);
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(failed)?;
        let region = response.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
        let (status, region) = (response.status(), region.map(super::error::one_line));
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > ANSWER_MAX {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, region, body })
    }

    /// A client that connects to the addresses that the host has now, as far as they are allowed.
    async fn client(&self, url: &Url) -> Result<Client, Failure> {
        let port = url.port_or_known_default().unwrap_or(443);
        let beside = match (url.host(), &self.beside) {
            (Some(Host::Domain(name)), Some((host, address))) if host == name => Some(*address),
            _ => None,
        };
        let (host, addresses): (String, Vec<SocketAddr>) = match url.host() {
            None => return Err(Failure::Network("the URL names no host".to_owned())),
            Some(Host::Ipv4(address)) => (address.to_string(), vec![(address, port).into()]),
            Some(Host::Ipv6(address)) => (address.to_string(), vec![(address, port).into()]),
            Some(Host::Domain(name)) if beside.is_some() => {
                (name.to_owned(), beside.into_iter().map(|address| (address, port).into()).collect())
            }
            Some(Host::Domain(name)) => {
                let found = tokio::net::lookup_host((name, port)).await.map_err(|error| Failure::Network(error.to_string()))?;
                (name.to_owned(), found.collect())
            }
        };
        let is_allowed = |address: &SocketAddr| match beside {
            Some(_) => self.policy.allows_inside(&host, address.ip()),
            None => self.policy.allows(&host, address.ip()),
        };
        let allowed: Vec<SocketAddr> = addresses.iter().copied().filter(is_allowed).collect();
        if addresses.is_empty() {
            return Err(Failure::Network(format!("the name {host} has no address")));
        }
        if allowed.is_empty() {
            return Err(Failure::Forbidden);
        }
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .resolve_to_addrs(&host, &allowed);
        client.build().map_err(|error| Failure::Network(error_chain(&error)))
    }
}
