//! `whimbrel adjust`: changes a migration that is under way.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::super::args::AdjustArgs;
use super::super::failure::Failure;
use super::control::{Question, Side};
use super::directory;
use super::resolve::{asked, running, show};

/// Runs the command: one change after another, until one is not taken.
pub(in crate::cli) fn run(args: &AdjustArgs) -> Result<(), Failure> {
    let path = match &args.control {
        Some(path) => path.clone(),
        None => only_source(&directory(args.store.as_deref())?)?,
    };
    let limit = args.limit.map(|limit| ("the limit".to_owned(), Question::Limit(limit)));
    let changes = args.parameters.iter().map(|(parameter, value)| {
        let change = Question::Change { parameter: parameter.clone(), value: value.clone() };
        (parameter.clone(), change)
    });
    let (mut last, mut done) = (None, Vec::new());
    for (what, question) in limit.into_iter().chain(changes) {
        let reply = asked(&path, &question).map_err(|failure| behind(&done, failure))?;
        if let Some(why) = &reply.refused {
            let not = if reply.taken.is_some() { "was not changed" } else { "may not have been changed" };
            return Err(behind(&done, Failure::Failed(anyhow!("{what} {not}: {why}"))));
        }
        done.push(what);
        last = Some(reply);
    }
    last.map_or(Ok(()), |reply| show(&reply, args.format))
}

/// Says of a failure what was changed before it, and stays so.
fn behind(done: &[String], failure: Failure) -> Failure {
    match failure {
        Failure::Failed(error) if !done.is_empty() => {
            let were = if done.len() == 1 { "was" } else { "were" };
            Failure::Failed(anyhow!("{error:#}; before that {} {were} changed", done.join(", ")))
        }
        failure => failure,
    }
}

/// The one `send` that has its control socket in this directory.
fn only_source(directory: &Path) -> Result<PathBuf, Failure> {
    let mut sources = running(directory);
    sources.retain(|(_, reply)| reply.standing.side == Side::Source);
    match sources.as_slice() {
        [(path, _)] => Ok(path.clone()),
        [] => Err(Failure::Failed(anyhow!(
            "no `send` runs whose control socket is in {}: say with --control where it is",
            directory.display()
        ))),
        several => {
            let paths: Vec<_> = several.iter().map(|(path, _)| path.display().to_string()).collect();
            Err(Failure::BadInput(anyhow!("say with --control which is meant: {}", paths.join(", "))))
        }
    }
}
