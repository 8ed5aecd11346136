//! `req`: what the client sent.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{COOKIE, HOST};
use http::request::Parts;
use hypern_core::presence::Presence;
use hypern_core::router::Params;
use hypern_core::server::Miss;
use percent_encoding::percent_decode_str;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyType};

use crate::cookie;
use crate::headers::{Headers, Value, joined};
use crate::json::{self, DecodeFailure};
use crate::upload::UploadStream;

/// The body of a request.
#[derive(Debug)]
pub(crate) enum Upload {
    /// All of it, read before the handler was called.
    Whole(Bytes),
    /// An object whose sync or async iteration yields the chunks as they arrive.
    Live(Py<PyAny>),
}

/// One request.
#[pyclass(frozen, module = "hypern")]
pub(crate) struct Request {
    head: Parts,
    params: Params,
    upload: Upload,
    client: SocketAddr,
    presence: Arc<Presence>,
    miss: Option<Miss>,
    body: PyOnceLock<Py<PyBytes>>,
    params_dict: PyOnceLock<Py<PyDict>>,
    query_dict: PyOnceLock<Py<PyDict>>,
    cookie_dict: PyOnceLock<Py<PyDict>>,
    form: OnceLock<Py<PyAny>>,
}

impl Request {
    pub(crate) fn new(
        head: Parts,
        params: Params,
        upload: Upload,
        client: SocketAddr,
        presence: Arc<Presence>,
        miss: Option<Miss>,
    ) -> Self {
        Self {
            head,
            params,
            upload,
            client,
            presence,
            miss,
            body: PyOnceLock::new(),
            params_dict: PyOnceLock::new(),
            query_dict: PyOnceLock::new(),
            cookie_dict: PyOnceLock::new(),
            form: OnceLock::new(),
        }
    }

    /// Method, target, version and headers as they were received.
    pub(crate) fn head(&self) -> &Parts {
        &self.head
    }

    fn query_pairs(&self) -> form_urlencoded::Parse<'_> {
        form_urlencoded::parse(self.head.uri.query().unwrap_or_default().as_bytes())
    }

    fn find_query(&self, name: &str) -> Option<String> {
        self.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    fn whole(&self, method: &str) -> PyResult<&Bytes> {
        match &self.upload {
            Upload::Whole(body) => Ok(body),
            Upload::Live(_) => Err(PyRuntimeError::new_err(format!(
                "req.{method}() needs the whole body, but the route has stream_body=True: iterate req.stream(), or \
                 register the route without stream_body"
            ))),
        }
    }

    fn body_bytes<'py>(&self, py: Python<'py>, method: &str) -> PyResult<&Bound<'py, PyBytes>> {
        let body = self.whole(method)?;
        Ok(self.body.get_or_init(py, || PyBytes::new(py, body).unbind()).bind(py))
    }

    fn host(&self) -> String {
        match self.head.uri.authority() {
            Some(authority) => authority.as_str().to_owned(),
            // Only HTTP/1.0 may come without a Host, and then there is no name to tell.
            None => joined(&self.head.headers, HOST.as_str()).unwrap_or_else(|| "localhost".to_owned()),
        }
    }
}

#[pymethods]
impl Request {
    /// The method, such as `GET`.
    #[getter]
    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    /// The path, percent-decoded; as it was sent if that is not UTF-8.
    #[getter]
    fn path(&self) -> String {
        let path = self.head.uri.path();
        percent_decode_str(path).decode_utf8().map_or_else(|_| path.to_owned(), std::borrow::Cow::into_owned)
    }

    /// The whole URL, path and query as they were sent.
    #[getter]
    fn url(&self) -> String {
        let uri = &self.head.uri;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        format!("{}://{}{target}", uri.scheme_str().unwrap_or("http"), self.host())
    }

