//! How many bytes a second one stream carries, for each kind of connection, beside bare sockets of std in the same run.
//!
//! One thread writes blocks of 512 KiB, another reads them into memory that is resident. All kinds take turns, because machines do
//! other work; the best of all passes counts, and the middle one is printed beside it. With criterion's `--test` a pass is short and
//! there is one.
#![allow(missing_docs)]

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use whimbrel_engine::transport::memory::pair;
use whimbrel_engine::transport::open::{Options, connector, listener};
use whimbrel_engine::transport::{Address, Stream};

/// Bytes of one write, as of one batch of pages.
const BLOCK: usize = 512 << 10;

/// Longer than any connection takes to be made.
const SOON: Duration = Duration::from_secs(10);

type Writer = Box<dyn FnMut(&[u8]) -> std::io::Result<usize> + Send>;
type Reader = Box<dyn FnMut(&mut [u8]) -> std::io::Result<usize> + Send>;

/// One kind of connection, made anew for each pass.
struct Subject {
    name: &'static str,
    make: Box<dyn Fn() -> (Writer, Reader)>,
    rates: Vec<f64>,
    /// Processor time of each pass, of both threads together.
    spent: Vec<Duration>,
}

fn bare(writer: impl Write + Send + 'static, reader: impl Read + Send + 'static) -> (Writer, Reader) {
    let (mut writer, mut reader) = (writer, reader);
    (Box::new(move |bytes| writer.write(bytes)), Box::new(move |into| reader.read(into)))
}

fn bare_tcp() -> (Writer, Reader) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let near = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    near.set_nodelay(true).unwrap();
    bare(near, far)
}

fn bare_unix() -> (Writer, Reader) {
    let (near, far) = UnixStream::pair().unwrap();
    bare(near, far)
}

fn of_streams(near: Box<dyn Stream>, far: Box<dyn Stream>) -> (Writer, Reader) {
    (Box::new(move |bytes| near.write(&[IoSlice::new(bytes)])), Box::new(move |into| far.read(into)))
}

fn in_memory() -> (Writer, Reader) {
    let (near, far, _) = pair();
    of_streams(Box::new(near), Box::new(far))
}

/// A connection at an address, with a byte that went each way.
fn at(address: &Address, listens: &Options, connects: &Options) -> (Writer, Reader) {
    let listener = listener(address, listens).unwrap();
    let to: Address = listener.address().parse().unwrap();
    let connector = connector(&to, connects).unwrap();
    let near = thread::spawn(move || {
        let near = connector.connect(SOON).unwrap();
        near.write(&[IoSlice::new(b"?")]).unwrap();
        near.read(&mut [0]).unwrap();
        near
    });
    let far = listener.accept(SOON).unwrap().unwrap();
    far.read(&mut [0]).unwrap();
    far.write(&[IoSlice::new(b"!")]).unwrap();
    of_streams(near.join().unwrap(), far)
}

/// A directory that goes with it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(feature = "tls")]
fn tls(directory: &Directory) -> Subject {
    use whimbrel_engine::transport::keys::{Keygen, Kind, keygen};
    use whimbrel_engine::transport::tls::{Identity, Tls, Trust};
    let [near, far] = ["near", "far"].map(|name| {
        let kind = Kind::Host { names: vec!["127.0.0.1".to_owned()] };
        let directory = directory.0.clone();
        let made =
            keygen(&Keygen { directory, name: name.to_owned(), kind, days: 1, overwrite: true }).unwrap();
        Identity::from_files(&made.certificate, &made.key).unwrap()
    });
    let options = |own: &Identity, other: &Identity| Options {
        tls: Some(Tls::new(own.clone(), Trust::pinned([other.fingerprint()]))),
        ..Options::default()
    };
    let (connects, listens) = (options(&near, &far), options(&far, &near));
    let address: Address = "tls:127.0.0.1:0".parse().unwrap();
    Subject {
        name: "TLS 1.3",
        make: Box::new(move || at(&address, &listens, &connects)),
        rates: Vec::new(),
        spent: Vec::new(),
    }
}

