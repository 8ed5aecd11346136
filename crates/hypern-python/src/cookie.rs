//! Cookies (RFC 6265): read from a request, written into a response.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDateTime, PyTzInfoAccess};

/// What a cookie's value cannot hold (RFC 6265, 4.1.1), and `%`, so that every value comes back as it was.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b',').add(b';').add(b'\\');

/// Name and value of every cookie in a `Cookie` header, in order; values lose their quotes and percent-encoding.
pub(crate) fn parse(header: &str) -> impl Iterator<Item = (&str, String)> {
    header.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim();
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let decoded = percent_decode_str(bare).decode_utf8();
        Some((name.trim(), decoded.map_or_else(|_| bare.to_owned(), std::borrow::Cow::into_owned)))
    })
}

/// The attributes of a `Set-Cookie` header.
#[derive(Debug, Default)]
pub(crate) struct Attributes<'a> {
    /// Seconds that the client keeps the cookie; zero or less removes it.
    pub(crate) max_age: Option<i64>,
    /// When the client forgets it.
    pub(crate) expires: Option<SystemTime>,
    /// The path below which it is sent.
    pub(crate) path: Option<&'a str>,
    /// The domain to which it is sent; the exact host without one.
    pub(crate) domain: Option<&'a str>,
    /// Only over TLS.
    pub(crate) secure: bool,
    /// Out of reach for scripts.
    pub(crate) http_only: bool,
    /// `strict`, `lax` or `none`, in any case.
    pub(crate) same_site: Option<&'a str>,
}

/// The value of a `Set-Cookie` header. Characters that a cookie's value cannot hold are percent-encoded.
///
/// # Errors
///
/// `ValueError` for a name that is not a token, a path or domain with `;` or a control character, an unknown
/// same_site, or same_site "none" without secure, which browsers refuse.
pub(crate) fn set_cookie(name: &str, value: &str, attributes: &Attributes<'_>) -> PyResult<HeaderValue> {
    check_name(name)?;
    let mut line = format!("{name}={}", utf8_percent_encode(value, ENCODED));
    if let Some(seconds) = attributes.max_age {
        append(&mut line, format_args!("; Max-Age={seconds}"));
    }
    if let Some(moment) = attributes.expires {
        append(&mut line, format_args!("; Expires={}", httpdate::HttpDate::from(moment)));
    }
    if let Some(path) = attributes.path {
        append(&mut line, format_args!("; Path={}", checked("path", path)?));
    }
    if let Some(domain) = attributes.domain {
        append(&mut line, format_args!("; Domain={}", checked("domain", domain)?));
    }
    if attributes.secure {
        line.push_str("; Secure");
    }
    if attributes.http_only {
        line.push_str("; HttpOnly");
    }
    if let Some(same_site) = attributes.same_site {
        append(&mut line, format_args!("; SameSite={}", same_site_word(same_site, attributes.secure)?));
    }
    HeaderValue::from_str(&line)
        .map_err(|_| PyValueError::new_err(format!("cookie {name:?} is not a valid header")))
}

fn append(line: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A String takes everything: this cannot fail.
    let _ = line.write_fmt(arguments);
}

fn check_name(name: &str) -> PyResult<()> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(PyValueError::new_err(format!(
            "cookie name {name:?} must be a token: letters, digits and !#$%&'*+-.^_`|~ (RFC 6265, 4.1.1)"
        )));
    }
    Ok(())
}

fn checked<'a>(field: &str, value: &'a str) -> PyResult<&'a str> {
    if value.bytes().any(|byte| byte == b';' || !(b' '..=b'~').contains(&byte)) {
        return Err(PyValueError::new_err(format!(
            "cookie {field} {value:?} must be printable ASCII without a semicolon"
        )));
    }
    Ok(value)
}

fn same_site_word(value: &str, secure: bool) -> PyResult<&'static str> {
    match value.to_ascii_lowercase().as_str() {
        "strict" => Ok("Strict"),
        "lax" => Ok("Lax"),
        "none" if secure => Ok("None"),
        "none" => {
            Err(PyValueError::new_err("same_site=\"none\" needs secure=True: browsers refuse it otherwise"))
        }
        _ => Err(PyValueError::new_err(format!(
            "same_site must be \"strict\", \"lax\" or \"none\", got {value:?}"
        ))),
    }
}

/// When a cookie expires: an aware `datetime`, an HTTP date (RFC 9110, 5.6.7), or seconds since the Unix epoch.
///
/// # Errors
///
/// `TypeError` for another type, `ValueError` for a naive datetime, a str that is no HTTP date, or a time outside the years 1970 to 9999.
pub(crate) fn expiry(value: &Bound<'_, PyAny>) -> PyResult<SystemTime> {
    if let Ok(date) = value.extract::<&str>() {
        return httpdate::parse_http_date(date).map_err(|_| {
            PyValueError::new_err(format!(
                "expires {date:?} is not an HTTP date, such as \"Tue, 01 Jan 2030 00:00:00 GMT\""
            ))
        });
    }
    let seconds = match value.cast::<PyDateTime>() {
        Ok(moment) if moment.get_tzinfo().is_none() => {
            return Err(PyValueError::new_err(
                "expires must be an aware datetime: give it a timezone, e.g. datetime.timezone.utc",
            ));
        }
        Ok(moment) => moment.call_method0("timestamp")?.extract::<f64>()?,
        Err(_) => value.extract::<f64>().map_err(|_| {
            PyTypeError::new_err(
                "expires must be an aware datetime, an HTTP date or a number of seconds since 1970",
            )
        })?,
    };
    // The end of the year 9999: an HTTP date has four digits for the year.
    if !(0.0..253_402_300_800.0).contains(&seconds) {
        return Err(PyValueError::new_err(format!(
            "expires must be in the years 1970 to 9999, got {seconds} s"
        )));
    }
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}
