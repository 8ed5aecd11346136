//! The `text/event-stream` wire format (WHATWG HTML, section 9.2 "Server-sent events"), and only here.
//!
//! A field ends at `\r\n`, `\r` or `\n` and at nothing else: U+2028 or a vertical tab inside data is data. Whatever
//! goes in as id, event or data therefore comes out of a conforming parser as it was, line breaks in data read back
//! as `\n`, and can never begin a field, a comment or an event of its own.

use std::fmt;

use memchr::{memchr, memchr2};

/// Below this many bytes a plain loop finds a byte sooner than the vector code of `memchr` is set up. Ids, names and many
/// data are shorter.
const SHORT: usize = 16;

/// What keeps a silent connection open.
///
/// A bare comment line without a blank line of its own: some clients dispatch an empty event at that blank line.
/// It may stand between two events only.
pub const KEEP_ALIVE: &[u8] = b": keepalive\n";

/// What opens a stream whose first item takes too long, so that a browser's `onopen` fires.
pub const OPENING: &[u8] = b": open\n";

/// More than the field names, separators, line ends and a retry of one event take with data of one line.
const OVERHEAD: usize = 64;

/// A field of one line, named in a [`FieldError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The event's id, which a client sends back as `Last-Event-ID`.
    Id,
    /// The event's type, `message` to a client when it is absent.
    Event,
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Id => "id",
            Self::Event => "event",
        })
    }
}

/// Why a value cannot be written in a field of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// A CR or LF, which would end the field and begin another.
    LineBreak(Field),
    /// A NUL in an id: a client ignores the whole id then (WHATWG HTML, 9.2.6).
    Nul,
}

impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineBreak(field) => write!(
                formatter,
                "{field} must not contain a line break (CR or LF): remove it, or send the text as data"
            ),
            Self::Nul => {
                formatter.write_str("id must not contain NUL, because clients ignore such an id: remove it")
            }
        }
    }
}

impl std::error::Error for FieldError {}

/// Checks that a text can be an event's id.
///
/// # Errors
///
/// A CR or LF, or a NUL.
pub fn check_id(id: &str) -> Result<(), FieldError> {
    check_line(id, Field::Id)?;
    let has_nul = if id.len() < SHORT {
        id.as_bytes().contains(&b'\0')
    } else {
        memchr(b'\0', id.as_bytes()).is_some()
    };
    if has_nul { Err(FieldError::Nul) } else { Ok(()) }
}

/// Checks that a text can be an event's type.
///
/// # Errors
///
/// A CR or LF.
pub fn check_event(event: &str) -> Result<(), FieldError> {
    check_line(event, Field::Event)
}

fn check_line(value: &str, field: Field) -> Result<(), FieldError> {
    match find_break(value.as_bytes()) {
        Some(_) => Err(FieldError::LineBreak(field)),
        None => Ok(()),
    }
}

/// Where the first CR or LF is.
#[inline]
fn find_break(text: &[u8]) -> Option<usize> {
    if text.len() < SHORT {
        text.iter().position(|byte| matches!(byte, b'\r' | b'\n'))
    } else {
        memchr2(b'\r', b'\n', text)
    }
}

/// One event, borrowed from wherever its parts live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// Becomes the client's last event id; an empty one resets it. Must pass [`check_id`].
    pub id: Option<&'a str>,
    /// The event's type. Must pass [`check_event`].
    pub event: Option<&'a str>,
    /// The client's new reconnection time, in milliseconds.
    pub retry: Option<u64>,
    /// The payload, of any number of lines; empty data is an event all the same.
    pub data: &'a str,
}

impl Event<'_> {
    /// Appends the event to `out`: id, event, retry, data and a blank line, in that order.
    ///
    /// The caller has checked id and event once, when they came in.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let id = self.id.unwrap_or_default();
        let event = self.event.unwrap_or_default();
        debug_assert!(check_id(id).is_ok() && check_event(event).is_ok(), "unchecked id or event");
        out.reserve(id.len() + event.len() + self.data.len() + OVERHEAD);
        if self.id.is_some() {
            push_line(b"id: ", id.as_bytes(), out);
        }
        if self.event.is_some() {
            push_line(b"event: ", event.as_bytes(), out);
        }
        if let Some(milliseconds) = self.retry {
            push_line(b"retry: ", itoa::Buffer::new().format(milliseconds).as_bytes(), out);
        }
        push_lines(b"data: ", self.data, out);
        out.push(b'\n');
    }
}

