//! What an encoder is told before it begins, and as passes over memory begin. Set by whoever runs the source's driver.

use whimbrel_core::units::{ByteCount, Timestamp};

use super::Encodings;
use super::sharding::Sharding;

/// What time it is, for an encoder that is to learn what packing costs.
pub type Clock = Box<dyn FnMut() -> Timestamp + Send>;

/// Which compressor, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// What pays, of the encodings that were agreed on: see [`Encoder::set_bandwidth`](super::Encoder::set_bandwidth).
    #[default]
    Adaptive,
    /// None.
    Off,
    /// Everything that gets shorter by it goes as LZ4.
    Lz4,
    /// Everything that gets shorter by it goes as Zstandard.
    Zstd,
}

/// What an encoder may do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncoderConfig {
    /// Pages full of zeroes are found and sent as such. Default: yes. Without, every page is sent with all its bytes.
    pub zero_detection: bool,
    /// Checksums cover the payloads. Default: no. Every page is then copied.
    pub payload_checksums: bool,
    /// Every payload is copied into the frame, as where it is to be encrypted. Default: no.
    pub copy: bool,
    /// What both sides agreed on. Default: zero and raw.
    pub encodings: Encodings,
    /// Which compressor of these. Default: [`Compression::Adaptive`].
    pub compression: Compression,
    /// The level of Zstandard, from 1 up to 22. Default 1: a link for which more pays is rare.
    pub level: i32,
    /// Memory for pages as they were sent last; a page costs its size and 16 bytes, and the places are a power of two. Default
    /// 0: no deltas. It pays for a guest that changes a few bytes in many pages over a slow link; each page sent after the bulk
    /// round is copied for it.
    pub delta_cache: ByteCount,
    /// Which pages this connection carries: the cache has its places for these. Default: all.
    pub sharding: Sharding,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            zero_detection: true,
            payload_checksums: false,
            copy: false,
            encodings: Encodings::PLAIN,
            compression: Compression::Adaptive,
            level: 1,
            delta_cache: ByteCount(0),
            sharding: Sharding::ONE,
        }
    }
}

/// Which pass over memory begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pass {
    /// Each page for the first time: nothing is known of any, and none is kept.
    #[default]
    Bulk,
    /// Pages that were written since.
    Round,
    /// The same, and no page is sent again afterwards: none is put into the cache.
    Last,
}
