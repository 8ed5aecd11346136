//! Undoes a content encoding, chunk by chunk.

use std::io::{self, Write};

/// The state of one response's content encoding.
pub(crate) enum Decoder {
    Identity,
    Gzip(Box<flate2::write::GzDecoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Vec<u8>>>),
}

impl Decoder {
    /// # Errors
    ///
    /// The encoding is not one that this program asks for.
    pub(crate) fn new(encoding: Option<&[u8]>) -> io::Result<Self> {
        match encoding {
            None | Some(b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip(Box::new(flate2::write::GzDecoder::new(Vec::new())))),
            Some(b"zstd") => Ok(Self::Zstd(Box::new(zstd::stream::write::Decoder::new(Vec::new())?))),
            Some(_) => Err(io::Error::other("an encoding that was not asked for")),
        }
    }

    /// Gives `sink` all that can be decoded with this piece.
    pub(crate) fn feed(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        match self {
            Self::Identity => sink(input),
            Self::Gzip(decoder) => {
                decoder.write_all(input)?;
                decoder.flush()?;
                drain(decoder.get_mut(), sink);
            }
            Self::Zstd(decoder) => {
                decoder.write_all(input)?;
                decoder.flush()?;
                drain(decoder.get_mut(), sink);
            }
        }
        Ok(())
    }
}

fn drain(decoded: &mut Vec<u8>, sink: &mut impl FnMut(&[u8])) {
    sink(decoded);
    decoded.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flush_can_be_read_at_once() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut decoder = Decoder::new(Some(b"gzip")).expect("gzip is known");
        for text in ["data: 1\n\n", "data: 2\n\n"] {
            encoder.write_all(text.as_bytes()).expect("a Vec takes all");
            encoder.flush().expect("a Vec takes all");
            let mut decoded = Vec::new();
            let piece = std::mem::take(encoder.get_mut());
            decoder.feed(&piece, &mut |bytes| decoded.extend_from_slice(bytes)).expect("valid gzip");
            assert_eq!(decoded, text.as_bytes());
        }
    }
}
