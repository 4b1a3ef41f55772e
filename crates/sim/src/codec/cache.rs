//! Which pages the source holds a copy of, as they were last sent.
//!
//! Asked by the codec for every page sent after the bulk round. Direct-mapped, as QEMU's
//! `migration/page_cache.c`: a page has one place, its number modulo the places. An entry keeps its place
//! against another page for two harvests after it was last used; later the other page takes it.
//!
//! Holds when a copy was made, not what is in it: how often the page had been written by then.

use crate::guest::Wear;

/// For how many harvests an entry is kept against other pages: `CACHED_PAGE_LIFETIME`.
const LIFETIME: u32 = 2;

/// A copy of a page. 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Pages are fewer than 2³².
    page: u32,
    /// The harvest in which it was last used, counted from 1; 0 for an empty place.
    age: u32,
    copied: Wear,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    places: Vec<Entry>,
}

impl Cache {
    /// A cache for `places` pages, rounded down to a power of two, of a guest with `pages`: more places than
    /// pages are the same as one for each.
    pub(super) fn new(places: u64, pages: u64) -> Self {
        let useful = places.min(pages.checked_next_power_of_two().unwrap_or(u64::MAX));
        let places = if useful == 0 { 0 } else { 1_usize << useful.ilog2() };
        Self { places: vec![Entry { page: 0, age: 0, copied: Wear::default() }; places] }
    }

    fn place(&mut self, page: u64) -> Option<&mut Entry> {
        let place = (page as usize) & self.places.len().wrapping_sub(1);
        self.places.get_mut(place)
    }

    /// The copy of `page`, if it is there; it counts as used in harvest `age`. The copy is from `now` then.
    pub(super) fn renew(&mut self, page: u64, age: u32, now: Wear) -> Option<Wear> {
        let entry = self.place(page).filter(|entry| entry.age > 0 && u64::from(entry.page) == page)?;
        entry.age = age;
        Some(std::mem::replace(&mut entry.copied, now))
    }

    /// Puts a copy of `page` in, unless its place is another's who was used lately.
    pub(super) fn insert(&mut self, page: u64, age: u32, now: Wear) {
        let Some(entry) = self.place(page) else { return };
        if entry.age == 0 || entry.age.saturating_add(LIFETIME) <= age {
            *entry = Entry { page: page as u32, age, copied: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: Wear = Wear { mean: 0.0, count: 0.0 };

    #[test]
    fn a_page_is_found_where_it_was_put() {
        let mut cache = Cache::new(16, 1000);
        assert_eq!(cache.renew(3, 1, AT), None);
        cache.insert(3, 1, Wear { mean: 1.5, count: 2.0 });
        assert_eq!(cache.renew(3, 1, AT), Some(Wear { mean: 1.5, count: 2.0 }));
        assert_eq!(cache.renew(3, 1, AT), Some(AT));
        assert_eq!(cache.renew(19, 1, AT), None, "another page of the same place");
    }

    #[test]
    fn a_page_keeps_its_place_for_two_harvests_after_it_was_used() {
        let mut cache = Cache::new(16, 1000);
        cache.insert(3, 1, AT);
        cache.renew(3, 2, AT);
        cache.insert(19, 3, AT);
        assert!(cache.renew(19, 3, AT).is_none());
        cache.insert(19, 4, AT);
        assert!(cache.renew(19, 4, AT).is_some() && cache.renew(3, 4, AT).is_none());
    }

    #[test]
    fn a_cache_without_a_place_holds_nothing_and_a_huge_one_takes_no_more_than_the_guest() {
        let mut none = Cache::new(0, 1000);
        none.insert(3, 1, AT);
        assert_eq!(none.renew(3, 1, AT), None);
        assert_eq!(Cache::new(u64::MAX, 1000).places.len(), 1024);
        assert_eq!(Cache::new(1023, 10_000).places.len(), 512);
    }

    /// Misses of `rounds` sweeps over `pages` neighbouring pages.
    fn misses(places: u64, first: u64, pages: u64, rounds: u32) -> u64 {
        let mut cache = Cache::new(places, 1 << 20);
        let mut misses = 0;
        for age in 1..=rounds {
            for page in first..first + pages {
                if cache.renew(page, age, AT).is_none() {
                    misses += 1;
                    cache.insert(page, age, AT);
                }
            }
        }
        misses
    }

    proptest! {
        /// A sweep that fits misses once a page; a bigger cache never misses more, fitting or not.
        #[test]
        fn a_bigger_cache_never_misses_more_in_a_sweep(
            log in 2u32..10, more in 1u32..4, first in 0u64..5000, pages in 1u64..800, rounds in 1u32..12,
        ) {
            let (small, big) = (1u64 << log, 1u64 << (log + more));
            let (in_small, in_big) = (misses(small, first, pages, rounds), misses(big, first, pages, rounds));
            prop_assert!(in_big <= in_small, "{in_big} > {in_small}");
            if pages <= big {
                prop_assert_eq!(in_big, pages);
            }
        }
    }
}
