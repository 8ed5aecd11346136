"""Streams in the middle: the first moment, keep-alive, latency, backpressure, options; what endings do not cover."""

import asyncio
import itertools
import logging
import threading
import time

import pytest

from hypern import Hypern, SSEComment, SSEEvent, StreamingResponse
from hypern.testing import TestClient
from wire import Connection, Http2Connection, eventually, unchunk, within_the_first_moment

CAPACITY = 64 * 1024
RETRY = "retry must be from 0 to 18446744073709551615 milliseconds, got -1"

both = pytest.mark.parametrize("source", ["sync", "async"])
handlers = pytest.mark.parametrize("handler", ["def", "async def"])


class Steps:
    """A source that is told each of its items, and counts how often it was pulled."""

    def __init__(self):
        self.pulled = 0
        self.items = iter(())
        self.more = threading.Condition()
        self.waiting = []

    def put(self, *items):
        with self.more:
            self.waiting.extend(items)
            self.more.notify_all()

    def take(self):
        with self.more:
            assert self.more.wait_for(lambda: self.waiting, 60)
            return self.waiting.pop(0)

    def sync(self):
        while (item := self.take()) is not None:
            yield item

    async def asynchronous(self):
        while (item := await asyncio.to_thread(self.take)) is not None:
            yield item

    def source(self, kind):
        return self.sync() if kind == "sync" else self.asynchronous()


def app_with(make, *, handler="def", chunks=False, **options):
    app = Hypern()

    def plain(res):
        (res.stream if chunks else res.sse_stream)(make(), **options)

    async def suspending(res):
        await asyncio.sleep(0)
        plain(res)

    app.get("/")(plain if handler == "def" else suspending)
    return app


def endless(kind, item, counted):
    """Make a source that gives one item for ever, and counts."""

    def sync():
        for number in itertools.count(1):
            counted.append(number)
            yield item

    async def asynchronous():
        for number in itertools.count(1):
            counted.append(number)
            yield item

    return sync if kind == "sync" else asynchronous


# Items


@both
@handlers
@within_the_first_moment
def test_an_item_leaves_at_once(source, handler):
    steps = Steps()
    app = app_with(lambda: steps.source(source), handler=handler)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request()
        steps.put("0")
        connection.read_head()
        for number in range(1, 50):
            wire = b"data: %d\n\n" % (number - 1)
            assert connection.read_until(wire + b"\r\n") == b"%X\r\n%s\r\n" % (len(wire), wire)
            steps.put(str(number))
        steps.put(None)
        assert connection.read_until(b"0\r\n\r\n").endswith(b"\r\n0\r\n\r\n")


@both
@handlers
@within_the_first_moment
def test_items_of_a_fast_source_leave_together_and_in_order(source, handler):
    def sync():
        for number in range(20_000):
            yield str(number)

    async def asynchronous():
        for number in range(20_000):
            yield str(number)

    app = app_with(sync if source == "sync" else asynchronous, handler=handler)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        raw = connection.read_until(b"\r\n0\r\n\r\n")
    body, is_complete = unchunk(raw)
    assert is_complete
    assert body == b"".join(b"data: %d\n\n" % number for number in range(20_000))
    assert raw.count(b"\n\n\r\n") < 20_000


