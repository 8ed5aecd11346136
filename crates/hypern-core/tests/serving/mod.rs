//! A server on a free port whose routes the test writes, and clients that see raw bytes.

#![expect(dead_code, reason = "each test file takes what it needs")]

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hypern_core::body::{ResponseBody, StreamBody};
use hypern_core::compress::Encoding;
use hypern_core::pipe::{Kind, Opening, Pipe};
use hypern_core::presence::Presence;
use hypern_core::router::Router;
use hypern_core::server::{Arrival, Handler, Limits, Site, bind, json_error, serve};
use hypern_core::watch::Watch;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything that must happen may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const EVENTS: Kind = Kind::Events { ping: None };

/// Fails the test if what must happen does not.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match timeout(DEADLINE, future).await {
            Ok(output) => output,
            Err(_elapsed) => panic!("what {caller} waits for does not happen"),
        }
    }
}

/// Waits for something that no event tells.
#[track_caller]
pub(crate) fn until(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
}

type Answering = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;
pub(crate) type Answer = Box<dyn Fn(Arrival) -> Answering + Send + Sync>;

#[derive(Debug)]
pub(crate) struct Routes;

impl Handler for Routes {
    type Route = Answer;

    fn handle(
        &self,
        route: &Answer,
        arrival: Arrival,
    ) -> impl Future<Output = Response<ResponseBody>> + Send {
        route(arrival)
    }
}

pub(crate) fn answer<F>(handle: impl Fn(Arrival) -> F + Send + Sync + 'static) -> Answer
where
    F: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    Box::new(move |arrival| Box::pin(handle(arrival)))
}

/// Answers with `text`.
pub(crate) fn text(text: &'static str) -> Answer {
    answer(move |_| async move { Response::new(ResponseBody::from(Bytes::from_static(text.as_bytes()))) })
}

/// How a route streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streaming {
    pub(crate) kind: Kind,
    pub(crate) send_timeout: Option<Duration>,
    pub(crate) patience: Duration,
    pub(crate) encoding: Option<Encoding>,
}

impl Streaming {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, send_timeout: None, patience: Duration::from_millis(1), encoding: None }
    }
}

/// The producer's end of a stream that a client asked for.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) pipe: Arc<Pipe>,
    pub(crate) presence: Arc<Presence>,
    closed: oneshot::Receiver<()>,
}

impl Stream {
    fn new(streaming: Streaming) -> Self {
        let presence = Presence::new();
        let pipe = Pipe::new(streaming.kind, streaming.send_timeout, Vec::new(), presence.clone());
        let (sender, closed) = oneshot::channel();
        pipe.on_close(Box::new(move || sender.send(()).unwrap_or_default()));
        Self { pipe, presence, closed }
    }

    pub(crate) fn write(&self, item: &str) {
        assert_eq!(self.pipe.write(item.as_bytes()), Ok(item.len()));
    }

    /// Waits until nobody reads any more.
    #[track_caller]
    pub(crate) fn closed(self) -> impl Future<Output = ()> {
        soon(async move {
            self.closed.await.expect("the pipe is closed before it is dropped");
            assert!(self.pipe.is_closed() && self.presence.left());
        })
    }

    /// Writes until no room has come for a while, and returns how much was accepted.
    pub(crate) async fn fill(&self) -> usize {
        let item = vec![b'x'; 16 * 1024];
        let mut accepted = 0;
        loop {
            let count = self.pipe.write(&item).expect("the client is there");
            accepted += count;
            if count == 0 && !self.has_space_within(Duration::from_millis(100)).await {
                return accepted;
            }
        }
    }

    async fn has_space_within(&self, duration: Duration) -> bool {
        let (sender, space) = oneshot::channel();
        self.pipe.on_space(Box::new(move || sender.send(()).unwrap_or_default()));
        timeout(duration, space).await.is_ok()
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) watch: Arc<Watch>,
    streams: mpsc::UnboundedReceiver<Stream>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    watching: JoinHandle<()>,
}

/// What a server is made of.
pub(crate) struct Plan {
    pub(crate) router: Router<Answer>,
    pub(crate) fallback: Option<Answer>,
    pub(crate) limits: Limits,
    watch: Arc<Watch>,
    sender: mpsc::UnboundedSender<Stream>,
    streams: mpsc::UnboundedReceiver<Stream>,
}

