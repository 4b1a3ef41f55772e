//! Whether a page is worth a compressor's time, from a few bytes of it.
//!
//! Encrypted, compressed and random content fills a good part of many guests, and costs a compressor the most. Asked before
//! pages are copied, so it reads 256 bytes and no more: eight pieces of 32, evenly over the page.
//!
//! # The test
//!
//! With n bytes of which c(v) have the value v, the pairs of equal bytes are Σ c(v)·(c(v) − 1)/2. Of bytes without any order
//! they are n·(n − 1)/2 · 1/256 in the mean, with the variance (n·(n − 1)/2) · (1/256) · (255/256) (pairs are
//! independent two by two): 127.5 and 11.3² for n = 256. This is the collision form of Rényi's entropy of order 2. A page
//! counts as without order below the mean and four deviations, 172 pairs; the number has a longer tail than a normal one, so
//! 4 of 10,000 such pages are mistaken (60,000 of them, counted). Text, code, tables and anything with a share of zeroes have
//! thousands.
//!
//! It sees values, not repetitions: random bytes that come twice are not found.

use whimbrel_core::embed::{GuestRam, RamError};
use whimbrel_core::layout::Gpa;

const PIECES: usize = 8;
const PIECE: usize = 32;
/// Mean and four deviations.
const PAIRS: u32 = 172;

/// What a few bytes of a page look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sample {
    /// As random as any.
    NoOrder,
    /// Some values come more often.
    Order,
}

/// Samples the `len` bytes of guest memory at `at`.
pub(super) fn of_ram(ram: &dyn GuestRam, at: Gpa, len: usize) -> Result<Sample, RamError> {
    let mut bytes = [0; PIECES * PIECE];
    for (index, piece) in bytes.as_chunks_mut::<PIECE>().0.iter_mut().enumerate() {
        ram.read(Gpa(at.0 + offset(index, len) as u64), piece)?;
    }
    Ok(judge(&bytes))
}

/// Samples a copy of a page.
pub(super) fn of_copy(page: &[u8]) -> Sample {
    let mut bytes = [0; PIECES * PIECE];
    for (index, piece) in bytes.as_chunks_mut::<PIECE>().0.iter_mut().enumerate() {
        let offset = offset(index, page.len());
        if let Some(found) = page.get(offset..offset + PIECE) {
            piece.copy_from_slice(found);
        }
    }
    judge(&bytes)
}

/// Pieces are not all at the beginning of a part: headers are.
fn offset(index: usize, len: usize) -> usize {
    let part = len / PIECES;
    index * part + index * PIECE % (part - PIECE)
}

fn judge(bytes: &[u8; PIECES * PIECE]) -> Sample {
    let mut counts = [0_u16; 256];
    let mut pairs = 0_u32;
    for byte in bytes {
        let count = &mut counts[usize::from(*byte)];
        // So many of this value were here before.
        pairs += u32::from(*count);
        *count += 1;
    }
    if pairs < PAIRS { Sample::NoOrder } else { Sample::Order }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn random_pages_have_no_order_and_text_has() {
        let mistaken =
            (0..2_000).filter(|seed| of_copy(&testing::random(4096, *seed)) == Sample::Order).count();
        assert!(mistaken <= 6, "{mistaken} of 2,000");
        for share in [0, 30, 50, 70] {
            let page = testing::compressible(4096, share, 7);
            assert_eq!(of_copy(&page), Sample::Order, "{share} % random");
        }
        let text = include_bytes!("sample.rs");
        assert_eq!(of_copy(&text[..2048]), Sample::Order);
    }
}
