//! What a stream sends, and when, on real sockets.

use std::io::Write;
use std::time::Duration;

use flate2::write::GzDecoder;
use hypern_core::compress::Encoding;
use hypern_core::pipe::{CAPACITY, Closed, Kind, Pipe};

mod serving;
use serving::{
    Client, EVENTS, Http2Client, Plan, Server, Streaming, TERMINATOR, all, chunk, data, dechunked,
};

fn start(streaming: Streaming) -> Server {
    Plan::new().stream("/", streaming).start()
}

const PATIENT: Streaming = Streaming { patience: Duration::from_secs(3600), ..Streaming::new(EVENTS) };

// The first moment.

#[tokio::test]
async fn the_head_leaves_with_the_first_item() {
    let mut server = start(PATIENT);
    let mut client = Client::get(&server, "/").await;
    let stream = server.next_stream().await;
    assert!(client.is_left_waiting().await);
    stream.write("data: a\n\n");
    let head = client.head().await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\ntransfer-encoding: chunked\r\n"),
        "{head}"
    );
    client.expect(&chunk("data: a\n\n")).await;
}

#[tokio::test]
async fn without_an_item_the_head_leaves_with_a_comment() {
    let mut server = start(Streaming::new(EVENTS));
    let mut client = Client::get(&server, "/").await;
    let stream = server.next_stream().await;
    client.head().await;
    client.expect(&chunk(": open\n")).await;
    stream.write("data: a\n\n");
    client.expect(&chunk("data: a\n\n")).await;
}

#[tokio::test]
async fn without_an_item_the_head_of_chunks_leaves_alone() {
    let mut server = start(Streaming::new(Kind::Chunks));
    let mut client = Client::get(&server, "/").await;
    let stream = server.next_stream().await;
    client.head().await;
    stream.write("a");
    client.expect(&chunk("a")).await;
}

