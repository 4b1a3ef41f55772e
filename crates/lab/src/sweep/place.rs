//! Where the cells of a grid lie, as their rows say it: put together from the texts of the axes' values, which are
//! made once.

use super::row::Format;
use crate::scenario::Grid;
use crate::table::csv;
use crate::table::fields::json;

/// The texts of one value of an axis.
#[derive(Debug)]
struct Texts {
    /// In JSON the value under the key of its axis; in CSV the value and its number.
    value: Vec<u8>,
    /// In JSON the number under the key of its axis; empty if it is none.
    number: Vec<u8>,
}

/// One axis.
#[derive(Debug)]
struct Axis {
    /// Cells until the next value.
    step: u64,
    values: Vec<Texts>,
}

/// Places in rows of one format.
#[derive(Debug)]
pub(super) struct Places {
    format: Format,
    axes: Vec<Axis>,
}

impl Places {
    pub(super) fn of(grid: &Grid, format: Format) -> Self {
        let mut step = 1;
        let mut axes: Vec<Axis> = Vec::with_capacity(grid.axes().len());
        for axis in grid.axes().iter().rev() {
            let values = axis.values.iter().map(|value| {
                if format == Format::Csv {
                    let mut text = Vec::new();
                    csv::field(&mut text, &value.text);
                    text.push(b',');
                    text.extend(value.number.map(|number| number.to_string()).unwrap_or_default().bytes());
                    return Texts { value: text, number: Vec::new() };
                }
                let number = value.number.map(|number| pair(&axis.key, number));
                Texts { value: pair(&axis.key, &value.text), number: number.unwrap_or_default() }
            });
            axes.push(Axis { step, values: values.collect() });
            step *= axis.values.len() as u64;
        }
        axes.reverse();
        Self { format, axes }
    }

    /// Makes `text` the fields of where a cell lies, each with a comma behind it.
    pub(super) fn put(&self, cell: u64, text: &mut Vec<u8>) {
        text.clear();
        let here = || {
            self.axes.iter().map(|axis| &axis.values[(cell / axis.step % axis.values.len() as u64) as usize])
        };
        if self.format == Format::Csv {
            for texts in here() {
                text.extend_from_slice(&texts.value);
                text.push(b',');
            }
            return;
        }
        text.extend_from_slice(b"\"axes\":");
        object(text, here().map(|texts| &texts.value));
        text.extend_from_slice(b"\"axis_numbers\":");
        object(text, here().map(|texts| &texts.number).filter(|number| !number.is_empty()));
    }
}

/// A JSON object of these pairs, and a comma.
fn object<'a>(text: &mut Vec<u8>, pairs: impl Iterator<Item = &'a Vec<u8>>) {
    text.push(b'{');
    for (index, pair) in pairs.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(pair);
    }
    text.extend_from_slice(b"},");
}

fn pair(key: &str, value: impl serde::Serialize) -> Vec<u8> {
    let mut text = Vec::new();
    json(&mut text, key);
    text.push(b':');
    json(&mut text, value);
    text
}
