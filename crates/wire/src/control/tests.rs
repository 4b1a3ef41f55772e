//! Messages that arrive as they were sent, and bytes that are no message.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::layout::{Gpa, LayoutError, PageNumber, PageSize, RamLayout, Region};
use whimbrel_core::machine::handoff::{HandoffMessage, Standing};
use whimbrel_core::machine::message::{Configuration, MigrationId, Section};
use whimbrel_core::units::{ByteCount, Pages};

use super::*;
use crate::fuzzing::{arrived, read};

/// Layouts of up to 8 regions, in any order, of any page size.
fn layouts() -> impl Strategy<Value = RamLayout> {
    let regions = prop::collection::vec((0..50_u64, 1..30_u64), 1..8);
    (prop::sample::select(PageSize::ALL.to_vec()), regions).prop_map(|(size, gaps)| {
        let mut start = 0;
        let mut regions = Vec::new();
        for (gap, pages) in gaps {
            let region = Region { start: Gpa((start + gap) << size.shift()), len: Pages(pages).bytes(size) };
            start += gap + pages;
            regions.push(region);
        }
        RamLayout::new(size, regions).expect("they lie one behind the other")
    })
}

fn handoffs() -> impl Strategy<Value = HandoffMessage> {
    use HandoffMessage as H;
    prop::sample::select(vec![
        H::Ready,
        H::Go,
        H::Running,
        H::Cancel,
        H::Withdraw,
        H::Ask,
        H::Answer(Standing::Prepared),
        H::Answer(Standing::Running),
        H::Answer(Standing::Gone),
    ])
}

fn sections() -> impl Strategy<Value = Section> {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    (".{0,40}", any::<u32>(), bytes).prop_map(|(kind, version, bytes)| Section { kind, version, bytes })
}

/// Every message that there is.
fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u64>(), ".{0,60}", layouts(), 0..4097_u32).prop_map(|(id, name, layout, vcpus)| {
            Message::Configure(Arc::new(Configuration { id: MigrationId(id), name, layout, vcpus }))
        }),
        Just(Message::Accept),
        ".{0,200}".prop_map(|reason| Message::Refuse { reason }),
        any::<u32>().prop_map(|round| Message::RoundEnd { round }),
        any::<u32>().prop_map(|round| Message::Acknowledge { round }),
        any::<u64>().prop_map(|missing| Message::PostCopy { missing: Pages(missing) }),
        any::<u64>().prop_map(|page| Message::Request { page: PageNumber(page) }),
        ".{0,200}".prop_map(|reason| Message::Lost { reason }),
        prop::collection::vec(sections(), 0..6).prop_map(Message::State),
        (handoffs(), any::<u64>())
            .prop_map(|(message, took)| Message::Handoff { message, took: Duration::from_nanos(took) }),
    ]
}

proptest! {
    #[test]
    fn every_message_arrives_as_it_was_sent(message in messages()) {
        prop_assert_eq!(arrived(&message, &Limits::default()), Ok(message));
    }

    #[test]
    fn a_frame_that_is_cut_off_anywhere_is_refused(message in messages(), at in any::<prop::sample::Index>()) {
        let limits = Limits::default();
        let frame = encode(&message, &limits).unwrap();
        let cut = &frame[..at.index(frame.len())];
        prop_assert_eq!(read(cut, &limits).map(|(header, _)| header), Err(WireError::Truncated { what: "a frame" }));
        // Nor does a body that lost its end without its frame noticing become another message.
        let body = &frame[HEADER_LEN..];
        if !body.is_empty() {
            prop_assert!(decode(&body[..at.index(body.len())], &limits).is_err());
        }
    }

    #[test]
    fn a_frame_with_a_byte_changed_anywhere_is_refused(
        message in messages(),
        at in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let limits = Limits::default();
        let mut frame = encode(&message, &limits).unwrap();
        let at = at.index(frame.len());
        frame[at] ^= change;
        let refused = read(&frame, &limits).map(|(header, _)| header);
        prop_assert!(matches!(refused, Err(WireError::Checksum { .. })), "byte {}: {:?}", at, refused);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzzing::control(&data);
        crate::fuzzing::frame(&data);
    }
}

/// Every byte of one message of each kind, with every other value.
#[test]
fn every_change_of_a_byte_of_a_small_frame_is_found() {
    let limits = Limits::default();
    let frame = encode(&Message::RoundEnd { round: 300 }, &limits).unwrap();
    for at in 0..frame.len() {
        for change in 1..=255 {
            let mut frame = frame.clone();
            frame[at] ^= change;
            assert!(read(&frame, &limits).is_err(), "byte {at} ^ {change}");
        }
    }
}

#[test]
fn bytes_behind_a_message_are_refused() {
    let limits = Limits::default();
    for message in [Message::Accept, Message::State(Vec::new())] {
        let mut body = encode(&message, &limits).unwrap().split_off(HEADER_LEN);
        body.extend([0, 0]);
        let refused = decode(&body, &limits);
        assert_eq!(refused, Err(WireError::Trailing { what: message.name(), count: 2 }));
    }
}

