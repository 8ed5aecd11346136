//! Opens connections and sends requests, over HTTP/1.1 or h2c.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::{TcpSocket, TcpStream};

use crate::options::Options;
use crate::{h2c, http1};

/// One address has 28,000 ports, and each is unusable for a minute after its connection was closed.
const SOURCES: usize = 64;

/// What a response begins with.
pub(crate) struct Head<'a> {
    pub(crate) status: u16,
    pub(crate) encoding: Option<&'a [u8]>,
}

/// Takes a response as it arrives.
pub(crate) trait Sink {
    /// So many bytes were read from the connection.
    fn wire(&mut self, length: usize);
    fn head(&mut self, head: &Head) -> io::Result<()>;
    fn payload(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Sends requests to one server.
pub(crate) struct Transport {
    address: SocketAddr,
    encoding: Option<String>,
    /// The HTTP/2 connections, and how many streams each one takes; empty for HTTP/1.1.
    shared: RefCell<Vec<SendRequest<Bytes>>>,
    streams: usize,
}

impl Transport {
    /// Opens the HTTP/2 connections, if any.
    pub(crate) async fn new(options: &Options) -> io::Result<Self> {
        let transport = Self {
            address: options.address,
            encoding: options.encoding.clone(),
            shared: RefCell::default(),
            streams: options.streams,
        };
        if options.h2c {
            for index in 0..options.connections.div_ceil(options.streams) + 1 {
                let requests = h2c::connect(transport.connect(index).await?).await?;
                transport.shared.borrow_mut().push(requests);
            }
        }
        Ok(transport)
    }

    /// Sends the request of client number `index`.
    pub(crate) async fn request(&self, index: usize, path: &str) -> io::Result<Exchange> {
        let encoding = self.encoding.as_deref();
        let requests = self.shared.borrow().get(index / self.streams).cloned();
        if let Some(requests) = requests {
            return Ok(Exchange::Http2(h2c::Stream::open(requests, path, encoding).await?));
        }
        let mut connection = http1::Connection::new(self.connect(index).await?);
        connection.send(&http1::request(path, encoding)).await?;
        Ok(Exchange::Http1(connection))
    }

    /// Sends one more request where the last one was answered.
    pub(crate) async fn again(&self, exchange: &mut Exchange, index: usize, path: &str) -> io::Result<()> {
        match exchange {
            Exchange::Http1(connection) => {
                connection.send(&http1::request(path, self.encoding.as_deref())).await
            }
            Exchange::Http2(_) => {
                *exchange = self.request(index, path).await?;
                Ok(())
            }
        }
    }

    async fn connect(&self, index: usize) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if self.address.ip().is_loopback() {
            let source = Ipv4Addr::new(127, 0, 0, 2 + (index % SOURCES) as u8);
            socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A request and its response.
pub(crate) enum Exchange {
    Http1(http1::Connection),
    Http2(h2c::Stream),
}

impl Exchange {
    /// Waits for bytes and gives them to `sink`; true when the response is whole.
    pub(crate) async fn read(&mut self, sink: &mut impl Sink) -> io::Result<bool> {
        match self {
            Self::Http1(connection) => connection.read(sink).await,
            Self::Http2(stream) => stream.read(sink).await,
        }
    }
}
