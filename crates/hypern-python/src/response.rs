//! `res`: what the handler says to the client.

use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hypern_core::compress::{Encoding, Policy};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString};

use crate::content::{self, Content, Kind, Stream};
use crate::cookie::{self, Attributes};
use crate::event::{self, SseEvent, utf8};
use crate::fields::{ACCEL_BUFFERING, describes_body, header_pair, pairs, status_from};
use crate::headers::joined;
use crate::item::encode_item;
use crate::json;

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// How long a client may take nothing from a stream, in seconds, if the user does not say.
pub(crate) const SEND_TIMEOUT: f64 = 30.0;

/// What a URL cannot hold; `%` stays, because the URL may be encoded already.
const NOT_URL: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`');

/// The response to one request. Its methods return it, so that calls can be chained.
#[pyclass(module = "hypern")]
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
    pub(crate) compression: Option<Policy>,
    /// The user chose the content type, so a body does not bring its own.
    typed: bool,
}

impl Response {
    /// Puts a body in the place of whatever was there; its content type counts if the user has chosen none.
    pub(crate) fn fill(&mut self, content: Content, content_type: Option<HeaderValue>) {
        self.content = content;
        if self.typed {
            return;
        }
        match content_type {
            Some(content_type) => drop(self.headers.insert(CONTENT_TYPE, content_type)),
            None => drop(self.headers.remove(CONTENT_TYPE)),
        }
    }

    pub(crate) fn set_type(&mut self, content_type: HeaderValue) {
        self.headers.insert(CONTENT_TYPE, content_type);
        self.typed = true;
    }

    pub(crate) fn set_header(&mut self, name: &str, value: &str) -> PyResult<()> {
        let (name, value) = header_pair(name, value)?;
        self.typed |= name == CONTENT_TYPE;
        self.headers.insert(name, value);
        Ok(())
    }

    fn fill_events(&mut self, content: Content) {
        self.mark_as_events();
        self.content = content;
        // A later body of another kind brings its own type again.
        self.typed = false;
    }

    fn mark_as_events(&mut self) {
        self.set_type(EVENT_STREAM);
        self.headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        self.headers.entry(ACCEL_BUFFERING).or_insert(HeaderValue::from_static("no"));
    }

    /// Applies a change and returns the response itself.
    ///
    /// Borrowed for the change alone: user code that a method runs (JSON hooks, generators) may use the response.
    pub(crate) fn change<'py>(
        slf: &Bound<'py, Self>,
        change: impl FnOnce(&mut Self) -> PyResult<()>,
    ) -> PyResult<Bound<'py, Self>> {
        change(&mut *slf.try_borrow_mut()?)?;
        Ok(slf.clone())
    }

    /// A JSON body.
    pub(crate) fn fill_json<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let encoded = json::encode(value)?;
        let body = Bytes::copy_from_slice(encoded.as_bytes());
        Self::change(slf, |this| {
            this.fill(Content::Bytes(body), Some(JSON));
            Ok(())
        })
    }

    fn fill_text<'py>(
        slf: &Bound<'py, Self>,
        text: &Bound<'py, PyString>,
        content_type: HeaderValue,
    ) -> PyResult<Bound<'py, Self>> {
        let body = Bytes::copy_from_slice(utf8(text, "text")?.as_bytes());
        Self::change(slf, |this| {
            this.fill(Content::Bytes(body), Some(content_type));
            Ok(())
        })
    }
}

#[pymethods]
impl Response {
    #[new]
    pub(crate) fn new() -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            content: Content::Unset,
            compression: None,
            typed: false,
        }
    }

    /// The status code.
    #[getter]
    fn status_code(&self) -> u16 {
        self.status.as_u16()
    }

    /// Whether the response has a body, be it an empty one.
    #[getter]
    fn started(&self) -> bool {
        !matches!(self.content, Content::Unset)
    }

    /// The value of a header that has been set.
    fn get_header(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }

    /// Sets the status code, from 200 to 599.
    #[pyo3(name = "status")]
    fn set_status<'py>(slf: &Bound<'py, Self>, code: i64) -> PyResult<Bound<'py, Self>> {
        let status = status_from(code, 200..=599)?;
        Self::change(slf, |this| {
            this.status = status;
            Ok(())
        })
    }

    /// Sets a header, in the place of any of that name.
    fn header<'py>(slf: &Bound<'py, Self>, name: &str, value: &str) -> PyResult<Bound<'py, Self>> {
        Self::change(slf, |this| this.set_header(name, value))
    }

    /// Adds a header and keeps those of that name.
    fn append_header<'py>(slf: &Bound<'py, Self>, name: &str, value: &str) -> PyResult<Bound<'py, Self>> {
        let (name, value) = header_pair(name, value)?;
        Self::change(slf, |this| {
            this.typed |= name == CONTENT_TYPE;
            this.headers.append(name, value);
            Ok(())
        })
    }

    /// Sets every header of a mapping.
    #[pyo3(name = "headers")]
    fn set_headers<'py>(
        slf: &Bound<'py, Self>,
        headers: &Bound<'py, PyMapping>,
    ) -> PyResult<Bound<'py, Self>> {
        let pairs = pairs(headers)?;
        Self::change(slf, |this| pairs.iter().try_for_each(|(name, value)| this.set_header(name, value)))
    }

    /// Sets the content type, which then no body replaces.
    fn r#type<'py>(slf: &Bound<'py, Self>, content_type: &str) -> PyResult<Bound<'py, Self>> {
        Self::change(slf, |this| this.set_header(CONTENT_TYPE.as_str(), content_type))
    }

    /// Adds a cookie. `max_age` is in seconds; `expires` an aware datetime, an HTTP date or
    /// seconds since 1970.
    #[pyo3(
        signature = (name, value, *, max_age=None, expires=None, path=Some("/"), domain=None, secure=false,
            http_only=false, same_site=None),
        text_signature = "($self, name, value, *, max_age=None, expires=None, path='/', domain=None, secure=False, \
            http_only=False, same_site=None)"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the attributes of RFC 6265, given by name in Python"
    )]
    fn cookie<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        value: &str,
        max_age: Option<i64>,
        expires: Option<Bound<'py, PyAny>>,
        path: Option<&str>,
        domain: Option<&str>,
        secure: bool,
        http_only: bool,
        same_site: Option<&str>,
    ) -> PyResult<Bound<'py, Self>> {
        let expires = expires.as_ref().map(cookie::expiry).transpose()?;
        let attributes = Attributes { max_age, expires, path, domain, secure, http_only, same_site };
        let line = cookie::set_cookie(name, value, &attributes)?;
        Self::change(slf, |this| {
            this.headers.append(SET_COOKIE, line);
            Ok(())
        })
    }

    /// Removes a cookie that was set with the same path and domain.
    #[pyo3(
        signature = (name, *, path=Some("/"), domain=None),
        text_signature = "($self, name, *, path='/', domain=None)"
    )]
    fn clear_cookie<'py>(
        slf: &Bound<'py, Self>,
        name: &str,
        path: Option<&str>,
        domain: Option<&str>,
    ) -> PyResult<Bound<'py, Self>> {
        let expires = Some(SystemTime::UNIX_EPOCH);
        let attributes = Attributes { max_age: Some(0), expires, path, domain, ..Attributes::default() };
        let line = cookie::set_cookie(name, "", &attributes)?;
        Self::change(slf, |this| {
            this.headers.append(SET_COOKIE, line);
            Ok(())
        })
    }

    /// A JSON body.
    fn json<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        Self::fill_json(slf, value)
    }

    /// A body of plain text.
    fn text<'py>(slf: &Bound<'py, Self>, text: &Bound<'py, PyString>) -> PyResult<Bound<'py, Self>> {
        Self::fill_text(slf, text, TEXT)
    }

    /// A body of HTML.
    fn html<'py>(slf: &Bound<'py, Self>, html: &Bound<'py, PyString>) -> PyResult<Bound<'py, Self>> {
        Self::fill_text(slf, html, HTML)
    }

    /// A body of any kind: str is text, bytes, bytearray and memoryview are bytes, `None` is empty, the rest JSON.
    #[pyo3(signature = (content=None))]
    pub(crate) fn send<'py>(
        slf: &Bound<'py, Self>,
        content: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let (bytes, content_type) = match content {
            None => (Bytes::new(), None),
            Some(content) => match content::whole(&content)? {
                Some(bytes) => {
                    (bytes, Some(if content.is_instance_of::<PyString>() { TEXT } else { BINARY }))
                }
                None => return Self::fill_json(slf, &content),
            },
        };
        Self::change(slf, |this| {
            this.fill(Content::Bytes(bytes), content_type);
            Ok(())
        })
    }

    /// Sends the client to another URL.
    #[pyo3(signature = (url, status=302))]
    fn redirect<'py>(slf: &Bound<'py, Self>, url: &str, status: i64) -> PyResult<Bound<'py, Self>> {
        let status = status_from(status, 300..=399)?;
        // Checked before it is encoded: a line break in a URL is somebody's attempt, not a character to escape.
        header_pair(LOCATION.as_str(), url)?;
        let location = utf8_percent_encode(url, NOT_URL).to_string();
        Self::change(slf, |this| {
            this.set_header(LOCATION.as_str(), &location)?;
            this.status = status;
            this.fill(Content::Bytes(Bytes::new()), None);
            Ok(())
        })
    }

    /// A file as the body, with ranges, conditions and a content type by its extension.
    #[pyo3(signature = (path, *, content_type=None))]
    fn file<'py>(
        slf: &Bound<'py, Self>,
        path: PathBuf,
        content_type: Option<&str>,
    ) -> PyResult<Bound<'py, Self>> {
        Self::change(slf, |this| {
            if let Some(content_type) = content_type {
                this.set_header(CONTENT_TYPE.as_str(), content_type)?;
            }
            this.fill(Content::File(path), None);
            Ok(())
        })
    }

    /// A file that the client saves, under its own name or another.
    #[pyo3(signature = (path, filename=None))]
    fn download<'py>(
        slf: &Bound<'py, Self>,
        path: PathBuf,
        filename: Option<String>,
    ) -> PyResult<Bound<'py, Self>> {
        let filename = filename.unwrap_or_else(|| content::filename(&path));
        Self::change(slf, |this| {
            this.set_header(CONTENT_DISPOSITION.as_str(), &content::disposition(&filename))?;
            this.fill(Content::File(path), None);
            Ok(())
        })
    }

    /// Events that are all there already, as one body.
    fn sse<'py>(slf: &Bound<'py, Self>, events: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        content::check_source(events, "sse", "res.sse_event")?;
        if content::is_async_iterable(events)? {
            return Err(PyTypeError::new_err(
                "res.sse takes events that are there already, got an async iterable: call res.sse_stream",
            ));
        }
        let mut out = Vec::new();
        for item in events.try_iter()? {
            encode_item(&item?, &mut out)?;
        }
        Self::change(slf, |this| {
            this.fill_events(Content::Bytes(Bytes::from(out)));
            Ok(())
        })
    }

    /// One event as the body.
    #[pyo3(signature = (data, *, event=None, id=None, retry=None))]
    fn sse_event<'py>(
        slf: &Bound<'py, Self>,
        data: Bound<'py, PyAny>,
        event: Option<Bound<'py, PyAny>>,
        id: Option<Bound<'py, PyAny>>,
        retry: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let mut out = Vec::new();
        SseEvent::build(data, id, event, retry)?.encode(slf.py(), &mut out)?;
        Self::change(slf, |this| {
            this.fill_events(Content::Bytes(Bytes::from(out)));
            Ok(())
        })
    }

    /// The events of a sync or async iterable, each sent as it comes. `ping` and `send_timeout` are seconds or
    /// `None`, `retry` milliseconds; `on_error(exception)` may return a last event.
    #[pyo3(
        signature = (source, *, ping=Some(15.0), retry=None, send_timeout=Some(SEND_TIMEOUT), on_error=None),
        text_signature = "($self, source, *, ping=15.0, retry=None, send_timeout=30.0, on_error=None)"
    )]
    fn sse_stream<'py>(
        slf: &Bound<'py, Self>,
        source: &Bound<'py, PyAny>,
        ping: Option<f64>,
        retry: Option<Bound<'py, PyAny>>,
        send_timeout: Option<f64>,
        on_error: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        content::check_source(source, "sse_stream", "res.sse_event")?;
        let stream = Stream {
            source: source.clone().unbind(),
            kind: Kind::Events { ping: content::seconds("ping", ping)?, retry: event::retry(retry)? },
            send_timeout: content::seconds("send_timeout", send_timeout)?,
            on_error: content::callback("on_error", on_error)?,
        };
        Self::change(slf, |this| {
            this.fill_events(Content::Stream(stream));
            Ok(())
        })
    }

    /// Sets the headers of an event stream, for a body that the handler writes by itself.
    fn sse_headers<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::change(slf, |this| {
            this.mark_as_events();
            Ok(())
        })
    }

    /// The chunks of a sync or async iterable of bytes, bytearray, memoryview or str, each sent as it comes.
    #[pyo3(
        signature = (content, *, content_type=None, send_timeout=Some(SEND_TIMEOUT)),
        text_signature = "($self, content, *, content_type=None, send_timeout=30.0)"
    )]
    fn stream<'py>(
        slf: &Bound<'py, Self>,
        content: &Bound<'py, PyAny>,
        content_type: Option<&str>,
        send_timeout: Option<f64>,
    ) -> PyResult<Bound<'py, Self>> {
        let chunks = content::chunks(content, send_timeout)?;
        Self::change(slf, |this| {
            if let Some(content_type) = content_type {
                this.set_header(CONTENT_TYPE.as_str(), content_type)?;
            }
            this.fill(chunks, Some(BINARY));
            Ok(())
        })
    }

    /// Takes over a handler's return value.
    #[pyo3(name = "_absorb")]
    fn absorb_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::absorb(slf, value)
    }

    /// Lets the body be compressed with one of these encodings, in the server's order of preference.
    fn _compress(&mut self, encodings: Vec<String>, minimum_size: usize) -> PyResult<()> {
        let encodings = encodings.iter().map(|name| encoding(name)).collect::<PyResult<_>>()?;
        self.compression = Some(Policy { encodings, minimum_size });
        Ok(())
    }

    /// Makes room for an error: the body and whatever described it go, other headers stay, cookies do not.
    fn _reset(&mut self) {
        self.status = StatusCode::OK;
        self.content = Content::Unset;
        self.typed = false;
        let described: Vec<HeaderName> =
            self.headers.keys().filter(|name| describes_body(name)).cloned().collect();
        for name in described {
            self.headers.remove(name);
        }
    }

    fn __repr__(&self) -> String {
        format!("<Response {}>", self.status.as_u16())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Content::Stream(stream) = &self.content {
            visit.call(&stream.source)?;
            visit.call(&stream.on_error)?;
        }
        Ok(())
    }

    fn __clear__(&mut self) {
        self.content = Content::Unset;
    }
}

fn encoding(name: &str) -> PyResult<Encoding> {
    match name {
        "br" => Ok(Encoding::Brotli),
        "gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        _ => {
            Err(PyValueError::new_err(format!("encoding must be \"br\", \"gzip\" or \"zstd\", got {name:?}")))
        }
    }
}
