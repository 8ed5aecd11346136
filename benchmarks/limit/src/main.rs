//! Bare hyper that sends what the benchmark's Python servers send.
//!
//! There is no router, no Python and no channel between the events and the socket: a body makes its events when hyper
//! polls it. What is left is the cost of HTTP and of the kernel, below which no server on hyper can go.
//!
//! # Layout
//!
//! - `bodies`: one body for each job.
//! - `encoder`: gzip and zstd, one flush for each frame.

mod bodies;
mod encoder;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;

use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use bodies::Body;
use encoder::Encoder;

fn main() -> ExitCode {
    let Some(port) = std::env::args().nth(1).and_then(|text| text.parse().ok()) else {
        eprintln!("usage: hypern-limit PORT");
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hypern-limit: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(serve(SocketAddr::from(([127, 0, 0, 1], port))));
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hypern-limit: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(address: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let accepting = tokio::spawn(accept(listener));
    signal(SignalKind::terminate())?.recv().await;
    accepting.abort();
    Ok(())
}

async fn accept(listener: TcpListener) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
    while let Ok((stream, _)) = listener.accept().await {
        // A socket that is gone already is served, and fails there.
        drop(stream.set_nodelay(true));
        let builder = builder.clone();
        tokio::spawn(async move {
            // A client that leaves in the middle is an error to hyper and the end of most jobs here.
            drop(builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let encoder = request.headers().get(ACCEPT_ENCODING).map_or(Encoder::Identity, Encoder::negotiate);
    let response = match request.uri().path() {
        "/hello-sync" | "/hello-async" => whole("text/plain; charset=utf-8", "Hello, world!"),
        "/json-sync" | "/json-async" => whole("application/json", r#"{"message":"Hello, world!"}"#),
        "/burst-sync" | "/burst-async" => {
            let count = parameter(query, "count").unwrap_or(100_000.0) as u64;
            events(encoder, |encoder| Body::burst(count, encoder))
        }
        "/paced-sync" | "/paced-async" => {
            let rate = parameter(query, "rate").unwrap_or(10.0);
            events(encoder, |encoder| Body::paced(rate, encoder))
        }
        "/idle-sync" | "/idle-async" => events(Encoder::Identity, |_| Body::idle()),
        "/download-sync" | "/download-async" => {
            let size = parameter(query, "size").unwrap_or(1_073_741_824.0) as u64;
            typed("application/octet-stream", Body::download(size))
        }
        _ => {
            let mut response = whole("text/plain; charset=utf-8", "Not Found");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    Ok(response)
}

fn parameter(query: &str, name: &str) -> Option<f64> {
    let (_, value) =
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    value.parse().ok()
}

fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn whole(content_type: &'static str, text: &'static str) -> Response<Body> {
    typed(content_type, Body::whole(text))
}

fn events(encoder: Encoder, body: impl FnOnce(Encoder) -> Body) -> Response<Body> {
    let encoding = encoder.name();
    let mut response = typed("text/event-stream", body(encoder));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(encoding) = encoding {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}
