//! Two processes at once, and what they say while they run.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::run::{Ended, Fresh};

/// Longer than anything takes here, on a machine that has much else to do.
const LONG: Duration = Duration::from_mins(2);

/// A command that runs. Dropped, it is ended.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    out: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(fresh: &Fresh, args: &[&str]) -> Self {
        Self::start_as(fresh.command(args))
    }

    /// The same, by a command that ends up as the program.
    pub(crate) fn start_as(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let (tell, lines) = channel();
        let err = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || err.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut stdout = child.stdout.take().expect("piped");
        let out = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("UTF-8");
            text
        });
        Self { child, lines, said: Vec::new(), out: Some(out) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first line on standard error that has these words; waits for it.
    pub(crate) fn line_with(&mut self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some(line) = self.said.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            match self.lines.recv_timeout(LONG.saturating_sub(begun.elapsed())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no `{words}`: {:#?}", self.said)
                }
            }
        }
    }

    /// The control socket that it says that it has.
    pub(crate) fn control(&mut self) -> String {
        let line = self.line_with(", control ");
        line.split_once(", control ").expect("its path").1.to_owned()
    }

    /// Whether a line with these words has come by now.
    pub(crate) fn has_said(&mut self, words: &str) -> bool {
        self.said.extend(self.lines.try_iter());
        self.said.iter().any(|line| line.contains(words))
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    /// Returns when nothing of it is left.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("its end");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("its state") {
                Some(status) => break status,
                None if begun.elapsed() > LONG => panic!("it does not end: {:#?}", self.said),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.said.extend(self.lines.iter());
        let out = self.out.take().expect("once").join().expect("read");
        Ended { code: status.code(), out, err: self.said.join("\n") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A destination for the guest of `guest.toml`, with a store in this directory.
pub(crate) fn receive(fresh: &Fresh, more: &[&str]) -> Receive {
    receive_as(fresh.command(&receiving(more)))
}

/// The arguments of such a destination.
pub(crate) fn receiving<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["receive", "--guest", "guest.toml", "--store", "store"], more].concat()
}

/// The same, by a command that ends up as the program.
pub(crate) fn receive_as(command: Command) -> Receive {
    let mut running = Running::start_as(command);
    let listening = running.line_with("listening at ");
    let address = listening.trim_start_matches("listening at ").split_once(", control ").expect("two").0;
    let invitation = running.line_with("to be typed elsewhere: ");
    let token = invitation.rsplit(' ').next().expect("the last").to_owned();
    Receive { running, address: address.to_owned(), token }
}

/// A destination, and how it is reached.
pub(crate) struct Receive {
    pub(crate) running: Running,
    pub(crate) address: String,
    pub(crate) token: String,
}

impl Receive {
    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }

    pub(crate) fn line_with(&mut self, words: &str) -> String {
        self.running.line_with(words)
    }

    pub(crate) fn kill(&mut self) {
        self.running.kill();
    }

    pub(crate) fn end(self) -> Ended {
        self.running.end()
    }
}

/// A source that goes to `there`.
pub(crate) fn send(fresh: &Fresh, there: &Receive, more: &[&str]) -> Running {
    send_to(fresh, &there.address, &there.token, more)
}

/// A source that goes to this address.
pub(crate) fn send_to(fresh: &Fresh, to: &str, token: &str, more: &[&str]) -> Running {
    Running::start(fresh, &sending(to, token, more))
}

/// The arguments of such a source.
pub(crate) fn sending<'a>(to: &'a str, token: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let usual = ["send", "--guest", "guest.toml", "--store", "store", "--to", to, "--token", token];
    let warm: &[&str] = if more.contains(&"--warm-up") { &[] } else { &["--warm-up", "20ms"] };
    [&usual[..], warm, more].concat()
}
