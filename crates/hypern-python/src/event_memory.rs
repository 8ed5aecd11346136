//! Events that are over, kept to be events again.
//!
//! To allocate an object through `tp_new`, and to free it, takes as long as all the rest of an event. A dead event keeps its
//! memory here instead, and only its fields and its class are let go: made and dropped, an `SSEEvent` takes 32 ns (CPython
//! 3.11), where it is 60 with PyO3's `freelist`, which keeps the memory behind a mutex and goes all the way of `tp_new`.
//!
//! Nor does the garbage collector track events, which it would for every class of PyO3's. It could do nothing with them: it
//! does not see their fields, and the only cycle there can be runs through data that holds its own event, which has no
//! JSON form.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::OnceLock;

use pyo3::PyTypeInfo;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::event::SseEvent;

/// How many are kept: some for each generator that has yielded one and not been asked for the next.
const KEPT: usize = 256;

static MEMORY: OnceLock<Memory> = OnceLock::new();

struct Memory {
    class: *mut ffi::PyTypeObject,
    /// What frees an event that is not kept.
    free: ffi::destructor,
    /// Where in an object the event is.
    offset: usize,
    dead: UnsafeCell<Dead>,
}

struct Dead {
    objects: [*mut ffi::PyObject; KEPT],
    count: usize,
}

// SAFETY: whoever uses it is attached, and the interpreter has a lock: see `install`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// Has events kept when they are over. Not without the interpreter's lock, which is what guards them.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let flags = py.import("sys")?.getattr(intern!(py, "abiflags"))?;
    if flags.cast::<PyString>()?.to_str()?.contains('t') {
        return Ok(());
    }
    let class = SseEvent::type_object_raw(py);
    let event = Bound::new(py, SseEvent::build(py.None().into_bound(py), None, None, None)?)?;
    let offset = ptr::from_ref(event.get()).addr() - event.as_ptr().addr();
    drop(event);
    // SAFETY: the type object is alive for as long as the process, this thread is attached, and no event is left.
    let free = unsafe { (*class).tp_dealloc };
    if let Some(free) = free {
        let dead = Dead { objects: [ptr::null_mut(); KEPT], count: 0 };
        MEMORY.get_or_init(|| Memory { class, free, offset, dead: dead.into() });
        // SAFETY: as above.
        unsafe { (*class).tp_dealloc = Some(drop_event) };
    }
    Ok(())
}

/// `Bound::new` for events.
#[inline(always)]
pub(crate) fn new<'py>(py: Python<'py>, event: SseEvent) -> PyResult<Bound<'py, PyAny>> {
    if let Some(memory) = MEMORY.get()
        && let Some(object) = memory.take()
    {
        // SAFETY: the object has been one of this class and is nobody's now, so nobody looks at its event, and it may
        // begin once more as one with a reference to it, which is the one that is returned.
        return Ok(unsafe {
            memory.event(object).write(event);
            Bound::from_owned_ptr(py, ffi::PyObject_Init(object, memory.class))
        });
    }
    let event = Bound::new(py, event)?.into_any();
    // SAFETY: attached, and the object is of a class that the garbage collector knows.
    unsafe { ffi::PyObject_GC_UnTrack(event.as_ptr().cast()) };
    Ok(event)
}

/// The `tp_dealloc` of events, and, by way of their own, of objects of subclasses.
///
/// # Safety
/// The protocol of CPython: attached, and the last reference to the object is gone.
unsafe extern "C" fn drop_event(object: *mut ffi::PyObject) {
    let Some(memory) = MEMORY.get() else { return };
    // SAFETY: the object is still whole.
    let is_exact = ptr::eq(unsafe { ffi::Py_TYPE(object) }, memory.class);
    if !is_exact || !memory.has_room() {
        // SAFETY: as promised to this function.
        return unsafe { (memory.free)(object) };
    }
    // SAFETY: attached, as CPython promises.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as for `new`; an object of `tp_new` itself is tracked.
    unsafe { ffi::PyObject_GC_UnTrack(object.cast()) };
    // SAFETY: nobody else looks at the event, and it is not looked at again: it is written before the object is given out.
    let event = unsafe { memory.event(object).read() };
    memory.keep(object);
    // SAFETY: an object has a reference to its class, which `PyObject_Init` takes anew.
    unsafe { ffi::Py_DECREF(memory.class.cast()) };
    // The last, because it may run any code, which may make events.
    event.release(py);
}

impl Memory {
    /// # Safety
    /// The object is one of the class, or has been.
    unsafe fn event(&self, object: *mut ffi::PyObject) -> *mut SseEvent {
        // SAFETY: as promised, and the offset is that of all objects of the class.
        unsafe { object.byte_add(self.offset).cast() }
    }

    fn has_room(&self) -> bool {
        // SAFETY: the interpreter's lock is held, and no Python code runs here.
        unsafe { (*self.dead.get()).count < KEPT }
    }

    fn keep(&self, object: *mut ffi::PyObject) {
        // SAFETY: as above.
        let dead = unsafe { &mut *self.dead.get() };
        dead.objects[dead.count] = object;
        dead.count += 1;
    }

    fn take(&self) -> Option<*mut ffi::PyObject> {
        // SAFETY: as above.
        let dead = unsafe { &mut *self.dead.get() };
        dead.count = dead.count.checked_sub(1)?;
        Some(dead.objects[dead.count])
    }
}
