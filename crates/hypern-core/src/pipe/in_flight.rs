//! Bytes that hyper has taken and not written yet.

use std::mem;
use std::sync::Arc;

use bytes::Buf;

use super::Pipe;

/// Bytes on their way from a pipe to the socket.
#[derive(Debug)]
pub struct InFlight {
    pub(super) bytes: Vec<u8>,
    pub(super) position: usize,
    pub(super) pipe: Arc<Pipe>,
}

impl Buf for InFlight {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    fn advance(&mut self, count: usize) {
        self.position += count;
        assert!(self.position <= self.bytes.len(), "cannot advance past the end of a chunk");
        if self.has_remaining() {
            self.pipe.advanced();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.pipe.landed(mem::take(&mut self.bytes));
    }
}
