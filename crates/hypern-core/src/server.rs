//! A bound listener and a shutdown future become connections, limits and a graceful end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::TcpKeepalive;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::body::{BodyError, ResponseBody};
use crate::connection::{Carrier, limit_silence, set_tcp_option};
use crate::router::{Lookup, Params, Router};
use crate::watch::Watch;

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much the kernel takes from a response ahead of what the network has carried away. More would only be staleness
/// and memory: an event behind it cannot overtake it.
const UNSENT_IN_KERNEL: libc::c_int = 64 * 1024;

/// When the kernel asks a silent client's host whether it is still there: the only sign of a host that is gone while
/// nothing is sent to it.
const SILENT_CLIENT: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// How long to wait when the process has no file descriptor left, before it tries to accept again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client that sends a part of HTTP/2's preface waits at most until the rest of it is looked for.
const LONGEST_PREFACE_PAUSE: Duration = Duration::from_millis(500);

/// How long an HTTP/2 connection is silent before it is asked whether anybody is there, and how long that may take.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What a server allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the opening of a connection, or the end of the last response, to the end of a request's head.
    pub header_read_timeout: Duration,
    /// From the beginning of the shutdown to the end of the last response; what is left then is aborted.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { header_read_timeout: Duration::from_secs(60), shutdown_timeout: Duration::from_secs(10) }
    }
}

/// Why a request did not reach a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No route has this path.
    NotFound,
    /// Routes have this path, but not this method; the value is that of the `Allow` header.
    MethodNotAllowed(HeaderValue),
    /// OPTIONS on a path whose routes do not answer it themselves; the value is that of the `Allow` header.
    Options(HeaderValue),
}

impl Miss {
    /// 404, 405, or 204 for OPTIONS.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Options(_) => StatusCode::NO_CONTENT,
        }
    }

    /// The methods of the path, if it is known.
    #[must_use]
    pub fn allow(&self) -> Option<&HeaderValue> {
        match self {
            Self::NotFound => None,
            Self::MethodNotAllowed(allow) | Self::Options(allow) => Some(allow),
        }
    }

    /// The answer that HTTP asks for (RFC 9110, sections 15.5.5, 15.5.6 and 9.3.7).
    #[must_use]
    pub fn response(&self) -> Response<ResponseBody> {
        let mut response = match self {
            Self::NotFound => json_error(self.status(), "Not Found"),
            Self::MethodNotAllowed(_) => json_error(self.status(), "Method Not Allowed"),
            Self::Options(_) => Response::new(ResponseBody::empty()),
        };
        *response.status_mut() = self.status();
        if let Some(allow) = self.allow() {
            response.headers_mut().insert(header::ALLOW, allow.clone());
        }
        response
    }
}

/// An error response with the same JSON shape as those of the framework: `{"detail": ...}`.
#[must_use]
pub fn json_error(status: StatusCode, detail: &'static str) -> Response<ResponseBody> {
    let body = format!("{{\"detail\":\"{detail}\"}}");
    let mut response = Response::new(ResponseBody::from(bytes::Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A request as it arrives at a handler.
#[derive(Debug)]
pub struct Arrival {
    /// Head and body.
    pub request: Request<Incoming>,
    /// The parameters of the route's path.
    pub params: Params,
    /// The other end of the connection.
    pub client: SocketAddr,
    /// Set if no route matched and the handler's fallback is asked.
    pub miss: Option<Miss>,
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// What the router finds.
    type Route: Send + Sync + 'static;

    /// Answers a request; errors are responses too.
    fn handle(
        &self,
        route: &Self::Route,
        arrival: Arrival,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;
}

/// Routes and the handler behind them.
#[derive(Debug)]
pub struct Site<H: Handler> {
    /// Which route a request takes.
    pub router: Router<H::Route>,
    /// Answers misses, if the application wants to see them.
    pub fallback: Option<H::Route>,
    /// What answers.
    pub handler: H,
}

impl<H: Handler> Site<H> {
    async fn answer(&self, request: Request<Incoming>, client: SocketAddr) -> Response<ResponseBody> {
        let is_head = request.method() == Method::HEAD;
        let (route, params, miss) = match self.router.find(request.method(), request.uri().path()) {
            Lookup::Found { value, params } => (Some(value), params, None),
            Lookup::NotFound => (None, Params::default(), Some(Miss::NotFound)),
            Lookup::MethodNotAllowed { allow } => {
                (None, Params::default(), Some(Miss::MethodNotAllowed(allow)))
            }
            Lookup::Options { allow } => (None, Params::default(), Some(Miss::Options(allow))),
        };
        let response = match (route.or(self.fallback.as_ref()), miss) {
            (None, miss) => miss.unwrap_or(Miss::NotFound).response(),
            (Some(route), miss) => {
                self.handler.handle(route, Arrival { request, params, client, miss }).await
            }
        };
        if is_head { without_body(response) } else { response }
    }
}

/// The head that GET would have got (RFC 9110, section 9.3.2): a known length is kept, the body is dropped.
fn without_body(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut head, body) = response.into_parts();
    let has_length = !head.status.is_informational()
        && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_length && let Some(length) = http_body::Body::size_hint(&body).exact() {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(head, ResponseBody::empty())
}

/// Binds a listener with the options that the server wants on every connection, which accepted sockets inherit.
///
/// # Errors
/// Whatever the system says: the address is in use, not local, or not allowed.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&SILENT_CLIENT)?;
    set_tcp_option(socket.as_raw_fd(), libc::TCP_NOTSENT_LOWAT, UNSENT_IN_KERNEL)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Serves connections until `shutdown` is ready; then stops accepting, ends event streams cleanly, lets other responses
/// finish until the deadline of `limits`, and aborts what is left.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    site: Arc<Site<H>>,
    watch: Arc<Watch>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let (serving, closing) = watch::channel(());
    let mut connections = JoinSet::new();
    connections.spawn({
        let watch = watch.clone();
        async move { watch.pulse.run().await }
    });
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // What a connection needed is freed when it has ended, not when the next one comes.
            Some(_ended) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, client)) => {
                let connection = Connection {
                    site: site.clone(),
                    client,
                    limits,
                    watcher: graceful.watcher(),
                    closing: closing.clone(),
                };
                let carrier = Carrier::new(Some(stream.as_raw_fd()));
                let task = connections.spawn(carrier.clone().carry(connection.run(stream)));
                carrier.set_task(task);
            }
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    drop(serving);
    watch.shut_down();
    if timeout(limits.shutdown_timeout, graceful.shutdown()).await.is_err() {
        warn!(streams = watch.len(), "the shutdown deadline is over: what is left is aborted");
        watch.abort();
    }
    connections.shutdown().await;
}

/// A client that is gone before it is accepted concerns nobody; a lack of descriptors or memory passes.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        warn!(%error, "cannot accept connections for the moment");
        sleep(ACCEPT_PAUSE).await;
    }
}

