"""What the documentation promises, call by call: each way to send a stream, and every byte that comes of it."""

import itertools
import json
import queue
import signal
import threading
import time

import pytest

from hypern import Hypern, SSEEvent, StreamingResponse
from hypern.testing import TestClient
from processes import running
from raw_http import Connection, fetch

EVENT_STREAM = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
]
CHUNKED = ("transfer-encoding", "chunked")


def answer(app, path, **options):
    with TestClient(app) as client:
        return fetch(client.port, path, **options)


def test_a_list_of_events():
    app = Hypern()

    @app.get("/events")
    def greetings(req, res, ctx):
        events = [
            SSEEvent("Connected!", event="connect"),
            SSEEvent("Hello World", event="message", id="1"),
            SSEEvent("Goodbye", event="close", id="2"),
        ]
        res.sse(events)

    head, body = answer(app, "/events")
    assert body == (
        b"event: connect\ndata: Connected!\n\n"
        b"id: 1\nevent: message\ndata: Hello World\n\n"
        b"id: 2\nevent: close\ndata: Goodbye\n\n"
    )
    assert (head.status, head.headers) == (200, [*EVENT_STREAM, ("content-length", str(len(body)))])


def test_a_single_event():
    app = Hypern()

    @app.get("/notification")
    def notify(req, res, ctx):
        res.sse_event(data="You have mail", event="notification", id="mail-1")

    head, body = answer(app, "/notification")
    assert body == b"id: mail-1\nevent: notification\ndata: You have mail\n\n"
    assert (head.status, head.headers) == (200, [*EVENT_STREAM, ("content-length", str(len(body)))])


def test_a_thousand_events_from_a_generator():
    app = Hypern()

    @app.get("/stream")
    def count(req, res, ctx):
        def numbers():
            for number in range(1000):
                yield SSEEvent(f"Number {number}", event="counter", id=str(number))

        res.sse_stream(numbers())

    head, body = answer(app, "/stream")
    wire = "".join(f"id: {number}\nevent: counter\ndata: Number {number}\n\n" for number in range(1000))
    assert body == wire.encode()
    assert (head.status, head.headers) == (200, [*EVENT_STREAM, CHUNKED])


def test_whatever_a_generator_yields():
    app = Hypern()

    @app.get("/flexible-stream")
    def mixed(req, res, ctx):
        def items():
            yield SSEEvent("One", event="first")
            yield {"data": "Two", "event": "second", "id": "2"}
            yield "Three"

            class Fourth:
                data = "Four"
                event = "fourth"

            yield Fourth()

        res.sse_stream(items())

    head, body = answer(app, "/flexible-stream")
    assert body == (
        b"event: first\ndata: One\n\nid: 2\nevent: second\ndata: Two\n\ndata: Three\n\nevent: fourth\ndata: Four\n\n"
    )
    assert (head.status, head.headers) == (200, [*EVENT_STREAM, CHUNKED])


def live_app(readings):
    app = Hypern()

    @app.get("/live-data")
    def live(req, res, ctx):
        def measure():
            for number in range(readings):
                reading = {"timestamp": time.time(), "value": number * 1.5, "sensor": "temp-1"}
                yield SSEEvent(json.dumps(reading), event="sensor_reading", id=str(number))
                time.sleep(0.1)

        res.sse_stream(measure())

    return app


def test_readings_leave_when_they_are_taken():
    with TestClient(live_app(5)) as client, Connection(client.port) as connection:
        head = connection.send("/live-data")
        assert head.headers == [*EVENT_STREAM, CHUNKED]
        began = time.time()
        chunks = list(connection.chunks())
    # One chunk for each event: none has waited for the next.
    assert len(chunks) == 5
    for number, chunk in enumerate(chunks):
        identifier, event, data, *end = chunk.decode().split("\n")
        assert (identifier, event, end) == (f"id: {number}", "event: sensor_reading", ["", ""])
        reading = json.loads(data.removeprefix("data: "))
        assert reading == {"timestamp": reading["timestamp"], "value": number * 1.5, "sensor": "temp-1"}
        assert began - 1 < reading["timestamp"] < time.time()


