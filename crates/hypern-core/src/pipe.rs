//! One producer's way to one client: a buffer bounded in bytes.
//!
//! The producer (a thread or an event loop that runs a generator) writes whole items into the buffer. hyper takes the
//! whole buffer each time it polls the body, so a slow producer's item leaves at once and a fast producer's items leave
//! together, at the beats of the [`Pulse`]. What hyper has taken counts as unsent until it is written to the socket.

mod in_flight;
mod state;

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use crate::connection::Carrier;
pub use crate::presence::Callback;
use crate::presence::Presence;
use crate::pulse::Pulse;
use crate::sse;

pub use in_flight::InFlight;
use state::{End, GATHERED, Reading, State};

/// How many bytes a stream holds unsent before its producer has to wait.
pub const CAPACITY: usize = 64 * 1024;

/// How many bytes a stream of chunks may hold unsent for a client that has proved to take them: see `State::window`.
pub const CAPACITY_FOR_READERS: usize = 512 * 1024;

/// How many bytes a producer that gathers may hand over in one piece: they are taken whatever else is unsent, because it
/// stops where there is no room for so many more.
pub const LOT: usize = 2 * 1024;

/// What [`Pipe::gather`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// How many bytes were taken; the rest is to be handed over later, before anything else.
    pub accepted: usize,
    /// There is no room for another lot, so the producer has to wait for space.
    pub is_full: bool,
}

/// What a stream carries, which decides about comments and about its end at shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Server-Sent Events: may be kept alive by comments, and may end cleanly at any event.
    Events {
        /// Silence after which a keep-alive comment is sent.
        ping: Option<Duration>,
    },
    /// Any other bytes: a part of them must never look like the whole.
    Chunks,
}

/// Nobody will read what is written: the client left, took nothing for too long, or the server shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// The stream ended before it was complete, so it must not be terminated as if it were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the stream ended before it was complete")
    }
}

impl std::error::Error for Cut {}

/// What [`Pipe::opening`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The response begins: there is a first item, or an end, or the client has waited long enough.
    Begin,
    /// The producer failed before its first item; it answers with an error instead.
    Withdrawn,
}

/// What the watch has to do about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Look again at this time.
    Fine(Option<Instant>),
    /// The client has taken nothing for `send_timeout`.
    Stalled,
}

