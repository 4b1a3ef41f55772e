//! Encodings against what was measured on real QEMU: `reference/qemu/features.jsonl`, and what its makers
//! published. Nothing in the simulator was fitted to these runs; the bounds say how near it comes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use whimbrel_core::layout::PageSize;
use whimbrel_core::policy::presets;
use whimbrel_core::units::{ByteCount, Share};
use whimbrel_lab::validate::features::Features;
use whimbrel_lab::validate::measured::Configuration;
use whimbrel_lab::validate::profile::{BUILTIN, HostProfile};
use whimbrel_sim::config::GuestConfig;
use whimbrel_sim::{Run, Setup, simulate};

/// Simulated runs of each measured one.
const RUNS: u64 = 7;

/// Simulated runs of the one whose name ends so, and what was measured.
fn measured(name: &str) -> (Vec<Run>, serde_json::Value) {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/qemu/features.jsonl"));
    let text = std::fs::read_to_string(file).unwrap();
    let runs = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let run = runs.into_iter().find(|run| run["cfg"]["name"].as_str().unwrap().ends_with(name)).unwrap();
    let configuration: Configuration = serde_json::from_value(run["cfg"].clone()).unwrap();
    let features = Features::of(&configuration).unwrap();
    let profile = HostProfile::load(BUILTIN.0).unwrap();
    let simulated = |seed| simulate(&profile.setup_for(&configuration, &features, seed).unwrap()).unwrap();
    ((0..RUNS).map(simulated).collect(), run["result"].clone())
}

/// The middle one of a figure of the runs.
fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(of).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn total_ms(run: &Run) -> f64 {
    run.report.total.as_secs_f64() * 1e3
}

fn sent(run: &Run) -> f64 {
    run.report.sent.as_f64()
}

/// How far `found` is from what was measured, as a share of it.
fn off(found: f64, measured: &serde_json::Value) -> f64 {
    found / measured.as_f64().unwrap() - 1.0
}

/// The bounds of a comparison: shares of what was measured.
fn near(what: &str, found: f64, measured: &serde_json::Value, bound: f64) {
    let off = off(found, measured);
    assert!(off.abs() <= bound, "{what}: {found}, measured {measured}, {:.1} % off", off * 100.0);
}

fn compare(runs: &[Run], result: &serde_json::Value, pages: f64, bytes: f64) {
    let measured = &result["xbzrle"];
    near("total", median(runs, total_ms), &result["total_ms"], 0.01);
    near("sent", median(runs, sent), &result["transferred"], 0.002);
    let misses = median(runs, |run| run.encoding.cache_misses.0 as f64);
    near("misses", misses, &measured["cache-miss"], 0.01);
    let encoded = median(runs, |run| run.encoding.encoded_pages.0 as f64);
    near("encoded pages", encoded, &measured["pages"], pages);
    let length = median(runs, |run| run.encoding.encoded_bytes.as_f64());
    near("encoded bytes", length, &measured["bytes"], bytes);
    let overflow: u64 = runs.iter().map(|run| run.encoding.overflow_pages.0).sum();
    assert_eq!((overflow, &measured["overflow"]), (0, &serde_json::json!(0)));
}

#[test]
fn xbzrle_of_single_bytes_is_near_what_was_measured() {
    let (runs, result) = measured("xbzrle128");
    // 80 kB of 600 MB: a round more or less is a tenth of them, and a round too few is made.
    compare(&runs, &result, 0.06, 0.1);
}

#[test]
fn xbzrle_of_kilobytes_is_near_what_was_measured() {
    let (runs, result) = measured("xbzrle128-wby1024");
    compare(&runs, &result, 0.07, 0.06);
    let silence = median(&runs, |run| run.silence.unwrap().as_secs_f64() * 1e3);
    near("silence", silence, &result["stop_resume_ms"], 0.15);
}

#[test]
fn several_streams_over_a_capped_link_are_near_what_was_measured() {
    let (runs, result) = measured("link64-r0.75-w64-dl300-tagmultifd2");
    near("total", median(&runs, total_ms), &result["total_ms"], 0.015);
    near("sent", median(&runs, sent), &result["transferred"], 0.003);
}

/// QEMU's `docs/devel/migration/qatzip-compression.rst`: 54 GiB of the Silesia corpus in an idle guest of
/// 64 GiB, 8 channels, 10 Gbit/s. Ratio and speed are taken from the same table, so what is checked is that
/// they make a run: with zstd the CPU binds, with `QATzip` and without compression the link.
#[test]
fn published_runs_with_compression_follow_from_their_ratio_and_speed() {
    let run = |ratio: Option<f64>, speed: &str| {
        let guest = GuestConfig {
            memory: ByteCount::gib(64),
            page_size: PageSize::Kib4,
            vcpus: 16,
            zero_pages: Share::new(10.0 / 64.0).unwrap(),
            ..GuestConfig::default()
        };
        let mut setup = Setup::new(guest, presets::build("qemu-default", &BTreeMap::new()).unwrap());
        setup.link.bandwidth = "10Gbit/s".parse().unwrap();
        setup.host.streams = 8;
        setup.host.compression.ratio = ratio.map(Share::clamped);
        setup.host.compression.speed = speed.parse().unwrap();
        simulate(&setup).unwrap().report.total.as_secs_f64()
    };
    let (plain, zstd, qatzip) = (run(None, "1GB/s"), run(Some(0.373), "355MB/s"), run(Some(0.375), "10GB/s"));
    for (what, found, published, bound) in
        [("plain", plain, 46.063, 0.05), ("zstd", zstd, 20.165, 0.05), ("qatzip", qatzip, 16.630, 0.1)]
    {
        assert!((found / published - 1.0).abs() < bound, "{what}: {found} s, published {published} s");
    }
}
