//! Bytes in and out of words that others write at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Words that are fetched together.
const LINE: usize = 8;

/// So many words ahead memory is asked for. Processors do that by themselves, but not from one page of 4 KiB to the next, nor do they look up where
/// that one is.
const AHEAD: usize = 256;

/// Asks memory for the line at `address`, which need not be anywhere.
#[inline]
fn prefetch(address: *const AtomicU64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing for anybody; an address that is not mapped is passed over.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Bytes up to the next word, of at most `len`.
fn head(offset: usize, len: usize) -> usize {
    (offset.wrapping_neg() % 8).min(len)
}

/// Copies from `offset` bytes into `words` on. All of it must be there.
pub(crate) fn load(words: &[AtomicU64], offset: usize, out: &mut [u8]) {
    let (head, rest) = out.split_at_mut(head(offset, out.len()));
    let part = |at: usize, out: &mut [u8]| {
        if !out.is_empty() {
            let word = words[at / 8].load(Ordering::Relaxed).to_ne_bytes();
            out.copy_from_slice(&word[at % 8..at % 8 + out.len()]);
        }
    };
    part(offset, head);
    let first = offset + head.len();
    let (whole, tail) = rest.as_chunks_mut::<8>();
    let words = &words[first / 8..];
    let behind = first + whole.len() * 8;
    // Whoever reads little looks only whether to go on.
    let much = whole.len() > LINE;
    for (out, words) in whole.chunks_mut(LINE).zip(words.chunks(LINE)) {
        if much {
            // Of this page or of the next, which is mostly read then.
            prefetch(words.as_ptr().wrapping_add(AHEAD));
        }
        for (out, word) in out.iter_mut().zip(words) {
            *out = word.load(Ordering::Relaxed).to_ne_bytes();
        }
    }
    part(behind, tail);
}

/// Copies to `offset` bytes into `words` on. All of it must be there; neighbouring bytes stay what others make them.
pub(crate) fn store(words: &[AtomicU64], offset: usize, data: &[u8]) {
    let (head, rest) = data.split_at(head(offset, data.len()));
    let part = |at: usize, data: &[u8]| {
        let merge = |word: u64| {
            let mut bytes = word.to_ne_bytes();
            bytes[at % 8..at % 8 + data.len()].copy_from_slice(data);
            u64::from_ne_bytes(bytes)
        };
        if !data.is_empty() {
            words[at / 8].update(Ordering::Relaxed, Ordering::Relaxed, merge);
        }
    };
    part(offset, head);
    let first = offset + head.len();
    let (whole, tail) = rest.as_chunks::<8>();
    for (data, word) in whole.iter().zip(&words[first / 8..]) {
        word.store(u64::from_ne_bytes(*data), Ordering::Relaxed);
    }
    part(first + whole.len() * 8, tail);
}
