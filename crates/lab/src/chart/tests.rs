//! Promises of all charts together: they never fail, and they never let text through unescaped.

use proptest::prelude::*;

use super::*;

const NASTY: &str = "<script>alert('x')</script> & \"quoted\" \u{0}";

/// Opening and closing tags match and no bare `&` or `<` is left.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if tag.starts_with('?') || tag.ends_with('/') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()), "in {svg}");
        } else {
            open.push(tag.split(' ').next().unwrap_or_default().to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} left open in {svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
}

fn heat_map(xs: &[f64], ys: GridValues, values: &[f64], text: &str) -> HeatMap {
    let cells = values
        .iter()
        .map(|value| HeatCell { value: Some(*value), tooltip: text.to_owned(), inside: *value > 1.0 })
        .collect();
    HeatMap {
        title: text.to_owned(),
        description: text.to_owned(),
        x: GridAxis {
            label: text.to_owned(),
            values: GridValues::Numbers { unit: Unit::Bandwidth, values: xs.to_vec() },
        },
        y: GridAxis { label: text.to_owned(), values: ys },
        cells,
        colours: ColourScale::covering(Palette::Viridis, Unit::Milliseconds, text, values.iter().copied()),
        bar: true,
        reference: Some(Reference { points: xs.iter().map(|x| (*x, *x)).collect() }),
        size: Size::new(640.0, 480.0),
    }
}

fn line_chart(points: &[(f64, f64)], kind: ScaleKind, text: &str) -> LineChart {
    let points = points
        .iter()
        .map(|(x, y)| Dot { x: *x, y: Some(*y), hollow: *x > *y, tooltip: text.to_owned() })
        .collect();
    let axis = |unit| LineAxis { label: text.to_owned(), unit, kind, cover: Vec::new() };
    LineChart {
        title: text.to_owned(),
        description: text.to_owned(),
        x: axis(Unit::PageRate),
        y: axis(Unit::Milliseconds),
        series: vec![
            Series { name: text.to_owned(), look: Look::Line(3), points },
            Series { name: "theory".to_owned(), look: Look::Dashed, points: Vec::new() },
        ],
        legend: true,
        size: Size::new(640.0, 400.0),
    }
}

fn timeline(rounds: &[(f64, f64, f64)], text: &str) -> Timeline {
    let rounds = rounds.iter().enumerate().map(|(at, (started_ms, length_ms, pages))| TimelineRound {
        round: at as u32,
        paused: at + 1 == rounds.len(),
        started_ms: *started_ms,
        length_ms: *length_ms,
        dirtied_pages: *pages,
        pending_pages: *pages,
        sent_pages: *pages * 0.9,
        throttle: *length_ms,
        decision: Some(text.to_owned()),
        reason: Some(text.to_owned()),
    });
    Timeline {
        title: text.to_owned(),
        subtitle: text.to_owned(),
        rounds: rounds.collect(),
        total_ms: 100.0,
        paused_at_ms: Some(90.0),
        downtime_ms: 10.0,
        ledger: vec![(text.to_owned(), 4.0), ("restore".to_owned(), 6.0)],
    }
}

fn branching(points: &[(f64, f64)], fork: f64, text: &str) -> Branching {
    let course = |compared, failed: bool, from: usize| Course {
        name: text.to_owned(),
        compared,
        curve: points.iter().copied().skip(from).collect(),
        ended_ms: points.last().map_or(f64::NAN, |point| point.0 + 5.0),
        failed: failed.then(|| text.to_owned()),
        downtime_ms: points.first().map_or(f64::NAN, |point| point.1),
        lost_vcpu_s: points.last().map_or(f64::INFINITY, |point| point.1),
        tooltip: text.to_owned(),
    };
    let decided = points.iter().map(|(at, pending)| CourseDecision {
        at_ms: *at,
        pending: *pending,
        needed: (*pending > 1.0).then_some(*at),
        last: *at > fork,
        tooltip: text.to_owned(),
    });
    Branching {
        title: text.to_owned(),
        subtitle: text.to_owned(),
        happened: course(Compared::Happened, false, 0),
        decisions: decided.collect(),
        fork_ms: Some(fork),
        fork: text.to_owned(),
        branches: vec![
            course(Compared::Better, false, 1),
            course(Compared::Completes, true, 2),
            course(Compared::Worse, false, 0),
        ],
    }
}

fn stacks(rows: &[(f64, f64)], text: &str, shares: bool) -> StackChart {
    StackChart {
        title: text.to_owned(),
        description: text.to_owned(),
        unit: Unit::Milliseconds,
        parts: vec![text.to_owned(), "save".to_owned()],
        rows: rows.iter().map(|(a, b)| Stack { label: text.to_owned(), parts: vec![*a, *b] }).collect(),
        shares,
        width: 500.0,
    }
}

fn strips(rows: &[(f64, f64)], text: &str) -> StripChart {
    let rows = rows.iter().map(|(a, b)| Strip {
        label: text.to_owned(),
        quantiles: Some([*a, *a, *b, *b, *b]),
        style: 2,
        remark: text.to_owned(),
    });
    StripChart {
        title: text.to_owned(),
        description: text.to_owned(),
        unit: Unit::Milliseconds,
        rows: rows
            .chain([Strip { label: text.to_owned(), quantiles: None, style: 9, remark: String::new() }])
            .collect(),
        width: 500.0,
    }
}

fn pareto(points: &[(f64, f64)], kind: ScaleKind, text: &str) -> ParetoChart {
    let axis = |unit| LineAxis { label: text.to_owned(), unit, kind, cover: Vec::new() };
    let candidates = points.iter().enumerate().map(|(at, (x, y))| Candidate {
        name: text.to_owned(),
        x: Estimate { value: *x, interval: Some((*y, *x)) },
        y: Estimate { value: *y, interval: None },
        style: at,
        front: at % 2 == 0,
        set: 0,
        chosen: at == 1,
        remark: text.to_owned(),
    });
    ParetoChart {
        title: text.to_owned(),
        description: text.to_owned(),
        x: axis(Unit::Milliseconds),
        y: axis(Unit::VcpuSeconds),
        candidates: candidates.collect(),
        legend: vec![(0, text.to_owned())],
        size: Size::new(560.0, 400.0),
    }
}

fn maps(map: HeatMap, text: &str) -> HeatMaps {
    HeatMaps {
        title: text.to_owned(),
        subtitles: vec![text.to_owned()],
        colours: map.colours.clone(),
        maps: vec![(text.to_owned(), map.clone()), ("b".to_owned(), map)],
        columns: 2,
    }
}

fn all_with(text: &str) -> Vec<String> {
    let names = GridValues::Names(vec![text.to_owned(), "b".to_owned()]);
    let bars = vec![Bar { label: text.to_owned(), value: Some(3.0), style: 9, tooltip: text.to_owned() }];
    let bars = BarChart {
        title: text.to_owned(),
        description: text.to_owned(),
        unit: Unit::Share,
        bars,
        width: 500.0,
    };
    [Canvas::Page, Canvas::Standalone]
        .into_iter()
        .flat_map(|canvas| {
            [
                heat_map(&[1e6, 1e7, 1e8], names.clone(), &[1.0, 2.0, f64::NAN], text).render(canvas),
                line_chart(&[(1.0, 2.0), (2.0, 1.0)], ScaleKind::Log, text).render(canvas),
                timeline(&[(0.0, 50.0, 9.0), (50.0, 50.0, 4.0)], text).render(canvas),
                branching(&[(0.0, 900.0), (10.0, 90.0), (12.0, 9.0)], 11.0, text).render(canvas),
                bars.render(canvas),
                stacks(&[(3.0, 2.0), (0.0, 0.0)], text, false).render(canvas),
                strips(&[(3.0, 20.0)], text).render(canvas),
                pareto(&[(3.0, 20.0), (2.0, 30.0), (9.0, 90.0)], ScaleKind::Log, text).render(canvas),
                maps(heat_map(&[1e6, 1e7], names.clone(), &[1.0, 2.0], text), text).render(canvas),
            ]
        })
        .collect()
}

#[test]
fn text_is_escaped_wherever_it_stands() {
    for svg in all_with(NASTY) {
        assert!(!svg.contains("<script"), "{svg}");
        assert!(!svg.contains("& "), "{svg}");
        assert_well_formed(&svg);
    }
    assert_eq!(escape("a<b>&\"'\u{1b}"), "a&lt;b&gt;&amp;&quot;&#39;");
}

#[test]
fn a_file_stands_alone_and_a_page_chart_brings_no_style() {
    for svg in all_with("plain") {
        assert_eq!(svg.contains("<style"), svg.contains("xmlns"));
        assert_eq!(svg.contains("fill=\"#ffffff\""), svg.contains("xmlns"), "only a file has a background");
        assert_eq!(svg.matches("http").count(), svg.matches("xmlns=\"http").count());
    }
}

#[test]
fn every_chart_has_a_name_and_says_what_it_shows() {
    for svg in all_with("plain") {
        assert!(svg.contains("role=\"img\" aria-label=\"plain"), "{svg}");
        // The timeline's name says it all.
        assert!(svg.contains("><desc>") || svg.contains("aria-label=\"plain: plain\""), "{svg}");
    }
    let svg = strips(&[(3.0, 20.0)], "xen-5").render(Canvas::Page);
    assert!(svg.contains("xen-5: median 20 ms, half between 3 ms and 20 ms"), "{svg}");
}

#[test]
fn parts_of_a_bar_differ_in_colour_or_texture() {
    let parts = 12;
    let chart = StackChart {
        parts: (0..parts).map(|at| at.to_string()).collect(),
        rows: vec![Stack { label: "row".to_owned(), parts: vec![10.0; parts] }],
        width: 900.0,
        ..stacks(&[], "", false)
    };
    let svg = chart.render(Canvas::Page);
    let key = svg.split("<text").next().unwrap_or_default();
    assert!(key.contains("bar s0"));
    assert!(svg.matches("class=\"texture\"").count() >= parts, "key and bars");
}

#[test]
fn shares_fill_the_whole_width() {
    let widths = |shares| {
        let svg = stacks(&[(1.0, 1.0), (100.0, 100.0)], "t", shares).render(Canvas::Page);
        let bars = svg.split("<rect ").filter(|rect| rect.contains("height=\"18\""));
        let widths =
            bars.filter_map(|rect| rect.split("width=\"").nth(1)?.split('"').next()?.parse::<f64>().ok());
        widths.collect::<Vec<f64>>()
    };
    let (sizes, shares) = (widths(false), widths(true));
    assert_eq!((sizes.len(), shares.len()), (4, 4));
    assert!(sizes[2] > 50.0 * sizes[0], "{sizes:?}");
    assert!((shares[2] - shares[0]).abs() < 0.2, "{shares:?}");
}

#[test]
fn the_front_is_drawn_full_and_in_steps() {
    // A legend would have marks of its own.
    let drawn = |points: &[(f64, f64)]| {
        let chart = pareto(points, ScaleKind::Linear, "t");
        ParetoChart { legend: Vec::new(), ..chart }.render(Canvas::Page)
    };
    let svg = drawn(&[(1.0, 9.0), (5.0, 8.0), (4.0, 2.0)]);
    assert_eq!(svg.matches("class=\"mark s").count(), 2);
    assert_eq!(svg.matches("class=\"mark hollow s").count(), 1);
    let front = svg.split("<path d=\"").find(|path| path.contains("class=\"front\"")).expect("a front");
    // From above down to the first corner, along, down to the second, along to the edge.
    assert_eq!(front.matches('L').count(), 4, "{front}");
    // A full mark that is on the front for a third measure is not joined.
    let svg = drawn(&[(1.0, 2.0), (5.0, 8.0), (4.0, 3.0)]);
    let front = svg.split("<path d=\"").find(|path| path.contains("class=\"front\"")).expect("a front");
    assert_eq!(front.matches('L').count(), 2, "{front}");
}

#[test]
fn cells_without_a_value_are_hatched() {
    let names = GridValues::Names(vec!["a".to_owned()]);
    let svg = heat_map(&[1.0, 10.0, 100.0], names, &[5.0, f64::NAN], "t").render(Canvas::Page);
    assert_eq!(svg.matches("class=\"void\"").count(), 2, "one has no number, one was not run");
}

#[test]
fn a_line_breaks_where_a_value_is_missing() {
    let mut chart =
        line_chart(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0), (5.0, 5.0)], ScaleKind::Linear, "t");
    let strokes = |chart: &LineChart| {
        let svg = chart.render(Canvas::Page);
        let curves = svg.split("<path d=\"").filter(|path| path.contains("class=\"curve s3\""));
        curves.map(|path| path.matches('M').count()).max()
    };
    assert_eq!(strokes(&chart), Some(1));
    chart.series[0].points[2].y = None;
    assert_eq!(strokes(&chart), Some(2));
}

