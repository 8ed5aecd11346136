//! One body for each job.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

use crate::encoder::Encoder;

/// Events go out in frames of this size when nothing waits for the clock.
const FRAME: usize = 32 * 1024;
/// The download's chunks.
static CHUNK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// What a response sends.
pub(crate) enum Body {
    Whole(Option<&'static str>),
    Burst { next: u64, count: u64, encoder: Encoder, ended: bool },
    Paced { interval: Duration, sleep: Option<Pin<Box<Sleep>>>, encoder: Encoder },
    Idle { begun: bool },
    Download { left: u64 },
}

impl Body {
    pub(crate) fn whole(text: &'static str) -> Self {
        Self::Whole(Some(text))
    }

    pub(crate) fn burst(count: u64, encoder: Encoder) -> Self {
        Self::Burst { next: 0, count, encoder, ended: false }
    }

    pub(crate) fn paced(rate: f64, encoder: Encoder) -> Self {
        Self::Paced { interval: Duration::from_secs_f64(1.0 / rate), sleep: None, encoder }
    }

    pub(crate) fn idle() -> Self {
        Self::Idle { begun: false }
    }

    pub(crate) fn download(size: u64) -> Self {
        Self::Download { left: size }
    }

    fn poll_bytes(&mut self, context: &mut Context) -> Poll<io::Result<Option<Bytes>>> {
        let bytes = match self {
            Self::Whole(text) => text.take().map(|text| Bytes::from_static(text.as_bytes())),
            Self::Burst { next, count, encoder, ended } => burst_frame(next, *count, encoder, ended)?,
            Self::Paced { interval, sleep, encoder } => {
                if let Some(waiting) = sleep {
                    ready!(waiting.as_mut().poll(context));
                }
                *sleep = Some(Box::pin(tokio::time::sleep(*interval)));
                Some(encoder.frame(format!("data: {:.6}\n\n", since_epoch()).into_bytes())?.into())
            }
            Self::Idle { begun: true } => return Poll::Pending,
            Self::Idle { begun } => {
                *begun = true;
                Some(Bytes::from_static(b"data: open\n\n"))
            }
            Self::Download { left } => {
                let length = CHUNK.len().min(usize::try_from(*left).unwrap_or(CHUNK.len()));
                *left -= length as u64;
                (length > 0).then(|| Bytes::from_static(&CHUNK[..length]))
            }
        };
        Poll::Ready(Ok(bytes))
    }
}

fn burst_frame(
    next: &mut u64,
    count: u64,
    encoder: &mut Encoder,
    ended: &mut bool,
) -> io::Result<Option<Bytes>> {
    if *ended {
        return Ok(None);
    }
    if *next == count {
        *ended = true;
        let rest = encoder.finish()?;
        return Ok((!rest.is_empty()).then(|| rest.into()));
    }
    let mut plain = Vec::with_capacity(FRAME + 64);
    while *next < count && plain.len() < FRAME {
        write!(plain, "id: {next}\nevent: counter\ndata: Event {next}\n\n")?;
        *next += 1;
    }
    Ok(Some(encoder.frame(plain)?.into()))
}

fn since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.get_mut()
            .poll_bytes(context)
            .map(|result| result.map(|bytes| bytes.map(Frame::data)).transpose())
    }

    /// Only a whole body has its length announced: the streams of the other servers are chunked too.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => SizeHint::with_exact(text.map_or(0, str::len) as u64),
            _ => SizeHint::default(),
        }
    }
}