/// The library's own stream over a socket of std: one thread a session, which can only read or only write.
#[cfg(feature = "tls")]
fn bare_tls(directory: &Directory) -> Subject {
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    };
    use whimbrel_engine::transport::keys::{Keygen, Kind, keygen};

    let make = |name: &str, kind| {
        let (directory, name) = (directory.0.clone(), name.to_owned());
        keygen(&Keygen { directory, name, kind, days: 1, overwrite: true }).unwrap()
    };
    let root = make("root", Kind::Authority);
    let names = vec!["127.0.0.1".to_owned()];
    let (authority, key) = (root.certificate.clone(), root.key.clone());
    let host = make("host", Kind::Signed { names, authority, key });
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&root.certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = &[&rustls::version::TLS13];
    let connects =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
    let connects = Arc::new(connects.unwrap().with_root_certificates(roots).with_no_client_auth());
    let listens = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let shown = vec![CertificateDer::from_pem_file(&host.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&host.key).unwrap();
    let listens = Arc::new(listens.unwrap().with_no_client_auth().with_single_cert(shown, key).unwrap());
    let make = move || {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let near = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        near.set_nodelay(true).unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let near = StreamOwned::new(ClientConnection::new(Arc::clone(&connects), name).unwrap(), near);
        bare(near, StreamOwned::new(ServerConnection::new(Arc::clone(&listens)).unwrap(), far))
    };
    Subject { name: "bare rustls::StreamOwned", make: Box::new(make), rates: Vec::new(), spent: Vec::new() }
}

/// Processor time of this process, threads that ended included; in hundredths of a second on Linux, nothing elsewhere.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces. User and system time are the 14th and 15th fields (proc_pid_stat(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Bytes a second.
fn pass(subject: &Subject, total: usize) -> f64 {
    let (mut write, mut read) = (subject.make)();
    let writing = thread::spawn(move || {
        let block = vec![0x5a; BLOCK];
        let mut left = total;
        while left > 0 {
            left -= write(&block[..left.min(BLOCK)]).unwrap();
        }
        // Kept until all has been read.
        write
    });
    let mut into = vec![1; BLOCK];
    let began = Instant::now();
    let mut came = 0;
    while came < total {
        let count = read(&mut into).unwrap();
        assert!(count > 0, "{}: the end came early", subject.name);
        came += count;
    }
    let rate = total as f64 / began.elapsed().as_secs_f64();
    drop(writing.join().unwrap());
    rate
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let (total, passes) = if test { (4 << 20, 1) } else { (768 << 20, 9) };
    let directory = Directory(std::env::temp_dir().join(format!("whimbrel-bench-{}", std::process::id())));
    std::fs::create_dir_all(&directory.0).unwrap();
    let subject = |name, make| Subject { name, make, rates: Vec::new(), spent: Vec::new() };
    let plain = |address: &str| {
        let address: Address = address.parse().unwrap();
        Box::new(move || at(&address, &Options::default(), &Options::default()))
    };
    let socket = format!("unix:{}", directory.0.join("socket").display());
    let mut subjects = vec![
        subject("bare std::net::TcpStream", Box::new(bare_tcp)),
        subject("TCP", plain("tcp:127.0.0.1:0")),
        subject("bare std::os::unix::net::UnixStream", Box::new(bare_unix)),
        subject("Unix", plain(&socket)),
        subject("in memory", Box::new(in_memory)),
        #[cfg(feature = "tls")]
        bare_tls(&directory),
        #[cfg(feature = "tls")]
        tls(&directory),
    ];
    for _ in 0..passes {
        for subject in &mut subjects {
            let before = processor_time();
            let rate = pass(subject, total);
            subject.rates.push(rate);
            subject.spent.push(processor_time().saturating_sub(before));
        }
    }
    let gib = f64::from(1 << 30);
    println!("| one stream | best of {passes} passes, GiB/s | middle one | least processor time, s/GiB |");
    println!("|---|---|---|---|");
    for Subject { name, rates, spent, .. } in &mut subjects {
        rates.sort_by(f64::total_cmp);
        let spent = spent.iter().min().unwrap().as_secs_f64() * gib / total as f64;
        println!("| {name} | {:.2} | {:.2} | {spent:.2} |", rates[passes - 1] / gib, rates[passes / 2] / gib);
    }
}
