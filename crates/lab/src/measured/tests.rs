//! The models of the reference programs beside what was measured of them, and guests that are measured, fitted and
//! measured again.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use whimbrel_core::layout::PageSize;
use whimbrel_core::units::{ByteCount, Pages};
use whimbrel_sim::config::{GuestConfig, Pattern, WriterConfig};
use whimbrel_sim::trace::{Recording, TraceBuilder, record};

use super::*;

const RUNS: u64 = 10;

/// A program's stage as measured, and the mean of what runs of its model show.
struct Beside {
    program: String,
    name: &'static str,
    stage: Stage,
    model: Checked,
}

fn reference() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/qemu/programs/curves.jsonl"))
}

fn mean(checks: &[Checked], of: impl Fn(&Checked) -> f64) -> f64 {
    checks.iter().map(of).sum::<f64>() / checks.len() as f64
}

/// At the speed that the measurement had in the middle: how far runs are from that is another matter.
fn runs(model: &Arc<MeasuredWrites>, stage: &Stage) -> Checked {
    let model = Arc::new(MeasuredWrites { speed_spread: 0.0, ..(**model).clone() });
    let checks: Vec<Checked> = (0..RUNS).map(|seed| check(&model, stage, seed).unwrap()).collect();
    let windows = stage.windows.iter().enumerate().map(|(index, window)| WindowFact {
        mean: mean(&checks, |check| check.windows[index].mean),
        sd: mean(&checks, |check| check.windows[index].sd),
        ..window.clone()
    });
    let hits = stage.hits.iter().enumerate();
    let hits = hits.map(|(index, &(from, to, _))| (from, to, mean(&checks, |check| check.hits[index].2)));
    Checked {
        windows: windows.collect(),
        hits: hits.collect(),
        cv: mean(&checks, |check| check.cv),
        lag1: mean(&checks, |check| check.lag1),
        peak_to_mean: mean(&checks, |check| check.peak_to_mean),
    }
}

fn programs() -> &'static [Beside] {
    static PROGRAMS: OnceLock<Vec<Beside>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let curves = curve::read(&reference()).unwrap();
        let beside = |curve: &ProgramCurve| {
            let model = fitted(curve);
            let stages = curve.observation().stages.into_iter().zip(["fine", "coarse"]);
            let beside = |(stage, name)| Beside {
                program: curve.program.clone(),
                name,
                model: runs(&model, &stage),
                stage,
            };
            stages.map(beside).collect::<Vec<_>>()
        };
        curves.iter().flat_map(beside).collect()
    })
}

