//! JSON through msgspec: one cached encoder and decoder, and what msgspec does not know by itself.

use pyo3::exceptions::{PyBaseException, PyTypeError, PyUnicodeDecodeError, PyUnicodeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyType};

/// The JSON text of a value: whatever msgspec encodes, Pydantic models and any mapping.
///
/// # Errors
///
/// `TypeError` for a type without a JSON form, `ValueError` for a `str` that UTF-8 cannot carry, and whatever the
/// value's own code raises.
pub(crate) fn encode<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let encode = ENCODE.get_or_try_init(py, || {
        let options = PyDict::new(py);
        options.set_item("enc_hook", wrap_pyfunction!(encode_unknown, py)?)?;
        let encoder = py.import("msgspec.json")?.getattr("Encoder")?.call((), Some(&options))?;
        encoder.getattr("encode").map(Bound::unbind)
    })?;
    let encoded = encode.bind(py).call1((value,)).map_err(|error| explain(py, error))?;
    Ok(encoded.cast_into::<PyBytes>()?)
}

/// Encoded JSON as text.
///
/// # Errors
///
/// `UnicodeDecodeError`, if a `msgspec.Raw` smuggled other bytes in.
pub(crate) fn text<'a>(encoded: &'a Bound<'_, PyBytes>) -> PyResult<&'a str> {
    let bytes = encoded.as_bytes();
    std::str::from_utf8(bytes)
        .map_err(|error| PyUnicodeDecodeError::new_err_from_utf8(encoded.py(), bytes, error))
}

/// The value of a JSON text; with `shape`, converted to that type by msgspec, or by Pydantic if it is a model.
///
/// # Errors
///
/// See [`decode_failure`].
pub(crate) fn decode<'py>(
    text: &Bound<'py, PyBytes>,
    shape: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = text.py();
    let Some(shape) = shape else {
        return decode_any(text);
    };
    if let Some(validate) = shape.getattr_opt(intern!(py, "model_validate_json"))? {
        // Text that is not JSON is an error of another kind, which Pydantic does not keep apart.
        decode_any(text)?;
        return validate.call1((text,));
    }
    let decode = DECODE.import(py, "msgspec.json", "decode")?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "type"), shape)?;
    decode.call((text,), Some(&options))
}

fn decode_any<'py>(text: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = text.py();
    let decode = DECODE.get_or_try_init(py, || {
        let decoder = py.import("msgspec.json")?.getattr("Decoder")?.call0()?;
        decoder.getattr("decode").map(Bound::unbind)
    })?;
    decode.bind(py).call1((text,))
}

/// What is wrong with a JSON text, in words for whoever sent it.
#[derive(Debug)]
pub(crate) enum DecodeFailure {
    /// It is not JSON.
    Syntax(String),
    /// It is JSON, but not of the type that was asked for.
    Shape(String),
}

/// What an error of [`decode`] says about the text; `None` if it is about something else.
///
/// # Errors
///
/// Whatever the error's own methods raise.
pub(crate) fn decode_failure(py: Python<'_>, error: &PyErr) -> PyResult<Option<DecodeFailure>> {
    static VALIDATION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static SYNTAX: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let value = error.value(py);
    if error.is_instance(py, VALIDATION.import(py, "msgspec", "ValidationError")?) {
        return Ok(Some(DecodeFailure::Shape(value.str()?.to_string())));
    }
    // Bytes that are not UTF-8 surface as a UnicodeDecodeError inside strings.
    if error.is_instance(py, SYNTAX.import(py, "msgspec", "DecodeError")?)
        || error.is_instance_of::<PyUnicodeError>(py)
    {
        return Ok(Some(DecodeFailure::Syntax(value.str()?.to_string())));
    }
    model_failure(value)
}

/// What Pydantic's `ValidationError` says, without the links and the echo of the input in its text.
fn model_failure(error: &Bound<'_, PyBaseException>) -> PyResult<Option<DecodeFailure>> {
    let py = error.py();
    if error.get_type().name()? != "ValidationError" {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for part in error.call_method0(intern!(py, "errors"))?.try_iter()? {
        let part = part?;
        let mut place = String::from("$");
        for step in part.get_item(intern!(py, "loc"))?.try_iter()? {
            place += &format!(".{}", step?);
        }
        parts.push(format!("{} - at `{place}`", part.get_item(intern!(py, "msg"))?));
    }
    Ok(Some(DecodeFailure::Shape(parts.join("; "))))
}

/// msgspec's `enc_hook`: called for a value that it does not encode by itself.
#[pyfunction]
fn encode_unknown<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if let Some(dump) = value.getattr_opt(intern!(py, "model_dump"))? {
        let options = PyDict::new(py);
        options.set_item(intern!(py, "mode"), intern!(py, "json"))?;
        return dump.call((), Some(&options));
    }
    if let Ok(mapping) = value.cast::<PyMapping>() {
        let plain = PyDict::new(py);
        plain.update(mapping)?;
        return Ok(plain.into_any());
    }
    Err(PyTypeError::new_err(format!(
        "{} has no JSON form: give str, int, float, bool, None, a dict, a list, a dataclass, a msgspec Struct or a Pydantic \
         model, or convert it first",
        value.get_type().fully_qualified_name()?
    )))
}

/// A lone surrogate deep inside a value would otherwise read as a codec's complaint about a position.
fn explain(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyUnicodeError>(py) {
        return error;
    }
    let explained = PyValueError::new_err(
        "data holds a str with a lone surrogate (U+D800 to U+DFFF), which UTF-8 cannot carry",
    );
    explained.set_cause(py, Some(error));
    explained
}
