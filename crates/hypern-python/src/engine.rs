//! What every request of one server shares, and the ways to run it.

use std::sync::Arc;
use std::task::Waker;

use hypern_core::pipe::Callback;
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyModule;
use pyo3::types::iterator::PySendResult;
use tokio::sync::Notify;

use crate::bridge::{Bridge, resolve};
use crate::contextvars::Variables;
use crate::exchange::{Envelope, Exchange};
use crate::pump::{Flow, Sink};
use crate::threads::{Overloaded, Pool};

/// So many requests do not wait for more.
const BATCH: usize = 16;

/// The application, its threads and its event loop, and how much of it runs.
pub(crate) struct Engine {
    pub(crate) application: Py<PyAny>,
    /// Turns an exception into a response: `on_error(req, res, ctx, error)`.
    pub(crate) on_error: Py<PyAny>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) tokio: tokio::runtime::Handle,
    pub(crate) event_loop: Py<PyAny>,
    /// There are requests that nobody has been woken for.
    dispatched: Notify,
    readers: Arc<Readers>,
    wake_readers: Py<WakeReaders>,
    /// `hypern._tasks`: the coroutines that run on the event loop.
    pub(crate) tasks: Py<PyModule>,
}

impl Engine {
    pub(crate) fn new(
        application: Py<PyAny>,
        on_error: Py<PyAny>,
        max_threads: usize,
        tokio: tokio::runtime::Handle,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<Arc<Self>> {
        let readers = Arc::new(Readers::default());
        Ok(Arc::new(Self {
            application,
            on_error,
            pool: Pool::new(max_threads),
            bridge: Bridge::new()?,
            dispatched: Notify::new(),
            tokio,
            tasks: event_loop.py().import("hypern._tasks")?.unbind(),
            event_loop: event_loop.clone().unbind(),
            wake_readers: Py::new(event_loop.py(), WakeReaders(readers.clone()))?,
            readers,
        }))
    }

    /// Runs a request where its handler wants to be, together with those that come at the same time.
    ///
    /// The thread that takes them is woken once Tokio's has read all that is there. Woken for the first it would be there
    /// before the second, on a busy machine in place of the thread that reads: a request then costs half as much again.
    pub(crate) fn dispatch(&self, envelope: Envelope) -> Result<(), Overloaded> {
        let waiting = if envelope.endpoint.get().on_loop {
            self.bridge.enqueue(Box::new(move |py| run_on_loop(py, envelope)))
        } else {
            self.pool.enqueue(Box::new(move |py| run_on_thread(py, envelope)))?
        };
        match waiting {
            0 => {}
            1..BATCH => self.dispatched.notify_one(),
            _ => self.wake(),
        }
        Ok(())
    }

    /// Wakes whoever has requests to take, for ever, each time that Tokio has done all that was ready.
    pub(crate) async fn wake_after_dispatch(&self) {
        loop {
            self.dispatched.notified().await;
            tokio::task::yield_now().await;
            self.wake();
        }
    }

    fn wake(&self) {
        self.bridge.ring();
        self.pool.summon();
    }

    /// Starts the task that fills the pipe of a stream from an async source. Only on the loop.
    pub(crate) fn start_pump(&self, py: Python<'_>, variables: &Variables, flow: Flow) {
        let exchange = flow.exchange.clone_ref(py);
        let pipe = flow.pipe.clone();
        let start = || self.start(py, "pump", (Sink::new(flow),));
        if let Err(error) = variables.run(py, start).flatten() {
            exchange.get().report(py, "a stream could not be started", error);
            pipe.cut(&[]);
        }
    }

    /// Starts the task that awaits an async error handler. Only on the loop.
    pub(crate) fn start_recovery(&self, py: Python<'_>, exchange: Py<Exchange>, handling: Py<PyAny>) {
        let started = self.start(py, "complete_recovery", (exchange.clone_ref(py), handling));
        if let Err(error) = started {
            exchange.get().give_up(py, error);
        }
    }

    /// A future of the event loop which the callback completes with None, from any thread. Only on the loop.
    pub(crate) fn future(&self, py: Python<'_>, arrange: impl FnOnce(Callback)) -> PyResult<Py<PyAny>> {
        let future = self.new_future(py)?;
        let completed = future.clone_ref(py);
        let bridge = self.bridge.clone();
        arrange(Box::new(move || bridge.post(Box::new(move |py| resolve(py, &completed, Ok(py.None()))))));
        Ok(future)
    }

    /// A future of the event loop. Only on the loop.
    pub(crate) fn new_future(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.event_loop.bind(py).call_method0(intern!(py, "create_future")).map(Bound::unbind)
    }

    /// Wakes a connection's task once the event loop has run all that is ready now. Only on the loop.
    ///
    /// A thousand streams that are due at the same time then wake Tokio's thread once, not a thousand times: it would
    /// otherwise be done with each before the next one came.
    pub(crate) fn wake_soon(&self, py: Python<'_>, reader: Waker) {
        let mut waiting = self.readers.0.lock();
        let is_first = waiting.is_empty();
        waiting.push(reader);
        drop(waiting);
        let arranged = !is_first
            || self.event_loop.bind(py).call_method1(intern!(py, "call_soon"), (&self.wake_readers,)).is_ok();
        if !arranged {
            // The loop is closed.
            self.readers.wake();
        }
    }

    /// Starts a task of `hypern._tasks`.
    fn start<'py>(
        &self,
        py: Python<'py>,
        coroutine: &str,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<()> {
        let tasks = self.tasks.bind(py);
        let coroutine = tasks.getattr(coroutine)?.call1(arguments)?;
        tasks.getattr(intern!(py, "start"))?.call1((&self.event_loop, coroutine))?;
        Ok(())
    }
}

/// Tasks of connections for which there is something to send.
#[derive(Default)]
struct Readers(Mutex<Vec<Waker>>);

impl Readers {
    fn wake(&self) {
        let readers = std::mem::take(&mut *self.0.lock());
        for reader in readers {
            reader.wake();
        }
    }
}

/// What the event loop calls after what is ready.
#[pyclass(frozen, module = "hypern._hypern")]
struct WakeReaders(Arc<Readers>);

#[pymethods]
impl WakeReaders {
    fn __call__(&self) {
        self.0.wake();
    }
}

fn run_on_thread(py: Python<'_>, envelope: Envelope) {
    let run = || -> PyResult<()> {
        let exchange = Bound::new(py, Exchange::open(py, envelope)?)?;
        let answered =
            exchange.get().call_handler(py).and_then(|result| Exchange::answer(&exchange, &result));
        match answered {
            Ok(None) => {}
            Ok(Some(flow)) => flow.run_on_thread(py),
            Err(error) => {
                if let Some(aftermath) = Exchange::recover(&exchange, error) {
                    aftermath.run_on_thread(&exchange);
                }
            }
        }
        Ok(())
    };
    if let Err(error) = Variables::fresh(py).and_then(|variables| variables.run(py, run)).flatten() {
        error.write_unraisable(py, None);
    }
}

fn run_on_loop(py: Python<'_>, envelope: Envelope) {
    let run = || -> PyResult<()> {
        let exchange = Bound::new(py, Exchange::open(py, envelope)?)?;
        if exchange.get().suspends() {
            return exchange.get().engine.start(py, "respond", (&exchange,));
        }
        match run_at_once(&exchange) {
            Ok(None) => Ok(()),
            Ok(Some(sink)) => exchange.get().engine.start(py, "pump", (sink,)),
            Err(error) => exchange.get().engine.start(py, "recover", (&exchange, error.into_value(py))),
        }
    };
    if let Err(error) = Variables::copy_current(py).and_then(|variables| variables.run(py, run)).flatten() {
        error.write_unraisable(py, None);
    }
}

/// Runs a coroutine that never waits, without a task: 0.5 µs where a task costs 4.
fn run_at_once(exchange: &Bound<'_, Exchange>) -> PyResult<Option<Sink>> {
    let py = exchange.py();
    let coroutine = exchange.get().call_handler(py)?;
    // SAFETY: `send` needs an iterator or an object with a `send` method, and a coroutine is the latter.
    let result =
        match unsafe { coroutine.cast_unchecked::<pyo3::types::PyIterator>() }.send(py.None().bind(py))? {
            PySendResult::Return(result) => result,
            PySendResult::Next(_) => {
                coroutine.call_method0("close")?;
                return Err(PyRuntimeError::new_err("a coroutine without an await was suspended"));
            }
        };
    match Exchange::answer(exchange, &result)? {
        Some(flow) => flow.run_from_loop(py),
        None => Ok(None),
    }
}