impl Plan {
    pub(crate) fn new() -> Self {
        let (sender, streams) = mpsc::unbounded_channel();
        let watch = Watch::new();
        Self { router: Router::new(), fallback: None, limits: Limits::default(), watch, sender, streams }
    }

    pub(crate) fn get(mut self, path: &str, answer: Answer) -> Self {
        self.router.insert(Method::GET, path, answer).expect("a route");
        self
    }

    pub(crate) fn post(mut self, path: &str, answer: Answer) -> Self {
        self.router.insert(Method::POST, path, answer).expect("a route");
        self
    }

    /// A route whose producer is [`Server::next_stream`]; a withdrawn response becomes an error.
    pub(crate) fn stream(self, path: &str, streaming: Streaming) -> Self {
        let (watch, sender) = (self.watch.clone(), self.sender.clone());
        let answer = answer(move |_| {
            let (watch, sender) = (watch.clone(), sender.clone());
            async move {
                let stream = Stream::new(streaming);
                let pipe = stream.pipe.clone();
                sender.send(stream).ok();
                match pipe.opening(streaming.patience).await {
                    Opening::Begin => {}
                    Opening::Withdrawn => return json_error(StatusCode::IM_A_TEAPOT, "withdrawn"),
                }
                Response::new(ResponseBody::Stream(StreamBody::new(pipe, streaming.encoding, &watch)))
            }
        });
        self.get(path, answer)
    }

    pub(crate) fn start(self) -> Server {
        let Self { router, fallback, limits, watch, streams, .. } = self;
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let address = listener.local_addr().expect("an address");
        let (stop, stopping) = oneshot::channel();
        let site = Arc::new(Site { router, fallback, handler: Routes });
        let shutdown = async move { drop(stopping.await) };
        let serving = tokio::spawn(serve(listener, site, watch.clone(), limits, shutdown));
        let watching = tokio::spawn({
            let watch = watch.clone();
            async move { watch.run().await }
        });
        Server { address, watch, streams, stop: Some(stop), serving, watching }
    }
}

impl Server {
    /// The producer's end of the stream that was asked for next.
    #[track_caller]
    pub(crate) fn next_stream(&mut self) -> impl Future<Output = Stream> {
        let stream = self.streams.recv();
        soon(async { stream.await.expect("the server is there") })
    }

    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) {
        self.stop.take().expect("it is stopped once").send(()).expect("the server is there");
    }

    /// Waits for the end of the shutdown.
    #[track_caller]
    pub(crate) fn stopped(&mut self) -> impl Future<Output = ()> {
        let serving = soon(&mut self.serving);
        async { serving.await.expect("the server ends") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
        self.watching.abort();
    }
}

