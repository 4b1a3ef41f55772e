//! The first bytes of every connection: who is there, what for, and how the two will speak.
//!
//! The source sends a [`Hello`], the destination answers with a [`Welcome`] or a [`Reject`]; frames follow. A reader takes
//! [`PREFIX_LEN`] bytes, learns from them how long the rest is ([`rest`]), never more than [`MOST_REST`], and takes that. What
//! a destination allocates for somebody it does not know is so bounded by some hundred bytes, and the guest's size stands
//! in the hello: it can be refused before a replica is begun.
//!
//! This layout is the same in every version of the protocol, so that two sides that have no version in common can still say
//! so. A later version may append to a body; what is appended by a peer that speaks later versions is passed over.
//!
//! Nothing here must depend on what the peer said before its token was compared: [`Terms::judge`] does that first.

mod capabilities;
mod reject;
#[cfg(test)]
mod tests;
mod token;
mod version;

use whimbrel_core::machine::message::MigrationId;
use whimbrel_core::units::ByteCount;

pub use self::capabilities::Capabilities;
pub use self::reject::Reject;
pub use self::token::{MOST_TOKEN, Token};
pub use self::version::Versions;
use crate::error::WireError;
use crate::limits::{Limit, Limits};

/// The first bytes of every connection, in both directions.
pub const MAGIC: [u8; 8] = *b"whimbrel";

/// Bytes before the rest: magic, what it is (u8), zero (u8), length of the rest (u16), CRC-32 of all but itself (u32).
pub const PREFIX_LEN: usize = 16;

/// The most bytes behind a prefix.
pub const MOST_REST: u16 = 1024;

/// Bytes of a hello behind its prefix, without the token.
const HELLO_LEN: usize = 32;

/// Bytes of a welcome behind its prefix.
const WELCOME_LEN: usize = 24;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Messages, and the first connection of a migration.
    Control {
        /// How many page connections will follow, 1 and more.
        streams: u16,
    },
    /// Messages, in place of a control connection that was lost. To be welcomed also where nothing is known of the
    /// migration: the answer to a question is then *gone*.
    Again,
    /// Pages.
    Pages {
        /// Which, from 0.
        stream: u16,
    },
    /// Something that a later version has.
    Unknown {
        /// Its code.
        code: u8,
        /// What stands where others have a number.
        number: u16,
    },
}

impl Role {
    /// Code and number, as they stand in a hello.
    const fn parts(self) -> (u8, u16) {
        match self {
            Self::Control { streams } => (1, streams),
            Self::Again => (2, 0),
            Self::Pages { stream } => (3, stream),
            Self::Unknown { code, number } => (code, number),
        }
    }

    const fn from_parts(code: u8, number: u16) -> Self {
        match (code, number) {
            (1, streams) => Self::Control { streams },
            (2, 0) => Self::Again,
            (3, stream) => Self::Pages { stream },
            (code, number) => Self::Unknown { code, number },
        }
    }
}

/// What the source says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the protocol that it speaks.
    pub versions: Versions,
    /// What this connection is for.
    pub role: Role,
    /// The attempt that it belongs to.
    pub migration: MigrationId,
    /// What it can do. Of a later version there may be some that are not known here.
    pub capabilities: Capabilities,
    /// The memory of the guest. No layout with more is taken afterwards: see [`Limits::for_hello`].
    pub memory: ByteCount,
    /// What the destination was told to expect.
    pub token: Token,
}

/// What the destination answers if it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version of the protocol that both speak from here on.
    pub version: u16,
    /// What both can do.
    pub capabilities: Capabilities,
    /// [`Limits::entries`] of the destination.
    pub entries: u16,
    /// [`Limits::payload`] of the destination, in bytes.
    pub payload: u32,
    /// [`Limits::control`] of the destination, in bytes.
    pub control: u32,
}

/// What a destination answers.
pub type Answer = Result<Welcome, Reject>;

/// What is behind a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hello = 1,
    Welcome = 2,
    Reject = 3,
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A hello is expected.
    FromSource,
    /// A welcome or a reject is expected.
    FromDestination,
}

/// How many bytes follow a prefix.
///
/// # Errors
///
/// [`WireError`] if it is not whimbrel's, not what comes this way, or announces more than [`MOST_REST`]. The checksum is
/// looked at when the rest is there.
pub fn rest(prefix: &[u8; PREFIX_LEN], direction: Direction) -> Result<usize, WireError> {
    Ok(read_prefix(prefix, direction)?.1)
}

