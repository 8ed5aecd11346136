//! A beat of 50 µs, at which what the streams in a burst have gathered is sent.
//!
//! A stream that is written faster than its socket would send a few events at a time: the write to the socket costs as
//! much as making thirty events, and its reader is woken for each. So a stream that has sent only just now rests until
//! the next beat. Nothing beats while no stream rests, and an event of a stream that does not hurry never waits.
//!
//! Tokio's timers count milliseconds, hence a timer of the kernel's.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

/// From the moment when the first stream rests to the beat.
const INTERVAL: Duration = Duration::from_micros(50);

/// A stream rests if it has sent something so short a time ago: half of a beat, so that one which came late to a beat does
/// not miss the next.
pub(crate) const HURRY: Duration = Duration::from_micros(25);

/// The beat of a server.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    timer: OnceLock<AsyncFd<OwnedFd>>,
    resting: Mutex<Vec<Waker>>,
}

impl Pulse {
    /// Beats for ever. Before this is polled, and if there is no timer to be had, no stream rests.
    pub(crate) async fn run(&self) {
        match timer() {
            Ok(timer) => {
                let timer = self.timer.get_or_init(|| timer);
                // Setting it anew resets what it has counted, so nothing is read.
                while let Ok(mut guard) = timer.readable().await {
                    guard.clear_ready();
                    self.beat();
                }
            }
            Err(error) => warn!(%error, "no timer for bursts: their events leave in small lots"),
        }
    }

    /// Whether a stream may rest.
    pub(crate) fn beats(&self) -> bool {
        self.timer.get().is_some()
    }

    /// Wakes a task at the next beat.
    pub(crate) fn rest(&self, task: &Waker) {
        let mut resting = self.resting.lock();
        resting.push(task.clone());
        let is_first = resting.len() == 1;
        drop(resting);
        // One that is set already will wake this task too.
        if is_first && self.timer.get().is_none_or(|timer| set(timer.as_raw_fd()).is_err()) {
            self.beat();
        }
    }

    /// Wakes all tasks that rest.
    fn beat(&self) {
        let resting = std::mem::take(&mut *self.resting.lock());
        for task in resting {
            task.wake();
        }
    }
}

fn timer() -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: timerfd_create takes no pointers; the result is checked.
    let descriptor =
        unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and owned by nobody else, and `OwnedFd` never changes it.
    Ok(unsafe { AsyncFd::register_with_interest(OwnedFd::from_raw_fd(descriptor), Interest::READABLE) }?)
}

/// Has the timer ring once, an interval from now.
fn set(timer: i32) -> io::Result<()> {
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let soon = libc::timespec { tv_sec: 0, tv_nsec: INTERVAL.subsec_nanos().into() };
    let times = libc::itimerspec { it_interval: never, it_value: soon };
    // SAFETY: the times live until the call is over, and the old ones are not asked for; a bad descriptor is an error.
    let result = unsafe { libc::timerfd_settime(timer, 0, &raw const times, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

    use super::*;

    /// Rests once, and is done when it is woken.
    async fn one_rest(pulse: &Pulse) {
        let mut has_rested = false;
        let resting = poll_fn(|context| {
            if std::mem::replace(&mut has_rested, true) {
                return Poll::Ready(());
            }
            pulse.rest(context.waker());
            Poll::Pending
        });
        tokio::time::timeout(Duration::from_secs(60), resting).await.expect("a beat");
    }

    #[tokio::test]
    async fn whoever_rests_is_woken_at_each_beat() {
        let pulse = Arc::new(Pulse::default());
        let beating = pulse.clone();
        let running = tokio::spawn(async move { beating.run().await });
        while !pulse.beats() {
            tokio::task::yield_now().await;
        }
        for _ in 0..3 {
            tokio::join!(one_rest(&pulse), one_rest(&pulse));
            assert!(pulse.resting.lock().is_empty());
        }
        running.abort();
    }

    #[tokio::test]
    async fn nobody_sleeps_for_ever_without_a_timer() {
        let pulse = Pulse::default();
        assert!(!pulse.beats());
        one_rest(&pulse).await;
    }
}
