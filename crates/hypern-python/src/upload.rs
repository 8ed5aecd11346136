//! `req.stream()` of a body that is already here: the same interface as a live upload.

use std::sync::Mutex;

use bytes::Bytes;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The most that one chunk holds, as much as a stream holds unsent.
const CHUNK: usize = 64 * 1024;

/// A sync and async iterator over the chunks of a body.
#[pyclass(frozen, module = "hypern", name = "UploadStream")]
#[derive(Debug)]
pub(crate) struct Chunks {
    rest: Mutex<Bytes>,
}

impl Chunks {
    pub(crate) fn new(body: Bytes) -> Self {
        Self { rest: Mutex::new(body) }
    }

    fn take(&self) -> Option<Bytes> {
        let mut rest = self.rest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let length = rest.len().min(CHUNK);
        (length > 0).then(|| rest.split_to(length))
    }
}

#[pymethods]
impl Chunks {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.take().map(|chunk| PyBytes::new(py, &chunk))
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> Option<Ready> {
        self.take().map(|chunk| Ready { value: PyBytes::new(py, &chunk).into_any().unbind() })
    }
}

/// An awaitable that is done already.
#[pyclass(frozen, module = "hypern")]
#[derive(Debug)]
pub(crate) struct Ready {
    value: Py<PyAny>,
}

#[pymethods]
impl Ready {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Err(PyStopIteration::new_err((self.value.clone_ref(py),)))
    }
}