fn read_prefix(prefix: &[u8; PREFIX_LEN], direction: Direction) -> Result<(Kind, usize), WireError> {
    let [m0, m1, m2, m3, m4, m5, m6, m7, code, reserved, l0, l1, ..] = *prefix;
    let found = [m0, m1, m2, m3, m4, m5, m6, m7];
    if found != MAGIC {
        return Err(WireError::Magic { found, expected: MAGIC });
    }
    let (kind, accepted) = match (direction, code) {
        (Direction::FromSource, 1) => (Some(Kind::Hello), "1 (hello)"),
        (Direction::FromSource, _) => (None, "1 (hello)"),
        (Direction::FromDestination, 2) => (Some(Kind::Welcome), ""),
        (Direction::FromDestination, 3) => (Some(Kind::Reject), ""),
        (Direction::FromDestination, _) => (None, "2 (welcome) or 3 (reject)"),
    };
    let kind = kind.ok_or(WireError::Code { what: "the first message", found: code.into(), accepted })?;
    zero("the byte behind the kind of a first message", reserved.into())?;
    let length = u16::from_le_bytes([l0, l1]);
    if length > MOST_REST {
        return Err(WireError::TooMuch { limit: Limit::Rest, found: length.into(), most: MOST_REST.into() });
    }
    Ok((kind, length.into()))
}

/// Checks what [`rest`] could not.
fn open(prefix: &[u8; PREFIX_LEN], rest: &[u8], direction: Direction) -> Result<Kind, WireError> {
    let (kind, accepted) = read_prefix(prefix, direction)?;
    if rest.len() != accepted {
        let (found, accepted) = (rest.len() as u64, accepted as u64);
        return Err(WireError::Length { what: "the rest of the first message", found, accepted });
    }
    let [.., c0, c1, c2, c3] = *prefix;
    let (found, expected) = (u32::from_le_bytes([c0, c1, c2, c3]), checksum(prefix, rest));
    if found == expected {
        Ok(kind)
    } else {
        Err(WireError::Checksum { what: "the first message", found, expected })
    }
}

/// CRC-32 of the prefix without its checksum, and the rest.
pub(crate) fn checksum(prefix: &[u8; PREFIX_LEN], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&prefix[..12]);
    hasher.update(rest);
    hasher.finalize()
}

/// Puts a prefix before `rest`, which is no longer than [`MOST_REST`].
fn close(kind: Kind, rest: &[u8]) -> Vec<u8> {
    let mut prefix = [0; PREFIX_LEN];
    prefix[..8].copy_from_slice(&MAGIC);
    prefix[8] = kind as u8;
    prefix[10..12].copy_from_slice(&(rest.len() as u16).to_le_bytes());
    let sum = checksum(&prefix, rest);
    prefix[12..].copy_from_slice(&sum.to_le_bytes());
    [&prefix, rest].concat()
}

fn zero(what: &'static str, found: u64) -> Result<(), WireError> {
    if found == 0 { Ok(()) } else { Err(WireError::Bits { what, found, accepted: 0 }) }
}

/// The fixed part of a body and what is behind it.
fn split<'a, const N: usize>(
    rest: &'a [u8],
    what: &'static str,
) -> Result<(&'a [u8; N], &'a [u8]), WireError> {
    rest.split_first_chunk().ok_or(WireError::Truncated { what })
}

impl Hello {
    /// The hello as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (role, number) = self.role.parts();
        let token = self.token.bytes();
        let mut rest = Vec::with_capacity(HELLO_LEN + token.len());
        rest.extend_from_slice(&self.versions.oldest.to_le_bytes());
        rest.extend_from_slice(&self.versions.newest.to_le_bytes());
        // A token has at most 64 bytes.
        rest.extend_from_slice(&[role, token.len() as u8]);
        rest.extend_from_slice(&number.to_le_bytes());
        for number in [self.migration.0, self.capabilities.bits(), self.memory.0] {
            rest.extend_from_slice(&number.to_le_bytes());
        }
        rest.extend_from_slice(token);
        close(Kind::Hello, &rest)
    }

    /// Reads what came behind a prefix.
    ///
    /// # Errors
    ///
    /// [`WireError`] if it is damaged, has no token, or is of a peer that speaks nothing later than this side and has more than
    /// belongs there.
    pub fn decode(prefix: &[u8; PREFIX_LEN], rest: &[u8]) -> Result<Self, WireError> {
        open(prefix, rest, Direction::FromSource)?;
        let (fixed, behind) = split::<HELLO_LEN>(rest, "a hello")?;
        let ([o0, o1, n0, n1, role, length, s0, s1], numbers) = split::<8>(fixed, "a hello")?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let &[migration, capabilities, memory] = numbers else {
            return Err(WireError::Truncated { what: "a hello" });
        };
        let versions = Versions::new(u16::from_le_bytes([*o0, *o1]), u16::from_le_bytes([*n0, *n1]))?;
        let Some((token, appended)) = behind.split_at_checked(usize::from(*length)) else {
            return Err(WireError::Truncated { what: "the token of a hello" });
        };
        if !appended.is_empty() && versions.newest <= Versions::SPOKEN.newest {
            return Err(WireError::Trailing { what: "a hello", count: appended.len() });
        }
        Ok(Self {
            versions,
            role: Role::from_parts(*role, u16::from_le_bytes([*s0, *s1])),
            migration: MigrationId(u64::from_le_bytes(migration)),
            capabilities: Capabilities::from_bits(u64::from_le_bytes(capabilities)),
            memory: ByteCount(u64::from_le_bytes(memory)),
            token: Token::new(token)?,
        })
    }

    /// Holds the answer to this hello against it.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the destination chose a version or capabilities that were not offered. A [`Reject`] is no error of the
    /// protocol.
    pub fn accept(&self, answer: Answer) -> Result<Answer, WireError> {
        let Ok(welcome) = answer else { return Ok(answer) };
        let Versions { oldest, newest } = self.versions;
        if !(oldest..=newest).contains(&welcome.version) {
            return Err(WireError::Version { found: welcome.version, offered: self.versions });
        }
        let accepted = self.capabilities.with_plain().bits();
        let found = welcome.capabilities.bits();
        if found & !accepted != 0 {
            return Err(WireError::Bits { what: "the capabilities that were accepted", found, accepted });
        }
        Ok(answer)
    }
}

