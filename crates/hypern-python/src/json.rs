//! JSON through msgspec: one cached encoder and decoder, and what msgspec does not know by itself.

use pyo3::exceptions::{PyTypeError, PyUnicodeDecodeError, PyUnicodeError, PyValueError};
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

/// The value of a JSON text; with `shape`, checked against that type by msgspec.
///
/// # Errors
///
/// `msgspec.DecodeError` for text that is not JSON, its subclass `msgspec.ValidationError` for a wrong shape.
pub(crate) fn decode<'py>(
    text: &Bound<'py, PyBytes>,
    shape: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static DECODE_ANY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = text.py();
    let Some(shape) = shape else {
        let decode = DECODE_ANY.get_or_try_init(py, || {
            let decoder = py.import("msgspec.json")?.getattr("Decoder")?.call0()?;
            decoder.getattr("decode").map(Bound::unbind)
        })?;
        return decode.bind(py).call1((text,));
    };
    let decode = DECODE.import(py, "msgspec.json", "decode")?;
    let options = PyDict::new(py);
    options.set_item(intern!(py, "type"), shape)?;
    decode.call((text,), Some(&options))
}

/// Whether an error of [`decode`] is about the text, and if so whether it is about its shape alone.
pub(crate) fn decode_failure(py: Python<'_>, error: &PyErr) -> PyResult<Option<DecodeFailure>> {
    static VALIDATION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static SYNTAX: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if error.is_instance(py, VALIDATION.import(py, "msgspec", "ValidationError")?) {
        return Ok(Some(DecodeFailure::Shape));
    }
    // Bytes that are not UTF-8 surface as a UnicodeDecodeError inside strings.
    let syntax = error.is_instance(py, SYNTAX.import(py, "msgspec", "DecodeError")?)
        || error.is_instance_of::<PyUnicodeError>(py);
    Ok(syntax.then_some(DecodeFailure::Syntax))
}

/// What is wrong with a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeFailure {
    /// It is not JSON.
    Syntax,
    /// It is JSON, but not of the type that was asked for.
    Shape,
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
