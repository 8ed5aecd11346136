//! The extension module `hypern._hypern`: all of PyO3, and nothing that works without Python.
//!
//! # Layout
//!
//! - `server`: a runtime, a listener and the routes, driven by `hypern.app`.
//! - `dispatch`: what a Tokio task does for each request; it never touches the interpreter.
//! - `engine`: what every request shares, and where a handler runs.
//! - `bridge`: from Tokio's threads to the event loop. `threads`: the pool for `def` handlers and sync generators.
//! - `exchange`: one request with its Python objects, and its answer.
//! - `pump`: from a source's items to a pipe; `feeder`: the inner loop of an async one. `item`: what a stream accepts.
//! - `event_call`, `event_memory`: what makes an `SSEEvent` cheap.
//! - `request`, `headers`, `upload`, `response`, `cookie`, `context`, `event`, `json`: what handlers see.
//! - `endpoint`: a route. `contextvars`, `errors`: as their names say.

mod bridge;
mod content;
mod context;
mod contextvars;
mod cookie;
mod dispatch;
mod endpoint;
mod engine;
mod errors;
mod event;
mod event_call;
mod event_memory;
mod exchange;
mod feeder;
mod fields;
mod foreign;
mod headers;
mod item;
mod json;
mod pump;
mod request;
mod response;
mod returned;
mod server;
mod threads;
mod upload;

use pyo3::prelude::*;

#[pymodule]
mod _hypern {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::bridge::run_on_thread;
    #[pymodule_export]
    use crate::context::Context;
    #[pymodule_export]
    use crate::endpoint::Endpoint;
    #[pymodule_export]
    use crate::event::SseEvent;
    #[pymodule_export]
    use crate::exchange::Exchange;
    #[pymodule_export]
    use crate::feeder::Feeder;
    #[pymodule_export]
    use crate::headers::Headers;
    #[pymodule_export]
    use crate::pump::Sink;
    #[pymodule_export]
    use crate::request::Request;
    #[pymodule_export]
    use crate::response::Response;
    #[pymodule_export]
    use crate::server::Server;
    #[pymodule_export]
    use crate::upload::UploadStream;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::event_call::install(module.py());
        crate::event_memory::install(module.py())?;
        crate::headers::register(module.py())
    }
}
