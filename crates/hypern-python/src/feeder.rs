//! The inner loop of an async stream: pulls the source's items into the pipe, within one task.
//!
//! A loop of Python's over the source would do the same, but could not see when the source is about to wait. Here items
//! gather until it does, and the connection is woken once for all of them: twice the events a second of such a loop. A
//! source that computes instead of waiting is told by the clock, and its items leave one by one.

use std::sync::Arc;

use hypern_core::pipe::{Closed, LOT, Pipe};
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyBytes, PyIterator, PyTuple};

use crate::engine::Engine;
use crate::item;

/// How many items go by before the event loop may run others, if the source never waits: about a millisecond's worth.
const TURN: u32 = 1024;

/// A source that takes so many nanoseconds for an item without waiting for anything computes: its items leave one by one.
const SLOW: u64 = 8_000_000;

/// How many items of a source leave one by one after it has been slow, and how many at first.
const URGENT: u8 = 64;
const URGENT_AT_FIRST: u8 = 4;

/// Of the other items the clock is looked at for one in so many.
const LOOK: u32 = 4;

/// What a task awaits while its source is pulled; done when the source has ended, or nobody reads any more.
///
/// Small items go into the pipe by the lot: its lock costs as much as the encoding of an event. No item is pulled while
/// the pipe has no room for another lot, and the lot is handed over whenever the source waits or ends.
#[pyclass(module = "hypern._hypern")]
pub(crate) struct Feeder {
    source: Py<PyAny>,
    pipe: Arc<Pipe>,
    engine: Arc<Engine>,
    /// What is awaited right now.
    step: Option<(Py<PyAny>, Awaited)>,
    /// A chunk that goes into the pipe as it is.
    chunk: Option<Py<PyBytes>>,
    lot: Vec<u8>,
    /// How much of the chunk, or else of the lot, the pipe has.
    written: usize,
    /// The pipe has no room for another lot.
    is_full: bool,
    turn: u32,
    /// When the task went on, or the clock was looked at last.
    clock: u64,
    /// So many items leave at once, because the source may be going to compute after each of them.
    urgent: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Item,
    Room,
}

impl Feeder {
    pub(crate) fn new(source: Py<PyAny>, pipe: Arc<Pipe>, engine: Arc<Engine>) -> Self {
        Self {
            source,
            pipe,
            engine,
            step: None,
            chunk: None,
            lot: Vec::new(),
            written: 0,
            is_full: false,
            turn: 0,
            clock: 0,
            urgent: URGENT_AT_FIRST,
        }
    }

    /// Goes on until the source waits for something, which is returned, or until there is nothing more to do.
    fn advance<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let outcome = self.run(py);
        if !self.is_interrupted() {
            // A reader that has gone is found at the next item, or cancels the task before that.
            self.hand_over(py).ok();
        }
        if let Some(reader) = self.pipe.take_reader() {
            self.engine.wake_soon(py, reader);
        }
        outcome
    }

    fn run<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut step = self.step.take().map(|(step, awaited)| (step.into_bound(py), awaited));
        self.clock = coarse_clock();
        loop {
            if let Some((awaitable, awaited)) = step.take() {
                // SAFETY: a step is an iterator: see `iterator_of`.
                let outcome = unsafe { awaitable.cast_unchecked::<PyIterator>() }.send(py.None().bind(py));
                match outcome {
                    Ok(PySendResult::Next(waits_for)) => {
                        self.step = Some((awaitable.unbind(), awaited));
                        return Ok(Some(waits_for));
                    }
                    Ok(PySendResult::Return(result)) => self.complete(awaited, &result)?,
                    Err(error) => return ended(py, error),
                }
                if awaited == Awaited::Item && self.leaves_at_once() && self.send(py).is_err() {
                    return Ok(None);
                }
            }
            if (self.is_interrupted() || self.lot.len() >= LOT) && self.hand_over(py).is_err() {
                return Ok(None);
            }
            step = if self.is_interrupted() || self.is_full {
                let room = self.engine.future(py, |callback| self.pipe.on_space(callback))?;
                Some((iterator_of(room.bind(py))?, Awaited::Room))
            } else if self.turn == TURN {
                self.turn = 0;
                return Ok(Some(py.None().into_bound(py)));
            } else {
                self.turn += 1;
                Some((iterator_of(&next_item(self.source.bind(py))?)?, Awaited::Item))
            };
        }
    }

    /// What has come is not left to gather: the clock has gone on since it was looked at last, or the source computes.
    #[inline]
    fn leaves_at_once(&mut self) -> bool {
        (self.urgent > 0 || self.turn.is_multiple_of(LOOK)) && self.look_at_clock()
    }

    #[cold]
    fn look_at_clock(&mut self) -> bool {
        let now = coarse_clock();
        let passed = now - std::mem::replace(&mut self.clock, now);
        if passed >= SLOW {
            self.urgent = URGENT;
        }
        let is_urgent = self.urgent > 0;
        self.urgent = self.urgent.saturating_sub(1);
        is_urgent || passed > 0
    }

    /// Hands over, and wakes the reader without delay: the source may keep the event loop for itself.
    #[cold]
    fn send(&mut self, py: Python<'_>) -> Result<(), Closed> {
        self.hand_over(py)?;
        if let Some(reader) = self.pipe.take_reader() {
            reader.wake();
        }
        Ok(())
    }

    /// Something is to go into the pipe before anything else.
    fn is_interrupted(&self) -> bool {
        self.chunk.is_some() || self.written > 0
    }

    /// Puts into the pipe what there is room for.
    fn hand_over(&mut self, py: Python<'_>) -> Result<(), Closed> {
        let items = self.chunk.as_ref().map_or(self.lot.as_slice(), |chunk| chunk.as_bytes(py));
        let gathered = self.pipe.gather(&items[self.written..])?;
        self.written += gathered.accepted;
        self.is_full = gathered.is_full;
        if self.written == items.len() {
            self.written = 0;
            if self.chunk.take().is_none() {
                self.lot.clear();
            }
        }
        Ok(())
    }

    /// Takes the result of a step.
    fn complete(&mut self, awaited: Awaited, result: &Bound<'_, PyAny>) -> PyResult<()> {
        if awaited == Awaited::Room {
            self.is_full = false;
            return Ok(());
        }
        match item::as_it_is(result, self.pipe.kind()) {
            Some(chunk) if chunk.as_bytes().len() >= LOT => {
                // What came before it; there is room. If nobody reads any more, the chunk will find that out.
                self.hand_over(result.py()).ok();
                self.chunk = Some(chunk.clone().unbind());
                Ok(())
            }
            _ => item::encode(self.pipe.kind(), result, &mut self.lot),
        }
    }
}

