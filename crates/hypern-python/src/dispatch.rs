//! From a route to Python and back: what a Tokio task does for each request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hypern_core::body::{FileBody, ResponseBody, StreamBody};
use hypern_core::pipe::Pipe;
use hypern_core::presence::Presence;
use hypern_core::server::{Arrival, Handler, json_error};
use hypern_core::watch::Watch;
use hypern_core::{compress, file};
use pyo3::prelude::*;
use tokio::sync::oneshot;
use tracing::{debug, error};

use crate::endpoint::Endpoint;
use crate::engine::Engine;
use crate::exchange::{Envelope, Head, Reply};
use crate::upload::Upload;

/// How long a stream's headers wait for its first item, so that an error before it can still be a status.
const FIRST_MOMENT: Duration = Duration::from_millis(50);

/// A body from this size on is compressed where it does not hold up other connections.
const LARGE: usize = 64 * 1024;

/// Answers requests with Python handlers.
pub(crate) struct Application {
    pub(crate) engine: Arc<Engine>,
    pub(crate) watch: Arc<Watch>,
}

impl Handler for Application {
    type Route = Arc<Py<Endpoint>>;

    async fn handle(&self, route: &Self::Route, arrival: Arrival) -> Response<ResponseBody> {
        let Arrival { request, params, client, miss } = arrival;
        let (head, body) = request.into_parts();
        let endpoint = route.get();
        let upload = if endpoint.stream_body {
            Upload::Live(body)
        } else {
            match Upload::read(body, endpoint.max_body_size).await {
                Ok(upload) => upload,
                Err(refused) => return refused.response(),
            }
        };
        let asked = Asked::new(&head);
        let presence = Presence::new();
        let mut waiting = Waiting { presence: Some(presence.clone()) };
        let (reply, answer) = oneshot::channel();
        let envelope = Envelope {
            endpoint: route.clone(),
            head,
            params,
            upload,
            client,
            miss,
            presence,
            reply,
            engine: self.engine.clone(),
        };
        if self.engine.dispatch(envelope).is_err() {
            return overloaded();
        }
        let response = self.receive(&asked, answer).await;
        waiting.presence = None;
        response
    }
}

impl Application {
    async fn receive(&self, asked: &Asked, mut answer: oneshot::Receiver<Reply>) -> Response<ResponseBody> {
        loop {
            match answer.await {
                Ok(Reply::Whole(head, body)) => return whole(asked, head, body).await,
                Ok(Reply::File(head, path)) => return from_disk(asked, head, &path).await,
                Ok(Reply::Stream(head, offer, instead)) => match offer.accept(FIRST_MOMENT).await {
                    Some(pipe) => return self.stream(asked, head, pipe),
                    None => answer = instead,
                },
                Ok(Reply::StreamHead(mut head)) => {
                    asked.encoding(&mut head, None);
                    return head.with(ResponseBody::Omitted);
                }
                Ok(Reply::Overloaded) => return overloaded(),
                Ok(Reply::Failed) => return failed(),
                Err(_dropped) => {
                    error!("a request was dropped without an answer");
                    return failed();
                }
            }
        }
    }

    fn stream(&self, asked: &Asked, mut head: Head, pipe: Arc<Pipe>) -> Response<ResponseBody> {
        let encoding = asked.encoding(&mut head, None);
        head.with(ResponseBody::Stream(StreamBody::new(pipe, encoding, &self.watch)))
    }
}

/// What of the request matters to the form of its answer.
struct Asked {
    method: Method,
    headers: HeaderMap,
}

impl Asked {
    fn new(head: &http::request::Parts) -> Self {
        // Only what negotiation and file responses look at: copying all headers would cost more than the rest of this.
        const NAMES: [header::HeaderName; 7] = [
            header::ACCEPT_ENCODING,
            header::IF_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
            header::IF_UNMODIFIED_SINCE,
            header::RANGE,
        ];
        let mut headers = HeaderMap::new();
        for name in NAMES {
            if let Some(value) = head.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        Self { method: head.method.clone(), headers }
    }

    fn encoding(&self, head: &mut Head, length: Option<usize>) -> Option<compress::Encoding> {
        let policy = head.compression.take()?;
        let accepted = self.headers.get(header::ACCEPT_ENCODING);
        compress::prepare(&policy, accepted, head.status, &mut head.headers, length)
    }
}

impl Head {
    fn with(self, body: ResponseBody) -> Response<ResponseBody> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

async fn whole(asked: &Asked, mut head: Head, mut body: Bytes) -> Response<ResponseBody> {
    if let Some(encoding) = asked.encoding(&mut head, Some(body.len())) {
        body = if body.len() < LARGE {
            compress::compress_whole(encoding, &body).into()
        } else {
            let compressed = tokio::task::spawn_blocking(move || compress::compress_whole(encoding, &body));
            match compressed.await {
                Ok(compressed) => compressed.into(),
                Err(error) => {
                    error!(%error, "a response could not be compressed");
                    return failed();
                }
            }
        };
    }
    if !body.is_empty() {
        // hyper counts what is sent; a number from elsewhere could only be wrong.
        head.headers.remove(header::CONTENT_LENGTH);
    }
    head.with(ResponseBody::from(body))
}

async fn from_disk(asked: &Asked, mut head: Head, path: &std::path::Path) -> Response<ResponseBody> {
    // Ranges and conditions are for what would be a 200 (RFC 9110, sections 13.2.1 and 14.2).
    let unconditional = HeaderMap::new();
    let conditions = if head.status == StatusCode::OK { &asked.headers } else { &unconditional };
    let (file, body) = match file::serve(path, &asked.method, conditions).await {
        Ok(response) => response.into_parts(),
        Err(error) => {
            debug!(%error, path = %path.display(), "a file could not be sent");
            return json_error(StatusCode::NOT_FOUND, "Not Found");
        }
    };
    if head.status == StatusCode::OK {
        head.status = file.status;
    }
    // What the handler has set wins over what the file suggests.
    let set = std::mem::replace(&mut head.headers, file.headers);
    head.headers.extend(set);
    let length =
        head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let encoding = asked.encoding(&mut head, length);
    match encoding {
        Some(_) if asked.method == Method::HEAD => head.with(ResponseBody::Omitted),
        _ => head.with(ResponseBody::File(Box::new(FileBody::new(body, encoding)))),
    }
}

fn failed() -> Response<ResponseBody> {
    json_error(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

fn overloaded() -> Response<ResponseBody> {
    let mut response = json_error(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Tells the handler if the client leaves before the response has a body, whose drop tells it from then on.
struct Waiting {
    presence: Option<Arc<Presence>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(presence) = self.presence.take() {
            presence.leave();
        }
    }
}
