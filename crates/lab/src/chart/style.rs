//! The charts' colours and type, once for pages (light and dark) and once for files.

/// How many series styles there are before they repeat.
pub(super) const SERIES: usize = 8;

/// The class of a series' colour.
pub(super) fn series_class(style: usize) -> String {
    format!("s{}", style % SERIES)
}

/// Name, light and dark value of each colour. The series follow Okabe and Ito, darkened or lightened
/// where their contrast against the background would be under 3:1.
const COLOURS: [(&str, &str, &str); 19] = [
    ("ink", "#1d2733", "#e8ecf1"),
    ("soft", "#566474", "#a3b0be"),
    ("grid", "#e3e8ee", "#2c3642"),
    ("edge", "#b4bec9", "#55626f"),
    ("paper", "#ffffff", "#141a21"),
    ("void", "#e9ecf0", "#262f39"),
    ("pause", "#f9dcd0", "#57291c"),
    ("s0", "#0067a5", "#58b0ea"),
    ("s1", "#cf5200", "#ff914d"),
    ("s2", "#00805c", "#3cc79c"),
    ("s3", "#a8447f", "#e59bc8"),
    ("s4", "#3f4854", "#c4ccd6"),
    ("s5", "#2f8fbf", "#9bd4f5"),
    ("s6", "#9a6b00", "#e8b93f"),
    ("s7", "#6a4fb3", "#b3a0ee"),
    ("halo", "#ffffff", "#141a21"),
    ("link", "#005a94", "#7cc3f2"),
    ("focus", "#0067a5", "#58b0ea"),
    // Borders of what can be operated, 3:1 at least.
    ("line", "#7d8894", "#7a8794"),
];

const CHART_CSS: &str = "\
.chart text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;fill:var(--soft)}\
.chart text.title{font-size:15px;font-weight:600;fill:var(--ink)}\
.chart text.name{fill:var(--ink)}\
.chart text.small{font-size:11px}\
.chart text.over{paint-order:stroke;stroke:var(--paper);stroke-width:3;stroke-linejoin:round}\
.chart text.strong{fill:var(--ink);font-weight:600}\
.chart rect{shape-rendering:crispEdges}\
.chart .grid{stroke:var(--grid);fill:none}\
.chart .edge{stroke:var(--edge);fill:none}\
.chart .ground{fill:var(--paper)}\
.chart .void{fill:var(--void)}\
.chart .hatch{stroke:var(--edge);stroke-width:.8;fill:none}\
.chart .halo{stroke:#fff;stroke-width:3.4;fill:none;stroke-linejoin:round}\
.chart .outline{stroke:#111;stroke-width:1.4;fill:none;stroke-linejoin:round}\
.chart .refhalo{stroke:#fff;stroke-width:3;fill:none;opacity:.75}\
.chart .refline{stroke:#111;stroke-width:1.3;stroke-dasharray:5 4;fill:none}\
.chart .reference{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:6 4;fill:none}\
.chart .pause{fill:var(--pause)}\
.chart .curve{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round;stroke:var(--c)}\
.chart .thin{stroke-width:.7}\
.chart .branch{fill:none;stroke-width:1.2;stroke-linejoin:round;stroke:var(--c)}\
.chart .mark{stroke:var(--c);fill:var(--c);stroke-width:1.5}\
.chart .hollow{fill:var(--paper)}\
.chart .shade{fill:var(--c);opacity:.16}\
.chart .bar{fill:var(--c)}\
.chart .texture{stroke:var(--paper);stroke-width:1.3;opacity:.55;fill:none}\
.chart .span{stroke:var(--c);stroke-width:2;fill:none}\
.chart .wide{stroke:var(--c);stroke-width:7;opacity:.45;fill:none}\
.chart .interval{stroke:var(--c);stroke-width:1.2;opacity:.75;fill:none}\
.chart .ring{stroke:var(--ink);stroke-width:1.4;fill:none}\
.chart .leader{stroke:var(--soft);stroke-width:.7;fill:none}\
.chart .dotted{stroke:var(--soft);stroke-width:1.8;stroke-dasharray:1.5 3.5;fill:none}\
.chart .front{stroke:var(--ink);stroke-width:1.2;stroke-dasharray:2 3;fill:none}\
.chart .decided{stroke:var(--edge);stroke-dasharray:2 3;fill:none}\
";

