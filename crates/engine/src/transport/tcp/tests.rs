//! What TCP does beyond the suite: where it may go, and how it notices who is gone.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use super::*;

fn at(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent.
fn outside() -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

#[test]
fn plain_tcp_does_not_listen_beyond_this_machine_unless_it_is_allowed() {
    for host in ["0.0.0.0", "::", "192.0.2.1"] {
        let refused = TcpListener::bind(&at(host, 0), TcpOptions::default()).unwrap_err();
        assert_eq!(refused.cause.kind(), io::ErrorKind::PermissionDenied, "{host}");
        let said = refused.cause.to_string();
        assert!(said.contains("tls:") && said.contains("--insecure"), "{said}");
    }
    let insecure = TcpOptions { insecure: true, ..TcpOptions::default() };
    assert!(TcpListener::bind(&at("0.0.0.0", 0), insecure).is_ok());
}

#[test]
fn plain_tcp_does_not_connect_beyond_this_machine_unless_it_is_allowed() {
    for host in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        let connector = TcpConnector::new(at(host, 9), TcpOptions::default());
        let refused = connector.connect(Duration::from_secs(5)).err().unwrap();
        assert_eq!(refused.cause.kind(), io::ErrorKind::PermissionDenied, "{host}");
    }
    let Some(host) = outside() else { return };
    let insecure = TcpOptions { insecure: true, ..TcpOptions::default() };
    let listener = TcpListener::bind(&at(&host, 0), insecure).unwrap();
    let to = at(&host, listener.port.local.port());
    assert!(TcpConnector::new(to.clone(), TcpOptions::default()).connect(Duration::from_secs(5)).is_err());
    assert!(TcpConnector::new(to, insecure).connect(Duration::from_secs(5)).is_ok());
}

#[test]
fn a_name_counts_by_what_it_stands_for() {
    let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), 1);
    let beyond = SocketAddr::new("192.0.2.1".parse().unwrap(), 1);
    assert!(Guard::ThisMachine.check(&[mapped]).is_ok());
    // One address beyond is enough: which of them answers is not known.
    assert!(Guard::ThisMachine.check(&[mapped, beyond]).is_err());
    assert!(Guard::Anywhere.check(&[mapped, beyond]).is_ok());
}

#[test]
fn a_name_is_resolved_and_its_addresses_are_tried_in_turn() {
    // `localhost` may be both ::1 and 127.0.0.1; only one of them listens.
    let listener = TcpListener::bind(&at("127.0.0.1", 0), TcpOptions::default()).unwrap();
    let to = at("localhost", listener.port.local.port());
    assert!(TcpConnector::new(to, TcpOptions::default()).connect(Duration::from_secs(10)).is_ok());
    let unknown = TcpConnector::new(at("no-such-host.invalid", 1), TcpOptions::default());
    let refused = unknown.connect(Duration::from_secs(10)).err().unwrap();
    assert!(refused.to_string().contains("tcp:no-such-host.invalid:1"));
}

#[test]
fn who_does_not_answer_costs_no_more_than_the_time_that_was_given() {
    // With its queue full, a listener lets further ones wait.
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
    socket.listen(0).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let connector = TcpConnector::new(at("127.0.0.1", port), TcpOptions::default());
    let mut made = Vec::new();
    let refused = loop {
        let began = Instant::now();
        match connector.connect(Duration::from_millis(200)) {
            Ok(stream) => made.push(stream),
            Err(error) => {
                assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
                assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
                break error;
            }
        }
    };
    assert_eq!(refused.cause.kind(), io::ErrorKind::TimedOut);
    assert!(made.len() < 4);
}

#[test]
fn connections_of_both_sides_have_the_options() {
    let buffers = Some(ByteCount(100_000));
    let options = TcpOptions {
        lost_after: Duration::from_secs(12),
        send_buffer: buffers,
        receive_buffer: buffers,
        ..TcpOptions::default()
    };
    let listener = TcpListener::bind(&at("127.0.0.1", 0), options).unwrap();
    let to = at("127.0.0.1", listener.port.local.port());
    // A listener that has waited passes its own patience on to those who come then.
    assert!(listener.port.accept(&options, Duration::from_millis(1)).unwrap().is_none());
    let (near, _) = dial(&to, &options, Guard::ThisMachine, Duration::from_secs(5)).unwrap();
    let (far, _) = listener.port.accept(&options, Duration::from_secs(5)).unwrap().unwrap();
    for Socket(socket) in [near, far] {
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(12)));
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(4));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(2));
        // Linux doubles what it is told, for its own accounts.
        assert_eq!(socket.send_buffer_size().unwrap(), 200_000);
        assert_eq!(socket.recv_buffer_size().unwrap(), 200_000);
        assert_eq!(socket.read_timeout().unwrap(), None);
    }
}

#[test]
fn a_peer_that_takes_nothing_for_too_long_is_lost_and_not_merely_late() {
    let options = TcpOptions { lost_after: Duration::from_millis(1500), ..TcpOptions::default() };
    let listener = TcpListener::bind(&at("127.0.0.1", 0), options).unwrap();
    let to = at("127.0.0.1", listener.port.local.port());
    let near = TcpConnector::new(to, options).connect(Duration::from_secs(5)).unwrap();
    let _far = listener.accept(Duration::from_secs(5)).unwrap().unwrap();
    let bytes = vec![0; 1 << 20];
    let began = Instant::now();
    let error = loop {
        if let Err(error) = near.write(&[IoSlice::new(&bytes)]) {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let listener = TcpListener::bind(&at("127.0.0.1", 0), TcpOptions::default()).unwrap();
    let port = listener.port.local.port();
    let refused = TcpListener::bind(&at("127.0.0.1", port), TcpOptions::default()).unwrap_err();
    assert!(refused.to_string().contains(&format!("tcp:127.0.0.1:{port}")));
}
