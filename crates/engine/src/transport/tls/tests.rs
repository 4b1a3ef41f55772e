//! What TLS does beyond the suite: who is let in, what is said to who is not, and what a cut looks like.

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::thread;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::test_keys::{Keys, Signed};
use super::*;

const SOON: Duration = Duration::from_secs(10);

fn local(port: u16) -> HostPort {
    HostPort { host: "127.0.0.1".to_owned(), port }
}

fn listen(tls: Tls) -> (TlsListener, HostPort) {
    let listener = TlsListener::bind(&local(0), TcpOptions::default(), tls).unwrap();
    let at = local(listener.port.local.port());
    (listener, at)
}

/// What each side sees of a connection on which a byte goes to the listener and back: the cause of the error, in words.
fn meet(listens: Tls, connects: Tls) -> (Result<String, String>, Result<String, String>) {
    let (listener, at) = listen(listens);
    let near = thread::spawn(move || {
        let connector = TlsConnector::new(at, TcpOptions::default(), connects);
        let near = connector.connect(SOON).map_err(|error| error.cause.to_string())?;
        exchange(&*near)
    });
    let far = listener.accept(SOON).unwrap().unwrap();
    far.set_patience(Some(SOON), Some(SOON)).unwrap();
    let far = exchange(&*far);
    (near.join().unwrap(), far)
}

