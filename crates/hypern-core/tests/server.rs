//! Connections and requests, byte by byte.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode, Version};
use hypern_core::body::ResponseBody;
use hypern_core::server::{Limits, Miss};

mod serving;
use serving::{Client, EVENTS, Http2Client, Plan, Server, Streaming, all, answer, soon, text, until};

fn hello() -> Plan {
    Plan::new().get("/", text("hello"))
}

/// The lines of a head, without its date.
fn lines(head: &str) -> Vec<&str> {
    head.trim_end().split("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

async fn response(client: &mut Client, length: usize) -> (String, String) {
    let head = client.head().await;
    let body = client.read(length).await;
    (head, String::from_utf8(body).expect("text"))
}

// HTTP/1.1.

#[tokio::test]
async fn a_connection_carries_one_request_after_another() {
    let server = hello().start();
    let mut client = Client::connect(&server).await;
    for _ in 0..3 {
        client.ask("GET", "/").await;
        let (head, body) = response(&mut client, 5).await;
        assert_eq!(lines(&head), ["HTTP/1.1 200 OK", "content-length: 5"]);
        assert_eq!(body, "hello");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Plan::new().get("/a", text("first")).get("/b", text("other")).start();
    let mut client = Client::connect(&server).await;
    let requests =
        ["/a", "/b", "/missing", "/a"].map(|path| format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    client.send(&requests.concat()).await;
    assert_eq!(response(&mut client, 5).await.1, "first");
    assert_eq!(response(&mut client, 5).await.1, "other");
    assert_eq!(response(&mut client, 22).await.1, r#"{"detail":"Not Found"}"#);
    assert_eq!(response(&mut client, 5).await.1, "first");
}

#[tokio::test]
async fn a_client_that_wants_its_connection_closed_gets_that() {
    let server = hello().start();
    let mut client = Client::connect(&server).await;
    client.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await;
    let rest = String::from_utf8(client.rest().await).expect("text");
    assert!(rest.ends_with("\r\n\r\nhello") && rest.contains("\r\nconnection: close\r\n"), "{rest}");
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let server = Plan::new().post("/", text("hello")).start();
    let mut client = Client::connect(&server).await;
    // It begins like the preface of HTTP/2, and has to be looked at more than once.
    for byte in "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n".chars() {
        client.send(&byte.to_string()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(response(&mut client, 5).await.1, "hello");
}

#[tokio::test]
async fn nonsense_is_answered_and_ends_the_connection() {
    let server = hello().start();
    let mut client = Client::connect(&server).await;
    client.send("nonsense\r\n\r\n").await;
    assert!(client.rest().await.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
}

#[tokio::test]
async fn a_handler_sees_who_asks_and_what() {
    let describe = answer(|arrival| async move {
        let name = arrival.params.get("name").expect("a parameter").to_owned();
        let text = format!("{} {name} {}", arrival.request.uri(), arrival.client);
        Response::new(ResponseBody::from(bytes::Bytes::from(text)))
    });
    let server = Plan::new().get("/users/:name", describe).start();
    let mut client = Client::get(&server, "/users/J%C3%BCrgen?a=1").await;
    let expected =
        format!("/users/J%C3%BCrgen?a=1 Jürgen {}", client.socket.local_addr().expect("an address"));
    client.head().await;
    client.expect(&expected).await;
}

// Misses.

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let server = hello().start();
    let mut client = Client::get(&server, "/missing").await;
    let (head, body) = response(&mut client, 22).await;
    let expected = ["HTTP/1.1 404 Not Found", "content-type: application/json", "content-length: 22"];
    assert_eq!(lines(&head), expected);
    assert_eq!(body, r#"{"detail":"Not Found"}"#);
}

#[tokio::test]
async fn another_method_is_not_allowed_and_the_response_says_which_are() {
    let server = hello().start();
    let mut client = Client::connect(&server).await;
    client.ask("DELETE", "/").await;
    let (head, body) = response(&mut client, 31).await;
    let expected = [
        "HTTP/1.1 405 Method Not Allowed",
        "content-type: application/json",
        "allow: GET, HEAD, OPTIONS",
        "content-length: 31",
    ];
    assert_eq!(lines(&head), expected);
    assert_eq!(body, r#"{"detail":"Method Not Allowed"}"#);
}

#[tokio::test]
async fn options_are_answered_without_a_route() {
    let server = hello().start();
    let mut client = Client::connect(&server).await;
    client.ask("OPTIONS", "/").await;
    assert_eq!(lines(&client.head().await), ["HTTP/1.1 204 No Content", "allow: GET, HEAD, OPTIONS"]);
    client.ask("GET", "/").await;
    assert_eq!(response(&mut client, 5).await.1, "hello");
}

#[tokio::test]
async fn a_fallback_sees_every_miss() {
    let mut plan = hello();
    plan.fallback = Some(answer(|arrival| async move {
        let miss = arrival.miss.expect("a miss");
        let text = match &miss {
            Miss::NotFound => "not found",
            Miss::MethodNotAllowed(_) => "not allowed",
            Miss::Options(_) => "options",
        };
        assert_eq!(
            miss.allow(),
            (miss != Miss::NotFound).then_some(&HeaderValue::from_static("GET, HEAD, OPTIONS"))
        );
        Response::new(ResponseBody::from(bytes::Bytes::from(text)))
    }));
    let server = plan.start();
    let mut client = Client::connect(&server).await;
    for (method, path, expected) in
        [("GET", "/missing", "not found"), ("PUT", "/", "not allowed"), ("OPTIONS", "/", "options")]
    {
        client.ask(method, path).await;
        assert_eq!(response(&mut client, expected.len()).await.1, expected);
    }
}

// HEAD.

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = hello().start();
    let mut client = Client::connect(&server).await;
    client.ask("HEAD", "/").await;
    assert_eq!(lines(&client.head().await), ["HTTP/1.1 200 OK", "content-length: 5"]);
    client.ask("HEAD", "/missing").await;
    let expected = ["HTTP/1.1 404 Not Found", "content-type: application/json", "content-length: 22"];
    assert_eq!(lines(&client.head().await), expected);
    client.ask("GET", "/").await;
    assert_eq!(response(&mut client, 5).await.1, "hello");
}

#[tokio::test]
async fn head_of_a_stream_tells_no_length_and_closes_the_stream() {
    let mut server = Plan::new().stream("/events", Streaming::new(EVENTS)).start();
    let mut client = Client::connect(&server).await;
    client.ask("HEAD", "/events").await;
    let head = client.head().await;
    assert!(!head.contains("content-length"), "{head}");
    server.next_stream().await.closed().await;
    client.ask("HEAD", "/missing").await;
    assert!(client.head().await.starts_with("HTTP/1.1 404 "), "the connection goes on");

    let response = Http2Client::connect(&server).await.ask(Method::HEAD, "/events").await;
    assert_eq!(response.headers().get("content-length"), None);
    assert!(response.body().is_end_stream());
}

#[tokio::test]
async fn head_of_a_response_that_never_has_a_body_tells_no_length() {
    let empty = |status: StatusCode| {
        answer(move |_| async move {
            let mut response = Response::new(ResponseBody::empty());
            *response.status_mut() = status;
            response
        })
    };
    let server = Plan::new()
        .get("/204", empty(StatusCode::NO_CONTENT))
        .get("/304", empty(StatusCode::NOT_MODIFIED))
        .start();
    let client = Http2Client::connect(&server).await;
    for path in ["/204", "/304"] {
        let response = client.ask(Method::HEAD, path).await;
        assert_eq!(response.headers().get("content-length"), None, "{path}");
    }
}

// HTTP/2.

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let server = hello().start();
    let client = Http2Client::connect(&server).await;
    let (first, second) = tokio::join!(client.get("/"), client.get("/missing"));
    assert_eq!((first.status(), first.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(first.headers()["content-length"], "5");
    assert_eq!(all(&mut first.into_body()).await.expect("a body"), b"hello");
    assert_eq!(second.status(), StatusCode::NOT_FOUND);
    assert!(!second.headers().contains_key("connection"));
}

#[tokio::test]
async fn the_preface_of_http2_may_come_in_parts() {
    let server = hello().start();
    let mut client = Client::connect(&server).await;
    for part in ["P", "RI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n"] {
        client.send(part).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    client.send("\0\0\0\x04\0\0\0\0\0").await;
    // The server's preface is a SETTINGS frame: three bytes of length, then the type.
    assert_eq!(client.read(4).await[3], 4);
}

// Limits and options.

fn impatient() -> Server {
    let mut plan = hello().stream("/events", Streaming::new(EVENTS));
    plan.limits = Limits { header_read_timeout: Duration::from_millis(300), ..Limits::default() };
    plan.start()
}

#[tokio::test]
async fn a_connection_that_never_sends_a_request_is_closed() {
    let server = impatient();
    for beginning in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: "] {
        let mut client = Client::connect(&server).await;
        client.send(beginning).await;
        let rest = client.rest().await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{beginning:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_streaming_one_is_not() {
    let mut server = impatient();
    let mut streaming = Client::get(&server, "/events").await;
    let stream = server.next_stream().await;
    stream.write("data: a\n\n");
    streaming.head().await;
    streaming.expect(&serving::chunk("data: a\n\n")).await;

    let mut idle = Client::get(&server, "/").await;
    response(&mut idle, 5).await;
    assert_eq!(idle.rest().await, b"");

    stream.write("data: b\n\n");
    streaming.expect(&serving::chunk("data: b\n\n")).await;
}

#[tokio::test]
async fn every_connection_has_the_options_of_the_listener() {
    let server = hello().start();
    let mut client = Client::get(&server, "/").await;
    client.head().await;
    let check = |socket: socket2::SockRef<'_>| {
        assert!(socket.tcp_nodelay().expect("an option"));
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), Duration::from_secs(60));
        assert_eq!(socket.tcp_notsent_lowat().expect("an option"), 64 * 1024);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), None);
    };
    client.server_end(check).expect("the connection is open");
}

#[tokio::test]
async fn a_connection_that_has_ended_leaves_nothing_behind() {
    let server = hello().start();
    let client = Client::get(&server, "/").await;
    until(|| client.server_end(|_| ()).is_some()).await;
    let handle = tokio::runtime::Handle::current();
    let alive = handle.metrics().num_alive_tasks();
    drop(client);
    until(|| handle.metrics().num_alive_tasks() < alive).await;
}

#[tokio::test]
async fn whatever_a_handler_holds_is_dropped_when_its_client_leaves() {
    let (waiting, held) = (Arc::new(tokio::sync::Notify::new()), Arc::new(()));
    let wait = {
        let (waiting, held) = (waiting.clone(), held.clone());
        answer(move |_| {
            let (waiting, held) = (waiting.clone(), held.clone());
            async move {
                waiting.notify_one();
                std::future::pending::<()>().await;
                drop(held);
                Response::new(ResponseBody::empty())
            }
        })
    };
    let server = Plan::new().get("/wait", wait).start();
    let idle = Arc::strong_count(&held);
    let client = Client::get(&server, "/wait").await;
    soon(waiting.notified()).await;
    drop(client);
    until(|| Arc::strong_count(&held) == idle).await;
}