def test_clients_of_a_sleeping_generator_do_not_wait_for_one_another():
    clients, readings = 100, 10
    with TestClient(live_app(readings), timeout=60) as client:
        threads = [threading.Thread(target=client.get, args=("/live-data",)) for _ in range(clients)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
    # One after the other would take 100 seconds, in a pool of 40 threads three.
    assert took < clients * readings * 0.1 / 5


def test_events_have_a_wire_format_of_their_own():
    assert SSEEvent("Hi").format() == "data: Hi\n\n"
    assert SSEEvent("In", event="login").format() == "event: login\ndata: In\n\n"
    assert SSEEvent("New", id="12345", event="update").format() == "id: 12345\nevent: update\ndata: New\n\n"
    assert SSEEvent("Wait", retry=5000).format() == "retry: 5000\ndata: Wait\n\n"
    event = SSEEvent("Everything", id="evt-1", event="custom_event", retry=3000)
    assert event.format() == "id: evt-1\nevent: custom_event\nretry: 3000\ndata: Everything\n\n"
    assert event.to_bytes() == event.format().encode()
    assert (event.data, event.id, event.event, event.retry) == ("Everything", "evt-1", "custom_event", 3000)


def test_a_body_put_together_by_hand():
    app = Hypern()

    @app.get("/custom-stream")
    def by_hand(req, res, ctx):
        res.sse_headers()
        body = ""
        body += SSEEvent.comment("still here")
        body += SSEEvent("Beginning", event="start").format()
        body += SSEEvent("Ended", event="end").format()
        res.send(body)

    head, body = answer(app, "/custom-stream")
    assert body == b": still here\n\nevent: start\ndata: Beginning\n\nevent: end\ndata: Ended\n\n"
    assert (head.status, head.headers) == (200, [*EVENT_STREAM, ("content-length", str(len(body)))])


@pytest.mark.parametrize(
    ("path", "headers", "seen"),
    [
        ("/events", {}, None),
        ("/events?lastEventId=2", {}, "2"),
        ("/events?last_event_id=2", {}, "2"),
        ("/events", {"Last-Event-ID": "2"}, "2"),
        ("/events?lastEventId=1", {"Last-Event-ID": "2"}, "2"),
        ("/events?lastEventId=a%20%C3%A9", {}, "a é"),
        # What a page sends that has not seen an id yet: JavaScript's null, as text.
        ("/events?lastEventId=null", {}, "null"),
        ("/events?lastEventId=", {}, None),
    ],
)
def test_a_client_that_comes_back_says_where_it_was(path, headers, seen):
    app = Hypern()

    @app.get("/events")
    def resume(req, res, ctx):
        res.sse([SSEEvent(req.last_event_id)])

    _, body = answer(app, path, headers=headers)
    assert body == f"data: {'null' if seen is None else seen}\n\n".encode()


@pytest.fixture
def large_file(tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(itertools.islice(itertools.cycle(range(251)), 3_000_001)))
    return path


def blocks_of(path):
    with path.open("rb") as file:
        while block := file.read(8192):
            yield block


def test_a_file_in_blocks(large_file):
    app = Hypern()

    @app.get("/download")
    def download(req, res, ctx):
        res.stream(blocks_of(large_file), content_type="application/octet-stream")

    @app.get("/returned")
    def returned():
        return StreamingResponse(blocks_of(large_file))

    for path in ("/download", "/returned"):
        head, body = answer(app, path)
        assert (head.status, head.headers) == (200, [("content-type", "application/octet-stream"), CHUNKED])
        assert body == large_file.read_bytes()


def test_a_loop_that_never_ends_and_keeps_itself_alive():
    app = Hypern()
    data = queue.SimpleQueue()
    closed = threading.Event()

    def get_new_data():
        try:
            return data.get_nowait()
        except queue.Empty:
            return None

    @app.get("/efficient-stream")
    def updates(req, res, ctx):
        def follow():
            last_keepalive = time.time()
            try:
                while True:
                    if time.time() - last_keepalive > 0.2:
                        yield SSEEvent.comment("keepalive")
                        last_keepalive = time.time()
                    update = get_new_data()
                    if update:
                        yield SSEEvent(json.dumps(update), event="update")
                    time.sleep(0.01)
            finally:
                closed.set()

        res.sse_stream(follow())

    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.send("/efficient-stream")
            chunks = connection.chunks()
            data.put({"price": 3})
            while (chunk := next(chunks)) in {b": open\n", b": keepalive\n\n"}:
                pass
            assert chunk == b'event: update\ndata: {"price": 3}\n\n'
            assert next(chunks) == b": keepalive\n\n"
            data.put({"price": 4})
            while (chunk := next(chunks)) == b": keepalive\n\n":
                pass
            assert chunk == b'event: update\ndata: {"price": 4}\n\n'
        # The client has left: the next thing that it yields, here a comment, ends it.
        assert closed.wait(10)


ENDLESS = """
import time
from hypern import Hypern

app = Hypern(shutdown_timeout=0)

def never():
    while True:
        time.sleep(0.01)

def spin():
    while True:
        pass

@app.get("/handler")
def handler(res):
    never()

@app.get("/generator")
def generator(res):
    def events():
        yield "first"
        never()
    res.sse_stream(events())

@app.get("/busy")
def busy(res):
    def events():
        yield "first"
        spin()
    res.sse_stream(events())

@app.get("/last-words")
def last_words(res):
    def events():
        yield "first"
        raise ValueError
    res.sse_stream(events(), on_error=lambda error: never())

@app.get("/ending")
def ending(res):
    def events():
        try:
            yield "first"
            raise ValueError
        finally:
            never()
    res.sse_stream(events())

app.listen(port=0, host="127.0.0.1")
"""


@pytest.mark.parametrize("path", ["/handler", "/generator", "/busy", "/last-words", "/ending"])
def test_code_that_never_comes_back_does_not_spoil_the_exit(path):
    with running("-c", ENDLESS) as program, Connection(program.port) as connection:
        if path == "/handler":
            connection.begin(path)
            with Connection(program.port) as other:
                assert other.send("/nothing").status == 404
        else:
            connection.send(path)
            connection.read_until(b"data: first\n\n")
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(30) == 0
