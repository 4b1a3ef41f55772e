//! Several matrices in one command: each has a directory of its own, and beside these a note says which are complete.
//!
//! The note is there until all are, so that the same command with `--resume` passes over those, goes on in the one that was cut, and sums
//! up all of them in the end. It says what the command was, too: a matrix that was changed meanwhile is refused before anything is
//! moved, whether its turn had come or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use whimbrel_lab::real::fidelity::{self, Fidelity};
use whimbrel_lab::sweep::{self, Begin, ResultDir};

use super::super::args::BenchArgs;
use super::super::failure::Failure;
use super::super::interrupt::Interrupt;
use super::super::unfinished::begin;
use super::lines::Lines;
use super::shown::Shown;
use super::{Bench, Matrix, broken, how, results};

/// The note's file.
const NOTE: &str = "unfinished.jsonl";

/// One line of it.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Begun(Begun),
    /// Results are about to take their place; until then the matrix's directory says that it is not finished.
    Complete {
        matrix: String,
        rows: Vec<Fidelity>,
    },
}

/// What the command was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    version: String,
    /// What the scenarios do not say.
    how: String,
    /// Files that are there may be overwritten.
    force: bool,
    /// Each with its scenario, every default written out.
    matrices: Vec<(String, String)>,
}

/// Runs each matrix that is not complete.
pub(super) fn run(args: &BenchArgs, matrices: Vec<Matrix>, interrupt: &Interrupt) -> Result<(), Failure> {
    differ(&matrices)?;
    let mut series = Series::open(args, &matrices)?;
    let (mut rows, mut shown) = (Vec::new(), Shown::default());
    for matrix in matrices {
        let (name, out) = (matrix.name.clone(), args.out.join(&matrix.name));
        shown.print(&format!("{name}\n\n"))?;
        if let Some(before) = series.complete_before(&name) {
            shown.print(&format!("complete before: {}\n\n", out.display()))?;
            rows.extend(before);
            continue;
        }
        let bench = Bench::ready(args, matrix, &out, series.begin(&out), interrupt)?;
        let made = bench.run(&mut shown, &mut |rows| series.complete(&name, rows));
        rows.extend(made.map_err(|failure| series.told(failure, &name))?);
        shown.print("\n")?;
    }
    series.end()?;
    let told = shown.print(&fidelity::totals(&rows));
    broken(&rows)?;
    told.and(shown.end())
}

/// Each has a directory of its name.
fn differ(matrices: &[Matrix]) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    let again = matrices.iter().find(|matrix| !names.insert(matrix.name.as_str()));
    again.map_or(Ok(()), |again| {
        Err(Failure::BadInput(anyhow!(
            "two matrices are called `{}`: the results of each go into a directory of its name",
            again.name
        )))
    })
}

/// The note, open for more. Dropped while there is nothing to go on with, it is gone.
#[derive(Debug)]
struct Series {
    out: PathBuf,
    note: Lines,
    names: Vec<String>,
    force: bool,
    complete: BTreeMap<String, Vec<Fidelity>>,
}

impl Series {
    fn open(args: &BenchArgs, matrices: &[Matrix]) -> Result<Self, Failure> {
        let (out, place) = (&args.out, args.out.join(NOTE));
        let now = Begun::of(args, matrices);
        let names: Vec<String> = now.matrices.iter().map(|(name, _)| name.clone()).collect();
        let cut = |name: &String| ResultDir::is_unfinished(&out.join(name));
        if !args.resume {
            begin_anew(args, matrices, &place)?;
        } else if !place.exists() && !names.iter().any(cut) {
            let out = out.display();
            return Err(Failure::BadInput(anyhow!(
                "cannot resume: {out} holds no bench that is not finished"
            )));
        }
        let (mut force, mut complete) = (now.force, BTreeMap::new());
        let mut note = Lines::open(&place, |line| {
            match line {
                Line::Begun(then) => {
                    then.is_still(&now, matrices).map_err(|what| {
                        Failure::BadInput(anyhow!("cannot resume the bench in {}: {what}", out.display()))
                    })?;
                    force = then.force;
                }
                Line::Complete { matrix, rows } => drop(complete.insert(matrix, rows)),
            }
            Ok(true)
        })?;
        note.cut()?;
        if note.is_new() {
            note.add(&Line::Begun(now))?;
        }
        // Cut before its results were in their place.
        complete.retain(|name, _| !cut(name));
        Ok(Self { out: out.clone(), note, names, force, complete })
    }

