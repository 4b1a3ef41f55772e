//! Connections of every kind leave neither descriptors nor threads behind, however they end. The only test of its process,
//! because it counts both.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_engine::transport::open::{Options, connector, listener};
use whimbrel_engine::transport::{Address, Connect, Listen};

const SOON: Duration = Duration::from_secs(10);

fn count(what: &str) -> usize {
    fs::read_dir(Path::new("/proc/self").join(what)).unwrap().count()
}

fn descriptors_and_threads() -> (usize, usize) {
    (count("fd"), count("task"))
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Shutdown,
    Dropped,
    /// The peer never says a word.
    Silent,
}

fn once(listener: &dyn Listen, connector: &dyn Connect, end: End) {
    thread::scope(|scope| {
        let near = scope.spawn(move || {
            let near = connector.connect(Duration::from_millis(300)).ok()?;
            if !matches!(end, End::Silent) {
                near.write(&[IoSlice::new(&[1; 10_000])]).unwrap();
                near.read(&mut [0; 16]).unwrap();
            }
            Some(near)
        });
        let far = listener.accept(SOON).unwrap().unwrap();
        // Who says something is waited for, on a machine that has much else to do as well.
        let patience = if matches!(end, End::Silent) { Duration::from_millis(20) } else { SOON };
        far.set_patience(Some(patience), None).unwrap();
        let _ = far.read(&mut [0; 16]);
        let _ = far.write(&[IoSlice::new(b"answer")]);
        if matches!(end, End::Shutdown) {
            far.shutdown();
        }
        drop(far);
        drop(near.join().unwrap());
    });
}

#[test]
fn no_descriptor_and_no_thread_is_left() {
    let directory = std::env::temp_dir().join(format!("whimbrel-leaks-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let kinds = vec![
        "tcp:127.0.0.1:0".to_owned(),
        format!("unix:{}", directory.join("socket").display()),
        #[cfg(feature = "tls")]
        "tls:127.0.0.1:0".to_owned(),
    ];
    let options = options(&directory);
    // Whatever the process makes at its first connection is there already.
    for kind in &kinds {
        all_ends(kind, &options, 1);
    }
    let before = descriptors_and_threads();
    for kind in &kinds {
        all_ends(kind, &options, 20);
    }
    // A thread is gone a moment after it was joined.
    let began = Instant::now();
    while descriptors_and_threads() != before && began.elapsed() < SOON {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(descriptors_and_threads(), before);
    fs::remove_dir_all(directory).unwrap();
}

fn all_ends(kind: &str, options: &Options, times: u32) {
    let listener = listener(&kind.parse().unwrap(), options).unwrap();
    let to: Address = listener.address().parse().unwrap();
    // By its name, so that the resolver's thread is made, too.
    let to = match to {
        Address::Tcp(mut at) => {
            "localhost".clone_into(&mut at.host);
            Address::Tcp(at)
        }
        other => other,
    };
    let connector = connector(&to, options).unwrap();
    for _ in 0..times {
        for end in [End::Shutdown, End::Dropped, End::Silent] {
            once(&*listener, &*connector, end);
        }
    }
    drop(listener);
    assert!(connector.connect(Duration::from_millis(300)).is_err());
}

#[cfg(not(feature = "tls"))]
fn options(_: &Path) -> Options {
    Options::default()
}

#[cfg(feature = "tls")]
fn options(directory: &Path) -> Options {
    use whimbrel_engine::transport::keys::{Keygen, Kind, keygen};
    use whimbrel_engine::transport::tls::{Identity, Tls, Trust};
    let kind = Kind::Host { names: vec!["127.0.0.1".to_owned()] };
    let directory = directory.to_owned();
    let made =
        keygen(&Keygen { directory, name: "host".to_owned(), kind, days: 1, overwrite: false }).unwrap();
    let identity = Identity::from_files(&made.certificate, &made.key).unwrap();
    let trust = Trust::pinned([identity.fingerprint()]);
    Options { tls: Some(Tls::new(identity, trust)), ..Options::default() }
}
