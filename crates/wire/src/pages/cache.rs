//! Pages as they were last sent, so that of the next version only the difference has to go.
//!
//! Owned by the encoder. It must hold exactly what the destination holds: whoever sends a page otherwise than as it is
//! here says so ([`Cache::forget`]), and a frame that is not sent empties it.
//!
//! Direct-mapped and aged as QEMU's `migration/page_cache.c` and the simulator's `codec/cache.rs`: a page has one place, its
//! number among the pages of its connection modulo the places; an entry keeps it against another page for two rounds
//! after it was last used. A page costs its own bytes and [`PLACE_BYTES`]. Memory for pages is taken when they come, and a page for which the
//! system has none is not kept: a guest that is being moved must not die of what only saves bytes.

use std::io;

use whimbrel_core::layout::PageNumber;
use whimbrel_core::units::ByteCount;

use super::sharding::Sharding;

/// For how many rounds an entry is kept against other pages: `CACHED_PAGE_LIFETIME`.
const LIFETIME: u32 = 2;

/// Bytes of pages for which memory is taken at once, as long as a page is not larger.
const CHUNK: usize = 1 << 16;

/// What a page takes beside its bytes.
pub(super) const PLACE_BYTES: u64 = size_of::<Place>() as u64;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    page: PageNumber,
    /// The round in which it was last used, counted from 1; 0 for an empty place.
    age: u32,
}

/// See the module.
pub(super) struct Cache {
    sharding: Sharding,
    page: usize,
    places: Vec<Place>,
    /// Pages of a chunk; a power of two.
    together: usize,
    /// By chunks, each there if a page was put into it.
    content: Vec<Box<[u8]>>,
    age: u32,
}

impl Cache {
    /// As many places as fit into `memory`, rounded down to a power of two.
    ///
    /// # Errors
    ///
    /// If the system has no memory for the list of them.
    pub(super) fn new(memory: ByteCount, page: usize, sharding: Sharding) -> io::Result<Self> {
        let count = (memory.0 / (page as u64 + PLACE_BYTES)).checked_ilog2().map_or(0, |log| 1_usize << log);
        let together = (CHUNK / page.max(1)).clamp(1, count.max(1));
        Ok(Self {
            sharding,
            page,
            places: filled(count, Place::default())?,
            together,
            content: filled(count.div_ceil(together), Box::default())?,
            age: 0,
        })
    }

    /// A round begins: entries grow older.
    pub(super) fn begin_round(&mut self) {
        self.age = self.age.saturating_add(1);
    }

    fn index(&self, page: PageNumber) -> usize {
        (self.sharding.place_of(page) as usize) & self.places.len().wrapping_sub(1)
    }

    /// The page as it was last sent, if it is here; it counts as used. Whoever changes it, sends that.
    pub(super) fn find(&mut self, page: PageNumber) -> Option<&mut [u8]> {
        let index = self.index(page);
        let place = self.places.get_mut(index).filter(|place| place.age > 0 && place.page == page)?;
        place.age = self.age.max(1);
        self.content_mut(index)
    }

    /// The bytes of a place, if there is memory for them.
    fn content_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let first = index % self.together * self.page;
        self.content.get_mut(index / self.together)?.get_mut(first..first + self.page)
    }

    /// `content` goes out as `page`. Kept, unless the place is another's that was used lately.
    pub(super) fn insert(&mut self, page: PageNumber, content: &[u8]) {
        let (index, age) = (self.index(page), self.age.max(1));
        let Some(place) = self.places.get_mut(index) else { return };
        if place.page != page && place.age != 0 && place.age.saturating_add(LIFETIME) > age {
            return;
        }
        if let Some(chunk) = self.content.get_mut(index / self.together).filter(|chunk| chunk.is_empty()) {
            let Ok(memory) = filled(self.together * self.page, 0) else { return };
            *chunk = memory.into_boxed_slice();
        }
        *place = Place { page, age };
        if let Some(kept) = self.content_mut(index) {
            kept.copy_from_slice(content);
        }
    }

    /// `page` goes out, and nobody knows as what.
    pub(super) fn forget(&mut self, page: PageNumber) {
        let index = self.index(page);
        if let Some(place) = self.places.get_mut(index).filter(|place| place.page == page) {
            place.age = 0;
        }
    }

    /// Nothing is known of any page.
    pub(super) fn clear(&mut self) {
        self.places.fill(Place::default());
    }
}

