//! HTTP/2 with prior knowledge, over the `h2` crate.

use std::io;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use tokio::net::TcpStream;

use crate::transport::{Head, Sink};

/// Large enough that flow control is never what limits a stream.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 26;

/// Speaks HTTP/2 on a connection; the connection itself runs as a task of its own.
pub(crate) async fn connect(stream: TcpStream) -> io::Result<SendRequest<Bytes>> {
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream)
        .await
        .map_err(io::Error::other)?;
    tokio::task::spawn_local(async move {
        // Each stream on it sees the same error, and counts it.
        drop(connection.await);
    });
    Ok(requests)
}

/// One request's stream.
pub(crate) struct Stream {
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
}

impl Stream {
    pub(crate) async fn open(
        requests: SendRequest<Bytes>,
        path: &str,
        encoding: Option<&str>,
    ) -> io::Result<Self> {
        let mut builder = http::Request::get(format!("http://localhost{path}"));
        if let Some(encoding) = encoding {
            builder = builder.header("accept-encoding", encoding);
        }
        let request = builder.body(()).map_err(io::Error::other)?;
        let mut requests = requests.ready().await.map_err(io::Error::other)?;
        let (response, _) = requests.send_request(request, true).map_err(io::Error::other)?;
        Ok(Self { response: Some(response), body: None })
    }

    /// Waits for bytes and gives them to `sink`; true when the response is whole.
    pub(crate) async fn read(&mut self, sink: &mut impl Sink) -> io::Result<bool> {
        if let Some(response) = self.response.take() {
            let response = response.await.map_err(io::Error::other)?;
            let encoding = response.headers().get("content-encoding").map(|value| value.as_bytes());
            sink.head(&Head { status: response.status().as_u16(), encoding })?;
            self.body = Some(response.into_body());
        }
        let Some(body) = &mut self.body else { return Ok(true) };
        match body.data().await {
            None => Ok(true),
            Some(Ok(bytes)) => {
                body.flow_control().release_capacity(bytes.len()).map_err(io::Error::other)?;
                sink.wire(bytes.len());
                sink.payload(&bytes)?;
                Ok(body.is_end_stream())
            }
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => Ok(true),
            Some(Err(error)) => Err(io::Error::other(error)),
        }
    }
}
