//! Tests of the layout: what is refused, and that numbering and addressing are inverse.

use super::*;
use proptest::prelude::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn region(start: u64, len: u64) -> Region {
    Region { start: Gpa(start), len: ByteCount(len) }
}

fn layout(regions: &[Region]) -> Result<RamLayout, LayoutError> {
    RamLayout::new(PageSize::Kib4, regions.to_vec())
}

#[test]
fn page_sizes_are_read_and_printed() {
    for (text, size) in [("4KiB", PageSize::Kib4), ("2MiB", PageSize::Mib2), ("1GiB", PageSize::Gib1)] {
        assert_eq!(text.parse(), Ok(size));
        assert_eq!(size.to_string(), text);
        assert_eq!(serde_json::to_string(&size).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<PageSize>(&format!("\"{text}\"")).unwrap(), size);
    }
    assert_eq!("4096 B".parse(), Ok(PageSize::Kib4));
    let error = "8KiB".parse::<PageSize>().unwrap_err();
    assert_eq!(error.to_string(), "no page size of 8KiB: accepted is `4KiB`, `2MiB` or `1GiB`");
    assert!(matches!("4K".parse::<PageSize>(), Err(PageSizeError::NotASize(_))));
    assert!(serde_json::from_str::<PageSize>("4096").is_err());
}

#[test]
fn regions_begin_at_whole_words_in_the_order_of_their_addresses() {
    let high = region(4 * GIB, 2 * MIB);
    let low = region(0, 640 * KIB);
    let tiny = region(MIB, 4 * KIB);
    let layout = layout(&[high, tiny, low]).unwrap();
    assert_eq!(layout.regions(), [low, tiny, high]);
    let runs: Vec<_> = layout.runs().map(PageRun::range).collect();
    assert_eq!(runs, [0..160, 192..193, 256..768]);
    assert_eq!(layout.pages(), Pages(160 + 1 + 512));
    assert_eq!(layout.bytes(), ByteCount(644 * KIB + 2 * MIB));
    assert_eq!(layout.numbers(), 768);
    assert_eq!(layout.page_at(Gpa(4 * GIB + 4097)), Some(PageNumber(257)));
    assert_eq!(layout.page_at(Gpa(640 * KIB)), None);
    assert_eq!(layout.page_at(Gpa(u64::MAX)), None);
    assert_eq!(layout.address_of(PageNumber(192)), Some(Gpa(MIB)));
    assert_eq!(layout.address_of(PageNumber(193)), None);
    assert_eq!(layout.address_of(PageNumber(768)), None);
    assert_eq!(layout.address_of(PageNumber(u64::MAX)), None);
}

#[test]
fn touching_regions_stay_apart() {
    let layout = layout(&[region(0, 4 * KIB), region(4 * KIB, 4 * KIB)]).unwrap();
    assert_eq!(layout.page_at(Gpa(4096)), Some(PageNumber(64)));
}

#[test]
fn bad_regions_are_refused() {
    let page = 4 * KIB;
    assert_eq!(layout(&[]), Err(LayoutError::NoRegions));
    assert_eq!(layout(&[region(page, 0)]), Err(LayoutError::EmptyRegion { start: Gpa(page) }));
    let page_size = PageSize::Kib4;
    let crooked = region(1, page);
    assert_eq!(layout(&[crooked]), Err(LayoutError::Misaligned { region: crooked, page_size }));
    let crooked = region(0, page + 1);
    assert_eq!(layout(&[crooked]), Err(LayoutError::NotWholePages { region: crooked, page_size }));
    let last = region(u64::MAX - page + 1, page);
    assert_eq!(layout(&[last]), Err(LayoutError::BeyondAddressSpace { region: last }));
    let (first, second) = (region(0, 2 * page), region(page, page));
    assert_eq!(layout(&[second, first]), Err(LayoutError::Overlap { first, second }));
    assert!(matches!(layout(&[first, first]), Err(LayoutError::Overlap { .. })));
}