fn series(stage: &Stage) -> (f64, f64, f64) {
    let count = stage.series.len() as f64;
    let mean = stage.series.iter().sum::<f64>() / count;
    let sd = (stage.series.iter().map(|pages| (pages - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
    let products = stage.series.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>();
    let peak = stage.series.iter().copied().fold(0.0, f64::max);
    (sd / mean, products / count / (sd * sd), peak / mean)
}

#[test]
fn windows_of_every_length_find_as_many_pages_as_was_measured() {
    assert_eq!(programs().len(), 6);
    for Beside { program, name, stage, model } in programs() {
        for (measured, found) in stage.windows.iter().zip(&model.windows) {
            let off = found.mean / measured.mean - 1.0;
            assert!(off.abs() < 0.045, "{program} {name}, {} ticks: {off:.3}", measured.ticks);
        }
    }
}

#[test]
fn ticks_vary_follow_each_other_and_peak_as_was_measured() {
    for Beside { program, name, stage, model } in programs().iter().filter(|beside| beside.name == "fine") {
        let (cv, lag1, peak) = series(stage);
        assert!((model.cv / cv - 1.0).abs() < 0.12, "{program} {name}: {} {cv}", model.cv);
        assert!((model.lag1 - lag1).abs() < 0.08, "{program} {name}: {} {lag1}", model.lag1);
        assert!((model.peak_to_mean / peak - 1.0).abs() < 0.05, "{program} {name}: {}", model.peak_to_mean);
    }
}

#[test]
fn pages_recur_as_often_as_was_measured() {
    for Beside { program, name, stage, model } in programs() {
        let all: f64 = stage.hits.iter().map(|hits| hits.2).sum();
        let off: f64 = stage.hits.iter().zip(&model.hits).map(|(one, other)| (one.2 - other.2).abs()).sum();
        // Twice the share of the pages that are in the wrong bin.
        assert!(off / all < 0.2, "{program} {name}: {:.3}", off / all);
    }
}

/// Bursts of a program whose ticks are far from even are in its longer windows, too.
#[test]
fn long_windows_of_a_bursty_program_vary_as_was_measured() {
    let redis = programs().iter().filter(|beside| beside.program == "redis" && beside.name == "fine");
    for Beside { stage, model, .. } in redis {
        for (measured, found) in stage.windows.iter().zip(&model.windows).filter(|pair| pair.0.ticks <= 10) {
            let ratio = found.sd / measured.sd;
            assert!((0.85..1.15).contains(&ratio), "{} ticks: {ratio}", measured.ticks);
        }
    }
}

fn table() -> String {
    let mut text = String::from(
        "| program | window | measured | model | off | sd measured | sd model |\n|---|---|---|---|---|---|---|\n",
    );
    for Beside { program, name, stage, model } in programs() {
        let length = if *name == "fine" { 0.05 } else { 0.5 };
        for (measured, found) in stage.windows.iter().zip(&model.windows) {
            let _ = writeln!(
                text,
                "| {program} | {:.2} s of {name} ticks | {:.0} | {:.0} | {:+.1} % | {:.0} | {:.0} |",
                length * measured.ticks as f64,
                measured.mean,
                found.mean,
                (found.mean / measured.mean - 1.0) * 100.0,
                measured.sd,
                found.sd
            );
        }
    }
    text.push_str(
        "\n| program | ticks | CV | of the model | lag-1 | of the model | peak/mean | of the model | pages in a wrong bin of recurrence |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for Beside { program, name, stage, model } in programs() {
        let (cv, lag1, peak) = series(stage);
        let all: f64 = stage.hits.iter().map(|hits| hits.2).sum();
        let off: f64 = stage.hits.iter().zip(&model.hits).map(|(one, other)| (one.2 - other.2).abs()).sum();
        let _ = writeln!(
            text,
            "| {program} | {name} | {cv:.3} | {:.3} | {lag1:.2} | {:.2} | {peak:.2} | {:.2} | {:.1} % |",
            model.cv,
            model.lag1,
            model.peak_to_mean,
            off / all / 2.0 * 100.0
        );
    }
    text
}

#[test]
fn the_documentation_has_these_figures() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/measured.md");
    let (begin, end) = ("<!-- figures: made by a test -->\n", "<!-- end of figures -->\n");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let wanted = format!("{before}{begin}{}{end}{after}", table());
    if std::env::var_os("WHIMBREL_WRITE_DOCS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    assert!(
        wanted == std::fs::read_to_string(path).unwrap(),
        "docs/measured.md is stale: run with WHIMBREL_WRITE_DOCS=1"
    );
}

/// A guest whose law is known is recorded, fitted from its trace, and measured: the same curve.
#[test]
fn a_guest_that_was_recorded_is_found_again() {
    let config = GuestConfig {
        memory: ByteCount::mib(64),
        writers: vec![WriterConfig {
            pattern: Pattern::HotCold,
            working_set: ByteCount::mib(32),
            rate: 4000.0,
            ..WriterConfig::default()
        }],
        ..GuestConfig::default()
    };
    let recording = Recording {
        interval: std::time::Duration::from_millis(50),
        length: std::time::Duration::from_secs(15),
        tracking_fault: std::time::Duration::ZERO,
        seed: 1,
    };
    let trace = record(&config, &recording).unwrap();
    let named = NamedTrace::new("recorded", trace);
    let model = of_trace(&named, Share::percent(20)).unwrap();
    assert!((model.busy.as_f64() - 0.2).abs() < 1e-9);
    let stage = Stage::of(&Statistics::of(named.trace().unwrap()).unwrap());
    let found = runs(&model, &stage);
    for (measured, found) in stage.windows.iter().zip(&found.windows) {
        let off = found.mean / measured.mean - 1.0;
        assert!(off.abs() < 0.04, "{} ticks: {off:.3}", measured.ticks);
    }
    // An even writer has no phases: what its ticks vary is chance.
    assert!(found.lag1.abs() < 0.2, "{}", found.lag1);
}

/// The windows that a further run shows lie around the measured ones as widely as their spread says.
#[test]
fn runs_differ_by_the_spread_of_their_speed() {
    let curves = curve::read(&reference()).unwrap();
    for (name, least, most) in [("sqlite", 0.05, 0.12), ("redis", 0.06, 0.12), ("idle", 0.0, 0.5)] {
        let curve = curves.iter().find(|curve| curve.program == name).unwrap();
        let model = fitted(curve);
        assert!((least..most).contains(&model.speed_spread), "{name}: {}", model.speed_spread);
        assert!(model.change_spread > 0.0);
    }
    // A trace was recorded in one piece: what its windows show is all there is.
    let stage = Stage { tick: 0.05, series: vec![10.0; 20], ..Stage::default() };
    let even = fit(&Observation { stages: vec![stage], ..Observation::default() });
    assert!(even.speed_spread < 0.01 && even.change_spread.abs() < f64::EPSILON, "{even:?}");
}

#[test]
fn what_never_writes_is_a_guest_that_never_writes() {
    let mut still = TraceBuilder::new(ByteCount::mib(1), PageSize::Kib4).unwrap();
    for tick in 0..20 {
        let time = std::time::Duration::from_millis(50);
        still.interval(time * tick, time).unwrap();
    }
    let model = of_trace(&NamedTrace::new("still", still.build()), Share::ONE).unwrap();
    assert_eq!(model.pages(), Pages(0));
    assert_eq!(fit(&Observation::default()).pages(), Pages(0));
}

#[test]
fn files_that_hold_no_program_are_refused_with_their_line() {
    let folder = std::env::temp_dir().join(format!("whimbrel-measured-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let good = std::fs::read_to_string(reference()).unwrap();
    let refused = |text: &str, name: &str| {
        std::fs::write(folder.join("curves.jsonl"), text).unwrap();
        load(name, &folder).unwrap_err().to_string()
    };
    let ends = |text: String, what: &str| assert!(text.ends_with(what), "{text}");
    ends(refused(&good, "curves.jsonl"), "`curves.jsonl` names no program; write `FILE#PROGRAM`");
    ends(refused(&good, "curves.jsonl#mysql"), "no program `mysql` in it; it has `sqlite`, `redis`, `idle`");
    assert!(
        refused("\n{}", "curves.jsonl#idle")
            .contains("curves.jsonl:2: not a measured program: missing field")
    );
    let tick = good.replace("\"tick_ms\":50.0", "\"tick_ms\":-1.0");
    ends(refused(&tick, "curves.jsonl#idle"), "curves.jsonl:1: not a measured program: a tick of -1 ms");
    let count = good.replacen("\"mean\":1653.5", "\"mean\":-3", 1);
    ends(refused(&count, "curves.jsonl#idle"), "not a measured program: a count of -3");
    assert!(load("none.jsonl#idle", &folder).unwrap_err().to_string().contains("none.jsonl"));
    std::fs::remove_dir_all(&folder).unwrap();
}
