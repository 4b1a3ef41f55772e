//! What can be had for what: Pareto plots of the compared ones.

use super::findings::{Finding, Findings};
use super::grid::{Grid, Metric};

use crate::page::Section;

pub(super) fn section(_grid: &Grid<'_>, _found: &Findings) -> Option<Section> {
    None
}