@both
@handlers
@pytest.mark.parametrize("size", [10, 300])
def test_a_burst_leaves_whole_before_the_source_rests(source, handler, size):
    """Whatever gathers while the source is busy must not stay behind when it waits."""
    bursts = [1, 2, 30, 100, 1000, 5000, 3, 700, 20_000 // size, 50, 1]
    go_on = threading.Semaphore(0)

    def items(burst):
        return (f"{burst}-{number}".ljust(size) for number in range(bursts[burst]))

    def sync():
        for burst in range(len(bursts)):
            yield from items(burst)
            assert go_on.acquire(timeout=60)

    async def asynchronous():
        for burst in range(len(bursts)):
            for item in items(burst):
                yield item
            assert await asyncio.to_thread(go_on.acquire, timeout=60)

    app = app_with(sync if source == "sync" else asynchronous, handler=handler, chunks=True)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        for burst in range(len(bursts)):
            *_, last = items(burst)
            connection.read_until(last.encode())
            go_on.release()
        connection.read_until(b"0\r\n\r\n")


def test_items_of_an_async_source_that_computes_leave_one_by_one():
    """It never waits for anything, and nothing else of the event loop runs."""
    go_on = threading.Semaphore(0)

    async def source():
        for number in range(10):
            yield f"{number} first"
            yield f"{number} second"
            time.sleep(0.02)  # noqa: ASYNC251 - that is what it is about
            assert go_on.acquire(timeout=60)

    app = app_with(source, handler="async def")
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        for number in range(10):
            connection.read_until(b"data: %d second\n\n" % number)
            go_on.release()
        connection.read_until(b"\r\n0\r\n\r\n")


@both
@within_the_first_moment
def test_everything_that_an_event_stream_accepts(source):
    items = [
        SSEEvent("a", id="1", event="e", retry=5),
        SSEComment("hello"),
        "text",
        {"data": "b", "id": "2"},
        None,
        {"other": 1},
        [1, 2],
        3.5,
    ]

    async def asynchronous():
        for item in items:
            yield item

    app = app_with(lambda: iter(items) if source == "sync" else asynchronous(), retry=1500)
    with TestClient(app) as client:
        assert client.get("/").text == (
            "retry: 1500\n"
            "id: 1\nevent: e\nretry: 5\ndata: a\n\n"
            ": hello\n\n"
            "data: text\n\n"
            "id: 2\ndata: b\n\n"
            'data: {"other":1}\n\n'
            "data: [1,2]\n\n"
            "data: 3.5\n\n"
        )


@both
@pytest.mark.parametrize("size", [CAPACITY - 8, CAPACITY, CAPACITY + 1, 5 * CAPACITY + 17])
def test_an_item_may_be_larger_than_the_buffer(source, size):
    payload = bytes(range(256)) * (size // 256 + 1)

    def sync():
        yield payload[:size]
        yield b"end"

    async def asynchronous():
        for chunk in sync():
            yield chunk

    app = app_with(sync if source == "sync" else asynchronous, chunks=True)
    with TestClient(app) as client:
        assert client.get("/").content == payload[:size] + b"end"


@both
def test_chunks_of_all_sizes_keep_their_order(source):
    sizes = [1, 2047, 1, 2048, 3, 2049, 1000, 1000, 1000, 200_000, 5, 5, CAPACITY, 7]
    chunks = [bytes([ord("a") + position]) * size for position, size in enumerate(sizes)]

    async def asynchronous():
        for chunk in chunks:
            yield chunk

    app = app_with(lambda: iter(chunks) if source == "sync" else asynchronous(), chunks=True)
    with TestClient(app) as client:
        assert client.get("/").content == b"".join(chunks)


@both
@handlers
@pytest.mark.parametrize("way", ["res.stream", "return"])
def test_a_stream_of_bytes(source, handler, way):
    chunks = [b"bytes ", bytearray(b"array "), memoryview(b"view "), "text é", b"", b"\x00\xff"]

    async def asynchronous():
        for chunk in chunks:
            yield chunk

    def answer(res):
        content = iter(chunks) if source == "sync" else asynchronous()
        if way == "return":
            return StreamingResponse(content, "application/x-test", status=201, headers={"x-own": "1"})
        res.status(201).header("x-own", "1").stream(content, content_type="application/x-test")
        return None

    async def answer_async(res):
        await asyncio.sleep(0)
        return answer(res)

    app = Hypern()
    app.get("/")(answer if handler == "def" else answer_async)
    with TestClient(app) as client, Connection(client.port) as connection:
        status, headers = connection.request().read_head()
        assert status == 201
        assert headers["content-type"] == "application/x-test"
        assert headers["x-own"] == "1"
        assert headers["transfer-encoding"] == "chunked"
        assert "content-length" not in headers
        body = unchunk(connection.read_until(b"\r\n0\r\n\r\n"))
        assert body == ("bytes array view text é".encode() + b"\x00\xff", True)


@both
def test_a_stream_of_bytes_has_no_comments_in_it(source):
    steps = Steps()
    app = app_with(lambda: steps.source(source), chunks=True)
    with TestClient(app) as client, Connection(client.port) as connection:
        # The head does not wait for the first chunk.
        assert connection.request().read_head()[0] == 200
        steps.put(b"first", None)
        assert connection.read_until(b"\r\n0\r\n\r\n") == b"5\r\nfirst\r\n0\r\n\r\n"


@within_the_first_moment
def test_an_item_that_is_no_chunk_is_an_error(caplog):
    app = app_with(lambda: iter([1]), chunks=True)
    with TestClient(app) as client:
        assert client.get("/").status_code == 500
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "int" in str(record.exc_info[1])


@both
@within_the_first_moment
def test_on_http2(source):
    steps = Steps()
    app = app_with(lambda: steps.source(source))
    with TestClient(app) as client, Http2Connection(client.port) as connection:
        stream = connection.request()
        steps.put("1")
        connection.read_until(stream, b"data: 1\n\n")
        assert connection.heads[stream][":status"] == "200"
        assert connection.heads[stream]["content-type"] == "text/event-stream"
        assert not {"connection", "transfer-encoding"} & connection.heads[stream].keys()
        steps.put("2", None)
        assert connection.read_to_end(stream) == (b"data: 1\n\ndata: 2\n\n", "complete")


@within_the_first_moment
def test_head_does_not_begin_the_source():
    app = Hypern()
    begun, closed = [], []

    class Source:
        def __iter__(self):
            begun.append(True)
            return iter(["x"])

        def close(self):
            closed.append(True)

    app.get("/")(lambda res: res.sse_stream(Source()) and None)
    with TestClient(app) as client:
        response = client.head("/")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert client.get("/").text == "data: x\n\n"
    assert begun == [True]
    assert closed == [True]


# The first moment


@both
@handlers
def test_the_head_waits_a_moment_for_the_first_item(source, handler):
    steps = Steps()
    app = app_with(lambda: steps.source(source), handler=handler)
    with TestClient(app) as client, Connection(client.port) as connection:
        status, headers = connection.request().read_head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert headers["cache-control"] == "no-cache"
        assert headers["x-accel-buffering"] == "no"
        assert connection.read_until(b"open\n\r\n") == b"7\r\n: open\n\r\n"
        steps.put("late", None)
        assert connection.read_until(b"0\r\n\r\n") == b"C\r\ndata: late\n\n\r\n0\r\n\r\n"


@within_the_first_moment
def test_a_first_item_in_time_needs_no_comment():
    app = app_with(lambda: iter(["1"]))
    with TestClient(app) as client:
        for _ in range(20):
            assert client.get("/").content == b"data: 1\n\n"


def test_a_retry_goes_before_the_first_item_however_late_it_is():
    steps = Steps()
    app = app_with(steps.sync, retry=10)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert connection.read_until(b"open\n\r\n") == b"11\r\nretry: 10\n: open\n\r\n"
        steps.put(None)
        assert connection.read_until(b"0\r\n\r\n") == b"0\r\n\r\n"


# Keep-alive


@both
def test_silence_is_filled_with_bare_comments(source):
    steps = Steps()
    app = app_with(lambda: steps.source(source), ping=0.05)
    with TestClient(app) as client, Connection(client.port) as connection:
        steps.put("1")
        connection.request().read_head()
        connection.read_until(b"data: 1\n\n\r\n")
        keep_alive = b"C\r\n: keepalive\n\r\n"
        for _ in range(3):
            assert connection.read_until(keep_alive) == keep_alive
        steps.put("2", None)
        body, is_complete = unchunk(connection.read_until(b"0\r\n\r\n"))
    assert is_complete
    assert body.replace(b": keepalive\n", b"") == b"data: 2\n\n"


def test_ping_none_is_silence():
    steps = Steps()
    app = app_with(steps.sync, ping=None)
    app.sse("/pinged", ping=0.02)(lambda ctx: (ctx.sleep(30) for _ in range(1)))
    with TestClient(app) as client, Connection(client.port) as connection, Connection(client.port) as other:
        steps.put("1")
        connection.request().read_head()
        connection.read_until(b"data: 1\n\n\r\n")
        other.request("/pinged").read_head()
        for _ in range(10):
            other.read_until(b": keepalive\n")
        steps.put(None)
        assert connection.read_until(b"0\r\n\r\n") == b"0\r\n\r\n"


def test_a_keep_alive_never_lands_inside_an_event():
    """An event of three buffers' size, to a client that reads it long after the ping was due."""
    payload = "x" * (3 * CAPACITY)
    begun = threading.Event()

    def source():
        yield "1"
        begun.set()
        yield payload
        yield "2"

    app = app_with(source, ping=0.02, send_timeout=None)
    with TestClient(app) as client, Connection(client.port, receive_buffer=2048) as connection:
        connection.request()
        assert begun.wait(30)
        time.sleep(0.2)  # several pings long
        connection.read_head()
        body, is_complete = unchunk(connection.read_until(b"\r\n0\r\n\r\n"))
    assert is_complete
    assert f"\n\ndata: {payload}\n\n".encode() in body


# Backpressure


def wait_until_level(counted):
    """Wait until a source is not pulled any more."""
    last, since = -1, 0
    while since < 30:
        since = since + 1 if len(counted) == last else 0
        last = len(counted)
        time.sleep(0.005)
    return last


@both
@handlers
def test_a_source_is_pulled_no_further_than_64_kib_and_what_the_kernel_holds(source, handler):
    counted = []
    app = app_with(endless(source, b"x" * 1000, counted), handler=handler, chunks=True)
    with TestClient(app) as client, Connection(client.port, receive_buffer=4096) as connection:
        connection.request()
        pulled = wait_until_level(counted) * 1000
        # The kernel holds 64 KiB unsent, what the client's buffer takes, and what is on its way.
        assert pulled < 2 * CAPACITY + 8 * 4096 + 200_000, pulled
        # As much as the client takes is pulled again.
        connection.read_until(b"\r\n\r\n")
        before = len(counted)
        taken = 0
        while taken < 1_000_000:
            taken += len(connection.socket.recv(65536))
        eventually(lambda: len(counted) > before + 500, "the source goes on")
        # A stream of chunks has earned room for a quarter of what was taken.
        assert wait_until_level(counted) * 1000 < pulled + taken + taken // 4 + 150_000


@both
def test_a_stream_holds_64_kib_of_its_own(source):
    """On HTTP/2 nothing is in the kernel: the client's window is closed."""
    counted = []
    app = app_with(endless(source, b"x" * 1024, counted), chunks=True)
    with TestClient(app) as client, Http2Connection(client.port) as connection:
        connection.request()
        pulled = wait_until_level(counted) * 1024
        # The client's window is 65,535 bytes, and hyper holds some of what does not fit into it.
        assert CAPACITY <= pulled <= 4 * CAPACITY, pulled


def test_a_client_that_reads_slowly_is_not_dropped():
    app = app_with(endless("sync", b"x" * 1000, []), chunks=True, send_timeout=2.0)
    with TestClient(app) as client, Connection(client.port, receive_buffer=4096) as connection:
        connection.request()
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            assert connection.socket.recv(4096)
            time.sleep(0.01)


@both
def test_send_timeout_none_waits_for_ever(source):
    counted = []
    app = app_with(endless(source, b"x" * 1000, counted), chunks=True, send_timeout=None)
    app.get("/limited")(lambda res: res.stream(endless("sync", b"x" * 1000, [])(), send_timeout=0.1) and None)
    with (
        TestClient(app) as client,
        Connection(client.port, receive_buffer=4096) as connection,
        Connection(client.port, receive_buffer=4096) as limited,
    ):
        connection.request()
        limited.request("/limited")
        wait_until_level(counted)
        limited.read_rest()
        before = len(counted)
        taken = 0
        while taken < 1_000_000:
            taken += len(connection.socket.recv(65536))
        eventually(lambda: len(counted) > before, "the source goes on")


@pytest.mark.parametrize("number", [1, 200])
@within_the_first_moment
def test_an_idle_stream_is_not_stalled(number):
    """It is silent for longer than send_timeout, but there is nothing that the client would have to take."""
    app = Hypern()
    app.sse("/", send_timeout=0.1, ping=None)(lambda ctx: (ctx.sleep(seconds) for seconds in (0, 0.5, 0)))
    with TestClient(app) as client:
        connections = [Connection(client.port).request() for _ in range(number)]
        for connection in connections:
            connection.read_head()
            assert unchunk(connection.read_until(b"0\r\n\r\n")) == (b"data: true\n\n" * 3, True)
            connection.close()


# Options


@both
@pytest.mark.parametrize(
    ("last", "wire", "logged"),
    [
        (lambda error: SSEEvent(str(error), event="failed"), b"event: failed\ndata: no\n\n", ["no"]),
        (lambda _error: "gone", b"data: gone\n\n", ["no"]),
        (lambda _error: None, b"", ["no"]),
        # What is wrong with on_error itself is told too.
        (lambda _error: 1 / 0, b"", ["no", "division by zero"]),
        (lambda _error: {"data": "x", "retry": -1}, b"", ["no", RETRY]),
    ],
)
@within_the_first_moment
def test_on_error_gives_the_last_event(source, last, wire, logged, caplog):
    def sync():
        yield "1"
        raise LookupError("no")

    async def asynchronous():
        yield "1"
        raise LookupError("no")

    app = app_with(sync if source == "sync" else asynchronous, on_error=last)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert unchunk(connection.read_rest()) == (b"data: 1\n\n" + wire, False)
    assert [str(record.exc_info[1]) for record in caplog.records if record.levelno == logging.ERROR] == logged


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("ping", 0, ValueError),
        ("ping", -1, ValueError),
        ("ping", float("nan"), ValueError),
        ("send_timeout", 0, ValueError),
        ("send_timeout", float("inf"), ValueError),
        ("retry", -1, ValueError),
        ("retry", 1.5, TypeError),
        ("on_error", 1, TypeError),
    ],
)
def test_a_bad_option_is_an_error_where_it_is_given(option, value, error, caplog):
    raised = []
    app = Hypern()

    @app.get("/")
    def handler(res):
        try:
            res.sse_stream(["x"], **{option: value})
        except Exception as failure:
            raised.append(failure)
            raise

    with TestClient(app) as client:
        assert client.get("/").status_code == 500
    [failure] = raised
    assert isinstance(failure, error)
    assert option in str(failure)


