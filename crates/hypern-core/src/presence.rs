//! Whether anybody still waits for a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Tells the code behind one request whether its client is still there, and wakes it when the client leaves.
///
/// The client also counts as gone once the server has begun to shut the response down: nobody will read what follows.
#[derive(Debug, Default)]
pub struct Presence {
    gone: AtomicBool,
    lock: Mutex<()>,
    left: Condvar,
}

impl Presence {
    /// A client that has just asked.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// True once nobody waits for the response any more.
    #[must_use]
    pub fn left(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Marks the client as gone and wakes every thread in [`Presence::wait_timeout`].
    pub fn leave(&self) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            // Taking the lock orders this with a waiter between its check and its wait.
            drop(self.lock.lock());
            self.left.notify_all();
        }
    }

    /// Blocks this thread for `duration`, or until the client leaves. True if the whole time has passed.
    pub fn wait_timeout(&self, duration: Duration) -> bool {
        let Some(deadline) = Instant::now().checked_add(duration) else {
            return self.wait();
        };
        let mut guard = self.lock.lock();
        while !self.left() {
            if self.left.wait_until(&mut guard, deadline).timed_out() {
                return !self.left();
            }
        }
        false
    }

    fn wait(&self) -> bool {
        let mut guard = self.lock.lock();
        while !self.left() {
            self.left.wait(&mut guard);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_wait_says_so() {
        assert!(Presence::new().wait_timeout(Duration::from_millis(1)));
    }

    #[test]
    fn leaving_wakes_a_waiter_for_good() {
        let presence = Presence::new();
        let waiter = std::thread::spawn({
            let presence = presence.clone();
            move || presence.wait_timeout(Duration::MAX)
        });
        presence.leave();
        presence.leave();
        assert!(!waiter.join().expect("the waiter ends"));
        assert!(presence.left());
        assert!(!presence.wait_timeout(Duration::from_secs(3600)));
    }
}
