//! Headers that arrive as they were sent, and those that are refused.

use proptest::prelude::*;

use super::*;

fn header(kind: FrameKind, entries: u16, length: u32) -> FrameHeader {
    FrameHeader { kind, entries, length, checksum: 5, payload_checked: false }
}

/// Twelve bytes with the checksum that they have.
fn sealed(bytes: [u8; 12]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..12].copy_from_slice(&bytes);
    header[12..].copy_from_slice(&checksum(&bytes).to_le_bytes());
    header
}

fn decode(header: &FrameHeader) -> Result<FrameHeader, WireError> {
    FrameHeader::decode(&header.encode(), &Limits::default())
}

proptest! {
    #[test]
    fn every_header_arrives_as_it_was_sent_or_is_refused(
        kind in prop::sample::select(FrameKind::ALL.to_vec()),
        entries in 0..1100_u16,
        length in 0..600_000_u32,
        checksum in any::<u32>(),
        payload_checked in any::<bool>(),
    ) {
        let header = FrameHeader { kind, entries, length, checksum, payload_checked };
        match decode(&header) {
            Ok(arrived) => prop_assert_eq!(arrived, header),
            Err(WireError::Bits { .. }) => prop_assert!(payload_checked && kind != FrameKind::Pages),
            Err(WireError::TooMuch { limit: Limit::Entries, found, most }) => {
                prop_assert!(found > most && found == u64::from(entries));
            }
            Err(WireError::TooMuch { limit: Limit::Payload, found, .. }) => {
                prop_assert_eq!(found + 16 * u64::from(entries), u64::from(length));
            }
            Err(WireError::Truncated { .. }) => prop_assert!(length < 16 * u32::from(entries)),
            Err(WireError::Length { found, accepted, .. }) => prop_assert!(found != accepted),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn a_header_with_a_byte_changed_is_refused(at in 0..HEADER_LEN, change in 1..=255_u8) {
        let mut bytes = header(FrameKind::Pages, 3, 400).encode();
        bytes[at] ^= change;
        let refused = FrameHeader::decode(&bytes, &Limits::default());
        let found = matches!(refused, Err(WireError::Checksum { what: "a frame's header", .. }));
        prop_assert!(found, "{:?}", refused);
    }
}

#[test]
fn the_checksum_is_the_one_that_everybody_calls_crc_32() {
    // The check value of CRC-32/ISO-HDLC.
    assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
}

#[test]
fn a_checksum_of_two_parts_is_that_of_the_whole() {
    let bytes: Vec<u8> = (0..10_000_u32).map(|at| ((at * at) >> 3) as u8).collect();
    for cut in [0, 1, 16, 4096, 9999, 10_000] {
        let [mut sum, mut behind] = [Checksum::new(), Checksum::new()];
        sum.update(&bytes[..cut]);
        behind.update(&bytes[cut..]);
        sum.append(&behind);
        assert_eq!(sum.finish(), checksum(&bytes), "{cut}");
    }
}

#[test]
fn zeroes_are_no_frame() {
    let refused = FrameHeader::decode(&[0; HEADER_LEN], &Limits::default());
    assert!(matches!(refused, Err(WireError::Checksum { .. })), "{refused:?}");
    let refused = FrameHeader::decode(&sealed([0; 12]), &Limits::default());
    assert!(matches!(refused, Err(WireError::Code { found: 0, .. })), "{refused:?}");
}

#[test]
fn unknown_kinds_and_reserved_bits_are_named() {
    let refused = |bytes| FrameHeader::decode(&sealed(bytes), &Limits::default()).unwrap_err().to_string();
    let kind = refused([5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(kind.starts_with("the kind of a frame is 5, accepted is 1"), "{kind}");
    let flags = refused([2, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(flags, "flags of a frame are 0x6, accepted are those of 0x1");
    let flags = refused([4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(flags, "flags of a frame are 0x1, accepted are those of 0x0");
    let entries = refused([1, 0, 2, 0, 64, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(entries, "entries in a batch of pages would be 2, accepted are at most 0");
    let gate = refused([3, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(gate, "a gate has 5 bytes, accepted are 4");
    let ping = refused([4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ping, "a ping has 1 bytes, accepted are 0");
}

#[test]
fn lengths_are_held_against_the_limits_before_anything_is_read() {
    let limits = Limits::default();
    let control = limits.control.0 as u32;
    assert!(decode(&header(FrameKind::Control, 0, control)).is_ok());
    let refused = decode(&header(FrameKind::Control, 0, control + 1));
    let (found, most) = (u64::from(control) + 1, control.into());
    assert_eq!(refused, Err(WireError::TooMuch { limit: Limit::Control, found, most }));
    let payload = limits.payload.0 as u32;
    assert!(decode(&header(FrameKind::Pages, 1024, 1024 * 16 + payload)).is_ok());
    let refused = decode(&header(FrameKind::Pages, 1024, 1024 * 16 + payload + 1));
    let (found, most) = (u64::from(payload) + 1, payload.into());
    assert_eq!(refused, Err(WireError::TooMuch { limit: Limit::Payload, found, most }));
    let refused = decode(&header(FrameKind::Pages, 1025, 1025 * 16));
    assert_eq!(refused, Err(WireError::TooMuch { limit: Limit::Entries, found: 1025, most: 1024 }));
    let refused = decode(&header(FrameKind::Pages, 2, 31));
    assert_eq!(refused, Err(WireError::Truncated { what: "the table of a pages frame" }));
}

#[test]
fn a_checksum_covers_the_table_alone_or_all_of_the_body() {
    let body: Vec<u8> = (0..40).collect();
    let mut pages = header(FrameKind::Pages, 2, 40);
    pages.checksum = checksum(&body[..32]);
    assert_eq!(pages.covered(), 32);
    assert_eq!(pages.verify(&body[..32]), Ok(()));
    let wrong = WireError::Length { what: "a pages frame", found: 40, accepted: 32 };
    assert_eq!(pages.verify(&body), Err(wrong));
    pages.payload_checked = true;
    assert_eq!(pages.covered(), 40);
    assert!(matches!(pages.verify(&body), Err(WireError::Checksum { .. })));
    pages.checksum = checksum(&body);
    assert_eq!(pages.verify(&body), Ok(()));
    let control = FrameHeader { kind: FrameKind::Control, entries: 0, payload_checked: false, ..pages };
    assert_eq!(control.verify(&body), Ok(()));
}
