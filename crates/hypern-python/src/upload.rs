//! A request's body: read ahead of the handler, or handed over chunk by chunk as it arrives.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hypern_core::body::ResponseBody;
use hypern_core::server::json_error;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::sync::{Mutex, mpsc};

use crate::bridge::resolve;
use crate::engine::Engine;
use crate::request;

/// The most that one chunk of a body that was read ahead holds.
const CHUNK: usize = 64 * 1024;

/// A body on its way to Python.
pub(crate) enum Upload {
    Whole(Bytes),
    Live(Incoming),
}

/// The body is larger than the endpoint allows, or ended early.
pub(crate) enum Refused {
    TooLarge,
    Broken,
}

impl Refused {
    pub(crate) fn response(&self) -> Response<ResponseBody> {
        let mut response = match self {
            Self::TooLarge => json_error(StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large"),
            Self::Broken => json_error(StatusCode::BAD_REQUEST, "The request body ended early"),
        };
        // What is left of the body is not read, so the connection cannot be used again.
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        response
    }
}

impl Upload {
    /// Reads the whole body, if it is not larger than `limit` bytes.
    pub(crate) async fn read(mut body: Incoming, limit: usize) -> Result<Self, Refused> {
        if body.is_end_stream() {
            return Ok(Self::Whole(Bytes::new()));
        }
        if body.size_hint().lower() > limit as u64 {
            return Err(Refused::TooLarge);
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refused::Broken)?.into_data() else { continue };
            if whole.len() + data.len() > limit {
                return Err(Refused::TooLarge);
            }
            if whole.is_empty() && body.is_end_stream() {
                return Ok(Self::Whole(data));
            }
            whole.extend_from_slice(&data);
        }
        Ok(Self::Whole(whole.freeze()))
    }

    pub(crate) fn into_python(self, py: Python<'_>, engine: &Arc<Engine>) -> PyResult<request::Upload> {
        match self {
            Self::Whole(bytes) => Ok(request::Upload::Whole(bytes)),
            Self::Live(body) => {
                let (sender, receiver) = mpsc::channel(1);
                engine.tokio.spawn(forward(body, sender));
                let source = Source::Live(Arc::new(Live {
                    arriving: Mutex::new(Arriving { parts: receiver, is_complete: false }),
                    desk: parking_lot::Mutex::default(),
                    engine: engine.clone(),
                }));
                Ok(request::Upload::Live(Py::new(py, UploadStream(source))?.into_any()))
            }
        }
    }
}

/// What arrives of a live body. Its end is told, because a channel also closes when the server stops.
enum Part {
    Data(Bytes),
    Failed(hyper::Error),
    End,
}

/// Reads the body to its end, even if nobody wants it: on HTTP/1 only then it is seen that the client left.
async fn forward(mut body: Incoming, sender: mpsc::Sender<Part>) {
    while let Some(frame) = body.frame().await {
        let part = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => Part::Data(data),
            Ok(Err(_trailers)) => continue,
            Err(error) => {
                sender.send(Part::Failed(error)).await.ok();
                return;
            }
        };
        sender.send(part).await.ok();
    }
    sender.send(Part::End).await.ok();
}

/// A live body as it comes to its reader.
struct Arriving {
    parts: mpsc::Receiver<Part>,
    is_complete: bool,
}

type Chunk = Result<Bytes, String>;

impl Arriving {
    async fn next(&mut self) -> Option<Chunk> {
        if self.is_complete {
            return None;
        }
        let part = self.parts.recv().await;
        self.take(part)
    }

    fn blocking_next(&mut self) -> Option<Chunk> {
        if self.is_complete {
            return None;
        }
        let part = self.parts.blocking_recv();
        self.take(part)
    }

    fn take(&mut self, part: Option<Part>) -> Option<Chunk> {
        match part {
            Some(Part::Data(data)) => Some(Ok(data)),
            Some(Part::Failed(error)) => Some(Err(error.to_string())),
            Some(Part::End) => {
                self.is_complete = true;
                None
            }
            None => Some(Err("the connection is closed".to_owned())),
        }
    }
}

/// The chunks of an upload, for `for` on a thread and `async for` on the event loop.
#[pyclass(frozen, module = "hypern._hypern")]
pub(crate) struct UploadStream(Source);

enum Source {
    /// The rest of a body that was read ahead.
    Read(parking_lot::Mutex<Bytes>),
    /// A body that is still arriving.
    Live(Arc<Live>),
}

