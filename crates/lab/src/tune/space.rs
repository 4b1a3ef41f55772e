//! The parameters that are searched, and the way between a point of the unit cube and their texts.
//!
//! Made by the command line from a preset, `--range` and `--fix`; used by the search and by the tables of its
//! results. Every point is a set of parameters that the preset takes: texts are rounded to three significant
//! digits, so that what is printed is what was tried, and stay within the range.

use std::collections::BTreeMap;

use whimbrel_core::policy::Policy;
use whimbrel_core::policy::presets::{
    self, ParameterInfo, ParameterKind, PresetError, PresetInfo, Scale, Search, Value,
};

use super::TuneError;

/// What is searched.
#[derive(Clone, Debug)]
pub struct Space {
    preset: &'static PresetInfo,
    dimensions: Vec<Dimension>,
    /// Parameters that are what they are; those that are searched are among them, with the values to start from.
    given: BTreeMap<String, String>,
}

/// One parameter that is searched.
#[derive(Clone, Debug)]
pub struct Dimension {
    parameter: &'static ParameterInfo,
    search: Search,
    /// The ends as they were given or rounded.
    ends: (String, String),
    /// The value to start from, and where it lies.
    start: (String, f64),
}

impl Space {
    /// The parameters of `preset` that have a range of their own, each around its default.
    ///
    /// `given` are parameters to start from in place of the defaults; they move no range.
    ///
    /// # Errors
    ///
    /// What the preset refuses of `given`.
    pub fn new(preset: &'static PresetInfo, given: BTreeMap<String, String>) -> Result<Self, TuneError> {
        preset.build(&given)?;
        let mut space = Self { preset, dimensions: Vec::new(), given };
        for parameter in preset.parameters {
            if let Some(search) = parameter.search() {
                space.set(parameter, search, None);
            }
        }
        Ok(space)
    }

    /// The same for a policy as it stands: its preset, starting from its parameters.
    ///
    /// # Errors
    ///
    /// If it is none of the presets, whose parameters are known.
    pub fn of(policy: &dyn Policy) -> Result<Self, TuneError> {
        let preset = presets::find(policy.name())
            .ok_or_else(|| TuneError::NoPreset { policy: policy.name().to_owned() })?;
        let moved = |(name, text): &(&'static str, String)| {
            let known = preset.parameter(name);
            known.is_some_and(|known| known.kind.parse(text) != known.kind.parse(known.default))
        };
        let given = policy.parameters().into_iter().filter(moved);
        Self::new(preset, given.map(|(name, text)| (name.to_owned(), text)).collect())
    }

    /// Searches `name` through `range`: `FROM..TO`, or words with commas between them; `text` is `NAME=RANGE`.
    ///
    /// # Errors
    ///
    /// If there is no such parameter, or it takes no such range.
    pub fn range(&mut self, text: &str) -> Result<(), TuneError> {
        let (name, range) = self.split(text)?;
        let parameter = self.parameter(name)?;
        let refused = || TuneError::Range {
            parameter: parameter.name,
            range: range.to_owned(),
            accepted: match parameter.kind {
                ParameterKind::Choice(words) => format!("two or more of {}", words.join(",")),
                kind => format!("FROM..TO, each {kind}, FROM less than TO"),
            },
        };
        if let ParameterKind::Choice(known) = parameter.kind {
            let word = |word: &str| known.iter().copied().find(|known| *known == word.trim());
            let words: Option<Vec<_>> = range.split(',').map(word).collect();
            let mut words = words.ok_or_else(refused)?;
            words.dedup();
            if words.len() < 2 {
                return Err(refused());
            }
            self.set(parameter, Search::Words(words), None);
            return Ok(());
        }
        let (from, to) = range.split_once("..").ok_or_else(refused)?;
        let number = |text: &str| {
            let value = parameter.kind.parse(text).map_err(|_| refused())?;
            parameter.kind.number(value).ok_or_else(refused)
        };
        let (least, most) = (number(from)?, number(to)?);
        if least >= most {
            return Err(refused());
        }
        let scale = match parameter.kind {
            ParameterKind::Share if least > 0.0 && most < 1.0 => Scale::Odds,
            ParameterKind::Share => Scale::Linear,
            _ if least > 0.0 => Scale::Log,
            _ => Scale::Linear,
        };
        let ends = (from.trim().to_owned(), to.trim().to_owned());
        self.set(parameter, Search::Range { from: least, to: most, scale }, Some(ends));
        Ok(())
    }