    /// The version of HTTP: `"1.0"`, `"1.1"` or `"2"`.
    #[getter]
    fn version(&self) -> &'static str {
        match self.head.version {
            http::Version::HTTP_09 => "0.9",
            http::Version::HTTP_10 => "1.0",
            http::Version::HTTP_2 => "2",
            http::Version::HTTP_3 => "3",
            _ => "1.1",
        }
    }

    /// Address and port of the other end of the connection.
    #[getter]
    fn client(&self) -> (String, u16) {
        (self.client.ip().to_string(), self.client.port())
    }

    /// A parameter of the route's path, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn param<'py>(&self, py: Python<'py>, name: &str, default: Option<Bound<'py, PyAny>>) -> Value<'py> {
        found(py, self.params.get(name).map(str::to_owned), default)
    }

    /// The parameters of the route's path.
    #[getter]
    fn params<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyDict>> {
        cached(py, &self.params_dict, |dict| {
            self.params.iter().try_for_each(|(name, value)| dict.set_item(name, value))
        })
    }

    /// The first value of a query parameter, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn query<'py>(&self, py: Python<'py>, name: &str, default: Option<Bound<'py, PyAny>>) -> Value<'py> {
        found(py, self.find_query(name), default)
    }

    /// Every value of a query parameter, in order.
    fn query_all(&self, name: &str) -> Vec<String> {
        self.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
    }

    /// The query parameters, each with its first value.
    #[getter]
    fn query_params<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyDict>> {
        cached(py, &self.query_dict, |dict| {
            self.query_pairs().try_for_each(|(name, value)| set_first(dict, &name, &value))
        })
    }

    /// A header's value, whatever the case of its name, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn header<'py>(&self, py: Python<'py>, name: &str, default: Option<Bound<'py, PyAny>>) -> Value<'py> {
        found(py, joined(&self.head.headers, name), default)
    }

    /// The headers, as a read-only mapping.
    #[getter]
    fn get_headers(slf: Py<Self>) -> Headers {
        Headers::new(slf)
    }

    /// A cookie's value, or `default`.
    #[pyo3(signature = (name, default=None))]
    fn cookie<'py>(&self, py: Python<'py>, name: &str, default: Option<Bound<'py, PyAny>>) -> Value<'py> {
        let header = joined(&self.head.headers, COOKIE.as_str()).unwrap_or_default();
        let value = cookie::parse(&header).find(|(key, _)| *key == name).map(|(_, value)| value);
        found(py, value, default)
    }

    /// The cookies; of several with one name the first, which is the one with the longest path.
    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyDict>> {
        cached(py, &self.cookie_dict, |dict| {
            let header = joined(&self.head.headers, COOKIE.as_str()).unwrap_or_default();
            cookie::parse(&header).try_for_each(|(name, value)| set_first(dict, name, &value))
        })
    }

    /// The whole body.
    fn body<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyBytes>> {
        self.body_bytes(py, "body")
    }

    /// The whole body as text.
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        match std::str::from_utf8(self.whole("text")?) {
            Ok(text) => Ok(PyString::new(py, text)),
            Err(error) => Err(http_error(py, 400, &format!("The body is not UTF-8: {error}"))),
        }
    }

    /// The body's JSON value; with `type`, checked against it and converted: any type that msgspec
    /// decodes, or a Pydantic model.
    #[pyo3(signature = (r#type=None))]
    fn json<'py>(&self, py: Python<'py>, r#type: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        let body = self.body_bytes(py, "json")?;
        json::decode(body, r#type.as_ref()).map_err(|error| json_error(py, error))
    }

    /// The body's form fields and files.
    fn form<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static PARSE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        if let Some(form) = self.form.get() {
            return Ok(form.bind(py).clone());
        }
        let body = self.body_bytes(py, "form")?;
        let content_type = joined(&self.head.headers, "content-type").unwrap_or_default();
        let form = PARSE.import(py, "hypern.forms", "parse")?.call1((body, content_type))?;
        Ok(self.form.get_or_init(|| form.unbind()).bind(py).clone())
    }

    /// The body chunk by chunk: iterate it with `for` or `async for`.
    fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &self.upload {
            Upload::Whole(body) => Ok(Bound::new(py, UploadStream::new(body.clone()))?.into_any()),
            Upload::Live(chunks) => Ok(chunks.bind(py).clone()),
        }
    }

    /// The id of the last event that a reconnecting client received.
    ///
    /// The `Last-Event-ID` header, else the query's `lastEventId`, else its `last_event_id`; an empty one is none.
    #[getter]
    fn last_event_id(&self) -> Option<String> {
        let given = |value: &String| !value.is_empty();
        joined(&self.head.headers, "last-event-id")
            .filter(given)
            .or_else(|| self.find_query("lastEventId").filter(given))
            .or_else(|| self.find_query("last_event_id").filter(given))
    }

    /// Whether the client has left.
    #[getter]
    fn disconnected(&self) -> bool {
        self.presence.left()
    }

    /// Status and `Allow` value of the answer to a request without a route; `None` where a route was found.
    #[getter]
    fn miss(&self) -> Option<(u16, Option<&str>)> {
        let miss = self.miss.as_ref()?;
        Some((miss.status().as_u16(), miss.allow().and_then(|allow| allow.to_str().ok())))
    }

    fn __repr__(&self) -> String {
        format!("<Request {} {}>", self.head.method, self.head.uri.path())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Upload::Live(chunks) = &self.upload {
            visit.call(chunks)?;
        }
        visit.call(self.form.get())
    }
}

fn found<'py>(py: Python<'py>, value: Option<String>, default: Option<Bound<'py, PyAny>>) -> Value<'py> {
    match value {
        Some(value) => Value::Text(value),
        None => Value::Default(default.unwrap_or_else(|| py.None().into_bound(py))),
    }
}

fn cached<'a, 'py>(
    py: Python<'py>,
    cache: &'a PyOnceLock<Py<PyDict>>,
    fill: impl FnOnce(&Bound<'py, PyDict>) -> PyResult<()>,
) -> PyResult<&'a Bound<'py, PyDict>> {
    let dict = cache.get_or_try_init(py, || {
        let dict = PyDict::new(py);
        fill(&dict)?;
        Ok::<_, PyErr>(dict.unbind())
    })?;
    Ok(dict.bind(py))
}

fn set_first(dict: &Bound<'_, PyDict>, name: &str, value: &str) -> PyResult<()> {
    if dict.contains(name)? { Ok(()) } else { dict.set_item(name, value) }
}

fn json_error(py: Python<'_>, error: PyErr) -> PyErr {
    let explained = match json::decode_failure(py, &error) {
        Ok(Some(DecodeFailure::Syntax(detail))) => {
            http_error(py, 400, &format!("The body is not valid JSON: {detail}"))
        }
        Ok(Some(DecodeFailure::Shape(detail))) => http_error(py, 422, &detail),
        Ok(None) => return error,
        Err(other) => return other,
    };
    explained.set_cause(py, Some(error));
    explained
}

/// A `hypern.errors.HTTPException`.
fn http_error(py: Python<'_>, status: u16, detail: &str) -> PyErr {
    static HTTP_EXCEPTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = HTTP_EXCEPTION.import(py, "hypern.errors", "HTTPException");
    match made.and_then(|class| class.call1((status, detail))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