    /// The rows of a matrix that was complete before.
    fn complete_before(&self, name: &str) -> Option<Vec<Fidelity>> {
        self.complete.get(name).cloned()
    }

    /// How a matrix is begun that is not complete.
    fn begin(&self, out: &Path) -> Begin {
        begin(ResultDir::is_unfinished(out), self.force)
    }

    /// A matrix is complete, and its results are about to take their place.
    fn complete(&mut self, name: &str, rows: &[Fidelity]) -> Result<(), Failure> {
        self.note.add(&Line::Complete { matrix: name.to_owned(), rows: rows.to_vec() })?;
        self.complete.insert(name.to_owned(), rows.to_vec());
        Ok(())
    }

    /// What is to be told of a matrix in which it was stopped.
    fn told(&self, failure: Failure, name: &str) -> Failure {
        let (complete, all) = (self.complete.len(), self.names.len());
        match failure {
            Failure::Interrupted { code, message } if complete > 0 => {
                // Otherwise it is said already.
                let hint = "; the same command with --resume goes on behind them";
                let hint = if ResultDir::is_unfinished(&self.out.join(name)) { "" } else { hint };
                let message = format!("{name}: {message}; {complete} of {all} matrices were complete{hint}");
                Failure::Interrupted { code, message }
            }
            failure => failure,
        }
    }

    /// All are complete.
    fn end(mut self) -> Result<(), Failure> {
        self.complete.clear();
        let place = self.out.join(NOTE);
        fs::remove_file(&place)
            .with_context(|| format!("cannot remove {}", place.display()))
            .map_err(Failure::Failed)
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        let cut = |name: &String| ResultDir::is_unfinished(&self.out.join(name));
        if self.complete.is_empty() && !self.names.iter().any(cut) {
            // Nobody is left to tell, and a directory that is not empty is somebody's.
            let _ = fs::remove_file(self.out.join(NOTE));
            let _ = fs::remove_dir(&self.out);
        }
    }
}

/// Finds out before the first move whether results may be written, and gives up what was cut if that is wanted.
fn begin_anew(args: &BenchArgs, matrices: &[Matrix], place: &Path) -> Result<(), Failure> {
    let out = args.out.display();
    // Killed before it had a word in it, it is of no bench.
    let there = fs::metadata(place).is_ok_and(|note| note.len() > 0);
    if there && !args.force {
        return Err(Failure::Failed(anyhow!(
            "cannot write results to {out}: it holds a bench that is not finished; go on with it by --resume, choose another \
             directory, or give it up by --force"
        )));
    }
    for matrix in matrices {
        // Dropped without a row it leaves nothing behind.
        results(args, matrix, &args.out.join(&matrix.name), begin(false, args.force))?;
    }
    if there {
        // Nobody goes on with it: its directories could be opened.
        fs::remove_file(place)
            .with_context(|| format!("cannot remove {}", place.display()))
            .map_err(Failure::Failed)?;
    }
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {out}")).map_err(Failure::Failed)
}

impl Begun {
    fn of(args: &BenchArgs, matrices: &[Matrix]) -> Self {
        let rounds = if args.rounds { " --rounds" } else { "" };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            how: format!("{} --format {}{rounds}", how(args), super::value(&args.format)),
            force: args.force,
            matrices: matrices
                .iter()
                .map(|matrix| (matrix.name.clone(), matrix.scenario.to_toml()))
                .collect(),
        }
    }

    /// Whether this is what is asked for now; if not, what is not the same.
    fn is_still(&self, now: &Self, matrices: &[Matrix]) -> Result<(), String> {
        if self.version != now.version {
            return Err(format!("it was begun by version {}, this is {}", self.version, now.version));
        }
        let names =
            |of: &Self| of.matrices.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(", ");
        if names(self) != names(now) {
            return Err(format!("it was begun with the matrices {}, not {}", names(self), names(now)));
        }
        if self.how != now.how {
            return Err(format!("it was begun with {}, not {}", self.how, now.how));
        }
        for ((was, is), matrix) in self.matrices.iter().zip(&now.matrices).zip(matrices) {
            if was.1 != is.1 {
                let changes = sweep::changes(&was.1, &is.1);
                return Err(format!(
                    "{} was another scenario when it was begun{changes}",
                    matrix.file.display()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