    /// Leaves a parameter at a value: `text` is `NAME=VALUE`, or `NAME` to leave it where it starts.
    ///
    /// # Errors
    ///
    /// If there is no such parameter, or it does not take the value.
    pub fn fix(&mut self, text: &str) -> Result<(), TuneError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (text.trim(), None),
        };
        let name = self.parameter(name)?.name;
        if let Some(value) = value {
            let mut given = self.given.clone();
            given.insert(name.to_owned(), value.to_owned());
            self.preset.build(&given)?;
            self.given = given;
        }
        self.dimensions.retain(|dimension| dimension.parameter.name != name);
        Ok(())
    }

    fn split<'a>(&self, text: &'a str) -> Result<(&'a str, &'a str), TuneError> {
        if let Some((name, range)) = text.split_once('=') {
            return Ok((name.trim(), range.trim()));
        }
        self.parameter(text.trim())?;
        Err(TuneError::NoRange { text: text.to_owned() })
    }

    fn parameter(&self, name: &str) -> Result<&'static ParameterInfo, TuneError> {
        if let Some(parameter) = self.preset.parameter(name) {
            return Ok(parameter);
        }
        // The preset's own words for it.
        let error = self.preset.build(&BTreeMap::from([(name.to_owned(), String::new())])).err();
        Err(TuneError::Policy(
            error
                .unwrap_or(PresetError::UnknownPreset { preset: self.preset.name.to_owned(), nearest: None }),
        ))
    }

    fn set(&mut self, parameter: &'static ParameterInfo, search: Search, ends: Option<(String, String)>) {
        let text = self.given.get(parameter.name).map_or(parameter.default, String::as_str).to_owned();
        let ends = ends.unwrap_or_else(|| match search {
            Search::Range { from, to, .. } => {
                let text = |number| parameter.kind.text(number).unwrap_or_default();
                (text(from), text(to))
            }
            _ => (String::new(), String::new()),
        });
        let place = place(parameter.kind, &search, &text);
        let dimension = Dimension { parameter, search, ends, start: (text, place) };
        let known = self.dimensions.iter_mut().find(|known| known.parameter.name == parameter.name);
        match known {
            Some(known) => *known = dimension,
            None => self.dimensions.push(dimension),
        }
    }

    /// The preset.
    pub fn preset(&self) -> &'static PresetInfo {
        self.preset
    }

    /// The parameters that are searched.
    pub fn dimensions(&self) -> &[Dimension] {
        &self.dimensions
    }

    /// The parameters to start from that are not the preset's defaults.
    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    /// The point where the search starts; what lies outside a range is at its end.
    pub fn start(&self) -> Vec<f64> {
        self.dimensions.iter().map(|dimension| dimension.start.1).collect()
    }

    /// All parameters of a point that are not left at their defaults.
    pub fn parameters(&self, point: &[f64]) -> BTreeMap<String, String> {
        let mut texts = self.given.clone();
        for (dimension, &at) in self.dimensions.iter().zip(point) {
            texts.insert(dimension.name().to_owned(), dimension.text(at));
        }
        texts
    }
}

impl Dimension {
    /// The parameter's name.
    pub fn name(&self) -> &'static str {
        self.parameter.name
    }

    /// The value that the search starts from.
    pub fn start(&self) -> &str {
        &self.start.0
    }

    /// The range, for people and for telling searches apart.
    pub fn describe(&self) -> String {
        match &self.search {
            Search::Words(words) => words.join(","),
            _ => format!("{}..{}", self.ends.0, self.ends.1),
        }
    }

    /// The value at a place from 0 to 1.
    pub fn text(&self, at: f64) -> String {
        // What is at the start or an end is that, not its neighbour by rounding.
        let near = |place: f64| (at - place).abs() < 1e-9;
        let (from, to, scale) = match &self.search {
            Search::Words(words) => {
                let place = (at * words.len() as f64) as usize;
                return words[place.min(words.len() - 1)].to_owned();
            }
            Search::Range { from, to, scale } => (*from, *to, *scale),
            // The enum may grow; a range that is not known is not moved in.
            _ => return self.start.0.clone(),
        };
        if near(self.start.1) && self.is_inside(&self.start.0) {
            return self.start.0.clone();
        }
        if near(0.0) {
            return self.ends.0.clone();
        }
        if near(1.0) {
            return self.ends.1.clone();
        }
        let number = back(scale, forth(scale, from) + at * (forth(scale, to) - forth(scale, from)));
        let text = self.parameter.kind.text(number).unwrap_or_else(|| self.start.0.clone());
        match self.number(&text) {
            Some(rounded) if rounded < from => self.ends.0.clone(),
            Some(rounded) if rounded > to => self.ends.1.clone(),
            _ => text,
        }
    }

    fn number(&self, text: &str) -> Option<f64> {
        number(self.parameter.kind, text)
    }

    fn is_inside(&self, text: &str) -> bool {
        match (&self.search, self.number(text)) {
            (Search::Range { from, to, .. }, Some(number)) => *from <= number && number <= *to,
            _ => false,
        }
    }
}

fn number(kind: ParameterKind, text: &str) -> Option<f64> {
    kind.number(kind.parse(text).ok()?)
}

/// Where in its range a text lies, 0 to 1; in the middle if it is no number of it.
fn place(kind: ParameterKind, search: &Search, text: &str) -> f64 {
    match search {
        Search::Range { from, to, scale } => number(kind, text).map_or(0.5, |number| {
            let (low, high) = (forth(*scale, *from), forth(*scale, *to));
            ((forth(*scale, number.clamp(*from, *to)) - low) / (high - low)).clamp(0.0, 1.0)
        }),
        Search::Words(words) => {
            let word = match kind.parse(text) {
                Ok(Value::Choice(word)) => words.iter().position(|known| *known == word),
                _ => None,
            };
            word.map_or(0.5, |word| (word as f64 + 0.5) / words.len() as f64)
        }
        _ => 0.5,
    }
}

fn forth(scale: Scale, number: f64) -> f64 {
    match scale {
        Scale::Log => number.ln(),
        Scale::Odds => (number / (1.0 - number)).ln(),
        _ => number,
    }
}

fn back(scale: Scale, place: f64) -> f64 {
    match scale {
        Scale::Log => place.exp(),
        Scale::Odds => place.exp() / (1.0 + place.exp()),
        _ => place,
    }
}
