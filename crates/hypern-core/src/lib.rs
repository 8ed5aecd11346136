//! The part of Hypern that knows nothing of Python.
//!
//! # Layout
//!
//! - [`server`]: a bound listener and a shutdown future become connections, limits and a graceful end.
//! - [`router`]: method and path become a route and its parameters, or a 404, a 405, an answer to OPTIONS.
//! - [`body`]: what hyper polls: whole bytes, a file, or a stream.
//! - [`pipe`]: one producer's way to one client, bounded in bytes.
//! - `pulse`: a beat of 50 µs, at which streams in a burst are sent.
//! - `prefetch`: a hint to the processor about what is going to be written.
//! - [`presence`]: whether anybody still waits for a response.
//! - [`watch`]: one task that keeps every open stream alive and drops the stalled ones.
//! - [`connection`]: what a response may do to the connection that carries it.
//! - [`sse`]: the wire format of events, and only here.
//! - [`compress`]: negotiation, and one flush for each drained buffer.
//! - [`file`]: a file on disk as a response, with ranges and conditions.
//!
//! `server` knows `router`, `body` and `watch`; `body` knows `pipe`, `watch` and `compress`; `watch` knows `pipe` and
//! `pulse`; `pipe` knows `presence`, `connection`, `pulse`, `prefetch` and `sse`; `sse` knows nothing.

pub mod body;
pub mod compress;
pub mod connection;
pub mod file;
pub mod pipe;
mod prefetch;
pub mod presence;
mod pulse;
pub mod router;
pub mod server;
pub mod sse;
pub mod watch;
