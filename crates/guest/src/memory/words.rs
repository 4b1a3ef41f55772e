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
    store_words(&words[first / 8..][..whole.len()], whole);
    part(first + whole.len() * 8, tail);
}

/// Copies as many words as there are.
fn store_words(words: &[AtomicU64], data: &[[u8; 8]]) {
    let end = words.as_ptr_range().end;
    let each = |word: &AtomicU64, data: &[u8; 8]| word.store(u64::from_ne_bytes(*data), Ordering::Relaxed);
    let ((lines, words), (whole, rest)) = (words.as_chunks::<LINE>(), data.as_chunks::<LINE>());
    for (line, data) in lines.iter().zip(whole) {
        let ahead = line.as_ptr().wrapping_add(CLAIMED_AHEAD);
        // Nothing that is not written: what lies behind may be in use elsewhere.
        if ahead < end {
            claim(ahead);
        }
        line.iter().zip(data).for_each(|(word, data)| each(word, data));
    }
    words.iter().zip(rest).for_each(|(word, data)| each(word, data));
}

/// So many words ahead of who writes lines are asked for: a page of 4 KiB, so that the next one is looked up before it is needed.
const CLAIMED_AHEAD: usize = 512;

/// Asks memory for the line at `address`, which need not be anywhere. Whoever writes a line alone gets it to write, too.
#[inline]
fn claim(address: *const AtomicU64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing for anybody; an address that is not mapped is passed over.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
