//! Calls into code that may block for as long as it likes: handlers, generators, and what they yield.
//!
//! A process may end while threads are still in there. Before 3.14 Python then ends each of them with `pthread_exit`, at
//! its next attempt to go on, and that unwinds the thread's stack; in Rust's frames it would abort the process. So such a
//! thread is stopped for good right behind Python's frames, which is what Python 3.14 does by itself.

use std::hint::black_box;
use std::thread;

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyString, PyTuple};

type Object = *mut ffi::PyObject;

unsafe extern "C-unwind" {
    fn PyObject_VectorcallDict(
        callable: Object,
        arguments: *const Object,
        count: usize,
        keywords: Object,
    ) -> Object;
    fn PyObject_Call(callable: Object, arguments: Object, keywords: Object) -> Object;
    fn PyObject_GetAttr(object: Object, name: Object) -> Object;
    fn PyIter_Next(iterator: Object) -> Object;
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
    let function: unsafe extern "C-unwind" fn(_, _, _, _) -> _ = PyObject_VectorcallDict;
    // SAFETY: attached; the callable and the first `count` pointers are live objects, and no keywords are given.
    let result = stoppable(function, |function| unsafe {
        function(callable.as_ptr(), pointers.as_ptr(), count, std::ptr::null_mut())
    });
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// Calls a function of the user's with any number of arguments.
pub(crate) fn apply<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let function: unsafe extern "C-unwind" fn(_, _, _) -> _ = PyObject_Call;
    // SAFETY: attached; both are live objects, the second a tuple, and no keywords are given.
    let result = stoppable(function, |function| unsafe {
        function(callable.as_ptr(), arguments.as_ptr(), std::ptr::null_mut())
    });
    // SAFETY: attached; the result is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// An attribute of an object of the user's, `None` if it has none of this name.
pub(crate) fn attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let function: unsafe extern "C-unwind" fn(_, _) -> _ = PyObject_GetAttr;
    // SAFETY: attached; both are live objects, the second a str.
    let value = stoppable(function, |function| unsafe { function(object.as_ptr(), name.as_ptr()) });
    // SAFETY: attached; the value is a new reference, or null with an exception set.
    match unsafe { Bound::from_owned_ptr_or_err(object.py(), value) } {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyAttributeError>(object.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The next item of an iterator of the user's, `None` at its end.
pub(crate) fn next<'py>(iterator: &Bound<'py, PyIterator>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let function: unsafe extern "C-unwind" fn(_) -> _ = PyIter_Next;
    // SAFETY: attached, and the object is an iterator.
    let item = stoppable(function, |function| unsafe { function(iterator.as_ptr()) });
    // SAFETY: attached; the item is a new reference, or null with or without an exception set.
    match unsafe { Bound::from_owned_ptr_or_opt(iterator.py(), item) } {
        Some(item) => Ok(Some(item)),
        None => PyErr::take(iterator.py()).map_or(Ok(None), Err),
    }
}

/// Calls a function of Python's, and stops this thread for good if it is unwound out of there.
///
/// PyO3 declares the same functions as ones that nothing unwinds through, and the compiler keeps one truth for each name;
/// so the call goes through a pointer of which it cannot tell where it points.
#[inline]
fn stoppable<F, T>(function: F, call: impl FnOnce(F) -> T) -> T {
    let stop = StopWhenUnwound;
    let result = call(black_box(function));
    std::mem::forget(stop);
    result
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
