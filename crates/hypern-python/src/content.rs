//! What a response carries, and the checks of what a user gives as a stream.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMapping, PyMemoryView, PyString};

use crate::event::SseEvent;
use crate::item::encode_chunk;

/// The body of a response.
#[derive(Debug)]
pub(crate) enum Content {
    /// The handler has not said anything yet.
    Unset,
    /// All of it.
    Bytes(Bytes),
    /// A file on disk.
    File(PathBuf),
    /// Items that are still to be made.
    Stream(Stream),
}

/// A sync or async iterable and how to send it.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The iterable, with `__aiter__` or `__iter__`.
    pub(crate) source: Py<PyAny>,
    /// What its items are.
    pub(crate) kind: Kind,
    /// How long the client may take nothing before it is dropped.
    pub(crate) send_timeout: Option<Duration>,
    /// Called with the exception that ends the stream; what it returns is a last item.
    pub(crate) on_error: Option<Py<PyAny>>,
}

/// What the items of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Events.
    Events {
        /// The silence after which a keep-alive comment is sent.
        ping: Option<Duration>,
        /// The client's reconnection time in milliseconds, sent first.
        retry: Option<u64>,
    },
    /// Bytes.
    Chunks,
}

/// The bytes of a str, bytes, bytearray or memoryview; `None` for anything else.
///
/// # Errors
///
/// `ValueError` for a str with a lone surrogate.
pub(crate) fn whole(value: &Bound<'_, PyAny>) -> PyResult<Option<Bytes>> {
    if !is_text_or_bytes(value) {
        return Ok(None);
    }
    let mut out = Vec::new();
    encode_chunk(value, &mut out)?;
    Ok(Some(Bytes::from(out)))
}

fn is_text_or_bytes(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
        || value.is_instance_of::<PyMemoryView>()
}

/// A body of chunks: a stream, or a whole body where a single chunk was given.
///
/// # Errors
///
/// `TypeError` for anything that cannot be iterated, `ValueError` for a bad timeout.
pub(crate) fn chunks(source: &Bound<'_, PyAny>, send_timeout: Option<f64>) -> PyResult<Content> {
    let send_timeout = seconds("send_timeout", send_timeout)?;
    if let Some(chunk) = whole(source)? {
        return Ok(Content::Bytes(chunk));
    }
    check_source(source, "stream", "res.send")?;
    Ok(Content::Stream(Stream {
        source: source.clone().unbind(),
        kind: Kind::Chunks,
        send_timeout,
        on_error: None,
    }))
}

/// Refuses what cannot be a stream of items, with what to do about it. `single` is how to send one item.
///
/// # Errors
///
/// `TypeError`.
pub(crate) fn check_source(source: &Bound<'_, PyAny>, method: &str, single: &str) -> PyResult<()> {
    let class = source.get_type();
    let name = class.name()?;
    if is_text_or_bytes(source) || source.is_instance_of::<SseEvent>() || source.cast::<PyMapping>().is_ok() {
        return Err(PyTypeError::new_err(format!(
            "res.{method} takes an iterable of items, and {name} is one item: put it into a list, or call {single}"
        )));
    }
    if is_async_iterable(source)? || is_iterable(source)? {
        return Ok(());
    }
    if source.hasattr(intern!(source.py(), "__await__"))? {
        return Err(PyTypeError::new_err(format!(
            "res.{method} takes a sync or async iterable, got an awaitable {name}: await it, or let the function yield"
        )));
    }
    if source.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "res.{method} takes a sync or async iterable, got a {name}: call it, as in res.{method}(function())"
        )));
    }
    Err(PyTypeError::new_err(format!(
        "res.{method} takes a sync or async iterable, such as a generator or a list, got {name}"
    )))
}

/// Whether `async for` takes it.
pub(crate) fn is_async_iterable(source: &Bound<'_, PyAny>) -> PyResult<bool> {
    source.get_type().hasattr(intern!(source.py(), "__aiter__"))
}

fn is_iterable(source: &Bound<'_, PyAny>) -> PyResult<bool> {
    let class = source.get_type();
    let py = source.py();
    Ok(class.hasattr(intern!(py, "__iter__"))? || class.hasattr(intern!(py, "__getitem__"))?)
}

/// A positive number of seconds, or `None` for never.
///
/// # Errors
///
/// `ValueError` naming the argument.
pub(crate) fn seconds(argument: &str, value: Option<f64>) -> PyResult<Option<Duration>> {
    let Some(value) = value else {
        return Ok(None);
    };
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(PyValueError::new_err(format!(
            "{argument} must be a positive number of seconds, or None for never, got {value}"
        ))),
    }
}

/// A function that a stream may call, or `None`.
///
/// # Errors
///
/// `TypeError` for a value that cannot be called.
pub(crate) fn callback(argument: &str, value: Option<Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
    match value {
        Some(value) if value.is_callable() => Ok(Some(value.unbind())),
        Some(value) => Err(PyTypeError::new_err(format!(
            "{argument} must be a function that takes the exception, got {}",
            value.get_type().name()?
        ))),
        None => Ok(None),
    }
}

/// The `attr-char`s of RFC 8187, 3.2.1, are all that stays as it is.
const NOT_ATTRIBUTE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The `Content-Disposition` of a download (RFC 6266): an ASCII name, and the exact one where that differs.
pub(crate) fn disposition(filename: &str) -> String {
    let ascii: String =
        filename.chars().map(|letter| if is_quotable(letter) { letter } else { '_' }).collect();
    if ascii == filename {
        return format!("attachment; filename=\"{ascii}\"");
    }
    let exact = utf8_percent_encode(filename, NOT_ATTRIBUTE);
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{exact}")
}

/// Backslash and quote end or escape a quoted string, a slash is a path, and some clients decode `%` (RFC 6266, D).
fn is_quotable(letter: char) -> bool {
    (' '..='~').contains(&letter) && !['"', '\\', '/', '%'].contains(&letter)
}

/// The last part of a path, as the name of a download.
pub(crate) fn filename(path: &Path) -> String {
    path.file_name().map_or_else(|| "download".to_owned(), |name| name.to_string_lossy().into_owned())
}
