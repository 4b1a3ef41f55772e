//! Who is welcomed, who is not and why; and bytes that are no first message.

use proptest::prelude::*;

use super::*;
use crate::pages::{Encoding, Encodings};

fn token(text: &str) -> Token {
    Token::new(text.as_bytes()).unwrap()
}

fn hello() -> Hello {
    Hello {
        versions: Versions::SPOKEN,
        role: Role::Control { streams: 2 },
        migration: MigrationId(77),
        capabilities: Capabilities::PLAIN.with(Capabilities::LZ4).with(Capabilities::DIGEST),
        memory: ByteCount(1 << 30),
        token: token("a secret"),
    }
}

fn terms() -> Terms {
    let capabilities = Capabilities::KNOWN;
    Terms { token: token("a secret"), versions: Versions::SPOKEN, capabilities, limits: Limits::default() }
}

fn opened(bytes: &[u8]) -> (&[u8; PREFIX_LEN], &[u8]) {
    bytes.split_first_chunk().expect("it has a prefix")
}

/// What the destination reads, by the way that a driver takes.
fn arrived(bytes: &[u8]) -> Result<Hello, WireError> {
    let (prefix, behind) = opened(bytes);
    let length = rest(prefix, Direction::FromSource)?;
    Hello::decode(prefix, behind.get(..length).ok_or(WireError::Truncated { what: "it" })?)
}

/// What the source reads.
fn answered(bytes: &[u8]) -> Result<Answer, WireError> {
    let (prefix, behind) = opened(bytes);
    let length = rest(prefix, Direction::FromDestination)?;
    decode_answer(prefix, behind.get(..length).ok_or(WireError::Truncated { what: "it" })?)
}

/// The same with another checksum, so that only what was changed is wrong.
fn resealed(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    close(kind, &bytes[PREFIX_LEN..])
}

fn hellos() -> impl Strategy<Value = Hello> {
    let role = prop_oneof![
        any::<u16>().prop_map(|streams| Role::Control { streams }),
        Just(Role::Again),
        any::<u16>().prop_map(|stream| Role::Pages { stream }),
        (4..=255_u8, any::<u16>()).prop_map(|(code, number)| Role::Unknown { code, number }),
    ];
    let versions = (1..=u16::MAX, 0..50_u16)
        .prop_map(|(oldest, more)| Versions { oldest, newest: oldest.saturating_add(more) });
    let token = prop::collection::vec(any::<u8>(), 1..=MOST_TOKEN);
    (versions, role, any::<u64>(), any::<u64>(), any::<u64>(), token).prop_map(
        |(versions, role, migration, capabilities, memory, token)| Hello {
            versions,
            role,
            migration: MigrationId(migration),
            capabilities: Capabilities::from_bits(capabilities),
            memory: ByteCount(memory),
            token: Token::new(&token).unwrap(),
        },
    )
}

fn answers() -> impl Strategy<Value = Answer> {
    let welcome = (any::<u16>(), any::<u64>(), any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
        |(version, capabilities, entries, payload, control)| {
            let capabilities = Capabilities::from_bits(capabilities);
            Ok(Welcome { version, capabilities, entries, payload, control })
        },
    );
    let versions = (1..=100_u16, 100..=u16::MAX).prop_map(|(oldest, newest)| Versions { oldest, newest });
    prop_oneof![
        welcome,
        Just(Err(Reject::Token)),
        versions.prop_map(|versions| Err(Reject::Versions(versions))),
        Just(Err(Reject::Busy)),
        Just(Err(Reject::Migration)),
        any::<u16>().prop_map(|most| Err(Reject::Streams { most })),
        any::<u64>().prop_map(|most| Err(Reject::Memory { most: ByteCount(most) })),
        (7..=u16::MAX, ".{0,80}").prop_map(|(code, text)| Err(Reject::Other { code, text })),
    ]
}

proptest! {
    #[test]
    fn every_hello_and_every_answer_arrives_as_it_was_sent(hello in hellos(), answer in answers()) {
        prop_assert_eq!(arrived(&hello.encode()), Ok(hello));
        prop_assert_eq!(answered(&encode_answer(&answer)), Ok(answer));
    }

    #[test]
    fn a_first_message_that_is_cut_off_or_changed_anywhere_is_refused(
        hello in hellos(),
        answer in answers(),
        at in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let mut sent = hello.encode();
        let at_hello = at.index(sent.len());
        if at_hello >= PREFIX_LEN {
            prop_assert!(arrived(&sent[..at_hello]).is_err());
        }
        sent[at_hello] ^= change;
        prop_assert!(arrived(&sent).is_err(), "byte {}", at_hello);
        let mut sent = encode_answer(&answer);
        let at_answer = at.index(sent.len());
        if at_answer >= PREFIX_LEN {
            prop_assert!(answered(&sent[..at_answer]).is_err());
        }
        sent[at_answer] ^= change;
        prop_assert!(answered(&sent).is_err(), "byte {}", at_answer);
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::hello(&data);
    }

    #[test]
    fn every_answer_of_a_destination_is_one_to_its_hello(hello in hellos()) {
        crate::fuzzing::hello(&hello.encode());
        let terms = Terms { token: hello.token.clone(), ..terms() };
        let answer = terms.judge(&hello);
        prop_assert_eq!(hello.accept(answer.clone()), Ok(answer));
    }
}