#[test]
fn decisions_that_crowd_are_named_and_small_rounds_are_seen() {
    let lengths = [25_000.0, 1800.0, 400.0, 60.0, 60.0, 250.0];
    let pages = [1e6, 58_000.0, 12_000.0, 1900.0, 1800.0, 8000.0];
    let mut start = 0.0;
    let rounds = lengths.iter().zip(pages).enumerate().map(|(at, (length, pages))| {
        start += length;
        (at, start - length, *length, pages)
    });
    let rounds = rounds.map(|(at, started_ms, length_ms, pages)| TimelineRound {
        round: at as u32,
        paused: at == 5,
        started_ms,
        length_ms,
        sent_pages: pages,
        dirtied_pages: pages,
        decision: Some(if at == 5 { "switchover" } else { "harvest" }.to_owned()),
        ..TimelineRound::default()
    });
    let reason =
        "pending 31.3 MiB < threshold 35.4 MiB (by 12 %; bandwidth 989.2 Mbit/s, downtime-limit 300 ms)";
    let chart = Timeline {
        subtitle: format!("completed, converged: total 28.3 s, downtime 287 ms; {reason}"),
        rounds: rounds.collect(),
        total_ms: 27_570.0,
        paused_at_ms: Some(27_320.0),
        downtime_ms: 250.0,
        ..Timeline::default()
    };
    let svg = chart.render(Canvas::Page);
    assert!(
        svg.contains(">switchover<") && svg.contains(">harvest<") && svg.contains(">harvest ×4<"),
        "{svg}"
    );
    // The sentence is whole.
    assert!(svg.contains("downtime-limit 300 ms)<") && !svg.contains("…<"), "{svg}");
    let heights =
        svg.split("<rect ").filter(|rect| rect.contains("class=\"bar s0\"") && rect.contains("<title>"));
    let heights: Vec<f64> =
        heights.filter_map(|rect| rect.split("height=\"").nth(1)?.split('"').next()?.parse().ok()).collect();
    assert_eq!(heights.len(), 6);
    assert!(heights.iter().all(|height| *height > 10.0), "{heights:?}");
}

