//! Where a peer is, as people write it.
//!
//! Made from command lines and configuration, read by [`super::open`]. Looks nothing up.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What is accepted, for messages.
const ACCEPTED: &str = "accepted are tcp:HOST:PORT, tls:HOST:PORT (an IPv6 address in brackets: tcp:[::1]:4444) \
                        and unix:/PATH";

/// Where a peer is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// Plain TCP: whoever can reach the network reads along.
    Tcp(HostPort),
    /// TLS 1.3 over TCP.
    Tls(HostPort),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

/// A machine and a port of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, or an IPv4 or IPv6 address without brackets.
    pub host: String,
    /// The port; 0 for a listener that takes any.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(at) => write!(f, "tcp:{at}"),
            Self::Tls(at) => write!(f, "tls:{at}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not an address: {fault}; {ACCEPTED}")]
pub struct AddressError {
    /// The text.
    pub value: String,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(value: &str) -> Result<Self, AddressError> {
        let wrong = |fault| AddressError { value: value.to_owned(), fault };
        let (kind, rest) = value.split_once(':').ok_or_else(|| wrong("it does not say which kind"))?;
        match kind {
            "tcp" => host_port(rest).map(Self::Tcp).map_err(wrong),
            "tls" => host_port(rest).map(Self::Tls).map_err(wrong),
            "unix" if rest.is_empty() => Err(wrong("the path is missing")),
            "unix" if rest.contains('\0') => Err(wrong("a path has no zero bytes")),
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            _ => Err(wrong("it is of no kind that is known here")),
        }
    }
}

fn host_port(text: &str) -> Result<HostPort, &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once("]:").ok_or("the brackets do not end in ]:PORT")?,
        None => text.rsplit_once(':').ok_or("the port is missing")?,
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if text.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_err() {
        return Err("what is in brackets is no IPv6 address");
    }
    if !text.starts_with('[') && host.contains(':') {
        return Err("an IPv6 address has to be in brackets");
    }
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or("the port is no number from 0 to 65535")?;
    Ok(HostPort { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["tcp:example.org:4444", "tcp:[::1]:4444", "tls:10.0.0.7:0", "unix:/run/whimbrel.sock"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_with_the_value_and_what_is_accepted() {
        for (text, fault) in [
            ("localhost", "which kind"),
            ("localhost:4444", "no kind that is known"),
            ("tcp:localhost", "the port is missing"),
            ("tcp::4444", "the host is missing"),
            ("tcp:localhost:65536", "no number from 0 to 65535"),
            ("tcp:localhost:+1", "no number from 0 to 65535"),
            ("tcp:::1:4444", "in brackets"),
            ("tcp:[::1]", "]:PORT"),
            ("tls:[localhost]:1", "no IPv6 address"),
            ("unix:", "the path is missing"),
        ] {
            let said = text.parse::<Address>().unwrap_err().to_string();
            assert!(said.contains(fault) && said.contains(text) && said.contains("unix:/PATH"), "{said}");
        }
    }
}
