//! Bytes in and out of words that others write at the same time.

#[cfg(all(target_arch = "x86_64", not(miri)))]
use std::arch::asm;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words that are copied together: a line of the cache.
const LINE: usize = 8;

/// So many bytes ahead memory is asked for. Processors do that by themselves, but not from one page of 4 KiB to the next, nor do
/// they look up where that one is.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const AHEAD: usize = 4096;

/// Copies whole lines and gives how many words they have. The compiler does not put atomic words together; here they go by two,
/// and nobody may count on a word that arrives whole: of 16 bytes at once no processor promises that.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn load_lines(words: &[AtomicU64], out: &mut [[u8; 8]]) -> usize {
    let count = words.len().min(out.len()) / LINE * LINE;
    if count == 0 {
        return 0;
    }
    // SAFETY: `count` words are read from `words` and written to `out`, both of which have them; for others who write to `words`
    // it is as if each byte were loaded by itself. What is asked for ahead may be mapped or not: it is a hint. Any x86-64 knows these instructions.
    unsafe {
        asm!(
            "2:",
            "prefetcht1 [{from} + {ahead}]",
            "movdqu {a}, [{from}]",
            "movdqu {b}, [{from} + 16]",
            "movdqu {c}, [{from} + 32]",
            "movdqu {d}, [{from} + 48]",
            "movdqu [{to}], {a}",
            "movdqu [{to} + 16], {b}",
            "movdqu [{to} + 32], {c}",
            "movdqu [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {left}, 8",
            "jnz 2b",
            ahead = const AHEAD,
            from = inout(reg) words.as_ptr() => _,
            to = inout(reg) out.as_mut_ptr() => _,
            left = inout(reg) count => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
    count
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn load_lines(_words: &[AtomicU64], _out: &mut [[u8; 8]]) -> usize {
    0
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
    // Whoever reads little looks only whether to go on: nothing is asked for ahead.
    let done = if whole.len() > LINE { load_lines(words, whole) } else { 0 };
    for (out, word) in whole.iter_mut().zip(words).skip(done) {
        *out = word.load(Ordering::Relaxed).to_ne_bytes();
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

/// Asks for the line at `address`, which need not be mapped, ahead of the write to it. If no other processor has it, it comes ready to
/// be written.
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
