//! QEMU moves a guest of as much memory, on this machine, between two processes, with one channel.
//!
//! The guest never runs (`-S`): its memory is loaded from a file before anything is measured, and no byte of it is zero. Emulation (TCG)
//! is enough, as nothing is emulated. What counts is what QEMU itself calls the migration's total time. `quit` or, if it does not answer, a kill
//! by its id ends each process.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Bad, Memory, Row, Took};

const PROGRAM: &str = "qemu-system-x86_64";

/// Below it are firmware and what it needs.
const LOADED_AT: u64 = 1 << 20;

/// Longer than any migration here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// QEMU as it is installed here.
pub(super) struct Qemu {
    pub(super) version: String,
}

/// What becomes the guest's memory; removed with the value.
struct Content(PathBuf);

impl Content {
    /// So many bytes without a zero among them, none of which packs well.
    fn new(bytes: u64) -> Result<Self, Bad> {
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let content = Self(folder.join(format!("whimbrel-bench-{}.bin", std::process::id())));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&content.0)?);
        let mut word = 1_u64;
        for _ in 0..bytes / 8 {
            word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            file.write_all(&(word | 0x0101_0101_0101_0101).to_le_bytes())?;
        }
        file.flush()?;
        Ok(content)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Qemu {
    /// None if there is none on this machine.
    pub(super) fn find() -> Option<Self> {
        let output = Command::new(PROGRAM).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().next()?.split(" (").next()?.replace(" emulator version", "");
        Some(Self { version })
    }

    /// Moves a guest of `mib` MiB once.
    pub(super) fn run(mib: u64, row: Row) -> Result<Took, Bad> {
        let content = Content::new((mib << 20) - LOADED_AT)?;
        let mut source = Process::start(mib, Memory::Untouched, |command| {
            let file = content.0.display();
            command.arg("-S").arg("-device");
            command.arg(format!("loader,file={file},addr={LOADED_AT:#x},force-raw=on"));
        })?;
        let mut there = Process::start(mib, row.memory, |command| {
            command.args(["-incoming", "defer"]);
        })?;
        // Both are there, with their memory.
        drop(content);
        let socket = std::env::temp_dir().join(format!("whimbrel-bench-{}.qemu", std::process::id()));
        let at = if row.transport == "tcp" {
            "tcp:127.0.0.1:0".into()
        } else {
            format!("unix:{}", socket.display())
        };
        there.ask("migrate-incoming", &json!({ "uri": at }))?;
        let to = if row.transport == "tcp" {
            let said = there.ask("query-migrate", &json!({}))?;
            let port =
                said["socket-address"][0]["port"].as_str().ok_or("QEMU does not say where it listens")?;
            format!("tcp:127.0.0.1:{port}")
        } else {
            at
        };
        // As much as the wire takes.
        source.ask("migrate-set-parameters", &json!({ "max-bandwidth": 1_u64 << 40 }))?;
        source.ask("migrate", &json!({ "uri": to }))?;
        let took = source.migrated(mib);
        source.quit();
        there.quit();
        let _ = fs::remove_file(&socket);
        let all = took?;
        Ok(Took { all, bulk: all })
    }
}

/// A QEMU and the conversation with it. Dropped, it is ended.
struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Process {
    fn start(mib: u64, memory: Memory, more: impl FnOnce(&mut Command)) -> Result<Self, Bad> {
        let prealloc = if memory == Memory::Prepared { "on" } else { "off" };
        let mut command = Command::new(PROGRAM);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-qmp",
            "stdio",
            "-accel",
            "tcg",
        ]);
        command.args(["-machine", "pc,memory-backend=ram", "-object"]);
        command.arg(format!("memory-backend-ram,id=ram,size={mib}M,prealloc={prealloc}"));
        command.arg("-m").arg(format!("{mib}M"));
        more(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        let mut process = Self { child, to, from: BufReader::new(from) };
        process.line()?;
        process.ask("qmp_capabilities", &json!({}))?;
        Ok(process)
    }

    fn line(&mut self) -> Result<Value, Bad> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err("QEMU has ended".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn ask(&mut self, what: &str, arguments: &Value) -> Result<Value, Bad> {
        writeln!(self.to, "{}", json!({ "execute": what, "arguments": arguments }))?;
        self.to.flush()?;
        loop {
            // What else it says are events.
            let mut said = self.line()?;
            if !said["error"].is_null() {
                return Err(format!("QEMU, {what}: {}", said["error"]["desc"]).into());
            }
            if !said["return"].is_null() {
                return Ok(said["return"].take());
            }
        }
    }

    /// Waits for the end, and sees to it that all memory was really sent.
    fn migrated(&mut self, mib: u64) -> Result<Duration, Bad> {
        let since = Instant::now();
        loop {
            let said = self.ask("query-migrate", &json!({}))?;
            match said["status"].as_str() {
                Some("completed") => {
                    let sent = said["ram"]["normal-bytes"].as_u64().unwrap_or(0);
                    if sent < (mib << 20) - 2 * LOADED_AT {
                        return Err(
                            format!("QEMU sent {sent} bytes of pages, the guest has {mib} MiB").into()
                        );
                    }
                    // It says that it is done a moment before it knows how long it took.
                    match said["total-time"].as_u64() {
                        Some(0) => thread::sleep(Duration::from_millis(1)),
                        Some(total) => return Ok(Duration::from_millis(total)),
                        None => return Err("QEMU does not say how long it took".into()),
                    }
                }
                Some("failed" | "cancelled") => return Err(format!("QEMU: {said}").into()),
                _ if since.elapsed() > PATIENCE => return Err("QEMU takes too long".into()),
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn quit(&mut self) {
        let _ = self.ask("quit", &json!({}));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is a child that was not waited for: the id is still its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