/// Appends an event that is data alone, its blank line included.
pub fn encode_data(data: &str, out: &mut Vec<u8>) {
    Event { data, ..Event::default() }.encode(out);
}

/// Appends a comment, which clients skip: every line of `text` behind `": "`, then a blank line.
pub fn encode_comment(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + OVERHEAD);
    push_lines(b": ", text, out);
    out.push(b'\n');
}

/// Appends a new reconnection time in milliseconds, as the first line of whatever event comes next.
///
/// With a blank line of its own browsers would take it just as well, but some clients would dispatch an empty event.
pub fn encode_retry(milliseconds: u64, out: &mut Vec<u8>) {
    push_line(b"retry: ", itoa::Buffer::new().format(milliseconds).as_bytes(), out);
}

#[inline]
fn push_line(prefix: &[u8], line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// Writes every line of `text` behind `prefix`; an empty text is one empty line.
#[inline]
fn push_lines(prefix: &[u8], text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(end) = find_break(rest) {
        push_line(prefix, &rest[..end], out);
        let is_pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(is_pair)..];
    }
    push_line(prefix, rest, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(event: Event<'_>) -> String {
        let mut out = Vec::new();
        event.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_come_in_order_and_data_last() {
        let event = Event { id: Some("7"), event: Some("tick"), retry: Some(3000), data: "x" };
        assert_eq!(encoded(event), "id: 7\nevent: tick\nretry: 3000\ndata: x\n\n");
    }

    #[test]
    fn data_alone_is_one_field() {
        assert_eq!(encoded(Event { data: "x", ..Event::default() }), "data: x\n\n");
        assert_eq!(written(|out| encode_data("x", out)), "data: x\n\n");
    }

    #[test]
    fn empty_data_still_writes_a_line() {
        assert_eq!(encoded(Event::default()), "data: \n\n");
    }

    #[test]
    fn data_splits_on_the_three_line_breaks_alone() {
        assert_eq!(
            written(|out| encode_data("a\nb\rc\r\nd\n\re\u{2028}\u{b}\u{85}", out)),
            "data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: e\u{2028}\u{b}\u{85}\n\n"
        );
        assert_eq!(written(|out| encode_data("a\n", out)), "data: a\ndata: \n\n");
    }

    #[test]
    fn an_empty_id_is_written_because_it_resets_the_client() {
        assert_eq!(encoded(Event { id: Some(""), ..Event::default() }), "id: \ndata: \n\n");
    }

    #[test]
    fn every_line_of_a_comment_is_a_comment() {
        assert_eq!(written(|out| encode_comment("a\rdata: b\r\n\nc", out)), ": a\n: data: b\n: \n: c\n\n");
        assert_eq!(written(|out| encode_comment("", out)), ": \n\n");
    }

    #[test]
    fn a_retry_is_a_block_of_its_own() {
        assert_eq!(written(|out| encode_retry(0, out)), "retry: 0\n");
        assert_eq!(written(|out| encode_retry(u64::MAX, out)), format!("retry: {}\n", u64::MAX));
    }

    #[test]
    fn appending_keeps_what_is_there() {
        let mut out = KEEP_ALIVE.to_vec();
        encode_data("x", &mut out);
        assert_eq!(out, b": keepalive\ndata: x\n\n");
    }

    #[test]
    fn line_breaks_and_nul_are_refused_and_named() {
        assert_eq!(check_id("a\r"), Err(FieldError::LineBreak(Field::Id)));
        assert_eq!(check_id("a\nb"), Err(FieldError::LineBreak(Field::Id)));
        assert_eq!(check_id("a\0"), Err(FieldError::Nul));
        assert_eq!(check_event("\n"), Err(FieldError::LineBreak(Field::Event)));
        assert_eq!(check_id("\u{2028}é"), Ok(()));
        assert_eq!(check_event("a\0b"), Ok(()));
        assert!(
            FieldError::LineBreak(Field::Event)
                .to_string()
                .starts_with("event must not contain a line break")
        );
        assert!(FieldError::Nul.to_string().starts_with("id must not contain NUL"));
    }
}
