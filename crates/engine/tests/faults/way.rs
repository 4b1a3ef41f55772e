//! What lies between two drivers, and can be cut: connections within the process, or sockets of the system.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use whimbrel_engine::transport::memory::{Link, MemoryHub};
use whimbrel_engine::transport::open::{Options, connector, listener};
use whimbrel_engine::transport::{Connect, Listen, Stream, TransportError};

use super::between::{Disturbed, Through};

/// Which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Unix,
    Tcp,
    Tls,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Unix => "Unix sockets",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }
}

/// One key for both sides, each of which pins it; made once.
#[cfg(feature = "tls")]
fn tls() -> whimbrel_engine::transport::tls::Tls {
    use std::sync::OnceLock;

    use whimbrel_engine::transport::keys::{Keygen, Kind, keygen};
    use whimbrel_engine::transport::tls::{Identity, Tls, Trust};
    static TLS: OnceLock<Tls> = OnceLock::new();
    let make = || {
        let kind = Kind::Host { names: vec!["localhost".to_owned()] };
        // Its own: another series may go on beside this one.
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-keys-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let name = "faults".to_owned();
        let made = keygen(&Keygen { directory: directory.clone(), name, kind, days: 1, overwrite: true })
            .expect("a key");
        let identity = Identity::from_files(&made.certificate, &made.key).expect("a key");
        std::fs::remove_dir_all(directory).expect("its own");
        Tls::new(identity, Trust::pinned([made.fingerprint]))
    };
    TLS.get_or_init(make).clone()
}

/// Sockets, and what either side is given.
pub(crate) struct Ends {
    pub(crate) way: Way,
    pub(crate) connect: Arc<dyn Connect>,
    pub(crate) listen: Arc<dyn Listen>,
}

/// One of them.
pub(crate) enum Way {
    Memory(MemoryHub),
    Sockets(Arc<Sockets>),
}

impl Way {
    /// Sockets; the ends of a memory hub the world has already.
    pub(crate) fn sockets(kind: Kind) -> Option<Ends> {
        let at = match kind {
            Kind::Memory => return None,
            Kind::Unix => {
                let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
                format!("unix:{}", path.join(format!("faults-{}", std::process::id())).display())
            }
            Kind::Tcp => "tcp:127.0.0.1:0".to_owned(),
            Kind::Tls => "tls:127.0.0.1:0".to_owned(),
        };
        let options = Options {
            #[cfg(feature = "tls")]
            tls: Some(tls()),
            ..Options::default()
        };
        let listen = listener(&at.parse().expect("an address"), &options).expect("it listens");
        let to = connector(&listen.address().parse().expect("an address"), &options);
        let (to, made) = (to.expect("a way"), Mutex::default());
        let sockets = Arc::new(Sockets { to, made, unreachable: AtomicBool::new(false) });
        let connect = Arc::clone(&sockets) as Arc<dyn Connect>;
        Some(Ends { way: Self::Sockets(sockets), connect, listen: Arc::from(listen) })
    }

    /// Connections that were made.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Memory(hub) => hub.links().len(),
            Self::Sockets(sockets) => sockets.made().len(),
        }
    }

    pub(crate) fn set_reachable(&self, reachable: bool) {
        match self {
            Self::Memory(hub) => hub.set_reachable(reachable),
            Self::Sockets(sockets) => sockets.unreachable.store(!reachable, Ordering::Relaxed),
        }
    }

    pub(crate) fn cut(&self, link: usize) {
        match self {
            Self::Memory(hub) => with(&hub.links(), link, Link::cut),
            Self::Sockets(sockets) => with(&sockets.made(), link, |stream| stream.shutdown()),
        }
    }

    /// Where that cannot be told from outside: now.
    pub(crate) fn cut_after(&self, link: usize, bytes: u64) {
        match self {
            Self::Memory(hub) => with(&hub.links(), link, |link| link.cut_after(bytes)),
            Self::Sockets(_) => self.cut(link),
        }
    }

    /// Sockets of the system only end.
    pub(crate) fn stall(&self, link: usize) {
        match self {
            Self::Memory(hub) => with(&hub.links(), link, |link| link.stall(true)),
            Self::Sockets(_) => self.cut(link),
        }
    }
}

fn with<T>(all: &[T], index: usize, act: impl FnOnce(&T)) {
    if let Some(one) = all.get(index) {
        act(one);
    }
}

/// Connections of the system's, which somebody else can end.
pub(crate) struct Sockets {
    to: Box<dyn Connect>,
    made: Mutex<Vec<Arc<dyn Stream>>>,
    unreachable: AtomicBool,
}

impl Sockets {
    fn made(&self) -> Vec<Arc<dyn Stream>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing of them is kept.
    fn forget(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Self::Sockets(sockets) = self {
            sockets.forget();
        }
    }
}

impl Connect for Sockets {
    fn connect(&self, within: Duration) -> Result<Box<dyn Stream>, TransportError> {
        if self.unreachable.load(Ordering::Relaxed) {
            return Err(TransportError::new("unreachable", io::ErrorKind::HostUnreachable.into()));
        }
        let stream: Arc<dyn Stream> = Arc::from(self.to.connect(within)?);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stream));
        Ok(Box::new(Through(Shared(stream))))
    }
}

/// A connection that somebody else holds, too.
struct Shared(Arc<dyn Stream>);

impl Disturbed for Shared {
    fn inner(&self) -> &dyn Stream {
        &*self.0
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.descriptor()
    }
}

/// Whoever drops one ends it, although somebody else holds it: as one that nobody else holds.
impl Drop for Shared {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}
