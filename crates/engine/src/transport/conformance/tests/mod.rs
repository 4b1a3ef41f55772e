//! The suite on every kind of connection there is here, and on connections that are broken on purpose.

mod broken;
mod grounds;

use std::sync::Arc;
use std::time::Duration;

use self::grounds::{Memory, Tcp, Unix};
use super::{Ground, Promise, check};

/// Far more than any check takes, on a machine with other work.
const LIMIT: Duration = Duration::from_mins(1);

fn all_promises_are_kept(ground: impl Ground + 'static, missing: &[Promise]) {
    let ground: Arc<dyn Ground> = Arc::new(ground);
    match check(&ground, LIMIT) {
        Ok(found) => assert_eq!(found, missing),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn memory_keeps_all_promises() {
    all_promises_are_kept(Memory, &[Promise::DescriptorIsTheStream]);
}

#[test]
fn unix_sockets_keep_all_promises() {
    all_promises_are_kept(Unix::new("all"), &[]);
}

#[test]
fn tcp_over_ipv4_keeps_all_promises() {
    all_promises_are_kept(Tcp("127.0.0.1"), &[]);
}

#[test]
fn tcp_over_ipv6_keeps_all_promises() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    all_promises_are_kept(Tcp("::1"), &[]);
}

#[cfg(feature = "tls")]
#[test]
fn tls_with_pinned_certificates_keeps_all_promises() {
    all_promises_are_kept(grounds::Encrypted::pinned(), &[Promise::DescriptorIsTheStream]);
}

#[cfg(feature = "tls")]
#[test]
fn tls_with_a_ca_keeps_all_promises() {
    all_promises_are_kept(grounds::Encrypted::signed(), &[Promise::DescriptorIsTheStream]);
}
