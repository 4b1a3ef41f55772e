//! What went wrong under TLS, in words that say what to do.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::Fingerprint;

/// Why a TLS connection failed. It is the source of the [`io::Error`] that a stream gives.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate is not pinned.
    #[error(
        "the peer shows a certificate that is not known here, {shown}: if its owner confirms this fingerprint, pin it"
    )]
    Unknown {
        /// What it shows.
        shown: Fingerprint,
    },
    /// The peer's certificate is signed by nobody who is trusted.
    #[error("the peer's certificate, {shown}, is not signed by a CA that is trusted here")]
    WrongAuthority {
        /// What it shows.
        shown: Fingerprint,
    },
    /// The peer's certificate is no longer valid.
    #[error("the peer's certificate, {shown}, has expired: it needs a new one")]
    Expired {
        /// What it shows.
        shown: Fingerprint,
    },
    /// The peer's certificate is not valid yet.
    #[error("the peer's certificate, {shown}, is not valid yet: is a clock wrong?")]
    NotYetValid {
        /// What it shows.
        shown: Fingerprint,
    },
    /// The peer's certificate is another host's.
    #[error("the peer's certificate, {shown}, is not for this host: it is for {}", or_nobody(.names))]
    WrongHost {
        /// What it shows.
        shown: Fingerprint,
        /// For which hosts it is.
        names: Vec<String>,
    },
    /// The peer's certificate is wrong in some other way.
    #[error("the peer's certificate, {shown}, is not accepted: {fault}")]
    BadCertificate {
        /// What it shows.
        shown: Fingerprint,
        /// What is wrong with it.
        fault: CertificateError,
    },
    /// The peer shows no certificate.
    #[error("the peer shows no certificate: both sides need one, `whimbrel keygen` makes them")]
    NoCertificate,
    /// The peer does not accept this side's certificate.
    #[error(
        "the peer does not accept this side's certificate, {own} ({alert:?}): it has to pin this fingerprint, or trust \
         the CA that signed it"
    )]
    Refused {
        /// What this side shows.
        own: Fingerprint,
        /// What the peer says.
        alert: AlertDescription,
    },
    /// The peer speaks something else.
    #[error("the peer does not speak TLS: is it reached with tcp: instead?")]
    NotTls,
    /// The peer went before both sides knew each other.
    #[error("the peer closed the connection before both sides knew each other: it may not speak TLS")]
    Left,
    /// The connection ended without a farewell: what came before may not be all.
    #[error("the connection ended without TLS's farewell: the peer is gone, or somebody cut it")]
    Truncated,
    /// A host for which there can be no certificate.
    #[error("`{host}` is neither a host name nor an address")]
    NoName {
        /// What was given.
        host: String,
    },
    /// Something else.
    #[error("TLS failed: {0}")]
    Other(Error),
}

fn or_nobody(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

impl TlsError {
    /// What `error` means on a connection that shows `own`, has been shown `seen`, and is or is not agreed upon.
    pub(super) fn new(error: Error, own: Fingerprint, seen: Option<Fingerprint>, agreed: bool) -> Self {
        match (error, seen) {
            (Error::InvalidCertificate(fault), Some(shown)) => Self::certificate(fault, shown),
            (Error::NoCertificatesPresented, _) => Self::NoCertificate,
            (Error::AlertReceived(alert), _) if is_refusal(alert) => Self::Refused { own, alert },
            (Error::InvalidMessage(_), _) if !agreed => Self::NotTls,
            (error, _) => Self::Other(error),
        }
    }

    fn certificate(fault: CertificateError, shown: Fingerprint) -> Self {
        match fault {
            CertificateError::ApplicationVerificationFailure => Self::Unknown { shown },
            // Of a CA that has the same name as one that is trusted, the signature is what differs.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::WrongAuthority { shown }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired { shown },
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid { shown }
            }
            CertificateError::NotValidForName => Self::WrongHost { shown, names: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongHost { shown, names: presented }
            }
            fault => Self::BadCertificate { shown, fault },
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Left | Self::Truncated => io::ErrorKind::UnexpectedEof,
            Self::NotTls | Self::Other(_) => io::ErrorKind::InvalidData,
            Self::NoName { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::PermissionDenied,
        }
    }
}

/// Whether an alert speaks of the certificate that this side shows.
fn is_refusal(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
    )
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Settings that the library refuses; none of ours does.
impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}
