//! A certificate with its key, and the fingerprint by which it is known.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// SHA-256 of a certificate in its binary form, as `openssl x509 -fingerprint -sha256` gives it. Written as `sha256:` and 64
/// hexadecimal digits; read with or without the prefix, with or without colons between.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in its binary form (DER).
    pub fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a fingerprint: {fault}; accepted is sha256: and 64 hexadecimal digits, as `whimbrel keygen` prints"
)]
pub struct FingerprintError {
    /// The text.
    pub value: String,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(value: &str) -> Result<Self, FingerprintError> {
        let wrong = |fault| FingerprintError { value: value.to_owned(), fault };
        let lower = value.trim().to_ascii_lowercase();
        let digits: Vec<u8> =
            lower.strip_prefix("sha256:").unwrap_or(&lower).bytes().filter(|&byte| byte != b':').collect();
        if digits.len() != 64 {
            return Err(wrong("it has not 64 digits"));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(wrong("a digit is not hexadecimal"));
            };
            *byte = (high * 16 + low) as u8;
        }
        Ok(Self(bytes))
    }
}

/// A certificate with its private key. Clones share both; the key shows in no output.
#[derive(Clone)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}

/// Why certificates or a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file was not read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// What was read holds no such thing.
    #[error("no {what} in PEM format found{}", place(.path.as_deref()))]
    Missing {
        /// A certificate, or a private key.
        what: &'static str,
        /// In which file, if it was one.
        path: Option<PathBuf>,
        /// What the parser says.
        #[source]
        cause: Option<pem::Error>,
    },
    /// Certificate and key do not belong together, or are of a kind that is not known here.
    #[error("certificate and private key cannot be used together")]
    Unusable(#[source] rustls::Error),
    /// A certificate that no other can be checked against.
    #[error("the certificate with {fingerprint} cannot be trusted as a CA")]
    NoAuthority {
        /// Which.
        fingerprint: Fingerprint,
        /// Why not.
        #[source]
        cause: rustls::Error,
    },
}

fn place(path: Option<&Path>) -> String {
    path.map(|path| format!(" in {}", path.display())).unwrap_or_default()
}

impl Identity {
    /// From files in PEM format, as [`crate::transport::keys::keygen`] writes them: the certificate, followed by those between it
    /// and the CA if there are any, and its key.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let certificates = certificates(&read(certificate)?, Some(certificate))?;
        Self::new(certificates, private_key(&read(key)?, Some(key))?)
    }

    /// From texts in PEM format, as [`Identity::from_files`].
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let certificates = certificates(certificate.as_bytes(), None)?;
        Self::new(certificates, private_key(key.as_bytes(), None)?)
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, IdentityError> {
        let shown = chain.first().map(|first| Fingerprint::of(first));
        let missing = IdentityError::Missing { what: "certificate", path: None, cause: None };
        let fingerprint = shown.ok_or(missing)?;
        let certified =
            CertifiedKey::from_der(chain, key, &super::provider()).map_err(IdentityError::Unusable)?;
        Ok(Self { certified: Arc::new(certified), fingerprint })
    }

    /// By which the peer knows this certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|cause| IdentityError::Unreadable { path: path.to_owned(), cause })
}

/// All certificates of a text, at least one.
pub(super) fn certificates(
    text: &[u8],
    path: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let missing =
        |cause| IdentityError::Missing { what: "certificate", path: path.map(Path::to_owned), cause };
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|cause| missing(Some(cause)))?;
    if found.is_empty() { Err(missing(None)) } else { Ok(found) }
}

fn private_key(text: &[u8], path: Option<&Path>) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|cause| IdentityError::Missing {
        what: "private key",
        path: path.map(Path::to_owned),
        cause: Some(cause),
    })
}