#[test]
fn what_both_can_do_is_agreed_on_and_what_the_destination_takes_is_told() {
    let mut terms = terms();
    terms.capabilities = Capabilities::LZ4.with(Capabilities::PAYLOAD_CHECKSUMS);
    terms.limits.payload = ByteCount(1 << 16);
    let welcome = terms.judge(&hello()).unwrap();
    assert_eq!(welcome.version, 1);
    assert_eq!(welcome.capabilities, Capabilities::PLAIN.with(Capabilities::LZ4));
    let limits = Limits::default().for_welcome(&welcome);
    assert_eq!(limits, Limits { payload: ByteCount(1 << 16), ..Limits::default() });
}

/// As a release with a second version of the protocol will be, and one that has left the first behind.
#[test]
fn the_newest_common_version_is_chosen_and_without_one_both_sides_learn_why() {
    let versions = |oldest, newest| Versions::new(oldest, newest).unwrap();
    let meet = |source: Versions, destination: Versions| {
        let hello = Hello { versions: source, ..hello() };
        let answer = Terms { versions: destination, ..terms() }.judge(&arrived(&hello.encode()).unwrap());
        hello.accept(answered(&encode_answer(&answer)).unwrap()).unwrap()
    };
    for (source, destination, chosen) in [
        (versions(1, 1), versions(1, 1), 1),
        (versions(1, 2), versions(1, 1), 1),
        (versions(1, 1), versions(1, 2), 1),
        (versions(1, 2), versions(1, 2), 2),
        (versions(2, 3), versions(1, 2), 2),
    ] {
        let version = meet(source, destination).map(|welcome| welcome.version);
        assert_eq!(version, Ok(chosen), "{source} meets {destination}");
    }
    for (source, destination) in [(versions(3, 3), versions(1, 1)), (versions(1, 1), versions(2, 3))] {
        assert_eq!(meet(source, destination), Err(Reject::Versions(destination)));
    }
    // The destination names its own; the source knows what it offered, and its error says both.
    let told = Reject::Versions(versions(2, 3)).to_string();
    assert!(told.contains("2 to 3"), "{told}");
}

#[test]
fn a_later_version_may_append_and_have_roles_and_capabilities_that_are_not_known_here() {
    let later = Hello {
        versions: Versions::new(1, 2).unwrap(),
        role: Role::Unknown { code: 9, number: 4 },
        capabilities: Capabilities::from_bits(1 << 63 | 1 << 2),
        ..hello()
    };
    let mut rest = later.encode().split_off(PREFIX_LEN);
    rest.extend(*b"and more");
    let sent = close(Kind::Hello, &rest);
    assert_eq!(arrived(&sent), Ok(later.clone()));
    let role = terms().judge(&later).unwrap_err().to_string();
    assert!(role.contains("role 9"), "{role}");
    // A later version that speaks no earlier one is told so, whatever its role is.
    let only = Hello { versions: Versions::new(3, 3).unwrap(), ..later.clone() };
    assert_eq!(terms().judge(&only), Err(Reject::Versions(Versions::SPOKEN)));
    let known = Hello { role: Role::Again, ..later };
    let welcome = terms().judge(&known).unwrap();
    assert_eq!(welcome.capabilities, Capabilities::PLAIN.with(Capabilities::LZ4));

    let mut rest = hello().encode().split_off(PREFIX_LEN);
    rest.extend(*b"and more");
    let refused = arrived(&close(Kind::Hello, &rest));
    assert_eq!(refused, Err(WireError::Trailing { what: "a hello", count: 8 }));
}

#[test]
fn a_wrong_token_is_refused_before_anything_else_is() {
    let wrong = Hello {
        versions: Versions::new(3, 3).unwrap(),
        role: Role::Pages { stream: 999 },
        memory: ByteCount(u64::MAX),
        ..hello()
    };
    for text in ["a secreT", "a secret ", "a secre", "b"] {
        let answer = terms().judge(&Hello { token: token(text), ..wrong.clone() });
        assert_eq!(answer, Err(Reject::Token), "{text}");
    }
    assert_eq!(terms().judge(&wrong), Err(Reject::Versions(Versions::SPOKEN)));
    // One that ends in zeroes is not one that ends before them.
    assert!(!token("a\0").matches(&token("a")));
    assert!(token("a\0").matches(&token("a\0")));
    assert!(!format!("{:?}", token("a secret")).contains("secret"));
}