@both
@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        (["last-event-id: 7"], "", "7"),
        ([], "?lastEventId=8", "8"),
        ([], "?last_event_id=9", "9"),
        (["Last-Event-ID: 7"], "?lastEventId=8", "7"),
        (["last-event-id: "], "?lastEventId=8&last_event_id=9", "8"),
        ([], "?lastEventId=a%20b%2Fc", "a b/c"),
        ([], "", None),
    ],
)
@within_the_first_moment
def test_a_client_resumes(source, headers, query, expected):
    app = Hypern()

    def sync(req):
        yield {"data": {"after": req.last_event_id}}

    async def asynchronous(req):
        yield {"data": {"after": req.last_event_id}}

    app.sse("/")(sync if source == "sync" else asynchronous)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request(f"/{query}", *headers).read_head()
        body, _ = unchunk(connection.read_until(b"\r\n0\r\n\r\n"))
    wanted = "null" if expected is None else f'"{expected}"'
    assert body == f'data: {{"after":{wanted}}}\n\n'.encode()


@both
@within_the_first_moment
def test_pipelined_streams_come_one_after_the_other(source):
    app = Hypern()

    def sync(req):
        yield req.query("n")

    async def asynchronous(req):
        yield req.query("n")

    app.sse("/")(sync if source == "sync" else asynchronous)
    with TestClient(app) as client, Connection(client.port) as connection:
        for number in range(3):
            connection.request(f"/?n={number}")
        for number in range(3):
            connection.read_head()
            assert unchunk(connection.read_until(b"0\r\n\r\n")) == (b"data: %d\n\n" % number, True)
