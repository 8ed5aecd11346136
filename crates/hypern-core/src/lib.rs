//! The part of Hypern that knows nothing of Python.
//!
//! # Layout
//!
//! - [`server`]: a bound listener and a shutdown future become connections, limits and a graceful end.
//! - [`router`]: method and path become a route and its parameters, or a 404, a 405, an answer to OPTIONS.
//! - [`body`]: what hyper polls: whole bytes, a file, or a pipe bounded in bytes.
//! - [`watch`]: one task that keeps every open stream alive and drops the stalled ones.
//! - [`sse`]: the wire format of events, and only here.
//! - [`compress`]: negotiation, and one flush for each drained buffer.
//! - [`file`]: a file on disk as a response, with ranges and conditions.
//!
//! `server` knows `router`, `body` and `watch`; `body` knows `sse` and `compress`; `sse` knows nothing.

pub mod compress;
pub mod file;
pub mod router;
pub mod sse;
