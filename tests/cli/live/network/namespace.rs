//! Hosts of their own: network namespaces, and veth pairs between them.
//!
//! A namespace has no name. A process holds it that ends with the test's, however that ends, and the system then takes the
//! namespace and its devices away. Needs the superuser, `unshare` and `nsenter` of util-linux, and `ip` and `tc` of iproute2.

use std::fs::{File, read_link};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A host, as far as its network goes.
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// One with nothing in it; or why there is none.
    pub(crate) fn new() -> Result<Self, String> {
        let mut unshare = Command::new("unshare");
        // It reads until this process is gone.
        unshare
            .args(["--net", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let holder = unshare.spawn().map_err(|error| format!("unshare: {error}"))?;
        let mut made = Self { holder };
        let ours = read_link("/proc/self/ns/net").map_err(|error| error.to_string())?;
        let begun = Instant::now();
        while read_link(made.path()).is_ok_and(|theirs| theirs == ours) {
            if made.holder.try_wait().is_ok_and(|ended| ended.is_some()) || begun.elapsed().as_secs() > 60 {
                return Err("unshare --net makes no network namespace".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        if read_link(made.path()).is_err() {
            return Err("unshare --net makes no network namespace".into());
        }
        Ok(made)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// A program that sees this network; it is the process that is started.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([&format!("--net={}", self.path()), "--", program]);
        command
    }

    /// Runs a command of a few words, and says what went wrong.
    pub(crate) fn run(&self, line: &str) -> Result<(), String> {
        let mut words = line.split(' ');
        let output = self.command(words.next().unwrap_or_default()).args(words).output();
        let output = output.map_err(|error| format!("{line}: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{line}: {}", said.trim())) }
    }

    /// Does something on a thread that sees this network. What it opens stays there.
    pub(crate) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, String> {
        let file = File::open(self.path()).map_err(|error| error.to_string())?;
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                let moved = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
                moved.map_err(|error| format!("setns: {error}"))?;
                Ok(act())
            });
            there.join().expect("no panic")
        })
    }

    /// A veth pair, one end here and one there, both called `eth0` and without an address. Frames are no longer than an
    /// Ethernet's, as on a wire.
    pub(crate) fn join(&self, there: &Self) -> Result<(), String> {
        let (one, other) = ("gso_max_segs 1 type veth", "gso_max_segs 1");
        self.run(&format!("ip link add eth0 {one} peer name eth0 {other} netns {}", there.holder.id()))?;
        [self, there].into_iter().try_for_each(|end| end.run("ip link set eth0 up"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