impl UploadStream {
    /// The chunks of a body that was read ahead.
    pub(crate) fn new(body: Bytes) -> Self {
        Self(Source::Read(parking_lot::Mutex::new(body)))
    }
}

#[pymethods]
impl UploadStream {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        match &self.0 {
            Source::Read(rest) => Ok(next_chunk(rest).map(|chunk| PyBytes::new(py, &chunk))),
            Source::Live(live) => {
                let chunk = py.detach(|| live.arriving.blocking_lock().blocking_next());
                chunk.map(|chunk| to_python(py, chunk)).transpose()
            }
        }
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        match &slf.get().0 {
            Source::Read(rest) => match next_chunk(rest) {
                Some(chunk) => Ok(Py::new(py, Ready(PyBytes::new(py, &chunk).unbind()))?.into_any()),
                None => Err(PyStopAsyncIteration::new_err(())),
            },
            Source::Live(live) => {
                let tasks = live.engine.tasks.bind(py);
                tasks.call_method1(intern!(py, "next_chunk"), (slf,)).map(Bound::unbind)
            }
        }
    }

    /// The next chunk of a live body, for a reader on the event loop; None if it has to wait for `_arrival`.
    #[pyo3(name = "_take")]
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let live = self.live()?;
        let mut desk = live.desk.lock();
        match desk.fetched.take() {
            None => Ok(None),
            Some(Some(chunk)) => {
                drop(desk);
                to_python(py, chunk).map(Some)
            }
            Some(None) => {
                // Every other reader has to see the end too.
                desk.fetched = Some(None);
                Err(PyStopAsyncIteration::new_err(()))
            }
        }
    }

    /// A future of the event loop that is done when there may be something to take.
    #[pyo3(name = "_arrival")]
    fn arrival(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let live = self.live()?;
        let future = live.engine.new_future(py)?;
        let mut desk = live.desk.lock();
        desk.waiting.push(future.clone_ref(py));
        let is_fetching = std::mem::replace(&mut desk.is_fetching, true);
        drop(desk);
        if !is_fetching {
            live.fetch();
        }
        Ok(future)
    }
}

impl UploadStream {
    fn live(&self) -> PyResult<&Arc<Live>> {
        match &self.0 {
            Source::Live(live) => Ok(live),
            Source::Read(_) => Err(PyRuntimeError::new_err("the body has been read already")),
        }
    }
}

/// A body that is still arriving, and who reads it.
struct Live {
    arriving: Mutex<Arriving>,
    desk: parking_lot::Mutex<Desk>,
    engine: Arc<Engine>,
}

/// Between the arriving body and the event loop. A reader takes its chunk when it runs and not when it is woken, so that
/// no chunk is lost to a reader that is cancelled in between.
#[derive(Default)]
struct Desk {
    is_fetching: bool,
    fetched: Option<Option<Chunk>>,
    /// Futures of readers.
    waiting: Vec<Py<PyAny>>,
}

impl Live {
    fn fetch(self: &Arc<Self>) {
        let live = self.clone();
        self.engine.tokio.spawn(async move {
            let chunk = live.arriving.lock().await.next().await;
            let bridge = live.engine.bridge.clone();
            bridge.post(Box::new(move |py| live.fetched(py, chunk)));
        });
    }

    fn fetched(&self, py: Python<'_>, chunk: Option<Chunk>) {
        let mut desk = self.desk.lock();
        desk.is_fetching = false;
        desk.fetched = Some(chunk);
        let waiting = std::mem::take(&mut desk.waiting);
        drop(desk);
        for future in waiting {
            resolve(py, &future, Ok(py.None()));
        }
    }
}

fn next_chunk(rest: &parking_lot::Mutex<Bytes>) -> Option<Bytes> {
    let mut rest = rest.lock();
    let length = rest.len().min(CHUNK);
    (length > 0).then(|| rest.split_to(length))
}

fn to_python(py: Python<'_>, chunk: Chunk) -> PyResult<Bound<'_, PyBytes>> {
    match chunk {
        Ok(bytes) => Ok(PyBytes::new(py, &bytes)),
        Err(error) => {
            Err(PyConnectionError::new_err(format!("the upload ended before it was complete: {error}")))
        }
    }
}

/// An awaitable whose value is here already.
#[pyclass(frozen, module = "hypern._hypern")]
struct Ready(Py<PyBytes>);

#[pymethods]
impl Ready {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<()> {
        Err(PyStopIteration::new_err((self.0.clone_ref(py),)))
    }
}
