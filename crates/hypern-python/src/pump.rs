//! From a source's items to a pipe: a thread that runs an iterator, or a task that runs an async one.

use std::sync::Arc;

use hypern_core::pipe::{Closed, Pipe};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::content::is_async_iterable;
use crate::contextvars::Variables;
use crate::exchange::{Aftermath, Exchange};
use crate::feeder::Feeder;
use crate::foreign;
use crate::item;

/// A response's source and the pipe that it fills.
pub(crate) struct Flow {
    pub(crate) exchange: Py<Exchange>,
    pub(crate) source: Py<PyAny>,
    pub(crate) pipe: Arc<Pipe>,
    pub(crate) on_error: Option<Py<PyAny>>,
}

impl Flow {
    /// Fills the pipe on behalf of a thread, whose context is the handler's.
    pub(crate) fn run_on_thread(self, py: Python<'_>) {
        if !self.is_async(py) {
            return self.drive(py);
        }
        let engine = self.exchange.get().engine.clone();
        match Variables::copy_current(py) {
            Ok(variables) => {
                let bridge = engine.bridge.clone();
                bridge.post(Box::new(move |py| engine.start_pump(py, &variables, self)));
            }
            Err(error) => self.fail_to_start(py, error),
        }
    }

    /// Fills the pipe on behalf of an async handler: the caller's task does it, or a thread with a copy of its context.
    pub(crate) fn run_from_loop(self, py: Python<'_>) -> PyResult<Option<Sink>> {
        if self.is_async(py) {
            return Ok(Some(Sink::new(self)));
        }
        let variables = Variables::copy_current(py)?;
        let exchange = self.exchange.clone_ref(py);
        let pipe = self.pipe.clone();
        let source = self.source.clone_ref(py);
        let job = move |py: Python<'_>| {
            if let Err(error) = variables.run(py, || self.drive(py)) {
                error.write_unraisable(py, None);
            }
        };
        let exchange = exchange.get();
        if exchange.engine.pool.submit(Box::new(job)).is_err() && pipe.withdraw() {
            exchange.refuse();
            close_source(source.bind(py))?;
        }
        Ok(None)
    }

    fn is_async(&self, py: Python<'_>) -> bool {
        // The response has checked that the source is the one or the other.
        is_async_iterable(self.source.bind(py)).unwrap_or(false)
    }

    /// Pulls the source until it ends or nobody reads any more, and closes it, all on this thread.
    fn drive(self, py: Python<'_>) {
        let outcome = self.source.bind(py).try_iter().and_then(|iterator| {
            let fed = self.feed(&iterator);
            let closed = close_source(iterator.as_any());
            fed.and(closed)
        });
        match outcome {
            Ok(()) => self.pipe.finish(),
            Err(error) => {
                if let Some(error) = self.fail(py, error)
                    && let Some(aftermath) = Exchange::recover(self.exchange.bind(py), error)
                {
                    aftermath.run_on_thread(self.exchange.bind(py));
                }
            }
        }
    }

    fn feed(&self, iterator: &Bound<'_, PyIterator>) -> PyResult<()> {
        let py = iterator.py();
        let mut bytes = Vec::new();
        while let Some(item) = foreign::next(iterator)? {
            let written = match item::as_it_is(&item, self.pipe.kind()) {
                Some(chunk) => self.write(py, chunk.as_bytes()),
                None => {
                    bytes.clear();
                    item::encode(self.pipe.kind(), &item, &mut bytes)?;
                    self.write(py, &bytes)
                }
            };
            if written.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Writes one item, and waits detached while there is no room for it.
    fn write(&self, py: Python<'_>, bytes: &[u8]) -> Result<(), Closed> {
        let mut rest = &bytes[self.pipe.write(bytes)?..];
        while !rest.is_empty() {
            py.detach(|| self.pipe.wait_for_space())?;
            rest = &rest[self.pipe.write(rest)?..];
        }
        Ok(())
    }

    /// The source failed. Before its first item the exception comes back, for an error response to be made of it;
    /// after it, it is logged and the client is cut off.
    fn fail(&self, py: Python<'_>, error: PyErr) -> Option<PyErr> {
        if self.pipe.withdraw() {
            return Some(error);
        }
        let exchange = self.exchange.get();
        let last = match &self.on_error {
            Some(on_error) if !self.pipe.is_closed() => self.last_words(on_error.bind(py), &error),
            _ => Ok(Vec::new()),
        };
        exchange.report(py, "a stream failed", error);
        let last = last.unwrap_or_else(|error| {
            exchange.report(py, "the on_error of a stream failed", error);
            Vec::new()
        });
        self.pipe.cut(&last);
        None
    }

    fn last_words(&self, on_error: &Bound<'_, PyAny>, error: &PyErr) -> PyResult<Vec<u8>> {
        let mut bytes = Vec::new();
        let item = foreign::call(on_error, &[error.value(on_error.py())])?;
        if !item.is_none() {
            item::encode(self.pipe.kind(), &item, &mut bytes)?;
        }
        Ok(bytes)
    }

    pub(crate) fn fail_to_start(&self, py: Python<'_>, error: PyErr) {
        self.exchange.get().report(py, "a stream could not be started", error);
        self.pipe.cut(&[]);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // However a producer ends, its client must not wait for ever.
        self.pipe.abandon();
    }
}

impl Aftermath {
    /// Does the rest on behalf of a thread.
    pub(crate) fn run_on_thread(self, exchange: &Bound<'_, Exchange>) {
        match self {
            Self::Stream(flow) => flow.run_on_thread(exchange.py()),
            Self::Await(handling) => {
                let engine = exchange.get().engine.clone();
                let exchange = exchange.clone().unbind();
                let bridge = engine.bridge.clone();
                bridge.post(Box::new(move |py| engine.start_recovery(py, exchange, handling)));
            }
        }
    }
}

/// Closes a source, if it is something that wants to be: a generator then runs its `finally`.
pub(crate) fn close_source(source: &Bound<'_, PyAny>) -> PyResult<()> {
    match source.getattr_opt(intern!(source.py(), "close"))? {
        Some(close) => foreign::call(&close, &[]).map(drop),
        None => Ok(()),
    }
}

/// The pipe as a task of the event loop fills it: see `hypern._tasks.pump`.
#[pyclass(module = "hypern._hypern")]
pub(crate) struct Sink {
    flow: Flow,
    task: Option<Py<PyAny>>,
}

impl Sink {
    pub(crate) fn new(flow: Flow) -> Self {
        Self { flow, task: None }
    }
}

#[pymethods]
impl Sink {
    /// The async iterable that fills this sink.
    #[getter]
    fn source<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.flow.source.bind(py).clone()
    }

    #[getter]
    fn exchange<'py>(&self, py: Python<'py>) -> Bound<'py, Exchange> {
        self.flow.exchange.bind(py).clone()
    }

    /// True once nobody reads any more.
    #[getter]
    fn closed(&self) -> bool {
        self.flow.pipe.is_closed()
    }

    /// Has `task` cancelled at once when nobody reads any more.
    fn enter(slf: &Bound<'_, Self>, task: Py<PyAny>) {
        let mut this = slf.borrow_mut();
        this.task = Some(task);
        let pipe = this.flow.pipe.clone();
        let bridge = this.flow.exchange.get().engine.bridge.clone();
        drop(this);
        let sink = slf.clone().unbind();
        pipe.on_close(Box::new(move || bridge.post(Box::new(move |py| Self::cancel(sink.bind(py))))));
    }

    /// The task closes its source now, which must not be cancelled.
    fn leave(&mut self) {
        self.task = None;
    }

    /// Pulls `source`, the iterator of this sink's source, until it ends or nobody reads any more.
    fn feed(&self, source: Py<PyAny>) -> Feeder {
        let engine = self.flow.exchange.get().engine.clone();
        Feeder::new(source, self.flow.pipe.clone(), engine)
    }

    /// The source has ended.
    fn finish(&self) {
        self.flow.pipe.finish();
    }

    /// The source has failed. True if the response can still be an error.
    fn fail(&self, error: Bound<'_, PyAny>) -> bool {
        let py = error.py();
        self.flow.fail(py, PyErr::from_value(error)).is_some()
    }
}

impl Sink {
    fn cancel(slf: &Bound<'_, Self>) {
        let task = slf.borrow_mut().task.take();
        if let Some(task) = task
            && let Err(error) = task.bind(slf.py()).call_method0(intern!(slf.py(), "cancel"))
        {
            error.write_unraisable(slf.py(), Some(task.bind(slf.py())));
        }
    }
}
