//! What pages may become before they are sent, as keys of `host`; see `docs/mechanisms.md`.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use whimbrel_core::units::{Bandwidth, ByteCount, Share};

/// 10 GB/s.
const TEN_GIGABYTES: Bandwidth = Bandwidth::from_bytes_per_second(NonZeroU64::new(10_000_000_000).unwrap());
/// 355 MB/s.
const ZSTD: Bandwidth = Bandwidth::from_bytes_per_second(NonZeroU64::new(355_000_000).unwrap());

/// Sending the difference of a page to what was sent before (QEMU's xbzrle).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct XbzrleConfig {
    /// Memory for copies of pages, a power of two and at least a page; none (the default): off. QEMU's own
    /// default is 64MiB.
    pub cache: Option<ByteCount>,
    /// Bytes of pages a second that are compared with their copies and copied, by the sending thread. Default
    /// 10GB/s: measured, 0.4us for a page of 4 KiB (two copies and a comparison by words) on a core of
    /// 2.5 GHz.
    pub speed: Bandwidth,
}

impl Default for XbzrleConfig {
    fn default() -> Self {
        Self { cache: None, speed: TEN_GIGABYTES }
    }
}

/// Compressing pages before they are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct CompressionConfig {
    /// What it is called; a name only. Default `zstd`.
    pub method: String,
    /// What is left of a page that is not zero, as a share of its size; none (the default): not compressed.
    /// 0.37 is that of zstd in QEMU's published run on the Silesia corpus.
    pub ratio: Option<Share>,
    /// Bytes of pages a second that a thread compresses. Default 355MB/s: zstd in the same run, 54 GiB in
    /// 20.165 s at 8.1 CPUs.
    pub speed: Bandwidth,
    /// Threads that compress. Default 8: as in that run.
    pub threads: u32,
}

impl Default for CompressionConfig {
    fn default() -> Self {
        Self { method: "zstd".to_owned(), ratio: None, speed: ZSTD, threads: 8 }
    }
}
