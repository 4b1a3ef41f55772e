use std::error::Error;

use super::super::Encodings;
use super::super::table::Table;
use super::super::testing::VecRam;
use super::*;

/// What is said of one entry for page 128 with this payload, the cause behind it; and memory afterwards is as it was, but
/// for the page.
fn refusal(encoding: Encoding, payload: &[u8]) -> String {
    let ram = VecRam::small();
    let mut bytes = 128_u64.to_le_bytes().to_vec();
    bytes.extend([1, 0, encoding.code(), 0]);
    bytes.extend((payload.len() as u32).to_le_bytes());
    let mut table = Table::default();
    table.read(&bytes, 1, payload.len() as u64, ram.layout(), Encodings::from_bits(0xff)).unwrap();
    let entry = table.entries()[0];
    let error = Decoder::new(PageSize::Kib4).apply(&entry, payload, &ram).unwrap_err();
    assert!(
        ram.content().iter().enumerate().all(|(at, byte)| *byte == 0 || (104..105).contains(&(at >> 12)))
    );
    let fault = error.source().unwrap();
    format!("{error}: {fault}: {}", fault.source().map(ToString::to_string).unwrap_or_default())
}

#[test]
fn a_payload_of_another_length_than_its_entry_says_is_refused() {
    let ram = VecRam::small();
    let entry = Entry { first: PageNumber(0), pages: 1, encoding: Encoding::Raw, length: 4096, at: Gpa(0) };
    let error = Decoder::new(PageSize::Kib4).apply(&entry, &[1; 4095], &ram).unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "the payload has 4095 bytes, its entry says 4KiB");
    assert!(ram.content().iter().all(|byte| *byte == 0));
}

#[cfg(feature = "lz4")]
#[test]
fn blocks_that_are_longer_or_shorter_than_their_page_or_none_are_refused() {
    let long = refusal(Encoding::Lz4, &lz4_flex::block::compress(&[7; 4097]));
    assert!(long.starts_with("lz4 payload of 1 pages from 128 on: it cannot be unpacked: "), "{long}");
    let short = refusal(Encoding::Lz4, &lz4_flex::block::compress(&[7; 4095]));
    assert!(short.contains("4095 bytes were packed, the pages have 4096"), "{short}");
    let none = refusal(Encoding::Lz4, &[0x1f, 1, 9, 0, 200, 0]);
    assert!(none.contains("it cannot be unpacked"), "{none}");
}

#[cfg(feature = "zstd")]
#[test]
fn frames_that_are_longer_or_shorter_than_their_page_or_none_are_refused() {
    let pack = |len| ::zstd::bulk::compress(&vec![7; len], 1).unwrap();
    let long = refusal(Encoding::Zstd, &pack(4097));
    assert!(long.starts_with("zstd payload of 1 pages from 128 on: it cannot be unpacked: "), "{long}");
    let short = refusal(Encoding::Zstd, &[pack(2000), pack(2095)].concat());
    assert!(short.contains("4095 bytes were packed, the pages have 4096"), "{short}");
    let none = refusal(Encoding::Zstd, &[1; 100]);
    assert!(none.contains("it cannot be unpacked"), "{none}");
}

#[test]
fn a_delta_that_leads_outside_its_page_is_refused() {
    let found = refusal(Encoding::Delta, &[0, 1, 9, 0xfe, 0x1f, 2, 1, 1]);
    let said = "delta payload of 1 pages from 128 on: a delta has a change up to byte 4097 or of nothing, the pages have 4096";
    assert!(found.starts_with(said), "{found}");
}
