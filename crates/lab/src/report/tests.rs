//! Promises of the report: it stands alone, it escapes, it bears missing values, and what it says follows from the data.

use proptest::prelude::*;

use super::frontier::{Lost, direction, frontier};
use super::grid::Grid;
use super::*;

fn numbers(key: &str, unit: Unit, values: &[f64]) -> Axis {
    Axis {
        key: key.to_owned(),
        label: key.to_owned(),
        values: GridValues::Numbers { unit, values: values.to_vec() },
    }
}

fn names(key: &str, values: &[&str]) -> Axis {
    let values = values.iter().map(|name| (*name).to_owned()).collect();
    Axis { key: key.to_owned(), label: key.to_owned(), values: GridValues::Names(values) }
}

/// A full grid over `axes`, with `fill` called for each place.
fn sweep(axes: Vec<Axis>, policy_axis: Option<usize>, fill: impl Fn(&[usize], &mut Cell)) -> ReportInput {
    let mut places = vec![Vec::new()];
    for axis in &axes {
        let count = grid::axis_len(axis);
        places = places
            .iter()
            .flat_map(|place: &Vec<usize>| (0..count).map(move |at| [place.as_slice(), &[at]].concat()))
            .collect();
    }
    let cells = places.into_iter().map(|coords| {
        let mut cell = Cell {
            runs: 10,
            converged: 1.0,
            outcomes: vec![("completed".to_owned(), 10)],
            total_ms: Some(40_000.0),
            downtime_ms: Some(120.0),
            downtime_p90_ms: Some(200.0),
            sent_bytes: Some(5e9),
            rounds: Some(4.0),
            disruption_vcpu_s: Some(0.4),
            ..Cell::default()
        };
        fill(&coords, &mut cell);
        cell.coords = coords;
        cell
    });
    ReportInput {
        title: "A sweep".to_owned(),
        command: "whimbrel sweep".to_owned(),
        scenario_toml: "[guest]\nmemory = \"4GiB\"\n".to_owned(),
        version: "0.1.0".to_owned(),
        facts: vec![("Guest".to_owned(), "4 GiB".to_owned())],
        cells: cells.collect(),
        representatives: representatives(&axes),
        spreads: (0..policy_axis.map_or(1, |at| grid::axis_len(&axes[at]))).map(spread).collect(),
        axes,
        policy_axis,
        forecasts: Vec::new(),
        page_bytes: Some(4096),
    }
}

fn spread(group: usize) -> Spread {
    let percentiles = |from: f64| (0..=100).map(|at| from + f64::from(at)).collect();
    Spread {
        group,
        runs: 20,
        completed: 15,
        total_ms: percentiles(1000.0),
        downtime_ms: percentiles(10.0),
        disruption_vcpu_s: percentiles(0.1),
    }
}

/// A run at the first value of every axis, and one at the last.
fn representatives(axes: &[Axis]) -> Vec<Representative> {
    let places =
        [axes.iter().map(|_| 0).collect(), axes.iter().map(|axis| grid::axis_len(axis) - 1).collect()];
    let run = |(seed, coords): (u64, Vec<usize>)| {
        let round = |round| Round {
            round,
            pending_pages: 1e6 / f64::from(round + 1),
            dirtied_pages: 1e5,
            ..Round::default()
        };
        Representative {
            coords,
            seed,
            outcome: "completed".to_owned(),
            total_ms: 1000.0,
            downtime_ms: 30.0,
            ledger: vec![("pause".to_owned(), 10.0), ("held".to_owned(), 0.0), ("save".to_owned(), 20.0)],
            rounds: 3,
            kept: (0..3).map(round).collect(),
            ..Representative::default()
        }
    };
    (0..).zip(places).map(run).collect()
}

/// Two policies; the first converges up to rate 2, the second up to rate 1 (counted), whatever the bandwidth.
fn two_policies() -> ReportInput {
    let axes = vec![
        numbers("rate", Unit::PageRate, &[100.0, 1000.0, 10_000.0, 100_000.0]),
        names("policy", &["patient", "hasty"]),
        numbers("bandwidth", Unit::Bandwidth, &[12.5e6, 125e6]),
    ];
    sweep(axes, Some(1), |at, cell| {
        if at[0] > 2 - at[1] {
            cell.converged = 0.0;
            cell.total_ms = None;
        }
    })
}

