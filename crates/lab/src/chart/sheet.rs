//! Several charts in one file.

use super::style;

/// Charts that were drawn for a page, one under the other as a file of its own. What is no chart is left out.
pub fn sheet(charts: impl IntoIterator<Item = String>) -> String {
    let (mut width, mut height) = (0.0, 0.0);
    let mut body = String::new();
    for chart in charts {
        let Some((wide, high)) = size(&chart) else { continue };
        let place = format!("<svg y=\"{height}\" width=\"{wide}\" height=\"{high}\" ");
        body.push_str(&chart.replacen("<svg ", &place, 1));
        (width, height) = (f64::max(width, wide), height + high);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\"><style>{}</style>\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>{body}</svg>\n",
        style::standalone_css(),
    )
}

/// The size that a drawing says it has.
fn size(chart: &str) -> Option<(f64, f64)> {
    let (_, from) = chart.split_once("viewBox=\"0 0 ")?;
    let (size, _) = from.split_once('"')?;
    let (width, height) = size.split_once(' ')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_stand_under_each_other() {
        let chart = |height| format!("<svg viewBox=\"0 0 300 {height}\" class=\"chart\">{height}</svg>");
        let sheet = sheet([chart(100), "nothing".to_owned(), chart(50)]);
        assert!(sheet.contains("width=\"300\" height=\"150\" viewBox=\"0 0 300 150\""), "{sheet}");
        assert!(
            sheet.contains("<svg y=\"100\" width=\"300\" height=\"50\" viewBox=\"0 0 300 50\""),
            "{sheet}"
        );
        assert!(!sheet.contains("nothing") && !sheet.contains("var("));
    }
}
