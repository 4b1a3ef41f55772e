//! All connections of a migration, and an encoder for each that carries pages: made before anything else is done.

use std::io;
use std::num::NonZeroU16;
use std::sync::Arc;

use whimbrel_core::layout::RamLayout;
use whimbrel_core::units::ByteCount;
use whimbrel_wire::Limits;
use whimbrel_wire::hello::Role;
use whimbrel_wire::pages::{Encoder, Encoding, Sharding};

use super::{SourceError, SourceSettings};
use crate::clock::SystemClock;
use crate::hello::{Agreed, HelloError, Introduction, wanted};
use crate::link::without_state;
use crate::transport::{Connect, Stream};

/// They are all there.
pub(super) struct Joined {
    pub(super) control: Arc<dyn Stream>,
    pub(super) pages: Vec<Arc<dyn Stream>>,
    pub(super) agreed: Agreed,
}

/// What this source says of itself.
pub(super) fn introduction(settings: &SourceSettings, memory: ByteCount) -> Introduction {
    Introduction {
        id: settings.id,
        token: settings.token.clone(),
        memory,
        capabilities: wanted(&settings.encoding, settings.verify),
    }
}

/// Makes them.
pub(super) fn all(
    connect: &dyn Connect,
    settings: &SourceSettings,
    introduction: &Introduction,
) -> Result<Joined, HelloError> {
    let role = Role::Control { streams: settings.streams };
    let (control, agreed) = introduction.connect(connect, role, settings.patience)?;
    let mut pages = Vec::new();
    for stream in 0..settings.streams {
        let (stream, _) = introduction.connect(connect, Role::Pages { stream }, settings.patience)?;
        pages.push(Arc::from(stream));
    }
    Ok(Joined { control: Arc::from(control), pages, agreed })
}

/// What a source takes of a destination, which has no state to send.
pub(super) fn we_take() -> Limits {
    without_state(Limits::default())
}

/// Which pages go by which stream.
pub(super) fn sharding(streams: u16) -> Sharding {
    NonZeroU16::new(streams).map_or(Sharding::ONE, Sharding::new)
}

/// An encoder for each page stream, as was agreed on.
pub(super) fn encoders(
    settings: &SourceSettings,
    joined: &Joined,
    layout: &RamLayout,
    clock: SystemClock,
) -> Result<Vec<Encoder>, SourceError> {
    let mut config = settings.encoding.clone();
    config.encodings = config.encodings.common(joined.agreed.encodings);
    config.payload_checksums = joined.agreed.payload_checksums;
    config.sharding = sharding(settings.streams);
    if config.encodings.contains(Encoding::Delta) {
        // The cache is what the whole migration may have.
        let whole = cache(config.delta_cache, layout, available()).map_err(SourceError::Encoder)?;
        config.delta_cache = ByteCount(whole.0 / u64::from(settings.streams));
    }
    let encoder = |stream: &Arc<dyn Stream>| {
        // Where something lies between, it takes copies.
        let mut config = config.clone();
        config.copy |= stream.descriptor().is_none();
        let encoder = Encoder::new(&config, layout.page_size()).map_err(SourceError::Encoder)?;
        Ok(encoder.with_clock(Box::new(move || clock.worked())))
    };
    joined.pages.iter().map(encoder).collect()
}

/// What a place takes beside its page, at most.
const PLACE: u64 = 64;

/// Memory that the machine could give, as far as that is known.
fn available() -> Option<ByteCount> {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    return whimbrel_guest::memory::available();
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    None
}

/// How much memory the cache of a guest may take of what is `free`: it is taken when pages come, and a process that takes more than there is
/// ends with its guest.
fn cache(wanted: ByteCount, layout: &RamLayout, free: Option<ByteCount>) -> io::Result<ByteCount> {
    let all = ByteCount(layout.bytes().0.saturating_add(layout.pages().0.saturating_mul(PLACE)));
    // No page is in it twice.
    let most = wanted.min(all);
    match free.filter(|free| most > *free) {
        Some(free) => {
            let (wanted, free) = (most.human(), free.human());
            let what =
                format!("the cache for differences would take {wanted}, and {free} of memory are free");
            Err(io::Error::new(io::ErrorKind::OutOfMemory, what))
        }
        // Places are a power of two, of which half may stay empty.
        None => Ok(wanted.min(ByteCount(all.0.saturating_mul(2)))),
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_core::layout::PageSize;

    use super::*;

    #[test]
    fn a_cache_is_no_larger_than_its_guest_and_than_what_is_free() {
        let guest = RamLayout::contiguous(ByteCount::mib(64), PageSize::Kib4).expect("a layout");
        let cached = |wanted, free| cache(wanted, &guest, free).map_err(|error| error.to_string());
        let huge = ByteCount::gib(100 << 10);
        assert_eq!(cached(ByteCount::mib(16), None), Ok(ByteCount::mib(16)));
        assert_eq!(cached(huge, None), Ok(ByteCount::mib(130)));
        assert_eq!(cached(huge, Some(ByteCount::gib(1))), Ok(ByteCount::mib(130)));
        assert_eq!(cached(ByteCount::mib(16), Some(ByteCount::mib(32))), Ok(ByteCount::mib(16)));
        let refused = cached(huge, Some(ByteCount::mib(32))).expect_err("more than is free");
        assert!(refused.contains("would take 65.0 MiB, and 32.0 MiB of memory are free"), "{refused}");
    }
}
