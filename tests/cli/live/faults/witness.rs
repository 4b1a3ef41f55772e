//! Guest memory, seen from outside: whether a guest runs is not taken from what its host says.
//!
//! Both sides keep it in a file of memory, which another process of the user can open and read, also when its owner was killed. From
//! the moment that the source has sent the guest's state, nothing writes either memory but a guest that runs there.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

/// The memory of one side, and what was in it when the guest was paused.
pub(super) struct Memory {
    file: File,
    then: Vec<u8>,
}

impl Memory {
    /// That of the lab guest in this process, as it is now; none if it has none.
    pub(super) fn of(process: u32) -> Option<Self> {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
        let is_memory = |path: &std::path::PathBuf| {
            fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:whimbrel-guest"))
        };
        let path = descriptors.flatten().map(|entry| entry.path()).find(is_memory)?;
        let file = File::open(path).ok()?;
        let then = content(&file);
        Some(Self { file, then })
    }

    /// Whether a guest has run here since.
    pub(super) fn has_changed(&self) -> bool {
        content(&self.file) != self.then
    }
}

fn content(file: &File) -> Vec<u8> {
    let len = file.metadata().map_or(0, |data| data.len());
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).expect("its memory");
    bytes
}
