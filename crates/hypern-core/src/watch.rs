//! One task watches every open stream: it sends keep-alives, drops the clients that take nothing, and ends the streams
//! at shutdown.
//!
//! A stream is looked at when it may be due, not at each event: a deadline that has moved meanwhile is found then, and
//! the stream is queued again. So an event costs no timer, and an idle stream one look for each `ping`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;

use crate::pipe::{Health, Pipe};
use crate::pulse::Pulse;

/// No stream is looked at more often than this, whatever its times are: Tokio's timers are no finer.
const SHORTEST_TIME: Duration = Duration::from_millis(1);

/// The open streams of a server.
#[derive(Debug, Default)]
pub struct Watch {
    open: Mutex<Open>,
    earlier: Notify,
    next_key: AtomicU64,
    pub(crate) pulse: Pulse,
}

#[derive(Debug, Default)]
struct Open {
    streams: HashMap<u64, Arc<Pipe>>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    shutting_down: bool,
}

impl Watch {
    /// No streams yet. [`Watch::run`] has to be polled for the timers to work.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// How many streams are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.lock().streams.len()
    }

    /// True if no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Watches a stream until the returned value is dropped.
    pub(crate) fn add(self: &Arc<Self>, pipe: Arc<Pipe>) -> Watched {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock();
        open.streams.insert(key, pipe.clone());
        let shutting_down = open.shutting_down;
        drop(open);
        if shutting_down {
            pipe.shut_down();
        }
        self.look(key, &pipe, Instant::now());
        Watched { watch: self.clone(), key }
    }

    /// Runs the timers, for ever.
    pub async fn run(&self) {
        loop {
            let next = self.look_at_all_due(Instant::now());
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Ends every stream that may end cleanly before it is complete; those that come later end at once.
    pub fn shut_down(&self) {
        let mut open = self.open.lock();
        open.shutting_down = true;
        let pipes: Vec<_> = open.streams.values().cloned().collect();
        drop(open);
        for pipe in pipes {
            pipe.shut_down();
        }
    }

    /// Drops every client that still has a stream.
    pub fn abort(&self) {
        let pipes: Vec<_> = self.open.lock().streams.values().cloned().collect();
        for pipe in pipes {
            pipe.abort();
        }
    }

    fn look_at_all_due(&self, now: Instant) -> Option<Instant> {
        loop {
            let mut open = self.open.lock();
            let Reverse((due, key)) = *open.due.peek()?;
            if due > now {
                return Some(due);
            }
            open.due.pop();
            let pipe = open.streams.get(&key).cloned();
            drop(open);
            if let Some(pipe) = pipe {
                self.look(key, &pipe, now);
            }
        }
    }

    fn look(&self, key: u64, pipe: &Pipe, now: Instant) {
        match pipe.check(now) {
            Health::Fine(None) => {}
            Health::Fine(Some(next)) => self.queue(key, next.max(now + SHORTEST_TIME)),
            Health::Stalled => {
                debug!(timeout = ?pipe.send_timeout(), "a client takes nothing: its stream is dropped");
                pipe.abort();
            }
        }
    }

    fn queue(&self, key: u64, due: Instant) {
        let mut open = self.open.lock();
        let is_earliest = open.due.peek().is_none_or(|Reverse((earliest, _))| due < *earliest);
        open.due.push(Reverse((due, key)));
        drop(open);
        if is_earliest {
            self.earlier.notify_one();
        }
    }
}

/// Keeps a stream watched.
#[derive(Debug)]
pub(crate) struct Watched {
    watch: Arc<Watch>,
    key: u64,
}

impl Watched {
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.watch.pulse
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Dropped without the lock: it may be the last that holds the pipe, and the pipe its producer.
        let pipe = self.watch.open.lock().streams.remove(&self.key);
        drop(pipe);
    }
}
