//! Status codes and header fields from Python, checked: nothing that a user passes on can begin a line of its own.

use http::header::{CACHE_CONTROL, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderName, HeaderValue, StatusCode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyMapping;

/// Asks nginx and those who speak its dialect not to collect a stream before they pass it on.
pub(crate) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Every name and value of a mapping of headers.
///
/// # Errors
///
/// `TypeError` if one is not a str.
pub(crate) fn pairs(headers: &Bound<'_, PyMapping>) -> PyResult<Vec<(String, String)>> {
    let pair = |pair: Bound<'_, PyAny>| {
        pair.extract()
            .map_err(|_| PyTypeError::new_err(format!("a header must be a str with a str, got {pair}")))
    };
    headers.items()?.iter().map(pair).collect()
}

/// A status code in a range.
///
/// # Errors
///
/// `ValueError` outside of it.
pub(crate) fn status_from(code: i64, range: std::ops::RangeInclusive<u16>) -> PyResult<StatusCode> {
    let known = u16::try_from(code).ok().filter(|code| range.contains(code));
    known.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| {
        PyValueError::new_err(format!("status must be from {} to {}, got {code}", range.start(), range.end()))
    })
}

/// A header's name and value, checked.
///
/// # Errors
///
/// `ValueError` that names the header: a name that is not a token, a value with a line break or NUL.
pub(crate) fn header_pair(name: &str, value: &str) -> PyResult<(HeaderName, HeaderValue)> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        PyValueError::new_err(format!(
            "header name {name:?} must be a token (RFC 9110, 5.1), such as \"x-count\""
        ))
    })?;
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
        PyValueError::new_err(format!(
            "the value of header {parsed} must not contain a line break, NUL or another control character"
        ))
    })?;
    Ok((parsed, value))
}

/// Whether a header speaks of the body or its freshness, and so does not outlive it. Cookies count: an error sets none.
pub(crate) fn describes_body(name: &HeaderName) -> bool {
    let dropped = [CACHE_CONTROL, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE, ACCEL_BUFFERING];
    name.as_str().starts_with("content-") || dropped.contains(name)
}
