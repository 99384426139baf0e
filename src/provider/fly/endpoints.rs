//! Where the services are that a driver asks.

use super::transport::Service;
use crate::convex::release::COMMITS;

/// Where the services are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiEndpoints {
    /// Of Fly's Machines API, without the `/v1`.
    pub machines: String,
    /// Of the registry that Convex's images are in.
    pub registry: String,
    /// Of what tells a full commit from its first digits.
    pub commits: String,
}

impl Default for ApiEndpoints {
    fn default() -> Self {
        Self {
            machines: "https://api.machines.dev".to_owned(),
            registry: "https://ghcr.io".to_owned(),
            commits: COMMITS.to_owned(),
        }
    }
}

impl ApiEndpoints {
    /// The same without a trailing slash, and without the version that every path begins with.
    #[must_use]
    pub fn normalized(self) -> Self {
        let base = |url: &str| url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Self { machines: base(&self.machines), ..self }
    }

    /// Where one of them is.
    pub fn base_url(&self, service: Service) -> &str {
        match service {
            Service::Machines => &self.machines,
            Service::Registry => &self.registry,
            Service::Commits => &self.commits,
        }
    }
}
