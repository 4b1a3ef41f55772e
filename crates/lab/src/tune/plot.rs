//! A front as a picture: its points over two objectives, on the workloads of the search and on those held out.

use super::table::{change_text, natural_unit, score_text, unit};
use super::{Assessed, Point, Tuned};
use crate::chart::{Canvas, Dot, LineAxis, LineChart, ScaleKind, Series, Size};
use crate::outcome::Objective;

/// The first two objectives, as an SVG file of its own; empty if there is only one.
///
/// With more than two, a point may lie above others because it is better in one that is not drawn.
pub fn plot(tuned: &Tuned, chosen: usize) -> String {
    let [x, y, ..] = tuned.objectives[..] else {
        return String::new();
    };
    let mut series = Vec::new();
    let mut set = |name: &str, style: usize, of: &dyn Fn(&Point) -> Option<&Assessed>| {
        let dots = |points: &[(usize, &Point)], hollow: bool| -> Vec<Dot> {
            let dot = |&(number, point): &(usize, &Point)| {
                let assessed = of(point)?;
                Some(Dot {
                    x: natural_unit(x, assessed.scores[0]),
                    y: Some(natural_unit(y, assessed.scores[1])),
                    hollow,
                    tooltip: tooltip(tuned, number, assessed),
                })
            };
            points.iter().filter_map(dot).collect()
        };
        let numbered: Vec<(usize, &Point)> =
            tuned.front.iter().enumerate().map(|(place, point)| (place + 1, point)).collect();
        let mut front = dots(&numbered, false);
        front.sort_by(|a, b| a.x.total_cmp(&b.x));
        series.push(scattered(format!("front, {name}"), style, front));
        series.push(scattered(format!("start, {name}"), style + 1, dots(&[(0, &tuned.start)], true)));
        if chosen > 0 {
            series.push(scattered(
                format!("chosen, {name}"),
                style + 2,
                dots(&[(chosen, tuned.point(chosen))], false),
            ));
        }
    };
    set("workloads of the search", 0, &|point| Some(&point.design));
    if !tuned.held_out.is_empty() {
        set("held out", 3, &|point| point.held_out.as_ref());
    }
    let axis = |objective: Objective| {
        let dots = series.iter().flat_map(|series| &series.points);
        let values: Vec<f64> =
            dots.filter_map(|dot| if objective == x { Some(dot.x) } else { dot.y }).collect();
        LineAxis {
            label: objective.name().replace('-', " "),
            unit: unit(objective),
            kind: ScaleKind::fitting(&values),
            cover: Vec::new(),
        }
    };
    let chart = LineChart {
        title: format!("{}: {} against {}", tuned.policy, y.name(), x.name()),
        description:
            "the Pareto front that was found, the parameters it started from and the point chosen, on \
                      the workloads of the search and on those held out"
                .to_owned(),
        x: axis(x),
        y: axis(y),
        series: series.clone(),
        legend: true,
        size: Size::new(760.0, 460.0),
    };
    chart.render(Canvas::Standalone)
}

/// Dots that no line joins: a gap behind each.
fn scattered(name: String, style: usize, dots: Vec<Dot>) -> Series {
    let gap = |dot: &Dot| Dot { y: None, tooltip: String::new(), ..dot.clone() };
    let points = dots.into_iter().flat_map(|dot| [gap(&dot), dot].into_iter().rev()).collect();
    Series { name, style: Some(style), points }
}

fn tooltip(tuned: &Tuned, number: usize, assessed: &Assessed) -> String {
    let name = if number == 0 { "start".to_owned() } else { format!("point {number}") };
    let lines = tuned.objectives.iter().zip(&assessed.scores).zip(&assessed.changes).map(
        |((&objective, &score), change)| {
            let change = change_text(objective, change.change);
            format!("\n{objective}: {} ({change})", score_text(objective, score))
        },
    );
    name + &lines.collect::<String>()
}
