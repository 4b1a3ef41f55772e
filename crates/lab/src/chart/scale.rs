//! From values to places, and where the ticks go.

use super::unit::Unit;

/// Beyond this no quantity of ours has a meaning; such a value counts as missing.
const LARGEST: f64 = 1e18;

/// The value if it can be drawn: finite and of a sane size. What is too small to matter is 0.
pub(crate) fn usable(value: f64) -> Option<f64> {
    (value.is_finite() && value.abs() <= LARGEST).then(
        || {
            if value.abs() < 1.0 / LARGEST { 0.0 } else { value }
        },
    )
}

/// How distances on an axis grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleKind {
    /// Equal differences are equal distances.
    Linear,
    /// Equal ratios are equal distances.
    Log,
}

impl ScaleKind {
    /// The kind in which `values` lie more evenly.
    pub fn fitting(values: &[f64]) -> Self {
        let mut sorted: Vec<f64> = values.iter().copied().filter_map(usable).collect();
        sorted.sort_by(f64::total_cmp);
        match (sorted.first(), sorted.last()) {
            (Some(&low), Some(&high)) if low > 0.0 && high >= 3.0 * low => {}
            _ => return Self::Linear,
        }
        if sorted.len() == 2 {
            return if sorted[1] >= 10.0 * sorted[0] { Self::Log } else { Self::Linear };
        }
        let unevenness = |map: fn(f64) -> f64| {
            let steps: Vec<f64> = sorted.windows(2).map(|pair| map(pair[1]) - map(pair[0])).collect();
            let mean = steps.iter().sum::<f64>() / steps.len() as f64;
            steps.iter().map(|step| (step / mean - 1.0).powi(2)).sum::<f64>()
        };
        if unevenness(f64::log10) < unevenness(|value| value) { Self::Log } else { Self::Linear }
    }

    fn forth(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(1.0 / LARGEST).log10(),
        }
    }

    fn back(self, place: f64) -> f64 {
        match self {
            Self::Linear => place,
            Self::Log => 10f64.powf(place),
        }
    }
}

/// One labelled place on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    /// The value it stands at.
    pub(crate) value: f64,
    /// With its unit.
    pub(crate) label: String,
    /// Without the unit that the axis names.
    pub(crate) short: String,
}

impl Tick {
    pub(super) fn at(value: f64, unit: Unit) -> Self {
        Self { value, label: unit.format(value), short: unit.compact(value) }
    }
}

/// From a span of values to a span of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    kind: ScaleKind,
    low: f64,
    high: f64,
    pixels: (f64, f64),
}

impl Scale {
    /// A scale over the usable `values`; over something sensible if there are none or all are equal.
    ///
    /// On a logarithmic scale, what is not positive is drawn at the lower end.
    pub(crate) fn covering(
        kind: ScaleKind,
        values: impl IntoIterator<Item = f64>,
        pixels: (f64, f64),
    ) -> Self {
        let mut low = f64::INFINITY;
        let mut high = f64::NEG_INFINITY;
        for value in values.into_iter().filter_map(usable) {
            if kind == ScaleKind::Linear || value > 0.0 {
                low = low.min(value);
                high = high.max(value);
            }
        }
        if low > high {
            (low, high) = if kind == ScaleKind::Log { (1.0, 10.0) } else { (0.0, 1.0) };
        } else if high - low <= 1e-9 * high.abs() {
            (low, high) = match kind {
                ScaleKind::Log => (low / 2.0, high * 2.0),
                ScaleKind::Linear if low == 0.0 => (0.0, 1.0),
                ScaleKind::Linear => (low - low.abs() / 2.0, high + high.abs() / 2.0),
            };
        }
        Self { kind, low, high, pixels }
    }

    /// A scale between two places given as the kind measures them (logarithms on a logarithmic one).
    pub(super) fn between(kind: ScaleKind, (low, high): (f64, f64), pixels: (f64, f64)) -> Self {
        Self { kind, low: kind.back(low), high: kind.back(high), pixels }
    }

