//! HTTP/1.1 as bytes on a socket, with no more work than a benchmark needs.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;

use memchr::memchr;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::transport::{Head, Sink};

thread_local! {
    /// One buffer for all connections: what has been read is consumed before the next one reads.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; 256 * 1024].into_boxed_slice());
}

/// The bytes of a GET request.
pub(crate) fn request(path: &str, encoding: Option<&str>) -> Vec<u8> {
    let encoding = encoding.map(|name| format!("accept-encoding: {name}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n{encoding}\r\n").into_bytes()
}

/// A client's connection, which carries one response after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    response: Response,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, response: Response::default() }
    }

    /// Asks for the next response.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.response = Response::default();
        self.stream.write_all(request).await
    }

    /// Waits for bytes and gives them to `sink`; true when the response is whole.
    ///
    /// # Errors
    ///
    /// The connection was reset or closed in the middle of the response, or carried something else than HTTP.
    pub(crate) async fn read(&mut self, sink: &mut impl Sink) -> io::Result<bool> {
        poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
                let bytes = buffer.filled();
                if bytes.is_empty() {
                    return self.response.end().map(|()| true).into();
                }
                sink.wire(bytes.len());
                self.response.feed(bytes, sink)?;
                Ok(self.response.is_whole()).into()
            })
        })
        .await
    }
}

/// How far a response has been read.
enum Response {
    /// The bytes of a head that is not whole.
    Head(Vec<u8>),
    /// A body of known length, and what is missing of it.
    Length(u64),
    /// A body that ends with the connection.
    UntilClose,
    /// The size line of a chunk: its value so far, and whether an extension or CR has begun.
    ChunkSize(u64, bool),
    /// The bytes that are missing of a chunk.
    Chunk(u64),
    /// The line break after a chunk.
    ChunkEnd,
    /// The lines after the last chunk, and the length of the current one.
    Trailer(usize),
    Whole,
}

impl Default for Response {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

impl Response {
    fn is_whole(&self) -> bool {
        matches!(self, Self::Whole | Self::Length(0))
    }

    /// The connection has ended.
    fn end(&self) -> io::Result<()> {
        match self {
            Self::UntilClose | Self::Whole | Self::Length(0) => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn feed(&mut self, mut input: &[u8], sink: &mut impl Sink) -> io::Result<()> {
        while !input.is_empty() {
            match self {
                Self::Head(carry) => {
                    if carry.is_empty()
                        && let Some(end) = memmem::find(input, b"\r\n\r\n")
                    {
                        *self = parse_head(&input[..end + 2], sink)?;
                        input = &input[end + 4..];
                    } else {
                        let before = carry.len();
                        carry.extend_from_slice(input);
                        let Some(end) = memmem::find(carry, b"\r\n\r\n") else { return Ok(()) };
                        input = &input[end + 4 - before..];
                        let head = std::mem::take(carry);
                        *self = parse_head(&head[..end + 2], sink)?;
                    }
                }
                Self::Length(missing) | Self::Chunk(missing) => {
                    let here = usize::try_from(*missing).unwrap_or(usize::MAX).min(input.len());
                    sink.payload(&input[..here])?;
                    *missing -= here as u64;
                    input = &input[here..];
                    match self {
                        Self::Length(0) => return Ok(()),
                        Self::Chunk(0) => *self = Self::ChunkEnd,
                        _ => {}
                    }
                }
                Self::UntilClose => {
                    sink.payload(input)?;
                    return Ok(());
                }
                Self::ChunkSize(value, extension) => {
                    let byte = input[0];
                    input = &input[1..];
                    match (byte, &extension) {
                        (b'\n', _) if *value == 0 => *self = Self::Trailer(0),
                        (b'\n', _) => *self = Self::Chunk(*value),
                        (_, true) => {}
                        (b'\r' | b';', _) => *extension = true,
                        (digit, _) => match char::from(digit).to_digit(16) {
                            Some(digit) => *value = *value << 4 | u64::from(digit),
                            None => return Err(io::ErrorKind::InvalidData.into()),
                        },
                    }
                }
                Self::ChunkEnd => {
                    let Some(end) = memchr(b'\n', input) else { return Ok(()) };
                    input = &input[end + 1..];
                    *self = Self::ChunkSize(0, false);
                }
                Self::Trailer(length) => {
                    let byte = input[0];
                    input = &input[1..];
                    match byte {
                        b'\n' if *length == 0 => *self = Self::Whole,
                        b'\n' => *length = 0,
                        b'\r' => {}
                        _ => *length += 1,
                    }
                }
                Self::Whole => return Ok(()),
            }
        }
        Ok(())
    }
}

fn parse_head(head: &[u8], sink: &mut impl Sink) -> io::Result<Response> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let status = head
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or_else(invalid)?;
    let mut body = Response::UntilClose;
    let mut encoding = None;
    let mut rest = &head[memchr(b'\n', head).ok_or_else(invalid)? + 1..];
    while let Some(end) = memchr(b'\n', rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            body = Response::Length(length.ok_or_else(invalid)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            body = Response::ChunkSize(0, false);
        } else if name.eq_ignore_ascii_case(b"content-encoding") {
            encoding = Some(value);
        }
    }
    sink.head(&Head { status, encoding })?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Collected {
        status: u16,
        encoding: Option<Vec<u8>>,
        body: Vec<u8>,
    }

    impl Sink for Collected {
        fn wire(&mut self, _: usize) {}

        fn head(&mut self, head: &Head) -> io::Result<()> {
            self.status = head.status;
            self.encoding = head.encoding.map(<[u8]>::to_vec);
            Ok(())
        }

        fn payload(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.body.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn read(pieces: &[&[u8]]) -> (Collected, Response) {
        let (mut collected, mut response) = (Collected::default(), Response::default());
        for piece in pieces {
            response.feed(piece, &mut collected).expect("valid HTTP");
        }
        (collected, response)
    }

    #[test]
    fn chunks_may_be_cut_anywhere() {
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n\
            5;x=y\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nX-T: 1\r\n\r\n";
        for at in 0..text.len() {
            let (collected, response) = read(&[&text[..at], &text[at..]]);
            assert!(response.is_whole(), "cut at {at}");
            assert_eq!(collected.body, b"helloabcdefghijklmnopqrstuvwxyz");
            assert_eq!((collected.status, collected.encoding.as_deref()), (200, Some(&b"gzip"[..])));
        }
    }

    #[test]
    fn a_length_ends_a_body() {
        let (collected, response) = read(&[b"HTTP/1.1 404 No\r\ncontent-length: 3\r\n\r\nab"]);
        assert!(!response.is_whole() && response.end().is_err());
        assert_eq!((collected.status, collected.body), (404, b"ab".to_vec()));
        assert!(read(&[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).1.is_whole());
    }

    #[test]
    fn a_cut_chunk_is_not_an_end() {
        let (_, response) = read(&[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"]);
        assert!(response.end().is_err());
        assert!(read(&[b"HTTP/1.1 200 OK\r\n\r\nhello"]).1.end().is_ok());
    }
}
