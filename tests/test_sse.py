"""Events, comments and streams, as bytes on a socket."""

import copy
import dataclasses
import pickle
import socket
import time

import httpx
import pytest

from hypern import Hypern, SSEComment, SSEEvent, StreamingResponse
from hypern.testing import TestClient

SSE_HEADERS = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}


def body_of(handler):
    """What a client gets from a handler, and with which headers."""
    app = Hypern()
    app.get("/")(handler)
    with TestClient(app) as client:
        response = client.get("/")
    assert response.status_code == 200
    return response.content, response.headers


def streamed(*items):
    content, headers = body_of(lambda res: res.sse_stream(iter(items)))
    assert SSE_HEADERS.items() <= dict(headers).items()
    return content


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("keepalive", ": keepalive\n\n"),
        ("", ": \n\n"),
        ("a\nb\rc\r\nd", ": a\n: b\n: c\n: d\n\n"),
        ("one\u2028line\x0b", ": one\u2028line\x0b\n\n"),
    ],
)
def test_a_comment_is_its_wire_text(text, wire):
    comment = SSEEvent.comment(text)
    assert isinstance(comment, SSEComment)
    assert comment == wire
    assert "" + comment + SSEEvent("x").format() == wire + "data: x\n\n"


def test_a_comment_knows_what_it_says():
    comment = SSEComment("a\r\nb\rc")
    assert comment.text == "a\nb\nc"
    for copied in (copy.copy(comment), pickle.loads(pickle.dumps(comment))):
        assert type(copied) is SSEComment
        assert copied == comment


def test_an_event_writes_its_fields_in_order():
    event = SSEEvent("Full", id="evt-1", event="custom", retry=3000)
    assert event.format() == "id: evt-1\nevent: custom\nretry: 3000\ndata: Full\n\n"
    assert event.to_bytes() == event.format().encode()


@dataclasses.dataclass
class Reading:
    value: float


class Custom:
    data = "Custom event"
    event = "custom"


@pytest.mark.parametrize(
    ("item", "wire"),
    [
        (SSEEvent("x", event="e"), b"event: e\ndata: x\n\n"),
        ("text\nof two\rlines\r\n", b"data: text\ndata: of two\ndata: lines\ndata: \n\n"),
        ("", b"data: \n\n"),
        ({"data": "x", "event": "e", "id": "2"}, b"id: 2\nevent: e\ndata: x\n\n"),
        ({"data": {"a": 1}}, b'data: {"a":1}\n\n'),
        ({"data": 1, "more": 2}, b'data: {"data":1,"more":2}\n\n'),
        (Custom(), b"event: custom\ndata: Custom event\n\n"),
        (SSEComment("hi"), b": hi\n\n"),
        (None, b""),
        ([1, 2], b"data: [1,2]\n\n"),
        (Reading(1.5), b'data: {"value":1.5}\n\n'),
    ],
)
def test_a_stream_accepts(item, wire):
    assert streamed("first", item, "last") == b"data: first\n\n" + wire + b"data: last\n\n"


def test_a_retry_comes_first():
    content, _ = body_of(lambda res: res.sse_stream(["x"], retry=1500))
    assert content == b"retry: 1500\ndata: x\n\n"


def test_events_at_once():
    content, headers = body_of(lambda res: res.sse([SSEEvent("a", id="1"), {"data": "b"}, SSEComment("c")]))
    assert content == b"id: 1\ndata: a\n\ndata: b\n\n: c\n\n"
    assert headers["content-length"] == str(len(content))
    assert headers["content-type"] == "text/event-stream"


def test_a_single_event():
    content, headers = body_of(lambda res: res.sse_event(data="New!", event="notification", id="n-1"))
    assert content == b"id: n-1\nevent: notification\ndata: New!\n\n"
    assert headers["content-type"] == "text/event-stream"


def test_a_body_by_hand():
    def handler(res):
        res.sse_headers()
        res.send(SSEEvent.comment("keepalive") + SSEEvent("Done!", event="end").format())

    content, headers = body_of(handler)
    assert content == b": keepalive\n\nevent: end\ndata: Done!\n\n"
    assert SSE_HEADERS.items() <= dict(headers).items()


def generator_handler():
    yield "a"
    yield SSEEvent("b")


async def async_generator_handler(req, ctx):
    yield req.path
    await ctx.sleep(0.001)
    yield SSEEvent("b")


def iterable_handler(req):
    return ["a", req.method]


async def coroutine_handler(ctx):
    await ctx.sleep(0.001)
    return generator_handler()


