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
    /// One authority, by ACME.
    Acme {
        /// `staging`, or the URL of its directory.
        directory: String,
        /// The certificate in PEM that its own endpoint is trusted by, where that is none of the public ones.
        root: Option<SecretRef>,
    },
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
    /// The field of the directory of an authority.
    pub const ACME: &'static str = "tls.acme";
    /// The field of the certificate that an authority is trusted by.
    pub const ROOT: &'static str = "tls.root";
    /// The word for Let's Encrypt's staging authority, whose limits are wide and whose certificates nothing trusts.
    pub const STAGING: &'static str = "staging";

    /// Returns what the manifest names as the authority.
    pub fn acme(&self) -> Option<&str> {
        match self {
            Self::Acme { directory, .. } => Some(directory),
            Self::Auto | Self::Internal | Self::Certificate { .. } => None,
        }
    }
}

impl fmt::Display for RouteTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Internal => "internal",
            Self::Acme { .. } => "acme",
            Self::Certificate { .. } => "certificate",
        })
    }
}
