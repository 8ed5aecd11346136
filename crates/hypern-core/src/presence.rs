//! Whether anybody still waits for a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Tells the code behind one request whether its client is still there, and wakes it when the client leaves.
///
/// The client also counts as gone once the server has begun to shut the response down: nobody will read what follows.
#[derive(Default)]
pub struct Presence {
    gone: AtomicBool,
    on_leave: Mutex<Option<Callback>>,
    left: Condvar,
}

/// Called once, from any thread, without a lock held.
pub type Callback = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Presence {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Presence").field("gone", &self.gone).finish_non_exhaustive()
    }
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

    /// Marks the client as gone, without waking anybody yet.
    pub(crate) fn mark(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Marks the client as gone, wakes every thread in [`Presence::wait_timeout`], and calls the callback.
    pub fn leave(&self) {
        self.mark();
        // Taking the lock orders this with a waiter between its check and its wait.
        let callback = self.on_leave.lock().take();
        self.left.notify_all();
        if let Some(callback) = callback {
            callback();
        }
    }

    /// Calls `callback` once the client has left: at once if it has already. There is one callback; another replaces it.
    pub fn on_leave(&self, callback: Callback) {
        let mut on_leave = self.on_leave.lock();
        let replaced = if self.left() {
            drop(on_leave);
            callback();
            return;
        } else {
            on_leave.replace(callback)
        };
        drop(on_leave);
        drop(replaced);
    }

    /// Blocks this thread for `duration`, or until the client leaves. True if the whole time has passed.
    pub fn wait_timeout(&self, duration: Duration) -> bool {
        let Some(deadline) = Instant::now().checked_add(duration) else {
            return self.wait();
        };
        let mut guard = self.on_leave.lock();
        while !self.left() {
            if self.left.wait_until(&mut guard, deadline).timed_out() {
                return !self.left();
            }
        }
        false
    }

    fn wait(&self) -> bool {
        let mut guard = self.on_leave.lock();
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
    fn a_callback_is_called_once_and_at_once_if_the_client_has_left() {
        let presence = Presence::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        let announce = |name: &'static str| -> Callback {
            let sender = sender.clone();
            Box::new(move || sender.send(name).expect("the test listens"))
        };
        presence.on_leave(announce("before"));
        assert!(receiver.try_recv().is_err());
        presence.leave();
        presence.leave();
        presence.on_leave(announce("after"));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["before", "after"]);
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