/// Nanoseconds of a clock that is cheap to look at, and goes in ticks of one to four milliseconds.
fn coarse_clock() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a live timespec. Linux has this clock since 2.6.32, so there is no error.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The step has raised: the source has ended, or failed.
fn ended<'py>(py: Python<'py>, error: PyErr) -> PyResult<Option<Bound<'py, PyAny>>> {
    if error.is_instance_of::<PyStopAsyncIteration>(py) { Ok(None) } else { Err(error) }
}

#[pymethods]
impl Feeder {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.advance(py)
    }

    /// Throws an exception, such as that of a cancellation, into whatever is awaited.
    #[pyo3(signature = (*exception))]
    fn throw<'py>(&mut self, exception: &Bound<'py, PyTuple>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = exception.py();
        let Some((step, awaited)) = self.step.take() else {
            return Err(PyErr::from_value(exception.get_item(0)?));
        };
        match step.bind(py).call_method1(intern!(py, "throw"), exception) {
            Ok(waits_for) => {
                self.step = Some((step, awaited));
                Ok(Some(waits_for))
            }
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                // The source has caught it, and gone on to its next item.
                self.complete(awaited, &error.value(py).getattr(intern!(py, "value"))?)?;
                self.advance(py)
            }
            Err(error) => ended(py, error),
        }
    }

    /// Gives up whatever is awaited.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.step.take() {
            Some((step, _)) => step.call_method0(py, intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }
}

/// `anext(source)`, by the slot that `async for` takes.
fn next_item<'py>(source: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let slot = async_slot(source, |slots| slots.am_anext);
    let Some(next) = slot else {
        return Err(wrong_type(source, "is not an async iterator: it needs __anext__"));
    };
    // SAFETY: attached, and the slot is of the object's type.
    unsafe { Bound::from_owned_ptr_or_err(source.py(), next(source.as_ptr())) }
}

/// The iterator behind an awaitable, by the slot that `await` takes.
fn iterator_of<'py>(awaitable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let iterator = match async_slot(awaitable, |slots| slots.am_await) {
        // SAFETY: attached, and the slot is of the object's type.
        Some(get) => unsafe { Bound::from_owned_ptr_or_err(awaitable.py(), get(awaitable.as_ptr())) }?,
        // A generator that `types.coroutine` has marked is awaited as it is.
        None => awaitable.clone(),
    };
    // SAFETY: attached; a type lives as long as its objects.
    if unsafe { (*ffi::Py_TYPE(iterator.as_ptr())).tp_iternext }.is_none() {
        return Err(wrong_type(&iterator, "cannot be awaited"));
    }
    Ok(iterator)
}

fn async_slot<'py>(
    object: &Bound<'py, PyAny>,
    slot: impl FnOnce(&ffi::PyAsyncMethods) -> Option<ffi::unaryfunc>,
) -> Option<ffi::unaryfunc> {
    // SAFETY: attached; a type lives as long as its objects, and its async slots as long as the type.
    unsafe { (*ffi::Py_TYPE(object.as_ptr())).tp_as_async.as_ref() }.and_then(slot)
}

fn wrong_type(object: &Bound<'_, PyAny>, what: &str) -> PyErr {
    match object.get_type().fully_qualified_name() {
        Ok(name) => PyTypeError::new_err(format!("{name} {what}")),
        Err(error) => error,
    }
}
