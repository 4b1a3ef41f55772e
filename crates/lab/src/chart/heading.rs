//! What stands above a drawing: a title and sentences, in as many lines as they need.

use super::svg::{Anchor, Svg, wrapped};

/// Text that outgrows so many lines is cut.
const MOST_LINES: usize = 4;
const TITLE: f64 = 20.0;
const LINE: f64 = 17.0;

/// A title with what stands below it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Heading {
    left: f64,
    title: Vec<String>,
    below: Vec<String>,
}

impl Heading {
    /// Between margins of `left` pixels in a drawing that is `width` wide.
    pub(super) fn new<'a>(
        title: &str,
        below: impl IntoIterator<Item = &'a str>,
        left: f64,
        width: f64,
    ) -> Self {
        let room = width - 2.0 * left;
        let below = below.into_iter().flat_map(|text| wrapped(text, 12.0, room, MOST_LINES));
        Self { left, title: wrapped(title, 15.5, room, 2), below: below.collect() }
    }

    /// Where the last line stands: 52 for one line of each.
    pub(super) fn bottom(&self) -> f64 {
        12.0 + TITLE * self.title.len() as f64 + 3.0 + LINE * self.below.len() as f64
    }

    pub(super) fn draw(&self, svg: &mut Svg) {
        let mut y = 12.0;
        for line in &self.title {
            y += TITLE;
            svg.text((self.left, y), Anchor::Start, "title", line);
        }
        y += 3.0;
        for line in &self.below {
            y += LINE;
            svg.text((self.left, y), Anchor::Start, "sub", line);
        }
    }
}
