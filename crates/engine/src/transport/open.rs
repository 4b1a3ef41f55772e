//! From an address, as people write it, to connections.
//!
//! Called by the command line and by embedders that let their users choose. Whoever knows the kind makes a connector of it
//! directly.

use super::tcp::{TcpConnector, TcpListener, TcpOptions};
#[cfg(feature = "tls")]
use super::tls::{Tls, TlsConnector, TlsListener};
use super::unix::{UnixConnector, UnixListener};
use super::{Address, Connect, Listen, TransportError};

/// All that connections may need, whichever kind they are.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// For TCP, plain or under TLS.
    pub tcp: TcpOptions,
    /// Who this side is under TLS and whom it trusts.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

/// Connections to `to`. Nothing is connected yet.
///
/// # Errors
///
/// [`TransportError`] if the options lack what this kind of address needs.
pub fn connector(to: &Address, options: &Options) -> Result<Box<dyn Connect>, TransportError> {
    match to {
        Address::Tcp(at) => Ok(Box::new(TcpConnector::new(at.clone(), options.tcp))),
        Address::Unix(path) => Ok(Box::new(UnixConnector::new(path))),
        #[cfg(feature = "tls")]
        Address::Tls(at) => {
            let tls = options.tls.clone().ok_or_else(|| no_tls(to))?;
            Ok(Box::new(TlsConnector::new(at.clone(), options.tcp, tls)))
        }
        #[cfg(not(feature = "tls"))]
        Address::Tls(_) => Err(no_tls(to)),
    }
}

/// Listens at `at`.
///
/// # Errors
///
/// [`TransportError`] if it cannot, or if the options lack what this kind of address needs.
pub fn listener(at: &Address, options: &Options) -> Result<Box<dyn Listen>, TransportError> {
    match at {
        Address::Tcp(port) => Ok(Box::new(TcpListener::bind(port, options.tcp)?)),
        Address::Unix(path) => Ok(Box::new(UnixListener::bind(path)?)),
        #[cfg(feature = "tls")]
        Address::Tls(port) => {
            let tls = options.tls.clone().ok_or_else(|| no_tls(at))?;
            Ok(Box::new(TlsListener::bind(port, options.tcp, tls)?))
        }
        #[cfg(not(feature = "tls"))]
        Address::Tls(_) => Err(no_tls(at)),
    }
}

fn no_tls(address: &Address) -> TransportError {
    let what = if cfg!(feature = "tls") {
        "TLS needs a certificate, its key, and whom to trust: the peer's fingerprint or a CA"
    } else {
        "this program was built without TLS (feature `tls`)"
    };
    let cause = std::io::Error::new(std::io::ErrorKind::InvalidInput, what);
    TransportError::new(format!("{address} cannot be used"), cause)
}
