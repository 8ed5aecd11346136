//! gzip and zstd, one flush for each frame.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::HeaderValue;

/// How a stream is compressed.
pub(crate) enum Encoder {
    Identity,
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Encoder {
    /// The benchmark's generator asks for exactly one encoding.
    pub(crate) fn negotiate(accepted: &HeaderValue) -> Self {
        match accepted.as_bytes() {
            b"gzip" => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast()))),
            b"zstd" => zstd_encoder().map_or(Self::Identity, |encoder| Self::Zstd(Box::new(encoder))),
            _ => Self::Identity,
        }
    }

    pub(crate) fn name(&self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip(_) => Some("gzip"),
            Self::Zstd(_) => Some("zstd"),
        }
    }

    /// The frame as it goes out; all that is in it can be decoded at once.
    pub(crate) fn frame(&mut self, plain: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(plain),
            Self::Gzip(encoder) => {
                encoder.write_all(&plain)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&plain)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// What follows the last frame.
    pub(crate) fn finish(&mut self) -> io::Result<Vec<u8>> {
        match std::mem::replace(self, Self::Identity) {
            Self::Identity => Ok(Vec::new()),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Level 1 and a window of 128 KiB: 120 KiB for each stream.
fn zstd_encoder() -> io::Result<zstd::stream::write::Encoder<'static, Vec<u8>>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1)?;
    encoder.window_log(17)?;
    Ok(encoder)
}
