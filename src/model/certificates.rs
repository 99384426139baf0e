//! Certificates of authorities, as they travel: the text itself, never a path.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::fingerprint::Digest;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// How many hex digits of a digest tell two apart where they are shown.
const SHOWN_DIGITS: usize = 12;

/// The certificates of a PEM text and nothing else of it: a file may also have a private key, and that stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Certificates(String);

/// Why a text is of no use as certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificatesError {
    /// It is larger than any collection of authorities.
    #[error("it has more than {} KiB, the most that certificates have", Certificates::MAX_BYTES >> 10)]
    TooLarge,
    /// Nothing in it is a certificate.
    #[error("there is no certificate in it")]
    None,
    /// What stands between the marks of one is not base64.
    #[error("certificate {0} in it is damaged")]
    Damaged(usize),
}

impl Certificates {
    /// The most bytes that a text of certificates has.
    pub const MAX_BYTES: usize = 256 << 10;

    /// Takes the certificates out of a text.
    ///
    /// # Errors
    /// [`CertificatesError`] when there is none, or too much.
    pub fn parse(text: &str) -> Result<Self, CertificatesError> {
        if text.len() > Self::MAX_BYTES {
            return Err(CertificatesError::TooLarge);
        }
        let mut kept = String::new();
        let mut body: Option<String> = None;
        let mut count = 0;
        for line in text.lines().map(str::trim_end) {
            match &mut body {
                None if line == BEGIN => {
                    count += 1;
                    body = Some(String::new());
                }
                None => continue,
                Some(encoded) if line == END => {
                    if encoded.is_empty() || STANDARD.decode(&encoded).is_err() {
                        return Err(CertificatesError::Damaged(count));
                    }
                    body = None;
                }
                Some(encoded) => encoded.push_str(line.trim()),
            }
            kept.push_str(line);
            kept.push('\n');
        }
        match (count, body) {
            (_, Some(_)) => Err(CertificatesError::Damaged(count)),
            (0, None) => Err(CertificatesError::None),
            (_, None) => Ok(Self(kept)),
        }
    }

    /// Returns the PEM text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns their digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// Returns a part of their digest that tells them from others.
    pub fn short_digest(&self) -> String {
        Self::shortened(&self.digest())
    }

    /// Returns the part of a digest that is shown.
    pub fn shortened(digest: &Digest) -> String {
        digest.as_str().chars().skip("sha256:".len()).take(SHOWN_DIGITS).collect()
    }
}

/// Says which they are: a plan shows no text of that length.
impl fmt::Display for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short_digest())
    }
}

impl TryFrom<String> for Certificates {
    type Error = CertificatesError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Certificates> for String {
    fn from(certificates: Certificates) -> Self {
        certificates.0
    }
}

/// The file that a manifest names with `tls.ca`, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFile {
    /// Its absolute path.
    pub path: String,
    /// Why it cannot be used, where it cannot.
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";

    #[test]
    fn only_certificates_are_kept() {
        let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        let found = Certificates::parse(&format!("# authority\r\n{key}{}{key}{ONE}", ONE.replace('\n', "\r\n"))).unwrap();
        assert_eq!(found.as_str(), format!("{ONE}{ONE}"));
        assert_eq!(Certificates::parse(found.as_str()), Ok(found.clone()), "it reads what it writes");
        assert_eq!(found.to_string().len(), "sha256:".len() + SHOWN_DIGITS);
    }

    #[test]
    fn anything_else_is_refused_on_the_wire_as_well() {
        let unended = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        for (text, why) in [
            ("", CertificatesError::None),
            ("/etc/shadow", CertificatesError::None),
            (unended, CertificatesError::Damaged(1)),
            (&format!("{ONE}{}", ONE.replace("AAAA", "§")), CertificatesError::Damaged(2)),
            (&ONE.replace("AAAA\nBBBB\n", ""), CertificatesError::Damaged(1)),
            (&"x".repeat(Certificates::MAX_BYTES + 1), CertificatesError::TooLarge),
        ] {
            assert_eq!(Certificates::parse(text), Err(why));
            let document = serde_json::Value::String(text.to_owned());
            assert!(serde_json::from_value::<Certificates>(document).is_err(), "{why}");
        }
    }
}
