use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
use whimbrel_core::units::{ByteCount, Pages};
use whimbrel_sim::trace::TraceBuilder;

use super::stats::{Hits, Statistics};
use super::*;

const PAGES: u64 = 256;

fn text(trace: &Trace, format: Format) -> String {
    let mut text = String::new();
    let Ok(()) = write(trace, format, |part| {
        text.push_str(part);
        Ok::<(), Infallible>(())
    });
    text
}

/// Intervals of 50 ms one after another, with these pages.
fn trace(intervals: &[&[u64]]) -> Trace {
    let mut trace = TraceBuilder::new(ByteCount(PAGES * 4096), PageSize::Kib4).unwrap();
    for pages in intervals {
        trace.interval(trace.end(), Duration::from_millis(50)).unwrap();
        for page in *pages {
            trace.dirtied(PageRun { first: PageNumber(*page), count: Pages(1) }).unwrap();
        }
    }
    trace.build()
}

fn refused(text: &str) -> String {
    read(text.as_bytes(), "t.csv").expect_err("refused").to_string()
}

#[test]
fn both_formats_are_as_documented() {
    let trace = trace(&[&[3, 4, 9], &[]]);
    assert_eq!(
        text(&trace, Format::Csv),
        "# whimbrel-trace schema=1 page_size=4KiB memory=1MiB\n\
         start_ns,length_ns,first_page,pages\n\
         0,50000000,3,2\n0,50000000,9,1\n50000000,50000000,0,0\n"
    );
    assert_eq!(
        text(&trace, Format::JsonLines),
        "{\"format\":\"whimbrel-trace\",\"schema\":1,\"page_size\":\"4KiB\",\"memory\":\"1MiB\"}\n\
         {\"start_ns\":0,\"length_ns\":50000000,\"first_page\":3,\"pages\":2}\n\
         {\"start_ns\":0,\"length_ns\":50000000,\"first_page\":9,\"pages\":1}\n\
         {\"start_ns\":50000000,\"length_ns\":50000000,\"first_page\":0,\"pages\":0}\n"
    );
}

#[test]
fn faults_name_the_line_and_what_is_accepted() {
    const HEAD: &str =
        "# whimbrel-trace schema=1 page_size=4KiB memory=1MiB\nstart_ns,length_ns,first_page,pages\n";
    for (text, expected) in [
        (String::new(), "t.csv:1: no trace begins with ``"),
        ("time,page\n1,2\n".to_owned(), "`whimbrel trace import` reads other tables"),
        (HEAD.replace("schema=1", "schema=2"), "t.csv:1: schema 2 is not known: accepted is 1"),
        (HEAD.replace("1MiB", "1MB"), "t.csv:1: memory of 1MB is not accepted"),
        (HEAD.replace("4KiB", "8KiB"), "no page size of 8KiB"),
        (HEAD.replace("first_page", "page"), "t.csv:2: `start_ns,length_ns,page,pages` is not accepted"),
        (format!("{HEAD}0,50,3\n"), "t.csv:3: `0,50,3` is no row"),
        (format!("{HEAD}0,50,-3,1\n"), "t.csv:3: `0,50,-3,1` is no row"),
        (format!("{HEAD}0,50,3,1,\n"), "t.csv:3: `0,50,3,1,` is no row"),
        (format!("{HEAD}0,50,3,1\n\n0,0,3,1\n"), "t.csv:5: an interval of 0s from 0s on is not accepted"),
        (format!("{HEAD}0,50,3,1\n40,50,3,1\n"), "the one before it ends at 50ns"),
        (format!("{HEAD}0,50,255,2\n"), "t.csv:3: 2 pages from page 255 on are not accepted"),
        (format!("{HEAD}0,50,7,0\n"), "t.csv:3: 0 pages from page 7 on"),
        (format!("{HEAD}{}\n", "1".repeat(70_000)), "t.csv:3: the line is longer than 65536 bytes"),
        (
            "{\"format\":\"other\",\"schema\":1,\"page_size\":\"4KiB\",\"memory\":\"1MiB\"}".to_owned(),
            "`other`",
        ),
        ("{}".to_owned(), "t.csv:1: no header of a trace: missing field `format`"),
    ] {
        assert!(refused(&text).contains(expected), "{}", refused(&text));
    }
    let bytes = [HEAD.as_bytes(), b"\xff\n"].concat();
    assert!(read(&bytes[..], "t").expect_err("refused").to_string().contains("t:3: not UTF-8 text"));
    assert!(load(Path::new(".")).expect_err("refused").to_string().contains("it is a directory"));
}

