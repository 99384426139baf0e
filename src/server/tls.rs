//! TLS: a certificate and its key from files, and what clients are offered with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, crypto};

/// A certificate with its key.
#[derive(Clone)]
pub struct Certificate(TlsAcceptor);

/// Says why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read as what it should be.
    #[error("`{path}` could not be read as {what}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// `certificates` or `a private key`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The two do not go together.
    #[error("the certificate `{certificate}` and the key `{key}` cannot be used together")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl Certificate {
    /// Reads a certificate, with those that lead to its issuer, and its key, both as PEM.
    ///
    /// # Errors
    /// [`TlsError`] says which file cannot be used.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let failed = |path: &Path, what, why: String| TlsError::File { path: path.to_owned(), what, why };
        let what = "certificates";
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(|error| failed(certificate, what, error.to_string()))?;
        if chain.is_empty() {
            return Err(failed(certificate, what, "there is none in it".to_owned()));
        }
        // What is wrong with a key may quote it.
        let pair = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| {
            let why = match error {
                rustls::pki_types::pem::Error::Io(error) => error.to_string(),
                _ => "there is none in it, in PEM".to_owned(),
            };
            failed(key, "a private key", why)
        })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.0
    }
}
