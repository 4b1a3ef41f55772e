use super::super::testing::VecRam;
use super::*;
use whimbrel_core::embed::GuestRam;
use whimbrel_core::layout::PageSize;

fn entry(first: u64, pages: u16, encoding: u8, reserved: u8, length: u32) -> Vec<u8> {
    let mut bytes = first.to_le_bytes().to_vec();
    bytes.extend(pages.to_le_bytes());
    bytes.extend([encoding, reserved]);
    bytes.extend(length.to_le_bytes());
    bytes
}

/// What [`VecRam::small`] says to one entry with all the payload that it asks for.
fn refusal(bytes: &[u8], accepted: Encodings) -> String {
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    let mut table = Table { entries: vec![] };
    let error = table.read(bytes, 1, length.into(), VecRam::small().layout(), accepted).unwrap_err();
    assert!(table.entries().is_empty());
    error.to_string()
}

#[test]
fn an_entry_is_what_was_written() {
    let all = Encodings::from_bits(0b1_1111);
    for bytes in [
        entry(0, 64, 0, 0, 0),
        entry(64, 40, 1, 0, 40 * 4096),
        entry(3, 16, 2, 0, 65535),
        entry(3, 1, 3, 0, 1),
        entry(134, 1, 4, 0, 4095),
    ] {
        let ram = VecRam::small();
        let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
        let mut table = Table::default();
        table.read(&bytes, 1, length.into(), ram.layout(), all).unwrap();
        let read = table.entries()[0];
        assert_eq!(read.encode()[..], bytes);
        assert_eq!(Some(read.at()), ram.layout().address_of(read.run().first));
    }
}

#[test]
fn whatever_is_wrong_with_an_entry_is_named() {
    let all = Encodings::from_bits(0b1_1111);
    for (bytes, said) in [
        (entry(5, 0, 0, 0, 0), "entry 0 at page 5 has no pages"),
        (entry(0, 65, 0, 0, 0), "entry 0: 65 pages from 0 on are not all in one region"),
        (entry(104, 1, 0, 0, 0), "1 pages from 104 on are not all"),
        (entry(u64::MAX, u16::MAX, 0, 0, 0), "65535 pages from 18446744073709551615 on"),
        (entry(5, 1, 5, 0, 0), "entry 0 at page 5 has encoding 5: accepted is {Zero, Raw, Lz4, Zstd, Delta}"),
        (entry(5, 1, 0, 3, 0), "has 0x03 where 0 is reserved"),
        (entry(5, 17, 2, 0, 10), "17 lz4 pages from 5 on are more than 16"),
        (entry(5, 1, 0, 0, 1), "1 bytes cannot be 1 zero pages of 4KiB from 5 on"),
        (entry(5, 2, 1, 0, 4096), "4096 bytes cannot be 2 raw pages"),
        (entry(5, 1, 2, 0, 0), "0 bytes cannot be 1 lz4 pages"),
        (entry(5, 1, 3, 0, 4096), "4096 bytes cannot be 1 zstd pages"),
        (entry(5, 1, 4, 0, 2), "2 bytes cannot be 1 delta pages"),
    ] {
        let found = refusal(&bytes, all);
        assert!(found.contains(said), "{found}, expected {said}");
    }
    let found = refusal(&entry(5, 1, 2, 0, 10), Encodings::PLAIN);
    assert!(found.contains("has encoding 2: accepted is {Zero, Raw}"), "{found}");
}

#[test]
fn a_table_and_its_payloads_are_the_whole_body() {
    let ram = VecRam::small();
    let two = [entry(0, 1, 1, 0, 4096), entry(1, 1, 1, 0, 4096)].concat();
    let mut table = Table::default();
    let mut read = |bytes: &[u8], entries, payload| {
        let read = table.read(bytes, entries, payload, ram.layout(), Encodings::PLAIN);
        read.map_err(|error| error.to_string()).map(|()| table.entries().len())
    };
    assert_eq!(read(&two, 2, 8192), Ok(2));
    assert_eq!(read(&two, 3, 8192).unwrap_err(), "a table of 3 entries has 48 bytes, found 32");
    assert_eq!(read(&two[..31], 1, 4096).unwrap_err(), "a table of 1 entries has 16 bytes, found 31");
    let sum = "the payloads of a table have 8192 bytes together, the body has 8193 for them";
    assert_eq!(read(&two, 2, 8193).unwrap_err(), sum);
    assert_eq!(read(&[], 0, 0), Ok(0));
}

#[test]
fn pages_larger_than_what_is_unpacked_at_once_go_one_by_one_and_the_largest_not_at_all() {
    assert_eq!(most_pages(Encoding::Lz4, PageSize::Kib4), 16);
    assert_eq!(most_pages(Encoding::Delta, PageSize::Mib2), 1);
    assert_eq!(most_pages(Encoding::Zstd, PageSize::Gib1), 0);
    assert_eq!(most_pages(Encoding::Raw, PageSize::Gib1), 65535);
}

#[test]
fn sets_of_encodings_always_have_zero_and_raw() {
    let none = Encodings::from_bits(0);
    assert_eq!(none, Encodings::PLAIN);
    assert_eq!(none.without(Encoding::Raw), Encodings::PLAIN);
    assert_eq!(Encodings::from_bits(0xff), Encodings::from_bits(0b1_1111));
    let some = Encodings::PLAIN.with(Encoding::Delta).with(Encoding::Lz4);
    assert_eq!(some.common(Encodings::PLAIN.with(Encoding::Delta)).bits(), 0b1_0011);
    assert_eq!(some.without(Encoding::Lz4).iter().map(Encoding::code).collect::<Vec<_>>(), [0, 1, 4]);
}