#[tokio::test]
async fn a_withdrawn_stream_is_replaced_by_an_error() {
    let mut server = start(PATIENT);
    let mut client = Client::get(&server, "/").await;
    assert!(server.next_stream().await.pipe.withdraw());
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 418 ") && head.contains("\r\ncontent-length: 22\r\n"), "{head}");
    client.expect(r#"{"detail":"withdrawn"}"#).await;
    client.ask("GET", "/").await;
    server.next_stream().await.write("data: the connection goes on\n\n");
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
}

// Latency.

#[tokio::test]
async fn each_event_leaves_at_once() {
    let mut server = start(PATIENT);
    let mut client = Client::get(&server, "/").await;
    let http2 = Http2Client::connect(&server).await;
    let stream = server.next_stream().await;
    stream.write("data: 0\n\n");
    client.head().await;
    client.expect(&chunk("data: 0\n\n")).await;

    let asked = tokio::join!(http2.get("/"), async {
        let stream = server.next_stream().await;
        stream.write("data: 0\n\n");
        stream
    });
    let (mut body, http2_stream) = (asked.0.into_body(), asked.1);
    assert_eq!(data(&mut body).await.expect("data").expect("no reset"), "data: 0\n\n");

    for n in 1..20 {
        // The next one is not written before this one has arrived.
        let event = format!("data: {n}\n\n");
        stream.write(&event);
        client.expect(&chunk(&event)).await;
        http2_stream.write(&event);
        assert_eq!(data(&mut body).await.expect("data").expect("no reset"), event);
    }
}

#[tokio::test]
async fn events_written_together_leave_together() {
    let mut server = start(PATIENT);
    let mut client = Client::get(&server, "/").await;
    let stream = server.next_stream().await;
    stream.write("data: a\n\n");
    stream.write("data: b\n\n");
    client.head().await;
    client.expect(&chunk("data: a\n\ndata: b\n\n")).await;
    for event in ["data: c\n\n", "data: d\n\n", "data: e\n\n"] {
        stream.write(event);
    }
    stream.pipe.finish();
    client.expect(&chunk("data: c\n\ndata: d\n\ndata: e\n\n")).await;
    client.expect(TERMINATOR).await;
}

#[tokio::test]
async fn a_connection_goes_on_after_a_stream() {
    let mut server = start(PATIENT);
    let mut client = Client::connect(&server).await;
    for n in 0..3 {
        client.ask("GET", "/").await;
        let stream = server.next_stream().await;
        stream.write(&format!("data: {n}\n\n"));
        stream.pipe.finish();
        client.head().await;
        client.expect(&(chunk(&format!("data: {n}\n\n")) + TERMINATOR)).await;
    }
}

// Keep-alive.

#[tokio::test]
async fn a_silent_stream_is_kept_alive_between_its_events() {
    let kind = Kind::Events { ping: Some(Duration::from_millis(50)) };
    let mut server = start(Streaming::new(kind));
    let mut client = Client::get(&server, "/").await;
    let stream = server.next_stream().await;
    client.head().await;
    client.expect(&chunk(": open\n")).await;
    client.expect(&chunk(": keepalive\n")).await;
    client.expect(&chunk(": keepalive\n")).await;
    stream.write("data: a\n\n");
    stream.pipe.finish();
    let (body, is_complete) = dechunked(&client.rest_of_response().await);
    let body = String::from_utf8(body).expect("text");
    assert_eq!(body.replace(": keepalive\n", ""), "data: a\n\n");
    assert!(is_complete);
}

#[tokio::test]
async fn http2_streams_are_kept_alive_too() {
    let kind = Kind::Events { ping: Some(Duration::from_millis(50)) };
    let server = start(Streaming::new(kind));
    let client = Http2Client::connect(&server).await;
    let mut body = client.get("/").await.into_body();
    for expected in [": open\n", ": keepalive\n", ": keepalive\n"] {
        assert_eq!(data(&mut body).await.expect("data").expect("no reset"), expected);
    }
}

// Backpressure.

#[tokio::test]
async fn a_client_that_reads_nothing_stops_the_producer() {
    let mut server = start(Streaming::new(Kind::Chunks));
    let mut client = Client::get_narrow(&server, "/").await;
    let stream = server.next_stream().await;
    let accepted = stream.fill().await;
    assert_eq!(stream.pipe.write(b"more"), Ok(0));
    // The kernels have their own buffers: what this one has not sent, and what the other one has for its reader.
    let outside = client.server_end(|socket| {
        let unsent = socket.tcp_notsent_lowat().expect("an option") as usize;
        unsent + client.receive_buffer()
    });
    let bound = CAPACITY + outside.expect("the connection is open") + 32 * 1024;
    assert!(accepted <= bound, "{accepted} bytes were accepted, at most {bound} should be");

    let reading = tokio::spawn(async move {
        client.head().await;
        client.rest_of_response().await
    });
    stream.pipe.finish();
    let (body, is_complete) = dechunked(&reading.await.expect("the client reads"));
    assert!(is_complete);
    assert_eq!(body.len(), accepted);
}

#[tokio::test]
async fn a_window_that_is_shut_stops_the_producer() {
    let mut server = start(Streaming::new(Kind::Chunks));
    let client = Http2Client::with_window(&server, 1000).await;
    let mut body = client.get("/").await.into_body();
    let stream = server.next_stream().await;
    assert_eq!(stream.fill().await, CAPACITY);
    assert_eq!(stream.pipe.write(b"more"), Ok(0));
    let whole = all(&mut body);
    stream.pipe.finish();
    assert_eq!(whole.await.expect("no reset").len(), CAPACITY);
}

fn feed(pipe: &Pipe, mut rest: &[u8]) -> Result<(), Closed> {
    while !rest.is_empty() {
        rest = &rest[pipe.write(rest)?..];
        if !rest.is_empty() {
            pipe.wait_for_space()?;
        }
    }
    pipe.finish();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_threads_go_on_with_their_clients() {
    const TOTAL: usize = 1024 * 1024;
    let mut server = start(Streaming::new(Kind::Chunks));
    let mut connections = tokio::task::JoinSet::new();
    let mut producers = Vec::new();
    for n in 0..8 {
        let mut client =
            if n % 2 == 0 { Client::get_narrow(&server, "/").await } else { Client::get(&server, "/").await };
        let pipe = server.next_stream().await.pipe;
        producers.push(std::thread::spawn(move || feed(&pipe, &vec![b'x'; TOTAL])));
        connections.spawn(async move {
            client.head().await;
            dechunked(&client.rest_of_response().await)
        });
    }
    for (body, is_complete) in connections.join_all().await {
        assert_eq!((body.len(), is_complete), (TOTAL, true));
    }
    for producer in producers {
        assert_eq!(producer.join().expect("the producer ends"), Ok(()));
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_the_bytes_alone_and_the_end_of_the_connection() {
    let mut server = start(Streaming::new(EVENTS));
    let mut client = Client::connect(&server).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let stream = server.next_stream().await;
    let head = client.head().await;
    assert!(!head.contains("transfer-encoding"), "{head}");
    client.expect(": open\n").await;
    stream.write("data: a\n\n");
    client.expect("data: a\n\n").await;
    stream.pipe.finish();
    assert_eq!(client.rest().await, b"");
}

// Compression.

#[tokio::test]
async fn each_compressed_event_can_be_read_as_it_arrives() {
    let mut server = start(Streaming { encoding: Some(Encoding::Gzip), ..PATIENT });
    let client = Http2Client::connect(&server).await;
    let asked = tokio::join!(client.get("/"), async {
        let stream = server.next_stream().await;
        stream.write("data: 0\n\n");
        stream
    });
    let (mut body, stream) = (asked.0.into_body(), asked.1);
    let mut decoder = GzDecoder::new(Vec::new());
    for n in 0..10 {
        let event = format!("data: {n}\n\n");
        if n > 0 {
            stream.write(&event);
        }
        let arrived = data(&mut body).await.expect("data").expect("no reset");
        decoder.write_all(&arrived).expect("valid gzip");
        decoder.flush().expect("valid gzip");
        assert_eq!(String::from_utf8_lossy(decoder.get_ref()), event);
        decoder.get_mut().clear();
    }
    stream.pipe.finish();
    decoder.write_all(&all(&mut body).await.expect("no reset")).expect("valid gzip");
    assert_eq!(decoder.finish().expect("a whole file"), b"");
}

#[tokio::test]
async fn a_compressed_stream_that_is_cut_is_not_complete() {
    let mut server = start(Streaming { encoding: Some(Encoding::Gzip), ..PATIENT });
    let mut client = Client::get(&server, "/").await;
    let stream = server.next_stream().await;
    stream.write("data: a\n\n");
    stream.pipe.cut(b"data: last\n\n");
    client.head().await;
    let (body, is_complete) = dechunked(&client.rest().await);
    assert!(!is_complete);
    let mut decoder = GzDecoder::new(Vec::new());
    decoder.write_all(&body).expect("valid gzip");
    decoder.flush().expect("valid gzip");
    assert_eq!(decoder.get_ref(), b"data: a\n\ndata: last\n\n");
    assert!(decoder.try_finish().is_err());
}
