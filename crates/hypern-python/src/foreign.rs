//! Calls into code that may block for as long as it likes: handlers and generators.
//!
//! A process may end while threads are still in there. Before 3.14 Python then ends each of them with `pthread_exit`, at
//! its next attempt to go on, and that unwinds the thread's stack; in Rust's frames it would abort the process. So such a
//! thread is stopped for good right behind Python's frames, which is what Python 3.14 does by itself.

use std::thread;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyTuple};

// PyO3's own declarations say that nothing unwinds through these functions.
unsafe extern "C-unwind" {
    fn PyObject_VectorcallDict(
        callable: *mut ffi::PyObject,
        arguments: *const *mut ffi::PyObject,
        count_and_flag: usize,
        keywords: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    fn PyObject_Call(
        callable: *mut ffi::PyObject,
        arguments: *mut ffi::PyObject,
        keywords: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    fn PyIter_Next(iterator: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// The most arguments that [`call`] takes.
const ARGUMENTS: usize = 4;

/// Calls a function of the user's. Of the arguments the first four count.
pub(crate) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: &[&Bound<'py, PyAny>],
) -> PyResult<Bound<'py, PyAny>> {
    let mut pointers = [std::ptr::null_mut(); ARGUMENTS];
    let count = arguments.len().min(ARGUMENTS);
    for (pointer, argument) in pointers.iter_mut().zip(arguments) {
        *pointer = argument.as_ptr();
    }
    let stop = StopWhenUnwound;
    // SAFETY: attached; the callable and the first `count` pointers are live objects, and no keywords are given.
    let result =
        unsafe { PyObject_VectorcallDict(callable.as_ptr(), pointers.as_ptr(), count, std::ptr::null_mut()) };
    std::mem::forget(stop);
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Calls a function of the user's with any number of arguments.
pub(crate) fn apply<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let stop = StopWhenUnwound;
    // SAFETY: attached; both are live objects, the second a tuple, and no keywords are given.
    let result = unsafe { PyObject_Call(callable.as_ptr(), arguments.as_ptr(), std::ptr::null_mut()) };
    std::mem::forget(stop);
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// The next item of an iterator of the user's, `None` at its end.
pub(crate) fn next<'py>(iterator: &Bound<'py, PyIterator>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let stop = StopWhenUnwound;
    // SAFETY: attached, and the object is an iterator.
    let item = unsafe { PyIter_Next(iterator.as_ptr()) };
    std::mem::forget(stop);
    // SAFETY: attached; the item is a new reference, or null with or without an exception set.
    match unsafe { Bound::from_owned_ptr_or_opt(iterator.py(), item) } {
        Some(item) => Ok(Some(item)),
        None => PyErr::take(iterator.py()).map_or(Ok(None), Err),
    }
}

/// Dropped only if the thread is being unwound by somebody else: Rust's panics do not come out of Python.
struct StopWhenUnwound;

impl Drop for StopWhenUnwound {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}
