//! From Tokio's threads to the event loop.
//!
//! Messages go into one queue, and an eventfd wakes the loop once for all that are in it: 0.2–0.34 µs a message, where
//! `call_soon_threadsafe` costs 8.5–10.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyTuple};
use tracing::error;

use crate::contextvars::Variables;
use crate::engine::Engine;
use crate::foreign;
use crate::threads::Overloaded;

/// What the event loop does when it is woken.
pub(crate) type Message = Box<dyn FnOnce(Python<'_>) + Send>;

/// The queue in front of one event loop.
pub(crate) struct Bridge {
    queue: Mutex<Queue>,
    bell: File,
}

#[derive(Default)]
struct Queue {
    messages: Vec<Message>,
    /// The bell has been rung, and the loop has not come yet.
    is_rung: bool,
}

impl Bridge {
    pub(crate) fn new() -> PyResult<Arc<Self>> {
        // SAFETY: eventfd takes no pointers; the result is checked.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(PyOSError::new_err(std::io::Error::last_os_error().to_string()));
        }
        // SAFETY: the descriptor is new and owned by nobody else.
        let bell = unsafe { File::from_raw_fd(descriptor) };
        Ok(Arc::new(Self { queue: Mutex::default(), bell }))
    }

    /// Has `message` run on the event loop, from any thread.
    pub(crate) fn post(&self, message: Message) {
        let mut queue = self.queue.lock();
        queue.messages.push(message);
        self.ring_for(queue);
    }

    /// Puts a message before the event loop and returns how many wait there for a [`Bridge::ring`].
    pub(crate) fn enqueue(&self, message: Message) -> usize {
        let mut queue = self.queue.lock();
        queue.messages.push(message);
        if queue.is_rung { 0 } else { queue.messages.len() }
    }

    /// Wakes the event loop, if there is something for it.
    pub(crate) fn ring(&self) {
        let queue = self.queue.lock();
        if !queue.messages.is_empty() {
            self.ring_for(queue);
        }
    }

    fn ring_for(&self, mut queue: MutexGuard<'_, Queue>) {
        let is_rung = std::mem::replace(&mut queue.is_rung, true);
        drop(queue);
        if !is_rung && let Err(error) = (&self.bell).write(&1_u64.to_ne_bytes()) {
            error!(%error, "cannot wake the event loop");
        }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    fn deliver(&self, py: Python<'_>) {
        // The bell is silenced before the queue is emptied: a message in between rings it again.
        (&self.bell).read_exact(&mut [0; size_of::<u64>()]).ok();
        let Queue { messages, is_rung: _ } = std::mem::take(&mut *self.queue.lock());
        for message in messages {
            message(py);
        }
    }
}

thread_local! {
    /// The engine whose event loop runs on this thread.
    static CURRENT: RefCell<Option<Arc<Engine>>> = const { RefCell::new(None) };
}

/// Makes an engine known to [`run_on_thread`] on its event loop's thread.
pub(crate) fn set_current(engine: &Arc<Engine>) {
    CURRENT.set(Some(engine.clone()));
}

pub(crate) fn clear_current() {
    CURRENT.set(None);
}

/// Runs `call(*arguments)` on the pool, in a copy of the current context. Returns a future of the running event loop.
#[pyfunction]
#[pyo3(signature = (call, *arguments))]
pub(crate) fn run_on_thread(call: Py<PyAny>, arguments: Py<PyTuple>, py: Python<'_>) -> PyResult<Py<PyAny>> {
    let Some(engine) = CURRENT.with_borrow(Option::clone) else {
        return Err(PyRuntimeError::new_err(
            "run_on_thread works only on the event loop of a running server",
        ));
    };
    let future = engine.new_future(py)?;
    let completed = future.clone_ref(py);
    let variables = Variables::copy_current(py)?;
    let bridge = engine.bridge.clone();
    let job = move |py: Python<'_>| {
        let outcome = variables.run(py, || foreign::apply(call.bind(py), arguments.bind(py))).flatten();
        let outcome = outcome.map(Bound::unbind);
        bridge.post(Box::new(move |py| resolve(py, &completed, outcome)));
    };
    match engine.pool.submit(Box::new(job)) {
        Ok(()) => Ok(future),
        Err(Overloaded) => Err(overloaded(py)),
    }
}

/// `HTTPException(503)` that asks the client to come again.
fn overloaded(py: Python<'_>) -> PyErr {
    let error = || -> PyResult<PyErr> {
        let headers = [("retry-after", "1")].into_py_dict(py)?;
        let arguments = [("headers", headers)].into_py_dict(py)?;
        let exception =
            py.import("hypern.errors")?.getattr("HTTPException")?.call((503,), Some(&arguments))?;
        Ok(PyErr::from_value(exception))
    };
    error().unwrap_or_else(|error| error)
}

/// The reader that the event loop calls when the bell rings.
#[pyclass(frozen, module = "hypern._hypern")]
pub(crate) struct Inbox(pub(crate) Arc<Bridge>);

#[pymethods]
impl Inbox {
    fn __call__(&self, py: Python<'_>) {
        self.0.deliver(py);
    }
}

/// Completes an asyncio future, unless it has been cancelled. Only on its event loop.
pub(crate) fn resolve(py: Python<'_>, future: &Py<PyAny>, outcome: PyResult<Py<PyAny>>) {
    let complete = || -> PyResult<()> {
        let future = future.bind(py);
        if future.call_method0("done")?.is_truthy()? {
            return Ok(());
        }
        match outcome {
            Ok(value) => future.call_method1("set_result", (value,))?,
            Err(error) => future.call_method1("set_exception", (error.into_value(py),))?,
        };
        Ok(())
    };
    if let Err(error) = complete() {
        error.write_unraisable(py, Some(future.bind(py)));
    }
}
