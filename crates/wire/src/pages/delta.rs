//! The difference of a page to the version before: *gap, length, bytes*, as QEMU's `migration/xbzrle.c` has it.
//!
//! Encoded from two copies that nobody else writes; decoded into guest memory itself, which holds the version before.
//! A decoder must never write outside the pages of its entry, whatever the numbers say.

use super::decoder::Fault;

/// Bytes that a length of up to 2²¹ takes, and a little more: LEB128 has seven bits a byte.
const LONGEST: usize = 5;

/// Appends the difference of `new` to `old`, which are equally long, to `out`, `gap` bytes after the last that was changed. Gives
/// the bytes written and the gap at the end; none if they do not fit, and what is in `out` is then of no use.
pub(super) fn encode(old: &[u8], new: &[u8], mut gap: usize, out: &mut [u8]) -> Option<(usize, usize)> {
    let (mut at, mut written) = (0, 0);
    loop {
        let same = equal(old.get(at..)?, new.get(at..)?);
        (gap, at) = (gap + same, at + same);
        if at == new.len() {
            return Some((written, gap));
        }
        let differ = different(&old[at..], &new[at..]);
        let bytes = &new[at..at + differ];
        written += put(gap, out.get_mut(written..)?)?;
        written += put(differ, out.get_mut(written..)?)?;
        out.get_mut(written..written + differ)?.copy_from_slice(bytes);
        (written, at, gap) = (written + differ, at + differ, 0);
    }
}

/// How many bytes at the beginning are equal.
fn equal(old: &[u8], new: &[u8]) -> usize {
    let (blocks, _) = old.as_chunks::<64>();
    let (others, _) = new.as_chunks::<64>();
    // A comparison of 64 bytes is a few vector instructions: most of a page is as it was.
    let whole = blocks.iter().zip(others).take_while(|(old, new)| old == new).count() * 64;
    let (old, new) = (&old[whole..], &new[whole..]);
    let (words, rest) = old.as_chunks::<8>();
    let (others, other_rest) = new.as_chunks::<8>();
    for (index, (old, new)) in words.iter().zip(others).enumerate() {
        let differ = u64::from_le_bytes(*old) ^ u64::from_le_bytes(*new);
        if differ != 0 {
            return whole + index * 8 + differ.trailing_zeros() as usize / 8;
        }
    }
    whole + words.len() * 8 + rest.iter().zip(other_rest).take_while(|(old, new)| old == new).count()
}

/// How many bytes at the beginning are all different.
fn different(old: &[u8], new: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = old.as_chunks::<8>();
    let (others, other_rest) = new.as_chunks::<8>();
    for (index, (old, new)) in words.iter().zip(others).enumerate() {
        let differ = u64::from_le_bytes(*old) ^ u64::from_le_bytes(*new);
        // The lowest bit set is the top bit of the lowest byte that is zero (Warren, Hacker's Delight, 6-1).
        let zero = differ.wrapping_sub(ONES) & !differ & (ONES << 7);
        if zero != 0 {
            return index * 8 + zero.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + rest.iter().zip(other_rest).take_while(|(old, new)| old != new).count()
}

/// Writes `value` in LEB128.
fn put(mut value: usize, out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        *out.get_mut(at)? = if value == 0 { low } else { low | 0x80 };
        at += 1;
        if value == 0 {
            return Some(at);
        }
    }
}

/// Reads a number in LEB128.
fn take(bytes: &[u8]) -> Result<(usize, &[u8]), Fault> {
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(LONGEST) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[index + 1..]));
        }
    }
    Err(Fault::Number)
}

