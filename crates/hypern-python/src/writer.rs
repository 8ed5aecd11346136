//! How a thread's items go into its pipe.
//!
//! Nothing tells when a sync generator is about to block. But then it lets go of the interpreter, and a job of the pool that
//! waits for the interpreter runs. So while such a job is queued, the items of a generator that is faster than its connection
//! gather; the job sends them once the generator rests. A burst then costs a third less CPU time an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hypern_core::pipe::{Closed, Pipe};
use pyo3::prelude::*;

use crate::threads::Pool;

/// The producer's end of a pipe, for a thread that is attached to the interpreter.
pub(crate) struct Writer {
    pipe: Arc<Pipe>,
    pool: Arc<Pool>,
    /// A job is queued that sends what has gathered.
    queued: Arc<AtomicBool>,
}

impl Writer {
    pub(crate) fn new(pipe: Arc<Pipe>, pool: Arc<Pool>) -> Self {
        Self { pipe, pool, queued: Arc::default() }
    }

    /// Writes one item, and waits detached while there is no room for it.
    ///
    /// # Errors
    ///
    /// [`Closed`] when nobody will read it.
    pub(crate) fn write(&self, py: Python<'_>, item: &[u8]) -> Result<(), Closed> {
        let mut rest = &item[self.put(item)?..];
        while !rest.is_empty() {
            py.detach(|| self.pipe.wait_for_space())?;
            rest = &rest[self.put(rest)?..];
        }
        Ok(())
    }

    fn put(&self, item: &[u8]) -> Result<usize, Closed> {
        if !self.is_queued() {
            let accepted = self.pipe.write(item)?;
            if self.pipe.is_ahead() {
                self.queue();
            }
            return Ok(accepted);
        }
        let accepted = self.pipe.gather(item)?;
        // The job is not run meanwhile, unless this is a Python in which threads run side by side.
        if !self.is_queued() {
            send(&self.pipe);
        }
        Ok(accepted)
    }

    fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire)
    }

    fn queue(&self) {
        let (pipe, queued) = (self.pipe.clone(), self.queued.clone());
        self.queued.store(true, Ordering::Release);
        let job = move |_py: Python<'_>| {
            queued.store(false, Ordering::Release);
            send(&pipe);
        };
        if !self.pool.run_when_free(Box::new(job)) {
            self.queued.store(false, Ordering::Release);
        }
    }
}

/// What has gathered leaves.
fn send(pipe: &Pipe) {
    if let Some(reader) = pipe.take_reader() {
        reader.wake();
    }
}