#[test]
fn the_number_space_is_bounded() {
    let most = MAX_PAGE_NUMBERS << 12;
    assert_eq!(layout(&[region(0, most)]).unwrap().numbers(), MAX_PAGE_NUMBERS);
    assert_eq!(
        layout(&[region(0, most), region(most, 4 * KIB)]),
        Err(LayoutError::TooManyPages { numbers: MAX_PAGE_NUMBERS + 64 })
    );
}

#[test]
fn reading_a_layout_checks_it() {
    let layout = layout(&[region(0, 8 * KIB), region(GIB, 4 * KIB)]).unwrap();
    let json = serde_json::to_string(&layout).unwrap();
    assert_eq!(
        json,
        r#"{"page_size":"4KiB","regions":[{"start":0,"len":"8KiB"},{"start":1073741824,"len":"4KiB"}]}"#
    );
    assert_eq!(serde_json::from_str::<RamLayout>(&json).unwrap(), layout);
    let error = serde_json::from_str::<RamLayout>(&json.replace("8KiB", "2GiB")).unwrap_err();
    assert_eq!(error.to_string(), "memory regions 2GiB at 0x0 and 4KiB at 0x40000000 overlap");
}

/// Up to six regions with random holes, page sizes and order.
fn any_layout() -> impl Strategy<Value = RamLayout> {
    let sizes = prop::sample::select(PageSize::ALL.to_vec());
    let pieces = prop::collection::vec((0_u64..200, 1_u64..300), 1..6);
    (sizes, pieces).prop_map(|(size, pieces)| {
        let page = size.bytes().0;
        let mut next = 0;
        let mut regions = Vec::new();
        for (hole, pages) in pieces {
            regions.push(region((next + hole) * page, pages * page));
            next += hole + pages;
        }
        regions.reverse();
        RamLayout::new(size, regions).unwrap()
    })
}

proptest! {
    /// Each number is a page of one run with an address of its own, or padding without one.
    #[test]
    fn page_at_is_the_inverse_of_address_of(layout in any_layout(), within in any::<u64>()) {
        let mut found = 0;
        for number in (0..layout.numbers() + 200).map(PageNumber) {
            let in_a_run = layout.runs().any(|run| run.contains(number));
            prop_assert_eq!(layout.contains(number), in_a_run);
            if let Some(address) = layout.address_of(number) {
                found += 1;
                let inside = Gpa(address.0 + within % layout.page_size().bytes().0);
                prop_assert_eq!(layout.page_at(address), Some(number));
                prop_assert_eq!(layout.page_at(inside), Some(number));
                let in_memory = |region: &&Region| {
                    (region.start.0..region.start.0 + region.len.0).contains(&address.0)
                };
                prop_assert_eq!(layout.regions().iter().filter(in_memory).count(), 1);
            }
        }
        prop_assert_eq!(Pages(found), layout.pages());
    }

    #[test]
    fn every_run_begins_at_a_whole_word(layout in any_layout()) {
        let mut end = 0;
        for run in layout.runs() {
            prop_assert_eq!(run.first.0, end);
            end = run.end().0.next_multiple_of(NUMBERS_PER_WORD);
        }
        prop_assert_eq!(layout.numbers(), end);
        prop_assert_eq!(layout.runs().map(|run| run.count).sum::<Pages>(), layout.pages());
    }

    #[test]
    fn memory_is_all_regions_and_nothing_else(layout in any_layout(), page in 0_u64..2500) {
        let address = page * layout.page_size().bytes().0;
        let exists = layout.regions().iter().any(|region| {
            (region.start.0..region.start.0 + region.len.0).contains(&address)
        });
        prop_assert_eq!(layout.page_at(Gpa(address)).is_some(), exists);
    }

    #[test]
    fn a_stored_layout_reads_back(layout in any_layout()) {
        let json = serde_json::to_string(&layout).unwrap();
        prop_assert_eq!(serde_json::from_str::<RamLayout>(&json).unwrap(), layout);
    }
}
