//! `whimbrel replay`: does the simulator's machine decide as the one did that moved a guest?

use std::fs::File;
use std::io::BufReader;

use serde_json::json;
use whimbrel_lab::real::journal::{Head, Replayed};
use whimbrel_lab::table::counted;

use super::super::args::{ReplayArgs, TextFormat};
use super::super::failure::Failure;
use super::super::{print, visible};
use super::shown;

/// Reads the journal, replays it, and says whether it went the same way.
pub(in crate::cli) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let name = args.journal.display();
    let wrong = |error: anyhow::Error| Failure::BadInput(error.context(format!("cannot replay {name}")));
    let mut file = BufReader::new(File::open(&args.journal).map_err(|error| wrong(error.into()))?);
    let journal = Head::read(&mut file).map_err(|error| wrong(error.into()))?;
    let replayed = journal.replay(file).map_err(|error| wrong(error.into()))?;
    print(&match args.format {
        TextFormat::Table => visible(&told(&journal, &replayed)),
        TextFormat::Json => {
            let difference = replayed.difference.as_ref().map(ToString::to_string);
            let told = json!({
                "schema": 1,
                "migration": shown(journal.configuration.id),
                "guest": journal.configuration.name,
                "policy": journal.policy,
                "events": replayed.events,
                "decisions": replayed.decisions,
                "same": difference.is_none(),
                "difference": difference,
            });
            format!("{told:#}\n")
        }
    })?;
    match replayed.difference {
        None => Ok(()),
        Some(difference) => {
            Err(Failure::Failed(anyhow::Error::new(difference).context("the replay went another way")))
        }
    }
}

fn told(journal: &Head, replayed: &Replayed) -> String {
    let (guest, id) = (&journal.configuration.name, shown(journal.configuration.id));
    let went = if replayed.difference.is_none() { "all the same" } else { "not all the same" };
    format!(
        "migration  {id} of {guest}, policy {}\nreplayed   {}, {}: {went}\n",
        journal.policy.preset,
        counted(replayed.events as u64, "event"),
        counted(replayed.decisions as u64, "decision")
    )
}
