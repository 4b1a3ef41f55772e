//! Bytes in and out of words that others write at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

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
    for (out, word) in whole.iter_mut().zip(&words[first / 8..]) {
        *out = word.load(Ordering::Relaxed).to_ne_bytes();
    }
    part(first + whole.len() * 8, tail);
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