/// A client of HTTP/1.1 that writes and reads bytes.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        Self { socket: soon(TcpStream::connect(server.address)).await.expect("a connection") }
    }

    /// A client whose kernel takes little, so that what it does not read soon stays with the server.
    pub(crate) async fn connect_narrow(server: &Server) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        Self { socket: soon(socket.connect(server.address)).await.expect("a connection") }
    }

    pub(crate) async fn get(server: &Server, path: &str) -> Self {
        let mut client = Self::connect(server).await;
        client.ask("GET", path).await;
        client
    }

    pub(crate) async fn get_narrow(server: &Server, path: &str) -> Self {
        let mut client = Self::connect_narrow(server).await;
        client.ask("GET", path).await;
        client
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str) {
        self.send(&format!("{method} {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        soon(self.socket.write_all(bytes.as_bytes())).await.expect("the server reads");
    }

    /// The head of the next response, up to and with its blank line.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = soon(self.socket.read_u8()).await;
            head.push(byte.unwrap_or_else(|_| panic!("a head, not {:?}", String::from_utf8_lossy(&head))));
        }
        String::from_utf8(head).expect("text")
    }

    pub(crate) async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        soon(self.socket.read_exact(&mut bytes)).await.expect("so many bytes");
        bytes
    }

    /// Reads exactly these bytes.
    pub(crate) async fn expect(&mut self, expected: &str) {
        let bytes = self.read(expected.len()).await;
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        soon(self.socket.read_to_end(&mut rest)).await.ok();
        rest
    }

    /// Everything up to and with the terminator of a chunked body.
    pub(crate) async fn rest_of_response(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(TERMINATOR.as_bytes()) {
            let count = soon(self.socket.read_buf(&mut bytes)).await.expect("the server writes");
            assert!(count > 0, "the connection ends before the response");
        }
        bytes
    }

    /// How much this end's kernel takes without being read.
    pub(crate) fn receive_buffer(&self) -> usize {
        SockRef::from(&self.socket).recv_buffer_size().expect("an option")
    }

    /// True if the server sends nothing, and does not close, for a while.
    pub(crate) async fn is_left_waiting(&mut self) -> bool {
        timeout(Duration::from_millis(50), self.socket.read_u8()).await.is_err()
    }

    /// Calls `look` with the server's end of this connection, if it is still open.
    pub(crate) fn server_end<T>(&self, look: impl FnOnce(SockRef<'_>) -> T) -> Option<T> {
        let (here, there) = (self.socket.local_addr().ok()?, self.socket.peer_addr().ok()?);
        let is_other_end = |socket: &SockRef<'_>| {
            let peer = socket.peer_addr().ok().and_then(|address| address.as_socket());
            let local = socket.local_addr().ok().and_then(|address| address.as_socket());
            (peer, local) == (Some(here), Some(there))
        };
        let names = std::fs::read_dir("/proc/self/fd").expect("the descriptors");
        let descriptors: Vec<RawFd> =
            names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        for descriptor in descriptors {
            // SAFETY: the tests of this file run in one process and on one thread each; a descriptor that another test
            // closes meanwhile only makes the calls on it fail.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
            let socket = SockRef::from(&descriptor);
            if is_other_end(&socket) {
                return Some(look(socket));
            }
        }
        None
    }
}

/// A chunk of the chunked transfer coding (RFC 9112, section 7.1).
pub(crate) fn chunk(data: &str) -> String {
    format!("{:X}\r\n{data}\r\n", data.len())
}

/// What ends a complete chunked body.
pub(crate) const TERMINATOR: &str = "0\r\n\r\n";

/// Takes a chunked body apart. False if it is not terminated.
pub(crate) fn dechunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return (body, false) };
        let size = std::str::from_utf8(&bytes[..line_end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal size");
        bytes = &bytes[line_end + 2..];
        if size == 0 {
            return (body, bytes == b"\r\n");
        }
        body.extend_from_slice(&bytes[..size.min(bytes.len())]);
        if bytes.len() < size + 2 {
            return (body, false);
        }
        bytes = &bytes[size + 2..];
    }
}

/// A client of HTTP/2 with prior knowledge.
pub(crate) struct Http2Client {
    requests: h2::client::SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Http2Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::with_window(server, 1 << 20).await
    }

    /// A client that takes so many bytes of each stream before it says that there is more room.
    pub(crate) async fn with_window(server: &Server, window: u32) -> Self {
        let socket = Client::connect(server).await.socket;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 24);
        let (requests, connection) = soon(builder.handshake(socket)).await.expect("a handshake");
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self { requests, connection }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str) -> Response<h2::RecvStream> {
        self.try_ask(method, path).await.expect("a response")
    }

    pub(crate) async fn get(&self, path: &str) -> Response<h2::RecvStream> {
        self.ask(Method::GET, path).await
    }

    pub(crate) async fn try_get(&self, path: &str) -> Result<Response<h2::RecvStream>, h2::Error> {
        self.try_ask(Method::GET, path).await
    }

    async fn try_ask(&self, method: Method, path: &str) -> Result<Response<h2::RecvStream>, h2::Error> {
        let request =
            Request::builder().method(method).uri(format!("http://test{path}")).body(()).expect("a request");
        let mut requests = soon(self.requests.clone().ready()).await.expect("a connection");
        let (response, _) = requests.send_request(request, true).expect("a request is sent");
        soon(response).await
    }
}

impl Drop for Http2Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The next data of an HTTP/2 stream, whose room is given back.
pub(crate) async fn data(stream: &mut h2::RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let data = soon(stream.data()).await;
    if let Some(Ok(bytes)) = &data {
        stream.flow_control().release_capacity(bytes.len()).expect("it was received");
    }
    data
}

/// Everything of an HTTP/2 stream; an error if it is reset.
pub(crate) async fn all(stream: &mut h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(next) = data(stream).await {
        bytes.extend_from_slice(&next?);
    }
    Ok(bytes)
}
