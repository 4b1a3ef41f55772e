//! TLS 1.3 over TCP, both sides with certificates.
//!
//! Each side shows a certificate and accepts the other's only if it is pinned by its [`Fingerprint`] or signed by a CA that was
//! named ([`Trust`]). Roots of the system count for nothing, there is no older version, no resumption and no unencrypted start.
//! `whimbrel keygen` ([`super::keys`]) makes what is needed.
//!
//! A connection that ends without TLS's own farewell is an error (`UnexpectedEof`), not an end: somebody between may have cut it.

mod error;
mod identity;
mod session;
#[cfg(test)]
pub(in crate::transport) mod test_keys;
mod trust;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

pub use self::error::TlsError;
pub use self::identity::{Fingerprint, FingerprintError, Identity, IdentityError};
use self::session::TlsStream;
pub use self::trust::Trust;
use self::trust::Verifier;
use super::socket::Socket;
use super::tcp::{Guard, Port, TcpOptions, dial};
use super::{Connect, HostPort, Listen, Stream, TransportError};
use crate::clock::Deadline;

/// Ring's algorithms, passed explicitly: nothing depends on what else is in the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Who this side is, and whom it trusts. Clones share both.
#[derive(Clone, Debug)]
pub struct Tls {
    identity: Identity,
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// This side shows `identity` and accepts whom `trust` says.
    pub fn new(identity: Identity, trust: Trust) -> Self {
        Self { identity, trust, provider: provider() }
    }

    /// A verifier of one connection, and where it puts the fingerprint that it saw.
    fn verifier(&self) -> (Arc<Verifier>, Arc<OnceLock<Fingerprint>>) {
        let seen = Arc::new(OnceLock::new());
        let verifier = Verifier::new(self.trust.clone(), Arc::clone(&self.provider), Arc::clone(&seen));
        (Arc::new(verifier), seen)
    }

    fn client(&self, socket: Socket, peer: SocketAddr, host: &str) -> Result<TlsStream, TlsError> {
        let (verifier, seen) = self.verifier();
        let certified = SingleCertAndKey::from(Arc::clone(&self.identity.certified));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(certified));
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| TlsError::NoName { host: host.to_owned() })?;
        let session = Connection::Client(ClientConnection::new(Arc::new(config), name)?);
        Ok(TlsStream::new(socket, session, peer, seen, self.identity.fingerprint()))
    }

    fn server(&self, socket: Socket, peer: SocketAddr) -> Result<TlsStream, TlsError> {
        let (verifier, seen) = self.verifier();
        let certified = SingleCertAndKey::from(Arc::clone(&self.identity.certified));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(certified));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let session = Connection::Server(ServerConnection::new(Arc::new(config))?);
        Ok(TlsStream::new(socket, session, peer, seen, self.identity.fingerprint()))
    }
}

/// Makes TLS connections to one host.
#[derive(Clone, Debug)]
pub struct TlsConnector {
    to: HostPort,
    options: TcpOptions,
    tls: Tls,
}

impl TlsConnector {
    /// Connections to `to`. Nothing is resolved or connected yet. Where a CA is trusted, the peer's certificate must be for this host.
    pub fn new(to: HostPort, options: TcpOptions, tls: Tls) -> Self {
        Self { to, options, tls }
    }

    fn dial(&self, within: Duration) -> io::Result<TlsStream> {
        let deadline = Deadline::within(Some(within));
        let (socket, peer) = dial(&self.to, &self.options, Guard::Anywhere, within)?;
        let stream = self.tls.client(socket, peer, &self.to.host)?;
        stream.set_patience(deadline.left(), deadline.left())?;
        stream.agree()?;
        stream.set_patience(None, None)?;
        Ok(stream)
    }
}

impl Connect for TlsConnector {
    /// The peer's certificate is checked here. Whether the peer accepts this side's shows in the first read.
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        match self.dial(within) {
            Ok(stream) => Ok(Box::new(stream)),
            Err(cause) => Err(TransportError::new(format!("cannot connect to tls:{}", self.to), cause)),
        }
    }
}

/// Takes TLS connections. The certificates are checked in the first call that reads or writes.
#[derive(Debug)]
pub struct TlsListener {
    port: Port,
    options: TcpOptions,
    tls: Tls,
}

impl TlsListener {
    /// Listens at `at`; the first of its addresses that can be had.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if it cannot listen there.
    pub fn bind(at: &HostPort, options: TcpOptions, tls: Tls) -> Result<Self, TransportError> {
        let port = Port::bind(at, &options, Guard::Anywhere)
            .map_err(|cause| TransportError::new(format!("cannot listen at tls:{at}"), cause))?;
        Ok(Self { port, options, tls })
    }
}

impl Listen for TlsListener {
    fn accept(&self, within: Duration) -> Result<Option<Box<dyn Stream>>, TransportError> {
        let failed = |cause| {
            TransportError::new(format!("no more connections can be taken at {}", self.address()), cause)
        };
        let Some((socket, peer)) = self.port.accept(&self.options, within).map_err(failed)? else {
            return Ok(None);
        };
        let stream = self.tls.server(socket, peer).map_err(|cause| failed(cause.into()))?;
        Ok(Some(Box::new(stream)))
    }

    fn address(&self) -> String {
        format!("tls:{}", self.port.local)
    }
}

#[cfg(test)]
mod tests;
