//! Running the program in a fresh directory.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A directory that is removed when the test ends.
pub(crate) struct Fresh(PathBuf);

impl Fresh {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a fresh directory");
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).expect("write");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Every file and directory below, sorted; hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        collect(&self.0, "", &mut names);
        names.sort();
        names
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_whimbrel"));
        command.args(args).current_dir(&self.0).stdin(Stdio::null()).env_remove("RAYON_NUM_THREADS");
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ended {
        let output = self.command(args).output().expect("the program starts");
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Runs what must succeed.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let ended = self.run(args);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
        ended.out
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn collect(dir: &Path, before: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("directory") {
        let entry = entry.expect("entry");
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), names);
        }
        names.push(name);
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// What a command said as JSON.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The rows of a table in JSON Lines.
pub(crate) fn rows(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

/// A scenario that takes milliseconds.
pub(crate) const SMALL: &str = "\
[guest]
memory = \"16MiB\"

[[guest.writers]]
working-set = \"8MiB\"
rate = 500

[run]
time-limit = \"20s\"
";

/// A sweep that takes milliseconds.
pub(crate) const SMALL_SWEEP: &str = "\
[guest]
memory = \"16MiB\"

[[guest.writers]]
working-set = \"8MiB\"
rate = 500

[run]
repeat = 3
time-limit = \"20s\"

[sweep]
\"policy.preset\" = [\"qemu-default\", \"xen-5\"]
\"link.bandwidth\" = [\"20Mbit/s\", \"1Gbit/s\"]
\"guest.writers.0.rate\" = { from = 100, to = 100000, steps = 4, scale = \"log\" }
";