#[test]
fn statistics_of_a_trace_that_is_counted_by_hand() {
    let trace = trace(&[&[1, 2, 3], &[1], &[1, 7], &[2], &[1, 2, 3], &[]]);
    let found = Statistics::of(&trace).unwrap();
    assert_eq!((found.intervals, found.touched_pages), (6, 4));
    assert_eq!(found.rate.iter().map(|point| point.pages).collect::<Vec<_>>(), [3, 1, 2, 1, 3, 0]);
    assert!((found.pages.mean - 10.0 / 6.0).abs() < 1e-12);
    // Deviations 4/3, -2/3, 1/3, -2/3, 4/3, -5/3: squares 66/9, products of neighbours -40/9.
    let variance = 66.0 / 9.0 / 5.0;
    assert!((found.pages.sd.unwrap() - f64::sqrt(variance)).abs() < 1e-12);
    assert!((found.pages.lag1.unwrap() + 40.0 / 9.0 / 6.0 / variance).abs() < 1e-12, "{:?}", found.pages);
    let curve: Vec<_> =
        found.curve.iter().map(|point| (point.windows, point.overlapping, point.mean)).collect();
    // One interval; 100 ms: five windows that overlap by one; 200 ms: {1,2,3,7} twice, {1,2,3,7}; all.
    assert_eq!(curve[0], (6, false, 10.0 / 6.0));
    assert_eq!(curve[1], (5, true, (3.0 + 2.0 + 3.0 + 3.0 + 3.0) / 5.0));
    assert_eq!(curve[2], (3, true, 4.0));
    assert_eq!(curve.last(), Some(&(1, false, 4.0)));
    assert_eq!(
        found.hits,
        [(1, 1, 1), (2, 2, 1), (3, 4, 2), (5, 6, 0)].map(|(from, to, pages)| Hits { from, to, pages })
    );
    // Page 1: 1, 1, 2 intervals; 2: 3, 1; 3: 4; 7: never.
    let again = found.redirty.unwrap();
    assert_eq!((again.again, again.never), (6, 4));
    assert_eq!((again.p10_s, again.p50_s, again.p90_s), (Some(0.05), Some(0.05), Some(0.2)));
    let steps: Vec<_> = again.steps.iter().map(|step| step.count).collect();
    assert_eq!(steps, [3, 4, 6]);
}

#[test]
fn a_trace_without_pages_or_intervals_has_statistics_too() {
    let none = Statistics::of(&trace(&[])).unwrap();
    assert_eq!((none.intervals, none.curve.len(), none.hits.len()), (0, 0, 0));
    let idle = Statistics::of(&trace(&[&[], &[], &[]])).unwrap();
    assert_eq!((idle.touched_pages, idle.pages.lag1, idle.pages.cv), (0, None, None));
    assert!(idle.curve.iter().all(|point| point.mean == 0.0));
}

