//! Pages in LZ4's block format. The length of what comes out is known to both sides and stands nowhere in the block.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::decoder::Fault;

/// Compresses; its tables of places are kept, because making one costs as much as a page.
pub(super) struct Lz4 {
    /// For blocks below 64 KiB: half as large, so half as long to clear.
    small: CompressTable,
    large: CompressTable,
}

impl Lz4 {
    pub(super) fn new() -> Self {
        Self { small: CompressTable::small(), large: CompressTable::large() }
    }

    /// What `out` must have room for.
    pub(super) fn room(input: usize) -> usize {
        get_maximum_output_size(input)
    }

    /// Writes the block to the beginning of `out` and gives its length; none without enough room.
    pub(super) fn pack(&mut self, input: &[u8], out: &mut [u8]) -> Option<usize> {
        let table = if input.len() < usize::from(u16::MAX) { &mut self.small } else { &mut self.large };
        compress_into_with_table(input, out, table).ok()
    }
}

/// Fills `out` from `block`, all of it and nothing more.
pub(super) fn unpack(block: &[u8], out: &mut [u8]) -> Result<(), Fault> {
    // Never writes beyond `out`: a block that would is an error.
    let found = decompress_into(block, out).map_err(|error| Fault::Damaged(error.into()))?;
    if found == out.len() { Ok(()) } else { Err(Fault::Short { found, expected: out.len() }) }
}
