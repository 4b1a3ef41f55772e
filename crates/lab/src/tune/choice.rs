//! Which point of a front is taken.

use std::str::FromStr;

use super::{Point, TuneError, Tuned};
use crate::outcome::Objective;

/// How a point is chosen. Judged is by the scores on the workloads of the search with fresh seeds; what was held
/// out has no say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// The point nearest to the best of every objective, each measured from the front's best to its worst.
    #[default]
    Knee,
    /// Of the points that are no worse than the start in any objective, the one that betters it most, all
    /// objectives together; the start itself if there is none.
    Better,
    /// The point of this number, counted from 1.
    Number(usize),
    /// The least of an objective.
    Least(Objective),
}

/// What was written is no choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` chooses no point: expected knee, better, a number from 1 or min:OBJECTIVE{}", why.as_deref().unwrap_or(""))]
pub struct UnknownChoice {
    text: String,
    why: Option<String>,
}

impl FromStr for Choice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        let unknown = |why| UnknownChoice { text: text.chars().take(60).collect(), why };
        match text {
            "knee" => Ok(Self::Knee),
            "better" => Ok(Self::Better),
            _ => match text.split_once(':') {
                Some(("min", objective)) => objective
                    .parse()
                    .map(Self::Least)
                    .map_err(|error: crate::outcome::UnknownObjective| unknown(Some(format!("; {error}")))),
                _ => match text.parse() {
                    Ok(number) if number > 0 => Ok(Self::Number(number)),
                    _ => Err(unknown(None)),
                },
            },
        }
    }
}

/// Less is better in every one, and differences count the same wherever they are.
fn even(tuned: &Tuned, point: &Point) -> Vec<f64> {
    let scores = tuned.objectives.iter().zip(&point.design.scores);
    scores
        .map(|(&objective, &score)| if objective == Objective::Failures { score } else { score.ln() })
        .collect()
}

impl Tuned {
    /// The number of the point that is chosen, counted from 1; 0 is the start.
    ///
    /// # Errors
    ///
    /// If there is no such point.
    pub fn choose(&self, choice: Choice) -> Result<usize, TuneError> {
        let points = self.front.len();
        let least = |badness: &mut dyn FnMut(&Point) -> f64| {
            let mut best = (0, f64::INFINITY);
            for (place, point) in self.front.iter().enumerate() {
                let badness = badness(point);
                if badness < best.1 {
                    best = (place + 1, badness);
                }
            }
            best.0
        };
        match choice {
            Choice::Number(index) if index <= points => Ok(index),
            Choice::Number(index) => Err(TuneError::NoPoint { index, points }),
            Choice::Least(objective) => {
                let known = || self.objectives.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let place = self.objectives.iter().position(|known| *known == objective);
                let place = place.ok_or_else(|| TuneError::NotMinimised { objective, known: known() })?;
                Ok(least(&mut |point| point.design.scores[place]))
            }
            Choice::Knee => {
                let ends = self.ends();
                Ok(least(&mut |point| {
                    let away = even(self, point).into_iter().zip(&ends).map(|(score, (best, worst))| {
                        if worst > best { ((score - best) / (worst - best)).powi(2) } else { 0.0 }
                    });
                    away.sum()
                }))
            }
            Choice::Better => {
                let start = even(self, &self.start);
                Ok(least(&mut |point| {
                    let changes: Vec<f64> =
                        even(self, point).iter().zip(&start).map(|(point, start)| point - start).collect();
                    let better =
                        changes.iter().all(|change| *change <= 0.0) && changes.iter().any(|x| *x < 0.0);
                    if better { changes.iter().sum() } else { f64::INFINITY }
                }))
            }
        }
    }

    /// Best and worst of each objective over the front.
    fn ends(&self) -> Vec<(f64, f64)> {
        let mut ends = vec![(f64::INFINITY, f64::NEG_INFINITY); self.objectives.len()];
        for point in &self.front {
            for (end, score) in ends.iter_mut().zip(even(self, point)) {
                *end = (end.0.min(score), end.1.max(score));
            }
        }
        ends
    }

    /// The point of this number, counted from 1; 0 and any other is the start.
    pub fn point(&self, number: usize) -> &Point {
        number.checked_sub(1).and_then(|place| self.front.get(place)).unwrap_or(&self.start)
    }
}