#[test]
fn every_branch_has_its_name_and_the_key_every_line() {
    let mut chart = branching(&[(0.0, 900.0), (10.0, 90.0), (12.0, 9.0)], 11.0, "own");
    for (at, name) in ["qemu-postcopy", "vmware-sdps", "kubevirt-stall"].into_iter().enumerate() {
        chart.branches[at].name = name.to_owned();
        chart.branches[at].downtime_ms = at as f64;
    }
    let svg = chart.render(Canvas::Page);
    let closer = svg.split("on, under other policies").nth(1).expect("an enlarged part");
    assert!(closer.contains("would have handed over"), "the dashed line is in its key");
    let axis = closer.split("time from there to the end").next().expect("what is above the rows");
    for course in &chart.branches {
        assert!(axis.contains(&format!(">{}<", course.name)), "{} in {axis}", course.name);
    }
}

#[test]
fn two_grey_lines_differ_and_a_lone_crowded_line_has_no_marks() {
    let mut chart = line_chart(&[(1.0, 2.0), (2.0, 1.0)], ScaleKind::Linear, "t");
    let dots: Vec<Dot> = (0..500)
        .map(|at| Dot { x: f64::from(at), y: Some(1.0), hollow: false, tooltip: String::new() })
        .collect();
    let line = |look| Series { name: "l".to_owned(), look, points: dots.clone() };
    chart.legend = false;
    chart.series = vec![line(Look::Line(0)), line(Look::Dashed), line(Look::Dotted)];
    let svg = chart.render(Canvas::Page);
    assert!(svg.contains("class=\"reference\"") && svg.contains("class=\"dotted\""));
    assert!(!svg.contains("class=\"mark"), "{svg}");
    chart.series.push(line(Look::Line(1)));
    assert!(chart.render(Canvas::Page).contains("class=\"mark s1"));
}

