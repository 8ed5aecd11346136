//! The `contextvars` of a handler, which its generator shares.

use pyo3::ffi;
use pyo3::prelude::*;

/// A `contextvars.Context`.
pub(crate) struct Variables(Py<PyAny>);

impl Variables {
    /// An empty context.
    pub(crate) fn fresh(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: attached; the result is a new reference or null with an exception set.
        unsafe { Self::from_owned(py, ffi::PyContext_New()) }
    }

    /// A copy of the context that is current on this thread.
    pub(crate) fn copy_current(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: attached; the result is a new reference or null with an exception set.
        unsafe { Self::from_owned(py, ffi::PyContext_CopyCurrent()) }
    }

    /// Runs `work` in this context, which must not be entered already.
    pub(crate) fn run<T>(&self, py: Python<'_>, work: impl FnOnce() -> T) -> PyResult<T> {
        // SAFETY: attached, and the object is a context.
        if unsafe { ffi::PyContext_Enter(self.0.as_ptr()) } < 0 {
            return Err(PyErr::fetch(py));
        }
        let entered = Entered(self, py);
        let result = work();
        drop(entered);
        Ok(result)
    }

    /// # Safety
    /// `context` is a new reference to a context, or null with an exception set.
    unsafe fn from_owned(py: Python<'_>, context: *mut ffi::PyObject) -> PyResult<Self> {
        // SAFETY: as the caller promises.
        unsafe { Bound::from_owned_ptr_or_err(py, context) }.map(|context| Self(context.unbind()))
    }
}

struct Entered<'a, 'py>(&'a Variables, Python<'py>);

impl Drop for Entered<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: attached, and this context was entered last on this thread.
        if unsafe { ffi::PyContext_Exit(self.0.0.as_ptr()) } < 0 {
            PyErr::fetch(self.1).write_unraisable(self.1, None);
        }
    }
}
