//! What Unix sockets do beyond the suite: their file.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory that goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("whimbrel-unix-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn only_this_user_can_connect() {
    let directory = Directory::new();
    let _listener = UnixListener::bind(directory.socket()).unwrap();
    assert_eq!(fs::metadata(directory.socket()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_file_goes_with_the_listener() {
    let directory = Directory::new();
    drop(UnixListener::bind(directory.socket()).unwrap());
    assert!(!directory.socket().exists());
}

#[test]
fn a_file_that_somebody_put_in_its_place_stays() {
    let directory = Directory::new();
    let listener = UnixListener::bind(directory.socket()).unwrap();
    // First another, so that the inode is not used again.
    fs::write(directory.0.join("other"), "theirs").unwrap();
    fs::rename(directory.0.join("other"), directory.socket()).unwrap();
    drop(listener);
    assert!(directory.socket().exists());
}

#[test]
fn a_socket_that_nobody_listens_at_is_replaced() {
    let directory = Directory::new();
    // Left behind: std removes nothing.
    drop(std::os::unix::net::UnixListener::bind(directory.socket()).unwrap());
    assert!(directory.socket().exists());
    let listener = UnixListener::bind(directory.socket()).unwrap();
    UnixConnector::new(directory.socket()).connect(Duration::from_secs(5)).unwrap();
    assert!(listener.accept(Duration::from_secs(5)).unwrap().is_some());
}

#[test]
fn a_socket_that_somebody_listens_at_is_left_alone() {
    let directory = Directory::new();
    let _first = UnixListener::bind(directory.socket()).unwrap();
    let refused = UnixListener::bind(directory.socket()).unwrap_err();
    assert_eq!(refused.cause.kind(), io::ErrorKind::AddrInUse);
    assert!(refused.cause.to_string().contains("somebody listens"), "{}", refused.cause);
    UnixConnector::new(directory.socket()).connect(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = Directory::new();
    fs::write(directory.socket(), "precious").unwrap();
    assert!(UnixListener::bind(directory.socket()).is_err());
    assert_eq!(fs::read_to_string(directory.socket()).unwrap(), "precious");
}

#[test]
fn who_finds_the_queue_full_gives_up_in_time() {
    let directory = Directory::new();
    let address = SockAddr::unix(directory.socket()).unwrap();
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&address).unwrap();
    socket.listen(0).unwrap();
    let connector = UnixConnector::new(directory.socket());
    let mut made = Vec::new();
    let began = std::time::Instant::now();
    let refused = loop {
        match connector.connect(Duration::from_millis(100)) {
            Ok(stream) => made.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.cause.kind(), io::ErrorKind::TimedOut);
    assert!(made.len() < 4 && began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_path_that_is_too_long_is_an_error() {
    let long = std::env::temp_dir().join("x".repeat(120));
    let refused = UnixListener::bind(&long).unwrap_err();
    assert!(refused.to_string().contains("xxx"));
}
