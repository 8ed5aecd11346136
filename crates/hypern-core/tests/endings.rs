//! Every way in which a stream ends while the server goes on; `shutdown.rs` has the others.

use std::time::Duration;

use http::Response;
use hypern_core::pipe::Kind;
use socket2::{SockFilter, SockRef};

mod serving;
use serving::{
    Client, EVENTS, Http2Client, Plan, Server, Stream, Streaming, TERMINATOR, all, chunk, data, dechunked,
    until,
};

const SEND_TIMEOUT: Duration = Duration::from_millis(500);
const PINGED: Kind = Kind::Events { ping: Some(Duration::from_millis(50)) };

fn start(streaming: Streaming) -> Server {
    Plan::new().stream("/", streaming).start()
}

fn limited(kind: Kind) -> Streaming {
    Streaming { send_timeout: Some(SEND_TIMEOUT), ..Streaming::new(kind) }
}

/// A client of HTTP/1.1 that has read the opening of an event stream.
async fn opened(server: &mut Server) -> (Client, Stream) {
    let mut client = Client::get(server, "/").await;
    let stream = server.next_stream().await;
    client.head().await;
    client.expect(&chunk(": open\n")).await;
    (client, stream)
}

async fn opened_over_http2(client: &Http2Client, server: &mut Server) -> (Response<h2::RecvStream>, Stream) {
    let response = client.get("/").await;
    (response, server.next_stream().await)
}

/// Waits until the server has closed its end of a connection.
async fn dropped(client: &Client) {
    until(|| client.server_end(|_| ()).is_none()).await;
}

// The producer ends it.

#[tokio::test]
async fn a_finished_stream_is_terminated() {
    let mut server = start(Streaming::new(EVENTS));
    let (mut client, stream) = opened(&mut server).await;
    stream.write("data: a\n\n");
    stream.pipe.finish();
    client.expect(&(chunk("data: a\n\n") + TERMINATOR)).await;
    client.ask("GET", "/missing").await;
    assert!(client.head().await.starts_with("HTTP/1.1 404 "), "the connection goes on");
    until(|| server.watch.is_empty()).await;
}

#[tokio::test]
async fn a_finished_http2_stream_is_terminated() {
    let mut server = start(Streaming::new(EVENTS));
    let client = Http2Client::connect(&server).await;
    let (response, stream) = opened_over_http2(&client, &mut server).await;
    stream.write("data: a\n\n");
    stream.pipe.finish();
    assert_eq!(all(&mut response.into_body()).await.expect("no reset"), b": open\ndata: a\n\n");
    until(|| server.watch.is_empty()).await;
}

#[tokio::test]
async fn a_cut_stream_has_all_that_was_written_and_no_terminator() {
    let mut server = start(Streaming::new(EVENTS));
    let (mut client, stream) = opened(&mut server).await;
    stream.write("data: a\n\n");
    stream.pipe.cut(b"event: error\ndata: last\n\n");
    let rest = String::from_utf8(client.rest().await).expect("text");
    assert_eq!(rest, chunk("data: a\n\nevent: error\ndata: last\n\n"));
    until(|| server.watch.is_empty()).await;
}

#[tokio::test]
async fn a_cut_waits_for_a_slow_client() {
    let mut server = start(Streaming::new(Kind::Chunks));
    let mut client = Client::get_narrow(&server, "/").await;
    let stream = server.next_stream().await;
    let accepted = stream.fill().await;
    stream.pipe.cut(b"last");
    client.head().await;
    let (body, is_complete) = dechunked(&client.rest().await);
    assert!(!is_complete);
    assert_eq!(body.len(), accepted + 4);
    assert!(body.ends_with(b"xlast"));
}

#[tokio::test]
async fn a_cut_http2_stream_is_reset_and_its_sibling_goes_on() {
    let mut server = start(Streaming::new(EVENTS));
    let client = Http2Client::connect(&server).await;
    let (cut, cut_stream) = opened_over_http2(&client, &mut server).await;
    let (sibling, sibling_stream) = opened_over_http2(&client, &mut server).await;
    cut_stream.write("data: a\n\n");
    cut_stream.pipe.cut(b"data: last\n\n");

    let mut cut = cut.into_body();
    let mut received = Vec::new();
    let reset = loop {
        match data(&mut cut).await.expect("no clean end") {
            Ok(bytes) => received.extend_from_slice(&bytes),
            Err(reset) => break reset,
        }
    };
    assert_eq!(received, b": open\ndata: a\n\ndata: last\n\n");
    assert_eq!(reset.reason(), Some(h2::Reason::INTERNAL_ERROR));

    sibling_stream.write("data: b\n\n");
    sibling_stream.pipe.finish();
    assert_eq!(all(&mut sibling.into_body()).await.expect("no reset"), b": open\ndata: b\n\n");
}

// The client leaves.

