use whimbrel_lab::validate::*;
fn main() {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let p = profile::HostProfile::load("tcg-7.2").unwrap();
    let t = std::time::Instant::now();
    let v = validate(&files, &p).unwrap();
    println!("runs {} skipped {} took {:?}", v.runs, v.skipped.len(), t.elapsed());
    println!("{:#?}", v.errors);
    println!("near {:.3} exact {:.3} near {:.3} wrong {}", v.downtime_near, v.rounds_exact, v.rounds_near, v.verdict_wrong);
    for r in &v.per_run {
        let (m, p) = (&r.measured, &r.predicted);
        if !(m.converged && p.converged) { println!("{:46} {} {}", r.name, m.converged, p.converged); continue; }
        let e = |a: Option<f64>, b: Option<f64>| 100.0 * (b.unwrap() / a.unwrap() - 1.0);
        println!("{:46} T {:6.0} {:6.0} {:+5.2}% S {:+5.2}% D {:4.0} {:5.1} {:+4.0}% sil {:5.0} {:5.0} R {} {}", r.name, m.total_ms.unwrap(), p.total_ms.unwrap(), e(m.total_ms, p.total_ms), e(m.sent_bytes, p.sent_bytes), m.downtime_ms.unwrap(), p.downtime_ms.unwrap(), e(m.downtime_ms, p.downtime_ms), m.silence_ms.unwrap(), p.silence_ms.unwrap(), m.rounds.unwrap(), p.rounds.unwrap());
    }
}
