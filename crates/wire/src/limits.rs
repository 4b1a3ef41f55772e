//! How much is taken from a peer at most.
//!
//! Every number that comes in is held against one of these before it allocates, loops or indexes. Each side has its own;
//! they are not negotiated: a peer that needs more is refused with the number it gave and the limit that it met. A destination
//! tells its own in the [`Welcome`], so that a source finds that out before it sends.

use std::fmt;

use whimbrel_core::layout::PageSize;
use whimbrel_core::units::ByteCount;

use crate::error::WireError;
use crate::hello::{Hello, MOST_REST, MOST_TOKEN, Welcome};

/// The most that is taken from a peer.
///
/// The defaults bound what one connection can make this side allocate to the [control body](Self::control) or the
/// [payload of a batch](Self::payload), besides the replica that [`memory`](Self::memory) bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in the body of a control frame. Default 16 MiB: state of vCPUs and devices is some hundred KiB; more is needed
    /// where a device carries memory of its own, such as a display.
    pub control: ByteCount,
    /// Sections of the guest's state. Default 4096: a vCPU and a device has one each.
    pub sections: u32,
    /// Bytes in one section. Default 16 MiB, as much as a body.
    pub section: ByteCount,
    /// Regions of the guest's memory. Default 1024: machines have a handful, and 509 slots are what older KVMs take.
    pub regions: u32,
    /// Bytes in the guest's name, and in the name of a kind of state. Default 255: what a file system takes.
    pub name: u32,
    /// Bytes of a text for people, such as a reason. Default 1024: some lines.
    pub text: u32,
    /// vCPUs. Default 4096: KVM takes no more on x86-64.
    pub vcpus: u32,
    /// Entries of a page batch. Default 1024: a table of 16 KiB. A batch of whimbrel's own has at most 128.
    pub entries: u16,
    /// Bytes of payload of a page batch. Default 512 KiB: 128 pages of 4 KiB, which keep a fast connection busy, while a
    /// slow one (100 Mbit/s) carries one in 42 ms. Never less than a page, see [`Limits::for_page_size`].
    pub payload: ByteCount,
    /// Guest memory. Default 1 TiB, which no host has to have: a destination lowers it to what it can give.
    pub memory: ByteCount,
    /// Page connections. Default 64, and that is the most that the protocol can have.
    pub streams: u16,
}

impl Limits {
    /// The most page connections that a migration may have, whatever else is set.
    pub const MOST_STREAMS: u16 = 64;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control: ByteCount(16 << 20),
            sections: 4096,
            section: ByteCount(16 << 20),
            regions: 1024,
            name: 255,
            text: 1024,
            vcpus: 4096,
            entries: 1024,
            payload: ByteCount(512 << 10),
            memory: ByteCount(1 << 40),
            streams: Self::MOST_STREAMS,
        }
    }
}

impl Limits {
    /// The same for a guest with pages of this size: a batch may carry one at least.
    #[must_use]
    pub fn for_page_size(self, page_size: PageSize) -> Self {
        Self { payload: self.payload.max(page_size.bytes()), ..self }
    }

    /// The same for a migration that began with this hello: no guest with more memory than announced is taken.
    #[must_use]
    pub fn for_hello(self, hello: &Hello) -> Self {
        Self { memory: self.memory.min(hello.memory), ..self }
    }

    /// The same for a source that was welcomed: nothing is sent that the destination does not take.
    #[must_use]
    pub fn for_welcome(self, welcome: &Welcome) -> Self {
        Self {
            entries: self.entries.min(welcome.entries),
            payload: self.payload.min(ByteCount(welcome.payload.into())),
            control: self.control.min(ByteCount(welcome.control.into())),
            ..self
        }
    }

    /// The limit as a number.
    pub fn most(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Control => self.control.0,
            Limit::Sections => self.sections.into(),
            Limit::Section => self.section.0,
            Limit::Regions => self.regions.into(),
            Limit::Name => self.name.into(),
            Limit::Text => self.text.into(),
            Limit::Vcpus => self.vcpus.into(),
            Limit::Entries => self.entries.into(),
            Limit::Payload => self.payload.0,
            Limit::Memory => self.memory.0,
            Limit::Streams => self.streams.min(Self::MOST_STREAMS).into(),
            Limit::Rest => MOST_REST.into(),
            Limit::Token => MOST_TOKEN as u64,
        }
    }

    /// Holds a number against a limit.
    ///
    /// # Errors
    ///
    /// [`WireError::TooMuch`] if it is more.
    pub fn check(&self, limit: Limit, found: u64) -> Result<(), WireError> {
        let most = self.most(limit);
        if found <= most { Ok(()) } else { Err(WireError::TooMuch { limit, found, most }) }
    }
}

/// One of the [`Limits`], by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Limits::control`].
    Control,
    /// [`Limits::sections`].
    Sections,
    /// [`Limits::section`].
    Section,
    /// [`Limits::regions`].
    Regions,
    /// [`Limits::name`].
    Name,
    /// [`Limits::text`].
    Text,
    /// [`Limits::vcpus`].
    Vcpus,
    /// [`Limits::entries`].
    Entries,
    /// [`Limits::payload`].
    Payload,
    /// [`Limits::memory`].
    Memory,
    /// [`Limits::streams`].
    Streams,
    /// [`hello::MOST_REST`](crate::hello::MOST_REST), for all alike.
    Rest,
    /// [`hello::MOST_TOKEN`](crate::hello::MOST_TOKEN), for all alike.
    Token,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Control,
        Self::Sections,
        Self::Section,
        Self::Regions,
        Self::Name,
        Self::Text,
        Self::Vcpus,
        Self::Entries,
        Self::Payload,
        Self::Memory,
        Self::Streams,
        Self::Rest,
        Self::Token,
    ];
}

impl fmt::Display for Limit {
    /// What is counted, as "bytes of a text".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "bytes in a control frame",
            Self::Sections => "sections of state",
            Self::Section => "bytes in a section of state",
            Self::Regions => "regions of guest memory",
            Self::Name => "bytes in a name",
            Self::Text => "bytes in a text",
            Self::Vcpus => "vCPUs",
            Self::Entries => "entries in a batch of pages",
            Self::Payload => "bytes of payload in a batch of pages",
            Self::Memory => "bytes of guest memory",
            Self::Streams => "page connections",
            Self::Rest => "bytes in a first message",
            Self::Token => "bytes in a token",
        })
    }
}
