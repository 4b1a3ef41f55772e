//! `whimbrel resolve`: what is known here of migrations, and the end of doubts that people alone can end.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde_json::{Value, json};
use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::units::duration;
use whimbrel_engine::stable::{Entry, Role, StableStore as _, list};
use whimbrel_lab::table::{Align, Columns, named};

use super::super::args::{ResolveArgs, Side, TextFormat};
use super::super::failure::Failure;
use super::super::{print, tell, visible, width};
use super::control::{self, CONTROL, Question, Reply, ask, from_anywhere};
use super::{asking, directory, open_store, shown};

/// Runs the command.
pub(in crate::cli) fn run(args: &ResolveArgs) -> Result<(), Failure> {
    if let Some(path) = &args.control {
        let reply = asked(path, &question(args))?;
        show(&reply, args.format)?;
        return match (reply.refused, reply.taken) {
            (None, _) => Ok(()),
            (Some(why), Some(_)) => Err(Failure::Failed(anyhow!("the order was not carried out: {why}"))),
            (Some(why), None) => {
                Err(Failure::Failed(anyhow!("it is not known whether the order was carried out: {why}")))
            }
        };
    }
    let directory = directory(args.store.as_deref())?;
    if let Some(to) = &args.ask {
        return asking::ask(args, to, &of_the_source(args, &directory)?, &directory);
    }
    if args.forget { forget(args, &directory) } else { listed(args, &directory) }
}

fn question(args: &ResolveArgs) -> Question {
    let all = [
        (args.peer_never_ran, Question::PeerNeverRan),
        (args.peer_may_have_run, Question::PeerMayHaveRun),
        (args.discard, Question::Discard),
        (args.cancel, Question::Cancel),
    ];
    all.into_iter().find(|(given, _)| *given).map_or(Question::Status, |(_, question)| question)
}

// ---- orders -------------------------------------------------------------------------------------------------------

/// What the command at this socket says.
pub(super) fn asked(path: &Path, question: &Question) -> Result<Reply, Failure> {
    ask(path, question).map_err(|error| {
        let context = format!("no `send` or `receive` answers at {}", path.display());
        Failure::Failed(anyhow::Error::new(error).context(context))
    })
}

/// Prints how it stands.
pub(super) fn show(reply: &Reply, format: TextFormat) -> Result<(), Failure> {
    print(&match format {
        TextFormat::Table => visible(&told(reply)),
        TextFormat::Json => serde_json::to_string_pretty(reply).map_err(Failure::failed)? + "\n",
    })
}

fn side(side: control::Side) -> &'static str {
    match side {
        control::Side::Source => "source",
        control::Side::Destination => "destination",
    }
}

fn told(reply: &Reply) -> String {
    let standing = &reply.standing;
    let migration = standing.migration.as_deref().unwrap_or("none yet");
    let doubt = if standing.in_doubt { "; in doubt, see `whimbrel resolve --help`" } else { "" };
    let mut rows = vec![
        ("side", side(standing.side).to_owned()),
        ("migration", migration.to_owned()),
        ("guest", standing.guest.clone()),
        ("peer", if standing.connected { "connected" } else { "not connected" }.to_owned()),
        ("now", standing.phase.clone() + doubt),
    ];
    rows.extend(standing.limit.clone().map(|limit| ("limit", limit)));
    named(&rows, "           ", width())
}

// ---- what there is ------------------------------------------------------------------------------------------------

/// Records of this directory that were asked for; what is damaged is told.
fn records(args: &ResolveArgs, directory: &Path) -> Result<Vec<Entry>, Failure> {
    let found = match list(directory) {
        Ok(found) => found,
        // Nothing was ever kept there.
        Err(_) if args.store.is_none() && !directory.exists() => Vec::new(),
        Err(error) if !directory.exists() => return Err(Failure::bad_input(error)),
        Err(error) => return Err(Failure::failed(error)),
    };
    let wanted = |entry: &Entry| {
        let role = match args.side {
            None => entry.role,
            Some(Side::Source) => Role::Source,
            Some(Side::Destination) => Role::Destination,
        };
        role == entry.role && args.id.is_none_or(|id| id == entry.id)
    };
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    for entry in found {
        match entry {
            Ok(entry) if wanted(&entry) => entries.push(entry),
            Ok(_) => {}
            Err(error) => damaged.push(error),
        }
    }
    for error in damaged {
        tell(&format!("warning: {:#}", anyhow::Error::new(error)));
    }
    Ok(entries)
}

/// The source's record of the migration that is asked about.
fn of_the_source(args: &ResolveArgs, directory: &Path) -> Result<Entry, Failure> {
    let found = records(args, directory)?.into_iter().find(|entry| entry.role == Role::Source);
    found.ok_or_else(|| {
        let id = args.id.map(shown).unwrap_or_default();
        Failure::BadInput(anyhow!(
            "there is no record of a source of migration {id} in {}: its `whimbrel send` never came so far that anything could be \
             asked, or was done with it",
            directory.display()
        ))
    })
}

