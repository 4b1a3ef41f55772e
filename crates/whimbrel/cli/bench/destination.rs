//! The other process: this program as `whimbrel receive`. Started by its id, ended by its id.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use whimbrel_core::units::duration;
use whimbrel_engine::transport::Address;
use whimbrel_guest::memory::Backing;

use super::super::args::Over;
use super::super::failure::Failure;
use super::work::Work;

/// How long a destination may take to listen, and to end when the guest has come: longer than any does on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long the guest runs there, so that its heartbeat sees the end of the gap.
const RUNS: Duration = Duration::from_millis(50);

/// A destination that waits for a guest. Dropped, it is ended.
pub(super) struct Destination {
    child: Child,
    /// What it says on standard error.
    said: Receiver<String>,
    out: Option<JoinHandle<String>>,
    /// Where it listens.
    pub(super) address: Address,
}

/// What it found; of its report what is needed here.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    pub(super) outcome: String,
    pub(super) ledger: Ledger,
    heartbeat: Option<Heartbeat>,
    pub(super) exact: Option<bool>,
}

/// Milliseconds.
#[derive(Debug, Deserialize)]
#[allow(clippy::struct_field_names)] // As in the report.
pub(super) struct Ledger {
    pub(super) restore_ms: f64,
    pub(super) persist_ms: f64,
    pub(super) resume_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Heartbeat {
    move_gap_ms: Option<f64>,
}

impl Found {
    /// The time without a heartbeat between source and destination, milliseconds.
    pub(super) fn gap_ms(&self) -> Option<f64> {
        self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.move_gap_ms)
    }
}

impl Destination {
    /// Starts one for the guest of this scenario, and waits until it listens.
    pub(super) fn start(
        work: &Work,
        over: Over,
        backing: Backing,
        (guest, token): (&str, &str),
    ) -> Result<Self, Failure> {
        let guest = work.write("guest.toml", guest)?;
        let token = work.write("token", token)?;
        let listen = match over {
            Over::Unix => format!("unix:{}", work.path("pages").display()),
            Over::Tcp => "tcp:127.0.0.1:0".to_owned(),
        };
        let program = std::env::current_exe().context("cannot find this program").map_err(Failure::Failed)?;
        let mut command = Command::new(program);
        command.arg("receive").arg("--guest").arg(guest).arg("--token-file").arg(token);
        command.arg("--listen").arg(listen).arg("--store").arg(work.records("destination"));
        command.arg("--control").arg(work.path("control")).arg("--memory").arg(backing.to_string());
        command.args(["--format", "json", "--for", &duration::format(RUNS)]);
        command.args(["--wait", &duration::format(PATIENCE)]);
        // Of its own group: Ctrl-C is this process's affair, which ends it. Where this process is killed, the pipe ends, and it with it.
        command
            .arg("--until-eof")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start the destination").map_err(Failure::Failed)?;
        let (tell, said) = channel();
        if let Some(err) = child.stderr.take() {
            std::thread::spawn(move || {
                BufReader::new(err).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
            });
        }
        let out = child.stdout.take().map(|mut out| {
            std::thread::spawn(move || {
                let mut text = String::new();
                // Cut short, it is no JSON, which is said then.
                let _ = out.read_to_string(&mut text);
                text
            })
        });
        // From here on it is ended whatever happens.
        let mut destination = Self { child, said, out, address: Address::Unix("".into()) };
        destination.address = destination.listens()?;
        Ok(destination)
    }

    /// Where it listens; waits for that.
    fn listens(&self) -> Result<Address, Failure> {
        let begun = Instant::now();
        let mut last = String::new();
        while let Ok(line) = self.said.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            let at = line.strip_prefix("listening at ").and_then(|rest| rest.split_once(", control "));
            if let Some(Ok(address)) = at.map(|(at, _)| at.parse()) {
                return Ok(address);
            }
            last = line;
        }
        Err(Failure::Failed(anyhow!("the destination does not listen: {last}")))
    }

    /// What it says now.
    pub(super) fn says(&self) -> String {
        self.said.try_iter().filter(|line| !line.starts_with("to be typed")).collect::<Vec<_>>().join("; ")
    }

    /// Waits for its end, and gives its report.
    pub(super) fn end(mut self) -> Result<Found, Failure> {
        let begun = Instant::now();
        while self.child.try_wait().context("no word of the destination").map_err(Failure::Failed)?.is_none()
        {
            if begun.elapsed() > PATIENCE {
                return Err(Failure::Failed(anyhow!("the destination does not end: {}", self.says())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let text = self.out.take().and_then(|out| out.join().ok()).unwrap_or_default();
        serde_json::from_str(&text)
            .with_context(|| format!("the destination has no report: {}", self.says()))
            .map_err(Failure::Failed)
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        // It has ended, as a rule; a process that is waited for keeps its id until then.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            // Not before: it closes the pipe whose end is as Ctrl-C.
            let _ = self.child.wait();
        }
    }
}
