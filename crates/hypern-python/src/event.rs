//! `SSEEvent`: one event, checked when it is made, written by [`hypern_core::sse`].

use hypern_core::sse::{self, Event, FieldError};
use pyo3::exceptions::{PyTypeError, PyUnicodeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString, PyType};

use crate::json;

/// SSEEvent(data, *, id=None, event=None, retry=None)
/// --
///
/// One server-sent event (WHATWG HTML, section 9.2).
///
/// Args:
///     data: A str is sent verbatim, line by line; anything else as JSON.
///     id: What the client sends back as `Last-Event-ID` when it reconnects.
///     event: The event's type; a client dispatches `message` without one.
///     retry: The client's reconnection time from here on, in milliseconds.
///
/// Raises:
///     ValueError: a line break in id or event, NUL in id, a negative retry, a lone surrogate.
///     TypeError: id or event is not a str, retry not an int.
#[pyclass(frozen, subclass, immutable_type, module = "hypern", name = "SSEEvent")]
#[derive(Debug)]
pub(crate) struct SseEvent {
    data: Py<PyAny>,
    id: Option<Py<PyString>>,
    event: Option<Py<PyString>>,
    retry: Option<u64>,
}

impl SseEvent {
    /// An event whose fields have been checked.
    ///
    /// # Errors
    ///
    /// See the class: `ValueError` or `TypeError` that names the field.
    // Bounds and not `Py`s until the end: from a vectorcall PyO3 cannot see that the thread is attached, and would
    // defer the release of a dropped `Py`. Inlined, or the event would be copied twice on its way into its object.
    #[inline(always)]
    pub(crate) fn build(
        data: Bound<'_, PyAny>,
        id: Option<Bound<'_, PyAny>>,
        event: Option<Bound<'_, PyAny>>,
        retry: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        if let Ok(data) = data.cast::<PyString>() {
            utf8(data, "data")?;
        }
        let id = match given(id) {
            Some(id) => Some(checked(id, "id", sse::check_id)?),
            None => None,
        };
        let event = match given(event) {
            Some(event) => Some(checked(event, "event", sse::check_event)?),
            None => None,
        };
        let retry = match given(retry) {
            Some(retry) => Some(milliseconds(&retry)?),
            None => None,
        };
        Ok(Self { data: data.unbind(), id: id.map(Bound::unbind), event: event.map(Bound::unbind), retry })
    }

    /// Lets the fields go, on a thread that is known to be attached: a `Py` would have to find out.
    #[inline]
    pub(crate) fn release(self, py: Python<'_>) {
        let Self { data, id, event, retry: _ } = self;
        drop(data.into_bound(py));
        drop(id.map(|id| id.into_bound(py)));
        drop(event.map(|event| event.into_bound(py)));
    }

    /// Appends the event to `out` as it goes over the wire. On an error `out` is left as it was.
    ///
    /// # Errors
    ///
    /// Whatever encoding the data as JSON raises.
    #[inline]
    pub(crate) fn encode(&self, py: Python<'_>, out: &mut Vec<u8>) -> PyResult<()> {
        let id = match &self.id {
            Some(id) => Some(utf8(id.bind(py), "id")?),
            None => None,
        };
        let event = match &self.event {
            Some(event) => Some(utf8(event.bind(py), "event")?),
            None => None,
        };
        let data = self.data.bind(py);
        if let Ok(data) = data.cast::<PyString>() {
            Event { id, event, retry: self.retry, data: utf8(data, "data")? }.encode(out);
            return Ok(());
        }
        let encoded = json::encode(data)?;
        Event { id, event, retry: self.retry, data: json::text(&encoded)? }.encode(out);
        Ok(())
    }
}

#[pymethods]
impl SseEvent {
    #[new]
    #[pyo3(signature = (data, *, id=None, event=None, retry=None))]
    fn new(
        data: Bound<'_, PyAny>,
        id: Option<Bound<'_, PyAny>>,
        event: Option<Bound<'_, PyAny>>,
        retry: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Self::build(data, id, event, retry)
    }

