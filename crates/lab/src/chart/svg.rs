//! A small SVG writer: the shapes the charts use, nothing else.
//!
//! Text is escaped here and nowhere else, and a coordinate that is not finite becomes 0, so no value can
//! break the document. Colours come from classes (see `style`), so that one chart reads well on a
//! white file and on a dark page.

use std::fmt::{self, Write as _};

use super::style;

/// Where a chart will be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canvas {
    /// Inside an HTML page which carries [`page_css`](super::page_css): no background, no style of its own.
    Page,
    /// A file of its own: white background, light colours, style included.
    Standalone,
}

/// `text` with the characters escaped that mean something in HTML, SVG and their attributes.
///
/// Control characters that XML forbids are left out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(&mut out, text);
    out
}

/// Adds it to a text.
pub(super) fn escape_into(out: &mut String, text: &str) {
    let mut from = 0;
    for (at, character) in text.char_indices() {
        let instead = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&#39;",
            ' '..='~' | '\n' | '\t' => continue,
            '\u{fffe}' | '\u{ffff}' => "",
            other if other.is_control() => "",
            _ => continue,
        };
        // What lies between is as it was.
        out.push_str(&text[from..at]);
        out.push_str(instead);
        from = at + character.len_utf8();
    }
    out.push_str(&text[from..]);
}

/// A colour as red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    /// As it is written in a drawing.
    fn digits(self, bytes: &mut [u8; 7]) -> &str {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        bytes[0] = b'#';
        for (pair, part) in bytes[1..].chunks_exact_mut(2).zip([self.0, self.1, self.2]) {
            pair.copy_from_slice(&[DIGITS[usize::from(part / 16)], DIGITS[usize::from(part % 16)]]);
        }
        // Digits only.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits(&mut [0; 7]))
    }
}

/// A rectangle in the chart's pixels, y downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    pub(super) const fn new(left: f64, top: f64, width: f64, height: f64) -> Self {
        Self { left, top, width, height }
    }

    pub(super) fn right(self) -> f64 {
        self.left + self.width
    }

    pub(super) fn bottom(self) -> f64 {
        self.top + self.height
    }
}

/// Which end of a text its position names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a point is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Full,
    Open,
    /// As the two above, where many points lie close together.
    SmallFull,
    SmallOpen,
}

/// What is drawn over a filled area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texture {
    Plain,
    Rising,
    Level,
    Falling,
}

impl Texture {
    /// For the parts of something in their order: neighbours never have the same.
    pub(super) const fn of(at: usize) -> Self {
        match at % 4 {
            0 => Self::Plain,
            1 => Self::Rising,
            2 => Self::Level,
            _ => Self::Falling,
        }
    }
}

/// How many shapes of points there are; they differ between series, so that colour is never the only sign.
const SHAPES: usize = 4;

/// A coordinate as text: one decimal, no trailing zero, 0 for what is not finite.
#[derive(Clone, Copy)]
struct Number(f64);

impl Number {
    /// The text, at the end of these bytes: a map has four a cell, by the ten thousand.
    fn digits(self, bytes: &mut [u8; 9]) -> &str {
        let value = if self.0.is_finite() { self.0.clamp(-1e5, 1e5) } else { 0.0 };
        let tenths = (value * 10.0).round() as i64;
        let (mut whole, rest) = (tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
        let mut from = bytes.len();
        let mut put = |byte: u8| {
            from -= 1;
            bytes[from] = byte;
        };
        if rest > 0 {
            put(b'0' + rest as u8);
            put(b'.');
        }
        loop {
            put(b'0' + (whole % 10) as u8);
            whole /= 10;
            if whole == 0 {
                break;
            }
        }
        if tenths < 0 {
            put(b'-');
        }
        // Digits only.
        std::str::from_utf8(&bytes[from..]).unwrap_or_default()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits(&mut [0; 9]))
    }
}