#[test]
fn a_page_of_real_runs_says_how_far_forecasts_held_and_promises_no_same_numbers() {
    let mut input = two_policies();
    let simulated = render(&input);
    assert!(simulated.contains("sweep report") && !simulated.contains("How far forecasts held"));
    let all = Forecasts { runs: 7, total: Some(0.004), within: 6, judged: 7, ..Forecasts::default() };
    let xen = Forecasts { of: "policy xen-5".to_owned(), ..all.clone() };
    input.forecasts = vec![all, xen];
    let page = render(&input);
    for words in
        ["bench report", "all 7 forecasts", "0.4 %", "6 of 7", "policy xen-5", "every run is another"]
    {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn the_frontier_is_the_last_rate_before_convergence_is_lost() {
    let mut input = two_policies();
    let last = |input: &ReportInput, group: usize| {
        let grid = Grid::new(input);
        assert_eq!(direction(&grid), Lost::Upwards);
        frontier(&grid, group, Lost::Upwards)
            .iter()
            .map(|point| (point.last, point.open, point.again))
            .collect::<Vec<_>>()
    };
    assert_eq!(last(&input, 0), [(Some(2), false, false); 2]);
    assert_eq!(last(&input, 1), [(Some(1), false, false); 2]);
    // At the first bandwidth: the lowest rate fails, so there is none, though higher ones converge.
    for cell in &mut input.cells {
        if cell.coords == [0, 0, 0] {
            cell.converged = 0.4;
        }
        if cell.coords == [3, 0, 1] {
            cell.converged = 0.5;
        }
    }
    assert_eq!(last(&input, 0), [(None, false, true), (Some(3), true, false)]);
}

#[test]
fn a_limit_loses_convergence_downwards() {
    let axes = vec![
        numbers("bandwidth", Unit::Bandwidth, &[1e6, 1e7]),
        numbers("limit", Unit::Milliseconds, &[10.0, 100.0, 1000.0, 10_000.0]),
    ];
    let input = sweep(axes, None, |at, cell| cell.converged = if at[1] >= 1 { 1.0 } else { 0.0 });
    let grid = Grid::new(&input);
    assert_eq!(direction(&grid), Lost::Downwards);
    assert_eq!(frontier(&grid, 0, Lost::Downwards)[0].last, Some(1));
    assert!(render(&input).contains("convergence is lost below 100 ms"));
}

#[test]
fn the_findings_follow_from_the_cells() {
    let page = render(&two_policies());
    assert!(
        page.contains(
            "Migrations converge most often with patient (75 % of 8 cells) and least often with hasty (50 %)."
        ),
        "{page}"
    );
    // 12.5 MB/s in pages of 4096 bytes.
    assert!(page.contains(
        "At 100 Mbit/s, convergence is lost above 1 k pages/s (hasty) to 10 k pages/s (patient); the link carries 3.05 k pages/s."
    ));
    assert!(page.contains(
        "The medians are over the 4 cells in which every policy converges that converges anywhere"
    ));
}

#[test]
fn bandwidth_lies_below_and_the_dirty_rate_beside() {
    let input = two_policies();
    let grid = Grid::new(&input);
    assert_eq!((grid.x, grid.y, grid.series), (Some(2), Some(0), Some(1)));
}

/// The page but for its script, which has comments and names numbers.
fn without_script(page: &str) -> &str {
    page.split("<script>").next().unwrap_or_default()
}

#[test]
fn the_page_needs_no_network() {
    let page = render(&two_policies());
    for foreign in ["http:", "https:", "//", "src=", "url(", "@import", "<link"] {
        assert!(!without_script(&page).contains(foreign), "{foreign}");
    }
    assert!(page.matches("href=").count() > 3, "links within the page");
    assert_eq!(page.matches("href=").count(), page.matches("href=\"#").count());
    assert!(page.contains("<meta name=\"whimbrel-report-schema\" content=\"2\">"));
    assert_eq!(page, render(&two_policies()), "same input, same bytes");
}

#[test]
fn text_from_the_scenario_is_escaped() {
    let nasty = "<img src=x onerror=\"1\"> & 'q'";
    let mut input = two_policies();
    input.axes[1] = names(nasty, &[nasty, "hasty"]);
    for text in [&mut input.title, &mut input.command, &mut input.scenario_toml, &mut input.version] {
        nasty.clone_into(text);
    }
    input.facts.push((nasty.to_owned(), nasty.to_owned()));
    input.cells[0].outcomes.push((nasty.to_owned(), 1));
    for at in 0..input.axes.len() {
        nasty.clone_into(&mut input.axes[at].label);
    }
    for run in &mut input.representatives {
        nasty.clone_into(&mut run.outcome);
        nasty.clone_into(&mut run.ledger[0].0);
    }
    let page = render(&input);
    assert!(!page.contains("<img"));
    assert!(!page.contains("& '"));
    assert!(page.contains("&lt;img src=x onerror=&quot;1&quot;&gt; &amp; &#39;q&#39;"));
}

#[test]
fn every_section_stands_on_the_page_and_is_linked() {
    let page = render(&two_policies());
    let sections = [
        "findings",
        "trade",
        "frontier",
        "maps",
        "map-total",
        "map-downtime",
        "curves",
        "spread",
        "rounds",
        "ledger",
        "numbers",
        "again",
        "words",
    ];
    for id in sections {
        assert_eq!(page.matches(&format!("<section id=\"{id}\">")).count(), 1, "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    assert_eq!(page.matches("<section").count(), sections.len());
}

#[test]
fn a_representative_run_is_told_with_its_place_and_ending() {
    let mut input = two_policies();
    input.representatives[0].rounds = 900;
    input.representatives[0].kept[2].throttle = 0.4;
    let page = render(&input);
    assert!(page.contains("<h3>rate 100 pages/s, bandwidth 100 Mbit/s</h3>"));
    let ending = "completed, 900 rounds, 1 s, downtime 30 ms; forced; throttle up to 40 %; seed 0";
    assert!(page.contains(ending));
    // Parts of nothing are left out of the table.
    assert!(page.contains("<th scope=\"col\" class=\"n\">pause</th><th scope=\"col\" class=\"n\">save</th>"));
    input.representatives[0].coords = vec![99, 0, 0];
    input.representatives[1].coords.clear();
    assert!(!render(&input).contains("id=\"rounds\""), "runs of no cell are left out");
}

#[test]
fn what_did_not_complete_keeps_its_curve_below_the_top() {
    let page = render(&two_policies());
    // 15 of 20.
    assert!(page.contains("to 75 % at 1.1 s"), "{page}");
    let mut input = two_policies();
    for spread in &mut input.spreads {
        spread.completed = 0;
        spread.total_ms.clear();
    }
    assert!(!render(&input).contains("id=\"spread\""));
}

#[test]
fn the_front_of_the_compared_ones_is_found() {
    // The first is faster, the second is away for less; a third would be worse in both.
    let axes = vec![
        names("policy", &["fast", "short", "neither"]),
        numbers("rate", Unit::PageRate, &[1.0, 2.0, 3.0]),
    ];
    let input = sweep(axes, Some(0), |at, cell| {
        let (total, downtime) = [(10_000.0, 300.0), (20_000.0, 30.0), (21_000.0, 310.0)][at[0]];
        (cell.total_ms, cell.downtime_ms) = (Some(total + at[1] as f64), Some(downtime));
    });
    let page = render(&input);
    let section = page.split("<section id=\"trade\">").nth(1).expect("a section");
    let first = section.split("<figure>").nth(1).expect("a chart");
    let said =
        |name: &str| first.split("<title>").find(|title| title.starts_with(name)).expect("a mark").to_owned();
    assert!(said("fast").contains("on the front") && said("short").contains("on the front"));
    assert!(!said("neither").contains("on the front"));
    assert!(said("fast").contains("total time 10 s (10 s to 10 s)"), "{}", said("fast"));
}

#[test]
fn cells_that_were_not_run_are_said_to_be_missing() {
    let mut input = two_policies();
    assert!(!render(&input).contains("This sweep is not complete"));
    input.cells.pop();
    let page = render(&input);
    assert!(page.contains("15 of 16 cells"));
    assert!(page.contains("This sweep is not complete"));
    assert!(page.contains("<title>not run</title>"));
}

#[test]
fn an_empty_sweep_says_so() {
    let mut input = two_policies();
    input.cells.clear();
    assert!(render(&input).contains("No cell of this sweep was run."));
    assert!(render(&ReportInput::default()).contains("No cell of this sweep was run."));
}

#[test]
fn a_single_cell_is_shown_as_bars() {
    let page = render(&sweep(Vec::new(), None, |_, _| {}));
    assert!(page.contains("The migration converges in 100 % of 1 cell."));
    assert!(page.contains("id=\"bars\""));
    assert!(!page.contains("id=\"maps\""));
}

#[test]
fn one_axis_gives_lines_and_none_gives_bars() {
    let policies = || names("policy", &["a", "b"]);
    let page = render(&sweep(
        vec![policies(), numbers("rate", Unit::PageRate, &[1.0, 2.0, 3.0])],
        Some(0),
        |_, _| {},
    ));
    assert!(page.contains("id=\"curves\"") && !page.contains("id=\"maps\"") && !page.contains("id=\"bars\""));
    let page = render(&sweep(vec![policies(), names("pattern", &["uniform", "zipf"])], Some(0), |_, _| {}));
    assert!(page.contains("id=\"bars\"") && page.contains("a · zipf") && !page.contains("id=\"curves\""));
}

#[test]
fn further_axes_are_held_and_named() {
    let axes = vec![
        numbers("bandwidth", Unit::Bandwidth, &[1e6, 1e7]),
        numbers("rate", Unit::PageRate, &[10.0, 100.0]),
        numbers("limit", Unit::Milliseconds, &[100.0, 200.0, 300.0]),
        names("policy", &["a", "b"]),
        names("pattern", &["uniform", "zipf"]),
    ];
    let page = render(&sweep(axes, Some(3), |_, _| {}));
    assert!(page.contains("The figures hold limit at 200 ms, pattern at uniform;"));
}

#[test]
fn panels_take_both_ends_of_a_long_axis() {
    let order: Vec<usize> = (0..12).collect();
    assert_eq!(figures::panel_places(&order), [0, 4, 7, 11]);
    assert_eq!(figures::panel_places(&order[..3]), [0, 1, 2]);
}

proptest! {
    /// Whatever the numbers and however odd the places, a page comes out.
    #[test]
    fn no_number_breaks_the_page(
        xs in prop::collection::vec(prop::num::f64::ANY, 0..4),
        ys in prop::collection::vec(prop::num::f64::ANY, 0..4),
        cells in prop::collection::vec(
            (prop::collection::vec(0usize..4, 0..4), prop::collection::vec(prop::option::of(prop::num::f64::ANY), 6), prop::num::f64::ANY, 0u32..3),
            0..30,
        ),
        rounds in prop::collection::vec((prop::num::f64::ANY, prop::num::f64::ANY), 0..8),
        policy_axis in prop::option::of(0usize..5),
        page_bytes in prop::option::of(prop::num::u64::ANY),
    ) {
        let axes = vec![numbers("b", Unit::Bandwidth, &xs), numbers("r", Unit::PageRate, &ys), names("p", &["one", "two"])];
        let cells = cells.into_iter().map(|(coords, values, converged, runs)| Cell {
            coords, runs, converged,
            outcomes: vec![("completed".to_owned(), runs)],
            total_ms: values[0], downtime_ms: values[1], downtime_p90_ms: values[2],
            sent_bytes: values[3], rounds: values[4], disruption_vcpu_s: values[5],
        });
        let runs = rounds.chunks(3).map(|rounds| Representative {
            coords: vec![0, 0, 1],
            total_ms: rounds[0].0,
            downtime_ms: rounds[0].1,
            ledger: rounds.iter().map(|round| ("part".to_owned(), round.0)).collect(),
            rounds: rounds.len(),
            kept: rounds.iter().map(|(pending, dirtied)| Round {
                pending_pages: *pending, dirtied_pages: *dirtied, throttle: *dirtied, ..Round::default()
            }).collect(),
            ..Representative::default()
        });
        let percentiles: Vec<f64> = rounds.iter().map(|round| round.0).cycle().take(101).collect();
        let spreads = vec![Spread {
            group: 1, runs: 3, completed: 2,
            total_ms: percentiles.clone(), downtime_ms: percentiles, disruption_vcpu_s: vec![0.5],
        }];
        let input = ReportInput {
            axes, cells: cells.collect(), policy_axis, page_bytes,
            representatives: runs.collect(), spreads, ..ReportInput::default()
        };
        let page = render(&input);
        prop_assert!(page.ends_with("</html>\n"));
        prop_assert!(!without_script(&page).contains("NaN"));
    }
}
