//! Hosts that are brought up to date one after the other: a source of a later release meets a destination of this one.
//!
//! That a source of this release is answered by a later destination with version 1 needs no test of its own: the answer is, byte
//! by byte, that of today.

use std::io::{self, IoSlice};

use whimbrel_core::report::Outcome;
use whimbrel_engine::transport::Stream;
use whimbrel_wire::hello::{self, Capabilities, Direction, Hello, PREFIX_LEN, Versions};

use super::between::{Disturbed, Through};
use super::world::{World, mib};

/// What a later release may know that this one does not.
const UNKNOWN: u64 = 1 << 50;

/// A connection of a source that is a release which speaks these versions.
struct Later {
    inner: Box<dyn Stream>,
    versions: Versions,
}

impl Later {
    /// The same hello, said by the later release; `None` of what is none.
    fn later(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX_LEN>()?;
        (hello::rest(prefix, Direction::FromSource).ok()? == rest.len()).then_some(())?;
        let said = Hello::decode(prefix, rest).ok()?;
        let capabilities = said.capabilities.with(Capabilities::from_bits(UNKNOWN));
        Some(Hello { versions: self.versions, capabilities, ..said }.encode())
    }
}

impl Disturbed for Later {
    fn inner(&self) -> &dyn Stream {
        &*self.inner
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some((hello, said)) = parts.first().and_then(|said| Some((self.later(said)?, said.len()))) else {
            return self.inner.write(parts);
        };
        assert_eq!(self.inner.write(&[IoSlice::new(&hello)])?, hello.len(), "a hello goes whole");
        Ok(said)
    }
}

/// A world whose source speaks these.
fn speaking(oldest: u16, newest: u16) -> World {
    let versions = Versions::new(oldest, newest).expect("versions");
    World::of(mib(4)).streams(2).each_connection(move |_, inner| Box::new(Through(Later { inner, versions })))
}

#[test]
fn a_source_that_speaks_a_later_version_too_moves_its_guest_in_the_common_one() {
    let moved = speaking(1, 2).writing(20_000.0).go();
    assert_eq!(moved.source.report.outcome, Outcome::Completed, "{}", moved.source.report.why);
    moved.check_the_guest_there();
}

#[test]
fn a_source_that_speaks_later_versions_only_keeps_its_guest_and_says_which_the_destination_speaks() {
    let Err(stayed) = speaking(2, 3).attempt(|_, _| {}) else {
        panic!("it moved in a version it does not speak")
    };
    assert!(stayed.why.contains("the destination speaks version 1 of the protocol"), "{}", stayed.why);
    stayed.check_the_guest();
}
