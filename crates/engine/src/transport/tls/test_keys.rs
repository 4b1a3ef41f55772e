//! Hosts with keys, for tests: made by keygen in a directory that goes again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Identity, Tls, Trust};
use crate::transport::keys::{Keygen, Kind, keygen};

/// A directory that goes with it.
pub(in crate::transport) struct Directory(pub(in crate::transport) PathBuf);

impl Directory {
    pub(in crate::transport) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("whimbrel-keys-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(in crate::transport) fn make(&self, name: &str, kind: Kind) -> crate::transport::keys::Made {
        let directory = self.0.clone();
        keygen(&Keygen { directory, name: name.to_owned(), kind, days: 30, overwrite: false }).unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// A host's certificate and key.
pub(in crate::transport) struct Keys(pub(in crate::transport) Identity);

impl Keys {
    /// Signed by itself.
    pub(in crate::transport) fn host(name: &str, names: &[&str]) -> Self {
        let directory = Directory::new();
        let made = directory.make(name, Kind::Host { names: owned(names) });
        Self(Identity::from_files(&made.certificate, &made.key).unwrap())
    }

    pub(in crate::transport) fn pin(&self) -> Trust {
        Trust::pinned([self.0.fingerprint()])
    }

    pub(in crate::transport) fn tls(&self, trust: &Trust) -> Tls {
        Tls::new(self.0.clone(), trust.clone())
    }
}

/// Two hosts whose certificates one CA has signed.
pub(in crate::transport) struct Signed {
    pub(in crate::transport) near: Keys,
    pub(in crate::transport) far: Keys,
    pub(in crate::transport) trust: Trust,
}

impl Signed {
    pub(in crate::transport) fn new(name: &str, names: &[&str]) -> Self {
        let directory = Directory::new();
        let authority = directory.make(name, Kind::Authority);
        let host = |name| {
            let (certificate, key) = (authority.certificate.clone(), authority.key.clone());
            let made =
                directory.make(name, Kind::Signed { names: owned(names), authority: certificate, key });
            Keys(Identity::from_files(&made.certificate, &made.key).unwrap())
        };
        let trust = Trust::authority_from_file(&authority.certificate).unwrap();
        Self { near: host("near"), far: host("far"), trust }
    }
}