#[test]
fn measured_curves_are_read_and_their_series_summed_up_as_they_were_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/qemu/programs/curves.jsonl");
    let programs = load_curves(&path).unwrap();
    assert_eq!(
        programs.iter().map(|one| one.program.as_str()).collect::<Vec<_>>(),
        ["sqlite", "redis", "idle"]
    );
    // cv, peak_to_mean and lag1 of the fine ticks, as the file has them.
    for (program, expected) in
        programs.iter().zip([(0.072, 1.13, -0.305), (0.324, 1.48, 0.827), (0.186, 1.96, 0.043)])
    {
        let found = program.fine.pages;
        for (found, expected) in
            [(found.cv, expected.0), (found.peak_to_mean, expected.1), (found.lag1, expected.2)]
        {
            assert!((found.unwrap() - expected).abs() < 6e-3, "{}: {found:?}, {expected}", program.program);
        }
        assert!(program.fine.curve.windows(2).all(|pair| pair[0].window_s < pair[1].window_s));
        assert_eq!((program.fine.intervals, program.coarse.intervals), (300, 60));
    }
    for (text, expected) in
        [("", "no measured curves"), ("{}", "c:1: no measured curve: missing field"), ("[", "c:1:")]
    {
        let error = read_curves(text.as_bytes(), "c").expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn any_trace() -> impl Strategy<Value = Trace> {
    let runs = prop::collection::vec((0..PAGES, 1_u64..40), 0..6);
    prop::collection::vec((1_u64..1 << 40, prop_oneof![Just(0), 0_u64..1 << 40], runs), 0..12).prop_map(
        |intervals| {
            let mut trace = TraceBuilder::new(ByteCount(PAGES * 4096), PageSize::Kib4).unwrap();
            for (length, gap, runs) in intervals {
                let start = trace.end() + Duration::from_nanos(gap);
                trace.interval(start, Duration::from_nanos(length)).unwrap();
                for (first, count) in runs {
                    let count = Pages(count.min(PAGES - first));
                    trace.dirtied(PageRun { first: PageNumber(first), count }).unwrap();
                }
            }
            trace.build()
        },
    )
}

/// Text that looks like a trace in most places.
fn any_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        (0_u64..400).prop_map(|number| number.to_string()),
        Just("18446744073709551615".to_owned()),
        Just("memory=1MiB".to_owned()),
        Just("{\"start_ns\":0,\"length_ns\":5,\"first_page\":1,\"pages\":2}".to_owned()),
        "[#{}:\\-0-9a-z\"]{0,8}".prop_map(|text| text),
    ];
    let line = prop::collection::vec(word, 0..6).prop_map(|words| words.join(","));
    let head = prop_oneof![
        4 => Just("# whimbrel-trace schema=1 page_size=4KiB memory=1MiB\nstart_ns,length_ns,first_page,pages"),
        4 => Just("{\"format\":\"whimbrel-trace\",\"schema\":1,\"page_size\":\"4KiB\",\"memory\":\"1MiB\"}"),
        1 => Just("# whimbrel-trace"),
    ];
    (head, prop::collection::vec(line, 0..6))
        .prop_map(|(head, lines)| format!("{head}\n{}", lines.join("\n")))
}

proptest! {
    /// A trace that is written reads as itself, in both formats.
    #[test]
    fn a_trace_reads_as_it_was_written(trace in any_trace()) {
        for format in [Format::Csv, Format::JsonLines] {
            prop_assert_eq!(&read(text(&trace, format).as_bytes(), "t").unwrap(), &trace);
        }
    }

    /// Any text is read or refused; what is read is written and read as itself.
    #[test]
    fn any_text_is_read_or_refused(text in any_text()) {
        check(text.as_bytes());
    }

    /// The curve of a trace is what counting sets gives.
    #[test]
    fn the_curve_counts_different_pages(pages in prop::collection::vec(prop::collection::btree_set(0..30_u64, 0..6), 1..25)) {
        let intervals: Vec<Vec<u64>> = pages.iter().map(|set| set.iter().copied().collect()).collect();
        let intervals: Vec<&[u64]> = intervals.iter().map(Vec::as_slice).collect();
        let found = Statistics::of(&trace(&intervals)).unwrap();
        for point in found.curve.iter().filter(|point| !point.overlapping) {
            let size = (point.window_s / 0.05).round() as usize;
            let counts = pages.chunks_exact(size).map(|chunk| {
                chunk.iter().flatten().collect::<std::collections::BTreeSet<_>>().len() as f64
            });
            let counts: Vec<f64> = counts.collect();
            prop_assert_eq!(counts.len() as u64, point.windows);
            prop_assert!((counts.iter().sum::<f64>() / counts.len() as f64 - point.mean).abs() < 1e-9);
        }
        let dirtied: u64 = found.rate.iter().map(|point| point.pages).sum();
        let again = found.redirty.unwrap();
        prop_assert_eq!(again.again + again.never, dirtied);
    }
}
