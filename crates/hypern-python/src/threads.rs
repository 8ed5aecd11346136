//! The elastic pool of threads for `def` handlers and sync generators.
//!
//! A thread attaches to the interpreter once and keeps its thread state for life (a fresh state costs 0.5 µs a call, a
//! kept one 0.1). It takes a job only while attached, so no job waits behind a thread that waits for the interpreter:
//! whoever holds it goes on with the queue, and when it blocks in user code the next thread takes over.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use tokio::sync::Notify;
use tracing::error;

/// Address space for a thread's stack; only what is touched is memory. Recursion in C code (`json`, `re`, `copy`) needs
/// more than the 256 KiB that would do for the pool itself.
const STACK: usize = 1024 * 1024;

/// A thread without work ends after this time.
const IDLE: Duration = Duration::from_secs(10);

/// What a thread does, while attached to the interpreter.
pub(crate) type Job = Box<dyn FnOnce(Python<'_>) + Send>;

/// All threads are taken: the request is refused rather than queued behind jobs of unknown length.
#[derive(Debug)]
pub(crate) struct Overloaded;

pub(crate) struct Pool {
    state: Mutex<State>,
    limit: usize,
    /// Jobs that are queued or run.
    active: AtomicUsize,
    drained: Notify,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads that wait, the latest on top: it is the likeliest to have its stack in the cache, and the others age.
    idle: Vec<Arc<Parker>>,
    /// A thread is on its way to the queue, so no other need be sent.
    summoned: bool,
    closed: bool,
}

#[derive(Default)]
struct Parker {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Parker {
    fn unpark(&self) {
        *self.woken.lock() = true;
        self.wake.notify_one();
    }

    /// True if woken, false if nobody did for `timeout`.
    fn park(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut woken = self.woken.lock();
        while !*woken {
            if self.wake.wait_until(&mut woken, deadline).timed_out() {
                break;
            }
        }
        std::mem::take(&mut woken)
    }
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::default()),
            limit,
            active: AtomicUsize::new(0),
            drained: Notify::new(),
        })
    }

    /// How many jobs are queued or run.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// Waits until no job is queued or runs, or until `deadline`.
    pub(crate) async fn idle(&self, deadline: tokio::time::Instant) {
        let idle = async {
            while self.active() > 0 {
                self.drained.notified().await;
            }
        };
        tokio::time::timeout_at(deadline, idle).await.ok();
    }

    /// Has a thread do a job, from any thread.
    pub(crate) fn submit(self: &Arc<Self>, job: Job) -> Result<(), Overloaded> {
        self.enqueue(job)?;
        self.summon();
        Ok(())
    }

    /// Queues a job and returns how many wait for a [`Pool::summon`].
    pub(crate) fn enqueue(&self, job: Job) -> Result<usize, Overloaded> {
        if self.active.fetch_add(1, Ordering::AcqRel) >= self.limit {
            self.active.fetch_sub(1, Ordering::AcqRel);
            return Err(Overloaded);
        }
        let mut state = self.state.lock();
        state.jobs.push_back(job);
        Ok(if state.summoned { 0 } else { state.jobs.len() })
    }

    /// Sees to it that a thread is coming for the queue, if there is something in it.
    pub(crate) fn summon(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !state.jobs.is_empty() {
            self.summon_for(&mut state);
        }
    }

    /// Lets the waiting threads end. Those that run user code end after it.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for parker in state.idle.drain(..) {
            parker.unpark();
        }
    }

    fn summon_for(self: &Arc<Self>, state: &mut State) {
        if state.summoned {
            return;
        }
        state.summoned = match state.idle.pop() {
            Some(parker) => {
                parker.unpark();
                true
            }
            None => self.spawn(),
        };
    }

    fn spawn(self: &Arc<Self>) -> bool {
        let pool = self.clone();
        let thread = std::thread::Builder::new().name("hypern-thread".into()).stack_size(STACK);
        match thread.spawn(move || Python::attach(|py| pool.work(py))) {
            Ok(_detached) => true,
            Err(error) => {
                // The job stays queued: the next thread that is free takes it.
                error!(%error, "cannot start a thread; raise the limit of processes or lower max_threads");
                false
            }
        }
    }

    fn work(self: &Arc<Self>, py: Python<'_>) {
        if let Err(error) = adopt_thread(py) {
            error.write_unraisable(py, None);
        }
        let mut arrived = true;
        loop {
            let Some(job) = self.next(arrived) else {
                if !self.wait(py) {
                    break;
                }
                arrived = true;
                continue;
            };
            arrived = false;
            // A bug in one job must not take the thread, or the count, with it.
            if std::panic::catch_unwind(AssertUnwindSafe(|| job(py))).is_err() {
                error!("a job panicked: this is a bug in Hypern");
            }
            if self.active.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.drained.notify_one();
            }
        }
        forget_thread(py);
    }

    fn next(self: &Arc<Self>, arrived: bool) -> Option<Job> {
        let mut state = self.state.lock();
        if arrived {
            state.summoned = false;
        }
        let job = state.jobs.pop_front()?;
        if !state.jobs.is_empty() {
            // This job may block, so the rest of the queue must not depend on it.
            self.summon_for(&mut state);
        }
        Some(job)
    }

    /// Waits for work, detached. False if the thread is to end.
    fn wait(&self, py: Python<'_>) -> bool {
        py.detach(|| {
            let parker = Arc::new(Parker::default());
            let mut state = self.state.lock();
            if !state.jobs.is_empty() {
                state.summoned = true;
                return true;
            }
            if state.closed {
                return false;
            }
            state.idle.push(parker.clone());
            drop(state);
            if parker.park(IDLE) {
                return !self.state.lock().closed;
            }
            let mut state = self.state.lock();
            match state.idle.iter().position(|idle| Arc::ptr_eq(idle, &parker)) {
                Some(position) => {
                    state.idle.remove(position);
                    false
                }
                // Somebody has called this thread between its timeout and the lock.
                None => !state.closed,
            }
        })
    }
}

/// Gives this thread what `threading.Thread` gives its own: the trace and profile functions of debuggers and coverage.
fn adopt_thread(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    let sys = py.import("sys")?;
    for (hook, install) in [("gettrace", "settrace"), ("getprofile", "setprofile")] {
        let function = threading.call_method0(hook)?;
        if !function.is_none() {
            sys.call_method1(install, (function,))?;
        }
    }
    Ok(())
}

/// Before Python 3.13, `threading` keeps a record of every foreign thread that ever asked for `current_thread()`.
fn forget_thread(py: Python<'_>) {
    let forget = || -> PyResult<()> {
        let threading = py.import("threading")?;
        let identifier = threading.call_method0("get_ident")?;
        threading.getattr("_active")?.call_method1("pop", (identifier, py.None()))?;
        Ok(())
    };
    if let Err(error) = forget() {
        error.write_unraisable(py, None);
    }
}
