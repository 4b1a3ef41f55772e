//! The models of the reference programs beside what was measured of them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;

fn reference() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/qemu/programs/curves.jsonl"))
}

#[test]
fn show() {
    let mut text = String::new();
    for curve in curve::read(&reference()).unwrap() {
        let observation = curve.observation();
        let begin = std::time::Instant::now();
        let model = Arc::new(fit(&observation));
        let _ = writeln!(text, "{} {:?}", curve.program, begin.elapsed());
        for class in &model.classes {
            let _ = writeln!(text, "  {:?}", (class.pages.0, class.rate, class.change, class.follows));
        }
        for class in &model.cycles {
            let _ =
                writeln!(text, "  cycle {:?}", (class.pages.0, class.period, class.change, class.follows));
        }
        for stage in &observation.stages {
            let checks: Vec<_> = (0..6).map(|seed| check(&model, stage, seed).unwrap()).collect();
            let mean = |of: &dyn Fn(&Checked) -> f64| checks.iter().map(of).sum::<f64>() / 6.0;
            for (i, w) in stage.windows.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "  {:4} ticks {:8.0} ±{:5.0} | {:8.0} ±{:5.0}  {:+.1}%",
                    w.ticks,
                    w.mean,
                    w.sd,
                    mean(&|c| c.windows[i].mean),
                    mean(&|c| c.windows[i].sd),
                    (mean(&|c| c.windows[i].mean) / w.mean - 1.0) * 100.0
                );
            }
            for (i, w) in stage.hits.iter().enumerate() {
                let _ = writeln!(text, "  hits {:?} | {}", w, mean(&|c| c.hits[i].2));
            }
            let _ = writeln!(
                text,
                "  cv {:.3} lag1 {:.3} peak {:.2}",
                mean(&|c| c.cv),
                mean(&|c| c.lag1),
                mean(&|c| c.peak_to_mean)
            );
        }
    }
    panic!("{text}");
}