@pytest.mark.parametrize(
    ("handler", "wire"),
    [
        (generator_handler, b"data: a\n\ndata: b\n\n"),
        (async_generator_handler, b"data: /ticks\n\ndata: b\n\n"),
        (iterable_handler, b"data: a\n\ndata: GET\n\n"),
        (coroutine_handler, b"data: a\n\ndata: b\n\n"),
    ],
)
@pytest.mark.parametrize("behind_middleware", [False, True])
def test_a_handler_may_be_the_stream(handler, wire, behind_middleware):
    app = Hypern()
    app.sse("/ticks", retry=10)(handler)

    if behind_middleware:

        @app.use
        async def pass_on(next):  # noqa: A002
            await next()

    with TestClient(app) as client:
        response = client.get("/ticks")
    assert response.content == b"retry: 10\n" + wire
    assert SSE_HEADERS.items() <= dict(response.headers).items()


@pytest.mark.parametrize("by_name", ["lastEventId", "last_event_id", "header"])
def test_a_client_resumes(by_name):
    app = Hypern()

    @app.sse("/")
    def events(req):
        yield SSEEvent("next", id=str(int(req.last_event_id or 0) + 1))

    resumed = {"headers": {"last-event-id": "41"}} if by_name == "header" else {"params": {by_name: "41"}}
    with TestClient(app) as client, client.sse("/", **resumed) as source:
        assert [event.id for event in source.iter_sse()] == ["42"]


def test_an_event_leaves_at_once():
    app = Hypern()

    @app.sse("/", ping=0.1)
    def slow(ctx):
        yield "first"
        ctx.sleep(0.25)
        yield "second"

    with TestClient(app) as client, client.stream("GET", "/") as response:
        chunks = response.iter_raw()
        started = time.monotonic()
        assert next(chunks) == b"data: first\n\n"
        assert time.monotonic() - started < 0.2
        assert next(chunks) == b": keepalive\n"
        assert b"".join(chunks).endswith(b"data: second\n\n")


def test_the_headers_do_not_wait_for_the_first_event():
    app = Hypern()

    @app.sse("/")
    def slow(ctx):
        ctx.sleep(0.2)
        yield "first"

    with TestClient(app) as client, client.stream("GET", "/") as response:
        assert next(response.iter_raw()) == b": open\n"


@pytest.mark.parametrize("is_async", [False, True])
def test_an_error_in_the_middle_is_no_clean_end(is_async, caplog):
    app = Hypern()
    seen = []

    def on_error(error):
        seen.append(str(error))
        return SSEEvent("the end", event="error")

    if is_async:

        @app.sse("/", on_error=on_error)
        async def events():
            yield "first"
            raise RuntimeError("secret")

    else:

        @app.sse("/", on_error=on_error)
        def events():
            yield "first"
            raise RuntimeError("secret")

    received = b""
    with TestClient(app) as client, client.stream("GET", "/") as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012, what came before the cut counts too
            for chunk in response.iter_raw():
                received += chunk
    assert received == b"data: first\n\nevent: error\ndata: the end\n\n"
    assert seen == ["secret"]
    [record] = caplog.records
    assert record.getMessage().startswith("a stream failed: GET '/' (request ")
    assert str(record.exc_info[1]) == "secret"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_generator_is_closed_when_the_client_leaves(is_async):
    app = Hypern()
    closed = []

    if is_async:

        @app.sse("/")
        async def events(ctx):
            try:
                while True:
                    yield "again"
                    await ctx.sleep(0.01)
            finally:
                closed.append(True)

    else:

        @app.sse("/")
        def events(ctx):
            try:
                while True:
                    yield "again"
                    ctx.sleep(0.01)
            finally:
                closed.append(True)

    with TestClient(app) as client:
        with client.stream("GET", "/") as response:
            next(response.iter_raw())
        deadline = time.monotonic() + 5
        while not closed and time.monotonic() < deadline:
            time.sleep(0.01)
    assert closed == [True]


def test_chunks_of_every_type():
    chunks = [b"bytes ", bytearray(b"array "), memoryview(b"view "), "text é"]
    content, headers = body_of(lambda res: res.stream(iter(chunks), content_type="text/plain"))
    assert content == "bytes array view text é".encode()
    assert headers["content-type"] == "text/plain"
    assert "content-length" not in headers


async def async_chunks():
    yield b"a"
    yield "b"


@pytest.mark.parametrize("content", [[b"a", "b"], (b"a" for _ in range(2)), async_chunks(), b"whole", "whole"])
def test_a_returned_stream(content):
    received, headers = body_of(lambda: StreamingResponse(content, headers={"x-own": "1"}))
    assert received in {b"ab", b"aa", b"whole"}
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-own"] == "1"


@pytest.mark.parametrize("content", [None, 1, object()])
def test_a_stream_is_iterable(content):
    with pytest.raises(TypeError, match="content must be a sync or async iterable of bytes or str, got "):
        StreamingResponse(content)


def test_raw_bytes_on_the_socket():
    app = Hypern()
    app.sse("/")(lambda: [SSEEvent("x", id="1")])
    with TestClient(app) as client, socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert body == b"F\r\nid: 1\ndata: x\n\n\r\n0\r\n\r\n"