/// So many, if there is memory for them.
fn filled<T: Clone>(count: usize, with: T) -> io::Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
    all.resize(count, with);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cache(places: u64) -> Cache {
        Cache::new(ByteCount(places * (8 + PLACE_BYTES)), 8, Sharding::ONE).expect("memory")
    }

    #[test]
    fn a_page_is_found_as_it_was_put_until_it_is_forgotten() {
        let mut cache = cache(16);
        cache.begin_round();
        assert_eq!(cache.find(PageNumber(3)), None);
        cache.insert(PageNumber(3), &[7; 8]);
        assert_eq!(cache.find(PageNumber(3)).unwrap(), [7; 8]);
        assert_eq!(cache.find(PageNumber(19)), None, "another page of the same place");
        cache.forget(PageNumber(19));
        assert!(cache.find(PageNumber(3)).is_some());
        cache.forget(PageNumber(3));
        assert_eq!(cache.find(PageNumber(3)), None);
    }

    #[test]
    fn a_page_keeps_its_place_for_two_rounds_after_it_was_used() {
        let mut cache = cache(16);
        cache.begin_round();
        cache.insert(PageNumber(3), &[1; 8]);
        cache.begin_round();
        assert!(cache.find(PageNumber(3)).is_some());
        cache.begin_round();
        cache.insert(PageNumber(19), &[2; 8]);
        assert_eq!(cache.find(PageNumber(19)), None);
        cache.begin_round();
        cache.insert(PageNumber(19), &[2; 8]);
        assert!(cache.find(PageNumber(19)).is_some() && cache.find(PageNumber(3)).is_none());
    }

    #[test]
    fn without_memory_for_one_page_nothing_is_kept() {
        let mut cache = Cache::new(ByteCount(7), 8, Sharding::ONE).expect("memory");
        cache.insert(PageNumber(0), &[1; 8]);
        assert_eq!(cache.find(PageNumber(0)), None);
        cache.forget(PageNumber(0));
    }

    #[test]
    fn who_wants_more_than_there_can_be_is_told_and_pages_take_memory_when_they_come() {
        let refused = Cache::new(ByteCount(u64::MAX), 8, Sharding::ONE).err().expect("nobody has so much");
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        // More than any machine has, of pages of which none is ever put in.
        let mut large = Cache::new(ByteCount::gib(1 << 20), 1 << 30, Sharding::ONE).expect("a list of them");
        assert!(large.content.iter().all(|chunk| chunk.is_empty()));
        large.forget(PageNumber(1));
        let mut cache = cache(1 << 16);
        cache.insert(PageNumber(3), &[1; 8]);
        assert_eq!(cache.content.iter().filter(|chunk| !chunk.is_empty()).count(), 1);
    }

    #[test]
    fn a_small_cache_takes_no_more_memory_than_it_may() {
        for places in [1, 2, 8] {
            let memory = ByteCount(places * (4096 + PLACE_BYTES));
            let mut cache = Cache::new(memory, 4096, Sharding::ONE).expect("memory");
            (0..places).for_each(|page| cache.insert(PageNumber(page), &[1; 4096]));
            assert!((0..places).all(|page| cache.find(PageNumber(page)).is_some()));
            let content: usize = cache.content.iter().map(|chunk| chunk.len()).sum();
            assert_eq!(content as u64 + places * PLACE_BYTES, memory.0);
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_put_last(
            steps in prop::collection::vec((0u8..4, 0u64..40, any::<u8>()), 0..200),
        ) {
            let mut cache = cache(8);
            let mut sent = [None; 40];
            for (what, page, value) in steps {
                let (number, known) = (PageNumber(page), &mut sent[page as usize]);
                match what {
                    // What the encoder does for a page: patched where it is found, put where it is not.
                    0 => {
                        if let Some(content) = cache.find(number) {
                            prop_assert_eq!(*known, Some(content[0]));
                            content.fill(value);
                        } else {
                            cache.insert(number, &[value; 8]);
                        }
                        *known = Some(value);
                    }
                    1 => {
                        cache.forget(number);
                        *known = None;
                    }
                    _ => cache.begin_round(),
                }
            }
        }
    }
}