#[test]
fn more_than_the_destination_takes_is_refused_by_number() {
    let mut terms = terms();
    terms.limits.streams = 4;
    terms.limits.memory = ByteCount(1 << 29);
    for role in [
        Role::Control { streams: 0 },
        Role::Control { streams: 5 },
        Role::Pages { stream: 4 },
        Role::Control { streams: u16::MAX },
    ] {
        assert_eq!(terms.judge(&Hello { role, ..hello() }), Err(Reject::Streams { most: 4 }), "{role:?}");
    }
    let large = terms.judge(&hello());
    assert_eq!(large, Err(Reject::Memory { most: ByteCount(1 << 29) }));
    // Who only asks is heard, however large the guest was.
    assert!(terms.judge(&Hello { role: Role::Again, ..hello() }).is_ok());
    for role in [Role::Control { streams: 4 }, Role::Pages { stream: 3 }, Role::Again] {
        let memory = ByteCount(1 << 29);
        assert!(terms.judge(&Hello { role, memory, ..hello() }).is_ok(), "{role:?}");
    }
    // Whatever is configured, there are no more than the protocol can have.
    terms.limits.streams = 1000;
    let many = Hello { role: Role::Control { streams: 65 }, memory: ByteCount(1), ..hello() };
    assert_eq!(terms.judge(&many), Err(Reject::Streams { most: 64 }));
    // A guest that grows behind its hello meets the hello.
    assert_eq!(Limits::default().for_hello(&many).memory, ByteCount(1));
}

#[test]
fn an_answer_with_what_was_not_offered_is_a_breach() {
    let hello = hello();
    let welcome = terms().judge(&hello).unwrap();
    let version = hello.accept(Ok(Welcome { version: 2, ..welcome }));
    assert_eq!(version, Err(WireError::Version { found: 2, offered: Versions::SPOKEN }));
    for extra in [Capabilities::ZSTD, Capabilities::from_bits(1 << 40)] {
        let capabilities = welcome.capabilities.with(extra);
        let found = capabilities.bits();
        let what = "the capabilities that were accepted";
        let refused = hello.accept(Ok(Welcome { capabilities, ..welcome }));
        let accepted = hello.capabilities.bits();
        assert_eq!(refused, Err(WireError::Bits { what, found, accepted }));
    }
}

#[test]
fn a_first_message_that_is_none_is_refused_by_what_is_wrong() {
    let sent = hello().encode();
    let mut http = sent.clone();
    http[..8].copy_from_slice(b"GET / HT");
    assert!(matches!(arrived(&http), Err(WireError::Magic { .. })));
    // A destination's answer is no hello, and a hello no answer.
    assert!(matches!(arrived(&encode_answer(&Err(Reject::Busy))), Err(WireError::Code { found: 2 | 3, .. })));
    assert!(matches!(answered(&sent), Err(WireError::Code { found: 1, .. })));
    let mut long = sent.clone();
    long[10..12].copy_from_slice(&1025_u16.to_le_bytes());
    let refused = rest(opened(&long).0, Direction::FromSource);
    assert_eq!(refused, Err(WireError::TooMuch { limit: Limit::Rest, found: 1025, most: 1024 }));
    let altered = |at: usize, value: u8| {
        let mut sent = sent.clone();
        sent[PREFIX_LEN + at] = value;
        arrived(&resealed(Kind::Hello, &sent))
    };
    assert_eq!(altered(0, 0), Err(WireError::Versions { oldest: 0, newest: 1 }));
    assert_eq!(altered(0, 2), Err(WireError::Versions { oldest: 2, newest: 1 }));
    // A token that reaches beyond the end, is longer than tokens are, or is none.
    assert_eq!(altered(5, 65), Err(WireError::Truncated { what: "the token of a hello" }));
    assert_eq!(altered(5, 0), Err(WireError::Trailing { what: "a hello", count: 8 }));
    let refused = Token::new(&[0; 65]);
    assert_eq!(refused, Err(WireError::TooMuch { limit: Limit::Token, found: 65, most: 64 }));
    assert!(Token::new(&[]).is_err());
}

#[test]
fn a_reason_that_is_too_long_is_shortened_between_letters() {
    let text = "é".repeat(2000);
    let answer = Err(Reject::Other { code: Reject::OTHER, text: text.clone() });
    let Err(Reject::Other { text: told, .. }) = answered(&encode_answer(&answer)).unwrap() else {
        panic!("another answer");
    };
    assert!(told.len() == 1000 && text.starts_with(&told), "{} bytes", told.len());
}

#[test]
fn capabilities_have_the_bits_of_the_specification() {
    assert_eq!(Capabilities::KNOWN.bits(), 0b11_0001_1111);
    assert_eq!(Capabilities::from_bits(u64::MAX).encodings().iter().count(), Encoding::ALL.len());
    assert_eq!(Capabilities::of(Encodings::PLAIN.with(Encoding::Zstd)).bits(), 0b1011);
    assert_eq!(Capabilities::DIGEST.encodings(), Encodings::PLAIN);
}