struct Connection<H: Handler> {
    site: Arc<Site<H>>,
    client: SocketAddr,
    limits: Limits,
    watcher: Watcher,
    /// Ends when the server shuts down.
    closing: watch::Receiver<()>,
}

impl<H: Handler> Connection<H> {
    /// The boxes keep what is over out of what an idle stream keeps: 11 KiB less for each.
    async fn run(mut self, stream: TcpStream) {
        let Some(is_http2) = Box::pin(self.begin(&stream)).await else {
            return debug!(client = %self.client, "a connection without a request is closed");
        };
        let client = self.client;
        if let Err(error) = self.serve(stream, is_http2).await {
            debug!(%client, %error, "a connection ended early");
        }
    }

    /// Waits for the first bytes, and tells whether they are those of HTTP/2. `None` if they do not come.
    async fn begin(&mut self, stream: &TcpStream) -> Option<bool> {
        tokio::select! {
            beginning = timeout(self.limits.header_read_timeout, begins_http2(stream)) => beginning.ok()?.ok(),
            _ = self.closing.changed() => None,
        }
    }

    fn serve(
        self,
        stream: TcpStream,
        is_http2: bool,
    ) -> Pin<Box<impl Future<Output = Result<(), BodyError>> + use<H>>> {
        if is_http2 {
            // A connection that takes nothing cannot be told to close either: that is the kernel's to do.
            limit_silence(stream.as_raw_fd(), Some(HTTP2_PING_INTERVAL + HTTP2_PING_TIMEOUT));
        }
        let Self { site, client, limits, watcher, closing: _ } = self;
        let service = service_fn(move |request| {
            let site = site.clone();
            Box::pin(async move { Ok::<_, Infallible>(site.answer(request, client).await) })
        });
        let mut builder = auto::Builder::new(StreamExecutor);
        builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_read_timeout)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(HTTP2_PING_INTERVAL))
            .keep_alive_timeout(HTTP2_PING_TIMEOUT);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        Box::pin(watcher.watch(connection))
    }
}

/// Runs each HTTP/2 stream as a task of its own, which can be aborted without the connection around it.
#[derive(Clone, Copy, Debug)]
struct StreamExecutor;

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let carrier = Carrier::new(None::<RawFd>);
        let task = tokio::spawn(carrier.clone().carry(stream));
        carrier.set_task(task.abort_handle());
    }
}

/// Looks at the first bytes of a connection, without taking them. hyper-util's own detection has no deadline.
async fn begins_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0; HTTP2_PREFACE.len()];
    let mut pause = Duration::from_millis(1);
    loop {
        let count = stream.peek(&mut start).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !HTTP2_PREFACE.starts_with(&start[..count]) {
            return Ok(false);
        }
        if count == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        // A part of the preface stays readable, so there is no event to wait for; it comes in one packet in practice.
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PREFACE_PAUSE);
    }
}
