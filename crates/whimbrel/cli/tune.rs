//! `whimbrel tune`: a policy's parameters, searched for what makes several things small at once.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Serialize;
use whimbrel_lab::compare::Contender;
use whimbrel_lab::output::{OutputError, WholeFile};
use whimbrel_lab::scenario::Fidelity;
use whimbrel_lab::tune::{
    Choice, Options, ParameterFound, Plan, Space, TuneError, Tuned, Tuning, plot, policy_file, table,
};
use whimbrel_lab::workloads::{self, Workload};
use whimbrel_sim::SimError;

use super::args::{FidelityArg, TextFormat, TuneArgs};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::progress::Bar;
use super::{print, width};

/// The state's name in the output directory.
const STATE: &str = "state.json";
/// The results' names.
const POLICY: &str = "policy.toml";
const RECORD: &str = "tune.json";
const PICTURE: &str = "tune.svg";

/// A search that is ready to be run.
pub(super) struct Tune {
    tuning: Tuning,
    choice: Choice,
    name: String,
    out: PathBuf,
    jobs: Option<NonZeroUsize>,
    format: TextFormat,
    interrupt: Interrupt,
}

/// What is stored and printed as JSON.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    tuned: &'a Tuned,
    /// The number of the point that was chosen; 0 is the start.
    chosen: usize,
    /// What each parameter does when it alone leaves that point.
    parameters: &'a [ParameterFound],
}

impl Tune {
    /// Reads what is searched and on what, and the state if there is one.
    pub(super) fn ready(args: &TuneArgs) -> Result<Self, Failure> {
        let plan = plan(args)?;
        let name = args.name.clone().unwrap_or_else(|| format!("{}-tuned", plan.space.preset().name));
        let file = args.out.join(STATE);
        let interrupt = Interrupt::listen().map_err(Failure::failed)?;
        let tuning = if args.resume {
            Tuning::resume(plan, &file).map_err(failure)?
        } else {
            if !args.force {
                free(&args.out)?;
            }
            let tuning = Tuning::begin(plan, Some(file)).map_err(failure)?;
            fs::create_dir_all(&args.out)
                .map_err(|source| Failure::failed(OutputError::Write { path: args.out.clone(), source }))?;
            tuning
        };
        Ok(Self {
            tuning,
            choice: args.choose,
            name,
            out: args.out.clone(),
            jobs: args.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into())),
            format: args.format,
            interrupt,
        })
    }

    /// Searches, judges, writes and prints.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        let bar = Bar::new();
        let found = self.search(&bar);
        bar.clear();
        let Some((tuned, chosen, parameters)) = found.map_err(failure)? else {
            return Err(self.interrupted());
        };
        let files = self.write(&tuned, chosen, &parameters).map_err(Failure::failed)?;
        if self.format == TextFormat::Json {
            return print(&json(&tuned, chosen, &parameters));
        }
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        print(&format!(
            "{}\nresults  {}\n",
            table(&tuned, chosen, &parameters, width()),
            files.join("\n         ")
        ))
    }

    /// None if it was stopped.
    fn search(&mut self, bar: &Bar) -> Result<Option<(Tuned, usize, Vec<ParameterFound>)>, TuneError> {
        let begins = |what: &str, runs: u64| bar.begin(what, runs);
        let after_run = || bar.advance();
        let options =
            Options { jobs: self.jobs, stop: &self.interrupt.stop, begins: &begins, after_run: &after_run };
        self.tuning.run(&options)?;
        if !self.tuning.is_done() {
            return Ok(None);
        }
        let Some(tuned) = self.tuning.found(&options)? else { return Ok(None) };
        let chosen = tuned.choose(self.choice)?;
        let parameters = self.tuning.sensitivity(tuned.point(chosen), &options)?;
        Ok(parameters.map(|parameters| (tuned, chosen, parameters)))
    }

    fn interrupted(&self) -> Failure {
        let (done, asked) = (self.tuning.generation(), self.tuning.plan().generations);
        let message = if done == 0 {
            "no generation was finished; nothing was written".to_owned()
        } else {
            let place = self.out.join(STATE);
            format!("{done} of {asked} generations are kept in {}; --resume goes on", place.display())
        };
        Failure::Interrupted { code: self.interrupt.exit_code().unwrap_or(130), message }
    }

    fn write(
        &self,
        tuned: &Tuned,
        chosen: usize,
        parameters: &[ParameterFound],
    ) -> Result<Vec<PathBuf>, OutputError> {
        let texts = [
            (POLICY, policy_file(tuned, chosen, &self.name)),
            (RECORD, json(tuned, chosen, parameters)),
            (PICTURE, plot(tuned, chosen)),
        ];
        let mut finished = Vec::new();
        // A single objective has no picture.
        for (name, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
            let mut file = WholeFile::create(&self.out.join(name))?;
            file.write(text)?;
            finished.push(file.finish()?);
        }
        finished.into_iter().map(whimbrel_lab::output::FinishedFile::publish).collect()
    }
}

