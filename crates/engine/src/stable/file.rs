//! What a record file holds: two blocks of 4 KiB, and nothing else.
//!
//! | block | bytes | |
//! |---|---|---|
//! | 0 | 8 | `WHIMBREL` |
//! | | 4 | version: 1 |
//! | | 4 | role: 1 source, 2 destination |
//! | | 8 | migration |
//! | | 8 | when it was made, in seconds of the Unix epoch |
//! | | 4 | length of the guest's name |
//! | | | the name, UTF-8; zeroes behind it |
//! | | last 32 | blake3 of all before |
//! | 1 | 8 | `RECORDED` |
//! | | 8 | migration |
//! | | 8 | record: 1 go, 2 running |
//! | | 8 | when it was written, in seconds of the Unix epoch |
//! | | 32 | blake3 of all of the block before |
//! | | | zeroes |
//!
//! Numbers are little-endian. Block 0 is written once, before the file has its name. Block 1 is zeroes until the record is written.
//! That changes its first 64 bytes only, within one sector, which disks write whole or not at all. Should half of it be found
//! all the same, or should it rot, it is taken for *written*: then somebody at least began to write it, and
//! of a write in progress the handoff says that either is safe. To take a record that was acted on for none would not be.
//! Nothing here touches a file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use whimbrel_core::machine::handoff::StableRecord;
use whimbrel_core::machine::message::MigrationId;

use super::Role;

/// A block of the file, as of file systems.
pub(super) const BLOCK: usize = 4096;
/// What is written of block 1.
pub(super) const RECORD: usize = 64;

const MAGIC: &[u8; 8] = b"WHIMBREL";
const RECORDED: &[u8; 8] = b"RECORDED";
const VERSION: u32 = 1;
/// Where the name begins.
const NAME: usize = 36;
const HASH: usize = 32;
/// The longest name of a guest.
const LONGEST: usize = BLOCK - NAME - HASH;

/// Block 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) role: Role,
    pub(super) id: MigrationId,
    pub(super) made: SystemTime,
    pub(super) guest: String,
}

/// What block 1 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing was ever written.
    Nothing,
    /// The record, written then.
    Record(StableRecord, SystemTime),
    /// Half a record, or one that has rotted: to be taken for written.
    Remains,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Saturates at what the system can say.
fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

fn word<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    block.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

const fn role_number(role: Role) -> u32 {
    match role {
        Role::Source => 1,
        Role::Destination => 2,
    }
}

const fn record_number(record: StableRecord) -> u64 {
    match record {
        StableRecord::Go => 1,
        StableRecord::Running => 2,
    }
}

impl Header {
    /// The block. A name that is too long is cut at a character: it is for people.
    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let name = &self.guest.as_bytes()[..self.guest.floor_char_boundary(LONGEST)];
        let parts: [&[u8]; 7] = [
            MAGIC,
            &VERSION.to_le_bytes(),
            &role_number(self.role).to_le_bytes(),
            &self.id.0.to_le_bytes(),
            &seconds(self.made).to_le_bytes(),
            &(name.len() as u32).to_le_bytes(),
            name,
        ];
        let mut at = 0;
        for part in parts {
            block[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let hash = blake3::hash(&block[..BLOCK - HASH]);
        block[BLOCK - HASH..].copy_from_slice(hash.as_bytes());
        block
    }

    /// Reads the block of a file, or says what is wrong with it.
    pub(super) fn decode(block: &[u8; BLOCK]) -> Result<Self, String> {
        if block[..8] != *MAGIC {
            return Err("it does not begin as whimbrel's records do".into());
        }
        let version = u32::from_le_bytes(word(block, 8));
        if version != VERSION {
            return Err(format!("it is of version {version}, this program knows version {VERSION}"));
        }
        if blake3::hash(&block[..BLOCK - HASH]).as_bytes() != &block[BLOCK - HASH..] {
            return Err("its checksum is wrong".into());
        }
        let number = u32::from_le_bytes(word(block, 12));
        let role = Role::ALL.into_iter().find(|&role| role_number(role) == number);
        let role = role.ok_or_else(|| format!("there is no role {number}"))?;
        let len = u32::from_le_bytes(word(block, 32)) as usize;
        let name = block[..BLOCK - HASH].get(NAME..NAME.saturating_add(len));
        let name = name.ok_or_else(|| format!("a name of {len} bytes does not fit"))?;
        let guest = std::str::from_utf8(name).map_err(|_| "its guest's name is no text".to_owned())?;
        Ok(Self {
            role,
            id: MigrationId(u64::from_le_bytes(word(block, 16))),
            made: time(u64::from_le_bytes(word(block, 24))),
            guest: guest.to_owned(),
        })
    }
}

/// What is written of block 1.
pub(super) fn encode_record(id: MigrationId, record: StableRecord, now: SystemTime) -> [u8; RECORD] {
    let mut block = [0; RECORD];
    let parts =
        [*RECORDED, id.0.to_le_bytes(), record_number(record).to_le_bytes(), seconds(now).to_le_bytes()];
    block[..RECORD - HASH].copy_from_slice(&parts.concat());
    let hash = blake3::hash(&block[..RECORD - HASH]);
    block[RECORD - HASH..].copy_from_slice(hash.as_bytes());
    block
}

/// Reads block 1 of the file of this migration.
pub(super) fn decode_record(block: &[u8; BLOCK], id: MigrationId) -> Found {
    if block.iter().all(|&byte| byte == 0) {
        return Found::Nothing;
    }
    let number = u64::from_le_bytes(word(block, 16));
    let record =
        [StableRecord::Go, StableRecord::Running].into_iter().find(|&record| record_number(record) == number);
    let whole = blake3::hash(&block[..RECORD - HASH]).as_bytes() == &block[RECORD - HASH..RECORD]
        && block[..8] == *RECORDED
        && u64::from_le_bytes(word(block, 8)) == id.0;
    match record {
        Some(record) if whole => Found::Record(record, time(u64::from_le_bytes(word(block, 24)))),
        _ => Found::Remains,
    }
}