#[test]
fn many_rounds_share_bars() {
    let rounds: Vec<(f64, f64, f64)> = (0..5000).map(|at| (f64::from(at) * 10.0, 10.0, 500.0)).collect();
    let svg = timeline(&rounds, "continue").render(Canvas::Page);
    assert!(svg.len() < 150_000, "{} bytes", svg.len());
    assert!(svg.contains("a bar is the mean of 70"));
    assert_well_formed(&svg);
}

#[test]
fn branches_that_come_to_the_same_share_a_row_and_many_rows_are_summed_up() {
    let mut chart = branching(&[(0.0, 900.0), (10.0, 90.0), (12.0, 9.0)], 11.0, "own");
    let mut other = chart.branches[0].clone();
    other.name = "alike".to_owned();
    chart.branches.push(other);
    assert!(chart.render(Canvas::Page).contains("own, alike"));
    for at in 0..40 {
        let other = Course { downtime_ms: f64::from(at) + 0.5, ..chart.branches[0].clone() };
        chart.branches.push(other);
    }
    // What happened and three branches have rows besides.
    assert!(chart.render(Canvas::Page).contains("and 18 more"));
}

#[test]
fn a_branch_that_outlasts_all_others_does_not_squeeze_them() {
    let mut chart = branching(&[(0.0, 900.0), (10.0, 90.0), (12.0, 9.0)], 11.0, "own");
    let closer = |chart: &Branching| {
        let svg = chart.render(Canvas::Page);
        svg.split("From 11 ms on").nth(1).expect("an enlarged part").to_owned()
    };
    assert!(!closer(&chart).contains("10 s"));
    chart.branches[1].ended_ms = 20_000.0;
    for _ in 0..4 {
        chart.branches.push(chart.branches[0].clone());
    }
    let drawn = closer(&chart);
    let axis = drawn.split("time since the start").next().expect("an axis");
    assert!(!axis.contains("20 s") && !axis.contains("15 s"), "{axis}");
}