/// Commands that answer at a control socket in this directory.
pub(super) fn running(directory: &Path) -> Vec<(PathBuf, Reply)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let sockets = entries.filter(|path| path.to_string_lossy().ends_with(CONTROL));
    // One that was killed has left its socket behind.
    let answers = sockets.filter_map(|path| {
        let reply = ask(&path, &Question::Status).ok()?;
        Some((from_anywhere(&path), reply))
    });
    let mut running: Vec<_> = answers.collect();
    running.sort_by(|(one, _), (other, _)| one.cmp(other));
    running
}

fn listed(args: &ResolveArgs, directory: &Path) -> Result<(), Failure> {
    let records = records(args, directory)?;
    let mut running = running(directory);
    if let Some(id) = args.id {
        running.retain(|(_, reply)| reply.standing.migration == Some(shown(id)));
    }
    print(&match args.format {
        TextFormat::Table => visible(&table(directory, &records, &running)),
        TextFormat::Json => {
            let records: Vec<_> = records.iter().map(record_json).collect();
            let running: Vec<Value> = running.iter().filter_map(running_json).collect();
            format!(
                "{:#}\n",
                json!({ "schema": 1, "store": directory, "records": records, "running": running })
            )
        }
    })
}

fn record_json(entry: &Entry) -> Value {
    json!({
        "side": entry.role.name(),
        "migration": shown(entry.id),
        "guest": entry.guest,
        "record": entry.record.map(|record| record.to_string()),
        "age_s": entry.age.as_secs_f64(),
        "in_use": entry.in_use,
        "path": entry.path,
    })
}

fn running_json((path, reply): &(PathBuf, Reply)) -> Option<Value> {
    let mut value = serde_json::to_value(&reply.standing).ok()?;
    value.as_object_mut()?.insert("control".to_owned(), json!(path));
    Some(value)
}

/// What is to be known before anything is promised of such a source.
const NOTHING_HANDED_OVER: &str = "\
source without a record: it has handed nothing over, and its guest ran on there: no replica elsewhere is its latest memory
";

fn table(directory: &Path, records: &[Entry], running: &[(PathBuf, Reply)]) -> String {
    let mut text = String::new();
    if records.is_empty() {
        let _ = writeln!(text, "no records in {}", directory.display());
    } else {
        let names = ["side", "migration", "guest", "record", "age", "in use"];
        let mut columns = Columns::new(&names.map(|name| (name, Align::Left)));
        for entry in records {
            columns.row(vec![
                entry.role.name().to_owned(),
                shown(entry.id),
                if entry.guest.is_empty() { "-".to_owned() } else { entry.guest.clone() },
                entry.record.map_or_else(|| "-".to_owned(), |record| record.to_string()),
                duration::human(entry.age),
                if entry.in_use { "yes" } else { "no" }.to_owned(),
            ]);
        }
        text.push_str(&(columns.lines().join("\n") + "\n"));
        if records.iter().any(|entry| entry.role == Role::Source && entry.record.is_none()) {
            text.push_str(NOTHING_HANDED_OVER);
        }
    }
    for (path, reply) in running {
        let _ = write!(text, "\ncontrol    {}\n{}", path.display(), told(reply));
    }
    text
}

// ---- forgetting ---------------------------------------------------------------------------------------------------

/// What is no longer known when a record is gone.
fn meaning(entry: &Entry) -> &'static str {
    match (entry.role, entry.record) {
        (_, None) => "It says nothing: the guest was not handed over. Nothing is lost with it.",
        (Role::Source, Some(StableRecord::Running)) | (Role::Destination, Some(StableRecord::Go)) => {
            "It is a record that this side never writes."
        }
        (Role::Source, Some(StableRecord::Go)) => {
            "The guest was handed over, and nobody here ever heard that it runs there. Without this record nothing here says \
             that the guest may belong to the destination."
        }
        (Role::Destination, Some(StableRecord::Running)) => {
            "The guest was handed over to this host. Without this record a source that still asks would be told that the guest \
             never ran here, and would run it itself: so the source must be done with this migration."
        }
    }
}

fn forget(args: &ResolveArgs, directory: &Path) -> Result<(), Failure> {
    let entries = records(args, directory)?;
    let id = args.id.map(shown).unwrap_or_default();
    let entry = match entries.as_slice() {
        [entry] => entry,
        [] => {
            let message = format!("there is no record of migration {id} in {}", directory.display());
            return Err(Failure::BadInput(anyhow!(message)));
        }
        _ => {
            let message = format!(
                "both sides have a record of migration {id} in {}: say which by --side",
                directory.display()
            );
            return Err(Failure::BadInput(anyhow!(message)));
        }
    };
    let meaning = meaning(entry);
    if entry.record == Some(StableRecord::Go) && !args.force {
        return Err(Failure::BadInput(anyhow!(
            "the record of migration {id} says `go`. {meaning} If you know how it ended, remove it with --force"
        )));
    }
    open_store(directory, entry.role)?.erase(entry.id).map_err(Failure::failed)?;
    let path = entry.path.display().to_string();
    print(&match args.format {
        TextFormat::Table => named(&[("removed", path), ("", meaning.to_owned())], "         ", width()),
        TextFormat::Json => {
            let mut value = record_json(entry);
            value["removed"] = json!(true);
            format!("{value:#}\n")
        }
    })
}
