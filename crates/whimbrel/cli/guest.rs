//! `whimbrel guest`: real guests.

use std::io::Write as _;

use whimbrel_core::units::duration;
use whimbrel_guest::lab::config::LabConfig;
use whimbrel_lab::real::beside::Beside;
use whimbrel_lab::real::guest::lab_guest;
use whimbrel_lab::real::run::{Harvest, Watch, WatchError, Watched, watch};
use whimbrel_lab::real::text;
use whimbrel_lab::scenario::Setup;
use whimbrel_sim::trace::record_like;

use super::args::{GuestArgs, GuestCommand, GuestRunArgs, ScenarioArgs, TextFormat};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::print;
use super::simulate::{Instead, scenario};
use super::trace::Out;

/// Runs the command.
pub(super) fn run(args: &GuestArgs) -> Result<(), Failure> {
    match &args.command {
        GuestCommand::Run(args) => Watching::ready(args)?.run(),
    }
}

/// A guest that is ready to be watched.
struct Watching {
    setup: Setup,
    lab: LabConfig,
    seed: u64,
    watch: Watch,
    record: Option<Out>,
    format: TextFormat,
    interrupt: Interrupt,
}

impl Watching {
    fn ready(args: &GuestRunArgs) -> Result<Self, Failure> {
        let named = ScenarioArgs {
            scenario: args.scenario.clone(),
            overrides: args.overrides.clone(),
            fidelity: None,
        };
        let scenario = scenario(&named, "default", &Instead::default())?;
        let seed = args.seed.unwrap_or(scenario.setup().run.seed);
        let setup = scenario.setup().clone();
        let lab = lab_guest(&setup.guest, seed).map_err(Failure::bad_input)?;
        if args.interval > args.length {
            return Err(Failure::BadInput(anyhow::anyhow!(
                "--interval {}: accepted is at most the time of --for, {}",
                duration::format(args.interval),
                duration::format(args.length)
            )));
        }
        let watch = Watch {
            length: args.length,
            interval: args.interval,
            backing: args.memory,
            log: args.log.into(),
        };
        let record = args.out().as_ref().map(Out::open).transpose()?;
        let interrupt = Interrupt::listen().map_err(Failure::failed)?;
        Ok(Self { setup, lab, seed, watch, record, format: args.format, interrupt })
    }

    fn run(self) -> Result<(), Failure> {
        let shows = Shows::on_a_terminal(self.format);
        let watched = watch(&self.setup.guest, self.lab, &self.watch, &self.interrupt.stop, |harvest| {
            shows.harvest(harvest);
        });
        shows.nothing();
        let watched = watched.map_err(|error| match error {
            WatchError::Here(error) if error.is_the_guests() => Failure::bad_input(error),
            error => Failure::failed(error),
        })?;
        if let Some(code) = self.interrupt.exit_code() {
            let message = format!("the guest ran for {}", duration::human(watched.trace.end()));
            let kept = if self.record.is_some() { "; its trace was not written" } else { "" };
            return Err(Failure::Interrupted { code, message: message + kept });
        }
        let found = beside(&self.setup, self.seed, &watched)?;
        if let Some(out) = self.record {
            out.put(&watched.trace)?;
        }
        print(&match self.format {
            TextFormat::Table => text::beside(&found),
            TextFormat::Json => serde_json::to_string_pretty(&found).map_err(Failure::failed)? + "\n",
        })
    }
}

fn beside(setup: &Setup, seed: u64, watched: &Watched) -> Result<Beside, Failure> {
    let model = record_like(&setup.guest, setup.host.tracking_fault, seed, &watched.trace);
    Beside::new(watched, &model.map_err(Failure::failed)?).map_err(Failure::failed)
}

/// The last harvest on a line of its own, while the guest runs; on a terminal only.
struct Shows(bool);

impl Shows {
    fn on_a_terminal(format: TextFormat) -> Self {
        Self(format == TextFormat::Table && console::user_attended_stderr())
    }

    fn harvest(&self, harvest: &Harvest) {
        if self.0 {
            let (at, took) = (duration::human(harvest.at), duration::human(harvest.took));
            let _ = write!(std::io::stderr(), "\r\x1b[K{at}: {} pages, harvested in {took}", harvest.pages.0);
        }
    }

    /// Takes the line away.
    fn nothing(&self) {
        if self.0 {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
