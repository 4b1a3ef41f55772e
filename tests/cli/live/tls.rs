//! Over TLS, with keys that `whimbrel keygen` made.

use std::os::unix::fs::PermissionsExt as _;

use super::process::{receive, send};
use super::{json, with_guest};
use crate::run::Fresh;

/// Makes a key; gives its fingerprint.
fn keygen(fresh: &Fresh, args: &[&str]) -> String {
    let made = json(&fresh.ok(&[&["keygen"], args, &["--format", "json"]].concat()));
    made["fingerprint"].as_str().expect("a text").to_owned()
}

#[test]
fn a_guest_moves_between_two_who_have_pinned_each_other() {
    let fresh = with_guest();
    let [here, there] = ["here", "there"].map(|name| keygen(&fresh, &[name]));
    let mode = std::fs::metadata(fresh.path("here.key")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let of = |name: &'static str, peer: &str| {
        let [cert, key] = [".pem", ".key"].map(|end| format!("{name}{end}"));
        ["--tls-cert".into(), cert, "--tls-key".into(), key, "--tls-peer".into(), peer.to_owned()]
    };
    let (ours, theirs) = (of("here", &there), of("there", &here));
    let [ours, theirs] = [&ours, &theirs].map(|args| args.iter().map(String::as_str).collect::<Vec<_>>());
    let receiving =
        receive(&fresh, &[&["--listen", "tls:127.0.0.1:0", "--for", "50ms"], &theirs[..]].concat());
    // Somebody who trusts another key, and somebody whom nobody here trusts.
    let other = keygen(&fresh, &["other"]);
    for args in [of("here", &other), of("other", &there)] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = send(&fresh, &receiving, &args).end();
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        assert!(ended.err.contains("certificate"), "{}", ended.err);
    }
    let sent = send(&fresh, &receiving, &[&ours[..], &["--streams", "2"]].concat()).end();
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    let received = receiving.end();
    assert_eq!(received.code, Some(0), "{}", received.err);
    assert!(received.out.contains("holds what the guest's registers say"), "{}", received.out);
    // Whom it has refused it says, to compare and pin.
    let mut away = received.err.lines().filter(|line| line.contains("was turned away"));
    assert!(away.any(|line| line.contains(&other)), "{other}:\n{}", received.err);
}

#[test]
fn a_guest_moves_between_two_whom_a_ca_has_signed() {
    let fresh = with_guest();
    keygen(&fresh, &["ca", "--ca"]);
    for name in ["here", "there"] {
        keygen(&fresh, &[name, "--for", "127.0.0.1", "--signed-by", "ca"]);
    }
    let args = |name: &'static str| match name {
        "here" => ["--tls-cert", "here.pem", "--tls-key", "here.key", "--tls-ca", "ca.pem"],
        _ => ["--tls-cert", "there.pem", "--tls-key", "there.key", "--tls-ca", "ca.pem"],
    };
    let there =
        receive(&fresh, &[&["--listen", "tls:127.0.0.1:0", "--for", "50ms"], &args("there")[..]].concat());
    assert_eq!(send(&fresh, &there, &args("here")).end().code, Some(0));
    assert_eq!(there.end().code, Some(0));
}

#[test]
fn keys_are_not_overwritten_and_wrong_ones_refused() {
    let fresh = with_guest();
    let first = keygen(&fresh, &["a"]);
    let ended = fresh.run(&["keygen", "a"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("a.pem is there already"), "{}", ended.err);
    assert_ne!(keygen(&fresh, &["a", "--force"]), first);
    let refused = |args: &[&str], says: &str| {
        let ended = fresh.run(args);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{says}:\n{}", ended.err);
    };
    refused(&["keygen", ".a"], "no name for a file");
    refused(&["keygen", "b", "--days", "0"], "accepted is a whole number from 1 to 36500");
    refused(&["keygen", "b", "--for", "h\u{f6}st"], "`h\u{f6}st` is neither a host name nor an address");
    refused(&["keygen", "b", "--signed-by", "missing"], "missing.pem");
    let receive = ["receive", "--guest", "guest.toml", "--listen", "tls:127.0.0.1:0", "--store", "store"];
    let with = |more: &[&'static str]| [&receive[..], more].concat();
    refused(&with(&[]), "TLS needs a certificate");
    refused(&with(&["--tls-cert", "a.pem"]), "--tls-key");
    refused(&with(&["--tls-cert", "a.pem", "--tls-key", "a.key"]), "--tls-peer or --tls-ca");
    refused(
        &with(&["--tls-cert", "a.pem", "--tls-key", "a.key", "--tls-peer", "sha256:12"]),
        "64 hexadecimal digits",
    );
    refused(
        &with(&["--tls-cert", "a.key", "--tls-key", "a.key", "--tls-ca", "a.pem"]),
        "no certificate in PEM",
    );
}