    /// The same, widened on both sides until it spans at least this share of its largest value.
    pub(super) fn spanning(mut self, share: f64) -> Self {
        let lacking = share * self.low.abs().max(self.high.abs()) - (self.high - self.low);
        if lacking > 0.0 {
            let (low, high) = (self.low - lacking / 2.0, self.high + lacking / 2.0);
            // Nothing that was positive begins below nothing.
            self.low = if self.low > 0.0 { low.max(self.low / 2.0) } else { low };
            self.high = high;
        }
        self
    }

    /// A linear scale, the same from and to the next round value outwards.
    pub(super) fn rounded(mut self, unit: Unit, room: usize) -> Self {
        if self.kind == ScaleKind::Linear {
            let step = self.linear_step(unit, room.clamp(2, 20));
            self.low = (self.low / step + 1e-9).floor() * step;
            self.high = (self.high / step - 1e-9).ceil() * step;
        }
        self
    }

    /// The same values over other pixels.
    pub(super) const fn over(mut self, pixels: (f64, f64)) -> Self {
        self.pixels = pixels;
        self
    }

    pub(super) const fn kind(&self) -> ScaleKind {
        self.kind
    }

    pub(crate) const fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Where a value lies; what is outside gets the nearer end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.kind.forth(self.low), self.kind.forth(self.high));
        let share = (self.kind.forth(value) - low) / (high - low);
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Round values within the scale, about `room` of them at most, ascending, no label twice.
    pub(crate) fn ticks(&self, unit: Unit, room: usize) -> Vec<Tick> {
        let room = room.clamp(2, 20);
        let mut values = match self.kind {
            ScaleKind::Linear => self.linear_ticks(unit, room),
            ScaleKind::Log => {
                let round = self.log_ticks(unit, room);
                if round.len() < 2 { self.linear_ticks(unit, room) } else { round }
            }
        };
        if values.is_empty() {
            values = vec![self.low, self.high];
        }
        let mut ticks: Vec<Tick> = values.into_iter().map(|value| Tick::at(value, unit)).collect();
        ticks.dedup_by(|next, first| next.label == first.label);
        ticks
    }

    fn contains(&self, value: f64) -> bool {
        let slack = (self.high - self.low) * 1e-9;
        value >= self.low - slack && value <= self.high + slack
    }

    fn linear_ticks(&self, unit: Unit, room: usize) -> Vec<f64> {
        let step = self.linear_step(unit, room);
        let first = (self.low / step - 1e-9).ceil();
        (0..=room)
            .map(|at| (first + at as f64) * step)
            .filter(|value| value.is_finite() && self.contains(*value))
            .collect()
    }

    /// From one round value to the next, so that about `room` of them lie on the scale.
    fn linear_step(&self, unit: Unit, room: usize) -> f64 {
        let size = self.low.abs().max(self.high.abs());
        let one = match unit {
            // The size of what is printed as 1.
            Unit::Bandwidth => 0.125,
            Unit::Share => 0.01,
            Unit::Bytes => 1024f64.powf((size.max(1.0).log2() / 10.0).floor()),
            Unit::Milliseconds if size >= 7_200_000.0 => 3_600_000.0,
            Unit::Milliseconds if size >= 120_000.0 => 60_000.0,
            Unit::Milliseconds if size >= 60_000.0 => 30_000.0,
            _ => 1.0,
        };
        let least = (self.high - self.low) / one / room as f64;
        let power = 10f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= least * (1.0 - 1e-9))
            .unwrap_or(10.0 * power)
            * one;
        if unit == Unit::Count { step.ceil() } else { step }
    }

    fn log_ticks(&self, unit: Unit, room: usize) -> Vec<f64> {
        let ladders: Vec<Vec<f64>> = match unit {
            Unit::Bytes => {
                [1, 2, 5, 10, 20].into_iter().map(|step| self.powers(2.0, step, &[1.0], 1.0)).collect()
            }
            Unit::Milliseconds => self.time_ladders(),
            _ => {
                let one = if unit == Unit::Bandwidth { 0.125 } else { 1.0 };
                let fine =
                    [self.powers(10.0, 1, &[1.0, 2.0, 5.0], one), self.powers(10.0, 1, &[1.0, 3.0], one)];
                let coarse = [1, 2, 3, 6, 12].into_iter().map(|step| self.powers(10.0, step, &[1.0], one));
                fine.into_iter().chain(coarse).collect()
            }
        };
        ladders.into_iter().find(|ladder| ladder.len() <= room).unwrap_or_default()
    }

    /// Every `step`-th power of `base` within the scale, times each factor, times `one`.
    fn powers(&self, base: f64, step: i32, factors: &[f64], one: f64) -> Vec<f64> {
        let power = |value: f64| (value / one).log(base) / f64::from(step);
        let (first, last) = (power(self.low).floor() as i32 - 1, power(self.high).ceil() as i32 + 1);
        (first..=last)
            .flat_map(|at| factors.iter().map(move |factor| base.powi(at * step) * factor * one))
            .filter(|value| self.contains(*value))
            .collect()
    }

    /// Milliseconds by decades, then seconds, minutes, hours; from fine to coarse.
    fn time_ladders(&self) -> Vec<Vec<f64>> {
        let build = |below: &[f64], sixty: &[f64], hours: &[f64]| -> Vec<f64> {
            let small = self.powers(10.0, 1, below, 1.0).into_iter().filter(|value| *value < 9_999.0);
            let sixties = [1e3, 6e4].into_iter().flat_map(|one| sixty.iter().map(move |count| count * one));
            let sixties = sixties.filter(|value| *value > 9_999.0 && self.contains(*value));
            let long = self.powers(10.0, 1, hours, 3.6e6).into_iter().filter(|value| *value > 3.5e6);
            small.chain(sixties).chain(long).collect()
        };
        vec![
            build(&[1.0, 2.0, 5.0], &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0], &[1.0, 2.0, 5.0]),
            build(&[1.0], &[1.0, 10.0], &[1.0]),
            self.powers(1000.0, 1, &[1.0], 1.0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(kind: ScaleKind, low: f64, high: f64, unit: Unit, room: usize) -> Vec<String> {
        let scale = Scale::covering(kind, [low, high], (0.0, 100.0));
        scale.ticks(unit, room).into_iter().map(|tick| tick.label).collect()
    }

    /// Each line: from, to, how many ticks, and the ticks, joined by `, `.
    fn check(kind: ScaleKind, unit: Unit, cases: &[(f64, f64, usize, &str)]) {
        for (low, high, room, expected) in cases {
            assert_eq!(labels(kind, *low, *high, unit, *room).join(", "), *expected);
        }
    }

    #[test]
    fn logarithmic_ticks_are_round_in_the_unit_people_read() {
        let log = |unit, cases| check(ScaleKind::Log, unit, cases);
        log(Unit::Bandwidth, &[(12.5e6, 1250e6, 4, "100 Mbit/s, 1 Gbit/s, 10 Gbit/s")]);
        log(Unit::PageRate, &[(100.0, 1e4, 3, "100 pages/s, 1 k pages/s, 10 k pages/s")]);
        log(Unit::Milliseconds, &[(500.0, 3.6e6, 6, "1 s, 10 s, 1 min, 10 min, 1 h")]);
        log(Unit::Bytes, &[(1024.0, 1_048_576.0, 3, "1 KiB, 32 KiB, 1 MiB")]);
    }

    #[test]
    fn linear_ticks_are_round_in_the_unit_people_read() {
        const GIB: f64 = 1_073_741_824.0;
        let linear = |unit, cases| check(ScaleKind::Linear, unit, cases);
        let times = [
            (0.0, 600_000.0, 6, "0 s, 2 min, 4 min, 6 min, 8 min, 10 min"),
            (0.0, 1000.0, 5, "0 s, 200 ms, 400 ms, 600 ms, 800 ms, 1 s"),
            (0.0, 118_000.0, 4, "0 s, 30 s, 1 min, 90 s"),
        ];
        linear(Unit::Milliseconds, &times);
        linear(Unit::Count, &[(0.0, 3.0, 6, "0, 1, 2, 3"), (0.0, 9.0, 4, "0, 3, 6, 9")]);
        linear(Unit::Share, &[(0.0, 1.0, 4, "0 %, 25 %, 50 %, 75 %, 100 %")]);
        linear(Unit::Bytes, &[(0.0, 12.0 * GIB, 4, "0 B, 5 GiB, 10 GiB")]);
    }

    #[test]
    fn values_that_grow_by_ratios_get_a_logarithmic_scale() {
        assert_eq!(ScaleKind::fitting(&[100.0, 1000.0, 10_000.0]), ScaleKind::Log);
        assert_eq!(ScaleKind::fitting(&[0.0, 10.0, 1000.0]), ScaleKind::Linear);
        let even: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(ScaleKind::fitting(&even), ScaleKind::Linear);
    }

    #[test]
    fn a_scale_widens_to_what_matters_and_to_round_values() {
        let scale = |low, high| Scale::covering(ScaleKind::Linear, [low, high], (0.0, 100.0));
        let narrow = scale(8620.0, 8620.4).spanning(0.1);
        assert!((narrow.place(8620.4) - narrow.place(8620.0)).abs() < 0.1, "they print alike");
        assert_eq!(scale(100.0, 200.0).spanning(0.1).range(), (100.0, 200.0));
        assert_eq!(scale(0.0, 8620.0).rounded(Unit::Milliseconds, 5).range(), (0.0, 10_000.0));
        assert_eq!(scale(0.0, 8000.0).rounded(Unit::Milliseconds, 5).range(), (0.0, 8000.0));
    }

    #[test]
    fn equal_or_missing_values_still_give_a_scale() {
        for kind in [ScaleKind::Linear, ScaleKind::Log] {
            for values in [vec![], vec![f64::NAN], vec![7.0], vec![0.0, 0.0], vec![-3.0]] {
                let scale = Scale::covering(kind, values.clone(), (0.0, 10.0));
                let (low, high) = scale.range();
                assert!(low < high && low.is_finite() && high.is_finite(), "{kind:?} {values:?}");
                assert!(!scale.ticks(Unit::Number, 5).is_empty());
            }
        }
    }

    proptest::proptest! {
        /// A larger value never lies further back, and no value lies outside the pixels.
        #[test]
        fn a_scale_is_monotone_and_in_range(
            values in proptest::collection::vec(proptest::num::f64::ANY, 0..9),
            probe in proptest::collection::vec(proptest::num::f64::ANY, 2..9),
            log in proptest::bool::ANY,
        ) {
            let kind = if log { ScaleKind::Log } else { ScaleKind::Linear };
            let scale = Scale::covering(kind, values, (10.0, 200.0));
            let mut probe: Vec<f64> = probe.into_iter().filter(|value| !value.is_nan()).collect();
            probe.sort_by(f64::total_cmp);
            let places: Vec<f64> = probe.iter().map(|value| scale.place(*value)).collect();
            proptest::prop_assert!(places.iter().all(|place| (10.0..=200.0).contains(place)), "{places:?}");
            proptest::prop_assert!(places.windows(2).all(|pair| pair[0] <= pair[1]), "{places:?}");
        }

        /// Ticks ascend, lie on the scale and are not more than asked for (but for both ends).
        #[test]
        fn ticks_ascend_within_the_scale(
            low in 1e-9f64..1e15, ratio in 1.0001f64..1e9, room in 2usize..12, log in proptest::bool::ANY, pick in 0usize..8,
        ) {
            let units = [Unit::Count, Unit::Bandwidth, Unit::PageRate, Unit::Pages, Unit::Bytes, Unit::Milliseconds, Unit::Share, Unit::VcpuSeconds];
            let kind = if log { ScaleKind::Log } else { ScaleKind::Linear };
            let scale = Scale::covering(kind, [low, low * ratio], (0.0, 1.0));
            let ticks = scale.ticks(units[pick], room);
            proptest::prop_assert!(!ticks.is_empty() && ticks.len() <= room + 1, "{ticks:?}");
            proptest::prop_assert!(ticks.windows(2).all(|pair| pair[0].value < pair[1].value), "{ticks:?}");
            proptest::prop_assert!(ticks.iter().all(|tick| scale.contains(tick.value)), "{ticks:?}");
        }
    }
}
