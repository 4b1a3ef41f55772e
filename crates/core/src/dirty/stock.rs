//! What a backlog can hold its pages in: sets that know every page, or numbers that are expected.

use super::page_set::PageSet;
use crate::units::Pages;

/// A stock of pages. Nothing leaves it but by [`clear`](Self::clear), which an acknowledgement does, and by
/// moving into another.
pub trait Stock: Clone + std::fmt::Debug {
    /// How many pages; to the nearest one, where it is a mean.
    fn count(&self) -> Pages;

    /// Whether it counts none.
    fn is_empty(&self) -> bool {
        self.count() == Pages::ZERO
    }

    /// Forgets all of them.
    fn clear(&mut self);

    /// Moves all of them into `other`; gives how many were not in it.
    fn pour_into(&mut self, other: &mut Self) -> Pages;
}

impl Stock for PageSet {
    #[inline]
    fn count(&self) -> Pages {
        Self::count(self)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    #[inline]
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn pour_into(&mut self, other: &mut Self) -> Pages {
        // The sets of a backlog are over the same page numbers, so this cannot fail.
        self.drain_into(other).unwrap_or_default()
    }
}

/// An expected number of pages: the fluid kind of stock, which does not know which they are.
///
/// Pages that are poured together are taken for different ones: whoever knows better (a harvest, of
/// pages that were pending already) says what the sum is.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Expected(f64);

impl Expected {
    /// So many pages; a number that is negative or none counts as zero.
    #[inline]
    pub fn new(pages: f64) -> Self {
        Self(if pages > 0.0 { pages } else { 0.0 })
    }

    /// How many.
    #[inline]
    pub const fn pages(self) -> f64 {
        self.0
    }

    /// Takes `pages` out of it, at most all; gives how many. What is left counts as none if it is less than
    /// half a page: it is moved too.
    #[inline]
    pub(super) fn split(&mut self, pages: Self) -> Self {
        let left = self.0 - pages.0;
        let taken = if left < 0.5 { self.0 } else { pages.0 };
        self.0 -= taken;
        Self(taken)
    }

    #[inline]
    pub(super) fn add(&mut self, pages: Self) {
        self.0 += pages.0;
    }

    #[inline]
    pub(super) fn max(self, other: Self) -> Self {
        if self.0 > other.0 { self } else { other }
    }
}

impl Stock for Expected {
    #[inline]
    fn count(&self) -> Pages {
        // Never negative, and no guest has 2^53 pages: by way of a signed number it is a single instruction.
        Pages((self.0 + 0.5) as i64 as u64)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        // As it counts.
        self.0 + 0.5 < 1.0
    }

    #[inline]
    fn clear(&mut self) {
        self.0 = 0.0;
    }

    #[inline]
    fn pour_into(&mut self, other: &mut Self) -> Pages {
        let new = self.count();
        other.add(*self);
        self.clear();
        new
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::Backlog;
    use super::*;

    #[test]
    fn what_is_taken_is_in_flight_until_it_is_acknowledged_or_put_back() {
        let mut backlog = Backlog::expecting(Pages(1000));
        assert_eq!(backlog.take(Expected::new(400.4)), Expected::new(400.4));
        assert_eq!((backlog.pending(), backlog.in_flight()), (Pages(600), Pages(400)));
        let gate = backlog.close_gate().unwrap();
        backlog.harvest_to(Expected::new(700.0));
        assert_eq!(backlog.take(Expected::new(1e9)), Expected::new(700.0));
        assert_eq!((backlog.pending(), backlog.in_flight()), (Pages(0), Pages(1100)));
        assert_eq!(backlog.acknowledge(gate).unwrap(), Pages(400));
        assert_eq!(backlog.put_back(), Pages(700));
        assert_eq!((backlog.pending(), backlog.in_flight()), (Pages(700), Pages(0)));
    }

    #[test]
    fn a_harvest_never_makes_a_pending_page_clean() {
        let mut backlog = Backlog::expecting(Pages(1000));
        backlog.harvest_to(Expected::new(10.0));
        assert_eq!(backlog.pending(), Pages(1000));
    }

    #[test]
    fn less_than_half_a_page_is_not_left_behind() {
        let mut backlog = Backlog::expecting(Pages(10));
        assert_eq!(backlog.take(Expected::new(9.6)), Expected::new(10.0));
        assert!(backlog.pending.pages() < f64::MIN_POSITIVE);
        for pages in [0.0, 0.25, 0.5 - f64::EPSILON / 4.0, 0.5, 0.75, 1.0, 7.5] {
            let expected = Expected::new(pages);
            assert_eq!(expected.is_empty(), expected.count() == Pages(0), "{pages}");
        }
        assert_eq!(Expected::new(f64::NAN).pages().to_bits(), 0);
    }
}
