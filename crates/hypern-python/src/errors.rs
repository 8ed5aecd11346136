//! Exceptions that no response can tell of go to the log, once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::context::Context;
use crate::request::Request;

/// Logs an exception with its traceback and the request's id, through `hypern.errors.report`.
pub(crate) fn report(
    py: Python<'_>,
    message: &str,
    request: &Bound<'_, Request>,
    context: &Bound<'_, Context>,
    error: PyErr,
) {
    static REPORT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let reported = REPORT
        .import(py, "hypern.errors", "report")
        .and_then(|report| report.call1((message, request, context, error.into_value(py))));
    if let Err(error) = reported {
        error.write_unraisable(py, None);
    }
}
