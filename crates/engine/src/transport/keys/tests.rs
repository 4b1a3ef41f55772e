//! What keygen leaves behind, and what it refuses.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::transport::tls::Identity;
use crate::transport::tls::test_keys::Directory;

fn host(names: &[&str]) -> Kind {
    Kind::Host { names: names.iter().map(|&name| name.to_owned()).collect() }
}

fn what(directory: &Directory, name: &str, kind: Kind) -> Keygen {
    Keygen { directory: directory.0.clone(), name: name.to_owned(), kind, days: 365, overwrite: false }
}

/// The names of all files, hidden ones included.
fn files(directory: &Directory) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&directory.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_is_this_users_alone_and_belongs_to_the_certificate_that_is_named() {
    let directory = Directory::new();
    let made = keygen(&what(&directory, "alpha", host(&["alpha.example", "10.0.0.7"]))).unwrap();
    assert_eq!(files(&directory), ["alpha.key", "alpha.pem"]);
    assert_eq!((mode(&made.key), mode(&made.certificate) & 0o200), (0o600, 0o200));
    let identity = Identity::from_files(&made.certificate, &made.key).unwrap();
    assert_eq!(identity.fingerprint(), made.fingerprint);
    let text = made.fingerprint.to_string();
    assert_eq!((text.len(), text.parse()), (71, Ok(made.fingerprint)));
}

#[test]
fn nothing_is_overwritten_without_being_told_to() {
    let directory = Directory::new();
    let made = keygen(&what(&directory, "alpha", host(&["alpha"]))).unwrap();
    let before = fs::read(&made.certificate).unwrap();
    fs::remove_file(&made.key).unwrap();
    let refused = keygen(&what(&directory, "alpha", host(&["alpha"]))).unwrap_err();
    assert!(refused.to_string().contains("alpha.pem"), "{refused}");
    assert_eq!(fs::read(&made.certificate).unwrap(), before);
    // Not even the half that was free.
    assert_eq!(files(&directory), ["alpha.pem"]);
    let again = Keygen { overwrite: true, ..what(&directory, "alpha", host(&["alpha"])) };
    let made = keygen(&again).unwrap();
    assert_ne!(fs::read(&made.certificate).unwrap(), before);
    assert_eq!(mode(&made.key), 0o600);
    assert!(Identity::from_files(&made.certificate, &made.key).is_ok());
}

#[test]
fn both_files_come_into_being_or_none() {
    let directory = Directory::new();
    let files_to_be = Files::new(&what(&directory, "alpha", host(&["alpha"]))).unwrap();
    // Somebody is faster than the second.
    fs::write(&files_to_be.certificate, "theirs").unwrap();
    assert!(matches!(files_to_be.write("certificate", "key", false), Err(KeygenError::Exists { .. })));
    assert_eq!(files(&directory), ["alpha.pem"]);
    assert_eq!(fs::read_to_string(&files_to_be.certificate).unwrap(), "theirs");
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let directory = Directory::new();
    let refused = |keygen_what: Keygen| keygen(&keygen_what).unwrap_err().to_string();
    assert!(refused(what(&directory, "../alpha", host(&["alpha"]))).contains("`../alpha`"));
    assert!(refused(what(&directory, ".alpha", host(&["alpha"]))).contains("`.alpha`"));
    assert!(refused(what(&directory, "alpha", host(&[]))).contains("needs a name"));
    for name in [
        "",
        " ",
        "alphä",
        "a b",
        "-a",
        "a..b",
        "*.example",
        "10.0.0.300",
        "alpha:7100",
        "[::1]",
        "tcp://alpha",
    ] {
        let wrong = refused(what(&directory, "alpha", host(&["alpha", name])));
        assert!(wrong.contains(&format!("`{name}` is neither")), "{wrong}");
    }
    for days in [0, 36_501] {
        let wrong = Keygen { days, ..what(&directory, "alpha", host(&["alpha"])) };
        assert!(refused(wrong).contains("1 to 36500"));
    }
    assert!(files(&directory).is_empty());
}

#[test]
fn only_a_ca_made_here_signs_and_only_with_its_own_key() {
    let directory = Directory::new();
    let ours = directory.make("ours", Kind::Authority);
    let others = directory.make("others", Kind::Authority);
    let plain = directory.make("plain", host(&["plain"]));
    let signed = |authority: &Made, key: &Made| Kind::Signed {
        names: vec!["alpha".to_owned()],
        authority: authority.certificate.clone(),
        key: key.key.clone(),
    };
    for (authority, key) in [(&ours, &others), (&plain, &plain)] {
        let refused = keygen(&what(&directory, "alpha", signed(authority, key))).unwrap_err();
        assert!(matches!(refused, KeygenError::NotAccepted { .. }), "{refused}");
    }
    assert!(keygen(&what(&directory, "alpha", signed(&ours, &ours))).is_ok());
}

#[test]
fn files_that_do_not_belong_together_are_no_identity() {
    let directory = Directory::new();
    let [alpha, beta] = ["alpha", "beta"].map(|name| directory.make(name, host(&[name])));
    let refused = Identity::from_files(&alpha.certificate, &beta.key).unwrap_err();
    assert!(matches!(refused, IdentityError::Unusable(_)), "{refused}");
    let refused = Identity::from_files(&alpha.key, &alpha.key).unwrap_err();
    assert!(refused.to_string().contains("no certificate") && refused.to_string().contains("alpha.key"));
}
