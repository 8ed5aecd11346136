//! A request's headers as a read-only mapping whose names ignore case.

use http::HeaderMap;
use http::header::{COOKIE, HeaderName, HeaderValue};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::request::Request;

/// The headers of a request: `collections.abc.Mapping[str, str]`, names in lower case and looked up in any.
///
/// A header that was sent on several lines reads as one value joined with `", "` (RFC 9110, 5.3), cookies with
/// `"; "` (RFC 9113, 8.2.3); `get_all` gives the lines.
// Holds the request and not a copy: every `req.headers` makes a new one, and most requests never ask.
#[pyclass(frozen, mapping, module = "hypern")]
pub(crate) struct Headers {
    request: Py<Request>,
}

impl Headers {
    pub(crate) fn new(request: Py<Request>) -> Self {
        Self { request }
    }

    fn map(&self) -> &HeaderMap {
        &self.request.get().head().headers
    }
}

/// Makes `isinstance(req.headers, collections.abc.Mapping)` true.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let mapping = py.import("collections.abc")?.getattr("Mapping")?;
    mapping.call_method1("register", (py.get_type::<Headers>(),)).map(drop)
}

#[pymethods]
impl Headers {
    fn __getitem__(&self, name: &str) -> PyResult<String> {
        joined(self.map(), name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<&str>().is_ok_and(|name| self.map().contains_key(name))
    }

    fn __len__(&self) -> usize {
        self.map().keys_len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.keys().into_pyobject(py)?.try_iter()
    }

    /// The value of a header, or `default` without one.
    #[pyo3(signature = (name, default=None, /))]
    fn get<'py>(
        &self,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
        py: Python<'py>,
    ) -> PyResult<Value<'py>> {
        Ok(match joined(self.map(), name) {
            Some(value) => Value::Text(value),
            None => Value::Default(default.unwrap_or_else(|| py.None().into_bound(py))),
        })
    }

    /// Every value of a header, in the order of its lines.
    fn get_all(&self, name: &str) -> Vec<String> {
        self.map().get_all(name).iter().map(text).collect()
    }

    /// The names, in lower case, each once.
    fn keys(&self) -> Vec<&str> {
        self.map().keys().map(HeaderName::as_str).collect()
    }

    /// The values, one for each name.
    fn values(&self) -> Vec<String> {
        self.items().into_iter().map(|(_, value)| value).collect()
    }

    /// Pairs of name and value, one for each name.
    fn items(&self) -> Vec<(&str, String)> {
        let map = self.map();
        map.keys().filter_map(|name| Some((name.as_str(), joined(map, name.as_str())?))).collect()
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let own: std::collections::HashMap<&str, String> = self.items().into_iter().collect();
        if let Ok(other) = other.cast::<Self>() {
            return Ok(own == other.get().items().into_iter().collect());
        }
        other.eq(own.into_pyobject(other.py())?)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let plain = pyo3::types::PyDict::new(py);
        for (name, value) in self.items() {
            plain.set_item(name, value)?;
        }
        Ok(format!("<Headers {}>", plain.repr()?))
    }
}

/// A value that was found, or what the caller gave for its absence.
#[derive(IntoPyObject)]
pub(crate) enum Value<'py> {
    /// It was found.
    Text(String),
    /// It was not.
    Default(Bound<'py, PyAny>),
}

/// All lines of a header as one value.
pub(crate) fn joined(map: &HeaderMap, name: &str) -> Option<String> {
    let mut lines = map.get_all(name).iter();
    let mut value = text(lines.next()?);
    let separator = if name.eq_ignore_ascii_case(COOKIE.as_str()) { "; " } else { ", " };
    for line in lines {
        value.push_str(separator);
        value.push_str(&text(line));
    }
    Some(value)
}

/// A header's bytes as text: UTF-8 where they are UTF-8, Latin-1 otherwise, so that nothing is lost.
fn text(value: &HeaderValue) -> String {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    }
}
