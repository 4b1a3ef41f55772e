//! Connections that take and give what they carry in odd parts, and now and then late: each for itself, so that what two of them carry
//! arrives in any order.

use std::io::{self, IoSlice};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rand_core::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use whimbrel_engine::transport::Stream;

use super::between::Disturbed;

/// Sizes of parts.
const ODD: [usize; 6] = [1, 3, 17, 107, 1_441, 4_099];

/// So many parts of each direction are odd: all of them would take for ever.
const MOST: u64 = 200;

/// One of the source's.
pub(crate) struct Uneven {
    inner: Box<dyn Stream>,
    /// Of what is read, and of what is written; and how often they were thrown.
    dice: [Mutex<(Xoshiro256PlusPlus, u64)>; 2],
}

impl Uneven {
    pub(crate) fn new(inner: Box<dyn Stream>, seed: u64) -> Self {
        let dice = || Mutex::new((Xoshiro256PlusPlus::seed_from_u64(seed), 0));
        Self { inner, dice: [dice(), dice()] }
    }

    /// How much goes in one part, of so much; waits now and then.
    fn part(&self, writing: bool, of: usize) -> usize {
        let mut dice = self.dice[usize::from(writing)].lock().unwrap_or_else(PoisonError::into_inner);
        if dice.1 >= MOST {
            return of;
        }
        dice.1 += 1;
        let thrown = dice.0.next_u64();
        drop(dice);
        if thrown.is_multiple_of(16) {
            thread::sleep(Duration::from_micros(thrown >> 32 & 0xfff));
        }
        // Every other is as large as it was to be.
        if thrown >> 8 & 1 == 0 { of } else { of.min(ODD[(thrown >> 16) as usize % ODD.len()]) }
    }
}

impl Disturbed for Uneven {
    fn inner(&self) -> &dyn Stream {
        &*self.inner
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let part = self.part(false, into.len());
        self.inner.read(&mut into[..part])
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let part = self.part(true, parts.iter().map(|part| part.len()).sum());
        let mut left = part;
        let shortened = parts.iter().map(|part| {
            let len = part.len().min(left);
            left -= len;
            IoSlice::new(&part[..len])
        });
        self.inner.write(&shortened.filter(|part| !part.is_empty()).collect::<Vec<_>>())
    }
}