    /// What the event carries, as it was given.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.data.bind(py).clone()
    }

    /// The event's id.
    #[getter]
    fn id<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.id.as_ref().map(|id| id.bind(py).clone())
    }

    /// The event's type.
    #[getter]
    fn event<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.event.as_ref().map(|event| event.bind(py).clone())
    }

    /// The client's reconnection time, in milliseconds.
    #[getter]
    fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// The event as text: id, event, retry and data lines, then a blank line.
    fn format<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let mut out = Vec::new();
        self.encode(py, &mut out)?;
        PyString::from_bytes(py, &out)
    }

    /// `format()` in UTF-8.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        self.encode(py, &mut out)?;
        Ok(PyBytes::new(py, &out))
    }

    /// A comment, which clients skip: a str that can be sent as text or yielded into a stream.
    #[staticmethod]
    fn comment<'py>(text: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        comment_class(text.py())?.call1((text,))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let this = slf.get();
        let mut text = format!("{}({}", slf.get_type().name()?, this.data.bind(py).repr()?);
        if let Some(id) = &this.id {
            text += &format!(", id={}", id.bind(py).repr()?);
        }
        if let Some(event) = &this.event {
            text += &format!(", event={}", event.bind(py).repr()?);
        }
        if let Some(retry) = this.retry {
            text += &format!(", retry={retry}");
        }
        text.push(')');
        Ok(text)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = other.py();
        let Ok(other) = other.cast::<Self>() else {
            return Ok(py.NotImplemented());
        };
        let other = other.get();
        let equal = self.retry == other.retry
            && same_text(py, self.id.as_ref(), other.id.as_ref())?
            && same_text(py, self.event.as_ref(), other.event.as_ref())?
            && self.data.bind(py).eq(other.data.bind(py))?;
        Ok(PyBool::new(py, equal).to_owned().into_any().unbind())
    }
}

/// `hypern.sse.SSEComment`: a class of Python's, because a Rust class cannot extend `str`.
pub(crate) fn comment_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static COMMENT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    COMMENT.import(py, "hypern.sse", "SSEComment")
}

/// The UTF-8 form of a str.
///
/// # Errors
///
/// `ValueError` naming the field if it holds a lone surrogate.
#[inline]
pub(crate) fn utf8<'a>(text: &'a Bound<'_, PyString>, field: &str) -> PyResult<&'a str> {
    let object = text.as_ptr();
    // SAFETY: attached; the object is a str, whose kind the macro reads.
    if unsafe { ffi::PyUnicode_IS_COMPACT_ASCII(object) } != 0 {
        // SAFETY: such a str holds its characters as so many bytes of ASCII, as long as it lives. Nobody changes a str.
        // This saves a call for each field of each event.
        return Ok(unsafe {
            let length = ffi::PyUnicode_GET_LENGTH(object).unsigned_abs();
            std::str::from_utf8_unchecked(std::slice::from_raw_parts(
                ffi::PyUnicode_1BYTE_DATA(object),
                length,
            ))
        });
    }
    text.to_str().map_err(|error| surrogate(text.py(), error, field))
}

/// A retry that was given as `None` or not at all is absent; an int is that many milliseconds.
///
/// # Errors
///
/// `TypeError` for anything but an int, `ValueError` for a negative one.
pub(crate) fn retry(value: Option<Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
    given(value).map(|value| milliseconds(&value)).transpose()
}

#[inline]
fn given<'py>(value: Option<Bound<'py, PyAny>>) -> Option<Bound<'py, PyAny>> {
    value.filter(|value| !value.is_none())
}

#[inline(always)]
fn checked<'py>(
    value: Bound<'py, PyAny>,
    field: &str,
    check: impl FnOnce(&str) -> Result<(), FieldError>,
) -> PyResult<Bound<'py, PyString>> {
    let text =
        value.cast_into::<PyString>().map_err(|error| wrong_type(&error.into_inner(), field, "str"))?;
    check(utf8(&text, field)?).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(text)
}

fn milliseconds(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(wrong_type(value, "retry", "int (milliseconds)"));
    }
    value.extract().map_err(|_| {
        PyValueError::new_err(format!("retry must be from 0 to {} milliseconds, got {value}", u64::MAX))
    })
}

#[cold]
fn wrong_type(value: &Bound<'_, PyAny>, field: &str, expected: &str) -> PyErr {
    match value.get_type().name() {
        Ok(name) => PyTypeError::new_err(format!("{field} must be {expected}, got {name}")),
        Err(error) => error,
    }
}

#[cold]
fn surrogate(py: Python<'_>, error: PyErr, field: &str) -> PyErr {
    if !error.is_instance_of::<PyUnicodeError>(py) {
        return error;
    }
    let explained = PyValueError::new_err(format!(
        "{field} must not contain a lone surrogate (U+D800 to U+DFFF), which UTF-8 cannot carry: replace it"
    ));
    explained.set_cause(py, Some(error));
    explained
}

fn same_text(py: Python<'_>, left: Option<&Py<PyString>>, right: Option<&Py<PyString>>) -> PyResult<bool> {
    match (left, right) {
        (None, None) => Ok(true),
        (Some(left), Some(right)) => left.bind(py).as_any().eq(right.bind(py)),
        _ => Ok(false),
    }
}
