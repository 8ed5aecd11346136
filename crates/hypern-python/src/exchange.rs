//! One request on its way through Python, and its answer on its way back.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use hypern_core::compress;
use hypern_core::pipe::{self, Offer, Pipe};
use hypern_core::presence::Presence;
use hypern_core::router::Params;
use hypern_core::server::Miss;
use hypern_core::sse;
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::content::{Content, Kind, Stream};
use crate::context::Context;
use crate::endpoint::{Argument, Endpoint};
use crate::engine::Engine;
use crate::errors;
use crate::foreign;
use crate::pump::{Flow, Sink, close_source};
use crate::request::Request;
use crate::response::Response;
use crate::upload::Upload;

/// The status line and the headers of an answer, and how its body may be compressed.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) compression: Option<compress::Policy>,
}

/// What Tokio waits for.
pub(crate) enum Reply {
    Whole(Head, Bytes),
    File(Head, PathBuf),
    /// The last part is the answer that takes the stream's place if its producer withdraws before the first item.
    Stream(Head, Offer, oneshot::Receiver<Reply>),
    /// The head of a stream, in answer to HEAD.
    StreamHead(Head),
    /// Nothing better can be said than 500.
    Failed,
    /// All threads are taken.
    Overloaded,
}

/// A request as Tokio hands it over.
pub(crate) struct Envelope {
    pub(crate) endpoint: Arc<Py<Endpoint>>,
    pub(crate) head: http::request::Parts,
    pub(crate) params: Params,
    pub(crate) upload: Upload,
    pub(crate) client: SocketAddr,
    pub(crate) miss: Option<Miss>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) reply: oneshot::Sender<Reply>,
    pub(crate) engine: Arc<Engine>,
}

/// A request with its Python objects.
#[pyclass(frozen, module = "hypern._hypern")]
pub(crate) struct Exchange {
    pub(crate) engine: Arc<Engine>,
    endpoint: Arc<Py<Endpoint>>,
    request: Py<Request>,
    response: Py<Response>,
    context: Py<Context>,
    presence: Arc<Presence>,
    is_head: bool,
    reply: Mutex<Option<oneshot::Sender<Reply>>>,
}

impl Exchange {
    pub(crate) fn open(py: Python<'_>, envelope: Envelope) -> PyResult<Self> {
        let Envelope { endpoint, head, params, upload, client, miss, presence, reply, engine } = envelope;
        let is_head = head.method == Method::HEAD;
        let upload = upload.into_python(py, &engine)?;
        let request = Request::new(head, params, upload, client, presence.clone(), miss);
        Ok(Self {
            endpoint,
            request: Py::new(py, request)?,
            response: Py::new(py, Response::new())?,
            context: Py::new(py, Context::new(engine.clone(), presence.clone()))?,
            presence,
            is_head,
            reply: Mutex::new(Some(reply)),
            engine,
        })
    }

