//! All connections of a migration, and an encoder for each that carries pages: made before anything else is done.

use std::num::NonZeroU16;
use std::sync::Arc;

use whimbrel_core::layout::PageSize;
use whimbrel_core::units::ByteCount;
use whimbrel_wire::Limits;
use whimbrel_wire::hello::Role;
use whimbrel_wire::pages::{Encoder, Sharding};

use super::{SourceError, SourceSettings};
use crate::clock::{Clock as _, SystemClock};
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
pub(super) fn heard() -> Limits {
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
    page_size: PageSize,
    clock: SystemClock,
) -> Result<Vec<Encoder>, SourceError> {
    let mut config = settings.encoding.clone();
    config.encodings = config.encodings.common(joined.agreed.encodings);
    config.payload_checksums = joined.agreed.payload_checksums;
    config.sharding = sharding(settings.streams);
    // The cache is what the whole migration may have.
    config.delta_cache.0 /= u64::from(settings.streams);
    let encoder = |stream: &Arc<dyn Stream>| {
        // Where something lies between, it takes copies.
        let mut config = config.clone();
        config.copy |= stream.descriptor().is_none();
        let encoder = Encoder::new(&config, page_size).map_err(SourceError::Encoder)?;
        Ok(encoder.with_clock(Box::new(move || clock.now())))
    };
    joined.pages.iter().map(encoder).collect()
}
