//! `whimbrel send` and `whimbrel receive` on hosts of their own, over a link that has a rate, takes time, loses frames and is cut.
//!
//! Rates are the kernel's (`tbf` on a veth pair), the rest is a [`Wire`]'s. A machine that lets nobody make network namespaces skips
//! these tests, aloud.

mod namespace;
mod wire;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use whimbrel::guest::conformance::skip;

use self::namespace::Namespace;
use self::wire::Wire;
use super::process::{Receive, Running, receive_as, receiving, sending};
use super::{json, with_guest};
use crate::interrupt::signal;
use crate::run::Fresh;

/// Two hosts and what joins them.
struct Network {
    source: Namespace,
    destination: Namespace,
    wire: Option<Wire>,
}

impl Network {
    /// A link that carries so much in either direction, and whose queue takes 50 ms of it. None, said aloud, if there is none here.
    fn of_rate(rate: &str) -> Option<Self> {
        let made = || {
            let (source, destination) = (Namespace::new()?, Namespace::new()?);
            source.join(&destination)?;
            for (number, host) in [(1, &source), (2, &destination)] {
                host.run(&format!("ip address add 10.0.0.{number}/24 dev eth0"))?;
                host.run(&format!("tc qdisc add dev eth0 root tbf rate {rate} burst 32kb latency 50ms"))?;
            }
            Ok(Self { source, destination, wire: None })
        };
        Self::or_skip(made())
    }

    /// A link on which every frame is so long under way, and of a thousand so many are lost.
    fn of_wire(delay: Duration, loss: u64) -> Option<Self> {
        let made = || {
            let (source, destination) = (Namespace::new()?, Namespace::new()?);
            let wire = Wire::between([&source, &destination], delay, loss)?;
            Ok(Self { source, destination, wire: Some(wire) })
        };
        Self::or_skip(made())
    }

    fn or_skip(made: Result<Self, String>) -> Option<Self> {
        made.map_err(|why| skip("netns", &why)).ok()
    }

    fn wire(&self) -> &Wire {
        self.wire.as_ref().expect("it has one")
    }

    fn receive(&self, fresh: &Fresh, more: &[&str]) -> Receive {
        let listen = ["--listen", "tcp:10.0.0.2:4444", "--insecure", "--format", "json"];
        receive_as(within(&self.destination, fresh, &receiving(&[&listen[..], more].concat())))
    }

    fn send(&self, fresh: &Fresh, there: &Receive, more: &[&str]) -> Running {
        let more = [&["--insecure", "--format", "json"], more].concat();
        Running::start_as(within(&self.source, fresh, &sending(&there.address, &there.token, &more)))
    }

    /// Moves a guest; what both sides say.
    fn moves(&self, fresh: &Fresh, more: &[&str]) -> Moved {
        let there = self.receive(fresh, &["--for", "200ms"]);
        let sent = self.send(fresh, &there, more).end();
        let received = there.end();
        assert_eq!((sent.code, received.code), (Some(0), Some(0)), "{}\n{}", sent.err, received.err);
        let moved = Moved { sent: json(&sent.out), received: json(&received.out) };
        assert_eq!(moved.sent["outcome"], "completed");
        assert_eq!(moved.received["exact"], true, "{}", moved.received);
        moved
    }
}

/// The program on one of the hosts.
fn within(host: &Namespace, fresh: &Fresh, args: &[&str]) -> Command {
    let program = fresh.command(args);
    let mut command = host.command(env!("CARGO_BIN_EXE_whimbrel"));
    command.args(args).stdin(std::process::Stdio::null());
    if let Some(directory) = program.get_current_dir() {
        command.current_dir(directory);
    }
    command
}

struct Moved {
    sent: Value,
    received: Value,
}

impl Moved {
    /// A part of the ledger.
    fn ms(&self, part: &str) -> f64 {
        self.sent["downtime"][part].as_f64().unwrap_or_else(|| panic!("{part}: {}", self.sent))
    }

    /// How long the guest was without a heartbeat.
    fn gap(&self) -> f64 {
        self.received["heartbeat"]["move_gap_ms"].as_f64().expect("a gap")
    }

    /// That much more the guest has missed than the ledger says.
    fn beyond_the_ledger(&self) -> f64 {
        let beyond = self.gap() - self.sent["downtime_ms"].as_f64().expect("a downtime");
        // Half of `transfer` at most is not measured; all else it has missed, however busy the machine is.
        assert!(beyond > -self.ms("transfer_ms") / 2.0 - 1e-6, "{beyond}: {}", self.sent);
        beyond
    }
}

/// Moves until one is within a millisecond: what is always left out is never within it, and what a busy machine adds is, now and
/// then. Gives that move.
fn within_a_millisecond(mut once: impl FnMut() -> Moved) -> Moved {
    let mut seen = Vec::new();
    for _ in 0..30 {
        let moved = once();
        let beyond = moved.beyond_the_ledger();
        if beyond.abs() <= 1.0 {
            return moved;
        }
        seen.push(beyond);
    }
    panic!("never within a millisecond: {seen:?}")
}