proptest! {
    /// Whatever the numbers are, a chart is drawn and is well formed.
    #[test]
    fn no_number_breaks_a_chart(
        xs in prop::collection::vec(prop::num::f64::ANY, 0..6),
        ys in prop::collection::vec(prop::num::f64::ANY, 0..6),
        values in prop::collection::vec(prop::num::f64::ANY, 0..40),
        points in prop::collection::vec((prop::num::f64::ANY, prop::num::f64::ANY), 0..12),
        rounds in prop::collection::vec((prop::num::f64::ANY, prop::num::f64::ANY, prop::num::f64::ANY), 0..9),
        pause in prop::num::f64::ANY,
        log in prop::bool::ANY,
    ) {
        let kind = if log { ScaleKind::Log } else { ScaleKind::Linear };
        let ys = GridValues::Numbers { unit: Unit::PageRate, values: ys };
        assert_well_formed(&heat_map(&xs, ys, &values, "t").render(Canvas::Page));
        assert_well_formed(&line_chart(&points, kind, "t").render(Canvas::Standalone));
        let mut drawn = timeline(&rounds, "t");
        drawn.paused_at_ms = Some(pause);
        drawn.downtime_ms = pause;
        drawn.total_ms = pause;
        drawn.ledger.push(("x".to_owned(), pause));
        assert_well_formed(&drawn.render(Canvas::Page));
        assert_well_formed(&branching(&points, pause, "t").render(Canvas::Standalone));
        let bars = points.iter().map(|(x, _)| Bar { label: "b".to_owned(), value: Some(*x), style: 0, tooltip: String::new() });
        let bars = BarChart { title: String::new(), description: String::new(), unit: Unit::Bytes, bars: bars.collect(), width: pause };
        assert_well_formed(&bars.render(Canvas::Page));
        for shares in [true, false] {
            assert_well_formed(&stacks(&points, "t", shares).render(Canvas::Page));
        }
        assert_well_formed(&strips(&points, "t").render(Canvas::Page));
        assert_well_formed(&pareto(&points, kind, "t").render(Canvas::Page));
    }
}

#[test]
fn candidates_whose_marks_cover_one_another_share_a_label() {
    let mut chart = pareto(&[(1.0, 1.0), (1.0, 1.0), (9.0, 0.1)], ScaleKind::Linear, "");
    for (candidate, name) in chart.candidates.iter_mut().zip(["one", "two", "three"]) {
        candidate.name = name.to_owned();
        candidate.x.interval = None;
    }
    let drawn = chart.render(Canvas::Standalone);
    assert!(drawn.contains(">one, two</text>") && drawn.contains(">three</text>"), "{drawn}");
}
