//! What a pipe holds: what both sides look at, and what the response alone does.

use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::{CAPACITY, CAPACITY_FOR_READERS, Callback};
use crate::{prefetch, pulse, sse};

/// A client has taken this many times as much as is held for it, before more than [`CAPACITY`] is.
const PROOF: usize = 4;

/// How much may gather before it is sent although the producer goes on.
pub(super) const GATHERED: usize = CAPACITY / 2;

/// So often a stream may send in a hurry before it is in a burst: a few events at a time are sent soonest.
pub(super) const RUSH: u8 = 3;

/// A drained buffer of at most this size is kept by an idle stream, so that a slow one need not allocate for each item.
pub(super) const KEPT_WHEN_IDLE: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    Cut,
}

/// What both sides look at. Each item touches the first fields, and them alone: a line of the cache that the other side
/// has written in between costs as much as all the rest of a write.
#[derive(Default)]
#[repr(C)]
pub(super) struct State {
    pub(super) buffer: Vec<u8>,
    /// The task that waits for something to read.
    pub(super) consumer: Option<Waker>,
    pub(super) in_flight: usize,
    /// How much of a stream of chunks the client has taken.
    pub(super) landed: usize,
    pub(super) closed: bool,
    /// What is written ends inside an item, so nothing may be put between.
    pub(super) mid_item: bool,
    /// An item has been written, or the response has begun without one.
    pub(super) begun: bool,
    /// The producer runs, and will see to the reader when it waits.
    pub(super) attentive: bool,
    /// The reader comes by itself, at the next beat.
    pub(super) rests: bool,
    /// How often in a row there was something to send so soon after the last.
    pub(super) hurried: u8,
    pub(super) withdrawn: bool,
    pub(super) end: Option<End>,
    pub(super) blocked_threads: usize,
    pub(super) on_space: Option<Callback>,
    pub(super) on_close: Option<Callback>,
    /// When bytes were last handed to the connection.
    pub(super) last_sent: Option<Instant>,
    /// When the client last took anything, or when the first of the unsent bytes was written.
    pub(super) last_progress: Option<Instant>,
}

impl State {
    pub(super) fn unsent(&self) -> usize {
        self.buffer.len() + self.in_flight
    }

    /// More is to come before the producer waits, and the reader will be woken for it.
    pub(super) fn gathers(&self) -> bool {
        self.attentive && self.end.is_none() && self.buffer.len() < GATHERED
    }

    /// What is written is left to gather until the next beat: the stream is in a burst, and little is written yet.
    pub(super) fn rests_at(&mut self, now: Instant) -> bool {
        let hurries = self.last_sent.is_some_and(|sent| now.duration_since(sent) < pulse::HURRY);
        if hurries {
            self.hurried = self.hurried.saturating_add(1);
        } else if !self.rests {
            self.hurried = 0;
        }
        self.rests = hurries && self.hurried > RUSH && self.end.is_none() && self.buffer.len() < GATHERED;
        self.rests
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.unsent() == 0 && !bytes.is_empty() {
            self.last_progress = Some(Instant::now());
        }
        self.buffer.extend_from_slice(bytes);
        prefetch::for_writing(self.buffer.spare_capacity_mut(), bytes.len());
    }

    /// How many bytes may be unsent. A full buffer costs two wake-ups of threads, so a download of large chunks would
    /// spend most of its time on them: it earns room by being read, a quarter of what has been. Events never do, because
    /// what is held is late.
    pub(super) fn window(&self) -> usize {
        (self.landed / PROOF).clamp(CAPACITY, CAPACITY_FOR_READERS)
    }

    /// A waiting producer goes on once half is sent, so that it is not woken for every write to the socket.
    pub(super) fn has_space(&self) -> bool {
        self.unsent() <= self.window() / 2
    }

    pub(super) fn take_callback_if_space(&mut self) -> Option<Callback> {
        if self.closed || self.has_space() { self.on_space.take() } else { None }
    }

    /// Decides how the stream ends, once. Half an item must not be terminated as if it were whole.
    pub(super) fn end_with(&mut self, end: End) {
        self.end.get_or_insert(if self.mid_item { End::Cut } else { end });
        self.begun = true;
    }

    /// Writes a keep-alive if it is due and nothing is under way, and tells when the next one may be.
    pub(super) fn keep_alive(&mut self, ping: Duration, now: Instant) -> Option<Instant> {
        let due = self.last_sent.get_or_insert(now).checked_add(ping)?;
        if due > now {
            return Some(due);
        }
        if self.unsent() == 0 && !self.mid_item && self.end.is_none() {
            self.append(sse::KEEP_ALIVE);
        }
        now.checked_add(ping)
    }
}

/// What the response alone looks at. Locked before the [`State`] if both are.
#[derive(Default)]
pub(super) struct Reading {
    /// How many pieces the connection has not written yet.
    pub(super) pieces: usize,
    /// Nothing comes after what has been taken.
    pub(super) complete: bool,
    /// The task that waits until what it has read is written.
    pub(super) lander: Option<Waker>,
    pub(super) spare: Vec<u8>,
}

impl Reading {
    /// Keeps an emptied buffer for the next items, or gives all that is large back once the stream is idle.
    pub(super) fn recycle(&mut self, mut emptied: Vec<u8>, state: &mut State) {
        let limit = if state.unsent() > 0 { usize::MAX } else { KEPT_WHEN_IDLE };
        if self.spare.capacity() == 0 && emptied.capacity() <= limit {
            emptied.clear();
            self.spare = emptied;
        }
        for idle in [&mut self.spare, &mut state.buffer] {
            if idle.capacity() > limit {
                *idle = Vec::new();
            }
        }
    }
}