/// A guest that is small, so that it is moved often in a short time.
fn with_small_guest() -> Fresh {
    let fresh = Fresh::new();
    let guest = "[guest]\nmemory = \"8MiB\"\n\n[[guest.writers]]\nworking-set = \"4MiB\"\nrate = 1000\n";
    fresh.write("guest.toml", guest);
    fresh
}

#[test]
fn what_a_socket_holds_is_in_the_ledger() {
    let Some(network) = Network::of_rate("100mbit") else { return };
    let fresh = with_small_guest();
    let moved =
        within_a_millisecond(|| network.moves(&fresh, &["--policy", "qemu-default:downtime-limit=300ms"]));
    // What the source alone sees ends when the socket has taken the last page, and is what would be said without this.
    let parts = ["pause_ms", "held_ms", "harvest_ms", "last_pages_ms", "save_ms"];
    let at_source: f64 = parts.into_iter().map(|part| moved.ms(part)).sum();
    assert!(moved.gap() > at_source + 10.0, "the socket held nothing: {}", moved.sent);
}

#[test]
fn a_way_that_takes_time_is_in_the_ledger() {
    let delay = Duration::from_millis(20);
    let Some(network) = Network::of_wire(delay, 0) else { return };
    let fresh = with_small_guest();
    let moved = within_a_millisecond(|| network.moves(&fresh, &[]));
    // State, *ready* and *go* go over it one after the other.
    assert!(
        moved.gap() >= 60.0 && moved.ms("transfer_ms") >= 40.0 && moved.ms("commit_ms") >= 19.0,
        "{}",
        moved.sent
    );
}

#[test]
fn a_guest_comes_whole_over_a_wire_that_loses_frames() {
    let Some(network) = Network::of_wire(Duration::from_millis(2), 20) else { return };
    let fresh = with_guest();
    network.moves(&fresh, &["--streams", "2", "--policy", "xen-5"]).beyond_the_ledger();
    assert!(network.wire().lost() > 0);
}

#[test]
fn a_link_that_is_cut_before_the_handover_leaves_an_exact_guest_at_the_source() {
    let Some(network) = Network::of_wire(Duration::from_millis(2), 0) else { return };
    let fresh = with_guest();
    let there = network.receive(&fresh, &["--patience", "2s"]);
    let slowly = ["--patience", "2s", "--limit", "4MiB/s", "--id", "2a"];
    let here = network.send(&fresh, &there, &slowly);
    // Whoever takes a guest makes room for its record first.
    within_minutes("the guest is not taken", || record(&fresh, "destination").exists());
    std::thread::sleep(Duration::from_millis(300));
    network.wire().cut();
    let (sent, received) = (here.end(), there.end());
    assert_eq!((sent.code, received.code), (Some(1), Some(1)), "{}\n{}", sent.err, received.err);
    let told = json(&sent.out);
    assert_eq!((&told["outcome"], &told["live"]["guest_runs"]), (&"failed".into(), &"source".into()));
    assert_eq!(told["live"]["exact"], true, "{}", sent.out);
    assert_eq!(json(&received.out)["outcome"], "gone");
}

/// The file for the record of this side, of the migration `2a`.
fn record(fresh: &Fresh, side: &str) -> PathBuf {
    fresh.path(&format!("store/000000000000002a-{side}.handoff"))
}

/// Whether this side has written its record.
fn has_recorded(fresh: &Fresh, side: &str) -> bool {
    std::fs::read(record(fresh, side)).is_ok_and(|file| file.get(4096..4104) == Some(b"RECORDED"))
}

fn within_minutes(or_else: &str, happens: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happens() {
        assert!(begun.elapsed() < Duration::from_mins(2), "{or_else}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_link_that_is_cut_around_go_leaves_one_guest_that_is_found_when_it_is_back() {
    // What this side writes sets something on its way that never arrives: *go*, and *running*.
    for (writes, runs_there) in [("source", false), ("destination", true)] {
        let Some(network) = Network::of_wire(Duration::from_millis(300), 0) else { return };
        let fresh = with_small_guest();
        let there = network.receive(&fresh, &["--patience", "3s"]);
        let mut here = network.send(&fresh, &there, &["--patience", "3s", "--id", "2a"]);
        within_minutes("nothing is written", || has_recorded(&fresh, writes));
        network.wire().cut();
        here.line_with("in doubt: ");
        assert_eq!(has_recorded(&fresh, "destination"), runs_there);
        network.wire().mend();
        let sent = here.end();
        assert_eq!(sent.code, Some(0), "{}", sent.err);
        assert_eq!(json(&sent.out)["live"]["guest_runs"], "destination", "{}", sent.out);
        signal("INT", there.id());
        let received = there.end();
        assert_eq!(received.code, Some(0), "{}", received.err);
        assert_eq!(json(&received.out)["exact"], true, "{}", received.out);
    }
}