/// Gives `write` each change of `len` bytes of pages: where, and what is there now.
///
/// # Errors
///
/// A [`Fault`] if `delta` is not the difference of so many bytes; changes before the fault were given. Otherwise that of
/// `write`.
pub(super) fn decode<E: From<Fault>>(
    mut delta: &[u8],
    len: usize,
    mut write: impl FnMut(usize, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = 0_usize;
    while !delta.is_empty() {
        let (gap, rest) = take(delta)?;
        let (count, rest) = take(rest)?;
        let end = at.saturating_add(gap).saturating_add(count);
        if count == 0 || end > len {
            return Err(Fault::Outside { end, len }.into());
        }
        let (bytes, rest) =
            rest.split_at_checked(count).ok_or(Fault::CutOff { needed: count, found: rest.len() })?;
        write(at + gap, bytes)?;
        (at, delta) = (end, rest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(old: &[u8], new: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 3 * new.len() + 16];
        let (written, _) = encode(old, new, 0, &mut out).unwrap();
        out.truncate(written);
        out
    }

    fn patched(old: &[u8], delta: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut page = old.to_vec();
        decode(delta, old.len(), |at, bytes| {
            page[at..at + bytes.len()].copy_from_slice(bytes);
            Ok::<(), Fault>(())
        })?;
        Ok(page)
    }

    /// The length as the simulator's tests count it (`codec/delta.rs`, after `migration/xbzrle.c`).
    fn length_in_the_simulator(old: &[u8], new: &[u8]) -> usize {
        let changed: Vec<bool> = old.iter().zip(new).map(|(old, new)| old != new).collect();
        let (mut at, mut length) = (0, 0);
        let size = |value: usize| if value < 128 { 1 } else { 2 };
        while at < changed.len() {
            let gap = changed[at..].iter().take_while(|changed| !**changed).count();
            if at + gap == changed.len() {
                break;
            }
            let run = changed[at + gap..].iter().take_while(|changed| **changed).count();
            length += size(gap) + size(run) + run;
            at += gap + run;
        }
        length
    }

    #[test]
    fn one_byte_is_three_and_its_place() {
        let (old, mut new) = (vec![0; 4096], vec![0; 4096]);
        assert_eq!(encoded(&old, &new), []);
        new[5] = 9;
        assert_eq!(encoded(&old, &new), [5, 1, 9]);
        new[5] = 0;
        new[4095] = 9;
        assert_eq!(encoded(&old, &new), [0xff, 0x1f, 1, 9]);
    }

    #[test]
    fn the_gap_goes_on_into_the_next_page() {
        let old = vec![0; 8192];
        let mut new = old.clone();
        (new[10], new[5000]) = (1, 2);
        let mut out = vec![0; 100];
        let (first, gap) = encode(&old[..4096], &new[..4096], 0, &mut out).unwrap();
        let (second, _) = encode(&old[4096..], &new[4096..], gap, &mut out[first..]).unwrap();
        assert_eq!(out[..first + second], encoded(&old, &new));
    }

    #[test]
    fn a_delta_that_does_not_fit_is_none() {
        let (old, new) = (vec![0; 4096], vec![1; 4096]);
        assert_eq!(encode(&old, &new, 0, &mut vec![0; 4096]), None);
        assert_eq!(encode(&old, &new, 0, &mut vec![0; 4099]), Some((4099, 0)));
    }

    #[test]
    fn numbers_that_lead_outside_are_refused_and_so_is_a_change_of_nothing() {
        let page = vec![0; 4096];
        for (delta, fault) in [
            (&[0xff, 0x1f, 2, 1, 1][..], "change up to byte 4097"),
            (&[0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1], "change up to byte"),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 1], "no number"),
            (&[0xff], "no number"),
            (&[3], "no number"),
            (&[3, 0], "change up to byte 3"),
            (&[3, 2, 1], "2 bytes"),
        ] {
            let found = patched(&page, delta).unwrap_err().to_string();
            assert!(found.contains(fault), "{delta:?}: {found}");
        }
    }

    proptest! {
        #[test]
        fn a_patched_page_is_the_new_one_and_as_long_as_simulated(
            old in prop::collection::vec(0u8..3, 512..=512),
            writes in prop::collection::vec((0usize..512, prop::collection::vec(0u8..3, 1..80)), 0..20),
        ) {
            let mut new = old.clone();
            for (at, bytes) in writes {
                let end = (at + bytes.len()).min(512);
                new[at..end].copy_from_slice(&bytes[..end - at]);
            }
            let delta = encoded(&old, &new);
            prop_assert_eq!(delta.len(), length_in_the_simulator(&old, &new));
            prop_assert_eq!(patched(&old, &delta).unwrap(), new);
        }

        #[test]
        fn any_bytes_are_a_delta_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = patched(&[0; 4096], &bytes);
        }
    }
}
