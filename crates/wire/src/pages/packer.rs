//! The compressors of this build behind one name, so that nothing else asks for features.
// Without one of them there is less to do here than the signatures say.
#![cfg_attr(
    not(all(feature = "lz4", feature = "zstd")),
    allow(clippy::unnecessary_wraps, clippy::unused_self)
)]

use std::io;

use super::decoder::Fault;
use super::{Encoding, Encodings};

/// Compresses for one connection.
pub(super) struct Packer {
    #[cfg(feature = "lz4")]
    lz4: super::lz4::Lz4,
    #[cfg(feature = "zstd")]
    zstd: Option<super::zstd::Zstd>,
}

impl Packer {
    /// Prepares what `encodings` needs.
    pub(super) fn new(encodings: Encodings, level: i32) -> io::Result<Self> {
        let _ = (encodings, level);
        Ok(Self {
            #[cfg(feature = "lz4")]
            lz4: super::lz4::Lz4::new(),
            #[cfg(feature = "zstd")]
            zstd: if encodings.contains(Encoding::Zstd) {
                Some(super::zstd::Zstd::new(level)?)
            } else {
                None
            },
        })
    }

    /// How much room [`Packer::pack`] wants for so many bytes.
    pub(super) fn room(input: usize) -> usize {
        #[cfg(feature = "lz4")]
        return super::lz4::Lz4::room(input);
        #[cfg(not(feature = "lz4"))]
        input
    }

    /// Compresses `input` to the beginning of `out` and gives the length; none if it does not fit or this build cannot.
    pub(super) fn pack(&mut self, encoding: Encoding, input: &[u8], out: &mut [u8]) -> Option<usize> {
        match encoding {
            #[cfg(feature = "lz4")]
            Encoding::Lz4 => self.lz4.pack(input, out),
            #[cfg(feature = "zstd")]
            Encoding::Zstd => self.zstd.as_mut()?.pack(input, out),
            _ => {
                let _ = (input, out);
                None
            }
        }
    }
}

/// Decompresses for one connection.
#[derive(Default)]
pub(super) struct Unpacker {
    /// Made when the first frame comes.
    #[cfg(feature = "zstd")]
    zstd: Option<super::zstd::Unzstd>,
}

impl Unpacker {
    /// Fills `out`, all of it and nothing more.
    pub(super) fn unpack(&mut self, encoding: Encoding, payload: &[u8], out: &mut [u8]) -> Result<(), Fault> {
        match encoding {
            #[cfg(feature = "lz4")]
            Encoding::Lz4 => super::lz4::unpack(payload, out),
            #[cfg(feature = "zstd")]
            Encoding::Zstd => match &mut self.zstd {
                Some(zstd) => zstd.unpack(payload, out),
                none => none
                    .insert(super::zstd::Unzstd::new().map_err(|error| Fault::Damaged(error.into()))?)
                    .unpack(payload, out),
            },
            _ => {
                let _ = (payload, out);
                Err(Fault::NotHere)
            }
        }
    }
}
