//! `tls` of a backend: that its origins are routes of convexinfra's own proxy, and where their certificates come from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::secret::SecretRef;

/// The source of the certificates of a backend's routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteTls {
    /// Public authorities, by ACME.
    Auto,
    /// The proxy's own authority, which nothing trusts by itself.
    Internal,
    /// Files of the user's own, in PEM.
    Certificate {
        /// The certificate, with those that lead to its issuer.
        cert: SecretRef,
        /// Its private key.
        key: SecretRef,
    },
}

impl RouteTls {
    /// The words of the manifest.
    pub const WORDS: [&'static str; 2] = ["auto", "internal"];
    /// The field of the source itself.
    pub const FIELD: &'static str = "tls";
    /// The field of the certificate.
    pub const CERT: &'static str = "tls.cert";
    /// The field of its private key.
    pub const KEY: &'static str = "tls.key";
}

impl fmt::Display for RouteTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Internal => "internal",
            Self::Certificate { .. } => "certificate",
        })
    }
}
