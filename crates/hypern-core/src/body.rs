//! What hyper polls: whole bytes, a file, or a pipe.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tower_http::services::fs::ServeFileSystemResponseBody;

use crate::compress::{Encoder, Encoding};
use crate::connection::Carrier;
use crate::pipe::{Cut, InFlight, Pipe};
use crate::watch::{Watch, Watched};

/// An error that ends a response before it is complete; hyper then cuts the connection, or resets the stream.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of any response.
pub enum ResponseBody {
    /// All of it is known.
    Whole(Option<Bytes>),
    /// It is read from disk.
    File(Box<FileBody>),
    /// A producer writes it.
    Stream(StreamBody),
    /// It would be a stream, if the request were not HEAD.
    Omitted,
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => formatter.debug_tuple("Whole").field(bytes).finish(),
            Self::File(_) => formatter.write_str("File"),
            Self::Stream(stream) => formatter.debug_tuple("Stream").field(stream).finish(),
            Self::Omitted => formatter.write_str("Omitted"),
        }
    }
}

impl ResponseBody {
    /// No bytes at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::Whole(None)
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for ResponseBody {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(Chunk::Whole(bytes))))),
            Self::File(file) => {
                let piece = ready!(file.poll_piece(context));
                Poll::Ready(piece.map(|piece| Ok(Frame::data(Chunk::Whole(piece?)))))
            }
            Self::Stream(stream) => {
                let chunk = ready!(stream.poll_chunk(context));
                Poll::Ready(chunk.map(|chunk| Ok(Frame::data(Chunk::Streamed(chunk?)))))
            }
            Self::Omitted => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::File(file) => file.is_end_stream(),
            Self::Stream(_) => false,
            Self::Omitted => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::File(file) => file.size_hint(),
            Self::Stream(_) | Self::Omitted => SizeHint::default(),
        }
    }
}

/// A file that is read while it is sent, and encoded on the way.
pub struct FileBody {
    file: ServeFileSystemResponseBody,
    encoder: Option<Encoder>,
    finished: bool,
}

impl FileBody {
    /// The bytes of a file, encoded if `encoding` says so.
    #[must_use]
    pub fn new(file: ServeFileSystemResponseBody, encoding: Option<Encoding>) -> Self {
        Self { file, encoder: encoding.map(Encoder::new), finished: false }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        while !self.finished {
            let piece = match ready!(Pin::new(&mut self.file).poll_frame(context)) {
                Some(Ok(frame)) => self.encode(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.end(),
            };
            if !piece.is_empty() {
                return Poll::Ready(Some(Ok(piece)));
            }
        }
        Poll::Ready(None)
    }

    fn encode(&mut self, piece: Bytes) -> Bytes {
        let Some(encoder) = &mut self.encoder else { return piece };
        let mut encoded = Vec::with_capacity(piece.len() / 2);
        encoder.write_and_flush(&piece, &mut encoded);
        encoded.into()
    }

    fn end(&mut self) -> Bytes {
        self.finished = true;
        let mut trailer = Vec::new();
        if let Some(mut encoder) = self.encoder.take() {
            encoder.finish(&mut trailer);
        }
        trailer.into()
    }

    fn is_end_stream(&self) -> bool {
        self.finished || (self.encoder.is_none() && self.file.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.encoder.is_some() { SizeHint::default() } else { self.file.size_hint() }
    }
}

/// The reading end of a [`Pipe`]. Dropping it is how the producer learns that the client left.
#[derive(Debug)]
pub struct StreamBody {
    pipe: Arc<Pipe>,
    encoder: Option<Encoder>,
    watched: Watched,
}

impl StreamBody {
    /// Begins to read a pipe on behalf of the current task's client, encoded if `encoding` says so.
    #[must_use]
    pub fn new(pipe: Arc<Pipe>, encoding: Option<Encoding>, watch: &Arc<Watch>) -> Self {
        if let Some(carrier) = Carrier::current() {
            carrier.limit_silence(pipe.send_timeout());
            pipe.set_carrier(carrier);
        }
        let watched = watch.add(pipe.clone());
        Self { pipe, encoder: encoding.map(Encoder::new), watched }
    }

    pub(crate) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<InFlight, Cut>>> {
        match ready!(self.pipe.poll_take(context, self.watched.pulse())) {
            Some(Ok(taken)) => Poll::Ready(Some(Ok(self.encode(taken)))),
            Some(Err(cut)) => Poll::Ready(Some(Err(cut))),
            None => Poll::Ready(self.trailer().map(Ok)),
        }
    }

    /// One flush for each drained buffer: what was written leaves at once, in as few compressed blocks as can be.
    fn encode(&mut self, taken: InFlight) -> InFlight {
        let Some(encoder) = &mut self.encoder else { return taken };
        let mut encoded = Vec::with_capacity(taken.remaining() / 2);
        encoder.write_and_flush(taken.chunk(), &mut encoded);
        self.pipe.in_flight(encoded)
    }

    fn trailer(&mut self) -> Option<InFlight> {
        let mut trailer = Vec::new();
        self.encoder.take()?.finish(&mut trailer);
        (!trailer.is_empty()).then(|| self.pipe.in_flight(trailer))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

/// Bytes of a body on their way to the socket.
#[derive(Debug)]
pub enum Chunk {
    /// Of a body that was known whole, or of a file.
    Whole(Bytes),
    /// Of a stream, where they are counted.
    Streamed(InFlight),
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.remaining(),
            Self::Streamed(chunk) => chunk.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes.chunk(),
            Self::Streamed(chunk) => chunk.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Whole(bytes) => bytes.advance(count),
            Self::Streamed(chunk) => chunk.advance(count),
        }
    }
}
