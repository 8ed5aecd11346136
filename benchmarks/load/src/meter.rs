//! What is counted while a job runs.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::decode::Decoder;
use crate::histogram::Histogram;
use crate::sse::Parser;
use crate::transport::{Head, Sink};

/// Sums, all from the start of the job.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Requests begun.
    pub(crate) asked: u64,
    /// Clients that wait for a first event, or did: a client that asks again and again is one.
    pub(crate) waiting: u64,
    /// Clients whose first event has come.
    pub(crate) answered: u64,
    /// Connections refused or reset before the response began.
    pub(crate) refused: u64,
    /// Responses with a status other than 200.
    pub(crate) rejected: u64,
    /// Responses that broke off.
    pub(crate) cut: u64,
    /// Responses that came to their end.
    pub(crate) ended: u64,
    /// Requests given up after the timeout.
    pub(crate) timed_out: u64,
    /// Events that do not carry what the job's events carry.
    pub(crate) malformed: u64,
    pub(crate) events: u64,
    /// The bytes of the bodies, once decoded.
    pub(crate) bytes: u64,
    /// The bytes read from the sockets.
    pub(crate) wire_bytes: u64,
}

/// The counters and latencies that all clients of a job share.
pub(crate) struct Meter {
    pub(crate) counters: Counters,
    pub(crate) first_event: Histogram,
    pub(crate) lateness: Histogram,
    pub(crate) latency: Histogram,
    /// The content encoding of the last response.
    pub(crate) encoding: Option<String>,
}

impl Meter {
    pub(crate) fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            counters: Counters::default(),
            first_event: Histogram::new(),
            lateness: Histogram::new(),
            latency: Histogram::new(),
            encoding: None,
        }))
    }

    /// Counts how a response ended, if its connection was made at all.
    pub(crate) fn count_end(&mut self, result: &io::Result<()>, answered: bool) {
        match result {
            Ok(()) => self.counters.ended += 1,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.counters.timed_out += 1,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.counters.rejected += 1,
            Err(_) if answered => self.counters.cut += 1,
            Err(_) => self.counters.refused += 1,
        }
    }
}

/// What the events of a job carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// `Event 0`, `Event 1`, …
    Counter,
    /// The seconds since the epoch at which the event was made.
    Stamp,
    /// Events of any kind.
    Any,
    /// No events: bytes.
    Bytes,
}

/// Takes one response and counts it.
pub(crate) struct Reader {
    meter: Rc<RefCell<Meter>>,
    content: Content,
    started: Instant,
    decoder: Decoder,
    parser: Parser,
    events: u64,
    first_of_client: bool,
    pub(crate) answered: bool,
}

impl Reader {
    /// `started` is the moment before the connection was opened.
    pub(crate) fn new(
        meter: &Rc<RefCell<Meter>>,
        content: Content,
        started: Instant,
        first_of_client: bool,
    ) -> Self {
        let meter = Rc::clone(meter);
        meter.borrow_mut().counters.asked += 1;
        meter.borrow_mut().counters.waiting += u64::from(first_of_client);
        let (decoder, parser) = (Decoder::Identity, Parser::default());
        Self { meter, content, started, decoder, parser, events: 0, first_of_client, answered: false }
    }
}

impl Sink for Reader {
    fn wire(&mut self, length: usize) {
        self.meter.borrow_mut().counters.wire_bytes += length as u64;
    }

    /// A status other than 200 is an error of the kind `PermissionDenied`.
    fn head(&mut self, head: &Head) -> io::Result<()> {
        if head.status != 200 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if let Some(encoding) = head.encoding {
            self.meter.borrow_mut().encoding = Some(String::from_utf8_lossy(encoding).into_owned());
        }
        self.decoder = Decoder::new(head.encoding)?;
        Ok(())
    }

    fn payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        let meter = &mut *self.meter.borrow_mut();
        let (counters, lateness) = (&mut meter.counters, &mut meter.lateness);
        let (content, parser, index) = (self.content, &mut self.parser, &mut self.events);
        let before = *index;
        let now = if content == Content::Stamp { since_epoch() } else { Duration::ZERO };
        self.decoder.feed(bytes, &mut |decoded| {
            counters.bytes += decoded.len() as u64;
            if content == Content::Bytes {
                *index += 1;
                return;
            }
            parser.feed(decoded, |data| {
                match content {
                    Content::Counter if !is_event_number(data, *index) => counters.malformed += 1,
                    Content::Stamp => match parse_stamp(data) {
                        Some(stamp) => lateness.record(now.saturating_sub(stamp)),
                        None => counters.malformed += 1,
                    },
                    _ => {}
                }
                *index += 1;
            });
        })?;
        if content != Content::Bytes {
            counters.events += *index - before;
        }
        if !self.answered && *index > 0 {
            self.answered = true;
            if self.first_of_client {
                counters.answered += 1;
                meter.first_event.record(self.started.elapsed());
            }
        }
        Ok(())
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn is_event_number(data: &[u8], number: u64) -> bool {
    data.strip_prefix(b"Event ").and_then(parse_digits) == Some(number)
}

fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| value * 10 + u64::from(digit))
    })
}

/// Reads `1732300000.123456` to the microsecond.
fn parse_stamp(data: &[u8]) -> Option<Duration> {
    let (seconds, fraction) = match memchr::memchr(b'.', data) {
        Some(point) => (&data[..point], &data[point + 1..]),
        None => (data, &b"0"[..]),
    };
    let mut microseconds = 0;
    for index in 0..6 {
        let digit = fraction.get(index).unwrap_or(&b'0').wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        microseconds = microseconds * 10 + u64::from(digit);
    }
    Some(Duration::from_secs(parse_digits(seconds)?) + Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_to_the_microsecond() {
        assert_eq!(parse_stamp(b"1732300000.1234567"), Some(Duration::from_micros(1_732_300_000_123_456)));
        assert_eq!(parse_stamp(b"12.5"), Some(Duration::from_millis(12_500)));
        assert_eq!(parse_stamp(b"12"), Some(Duration::from_secs(12)));
        assert_eq!(parse_stamp(b"soon"), None);
        assert_eq!(parse_stamp(b""), None);
    }

    #[test]
    fn an_event_out_of_order_is_malformed() {
        let meter = Meter::new();
        let mut reader = Reader::new(&meter, Content::Counter, Instant::now(), true);
        reader.payload(b"data: Event 0\n\ndata: Event 2\n\ndata: Event 2\n\n").expect("identity");
        let counters = meter.borrow().counters;
        assert_eq!((counters.events, counters.malformed, counters.answered), (3, 1, 1));
    }
}