fn json(tuned: &Tuned, chosen: usize, parameters: &[ParameterFound]) -> String {
    let told = Told { tuned, chosen, parameters };
    // Nothing in it can fail to be written.
    serde_json::to_string_pretty(&told).map_or_else(|_| String::new(), |text| text + "\n")
}

/// What was asked for wrongly is bad input; what could not be done is not.
fn failure(error: TuneError) -> Failure {
    match &error {
        // What was asked for cannot be simulated so.
        TuneError::Run { source, .. } if !matches!(**source, SimError::Machine(_)) => {
            Failure::bad_input(error)
        }
        TuneError::Run { .. }
        | TuneError::Output(_)
        | TuneError::Threads(_)
        | TuneError::ReadState { .. } => Failure::failed(error),
        // The search is not lost.
        TuneError::NoPoint { points, .. } => Failure::BadInput(anyhow::anyhow!(
            "--choose: {error}; the search is kept: the same command with --resume and --choose 1 to {points}, knee or \
             better goes on with it"
        )),
        _ => Failure::bad_input(error),
    }
}

/// That nothing which somebody may want to keep lies in the directory.
fn free(out: &Path) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::BadInput(anyhow::anyhow!("{} {why}", out.display())));
    if out.join(STATE).exists() {
        return refuse(
            "holds the state of a search; --resume goes on with it, --force begins anew".to_owned(),
        );
    }
    match [POLICY, RECORD, PICTURE].into_iter().find(|name| out.join(name).exists()) {
        Some(name) => refuse(format!(
            "holds `{name}`, and no search of which there is a state wrote it; choose another directory, or add --force"
        )),
        None => Ok(()),
    }
}

/// That what is to be chosen may be there when the search is done.
fn choosable(args: &TuneArgs) -> Result<(), Failure> {
    match args.choose {
        Choice::Number(number) if number > args.population as usize => {
            Err(Failure::BadInput(anyhow::anyhow!(
                "--choose {number}: a front has at most as many points as a generation, here {}",
                args.population
            )))
        }
        Choice::Least(objective) if !args.minimise.contains(&objective) => {
            let known = args.minimise.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(Failure::bad_input(TuneError::NotMinimised { objective, known }))
        }
        _ => Ok(()),
    }
}

fn plan(args: &TuneArgs) -> Result<Plan, Failure> {
    let policy = Contender::parse(&args.policy).map_err(Failure::bad_input)?.policy;
    let mut space = Space::of(&*policy).map_err(failure)?;
    let name = |text: &str| text.split('=').next().unwrap_or_default().trim().to_owned();
    if let Some(both) = args.fix.iter().find(|fix| args.range.iter().any(|range| name(range) == name(fix))) {
        return Err(Failure::BadInput(anyhow::anyhow!(
            "`{}` can be left at a value or be searched, not both: leave out --fix or --range",
            name(both)
        )));
    }
    for text in &args.fix {
        space.fix(text).map_err(failure)?;
    }
    for text in &args.range {
        space.range(text).map_err(failure)?;
    }
    choosable(args)?;
    let mut objectives = args.minimise.clone();
    let mut seen = Vec::new();
    objectives.retain(|objective| {
        !seen.contains(objective) && {
            seen.push(*objective);
            true
        }
    });
    let held_out: &[PathBuf] = if args.no_hold_out { &[] } else { &args.hold_out };
    Ok(Plan {
        space,
        objectives,
        workloads: read(&args.over)?,
        held_out: read(held_out)?,
        fidelity: args.fidelity.map(|fidelity| match fidelity {
            FidelityArg::Exact => Fidelity::Exact,
            FidelityArg::Fluid => Fidelity::Fluid,
        }),
        seed: args.seed,
        repeat: args.repeat,
        check: args.check,
        population: args.population,
        generations: args.generations,
    })
}

fn read(names: &[PathBuf]) -> Result<Vec<Workload>, Failure> {
    let mut all = Vec::new();
    for name in names {
        all.extend(workloads::open_all(Path::new(name)).map_err(Failure::bad_input)?);
    }
    Ok(all)
}
