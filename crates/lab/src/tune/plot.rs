//! A front as a picture: its points over two objectives, on the workloads of the search and on those held out.

use super::table::{change_text, natural_unit, score_text, unit};
use super::{Assessed, Point, Tuned};
use crate::chart::{Candidate, Canvas, Estimate, LineAxis, ParetoChart, ScaleKind, Size};
use crate::outcome::Objective;

/// The first two objectives, as an SVG file of its own; empty if there is only one.
///
/// With more than two, a point may lie above others because it is better in one that is not drawn.
pub fn plot(tuned: &Tuned, chosen: usize) -> String {
    let [x, y, ..] = tuned.objectives[..] else {
        return String::new();
    };
    let estimate = |objective, score| Estimate { value: natural_unit(objective, score), interval: None };
    let mut candidates = Vec::new();
    let mut set = |set: usize, style: usize, of: &dyn Fn(&Point) -> Option<&Assessed>| {
        let mut add = |number: usize, point: &Point, front: bool| {
            let Some(assessed) = of(point) else { return };
            let marked = number == chosen;
            let name = if number == 0 { "start".to_owned() } else { format!("point {number}") };
            candidates.push(Candidate {
                name: match number {
                    _ if marked => format!("{name}, chosen"),
                    0 => name.clone(),
                    _ => String::new(),
                },
                x: estimate(x, assessed.scores[0]),
                y: estimate(y, assessed.scores[1]),
                style,
                front,
                set,
                chosen: marked,
                remark: remark(tuned, name, assessed),
            });
        };
        for (place, point) in tuned.front.iter().enumerate() {
            add(place + 1, point, true);
        }
        add(0, &tuned.start, false);
    };
    set(0, 0, &|point| Some(&point.design));
    let mut legend = vec![(0, "front, workloads of the search".to_owned())];
    if !tuned.held_out.is_empty() {
        set(1, 3, &|point| point.held_out.as_ref());
        legend.push((3, "front, held out".to_owned()));
    }
    let axis = |objective: Objective, of: &dyn Fn(&Candidate) -> f64| LineAxis {
        label: objective.name().replace('-', " "),
        unit: unit(objective),
        kind: ScaleKind::fitting(&candidates.iter().map(of).collect::<Vec<_>>()),
        cover: Vec::new(),
    };
    let chart = ParetoChart {
        title: format!("{}: {} against {}", tuned.policy, y.name(), x.name()),
        description:
            "the Pareto front that was found, the parameters it started from and the point chosen, on the \
                      workloads of the search and on those held out"
                .to_owned(),
        x: axis(x, &|one| one.x.value),
        y: axis(y, &|one| one.y.value),
        candidates,
        legend,
        size: Size::new(760.0, 460.0),
    };
    chart.render(Canvas::Standalone)
}

fn remark(tuned: &Tuned, name: String, assessed: &Assessed) -> String {
    let lines = tuned.objectives.iter().zip(&assessed.scores).zip(&assessed.changes).map(
        |((&objective, &score), change)| {
            let change = change_text(objective, change.change);
            format!("\n{objective}: {} ({change})", score_text(objective, score))
        },
    );
    name + &lines.collect::<String>()
}
