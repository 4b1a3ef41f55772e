//! `whimbrel resolve --ask`: what became of a migration whose `send` was killed, told by its destination.
//!
//! The guest's memory has gone with that process. What is left is its record, and who may run the guest is the engine's to say by it
//! ([`settle`]). Nothing is asked for a migration of which there is no record: nobody could tell one that was never begun from one
//! that is done with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};
use whimbrel_core::machine::handoff::Right;
use whimbrel_engine::orders::{Order, Orders, Remote};
use whimbrel_engine::source::{Restarted, Settled, settle};
use whimbrel_engine::stable::{Entry, Role, StableStore as _};
use whimbrel_engine::transport::Address;
use whimbrel_engine::transport::open::connector;
use whimbrel_lab::table::named;

use super::super::args::{ResolveArgs, TextFormat};
use super::super::beside::beside;
use super::super::failure::Failure;
use super::super::interrupt::Interrupt;
use super::super::{print, tell, visible, width};
use super::{given_token, no_connection, open_store, options, shown, token_of};

/// How often it is looked whether somebody has pressed Ctrl-C.
const LOOK: Duration = Duration::from_millis(10);

/// Asks about the migration of this record, and prints what came of it.
pub(super) fn ask(args: &ResolveArgs, to: &Address, entry: &Entry, directory: &Path) -> Result<(), Failure> {
    if entry.in_use {
        let message = "its `whimbrel send` still runs, and asks by itself";
        return Err(Failure::BadInput(anyhow!("migration {}: {message}", shown(entry.id))));
    }
    let token = given_token(&args.way)?;
    let token = token.context("which token does the destination expect? say it with --token or --token-file");
    let token = token_of(&token.map_err(Failure::BadInput)?)?;
    let connect = Arc::from(connector(to, &options(&args.way)?).map_err(no_connection)?);
    let mut store = open_store(directory, Role::Source)?;
    let interrupt = Interrupt::listen().map_err(Failure::failed)?;
    let orders = Orders::new();
    let (id, patience) = (entry.id, args.way.patience);
    let until = if args.within.is_none() { ", until it answers or Ctrl-C" } else { "" };
    tell(&format!("asking {to} about migration {}{until}", shown(id)));
    let settled = while_watched(&interrupt, &orders.remote(), || {
        settle(Restarted { id, token, connect, store: &mut store, patience }, args.within, &orders)
    });
    let settled = settled.map_err(Failure::failed)?;
    if settled.settled {
        // The destination has it in writing, or nothing; one that stays does no harm.
        let _ = store.erase(id);
    }
    print(&match args.format {
        TextFormat::Table => visible(&table(entry, settled, to)),
        TextFormat::Json => format!("{:#}\n", value(entry, settled)),
    })?;
    match (settled.right, interrupt.exit_code()) {
        (Right::Mine | Right::Theirs, _) => Ok(()),
        (Right::Undecided, Some(code)) => {
            let message = "nobody has answered: the guest may run at the destination".to_owned();
            Err(Failure::Interrupted { code, message })
        }
        (Right::Undecided, None) => {
            Err(Failure::Failed(anyhow!("nobody has answered: the guest may run at the destination")))
        }
    }
}

/// Leaves what is being asked when somebody presses Ctrl-C.
fn while_watched<T>(interrupt: &Interrupt, remote: &Remote, act: impl FnOnce() -> T) -> T {
    let watch = |over: &AtomicBool| {
        while !over.load(Ordering::Relaxed) {
            if interrupt.exit_code().is_some() && remote.give(Order::Leave) {
                return;
            }
            thread::sleep(LOOK);
        }
    };
    beside(watch, act)
}

/// Where the guest is, and whether the destination knows that.
fn words(settled: Settled, to: &Address) -> (String, &'static str) {
    match settled.right {
        Right::Mine => (
            "to be started from its disks, here".to_owned(),
            if settled.settled { "has nothing of it" } else { "was not reached, and may keep a replica" },
        ),
        Right::Theirs => (format!("at the destination, {to}"), "has it in writing"),
        Right::Undecided => ("nobody here knows where: start it nowhere".to_owned(), "has not answered"),
    }
}

fn table(entry: &Entry, settled: Settled, to: &Address) -> String {
    let (guest, destination) = words(settled, to);
    let record =
        entry.record.map_or_else(|| "none: it was not handed over".to_owned(), |one| one.to_string());
    let rows = [
        ("migration", shown(entry.id)),
        ("record", record),
        ("guest", guest),
        ("destination", destination.to_owned()),
    ];
    named(&rows, "             ", width())
}

fn value(entry: &Entry, settled: Settled) -> Value {
    let guest_runs = match settled.right {
        Right::Mine => "nowhere",
        Right::Theirs => "destination",
        Right::Undecided => "unknown",
    };
    json!({
        "schema": 1,
        "migration": shown(entry.id),
        "record": entry.record.map(|record| record.to_string()),
        "right": settled.right,
        "guest_runs": guest_runs,
        "settled": settled.settled,
    })
}
