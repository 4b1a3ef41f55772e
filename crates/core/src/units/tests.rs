//! Tests of all units together: what is read, what is refused and how, and that printing is exact.

use super::*;
use crate::layout::PageSize;
use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

fn bytes(text: &str) -> Result<u64, UnitError> {
    text.parse::<ByteCount>().map(|count| count.0)
}

fn rate(text: &str) -> Result<u64, UnitError> {
    text.parse::<Bandwidth>().map(Bandwidth::bytes_per_second)
}

fn share(text: &str) -> Result<f64, UnitError> {
    text.parse::<Share>().map(Share::as_f64)
}

/// The name of an error's variant.
fn kind<T: std::fmt::Debug>(result: Result<T, UnitError>) -> String {
    let text = format!("{:?}", result.unwrap_err());
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

#[test]
fn sizes_are_read_as_people_write_them() {
    for (text, value) in [
        ("4GiB", 4 << 30),
        ("512MiB", 512 << 20),
        ("64KiB", 64 << 10),
        ("1.5GB", 1_500_000_000),
        ("4096B", 4096),
        ("0B", 0),
        ("0.0GiB", 0),
        (" 4 GiB ", 4 << 30),
        ("4gIB", 4 << 30),
        ("10KB", 10_000),
        ("10kB", 10_000),
        ("3 bytes", 3),
        ("1e3kB", 1_000_000),
        ("2.5e-1GiB", 1 << 28),
        ("1EiB", 1 << 60),
        (".5KiB", 512),
        ("00000000000000000000000000000000000000000000000001B", 1),
        ("18446744073709551615B", u64::MAX),
        // To the nearest byte: 107374182.4.
        ("0.1GiB", 107_374_182),
    ] {
        assert_eq!(bytes(text), Ok(value), "{text}");
    }
}

#[test]
fn bandwidths_are_read_as_people_write_them() {
    for (text, value) in [
        ("1Gbit/s", 125_000_000),
        ("1Gbit", 125_000_000),
        ("1 gbit/s", 125_000_000),
        ("125MB/s", 125_000_000),
        ("64MiB/s", 64 << 20),
        ("100Mbit/s", 12_500_000),
        ("1Mibit/s", 131_072),
        ("8bits/s", 1),
        ("1.5 kB/s", 1_500),
        ("18446744073709551615B/s", u64::MAX),
    ] {
        assert_eq!(rate(text), Ok(value), "{text}");
    }
}

#[test]
fn durations_are_read_as_people_write_them() {
    for (text, nanos) in [
        ("300ms", 300_000_000),
        ("0.2ms", 200_000),
        ("10min", 600_000_000_000),
        ("1h", 3_600_000_000_000),
        ("1.5s", 1_500_000_000),
        ("50us", 50_000),
        ("50µs", 50_000),
        ("50 μs", 50_000),
        ("7ns", 7),
        ("2 d", 172_800_000_000_000),
        ("1 Second", 1_000_000_000),
        ("0s", 0),
        ("0.5ns", 1),
    ] {
        assert_eq!(duration::parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
    }
    assert_eq!(duration::parse("18446744073709551615.999999999s"), Ok(Duration::MAX));
}

#[test]
fn shares_are_read_as_numbers_and_percent() {
    assert_eq!(share("0.3"), Ok(0.3));
    assert_eq!(share("30%"), Ok(0.3));
    assert_eq!(share("33.3 %"), Ok(0.333));
    assert_eq!(share("100%"), Ok(1.0));
    assert_eq!(share("0"), Ok(0.0));
    assert_eq!("99%".parse(), Ok(CpuShare::percent(99)));
}

#[test]
fn counts_and_rates_are_read_with_and_without_their_name() {
    assert_eq!("1024".parse(), Ok(Pages(1024)));
    assert_eq!("1024 pages".parse(), Ok(Pages(1024)));
    assert_eq!("1.5e3".parse(), Ok(Pages(1500)));
    assert_eq!("20000".parse(), PageRate::new(20_000.0));
    assert_eq!("0.5 pages/s".parse(), PageRate::new(0.5));
    assert_eq!("1.5 vcpu-s".parse(), VcpuSeconds::new(1.5));
    assert_eq!("1.5s".parse(), Ok(Timestamp::from_nanos(1_500_000_000)));
}

#[test]
fn what_is_wrong_has_its_own_error() {
    for (found, expected) in [
        (kind(bytes(" ")), "Empty"),
        (kind(bytes("GiB")), "NoNumber"),
        (kind(bytes("-GiB")), "NoNumber"),
        (kind(bytes(".")), "NoNumber"),
        (kind(bytes("100")), "MissingUnit"),
        (kind(bytes("4G")), "UnknownUnit"),
        (kind(bytes("4iB")), "UnknownUnit"),
        (kind(bytes("4Gbit")), "UnknownUnit"),
        (kind(bytes("1.2.3B")), "UnknownUnit"),
        (kind(bytes("4Gb")), "BitsOrBytes"),
        (kind(bytes("-1B")), "Negative"),
        (kind(bytes("inf B")), "NotFinite"),
        (kind(bytes("NaN")), "NotFinite"),
        (kind(bytes("16EiB")), "TooLarge"),
        (kind(bytes("1e999999999999999999999B")), "TooLarge"),
        (kind(bytes("0.4B")), "TooSmall"),
        (kind(bytes("1e-99999999999999999999EiB")), "TooSmall"),
        (kind(rate("0Gbit/s")), "Zero"),
        (kind(rate("1bit/s")), "TooSmall"),
        (kind(rate("1000")), "MissingUnit"),
        (kind(rate("4GiB")), "UnknownUnit"),
        (kind(rate("5/s")), "UnknownUnit"),
        (kind(rate("1Gb/s")), "BitsOrBytes"),
        (kind(rate("1Gbps")), "BitsOrBytes"),
        (kind(rate("99EB/s")), "TooLarge"),
        (kind(duration::parse("300")), "MissingUnit"),
        (kind(duration::parse("3m")), "UnknownUnit"),
        (kind(duration::parse("1e30s")), "TooLarge"),
        (kind(duration::parse("0.1ns")), "TooSmall"),
        (kind("600000d".parse::<Timestamp>()), "TooLarge"),
        (kind(share("1.01")), "MoreThanOne"),
        (kind(share("101%")), "MoreThanOne"),
        (kind(share("1e999")), "MoreThanOne"),
        (kind(share("0.3x")), "UnknownUnit"),
        (kind(Share::new(-0.1)), "Negative"),
        (kind(Share::new(1.5)), "MoreThanOne"),
        (kind(CpuShare::new(f64::NAN)), "NotFinite"),
        (kind("1.5".parse::<Pages>()), "NotWhole"),
        (kind("18446744073709551616".parse::<Pages>()), "TooLarge"),
        (kind("1e400".parse::<PageRate>()), "TooLarge"),
        (kind(PageRate::new(f64::INFINITY)), "NotFinite"),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn errors_name_the_value_and_what_is_accepted() {
    insta::assert_snapshot!(
        [
            bytes("4Gb").unwrap_err(),
            bytes("100").unwrap_err(),
            bytes("99EiB").unwrap_err(),
            rate("0bit/s").unwrap_err(),
            duration::parse("3 parsecs").unwrap_err(),
            share("130%").unwrap_err(),
            Share::new(-1.0).unwrap_err(),
        ]
        .map(|error| error.to_string())
        .join("\n"),
        @"
    `Gb` in `4Gb` could mean bits or bytes: bytes have a capital `B`, bits are spelled `bit`; write a size like `4GiB`, `512MiB`, `1.5GB` or `4096B` (KiB to EiB, kB to EB, B)
    `100` has no unit; write a size like `4GiB`, `512MiB`, `1.5GB` or `4096B` (KiB to EiB, kB to EB, B)
    `99EiB` is too large: the greatest size is one byte less than 16EiB
    `0bit/s` is zero and must be more; write a bandwidth like `1Gbit/s`, `1Gbit`, `125MB/s` or `64MiB/s` (bit/s or B/s with k to E or Ki to Ei)
    `3 parsecs` has the unknown unit `parsecs`; write a duration like `300ms`, `1.5s`, `10min` or `1h` (ns, us, ms, s, min, h, d)
    `130%` is more than the whole; write a share like `0.3` or `30%` (0 to 1, 0% to 100%)
    `-1` is negative; write a share like `0.3` or `30%` (0 to 1, 0% to 100%)
    "
    );
}

#[test]
fn errors_keep_little_of_a_long_text() {
    let error = bytes(&"µ".repeat(100_000)).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn printing_is_pleasant() {
    for (value, text) in [
        (4 << 30, "4GiB"),
        (1_500_000_000, "1.5GB"),
        (3 << 29, "1.5GiB"),
        (1280 << 20, "1280MiB"),
        (4096, "4KiB"),
        (4097, "4097B"),
        (0, "0B"),
        (512, "512B"),
        (u64::MAX, "18446744073709551615B"),
    ] {
        assert_eq!(ByteCount(value).to_string(), text);
    }
    for (value, text) in [
        (125_000_000, "1Gbit/s"),
        (64 << 20, "64MiB/s"),
        (1_000_000, "1MB/s"),
        (12_500_000, "100Mbit/s"),
        (312_500_000, "2.5Gbit/s"),
        (1_250_000_000, "10Gbit/s"),
        (1001, "1001B/s"),
        (1, "1B/s"),
    ] {
        assert_eq!(Bandwidth::new(value).unwrap().to_string(), text);
    }
    for text in ["0s", "300ms", "1.5s", "90s", "10min", "24h", "200us", "1.000000001s", "7ns"] {
        assert_eq!(duration::format(duration::parse(text).unwrap()), text);
    }
    for text in ["0%", "30%", "33.3%", "100%", "7%", "0.07%", "0.7%", "57.1234%", "1e-9%"] {
        assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
    }
    assert_eq!(Pages(1).to_string(), "1 page");
    assert_eq!(Pages(7).to_string(), "7 pages");
    assert_eq!(PageRate::new(20_000.0).unwrap().to_string(), "20000 pages/s");
    assert_eq!(format!("{:>8}|{:<8}|", ByteCount::gib(4), Share::percent(30)), "    4GiB|30%     |");
}

#[test]
fn human_forms_are_short() {
    assert_eq!(ByteCount(488_300_000).human(), "465.7 MiB");
    assert_eq!(ByteCount(1023).human(), "1023 B");
    assert_eq!(ByteCount((1 << 20) - 1).human(), "1.0 MiB");
    assert_eq!(ByteCount::MAX.human(), "16.0 EiB");
    assert_eq!(Bandwidth::new(125_000_000).unwrap().human(), "1.0 Gbit/s");
    assert_eq!(Bandwidth::new(124_999_999).unwrap().human(), "1.0 Gbit/s");
    assert_eq!(Bandwidth::SLOWEST.human(), "8 bit/s");
    for (nanos, text) in [
        (0, "0 s"),
        (999, "999 ns"),
        (1_500, "1.50 µs"),
        (302_000_000, "302 ms"),
        (999_499_999, "999 ms"),
        (999_600_000, "1.00 s"),
        (7_630_000_000, "7.63 s"),
        (99_960_000_000, "1 min 40 s"),
        (125_000_000_000, "2 min 5 s"),
        (3_599_600_000_000, "1 h 0 min"),
    ] {
        assert_eq!(duration::human(Duration::from_nanos(nanos)), text);
    }
    assert_eq!(Share::new(1.0 / 3.0).unwrap().human(), "33.3%");
}

#[test]
fn arithmetic_saturates_or_says_no() {
    assert_eq!(Pages::MAX + Pages(1), Pages::MAX);
    assert_eq!([Pages::MAX, Pages(1)].into_iter().sum::<Pages>(), Pages::MAX);
    assert_eq!(Pages(2).checked_sub(Pages(3)), None);
    assert_eq!(Pages(2).saturating_sub(Pages(3)), Pages::ZERO);
    assert_eq!(Pages::MAX.bytes(PageSize::Gib1), ByteCount::MAX);
    assert_eq!(Pages::MAX.checked_bytes(PageSize::Kib4), None);
    assert_eq!(Pages(3).bytes(PageSize::Mib2), ByteCount::mib(6));
    assert_eq!(ByteCount(4097).pages(PageSize::Kib4), Pages(2));
    assert_eq!(ByteCount::MAX.checked_add(ByteCount(1)), None);
    assert_eq!(Timestamp::MAX + Duration::from_nanos(1), Timestamp::MAX);
    assert_eq!(Timestamp::ZERO.checked_add(Duration::MAX), None);
    assert_eq!(Timestamp::ZERO.since(Timestamp::MAX), Duration::ZERO);
    assert_eq!(Timestamp::ZERO.checked_since(Timestamp::MAX), None);
    let most = VcpuSeconds::new(f64::MAX).unwrap();
    assert_eq!(most + most, most);
    assert_eq!(CpuShare::percent(250), CpuShare::ALL);
    assert_eq!(CpuShare::clamped(f64::NAN), CpuShare::NONE);
    assert_eq!(CpuShare::percent(80).saturating_add(CpuShare::percent(30)), CpuShare::ALL);
    assert_eq!(Share::new(-0.0).unwrap().as_f64().to_bits(), 0);
    assert_eq!(Share::ONE.of(Pages::MAX), Pages::MAX);
    assert_eq!(Share::percent(30).of(Pages(10)), Pages(3));
}

#[test]
fn rates_round_to_the_careful_side() {
    let slow = Bandwidth::new(3).unwrap();
    assert_eq!(slow.time_to_send(ByteCount(1)), Duration::from_nanos(333_333_334));
    assert_eq!(slow.bytes_in(Duration::from_nanos(999_999_999)), ByteCount(2));
    assert_eq!(Bandwidth::SLOWEST.time_to_send(ByteCount::MAX), Duration::MAX);
    assert_eq!(Bandwidth::FASTEST.bytes_in(Duration::MAX), ByteCount::MAX);
    let second = Duration::from_secs(1);
    assert_eq!(Bandwidth::measured(ByteCount(10), Duration::ZERO), None);
    assert_eq!(Bandwidth::measured(ByteCount(10), second * 11), None);
    assert_eq!(Bandwidth::measured(ByteCount(11), second * 11), Some(Bandwidth::SLOWEST));
    assert_eq!(Bandwidth::measured(ByteCount::MAX, Duration::from_nanos(1)), Some(Bandwidth::FASTEST));
    assert_eq!(PageRate::measured(Pages(1), Duration::ZERO), None);
    let rate = PageRate::measured(Pages(100), second * 2).unwrap();
    assert_eq!(rate, PageRate::new(50.0).unwrap());
    assert_eq!(rate.pages_in(Duration::from_millis(1_999)), Pages(99));
    assert_eq!(rate.bytes_per_second(PageSize::Kib4).to_bits(), 204_800.0_f64.to_bits());
    let lost = VcpuSeconds::lost(4, CpuShare::percent(50), second * 3);
    assert_eq!(lost, VcpuSeconds::new(6.0).unwrap());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    memory: ByteCount,
    link: Bandwidth,
    zero: Share,
    throttle: CpuShare,
    rate: PageRate,
    pages: Pages,
    lost: VcpuSeconds,
    at: Timestamp,
    #[serde(with = "duration")]
    limit: Duration,
    #[serde(with = "duration::option", default)]
    warm_up: Option<Duration>,
}

#[test]
fn records_are_stored_as_people_write_them() {
    let record = Record {
        memory: ByteCount::gib(4),
        link: Bandwidth::new(125_000_000).unwrap(),
        zero: Share::percent(30),
        throttle: CpuShare::NONE,
        rate: PageRate::new(20_000.0).unwrap(),
        pages: Pages(7),
        lost: VcpuSeconds::new(0.25).unwrap(),
        at: Timestamp::from_nanos(5),
        limit: Duration::from_millis(300),
        warm_up: Some(Duration::from_mins(1)),
    };
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(
        json,
        r#"{"memory":"4GiB","link":"1Gbit/s","zero":0.3,"throttle":0.0,"rate":20000.0,"pages":7,"#.to_owned()
            + r#""lost":0.25,"at":5,"limit":"300ms","warm_up":"1min"}"#
    );
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    let by_hand = r#"{"memory":"4096 MiB","link":"1 Gbit","zero":"30%","throttle":0,"rate":"2e4 pages/s",
        "pages":7,"lost":"0.25 vcpu-s","at":5,"limit":"0.3s","warm_up":"60s"}"#;
    assert_eq!(serde_json::from_str::<Record>(by_hand).unwrap(), record);
}

#[test]
fn files_with_bad_quantities_are_refused_with_a_reason() {
    fn refused<T: DeserializeOwned + std::fmt::Debug>(json: &str, reason: &str) {
        let error = serde_json::from_str::<T>(json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    refused::<ByteCount>("4096", "expected a size like `4GiB`");
    refused::<Bandwidth>(r#""0B/s""#, "is zero");
    refused::<Share>("1.5", "more than the whole");
    refused::<CpuShare>("-1", "negative");
    refused::<Pages>("-1", "u64");
    refused::<PageRate>("[]", "expected a page rate");
}

/// Values of every size, small and round ones more often.
fn any_count() -> impl Strategy<Value = u64> {
    let round = (0_u64..5000, prop::sample::select(vec![1, 1000, 1024, 125, 1 << 20, 1_000_000, 1 << 30]));
    prop_oneof![
        any::<u64>(),
        (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift),
        round.prop_map(|(count, unit): (u64, u64)| count * unit),
    ]
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (any_count(), 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        any_count().prop_map(Duration::from_nanos),
        any_count().prop_map(Duration::from_secs),
    ]
}

fn any_share() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..=1.0,
        (0_u32..=10_000).prop_map(|part| f64::from(part) / 10_000.0),
        (0_u64..=1_f64.to_bits()).prop_map(f64::from_bits),
    ]
}

fn reads_back<T: FromStr<Err = UnitError> + Display + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(value.to_string().parse::<T>().as_ref(), Ok(value), "printed as {value}");
}

proptest! {
    #[test]
    fn counts_print_what_reads_back(count in any_count()) {
        reads_back(&ByteCount(count));
        reads_back(&Pages(count));
        reads_back(&Timestamp::from_nanos(count));
        if let Some(rate) = Bandwidth::new(count) {
            reads_back(&rate);
        }
    }

    #[test]
    fn durations_print_what_reads_back(value in any_duration()) {
        prop_assert_eq!(duration::parse(&duration::format(value)), Ok(value));
    }

    #[test]
    fn floats_print_what_reads_back(share in any_share(), bits in 0..f64::INFINITY.to_bits()) {
        reads_back(&Share::new(share).unwrap());
        reads_back(&CpuShare::new(share).unwrap());
        reads_back(&PageRate::new(f64::from_bits(bits)).unwrap());
        reads_back(&VcpuSeconds::new(f64::from_bits(bits)).unwrap());
    }

    #[test]
    fn sizes_print_no_longer_than_plain_bytes(count in any_count()) {
        let plain = format!("{count}B");
        prop_assert!(ByteCount(count).to_string().len() <= plain.len());
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in prop_oneof![
        ".*",
        "[-+−]?[0-9]{0,60}\\.?[0-9]{0,60}([eE][-+]?[0-9]{1,20})? ?(ns|µs|h|B|GiB|EB|Ebit/s|%|pages|Gb|)",
    ]) {
        let _ = (bytes(&text), rate(&text), share(&text), duration::parse(&text));
        let _ = (text.parse::<Pages>(), text.parse::<PageRate>(), text.parse::<Timestamp>());
    }

    #[test]
    fn no_value_makes_a_human_form_panic(count in any_count(), time in any_duration(), share in any_share()) {
        let _ = (ByteCount(count).human(), duration::human(time), Share::clamped(share).human());
        let _ = (Bandwidth::new(count).map(Bandwidth::human), Timestamp::from_nanos(count).human());
    }

    /// What is sent in the time that sending takes is all of it, and not much more.
    #[test]
    fn time_to_send_is_enough(count in 0_u64..1 << 50, rate in 1_u64..1 << 40) {
        let rate = Bandwidth::new(rate).unwrap();
        let time = rate.time_to_send(ByteCount(count));
        if time != Duration::MAX {
            prop_assert!(rate.bytes_in(time) >= ByteCount(count));
            if let Some(shorter) = time.checked_sub(Duration::from_nanos(1)) {
                prop_assert!(rate.bytes_in(shorter) < ByteCount(count));
            }
        }
    }

    /// The short cuts in 64 bits give what 128 bits give.
    #[test]
    fn rates_are_exact_at_any_size(count in any_count(), rate in any_count(), time in any_duration()) {
        let rate = Bandwidth::new(rate.max(1)).unwrap();
        let per_second = u128::from(rate.bytes_per_second());
        let nanos = (u128::from(count) * 1_000_000_000).div_ceil(per_second);
        let expected = u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos);
        prop_assert_eq!(rate.time_to_send(ByteCount(count)), expected);
        let sent = u128::from(time.as_secs()) * per_second
            + u128::from(time.subsec_nanos()) * per_second / 1_000_000_000;
        let sent = u64::try_from(sent).unwrap_or(u64::MAX);
        prop_assert_eq!(rate.bytes_in(time), ByteCount(sent));
    }

    #[test]
    fn pages_hold_their_bytes(count in any_count(), size in prop::sample::select(PageSize::ALL.to_vec())) {
        let pages = ByteCount(count).pages(size);
        prop_assert!(pages.bytes(size) >= ByteCount(count));
        prop_assert!(pages.saturating_sub(Pages(1)).bytes(size) <= ByteCount(count));
    }

    /// Digits are scaled as exact arithmetic would.
    #[test]
    fn fractions_are_rounded_to_the_nearest_byte(whole in 0_u64..1000, milli in 0_u64..1000) {
        prop_assume!(whole + milli > 0);
        let exact = (u128::from(whole) * 1000 + u128::from(milli)) * (1 << 30);
        let nearest = (exact + 500) / 1000;
        prop_assert_eq!(bytes(&format!("{whole}.{milli:03}GiB")).map(u128::from), Ok(nearest));
    }
}
