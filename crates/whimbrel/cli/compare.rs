//! `whimbrel compare`: policies on the same workloads, and what may be concluded.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use whimbrel_lab::compare::{
    CompareError, Comparison, Contender, Options, ResultDir, Seeds, picture, run_with,
};
use whimbrel_lab::output::{FinishedFile, WholeFile};
use whimbrel_lab::scenario::{Fidelity, Setup};
use whimbrel_lab::workloads::{self, Workload};

use super::args::{CompareArgs, SeedsOf, TextFormat};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::{print, tell};

/// A comparison that is ready to be made: everything read, the directory writable.
pub(super) struct Comparing {
    workloads: Vec<Workload>,
    contenders: Vec<Contender>,
    results: Option<ResultDir>,
    plot: Option<WholeFile>,
    interrupt: Interrupt,
    args: CompareArgs,
}

impl Comparing {
    /// Reads workloads and policies, opens the directory.
    pub(super) fn ready(mut args: CompareArgs) -> Result<Self, Failure> {
        let workloads = read_workloads(&args)?;
        // Seeds change nothing there, and a run that is counted ten times would pass for ten that agree.
        let luckless = workloads.iter().all(|one| one.scenario.setup().run.fidelity == Fidelity::Fluid);
        if luckless && args.repeat > 1 {
            tell("note: fluid runs of a policy on a workload are all the same; one of each is made");
            args.repeat = 1;
        }
        let setups = workloads.iter().map(|one| (one.name.as_str(), one.scenario.setup()));
        let contenders = contenders(&args.policies, &setups.collect::<Vec<_>>())?;
        let interrupt = Interrupt::listen().map_err(Failure::failed)?;
        let results = args.out.as_deref().map(|out| ResultDir::open(out, args.force));
        let results = results.transpose().map_err(Failure::failed)?;
        let plot = super::drawing(args.plot.as_deref()).map_err(Failure::failed)?;
        Ok(Self { workloads, contenders, results, plot, interrupt, args })
    }

    /// Makes the runs, writes the results, prints the summary.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        let comparison = self.compare()?;
        let asked = u64::from(comparison.planned);
        let code = self.interrupt.exit_code().filter(|_| comparison.repeat < comparison.planned);
        if let Some(code) = code.filter(|_| comparison.repeat == 0) {
            let message = format!("none of {asked} repetitions was finished; nothing was written");
            return Err(Failure::Interrupted { code, message });
        }
        let summary = comparison.summary();
        // Half of a comparison is worth less than the whole one that is there.
        let kept = self.results.take_if(|results| code.is_some() && results.replaces());
        let files = match self.results.take() {
            Some(results) => {
                results.publish(&comparison, &summary, &self.command()).map_err(Failure::failed)?
            }
            None => Vec::new(),
        };
        if let Some(mut file) = self.plot.take() {
            let written = file.write(&picture(&summary)).and_then(|()| file.finish());
            written.and_then(FinishedFile::publish).map_err(Failure::failed)?;
        }
        let told = match self.args.format {
            TextFormat::Table => {
                let mut text = summary.to_string();
                for (index, file) in files.iter().enumerate() {
                    let name = if index == 0 { "\nresults" } else { "" };
                    let _ = writeln!(text, "{name:<8} {}", file.display());
                }
                print(&text)
            }
            TextFormat::Json => print(&comparison.json(&summary)),
        };
        match code {
            Some(code) => {
                let mut message =
                    format!("{} of {asked} repetitions are in what was printed", comparison.repeat);
                if kept.is_some() {
                    message.push_str("; the earlier results in --out were left as they are");
                }
                Err(Failure::Interrupted { code, message })
            }
            None => told,
        }
    }

    fn compare(&mut self) -> Result<Comparison, Failure> {
        let each = self.workloads.len() as u64 * self.contenders.len() as u64;
        let bar = ProgressBar::new(each * u64::from(self.args.repeat));
        // The template is the sweep's, which is checked by a test.
        if let Ok(style) = ProgressStyle::with_template(super::sweep::TEMPLATE) {
            bar.set_style(style);
        }
        let after_run = || bar.inc(1);
        let options = Options {
            repeat: self.args.repeat,
            seed: self.args.seed,
            seeds: match self.args.seeds {
                SeedsOf::Paired => Seeds::Paired,
                SeedsOf::Independent => Seeds::Independent,
            },
            jobs: self.args.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into())),
            stop: Some(&self.interrupt.stop),
            after_run: Some(&after_run),
        };
        let results = &mut self.results;
        let compared = run_with(&self.workloads, &self.contenders, &options, |row| match results {
            Some(results) => results.add(row),
            None => Ok(()),
        });
        bar.finish_and_clear();
        compared.map_err(|error| match error {
            // What was typed twice, or a policy that asks for what no simulated host has.
            CompareError::SameName { .. } | CompareError::Run { .. } => Failure::bad_input(error),
            error => Failure::failed(error),
        })
    }

    /// The command that does the same, without what changes no number.
    fn command(&self) -> String {
        let args = &self.args;
        let mut words = vec!["whimbrel".to_owned(), "compare".to_owned()];
        words.extend(args.scenarios.iter().map(|path| quoted(&path.display().to_string())));
        words.extend(args.policies.iter().map(|policy| format!("--policy {}", quoted(policy))));
        words.push(format!("--repeat {} --seed {}", args.repeat, args.seed));
        if args.seeds == SeedsOf::Independent {
            words.push("--seeds independent".to_owned());
        }
        words.extend(args.overrides.iter().map(|change| format!("--set {}", quoted(change))));
        words.extend(args.fidelity.iter().map(|fidelity| format!("--fidelity {}", quoted(fidelity))));
        words.join(" ")
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The policies that were named; if none was, all presets that the workloads' fidelity covers.
pub(super) fn contenders(named: &[String], workloads: &[(&str, &Setup)]) -> Result<Vec<Contender>, Failure> {
    if named.is_empty() {
        let all = Contender::presets().map_err(Failure::bad_input)?;
        let covered =
            |one: &Contender| workloads.iter().all(|(name, setup)| one.covered(name, setup).is_ok());
        let (covered, others): (Vec<_>, Vec<_>) = all.into_iter().partition(covered);
        // If none is, it lies elsewhere, and whoever runs the first will say where.
        if covered.is_empty() {
            return Ok(others);
        }
        if !others.is_empty() {
            let left_out: Vec<_> = others.iter().map(|one| one.name.as_str()).collect();
            tell(&format!("note: fluid simulations do not cover {}: left out", left_out.join(", ")));
        }
        return Ok(covered);
    }
    named.iter().map(|policy| Contender::parse(policy)).collect::<Result<_, _>>().map_err(Failure::bad_input)
}

fn read_workloads(args: &CompareArgs) -> Result<Vec<Workload>, Failure> {
    let mut read = Vec::new();
    if args.scenarios.is_empty() {
        read = workloads::comparison().map_err(Failure::bad_input)?;
    }
    for path in &args.scenarios {
        read.extend(workloads::open_all(Path::new(path)).map_err(Failure::bad_input)?);
    }
    let fidelity = args.fidelity.iter().map(|fidelity| format!("run.fidelity={fidelity}"));
    let overrides: Vec<String> = args.overrides.iter().cloned().chain(fidelity).collect();
    if !overrides.is_empty() {
        for workload in &mut read {
            workload.scenario.apply_overrides(&overrides).map_err(Failure::bad_input)?;
        }
    }
    Ok(read)
}
