//! What a response may do to the connection that carries it.
//!
//! hyper does not poll a response body while the socket takes nothing, so a stalled response cannot end itself from
//! inside. The task that drives it (the connection on HTTP/1, the stream on HTTP/2) is aborted from outside instead:
//! dropping it closes the socket, or resets the stream.

use std::os::fd::RawFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::task::futures::TaskLocalFuture;
use tracing::debug;

tokio::task_local! {
    static CARRIER: Arc<Carrier>;
}

/// The task that carries a response to its client.
#[derive(Debug, Default)]
pub struct Carrier {
    task: OnceLock<AbortHandle>,
    /// Only on HTTP/1, where the connection has one response at a time and is polled by the task that owns the socket.
    socket: Option<RawFd>,
}

impl Carrier {
    pub(crate) fn new(socket: Option<RawFd>) -> Arc<Self> {
        Arc::new(Self { task: OnceLock::new(), socket })
    }

    /// The carrier of the response that the current task is making, if there is one.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CARRIER.try_with(Arc::clone).ok()
    }

    pub(crate) fn set_task(&self, task: AbortHandle) {
        self.task.set(task).ok();
    }

    pub(crate) fn carry<F: Future>(self: Arc<Self>, future: F) -> TaskLocalFuture<Arc<Self>, F> {
        CARRIER.scope(self, future)
    }

    /// True on HTTP/1, where the response has the connection for itself.
    pub(crate) fn is_connection(&self) -> bool {
        self.socket.is_some()
    }

    /// Drops the task, and with it the connection (HTTP/1) or the stream (HTTP/2).
    pub(crate) fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Lets the kernel give up on a client that is silent for this long, if the connection is the response's own.
    pub(crate) fn limit_silence(&self, timeout: Option<Duration>) {
        if let Some(socket) = self.socket {
            limit_silence(socket, timeout);
        }
    }
}

/// Lets the kernel give up on a client that acknowledges nothing, or has no room, for this long (RFC 5482). `None` leaves
/// it to the system.
pub(crate) fn limit_silence(socket: RawFd, timeout: Option<Duration>) {
    // Zero would mean the system's default.
    let milliseconds = timeout
        .map_or(0, |timeout| libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX).max(1));
    if let Err(error) = set_tcp_option(socket, libc::TCP_USER_TIMEOUT, milliseconds) {
        debug!(%error, "cannot set TCP_USER_TIMEOUT");
    }
}

/// Sets an integer option of a TCP socket.
pub(crate) fn set_tcp_option(socket: RawFd, option: libc::c_int, value: libc::c_int) -> std::io::Result<()> {
    // SAFETY: the option's value is a live c_int and its length is given; an invalid descriptor is an error, not UB.
    let result = unsafe {
        libc::setsockopt(
            socket,
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
