//! What a stream accepts: any yielded value becomes wire bytes here, in the caller's buffer.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyMemoryView, PyString, PyTuple,
};

use crate::event::{SseEvent, comment_class, utf8};
use crate::foreign;
use crate::json;
use hypern_core::pipe::Kind;
use hypern_core::sse;

/// Appends an item of an event stream to `out`. On an error `out` is left as it was.
///
/// An `SSEEvent`, an `SSEComment`, a str (a data event), a mapping with `data` and no key outside
/// data/id/event/retry, an object with a `data` attribute, `None` (nothing), and any other value as JSON data.
///
/// # Errors
///
/// `ValueError` or `TypeError` that names the field; whatever the item's own code raises.
#[inline]
pub(crate) fn encode_item(item: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(event) = item.cast_exact::<SseEvent>() {
        return event.get().encode(item.py(), out);
    }
    if let Ok(text) = item.cast_exact::<PyString>() {
        sse::encode_data(utf8(text, "data")?, out);
        return Ok(());
    }
    encode_other(item, out)
}

fn encode_other(item: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if item.is_none() {
        return Ok(());
    }
    if let Ok(text) = item.cast::<PyString>() {
        return encode_str_subclass(text, out);
    }
    if let Ok(event) = item.cast::<SseEvent>() {
        return event.get().encode(item.py(), out);
    }
    match as_event(item)? {
        Some(event) => event.encode(item.py(), out),
        None => encode_json(item, out),
    }
}

fn encode_str_subclass(text: &Bound<'_, PyString>, out: &mut Vec<u8>) -> PyResult<()> {
    if text.is_instance(comment_class(text.py())?)? {
        // Its value is the wire form already: the class prefixes every line when it is made.
        out.extend_from_slice(utf8(text, "comment")?.as_bytes());
    } else {
        sse::encode_data(utf8(text, "data")?, out);
    }
    Ok(())
}

fn encode_json(item: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let encoded = json::encode(item)?;
    sse::encode_data(json::text(&encoded)?, out);
    Ok(())
}

fn as_event(item: &Bound<'_, PyAny>) -> PyResult<Option<SseEvent>> {
    if is_plain(item) {
        return Ok(None);
    }
    if let Ok(item) = item.cast::<PyDict>() {
        return from_dict(item);
    }
    if let Ok(mapping) = item.cast::<PyMapping>() {
        let plain = PyDict::new(item.py());
        plain.update(mapping)?;
        return from_dict(&plain);
    }
    from_attributes(item)
}

/// The types that certainly are neither a mapping nor have a `data` attribute.
fn is_plain(item: &Bound<'_, PyAny>) -> bool {
    item.is_exact_instance_of::<PyInt>()
        || item.is_exact_instance_of::<PyFloat>()
        || item.is_exact_instance_of::<PyBool>()
        || item.is_exact_instance_of::<PyList>()
        || item.is_exact_instance_of::<PyTuple>()
        || item.is_exact_instance_of::<PyBytes>()
}

fn from_dict(item: &Bound<'_, PyDict>) -> PyResult<Option<SseEvent>> {
    let py = item.py();
    let Some(data) = item.get_item(intern!(py, "data"))? else {
        return Ok(None);
    };
    let id = item.get_item(intern!(py, "id"))?;
    let event = item.get_item(intern!(py, "event"))?;
    let retry = item.get_item(intern!(py, "retry"))?;
    let known = 1 + usize::from(id.is_some()) + usize::from(event.is_some()) + usize::from(retry.is_some());
    if known != item.len() {
        return Ok(None);
    }
    SseEvent::build(data, id, event, retry).map(Some)
}

fn from_attributes(item: &Bound<'_, PyAny>) -> PyResult<Option<SseEvent>> {
    let py = item.py();
    let Some(data) = foreign::attribute(item, intern!(py, "data"))? else {
        return Ok(None);
    };
    let id = foreign::attribute(item, intern!(py, "id"))?;
    let event = foreign::attribute(item, intern!(py, "event"))?;
    let retry = foreign::attribute(item, intern!(py, "retry"))?;
    SseEvent::build(data, id, event, retry).map(Some)
}

/// Appends an item of a stream of this kind to `out`. On an error `out` is left as it was.
///
/// # Errors
///
/// Those of [`encode_item`] and [`encode_chunk`].
#[inline]
pub(crate) fn encode(kind: Kind, item: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    match kind {
        Kind::Events { .. } => encode_item(item, out),
        Kind::Chunks => encode_chunk(item, out),
    }
}

/// An item that goes into the pipe without being copied before: a chunk of bytes, which nobody can change meanwhile.
#[inline]
pub(crate) fn as_it_is<'a, 'py>(item: &'a Bound<'py, PyAny>, kind: Kind) -> Option<&'a Bound<'py, PyBytes>> {
    if kind == Kind::Chunks { item.cast_exact::<PyBytes>().ok() } else { None }
}

/// Appends an item of a raw stream to `out`: bytes, bytearray, memoryview, or str in UTF-8. On an error `out` is
/// left as it was.
///
/// # Errors
///
/// `TypeError` for any other type, `ValueError` for a str with a lone surrogate.
pub(crate) fn encode_chunk(item: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(chunk) = item.cast::<PyBytes>() {
        out.extend_from_slice(chunk.as_bytes());
    } else if let Ok(chunk) = item.cast::<PyString>() {
        out.extend_from_slice(utf8(chunk, "chunk")?.as_bytes());
    } else if item.is_instance_of::<PyByteArray>() || item.is_instance_of::<PyMemoryView>() {
        extend_from_buffer(item, out)?;
    } else {
        return Err(PyTypeError::new_err(format!(
            "a chunk must be bytes, bytearray, memoryview or str, got {}",
            item.get_type().fully_qualified_name()?
        )));
    }
    Ok(())
}

fn extend_from_buffer(item: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let buffer = PyUntypedBuffer::get(item)?;
    if !buffer.is_c_contiguous() {
        let flat = item.call_method0(intern!(item.py(), "tobytes"))?;
        out.extend_from_slice(flat.cast::<PyBytes>()?.as_bytes());
        return Ok(());
    }
    let length = buffer.len_bytes();
    if length > 0 {
        // SAFETY: a C-contiguous buffer is `length` readable bytes from its pointer, alive and of fixed size while
        // `buffer` holds the export. This thread is attached and runs no Python code until the copy is done, so
        // nobody writes meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), length) };
        out.extend_from_slice(bytes);
    }
    Ok(())
}