/// A drawing in the making.
#[derive(Debug)]
pub(super) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    pub(super) const fn new(width: f64, height: f64) -> Self {
        Self { body: String::new(), width, height }
    }

    fn put(&mut self, parts: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(parts);
    }

    /// Ends an element: with a tooltip if there is one.
    fn close(&mut self, element: &str, tooltip: &str) {
        if tooltip.is_empty() {
            self.body.push_str("/>");
        } else {
            self.body.push_str("><title>");
            escape_into(&mut self.body, tooltip);
            self.put(format_args!("</title></{element}>"));
        }
    }

    pub(super) fn rect(&mut self, area: Area, class: &str, tooltip: &str) {
        self.rect_start(area);
        self.put(format_args!(" class=\"{class}\""));
        self.close("rect", tooltip);
    }

    pub(super) fn filled(&mut self, area: Area, fill: Rgb, tooltip: &str) {
        self.rect_start(area);
        for part in [" fill=\"", fill.digits(&mut [0; 7]), "\""] {
            self.body.push_str(part);
        }
        self.close("rect", tooltip);
    }

    fn rect_start(&mut self, area: Area) {
        let sides = [
            ("<rect x=\"", area.left),
            ("\" y=\"", area.top),
            ("\" width=\"", area.width.max(0.0)),
            ("\" height=\"", area.height.max(0.0)),
        ];
        for (name, side) in sides {
            self.body.push_str(name);
            self.body.push_str(Number(side).digits(&mut [0; 9]));
        }
        self.body.push('"');
    }

    /// Another drawing of the same size over this one.
    pub(super) fn draw(&mut self, over: &Self) {
        self.body.push_str(&over.body);
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.path(&[vec![from, to]], class, false);
    }

    /// One path of several strokes; `closed` joins the ends of each.
    pub(super) fn path(&mut self, strokes: &[Vec<(f64, f64)>], class: &str, closed: bool) {
        let mut drawn = false;
        for stroke in strokes.iter().filter(|stroke| stroke.len() > 1) {
            self.body.push_str(if drawn { "" } else { "<path d=\"" });
            drawn = true;
            for (at, (x, y)) in stroke.iter().enumerate() {
                let step = if at == 0 { 'M' } else { 'L' };
                self.put(format_args!("{step}{} {}", Number(*x), Number(*y)));
            }
            self.body.push_str(if closed { "Z" } else { "" });
        }
        if drawn {
            self.put(format_args!("\" class=\"{class}\"/>"));
        }
    }

    /// The sign of a series at a point.
    pub(super) fn mark(&mut self, style: usize, (x, y): (f64, f64), mark: Mark, tooltip: &str) {
        let open = matches!(mark, Mark::Open | Mark::SmallOpen);
        let r = if matches!(mark, Mark::Full | Mark::Open) { 3.6 } else { 2.4 };
        let class = if open { "mark hollow" } else { "mark" };
        self.put(format_args!("<path d=\"M{} {}", Number(x), Number(y)));
        // Sizes differ a little, so that all shapes look equally large.
        // The shape moves on when the colours begin again, so that no two series look the same for long.
        match (style + style / style::SERIES) % SHAPES {
            0 => self.put(format_args!("m-{r} 0a{r} {r} 0 1 0 {0} 0a{r} {r} 0 1 0-{0} 0Z", Number(2.0 * r))),
            1 => {
                let side = Number(1.8 * r);
                self.put(format_args!("m-{0}-{0}h{side}v{side}h-{side}Z", Number(0.9 * r)));
            }
            2 => self.put(format_args!(
                "m0-{0}l{0} {1}h-{2}Z",
                Number(1.2 * r),
                Number(2.0 * r),
                Number(2.4 * r)
            )),
            _ => self.put(format_args!("m0-{0}l{0} {0}l-{0} {0}l-{0}-{0}Z", Number(1.3 * r))),
        }
        self.put(format_args!("\" class=\"{class} {}\"", style::series_class(style)));
        self.close("path", tooltip);
    }

    /// A ring around a mark.
    pub(super) fn ring(&mut self, (x, y): (f64, f64)) {
        let (x, y) = (Number(x), Number(y));
        self.put(format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"8\" class=\"ring\"/>"));
    }

    pub(super) fn text(&mut self, at: (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        self.put(format_args!(
            "<text x=\"{}\" y=\"{}\"{anchor} class=\"{class}\">{}</text>",
            Number(at.0),
            Number(at.1),
            escape(text),
        ));
    }

    /// Text that reads upwards, centred at a point.
    pub(super) fn text_upwards(&mut self, (x, y): (f64, f64), class: &str, text: &str) {
        let (x, y) = (Number(x), Number(y));
        self.put(format_args!(
            "<text transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\" class=\"{class}\">{}</text>",
            escape(text),
        ));
    }

    /// Strokes across an area, so that neighbouring parts differ in more than their colour.
    pub(super) fn texture(&mut self, area: Area, texture: Texture) {
        const STEP: f64 = 6.0;
        let (width, height) = (area.width.max(0.0), area.height.max(0.0));
        let strokes: Vec<Vec<(f64, f64)>> = match texture {
            Texture::Plain => Vec::new(),
            Texture::Level => {
                let rows = (1..).map(|at| f64::from(at) * STEP).take_while(|y| *y < height);
                rows.map(|y| vec![(area.left, area.top + y), (area.right(), area.top + y)]).collect()
            }
            Texture::Rising | Texture::Falling => {
                // Along the lower edge from where the first stroke enters; each is cut at the area's sides.
                let starts = (0..2000).map(|at| f64::from(at) * STEP - height).take_while(|x| *x < width);
                let strokes = starts.filter_map(|x| {
                    let (from, to) = (x.max(0.0), (x + height).min(width));
                    let y = |at: f64| {
                        if texture == Texture::Rising {
                            area.bottom() - (at - x)
                        } else {
                            area.top + (at - x)
                        }
                    };
                    (to - from > 0.5).then(|| vec![(area.left + from, y(from)), (area.left + to, y(to))])
                });
                strokes.collect()
            }
        };
        self.path(&strokes, "texture", false);
    }

    /// Puts another drawing into this one.
    pub(super) fn inset(&mut self, other: &Self, (x, y): (f64, f64)) {
        let body = &other.body;
        self.put(format_args!("<g transform=\"translate({} {})\">{body}</g>", Number(x), Number(y)));
    }

    /// The document. `label` is what a screen reader says.
    pub(super) fn finish(self, canvas: Canvas, label: &str) -> String {
        self.finish_described(canvas, label, "")
    }

    /// The document. `label` is how a screen reader calls it, `detail` what it says of it when asked.
    pub(super) fn finish_described(self, canvas: Canvas, label: &str, detail: &str) -> String {
        let (width, height) = (Number(self.width), Number(self.height));
        let label = escape(label);
        let detail = match detail {
            "" => String::new(),
            detail => format!("<desc>{}</desc>", escape(detail)),
        };
        let head =
            format!("viewBox=\"0 0 {width} {height}\" class=\"chart\" role=\"img\" aria-label=\"{label}\"");
        match canvas {
            Canvas::Page => format!("<svg {head} style=\"--w:{width}px\">{detail}{}</svg>", self.body),
            Canvas::Standalone => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                 <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" {head}>{detail}\
                 <style>{}</style><rect width=\"100%\" height=\"100%\" fill=\"#ffffff\" class=\"ground\"/>{}</svg>\n",
                style::standalone_css(),
                self.body,
            ),
        }
    }
}