/// Gives the peer's name if a byte went each way.
fn exchange(stream: &dyn Stream) -> Result<String, String> {
    // Who is refused may learn it in either call.
    stream.write(&[IoSlice::new(b"x")]).map_err(|error| error.to_string())?;
    match stream.read(&mut [0; 8]) {
        Ok(1) => Ok(stream.peer()),
        Ok(count) => Err(format!("{count} bytes came")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn who_is_pinned_is_known_by_the_fingerprint() {
    let [near, far] = ["near", "far"].map(|name| Keys::host(name, &["127.0.0.1"]));
    let (connects, listens) = meet(far.tls(&near.pin()), near.tls(&far.pin()));
    assert!(connects.unwrap().contains(&far.0.fingerprint().to_string()));
    assert!(listens.unwrap().contains(&near.0.fingerprint().to_string()));
}

#[test]
fn a_host_that_is_not_pinned_is_refused_and_both_sides_say_which_it_was() {
    let [near, far, other] = ["near", "far", "other"].map(|name| Keys::host(name, &["127.0.0.1"]));
    let (connects, listens) = meet(far.tls(&near.pin()), near.tls(&other.pin()));
    let (shown, said) = (far.0.fingerprint().to_string(), connects.unwrap_err());
    assert!(said.contains(&shown) && said.contains("not known here"), "{said}");
    let said = listens.unwrap_err();
    assert!(said.contains(&shown) && said.contains("does not accept this side's"), "{said}");
}

#[test]
fn a_caller_that_is_not_pinned_is_refused_and_both_sides_say_which_it_was() {
    let [near, far, other] = ["near", "far", "other"].map(|name| Keys::host(name, &["127.0.0.1"]));
    let (connects, listens) = meet(far.tls(&other.pin()), near.tls(&far.pin()));
    let (shown, said) = (near.0.fingerprint().to_string(), listens.unwrap_err());
    assert!(said.contains(&shown) && said.contains("not known here"), "{said}");
    let said = connects.unwrap_err();
    assert!(said.contains(&shown) && said.contains("does not accept this side's"), "{said}");
}

#[test]
fn hosts_of_one_ca_know_each_other_and_hosts_of_two_do_not() {
    let ours = Signed::new("ours", &["127.0.0.1"]);
    let others = Signed::new("others", &["127.0.0.1"]);
    let (connects, listens) = meet(ours.far.tls(&ours.trust), ours.near.tls(&ours.trust));
    assert!(connects.is_ok() && listens.is_ok(), "{connects:?} {listens:?}");
    let (connects, listens) = meet(others.far.tls(&others.trust), ours.near.tls(&ours.trust));
    let said = connects.unwrap_err();
    assert!(said.contains("not signed by a CA that is trusted here"), "{said}");
    assert!(said.contains(&others.far.0.fingerprint().to_string()), "{said}");
    assert!(listens.unwrap_err().contains("does not accept this side's"));
    let (connects, listens) = meet(ours.far.tls(&ours.trust), others.near.tls(&ours.trust));
    let said = listens.unwrap_err();
    assert!(said.contains("not signed by a CA that is trusted here"), "{said}");
    assert!(connects.unwrap_err().contains("does not accept this side's"));
}

#[test]
fn a_host_whose_certificate_is_for_another_is_refused() {
    let signed = Signed::new("ca", &["elsewhere.example"]);
    let (connects, _) = meet(signed.far.tls(&signed.trust), signed.near.tls(&signed.trust));
    let said = connects.unwrap_err();
    assert!(said.contains("not for this host") && said.contains("elsewhere.example"), "{said}");
}

/// A host with a certificate that a CA has signed for other years than this one.
fn of_years(from: i32, to: i32) -> (Keys, Trust) {
    let [signing, key] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let mut authority = CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&signing).unwrap();
    let mut host = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (host.not_before, host.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let shown = host.signed_by(&key, &rcgen::Issuer::from_params(&authority, &signing)).unwrap();
    let identity = Identity::from_pem(&shown.pem(), &key.serialize_pem()).unwrap();
    (Keys(identity), Trust::authority_from_pem(&root.pem()).unwrap())
}

#[test]
fn a_certificate_that_is_not_valid_today_is_refused_by_a_ca_and_not_by_a_pin() {
    let near = Keys::host("near", &["127.0.0.1"]);
    for (years, wrong) in [((2001, 2002), "has expired"), ((2090, 2091), "not valid yet")] {
        let (far, trust) = of_years(years.0, years.1);
        let (connects, _) = meet(far.tls(&near.pin()), near.tls(&trust));
        let said = connects.unwrap_err();
        assert!(said.contains(wrong) && said.contains(&far.0.fingerprint().to_string()), "{said}");
        let (connects, listens) = meet(far.tls(&near.pin()), near.tls(&far.pin()));
        assert!(connects.is_ok() && listens.is_ok());
    }
}

/// A caller that shows no certificate, and believes whatever it is shown.
fn anonymous(trust: &Trust) -> ClientConnection {
    let verifier = Verifier::new(trust.clone(), provider(), Arc::default());
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap()
}

#[test]
fn a_caller_without_a_certificate_is_refused() {
    let far = Keys::host("far", &["127.0.0.1"]);
    let (listener, at) = listen(far.tls(&far.pin()));
    let mut session = anonymous(&far.pin());
    let caller = thread::spawn(move || {
        let mut socket = StdStream::connect((at.host.as_str(), at.port)).unwrap();
        let _ = rustls::Stream::new(&mut session, &mut socket).read(&mut [0; 8]);
    });
    let error = listener.accept(SOON).unwrap().unwrap().read(&mut [0; 8]).unwrap_err();
    assert!(error.to_string().contains("shows no certificate"), "{error}");
    caller.join().unwrap();
}

#[test]
fn a_key_that_is_not_the_certificates_proves_nothing() {
    // Whoever pins knows a certificate, which is public: it takes the key to be its owner.
    let [near, far, thief] = ["near", "far", "thief"].map(|name| Keys::host(name, &["127.0.0.1"]));
    let key = Arc::clone(&thief.0.certified.key);
    let stolen = rustls::sign::CertifiedKey::new(far.0.certified.cert.clone(), key);
    let mut tls = far.tls(&near.pin());
    tls.identity.certified = Arc::new(stolen);
    let (connects, _) = meet(tls.clone(), near.tls(&far.pin()));
    assert!(connects.is_err());
    let (_, listens) = meet(near.tls(&far.pin()), Tls { trust: near.pin(), ..tls });
    assert!(listens.is_err());
}

#[test]
fn a_peer_that_speaks_no_tls_is_said_to() {
    let far = Keys::host("far", &["127.0.0.1"]);
    let (listener, at) = listen(far.tls(&far.pin()));
    let mut plain = StdStream::connect((at.host.as_str(), at.port)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: far\r\n\r\n").unwrap();
    let error = listener.accept(SOON).unwrap().unwrap().read(&mut [0; 8]).unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");

    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let at = local(listener.local_addr().unwrap().port());
    let answering = thread::spawn(move || {
        let mut taken = listener.accept().unwrap().0;
        taken.write_all(b"220 far ESMTP ready, and so on\r\n").unwrap();
        taken
    });
    let connector = TlsConnector::new(at, TcpOptions::default(), far.tls(&far.pin()));
    let error = connector.connect(SOON).err().unwrap();
    assert!(error.cause.to_string().contains("does not speak TLS"), "{}", error.cause);
    answering.join().unwrap();
}

#[test]
fn a_peer_that_says_nothing_costs_no_more_than_the_time_that_was_given() {
    let far = Keys::host("far", &["127.0.0.1"]);
    let silent = StdListener::bind("127.0.0.1:0").unwrap();
    let at = local(silent.local_addr().unwrap().port());
    let connector = TlsConnector::new(at, TcpOptions::default(), far.tls(&far.pin()));
    let began = std::time::Instant::now();
    assert!(connector.connect(Duration::from_millis(200)).is_err());
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());

    let (listener, at) = listen(far.tls(&far.pin()));
    let _silent = StdStream::connect((at.host.as_str(), at.port)).unwrap();
    // It is accepted at once, and only its own first read waits for it.
    let taken = listener.accept(SOON).unwrap().unwrap();
    taken.set_patience(Some(Duration::from_millis(200)), None).unwrap();
    assert!(super::super::socket::is_timeout(&taken.read(&mut [0; 8]).unwrap_err()));
}

/// Both ends of a connection that both have agreed on.
fn ends() -> (TlsStream, TlsStream) {
    let [near, far] = ["near", "far"].map(|name| Keys::host(name, &["127.0.0.1"]));
    let (listener, at) = listen(far.tls(&near.pin()));
    let tls = near.tls(&far.pin());
    let near = thread::spawn(move || TlsConnector::new(at, TcpOptions::default(), tls).dial(SOON).unwrap());
    let (socket, peer) = listener.port.accept(&TcpOptions::default(), SOON).unwrap().unwrap();
    let far = listener.tls.server(socket, peer).unwrap();
    far.agree().unwrap();
    (near.join().unwrap(), far)
}

#[test]
fn an_end_without_a_farewell_is_an_error_and_not_an_end() {
    let (near, far) = ends();
    near.write(&[IoSlice::new(b"half of a fra")]).unwrap();
    // As somebody between would.
    near.cut();
    assert_eq!(far.read(&mut [0; 64]).unwrap(), 13);
    for _ in 0..2 {
        let error = far.read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    }
    assert!(far.write(&[IoSlice::new(b"more")]).is_err());
}

#[test]
fn bytes_that_were_changed_on_the_way_are_an_error() {
    let (near, far) = ends();
    near.write(&[IoSlice::new(b"true")]).unwrap();
    assert_eq!(far.read(&mut [0; 64]).unwrap(), 4);
    near.inject(&[23, 3, 3, 0, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    let error = far.read(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[test]
fn keys_are_renewed_while_bytes_flow_both_ways() {
    let (near, far) = ends();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let send = |stream: &TlsStream| {
        for (number, part) in bytes.chunks(50_000).enumerate() {
            if number % 7 == 0 {
                stream.renew_keys();
            }
            let mut part = part;
            while !part.is_empty() {
                part = &part[stream.write(&[IoSlice::new(part)]).unwrap()..];
            }
        }
    };
    let receive = |stream: &TlsStream| {
        let (mut came, mut some) = (Vec::new(), vec![0; 30_000]);
        while came.len() < bytes.len() {
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0);
            came.extend_from_slice(&some[..count]);
        }
        assert!(came == bytes);
    };
    thread::scope(|scope| {
        scope.spawn(|| send(&near));
        scope.spawn(|| send(&far));
        scope.spawn(|| receive(&near));
        scope.spawn(|| receive(&far));
    });
}

#[test]
fn what_did_not_go_in_time_goes_while_this_side_waits_for_the_answer() {
    let (near, far) = ends();
    let patience = Some(Duration::from_millis(50));
    near.set_patience(patience, patience).unwrap();
    let bytes = vec![7; 300_000];
    let mut taken = 0;
    while let Ok(count) = near.write(&[IoSlice::new(&bytes)]) {
        taken += count;
    }
    // All of it can be read, though nobody writes any more: this side only reads.
    thread::scope(|scope| {
        far.set_patience(Some(SOON), None).unwrap();
        let began = std::time::Instant::now();
        let near = &near;
        let waiting =
            scope.spawn(move || while near.read(&mut [0; 8]).is_err() && began.elapsed() < SOON * 2 {});
        let mut some = vec![0; 100_000];
        let mut came = 0;
        while came < taken {
            came += far.read(&mut some).unwrap();
        }
        far.write(&[IoSlice::new(b"all")]).unwrap();
        waiting.join().unwrap();
    });
}

#[test]
fn fingerprints_are_read_as_people_have_them() {
    let of = Fingerprint::of(b"abc");
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(of.to_string(), format!("sha256:{text}"));
    let pairs: Vec<_> = text
        .to_uppercase()
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).into_owned())
        .collect();
    for written in [text.to_owned(), format!("SHA256:{}", pairs.join(":")), format!(" sha256:{text}\n")] {
        assert_eq!(written.parse(), Ok(of));
    }
    for (written, fault) in [
        ("sha256:12", "64 digits"),
        (&text.replace('b', "g"), "hexadecimal"),
        (&"é".repeat(32), "hexadecimal"),
    ] {
        let said = written.parse::<Fingerprint>().unwrap_err().to_string();
        assert!(said.contains(fault) && said.contains(written), "{said}");
    }
}
