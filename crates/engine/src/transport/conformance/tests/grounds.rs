//! Connections of each kind, at places of their own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::transport::conformance::{Ground, Opened};
use crate::transport::memory::MemoryHub;
use crate::transport::tcp::{TcpConnector, TcpListener, TcpOptions};
use crate::transport::unix::{UnixConnector, UnixListener};
use crate::transport::{Address, Connect, HostPort, Listen, TransportError};

pub(super) struct Memory;

impl Ground for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn open(&self) -> Result<Opened, TransportError> {
        let hub = MemoryHub::new();
        Ok((Box::new(hub.listen()?), Box::new(hub.connector())))
    }

    fn nobody(&self) -> Result<Box<dyn Connect>, TransportError> {
        Ok(Box::new(MemoryHub::new().connector()))
    }
}

/// In a directory of its own, which goes with it.
pub(super) struct Unix {
    directory: PathBuf,
    sockets: AtomicU32,
}

impl Unix {
    pub(super) fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("whimbrel-transport-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self { directory, sockets: AtomicU32::new(0) }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(self.sockets.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Ground for Unix {
    fn name(&self) -> &'static str {
        "unix"
    }

    fn open(&self) -> Result<Opened, TransportError> {
        let path = self.path();
        Ok((Box::new(UnixListener::bind(&path)?), Box::new(UnixConnector::new(path))))
    }

    fn nobody(&self) -> Result<Box<dyn Connect>, TransportError> {
        Ok(Box::new(UnixConnector::new(self.path())))
    }
}

/// At this address.
pub(super) struct Tcp(pub(super) &'static str);

/// Where a listener is that was told to take any port.
fn port_of(listener: &dyn Listen) -> HostPort {
    match listener.address().parse() {
        Ok(Address::Tcp(at) | Address::Tls(at)) => at,
        other => panic!("{other:?} is no address of a port"),
    }
}

/// A port that was free a moment ago.
fn free_port(host: &str) -> HostPort {
    let listener = std::net::TcpListener::bind((host, 0)).unwrap();
    HostPort { host: host.to_owned(), port: listener.local_addr().unwrap().port() }
}

impl Ground for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn open(&self) -> Result<Opened, TransportError> {
        let listener =
            TcpListener::bind(&HostPort { host: self.0.to_owned(), port: 0 }, TcpOptions::default())?;
        let at = port_of(&listener);
        Ok((Box::new(listener), Box::new(TcpConnector::new(at, TcpOptions::default()))))
    }

    fn nobody(&self) -> Result<Box<dyn Connect>, TransportError> {
        Ok(Box::new(TcpConnector::new(free_port(self.0), TcpOptions::default())))
    }
}

#[cfg(feature = "tls")]
pub(super) use self::encrypted::Encrypted;

#[cfg(feature = "tls")]
mod encrypted {
    use super::{Connect, Ground, HostPort, Opened, TcpOptions, TransportError, free_port, port_of};
    use crate::transport::tls::test_keys::{Keys, Signed};
    use crate::transport::tls::{Tls, TlsConnector, TlsListener};

    /// Two hosts that trust each other.
    pub(in super::super) struct Encrypted {
        listens: Tls,
        connects: Tls,
    }

    impl Encrypted {
        pub(in super::super) fn pinned() -> Self {
            let [near, far] = [Keys::host("near", &["127.0.0.1"]), Keys::host("far", &["127.0.0.1"])];
            Self { listens: near.tls(&far.pin()), connects: far.tls(&near.pin()) }
        }

        pub(in super::super) fn signed() -> Self {
            let signed = Signed::new("suite", &["127.0.0.1"]);
            Self { listens: signed.near.tls(&signed.trust), connects: signed.far.tls(&signed.trust) }
        }
    }

    impl Ground for Encrypted {
        fn name(&self) -> &'static str {
            "tls"
        }

        fn open(&self) -> Result<Opened, TransportError> {
            let at = HostPort { host: "127.0.0.1".to_owned(), port: 0 };
            let listener = TlsListener::bind(&at, TcpOptions::default(), self.listens.clone())?;
            let at = port_of(&listener);
            let connector = TlsConnector::new(at, TcpOptions::default(), self.connects.clone());
            Ok((Box::new(listener), Box::new(connector)))
        }

        fn nobody(&self) -> Result<Box<dyn Connect>, TransportError> {
            let at = free_port("127.0.0.1");
            Ok(Box::new(TlsConnector::new(at, TcpOptions::default(), self.connects.clone())))
        }
    }
}