/// What a destination is ready for.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The token that it expects.
    pub token: Token,
    /// Versions of the protocol that it speaks; [`Versions::SPOKEN`] but for tests.
    pub versions: Versions,
    /// What it can do.
    pub capabilities: Capabilities,
    /// The most that it takes.
    pub limits: Limits,
}

impl Terms {
    /// Answers a hello, as far as that can be done without knowing which migrations and connections there are already: these
    /// the caller has to look at when this gave a welcome.
    ///
    /// # Errors
    ///
    /// A [`Reject`] to be sent. One for a wrong token is found first and says nothing else.
    pub fn judge(&self, hello: &Hello) -> Answer {
        if !self.token.matches(&hello.token) {
            return Err(Reject::Token);
        }
        let Some(version) = self.versions.common(hello.versions) else {
            return Err(Reject::Versions(self.versions));
        };
        let streams = self.limits.most(Limit::Streams) as u16;
        match hello.role {
            Role::Control { streams: wanted } if !(1..=streams).contains(&wanted) => {
                return Err(Reject::Streams { most: streams });
            }
            Role::Pages { stream } if stream >= streams => return Err(Reject::Streams { most: streams }),
            Role::Unknown { code, number } => {
                let text =
                    format!("a connection of role {code} ({number}) is not known in version {version}");
                return Err(Reject::Other { code: Reject::OTHER, text });
            }
            Role::Control { .. } | Role::Again | Role::Pages { .. } => {}
        }
        // Whoever asks what became of a guest brings none: that a host has less room now must not keep it in doubt.
        if hello.role != Role::Again && hello.memory > self.limits.memory {
            return Err(Reject::Memory { most: self.limits.memory });
        }
        Ok(Welcome {
            version,
            capabilities: self.capabilities.common(hello.capabilities),
            entries: self.limits.entries,
            payload: u32::try_from(self.limits.payload.0).unwrap_or(u32::MAX),
            control: u32::try_from(self.limits.control.0).unwrap_or(u32::MAX),
        })
    }
}

/// An answer as bytes.
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    let welcome = match answer {
        Ok(welcome) => welcome,
        Err(reject) => return close(Kind::Reject, &reject.encode()),
    };
    let mut rest = Vec::with_capacity(WELCOME_LEN);
    rest.extend_from_slice(&welcome.version.to_le_bytes());
    rest.extend_from_slice(&welcome.entries.to_le_bytes());
    for number in [welcome.payload, welcome.control, 0] {
        rest.extend_from_slice(&number.to_le_bytes());
    }
    rest.extend_from_slice(&welcome.capabilities.bits().to_le_bytes());
    close(Kind::Welcome, &rest)
}

/// Reads an answer. It is to be held against the hello that it answers: [`Hello::accept`].
///
/// # Errors
///
/// [`WireError`] if it is damaged.
pub fn decode_answer(prefix: &[u8; PREFIX_LEN], rest: &[u8]) -> Result<Answer, WireError> {
    if open(prefix, rest, Direction::FromDestination)? == Kind::Reject {
        return Reject::decode(rest).map(Err);
    }
    let (fixed, appended) = split::<WELCOME_LEN>(rest, "a welcome")?;
    let [v0, v1, e0, e1, p0, p1, p2, p3, c0, c1, c2, c3, r0, r1, r2, r3, bits @ ..] = *fixed;
    // Who answers knows what it was asked: nothing of a version that was not offered.
    if !appended.is_empty() {
        return Err(WireError::Trailing { what: "a welcome", count: appended.len() });
    }
    zero("the reserved bytes of a welcome", u32::from_le_bytes([r0, r1, r2, r3]).into())?;
    Ok(Ok(Welcome {
        version: u16::from_le_bytes([v0, v1]),
        capabilities: Capabilities::from_bits(u64::from_le_bytes(bits)),
        entries: u16::from_le_bytes([e0, e1]),
        payload: u32::from_le_bytes([p0, p1, p2, p3]),
        control: u32::from_le_bytes([c0, c1, c2, c3]),
    }))
}
