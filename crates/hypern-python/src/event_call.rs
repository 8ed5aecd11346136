//! The fast way into `SSEEvent(...)`: the type's vectorcall.
//!
//! `SSEEvent(data, event=..., id=...)`, made and dropped, takes 32 ns this way and 124 through `#[new]`, which gets its
//! arguments in a tuple and a dict (CPython 3.11, one core).

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTypeInfo, intern};

use crate::event::SseEvent;
use crate::event_memory;

/// Lets calls of the class go through [`call`] and not through `type.__call__`, which packs the arguments into a
/// tuple and a dict. Subclasses do not inherit it and take `#[new]`.
pub(crate) fn install(py: Python<'_>) {
    let class = SseEvent::type_object_raw(py);
    // SAFETY: the type object is alive for as long as the process, this thread is attached, and nobody has called
    // the class yet, because the module that will hold it is still being made.
    unsafe { (*class).tp_vectorcall = Some(call) };
}

/// # Safety
///
/// The vectorcall protocol (PEP 590): attached, `arguments` holds the positional arguments and then one value for
/// each name in the tuple `names`, which may be null.
unsafe extern "C" fn call(
    class: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count_and_flag: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this on an attached thread, and no reference outlives the call.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: this is the argument of that name of the protocol.
    let count = unsafe { ffi::PyVectorcall_NARGS(count_and_flag) } as usize;
    // SAFETY: what CPython gave us goes on unchanged.
    let made = match unsafe { read(py, arguments, count, names) } {
        Some(fields) => fields.make(py),
        // SAFETY: as above.
        None => unsafe { call_slowly(py, class, arguments, count, names) },
    };
    match made {
        Ok(event) => event.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// What the usual call gives: data by position, the rest by name.
struct Fields<'py> {
    data: Bound<'py, PyAny>,
    id: Option<Bound<'py, PyAny>>,
    event: Option<Bound<'py, PyAny>>,
    retry: Option<Bound<'py, PyAny>>,
}

impl<'py> Fields<'py> {
    #[inline(always)]
    fn make(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let event = SseEvent::build(self.data, self.id, self.event, self.retry)?;
        event_memory::new(py, event)
    }
}

/// The fields of a call, or `None` if it is not the usual one: whatever is unusual or wrong is `#[new]`'s to judge.
///
/// # Safety
///
/// As for [`call`]; `count` is the number of positional arguments.
#[inline]
unsafe fn read<'py>(
    py: Python<'py>,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> Option<Fields<'py>> {
    if count != 1 {
        return None;
    }
    // SAFETY: there is one positional argument, which the caller keeps alive during the call.
    let data = unsafe { Bound::from_borrowed_ptr(py, *arguments) };
    let mut fields = Fields { data, id: None, event: None, retry: None };
    if names.is_null() {
        return Some(fields);
    }
    // SAFETY: `names` is a tuple by the protocol.
    let named = unsafe { ffi::PyTuple_GET_SIZE(names) };
    for index in 0..named {
        // SAFETY: `index` is below the tuple's size.
        let name = unsafe { ffi::PyTuple_GET_ITEM(names, index) };
        // Names in source code are interned, so identity finds them; a name made at run time takes the slow way.
        let field = if is(name, intern!(py, "id")) {
            &mut fields.id
        } else if is(name, intern!(py, "event")) {
            &mut fields.event
        } else if is(name, intern!(py, "retry")) {
            &mut fields.retry
        } else {
            return None;
        };
        // SAFETY: the values of the names follow the one positional argument, in the order of the names.
        *field = Some(unsafe { Bound::from_borrowed_ptr(py, *arguments.offset(1 + index)) });
    }
    Some(fields)
}

#[inline]
fn is(name: *mut ffi::PyObject, interned: &Bound<'_, PyString>) -> bool {
    ptr::eq(name, interned.as_ptr())
}

/// What `type.__call__` does with a tuple and a dict, and with it `#[new]` and its messages.
///
/// # Safety
///
/// As for [`call`]; `count` is the number of positional arguments.
#[cold]
unsafe fn call_slowly<'py>(
    py: Python<'py>,
    class: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: every argument up to `count + names` is there and alive by the protocol.
    let argument = |index: usize| unsafe { Bound::from_borrowed_ptr(py, *arguments.add(index)) };
    let positional = PyTuple::new(py, (0..count).map(argument))?;
    let named = PyDict::new(py);
    // SAFETY: `names` is a tuple or null by the protocol.
    if let Some(names) = unsafe { Bound::from_borrowed_ptr_or_opt(py, names) } {
        for (index, name) in names.cast_into::<PyTuple>()?.iter().enumerate() {
            named.set_item(name, argument(count + index))?;
        }
    }
    // SAFETY: `type` is a static type whose tp_call is set before any Python code can run.
    let made = unsafe {
        let call_type = ffi::PyType_Type.tp_call;
        call_type.map(|call_type| call_type(class, positional.as_ptr(), named.as_ptr()))
    };
    // SAFETY: tp_call returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, made.unwrap_or(ptr::null_mut())) }
}
