//! A move whose two ends can be measured one by one: for the test of what the engine takes, and for the bench of the same.
//!
//! Guest memory is a file of the kernel's, so that it is neither on the heap nor in what the system counts as the process's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use whimbrel_core::embed::{Guest as _, GuestRam as _};
use whimbrel_core::layout::{Gpa, PageSize, RamLayout};
use whimbrel_core::machine::DestinationOutcome;
use whimbrel_core::machine::handoff::Right;
use whimbrel_core::machine::message::{Configuration, MigrationId};
use whimbrel_core::policy::presets;
use whimbrel_core::units::{ByteCount, Share};
use whimbrel_engine::destination::{self, DestinationSettings, Incoming, Replica};
use whimbrel_engine::orders::Orders;
use whimbrel_engine::source::{self, Outgoing, SourceSettings};
use whimbrel_engine::stable::{MemoryStore, Role};
use whimbrel_engine::transport::open;
use whimbrel_guest::lab::LabGuest;
use whimbrel_guest::lab::config::{LabConfig, Writer};
use whimbrel_guest::log::SoftwareLog;
use whimbrel_guest::memory::{Backing, GuestMemory};
use whimbrel_wire::hello::Token;
use whimbrel_wire::pages::{Compression, EncoderConfig, Encoding, Encodings};

pub(crate) type Bad = Box<dyn std::error::Error + Send + Sync>;

/// What is moved, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) mib: u64,
    /// Share of memory that holds zeroes.
    pub(crate) zero: f64,
    pub(crate) streams: u16,
    pub(crate) sending: Sending,
}

/// How pages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Raw,
    /// With checksums over all of it, and a digest of memory on both sides.
    Checked,
    Lz4,
    Zstd,
    /// All of it.
    Everything,
}

impl Sending {
    pub(crate) const ALL: [Self; 5] = [Self::Raw, Self::Checked, Self::Lz4, Self::Zstd, Self::Everything];

    fn is_checked(self) -> bool {
        matches!(self, Self::Checked | Self::Everything)
    }

    fn encoder(self) -> EncoderConfig {
        let mut config = EncoderConfig::default();
        let (encodings, compression) = match self {
            Self::Raw | Self::Checked => (Encodings::PLAIN, Compression::Off),
            Self::Lz4 => (Encodings::PLAIN.with(Encoding::Lz4), Compression::Lz4),
            Self::Zstd => (Encodings::PLAIN.with(Encoding::Zstd), Compression::Zstd),
            Self::Everything => (Encodings::available().without(Encoding::Delta), Compression::Adaptive),
        };
        config.encodings = encodings;
        config.compression = compression;
        config.payload_checksums = self.is_checked();
        config
    }
}

impl Case {
    fn layout(self) -> Result<RamLayout, Bad> {
        Ok(RamLayout::contiguous(ByteCount::mib(self.mib), PageSize::Kib4)?)
    }

    /// A guest that writes to an eighth of its memory, at most 64 MiB, so that there are some rounds.
    fn lab(self) -> Result<LabConfig, Bad> {
        let pages = 0..(self.mib << 8 >> 3).min(64 << 8);
        let writer = Writer { pages, rate: 20_000.0, ..Writer::default() };
        let zero_pages = Share::new(self.zero)?;
        Ok(LabConfig { writers: vec![writer], zero_pages, device_rate: 0.0, ..LabConfig::default() })
    }

    /// What the engine may take on a side.
    pub(crate) fn bound(self) -> usize {
        (64 << 20) + (self.mib << 20) as usize / 5000
    }
}

fn token() -> Result<Token, Bad> {
    Ok(Token::new(b"memory")?)
}

/// Waits at this socket and takes the guest. `meanwhile` is everything that the engine does, and gives back what it came to.
pub(crate) fn take<T>(
    case: Case,
    socket: &Path,
    ready: impl FnOnce(),
    meanwhile: impl FnOnce(&mut dyn FnMut() -> Result<(), Bad>) -> Result<T, Bad>,
) -> Result<T, Bad> {
    let layout = case.layout()?;
    let ram = Arc::new(GuestMemory::new(layout, Backing::Memfd)?);
    let mut guest = Some(Box::new(LabGuest::new(Arc::clone(&ram), case.lab()?, None)?));
    let listen = open::listener(&address(socket).parse()?, &open::Options::default())?;
    ready();
    let mut listen = Some(Arc::from(listen));
    let mut store = MemoryStore::new(Role::Destination);
    let mut kept = None;
    let done = meanwhile(&mut || {
        let mut host = |_: &Configuration| {
            let ram = Arc::<GuestMemory>::clone(&ram);
            Ok(Replica { ram, guest: guest.take().ok_or("it was taken before")?, fresh: true })
        };
        let listen = listen.take().ok_or("it was listened to before")?;
        let incoming = Incoming { listen, host: &mut host, store: &mut store };
        let settings = DestinationSettings::new(token()?, ByteCount::gib(64));
        let mut received = destination::receive(incoming, settings, &Orders::new(), &mut ())?;
        if received.outcome != Some(DestinationOutcome::Running) {
            return Err(received.why.unwrap_or_default().into());
        }
        received.afterlife.answer(Duration::from_secs(5));
        // The guest goes on until everything was measured.
        kept = received.replica;
        Ok(())
    });
    drop(kept);
    done
}

/// Sends the guest to this socket. `meanwhile` as above.
pub(crate) fn give<T>(
    case: Case,
    socket: &Path,
    meanwhile: impl FnOnce(&mut dyn FnMut() -> Result<(), Bad>) -> Result<T, Bad>,
) -> Result<T, Bad> {
    let layout = case.layout()?;
    let ram = Arc::new(GuestMemory::new(layout.clone(), Backing::Memfd)?);
    let mut log = SoftwareLog::new(&layout);
    let mut guest = LabGuest::new(Arc::clone(&ram), case.lab()?, Some(Arc::clone(log.bitmap())))?;
    guest.fill();
    // Half of each page can be packed.
    let words = vec![0xa5; 2048];
    for page in 0..((case.mib << 8) as f64 * (1.0 - case.zero)) as u64 {
        ram.write(Gpa(page << 12), &words)?;
    }
    guest.resume()?;
    thread::sleep(Duration::from_millis(20));
    let mut store = MemoryStore::new(Role::Source);
    meanwhile(&mut || {
        let connect = open::connector(&address(socket).parse()?, &open::Options::default())?;
        let outgoing = Outgoing {
            name: "memory".to_owned(),
            vcpus: 1,
            ram: Arc::<GuestMemory>::clone(&ram),
            log: &mut log,
            guest: &mut guest,
            policy: presets::build("xen-5", &BTreeMap::new())?,
            connect: Arc::from(connect),
            store: &mut store,
        };
        let mut settings = SourceSettings::new(MigrationId(7), token()?);
        settings.streams = case.streams;
        settings.encoding = case.sending.encoder();
        settings.verify = case.sending.is_checked();
        let sent = source::send(outgoing, settings, &Orders::new(), &mut ())?;
        if sent.right != Right::Theirs {
            return Err(format!("{}: {}", sent.report.outcome, sent.report.why).into());
        }
        Ok(())
    })
}

fn address(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}