/// An upper estimate of how wide `text` is at a font size, in pixels.
///
/// The reader's font is not known; the figures are those of a wide one (`DejaVu Sans`), so that what fits
/// here fits everywhere.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let ems: f64 = text
        .chars()
        .map(|character| match character {
            'i' | 'j' | 'l' | 't' | 'f' | 'r' | '.' | ',' | ':' | ';' | '|' | '!' | ' ' | '\'' | '('
            | ')' => 0.40,
            'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.98,
            'A'..='Z' => 0.76,
            wide if wide as u32 >= 0x1100 => 1.1,
            _ => 0.64,
        })
        .sum();
    ems * size
}

/// `text`, shortened with an ellipsis until it fits.
pub(super) fn fitted(text: &str, size: f64, room: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        short.push(character);
        if text_width(&short, size) + text_width("…", size) > room {
            short.pop();
            break;
        }
    }
    short.push('…');
    short
}

/// `text` in lines of `room` pixels, broken between words; at most so many, the last one shortened.
pub(super) fn wrapped(text: &str, size: f64, room: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if overflows(line, word, size, room) => lines.push(word.to_owned()),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    if lines.len() > most {
        let rest = lines.split_off(most.max(1) - 1).join(" ");
        lines.push(rest);
    }
    lines.iter().map(|line| fitted(line, size, room)).collect()
}

fn overflows(line: &str, word: &str, size: f64, room: f64) -> bool {
    text_width(line, size) + text_width(" ", size) + text_width(word, size) > room
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_breaks_between_words_and_is_cut_only_at_the_end() {
        let text = "completed, converged: total 28.3 s, downtime 287 ms";
        let lines = wrapped(text, 12.0, 200.0, 4);
        assert!(lines.len() > 1 && lines.iter().all(|line| text_width(line, 12.0) <= 200.0), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        let cut = wrapped(text, 12.0, 200.0, 1);
        assert!(cut.len() == 1 && cut[0].ends_with('…'), "{cut:?}");
        assert_eq!(wrapped("", 12.0, 200.0, 3), [""]);
    }

    #[test]
    fn colours_are_written_in_two_digits_a_part() {
        assert_eq!(Rgb(0, 10, 255).to_string(), "#000aff");
    }

    proptest! {
        /// One decimal, rounded half away from nothing; none where it is nothing.
        #[test]
        fn coordinates_are_tenths(tenths in -1_000_000_i64..=1_000_000, off in -0.049..0.049_f64) {
            let text = Number(tenths as f64 / 10.0 + off / 10.0).to_string();
            prop_assert!(text.parse::<f64>().is_ok_and(|read| (read * 10.0).round() as i64 == tenths), "{}", text);
            prop_assert!(!text.ends_with(".0") && text.len() <= 9, "{}", text);
            prop_assert!(tenths != 0 || text == "0", "{}", text);
        }

        #[test]
        fn whatever_is_drawn_has_a_place(value in prop::num::f64::ANY) {
            let value = Number(value).to_string().parse::<f64>();
            prop_assert!(value.is_ok_and(|value| value.abs() <= 1e5));
        }

        /// As if each character were looked at alone.
        #[test]
        fn text_keeps_what_means_nothing(text in "[a-c&<>\"'\n\t·\u{fffe}\u{ffff}\u{80}\u{7f}€]{0,12}|\\PC*") {
            let alone: String = text.chars().map(|character| escape(&character.to_string())).collect();
            prop_assert_eq!(&escape(&text), &alone);
            let left = alone.contains(['<', '>', '"', '\'', '\u{fffe}', '\u{ffff}', '\u{80}', '\u{7f}']);
            prop_assert!(!left, "{}", alone);
        }
    }
}