/// The shared middle of a stream. The producer holds it to write, the response body to read.
#[repr(C, align(64))]
pub struct Pipe {
    state: Mutex<State>,
    reading: Mutex<Reading>,
    space: Condvar,
    kind: Kind,
    send_timeout: Option<Duration>,
    presence: Arc<Presence>,
    carrier: std::sync::OnceLock<Arc<Carrier>>,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pipe").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Pipe {
    /// An empty pipe. `prelude` goes out before the first item, and does not count as one.
    #[must_use]
    pub fn new(
        kind: Kind,
        send_timeout: Option<Duration>,
        prelude: Vec<u8>,
        presence: Arc<Presence>,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { buffer: prelude, ..State::default() }),
            reading: Mutex::default(),
            space: Condvar::new(),
            kind,
            send_timeout,
            presence,
            carrier: std::sync::OnceLock::new(),
        })
    }

    /// What the stream carries.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How long a client may take nothing.
    #[must_use]
    pub fn send_timeout(&self) -> Option<Duration> {
        self.send_timeout
    }

    // The producer's side.

    /// Writes as much of an item as there is room for and returns how much that was; the rest is to be written later,
    /// before anything else.
    ///
    /// # Errors
    /// [`Closed`] when nobody will read it.
    pub fn write(&self, item: &[u8]) -> Result<usize, Closed> {
        self.take_in(item, false).map(|gathered| gathered.accepted)
    }

    /// Like [`Pipe::write`], for a producer that knows when it is going to wait: what it hands over until then leaves
    /// together, or when a good deal has gathered. It has to call [`Pipe::take_reader`] when it waits. Up to a [`LOT`] is
    /// taken whole.
    ///
    /// # Errors
    /// [`Closed`] when nobody will read it.
    pub fn gather(&self, items: &[u8]) -> Result<Gathered, Closed> {
        self.take_in(items, true)
    }

    /// The producer waits. Returns the task that waits to read, if there is something for it now: whoever takes it has
    /// to wake it.
    #[must_use]
    pub fn take_reader(&self) -> Option<Waker> {
        let mut state = self.state.lock();
        state.attentive = false;
        if state.buffer.is_empty() { None } else { state.consumer.take() }
    }

    fn take_in(&self, item: &[u8], gathers: bool) -> Result<Gathered, Closed> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Closed);
        }
        let room = state.window().saturating_sub(state.unsent());
        let is_lot = gathers && item.len() <= LOT;
        let accepted = if is_lot { item.len() } else { item.len().min(room) };
        let is_full = room.saturating_sub(accepted) < LOT;
        if accepted == 0 {
            return Ok(Gathered { accepted, is_full });
        }
        state.append(&item[..accepted]);
        state.mid_item = accepted < item.len();
        state.begun = true;
        state.attentive = gathers;
        let is_quiet = (gathers || state.rests) && state.buffer.len() < GATHERED;
        let consumer = if is_quiet { None } else { state.consumer.take() };
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Ok(Gathered { accepted, is_full })
    }

    /// Blocks this thread until at least half of the buffer is free.
    ///
    /// # Errors
    /// [`Closed`] when nobody will read any more.
    pub fn wait_for_space(&self) -> Result<(), Closed> {
        let mut state = self.state.lock();
        state.blocked_threads += 1;
        while !state.closed && !state.has_space() {
            self.space.wait(&mut state);
        }
        state.blocked_threads -= 1;
        if state.closed { Err(Closed) } else { Ok(()) }
    }

    /// Calls `callback` once there is space or the pipe is closed: at once if that is so already.
    pub fn on_space(&self, callback: Callback) {
        let mut state = self.state.lock();
        state.on_space = Some(callback);
        let ready = state.take_callback_if_space();
        drop(state);
        if let Some(callback) = ready {
            callback();
        }
    }

    /// Calls `callback` once nobody will read any more: at once if that is so already.
    pub fn on_close(&self, callback: Callback) {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            callback();
        } else {
            state.on_close = Some(callback);
        }
    }

    /// True once nobody will read what is written.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// The producer has nothing more: what is written goes out, then the clean end.
    pub fn finish(&self) {
        self.end(End::Complete, &[]);
    }

    /// The producer failed: what is written goes out, then `last` whatever its size, then the connection is cut.
    pub fn cut(&self, last: &[u8]) {
        self.end(End::Cut, last);
    }

    /// Takes the response back, if it has not begun. True if it could: the producer answers with an error instead.
    pub fn withdraw(&self) -> bool {
        let mut state = self.state.lock();
        if state.begun || state.closed {
            return false;
        }
        state.withdrawn = true;
        let consumer = state.consumer.take();
        // Dropped without the lock: what it holds may be the producer itself.
        let unused = state.on_close.take();
        drop(state);
        drop(unused);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        true
    }

    /// The producer is gone. Unless it has said how the stream ends, the response is taken back, or else cut.
    pub fn abandon(&self) {
        let state = self.state.lock();
        let is_over = state.end.is_some() || state.withdrawn || state.closed;
        drop(state);
        if !is_over && !self.withdraw() {
            self.cut(&[]);
        }
    }

    fn end(&self, end: End, last: &[u8]) {
        let mut state = self.state.lock();
        if !state.closed && !state.mid_item {
            state.append(last);
        }
        state.end_with(end);
        let consumer = state.consumer.take();
        // Dropped without the lock: what it holds may be the producer itself.
        let unused = state.on_close.take();
        drop(state);
        drop(unused);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }

    // The response's side.

    /// Waits for the first moment of the response: an item, an end, a withdrawal, or until `patience` is over. In the
    /// last case an event stream begins with a comment, so that a browser sees it open.
    pub async fn opening(&self, patience: Duration) -> Opening {
        let begun = std::future::poll_fn(|context| {
            let mut state = self.state.lock();
            if state.withdrawn {
                Poll::Ready(Opening::Withdrawn)
            } else if state.begun {
                Poll::Ready(Opening::Begin)
            } else {
                state.consumer = Some(context.waker().clone());
                Poll::Pending
            }
        });
        match tokio::time::timeout(patience, begun).await {
            Ok(opening) => opening,
            Err(_elapsed) => self.begin_without_item(),
        }
    }

    fn begin_without_item(&self) -> Opening {
        let mut state = self.state.lock();
        if state.withdrawn {
            return Opening::Withdrawn;
        }
        if !state.begun {
            state.begun = true;
            if matches!(self.kind, Kind::Events { .. }) {
                state.append(sse::OPENING);
            }
        }
        Opening::Begin
    }

    /// Takes all that is written. `None` is the clean end.
    pub(crate) fn poll_take(
        self: &Arc<Self>,
        context: &mut Context<'_>,
        pulse: &Pulse,
    ) -> Poll<Option<Result<InFlight, Cut>>> {
        let mut reading = self.reading.lock();
        if reading.pieces > 0 {
            if reading.complete {
                return Poll::Ready(None);
            }
            // The next items gather while these are written, however fast they come: one write to the socket for all
            // of them, and no wake-up for each. Landing wakes the task, and it comes back here.
            set_waker(&mut reading.lander, context);
            return Poll::Pending;
        }
        let mut state = self.state.lock();
        if !state.buffer.is_empty() && !state.gathers() {
            let now = Instant::now();
            if pulse.beats() && state.rests_at(now) {
                set_waker(&mut state.consumer, context);
                drop(state);
                drop(reading);
                // Not under the locks: the producer would have to wait for a call of the kernel.
                pulse.rest(context.waker());
                return Poll::Pending;
            }
            let bytes = mem::replace(&mut state.buffer, mem::take(&mut reading.spare));
            state.last_sent = Some(now);
            state.in_flight += bytes.len();
            reading.pieces += 1;
            reading.complete = state.end == Some(End::Complete) && self.is_alone();
            return Poll::Ready(Some(Ok(InFlight { bytes, position: 0, pipe: self.clone() })));
        }
        match state.end {
            Some(End::Complete) => Poll::Ready(None),
            // hyper drops what it has not written when a body fails; by now all is written.
            Some(End::Cut) => Poll::Ready(Some(Err(Cut))),
            None => {
                set_waker(&mut state.consumer, context);
                Poll::Pending
            }
        }
    }

    /// A connection of HTTP/1 stays with its response until all of it is written, and the kernel drops a client that
    /// takes nothing of the rest. HTTP/2 forgets a stream at its end: there the end waits, so that the watch goes on.
    fn is_alone(&self) -> bool {
        self.carrier.get().is_none_or(|carrier| carrier.is_connection())
    }

    /// Wraps other bytes that are handed to the connection, so that they count as unsent until they are written.
    pub(crate) fn in_flight(self: &Arc<Self>, bytes: Vec<u8>) -> InFlight {
        self.reading.lock().pieces += 1;
        let mut state = self.state.lock();
        if state.unsent() == 0 {
            state.last_progress = Some(Instant::now());
        }
        state.in_flight += bytes.len();
        InFlight { bytes, position: 0, pipe: self.clone() }
    }

    /// Nobody will read any more: wakes the producer, which closes its generator.
    pub fn close(&self) {
        self.reading.lock().spare = Vec::new();
        let mut state = self.state.lock();
        state.closed = true;
        // Until the connection notices, it may still ask: what is dropped here must be missed.
        if state.end != Some(End::Complete) || !state.buffer.is_empty() {
            state.end = Some(End::Cut);
        }
        state.buffer = Vec::new();
        self.release(state);
    }

    /// The server shuts down: events end cleanly after what is written, unless that ends inside an event; other bytes may
    /// go on until the deadline.
    pub(crate) fn shut_down(&self) {
        if self.kind == Kind::Chunks {
            return;
        }
        let mut state = self.state.lock();
        state.closed = true;
        state.end_with(End::Complete);
        self.release(state);
    }

    fn release(&self, mut state: parking_lot::MutexGuard<'_, State>) {
        let consumer = state.consumer.take();
        let callbacks = [state.on_space.take(), state.on_close.take()];
        drop(state);
        self.presence.mark();
        self.space.notify_all();
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        for callback in callbacks.into_iter().flatten() {
            callback();
        }
        // The last, so that a task which sleeps until the client leaves is cancelled rather than woken.
        self.presence.leave();
    }

    // The watch's side.

    pub(crate) fn set_carrier(&self, carrier: Arc<Carrier>) {
        self.carrier.set(carrier).ok();
    }

    /// Drops the client: closes the pipe for its producer and aborts the task that carries the response.
    pub(crate) fn abort(&self) {
        self.close();
        if let Some(carrier) = self.carrier.get() {
            carrier.abort();
        }
    }

    /// Sends a keep-alive if the stream has been silent, and tells when to look again.
    pub(crate) fn check(&self, now: Instant) -> Health {
        let mut state = self.state.lock();
        if state.closed || state.end.is_some() && state.unsent() == 0 {
            return Health::Fine(None);
        }
        let stall = self.send_timeout.and_then(|timeout| {
            let since = if state.unsent() == 0 { now } else { *state.last_progress.get_or_insert(now) };
            since.checked_add(timeout)
        });
        if stall.is_some_and(|stall| stall <= now) {
            return Health::Stalled;
        }
        let silence = match self.kind {
            Kind::Events { ping: Some(ping) } => state.keep_alive(ping, now),
            _ => None,
        };
        let consumer = if state.buffer.is_empty() { None } else { state.consumer.take() };
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Health::Fine([stall, silence].into_iter().flatten().min())
    }

    fn advanced(&self) {
        self.state.lock().last_progress = Some(Instant::now());
    }

    fn landed(&self, bytes: Vec<u8>) {
        let mut reading = self.reading.lock();
        let mut state = self.state.lock();
        state.in_flight -= bytes.len();
        state.last_progress = Some(Instant::now());
        if self.kind == Kind::Chunks {
            state.landed += bytes.len();
        }
        reading.recycle(bytes, &mut state);
        let callback = state.take_callback_if_space();
        let has_waiting_thread = state.blocked_threads > 0 && state.has_space();
        drop(state);
        reading.pieces -= 1;
        let lander = if reading.pieces == 0 { reading.lander.take() } else { None };
        drop(reading);
        if has_waiting_thread {
            self.space.notify_one();
        }
        if let Some(lander) = lander {
            lander.wake();
        }
        if let Some(callback) = callback {
            callback();
        }
    }
}

fn set_waker(slot: &mut Option<Waker>, context: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(context.waker()),
        None => *slot = Some(context.waker().clone()),
    }
}

/// A pipe on its way to the response that is to read it. Dropped before it has come there, because the client left in
/// between, it closes the pipe: the producer would wait for ever otherwise.
#[derive(Debug)]
pub struct Offer(Option<Arc<Pipe>>);

impl Offer {
    /// Offers a pipe.
    #[must_use]
    pub fn new(pipe: Arc<Pipe>) -> Self {
        Self(Some(pipe))
    }

    /// Waits for the first moment, as [`Pipe::opening`] does. The pipe comes back if the response begins with it.
    pub async fn accept(mut self, patience: Duration) -> Option<Arc<Pipe>> {
        let opening = match &self.0 {
            Some(pipe) => pipe.opening(patience).await,
            None => return None,
        };
        let pipe = self.0.take();
        match opening {
            Opening::Begin => pipe,
            Opening::Withdrawn => None,
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(pipe) = self.0.take() {
            pipe.close();
        }
    }
}

#[cfg(test)]
mod tests;
