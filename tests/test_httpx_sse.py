"""What httpx-sse, a client that is not ours, makes of our streams over HTTP/1.1 and HTTP/2."""

import threading

import httpx
import pytest

from hypern import HTTPException, Hypern, SSEEvent
from hypern.testing import TestClient

LAST = 12
TEXTS = [
    "",
    " led by a space",
    "one\ntwo",
    "one\rtwo\r\nthree\n",
    "\n",
    ": no comment",
    "data: no field",
    "Grüße, 世界 🎈",
    "no\u2028break\u2029in\x85here\x0b\x0c",
    "x" * 200_000,
]


@pytest.fixture(params=[False, True], ids=["HTTP/1.1", "HTTP/2"])
def http2(request):
    return request.param


def seen(source):
    return [(event.event, event.data, event.id, event.retry) for event in source.iter_sse()]


def test_every_field_arrives(http2):
    app = Hypern()

    @app.sse("/")
    def events():
        # A comment has a blank line of its own. This client takes that for an event without data once it knows an id.
        yield SSEEvent.comment("nothing to see")
        yield SSEEvent("named", event="greeting")
        yield SSEEvent("numbered", id="1", retry=1500)
        yield "plain"
        yield None
        yield {"data": {"a": [1, 2]}, "event": "json", "id": "2"}

    with TestClient(app, http2=http2) as client, client.sse("/") as source:
        assert source.response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert "connection" not in source.response.headers
        assert seen(source) == [
            ("greeting", "named", "", None),
            ("message", "numbered", "1", 1500),
            ("message", "plain", "1", None),
            ("json", '{"a":[1,2]}', "2", None),
        ]


def test_text_arrives_as_it_was_sent(http2):
    app = Hypern()

    @app.sse("/")
    async def events():
        for text in TEXTS:
            yield SSEEvent(text)

    with TestClient(app, http2=http2) as client, client.sse("/") as source:
        arrived = [event.data for event in source.iter_sse()]
    assert arrived == [text.replace("\r\n", "\n").replace("\r", "\n") for text in TEXTS]


def test_a_silent_stream_opens(http2):
    app = Hypern()
    opened = threading.Event()

    @app.sse("/", ping=0.02)
    def events():
        opened.wait(30)
        yield "at last"

    with TestClient(app, http2=http2, timeout=30) as client, client.sse("/") as source:
        assert source.response.status_code == 200
        opened.set()
        assert [event.data for event in source.iter_sse()] == ["at last"]


def test_keep_alives_are_no_events(http2):
    app = Hypern()

    @app.sse("/", ping=0.02, retry=1500)
    def events(ctx):
        yield SSEEvent("before", id="1")
        ctx.sleep(0.3)
        yield "after"

    with TestClient(app, http2=http2) as client:
        assert client.get("/").text.count(": keepalive\n") > 1
        with client.sse("/") as source:
            assert seen(source) == [("message", "before", "1", 1500), ("message", "after", "1", None)]


@pytest.mark.parametrize("ending", ["ends", "fails"])
def test_a_client_that_resumes_misses_nothing(http2, ending):
    app = Hypern()

    @app.sse("/")
    def events(req):
        first = int(req.last_event_id or 0) + 1
        for number in range(first, min(first + 5, LAST + 1)):
            yield SSEEvent(f"Number {number}", id=str(number))
        if number < LAST and ending == "fails":
            raise ConnectionError

    numbers, breaks = [], 0
    with TestClient(app, http2=http2) as client:
        while len(numbers) < LAST:
            headers = {"last-event-id": str(numbers[-1])} if numbers else {}
            with client.sse("/", headers=headers) as source:
                try:
                    numbers.extend(int(event.id) for event in source.iter_sse())
                except httpx.RemoteProtocolError:
                    breaks += 1
    assert numbers == list(range(1, LAST + 1))
    assert breaks == (2 if ending == "fails" else 0)


def test_an_error_is_an_error(http2, caplog):
    app = Hypern()

    @app.sse("/refused")
    def refused():
        raise HTTPException(403, "Members only")
        yield

    @app.sse("/broken")
    async def broken():
        raise RuntimeError("a secret")
        yield

    with TestClient(app, http2=http2) as client:
        refusal = client.get("/refused")
        assert (refusal.status_code, refusal.json()) == (403, {"detail": "Members only"})
        failure = client.get("/broken")
        assert (failure.status_code, failure.json()) == (500, {"detail": "Internal Server Error"})
    assert "a secret" in caplog.text


def test_many_streams_share_a_connection():
    app = Hypern()
    streams = 20
    together = threading.Barrier(streams, timeout=30)

    @app.sse("/:name")
    def events(req):
        yield "before"
        together.wait()
        yield req.param("name")

    arrived = {}

    def follow(client, name):
        with client.sse(f"/{name}") as source:
            arrived[name] = [event.data for event in source.iter_sse()]

    with TestClient(app, http2=True, timeout=30) as client:
        threads = [threading.Thread(target=follow, args=(client, str(number))) for number in range(streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert arrived == {str(number): ["before", str(number)] for number in range(streams)}
