//! What a shutdown leaves time for, and what it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hypern_core::body::ResponseBody;
use hypern_core::pipe::Kind;
use hypern_core::server::Limits;
use tokio::net::TcpStream;
use tokio::sync::Notify;

mod serving;
use serving::{
    Answer, Client, EVENTS, Http2Client, Plan, Server, Streaming, TERMINATOR, all, answer, chunk, data, soon,
    text, until,
};

/// A server that would wait for longer than any test.
fn start() -> Server {
    plan(Duration::from_secs(3600)).start()
}

fn plan(shutdown_timeout: Duration) -> Plan {
    let mut plan = Plan::new()
        .get("/", text("hello"))
        .stream("/events", Streaming::new(EVENTS))
        .stream("/chunks", Streaming::new(Kind::Chunks));
    plan.limits = Limits { shutdown_timeout, ..Limits::default() };
    plan
}

fn hasty() -> Server {
    plan(Duration::from_millis(100)).start()
}

#[tokio::test]
async fn events_end_cleanly() {
    let mut server = start();
    let mut client = Client::get(&server, "/events").await;
    let stream = server.next_stream().await;
    client.head().await;
    client.expect(&chunk(": open\n")).await;
    stream.write("data: a\n\n");
    server.stop();
    assert_eq!(String::from_utf8_lossy(&client.rest().await), chunk("data: a\n\n") + TERMINATOR);
    stream.closed().await;
    server.stopped().await;
}

#[tokio::test]
async fn http2_events_end_cleanly() {
    let mut server = start();
    let client = Http2Client::connect(&server).await;
    let mut body = client.get("/events").await.into_body();
    let stream = server.next_stream().await;
    stream.write("data: a\n\n");
    server.stop();
    assert_eq!(all(&mut body).await.expect("no reset"), b": open\ndata: a\n\n");
    stream.closed().await;
    server.stopped().await;
}

#[tokio::test]
async fn chunks_may_go_on_to_their_end() {
    let mut server = start();
    let mut client = Client::get(&server, "/chunks").await;
    let stream = server.next_stream().await;
    stream.write("a");
    client.head().await;
    client.expect(&chunk("a")).await;
    server.stop();
    // The server refuses connections from here on.
    soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    assert!(!stream.presence.left());
    stream.write("b");
    client.expect(&chunk("b")).await;
    stream.pipe.finish();
    assert_eq!(client.rest().await, TERMINATOR.as_bytes());
    server.stopped().await;
}

#[tokio::test]
async fn chunks_are_aborted_at_the_deadline() {
    let mut server = hasty();
    let mut client = Client::get(&server, "/chunks").await;
    let http2 = Http2Client::connect(&server).await;
    let stream = server.next_stream().await;
    stream.write("a");
    client.head().await;
    client.expect(&chunk("a")).await;
    let mut body = http2.get("/chunks").await.into_body();
    let http2_stream = server.next_stream().await;
    http2_stream.write("b");
    assert_eq!(data(&mut body).await.expect("data").expect("no reset"), "b");
    server.stop();
    server.stopped().await;
    assert_eq!(client.rest().await, b"", "no terminator");
    assert!(all(&mut body).await.is_err());
    stream.closed().await;
    http2_stream.closed().await;
}

#[tokio::test]
async fn a_stalled_event_stream_is_aborted_at_the_deadline() {
    let mut server = hasty();
    let client = Client::get_narrow(&server, "/events").await;
    let stream = server.next_stream().await;
    stream.fill().await;
    server.stop();
    server.stopped().await;
    assert!(client.server_end(|_| ()).is_none());
}

#[tokio::test]
async fn an_idle_connection_is_closed_at_once() {
    let mut server = start();
    let mut client = Client::get(&server, "/").await;
    client.head().await;
    client.expect("hello").await;
    server.stop();
    assert_eq!(client.rest().await, b"");
    server.stopped().await;
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_at_once() {
    let mut server = start();
    let client = Http2Client::connect(&server).await;
    assert_eq!(all(&mut client.get("/").await.into_body()).await.expect("a body"), b"hello");
    server.stop();
    server.stopped().await;
}

#[tokio::test]
async fn a_connection_that_never_sent_a_request_does_not_delay_the_shutdown() {
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n"] {
        let mut server = start();
        let mut silent = Client::connect(&server).await;
        silent.send(beginning).await;
        // Connections are accepted in their order, so the silent one is once a later one is answered.
        let mut later = Client::get(&server, "/").await;
        later.head().await;
        server.stop();
        server.stopped().await;
        assert_eq!(silent.rest().await, b"");
    }
}

fn when(event: Arc<Notify>, begun: Arc<Notify>) -> Answer {
    answer(move |_| {
        let (event, begun) = (event.clone(), begun.clone());
        async move {
            begun.notify_one();
            event.notified().await;
            Response::new(ResponseBody::from(Bytes::from_static(b"done")))
        }
    })
}

#[tokio::test]
async fn a_response_under_way_is_finished_and_its_connection_closed() {
    let (event, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut server = plan(Duration::from_secs(3600)).get("/slow", when(event.clone(), begun.clone())).start();
    let mut client = Client::get(&server, "/slow").await;
    soon(begun.notified()).await;
    server.stop();
    soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    event.notify_one();
    let rest = String::from_utf8(client.rest().await).expect("text");
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\ndone"), "{rest}");
    assert!(rest.contains("\r\nconnection: close\r\n"), "{rest}");
    server.stopped().await;
}

#[tokio::test]
async fn a_handler_that_does_not_answer_is_dropped_at_the_deadline() {
    let (event, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut server =
        plan(Duration::from_millis(100)).get("/slow", when(event.clone(), begun.clone())).start();
    let idle = Arc::strong_count(&event);
    let mut client = Client::get(&server, "/slow").await;
    soon(begun.notified()).await;
    let http2 = Http2Client::connect(&server).await;
    let asking = tokio::spawn(async move { http2.try_get("/slow").await });
    soon(begun.notified()).await;
    server.stop();
    server.stopped().await;
    assert_eq!(client.rest().await, b"");
    assert!(soon(asking).await.expect("the client ends").is_err());
    until(|| Arc::strong_count(&event) < idle).await;
}

#[tokio::test]
async fn events_that_begin_during_the_shutdown_end_at_once() {
    let mut plan = plan(Duration::from_secs(3600));
    let patience = Duration::from_secs(3600);
    plan = plan.stream("/later", Streaming { patience, ..Streaming::new(EVENTS) });
    let mut server = plan.start();
    let mut client = Client::get(&server, "/later").await;
    let stream = server.next_stream().await;
    server.stop();
    soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    stream.write("data: a\n\n");
    client.head().await;
    client.expect(&(chunk("data: a\n\n") + TERMINATOR)).await;
    stream.closed().await;
    server.stopped().await;
}