/// A configuration with all numbers small.
fn configuration() -> Configuration {
    let layout = RamLayout::contiguous(ByteCount(1 << 20), PageSize::Kib4).unwrap();
    Configuration { id: MigrationId(7), name: "guest".into(), layout, vcpus: 2 }
}

/// Encodes with the default limits; is refused with lowered ones, in both directions.
fn assert_too_much(message: &Message, lowered: &Limits, limit: Limit, found: u64) {
    let body = encode(message, &Limits::default()).unwrap().split_off(HEADER_LEN);
    let most = lowered.most(limit);
    let refused = WireError::TooMuch { limit, found, most };
    assert_eq!(decode(&body, lowered), Err(refused.clone()));
    assert_eq!(encode(message, lowered), Err(refused.clone()));
    let text = refused.to_string();
    assert!(text.contains(&found.to_string()) && text.contains(&most.to_string()), "{text}");
}

#[test]
fn what_is_beyond_a_limit_is_neither_sent_nor_taken() {
    let usual = Limits::default();
    let configure = Message::Configure(Arc::new(configuration()));
    assert_too_much(&configure, &Limits { name: 4, ..usual }, Limit::Name, 5);
    assert_too_much(&configure, &Limits { vcpus: 1, ..usual }, Limit::Vcpus, 2);
    assert_too_much(&configure, &Limits { regions: 0, ..usual }, Limit::Regions, 1);
    let memory = Limits { memory: ByteCount((1 << 20) - 1), ..usual };
    assert_too_much(&configure, &memory, Limit::Memory, 1 << 20);
    let refuse = Message::Refuse { reason: "no room".into() };
    assert_too_much(&refuse, &Limits { text: 6, ..usual }, Limit::Text, 7);
    let lost = Message::Lost { reason: "no room".into() };
    assert_too_much(&lost, &Limits { text: 6, ..usual }, Limit::Text, 7);
    let section = Section { kind: "cpu".into(), version: 1, bytes: vec![1; 10] };
    let state = Message::State(vec![section.clone(), section]);
    assert_too_much(&state, &Limits { sections: 1, ..usual }, Limit::Sections, 2);
    assert_too_much(&state, &Limits { section: ByteCount(9), ..usual }, Limit::Section, 10);
    assert_too_much(&state, &Limits { name: 2, ..usual }, Limit::Name, 3);
    // One for the message, one for the count, and 4 + 1 + 11 for each section.
    assert_too_much(&state, &Limits { control: ByteCount(33), ..usual }, Limit::Control, 34);
}

/// A count that only a long body could hold is refused by the count, before anything is made for it.
#[test]
fn a_count_is_held_against_its_limit_before_what_it_counts() {
    let limits = Limits::default();
    let refused = decode(&[8, 0xff, 0xff, 0xff, 0xff, 0x0f], &limits);
    let most = 4096;
    assert_eq!(refused, Err(WireError::TooMuch { limit: Limit::Sections, found: 0xffff_ffff, most }));
    let refused = decode(&[0, 7, 0, 1, 12, 0xff, 0xff, 0xff, 0xff, 0x0f], &limits);
    let most = 1024;
    assert_eq!(refused, Err(WireError::TooMuch { limit: Limit::Regions, found: 0xffff_ffff, most }));
}

#[test]
fn a_message_that_is_none_is_refused_by_what_is_wrong() {
    let limits = Limits::default();
    let what = "a control message";
    for (body, fault) in [
        (&[][..], "ends too early"),
        (&[10], "has a code without a meaning"),
        (&[9, 9, 0], "has a code without a meaning"),
        (&[2, 1, 0xff], "has a text that is not UTF-8"),
        (&[2, 5, b'a'], "ends too early"),
        (&[3, 0xff, 0xff, 0xff, 0xff, 0x1f], "has a number that is too large"),
    ] {
        assert_eq!(decode(body, &limits), Err(WireError::Malformed { what, fault }), "{body:02x?}");
    }
    let page_size = decode(&[0, 7, 0, 1, 13, 1, 0, 0x80, 0x20], &limits).unwrap_err().to_string();
    assert!(page_size.contains("is 13, accepted is 12, 21 or 30"), "{page_size}");
    let misaligned = decode(&[0, 7, 0, 1, 12, 1, 1, 0x80, 0x20], &limits);
    assert!(matches!(misaligned, Err(WireError::Layout(LayoutError::Misaligned { .. }))), "{misaligned:?}");
    // Two regions, one in the other.
    let overlap = decode(&[0, 7, 0, 1, 12, 2, 0, 0x80, 0x40, 0x80, 0x20, 0x80, 0x20], &limits);
    assert!(matches!(overlap, Err(WireError::Layout(LayoutError::Overlap { .. }))), "{overlap:?}");
}
