//! Which page travels on which connection.
//!
//! Asked by the source's driver as it hands pages out, and by the delta cache, which wants its connection's pages numbered
//! without gaps. A page must never change its connection: its order would be lost.

use std::num::NonZeroU16;

use whimbrel_core::layout::PageNumber;

/// So many neighbouring pages share a connection: a word of a bitmap.
pub const SHARD_PAGES: u64 = 64;

/// Pages dealt to connections, [`SHARD_PAGES`] at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharding {
    streams: NonZeroU16,
}

impl Sharding {
    /// All pages on one connection.
    pub const ONE: Self = Self { streams: NonZeroU16::MIN };

    /// Dealt to so many connections.
    pub const fn new(streams: NonZeroU16) -> Self {
        Self { streams }
    }

    /// The connection of `page`, from 0.
    pub fn stream_of(self, page: PageNumber) -> u16 {
        // Less than the number of streams.
        (page.0 / SHARD_PAGES % u64::from(self.streams.get())) as u16
    }

    /// The number of `page` among those of its connection: without gaps from 0.
    pub(super) fn place_of(self, page: PageNumber) -> u64 {
        page.0 / SHARD_PAGES / u64::from(self.streams.get()) * SHARD_PAGES + page.0 % SHARD_PAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_a_connection_are_numbered_without_gaps() {
        for streams in [1, 2, 3, 7, 64] {
            let sharding = Sharding::new(NonZeroU16::new(streams).unwrap());
            let mut next = vec![0; usize::from(streams)];
            for page in (0..64 * 200).map(PageNumber) {
                let place = &mut next[usize::from(sharding.stream_of(page))];
                assert_eq!(sharding.place_of(page), *place);
                *place += 1;
            }
        }
    }
}
