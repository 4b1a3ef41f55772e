//! All connections of a migration, made before anything else is done.

use std::sync::Arc;

use whimbrel_core::units::ByteCount;
use whimbrel_wire::hello::Role;

use super::SourceSettings;
use crate::hello::{Agreed, HelloError, Introduction, wanted};
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