#[tokio::test]
async fn a_client_that_leaves_an_idle_stream_is_noticed() {
    let mut server = start(Streaming::new(EVENTS));
    let (client, stream) = opened(&mut server).await;
    drop(client);
    stream.closed().await;
    until(|| server.watch.is_empty()).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_item_is_noticed() {
    let patience = Duration::from_secs(3600);
    let mut server = start(Streaming { patience, ..Streaming::new(EVENTS) });
    let client = Client::get(&server, "/").await;
    let stream = server.next_stream().await;
    drop(client);
    until(|| std::sync::Arc::strong_count(&stream.pipe) == 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_with_data_pending_is_noticed() {
    let mut server = start(Streaming::new(Kind::Chunks));
    let client = Client::get_narrow(&server, "/").await;
    let stream = server.next_stream().await;
    stream.fill().await;
    let waiting = std::thread::spawn({
        let pipe = stream.pipe.clone();
        move || pipe.wait_for_space()
    });
    drop(client);
    stream.closed().await;
    assert!(waiting.join().expect("the thread ends").is_err());
}

#[tokio::test]
async fn a_client_that_resets_its_http2_stream_is_noticed_and_the_sibling_goes_on() {
    let mut server = start(Streaming::new(EVENTS));
    let client = Http2Client::connect(&server).await;
    let (leaving, leaving_stream) = opened_over_http2(&client, &mut server).await;
    let (sibling, sibling_stream) = opened_over_http2(&client, &mut server).await;
    drop(leaving);
    leaving_stream.closed().await;
    sibling_stream.write("data: b\n\n");
    sibling_stream.pipe.finish();
    assert_eq!(all(&mut sibling.into_body()).await.expect("no reset"), b": open\ndata: b\n\n");
}

#[tokio::test]
async fn a_client_that_resets_its_http2_stream_with_data_pending_is_noticed() {
    let mut server = start(Streaming::new(Kind::Chunks));
    let client = Http2Client::with_window(&server, 1000).await;
    let (leaving, stream) = opened_over_http2(&client, &mut server).await;
    stream.fill().await;
    drop(leaving);
    stream.closed().await;
}

#[tokio::test]
async fn a_client_that_drops_its_http2_connection_is_noticed_by_every_stream() {
    let mut server = start(Streaming::new(EVENTS));
    let client = Http2Client::connect(&server).await;
    let (_first, first_stream) = opened_over_http2(&client, &mut server).await;
    let (_second, second_stream) = opened_over_http2(&client, &mut server).await;
    drop(client);
    first_stream.closed().await;
    second_stream.closed().await;
}

#[tokio::test]
async fn a_host_that_is_gone_is_noticed() {
    let mut server = start(Streaming { send_timeout: Some(SEND_TIMEOUT), ..Streaming::new(PINGED) });
    let (client, stream) = opened(&mut server).await;
    let limit = client.server_end(|socket| socket.tcp_user_timeout().expect("an option"));
    assert_eq!(limit.expect("the connection is open"), Some(SEND_TIMEOUT));
    // From here on this end drops every packet, so that nothing is acknowledged, as if its host had lost its power.
    let nothing = SockFilter::new(libc::BPF_RET as u16, 0, 0, 0);
    SockRef::from(&client.socket).attach_filter(&[nothing]).expect("a filter");
    stream.closed().await;
    dropped(&client).await;
}

// The client takes nothing.

#[tokio::test]
async fn a_stalled_client_loses_its_connection_after_the_send_timeout() {
    let mut server = start(limited(Kind::Chunks));
    let mut client = Client::get_narrow(&server, "/").await;
    let stream = server.next_stream().await;
    stream.fill().await;
    stream.closed().await;
    dropped(&client).await;
    client.head().await;
    let (_, is_complete) = dechunked(&client.rest().await);
    assert!(!is_complete);
}

#[tokio::test]
async fn a_client_that_stalls_after_the_end_loses_its_connection_too() {
    let mut server = start(limited(Kind::Chunks));
    let mut client = Client::get_narrow(&server, "/").await;
    let stream = server.next_stream().await;
    stream.fill().await;
    stream.pipe.finish();
    dropped(&client).await;
    client.head().await;
    let (_, is_complete) = dechunked(&client.rest().await);
    assert!(!is_complete);
}

#[tokio::test]
async fn a_slow_client_is_not_a_stalled_one() {
    let mut server = start(limited(Kind::Chunks));
    let client = Http2Client::with_window(&server, 1000).await;
    let mut body = client.get("/").await.into_body();
    let stream = server.next_stream().await;
    let accepted = stream.fill().await;
    stream.pipe.finish();
    let start = tokio::time::Instant::now();
    let mut received = 0;
    while let Some(bytes) = data(&mut body).await {
        received += bytes.expect("no reset").len();
        if start.elapsed() < SEND_TIMEOUT * 2 {
            tokio::time::sleep(SEND_TIMEOUT / 10).await;
        }
    }
    assert_eq!(received, accepted);
}

#[tokio::test]
async fn a_stalled_http2_stream_is_reset_and_its_sibling_goes_on() {
    for finishes in [false, true] {
        let mut server = start(limited(Kind::Chunks));
        let client = Http2Client::with_window(&server, 1000).await;
        let (stalled, stalled_stream) = opened_over_http2(&client, &mut server).await;
        let (sibling, sibling_stream) = opened_over_http2(&client, &mut server).await;
        stalled_stream.fill().await;
        if finishes {
            // The producer is done and need not hear of it.
            stalled_stream.pipe.finish();
        }
        sibling_stream.write("before ");
        until(|| server.watch.len() == 1).await;

        let mut stalled = stalled.into_body();
        let reset = loop {
            match data(&mut stalled).await.expect("no clean end") {
                Ok(_) => {}
                Err(reset) => break reset,
            }
        };
        assert_eq!(reset.reason(), Some(h2::Reason::CANCEL));
        sibling_stream.write("after");
        sibling_stream.pipe.finish();
        assert_eq!(all(&mut sibling.into_body()).await.expect("no reset"), b"before after");
    }
}
