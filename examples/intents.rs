//! Policies compared by the intents that they keep: a table for each intent, and where `whimbrel` loses.
//!
//! ```sh
//! cargo run --release --example intents -- FOLDER [REPEATS] [INTENT…]
//! ```
//!
//! FOLDER holds scenarios; each policy runs on each of them REPEATS times, on the same seeds. What keeping an
//! intent means is `whimbrel::lab::intents::judge`, what each preset is told `terms`.

use std::error::Error;
use std::path::{Path, PathBuf};

use whimbrel::core::policy::presets::PRESETS;
use whimbrel::lab::intents::{INTENTS, Intent, Misses, judge, learned, terms};
use whimbrel::lab::scenario::{Scenario, Setup};
use whimbrel::lab::sweep::simulation;
use whimbrel::sim::simulate;

struct Tried {
    misses: Misses,
    lost: f64,
    total: f64,
}

fn attempt(setup: &Setup, preset: &str, intent: &Intent, seed: u64) -> Result<Tried, Box<dyn Error>> {
    let host = learned(setup)?;
    let mut setup = setup.clone();
    preset.clone_into(&mut setup.policy.preset);
    setup.policy.parameters = terms(preset, intent, &setup, &host);
    setup.policy.changes = Vec::new();
    let mut migration = simulation(&setup, seed)?;
    migration.time_limit = intent.deadline(&setup) + std::time::Duration::from_secs(1);
    let run = simulate(&migration)?;
    if std::env::var_os("SHOW").is_some() {
        println!(
            "{preset} {} total {:?} downtime {:?} rounds {} thr {:.2}: {}",
            run.report.outcome,
            run.report.total,
            run.report.downtime.total(),
            run.report.rounds.len(),
            run.disruption.throttle.as_f64(),
            run.report.why
        );
    }
    let lost = run.disruption;
    let lost = lost.throttle + lost.pause + lost.post_copy + lost.tracking_faults;
    Ok(Tried {
        misses: judge(intent, &setup, &run),
        lost: lost.as_f64(),
        total: run.report.total.as_secs_f64(),
    })
}

fn scenarios(folder: &Path) -> Result<Vec<(String, Setup)>, Box<dyn Error>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.push((name, Scenario::load(&file)?.setup().clone()));
    }
    Ok(found)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("a folder of scenarios is needed")?;
    let repeats: u64 = args.next().map_or(Ok(3), |text| text.parse())?;
    let wanted: Vec<String> = args.collect();
    let only = std::env::var("ONLY").ok();
    let scenarios = scenarios(Path::new(&folder))?;
    for intent in INTENTS.iter().filter(|i| wanted.is_empty() || wanted.iter().any(|name| name == i.name)) {
        println!("\n{}: {}", intent.name, intent.about);
        print!("{:20} {:>4} {:>8} {:>8}  late away slow pcpy unfi", "", "met", "lost", "total");
        for (name, _) in &scenarios {
            print!(" {:>6.6}", name);
        }
        println!();
        let mut table = Vec::new();
        for preset in
            PRESETS.iter().filter(|p| only.as_ref().is_none_or(|o| o.split(',').any(|o| o == p.name)))
        {
            let mut cells = Vec::new();
            for (_, setup) in &scenarios {
                let runs: Vec<Tried> = (0..repeats)
                    .map(|seed| attempt(setup, preset.name, intent, seed))
                    .collect::<Result<_, _>>()?;
                cells.push(runs);
            }
            table.push((preset.name, cells));
        }
        for (preset, cells) in &table {
            let all: Vec<&Tried> = cells.iter().flatten().collect();
            let met: Vec<_> = all.iter().filter(|tried| tried.misses.none()).collect();
            let mut lost: Vec<f64> = met.iter().map(|tried| tried.lost).collect();
            let mut total: Vec<f64> = met.iter().map(|tried| tried.total).collect();
            let count = |f: fn(&Misses) -> bool| all.iter().filter(|tried| f(&tried.misses)).count();
            print!(
                "{preset:20} {:>4} {:>8.3} {:>8.1}  {:>4} {:>4} {:>4} {:>4} {:>4}",
                met.len(),
                median(&mut lost),
                median(&mut total),
                count(|m| m.late),
                count(|m| m.away),
                count(|m| m.slowed),
                count(|m| m.post_copy),
                count(|m| m.unfinished)
            );
            for cell in cells {
                let met = cell.iter().filter(|tried| tried.misses.none()).count();
                let mut lost: Vec<f64> = cell.iter().filter(|t| t.misses.none()).map(|t| t.lost).collect();
                if met == 0 {
                    print!("      .")
                } else {
                    print!(" {met}:{:4.4}", format!("{:.2}", median(&mut lost)))
                }
            }
            println!();
        }
    }
    Ok(())
}