    fn argument<'py>(&self, py: Python<'py>, argument: Argument) -> &Bound<'py, PyAny> {
        match argument {
            Argument::Request => self.request.bind(py).as_any(),
            Argument::Response => self.response.bind(py).as_any(),
            Argument::Context => self.context.bind(py).as_any(),
        }
    }

    /// Calls the handler.
    pub(crate) fn call_handler<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let endpoint = self.endpoint.get();
        let call = endpoint.call.bind(py);
        let argument = |position: usize| self.argument(py, endpoint.arguments[position]);
        match endpoint.arguments.len() {
            0 => foreign::call(call, &[]),
            1 => foreign::call(call, &[argument(0)]),
            2 => foreign::call(call, &[argument(0), argument(1)]),
            _ => foreign::call(call, &[argument(0), argument(1), argument(2)]),
        }
    }

    /// True if the handler may wait for something, so that it needs a task.
    pub(crate) fn suspends(&self) -> bool {
        self.endpoint.get().suspends
    }

    /// Takes the handler's result and sends the answer. What is left to do is a stream, if the answer is one.
    pub(crate) fn answer(slf: &Bound<'_, Self>, result: &Bound<'_, PyAny>) -> PyResult<Option<Flow>> {
        let py = slf.py();
        let this = slf.get();
        Response::absorb(this.response.bind(py), result)?;
        let mut response = this.response.bind(py).borrow_mut();
        let content = std::mem::replace(&mut response.content, Content::Unset);
        let head = Head {
            status: response.status,
            headers: std::mem::take(&mut response.headers),
            compression: response.compression.take(),
        };
        drop(response);
        match content {
            Content::Unset => this.send(Reply::Whole(head, Bytes::new())),
            Content::Bytes(body) => this.send(Reply::Whole(head, body)),
            Content::File(path) => this.send(Reply::File(head, path)),
            Content::Stream(stream) if this.is_head => {
                // The client gets the head only, so the source is not even begun.
                this.send(Reply::StreamHead(head));
                close_source(stream.source.bind(py))?;
            }
            Content::Stream(stream) => return Ok(Some(Self::begin_stream(slf, head, stream))),
        }
        Ok(None)
    }

    fn begin_stream(slf: &Bound<'_, Self>, head: Head, stream: Stream) -> Flow {
        let this = slf.get();
        let (kind, prelude) = match stream.kind {
            Kind::Events { ping, retry } => {
                let mut prelude = Vec::new();
                if let Some(retry) = retry {
                    sse::encode_retry(retry, &mut prelude);
                }
                (pipe::Kind::Events { ping }, prelude)
            }
            Kind::Chunks => (pipe::Kind::Chunks, Vec::new()),
        };
        let pipe = Pipe::new(kind, stream.send_timeout, prelude, this.presence.clone());
        let (instead, withdrawn) = oneshot::channel();
        let reply = this.reply.lock().replace(instead);
        let offer = Reply::Stream(head, Offer::new(pipe.clone()), withdrawn);
        if let Some(reply) = reply {
            // If the client has left, the offer closes the pipe: here, or whenever it is dropped with the other end.
            reply.send(offer).ok();
        }
        Flow { exchange: slf.clone().unbind(), source: stream.source, pipe, on_error: stream.on_error }
    }

    fn send(&self, reply: Reply) {
        if let Some(sender) = self.reply.lock().take() {
            // Nobody is there to take it if the client has left.
            sender.send(reply).ok();
        }
    }

    /// Has the application turn an exception into a response; an awaitable, if its error handler is async.
    pub(crate) fn handle_error<'py>(
        &self,
        py: Python<'py>,
        error: PyErr,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (request, response, context) =
            (self.request.bind(py), self.response.bind(py), self.context.bind(py));
        let error = error.into_value(py).into_bound(py);
        let handling = foreign::call(self.engine.on_error.bind(py), &[request, response, context, &error])?;
        Ok((!handling.is_none()).then_some(handling))
    }

    /// The answer when even the error handler fails.
    pub(crate) fn give_up(&self, py: Python<'_>, error: PyErr) {
        self.report(py, "an error handler failed", error);
        self.send(Reply::Failed);
    }

    /// The answer when no thread is left for the response's source.
    pub(crate) fn refuse(&self) {
        self.send(Reply::Overloaded);
    }

    /// Logs an exception that no response can tell of.
    pub(crate) fn report(&self, py: Python<'_>, message: &str, error: PyErr) {
        errors::report(py, message, self.request.bind(py), self.context.bind(py), error);
    }

    /// Answers an exception on this thread. What is left to do is a stream, or an async error handler.
    pub(crate) fn recover(slf: &Bound<'_, Self>, error: PyErr) -> Option<Aftermath> {
        let py = slf.py();
        let recovered = slf.get().handle_error(py, error).and_then(|handling| match handling {
            Some(handling) => Ok(Some(Aftermath::Await(handling.unbind()))),
            None => Ok(Self::answer(slf, &py.None().into_bound(py))?.map(Aftermath::Stream)),
        });
        recovered.unwrap_or_else(|failure| {
            slf.get().give_up(py, failure);
            None
        })
    }
}

/// What remains to be done after an exception has been handled.
pub(crate) enum Aftermath {
    /// An async error handler is to be awaited, on the event loop.
    Await(Py<PyAny>),
    /// The error response is a stream.
    Stream(Flow),
}

/// What the coroutines of `hypern._tasks` do with it, on the event loop.
#[pymethods]
impl Exchange {
    /// Calls the handler and returns its coroutine.
    fn call<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call_handler(py)
    }

    /// Sends the answer. Returns a sink if a task has to fill it.
    fn finish(slf: &Bound<'_, Self>, result: &Bound<'_, PyAny>) -> PyResult<Option<Sink>> {
        match Self::answer(slf, result)? {
            Some(flow) => flow.run_from_loop(slf.py()),
            None => Ok(None),
        }
    }

    /// Has the application answer an exception. Returns the awaitable of an async error handler.
    #[pyo3(name = "handle_error")]
    fn handle_exception<'py>(
        &self,
        py: Python<'py>,
        error: Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.handle_error(py, PyErr::from_value(error))
    }

    /// Answers with a bare 500, and logs why.
    #[pyo3(name = "give_up")]
    fn give_up_on(&self, error: Bound<'_, PyAny>) {
        self.give_up(error.py(), PyErr::from_value(error));
    }
}
