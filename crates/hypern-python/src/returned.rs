//! What a handler returns, as a response.

use http::header::CONTENT_TYPE;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyMapping, PyType};

use crate::content;
use crate::event::SseEvent;
use crate::fields::{pairs, status_from};
use crate::response::{Response, SEND_TIMEOUT};

impl Response {
    /// Takes over a handler's return value.
    ///
    /// `None` and the response itself change nothing; str is text, bytes are bytes, a `StreamingResponse` is sent
    /// with its status and headers, anything else is JSON. A value replaces a body that was set before, and keeps
    /// status and headers.
    ///
    /// # Errors
    ///
    /// `TypeError` for what cannot be sent, such as a generator; whatever encoding the value raises.
    pub(crate) fn absorb<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        if value.is_none() || value.is(slf) {
            return Ok(());
        }
        if value.is_exact_instance_of::<PyDict>() || value.is_exact_instance_of::<PyList>() {
            return Self::fill_json(slf, value).map(drop);
        }
        if value.is_instance(streaming_response(slf.py())?)? {
            return absorb_stream(slf, value);
        }
        refuse_unsendable(value)?;
        Self::send(slf, Some(value.clone())).map(drop)
    }
}

fn absorb_stream<'py>(slf: &Bound<'py, Response>, value: &Bound<'py, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let content = content::chunks(&value.getattr(intern!(py, "content"))?, Some(SEND_TIMEOUT))?;
    let content_type: String = value.getattr(intern!(py, "content_type"))?.extract()?;
    let status = status_from(value.getattr(intern!(py, "status"))?.extract()?, 200..=599)?;
    let headers = match value.getattr(intern!(py, "headers"))? {
        headers if headers.is_none() => Vec::new(),
        headers => pairs(headers.cast::<PyMapping>()?)?,
    };
    Response::change(slf, |this| {
        this.set_header(CONTENT_TYPE.as_str(), &content_type)?;
        headers.iter().try_for_each(|(name, value)| this.set_header(name, value))?;
        this.status = status;
        this.fill(content, None);
        Ok(())
    })?;
    Ok(())
}

/// Refuses values that msgspec would take apart, or complain about without saying what to do.
fn refuse_unsendable(value: &Bound<'_, PyAny>) -> PyResult<()> {
    let class = value.get_type();
    let py = value.py();
    let advice = if value.is_instance_of::<SseEvent>() {
        "send it with res.sse_event, or yield it from a handler registered with @app.sse"
    } else if class.hasattr(intern!(py, "__next__"))? || content::is_async_iterable(value)? {
        "register it with @app.sse if it yields events, or call res.sse_stream or res.stream with it"
    } else if class.hasattr(intern!(py, "__await__"))? {
        "await it in an async def handler"
    } else if value.is_instance_of::<Response>() {
        "return the handler's own res, or nothing"
    } else {
        return Ok(());
    };
    Err(PyTypeError::new_err(format!("a handler cannot return {}: {advice}", class.name()?)))
}

fn streaming_response(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static STREAMING_RESPONSE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    STREAMING_RESPONSE.import(py, "hypern.sse", "StreamingResponse")
}