/// The style sheet for a page that shows charts: colours as variables, light and dark, and the charts' rules.
///
/// On a screen the system's wish holds unless the root element says `data-theme="light"` or `"dark"`; in print
/// the light colours are used.
pub fn page_css() -> String {
    let list = |dark: bool| {
        COLOURS
            .iter()
            .map(|(name, light, night)| format!("--{name}:{};", if dark { night } else { light }))
            .collect::<String>()
    };
    let series: String = (0..SERIES).map(|style| format!(".s{style}{{--c:var(--s{style})}}")).collect();
    let (light, dark) = (list(false), list(true));
    let dark = format!("{dark}color-scheme:dark");
    format!(
        ":root{{{light}color-scheme:light}}\
         @media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\
         @media screen{{:root[data-theme=dark]{{{dark}}}}}{series}{CHART_CSS}"
    )
}

/// The same for one file, without variables: many programs that draw SVG do not know them. Dark where the reader
/// wants it; the file has its own background, so that it reads well on a page of either kind.
pub(super) fn standalone_css() -> String {
    // Rules that take the series' colour become one rule a series.
    let mut css = String::new();
    for rule in CHART_CSS.split_inclusive('}') {
        if rule.contains("var(--c)") {
            for style in 0..SERIES {
                let (selector, body) = rule.split_once('{').unwrap_or((rule, "}"));
                let body = body.replace("var(--c)", &format!("var(--s{style})"));
                css.push_str(&format!("{selector}.s{style}{{{body}"));
            }
        } else {
            css.push_str(rule);
        }
    }
    // `hollow` comes after the marks it changes.
    css.push_str(".chart .mark.hollow{fill:var(--paper)}");
    format!(
        "{}@media screen and (prefers-color-scheme:dark){{{}}}",
        in_colours(&css, false),
        in_colours(&css, true)
    )
}

/// The rules with each variable replaced by its light or dark value.
fn in_colours(css: &str, dark: bool) -> String {
    COLOURS.iter().fold(css.to_owned(), |css, (name, light, night)| {
        css.replace(&format!("var(--{name})"), if dark { night } else { light })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_uses_no_variables() {
        assert!(!standalone_css().contains("var("), "{}", standalone_css());
    }

    #[test]
    fn every_colour_of_the_rules_is_defined() {
        let css = page_css();
        for used in css.split("var(--").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(css.contains(&format!("--{used}:")), "{used}");
        }
    }

    /// Relative luminance as WCAG 2.2 defines it.
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).expect("a colour");
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn contrast_is_aa_in_both_themes() {
        let find = |name: &str| COLOURS.iter().find(|colour| colour.0 == name).expect("a colour");
        let check = |name: &str, ground: &str, least: f64| {
            for dark in [false, true] {
                let pick =
                    |colour: &(&str, &'static str, &'static str)| if dark { colour.2 } else { colour.1 };
                let (a, b) = (luminance(pick(find(name))), luminance(pick(find(ground))));
                let ratio = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(ratio >= least, "{name} on {ground}, dark {dark}: {ratio:.2} < {least}");
            }
        };
        for ground in ["paper", "void"] {
            for text in ["ink", "soft", "link"] {
                check(text, ground, 4.5);
            }
        }
        check("paper", "ink", 4.5);
        let series: Vec<String> = (0..SERIES).map(series_class).collect();
        for graphic in series.iter().map(String::as_str).chain(["focus", "line"]) {
            check(graphic, "paper", 3.0);
        }
    }
}
