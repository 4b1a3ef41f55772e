//! Whose certificate is accepted.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};

use super::identity::{Fingerprint, IdentityError, certificates, read};

/// Whose certificate is accepted. Clones share it.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    /// One of these and no other.
    Pinned(Vec<Fingerprint>),
    /// Signed by a CA; which one, depends on the side that is asked.
    Authority { servers: Arc<WebPkiServerVerifier>, clients: Arc<dyn ClientCertVerifier> },
}

impl Trust {
    /// Certificates with one of these fingerprints, and no others. Names and dates in them do not matter: whoever pins says
    /// that this very key is the peer's, until the pin is taken away.
    pub fn pinned(fingerprints: impl IntoIterator<Item = Fingerprint>) -> Self {
        Self(Arc::new(Kind::Pinned(fingerprints.into_iter().collect())))
    }

    /// Certificates that a CA in this file (PEM) has signed and that are valid today. That of a host that is connected to must be
    /// for the name or address that was asked for.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] if there is no usable certificate.
    pub fn authority_from_file(path: &Path) -> Result<Self, IdentityError> {
        Self::authority(certificates(&read(path)?, Some(path))?)
    }

    /// As [`Trust::authority_from_file`], of a text.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] if there is no usable certificate.
    pub fn authority_from_pem(text: &str) -> Result<Self, IdentityError> {
        Self::authority(certificates(text.as_bytes(), None)?)
    }

    /// Whether a peer that trusts this would accept `shown` at that time, from a host that connects.
    pub(in crate::transport) fn accepts(
        &self,
        shown: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let verifier = Verifier::new(self.clone(), super::provider(), Arc::default());
        verifier.verify_client_cert(shown, &[], now).map(|_| ())
    }

    fn authority(certificates: Vec<CertificateDer<'static>>) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        let mut first = None;
        for certificate in certificates {
            let fingerprint = Fingerprint::of(&certificate);
            first.get_or_insert(fingerprint);
            roots.add(certificate).map_err(|cause| IdentityError::NoAuthority { fingerprint, cause })?;
        }
        let missing = || IdentityError::Missing { what: "certificate", path: None, cause: None };
        let fingerprint = first.ok_or_else(missing)?;
        let unusable = |error: rustls::server::VerifierBuilderError| IdentityError::NoAuthority {
            fingerprint,
            cause: Error::General(error.to_string()),
        };
        let (roots, provider) = (Arc::new(roots), super::provider());
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(unusable)?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots, provider).build().map_err(unusable)?;
        Ok(Self(Arc::new(Kind::Authority { servers, clients })))
    }
}

/// Checks the certificate of one connection's peer, and notes which it was: the error of a refusal names it.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    seen: Arc<OnceLock<Fingerprint>>,
}

impl Verifier {
    pub(super) fn new(trust: Trust, provider: Arc<CryptoProvider>, seen: Arc<OnceLock<Fingerprint>>) -> Self {
        Self { trust, provider, seen }
    }

    /// Notes what was shown; an error if it had to be pinned and is not.
    fn look(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        let fingerprint = *self.seen.get_or_init(|| Fingerprint::of(shown));
        match &*self.trust.0 {
            Kind::Pinned(accepted) if !accepted.contains(&fingerprint) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }
}

/// TLS 1.2 is never offered.
fn too_old() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.look(shown)?;
        match &*self.trust.0 {
            Kind::Pinned(_) => Ok(ServerCertVerified::assertion()),
            Kind::Authority { servers, .. } => servers.verify_server_cert(shown, between, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.look(shown)?;
        match &*self.trust.0 {
            Kind::Pinned(_) => Ok(ClientCertVerified::assertion()),
            Kind::Authority { clients, .. } => clients.verify_client_cert(shown, between, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
