"""What the npm package `eventsource`, a client that is not ours, makes of our streams."""

import json
import subprocess
import threading
from pathlib import Path

import pytest

from hypern import HTTPException, Hypern, SSEEvent
from hypern.middleware import CompressionMiddleware
from hypern.testing import TestClient

SCRIPT = Path(__file__).parent / "eventsource" / "follow.mjs"
SECONDS = 60
CONNECTING, CLOSED = 0, 2
OPEN = {"type": "open"}
LOST = {"type": "error", "code": None, "state": CONNECTING}


def message(data, identifier="", name="message"):
    return {"type": name, "data": data, "id": identifier}


def follow(client, path, **options):
    options["url"] = client.base_url + path
    command = ["node", SCRIPT, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_named_events_and_their_fields():
    app = Hypern()

    @app.sse("/events")
    def events():
        yield SSEEvent("Connected", event="connect")
        yield SSEEvent("Hello", id="1")
        yield SSEEvent.comment("nobody sees this")
        yield SSEEvent("nobody listens", event="unknown", id="2")
        yield None
        yield {"data": {"a": [1, 2]}, "event": "close", "id": "3"}

    with TestClient(app) as client:
        happened = follow(client, "/events", names=["connect", "close"], messages=3)
    assert happened == [
        OPEN,
        message("Connected", name="connect"),
        message("Hello", "1"),
        message('{"a":[1,2]}', "3", "close"),
    ]


def test_a_stream_that_is_silent_at_first_opens():
    app = Hypern()
    opened = threading.Event()

    @app.sse("/silent", ping=0.02)
    def silent():
        opened.wait(SECONDS)
        yield "at last"

    @app.post("/opened")
    def note():
        opened.set()

    with TestClient(app) as client:
        happened = follow(client, "/silent", opened=f"{client.base_url}/opened", messages=1)
    assert happened == [OPEN, message("at last")]


TEXTS = [
    "",
    " led by a space",
    "one\ntwo\n\nfour",
    "one\rtwo\r\nthree",
    "\n",
    ": no comment",
    "Grüße, 世界 🎈",
    "no\u2028break",
]


def test_text_arrives_as_it_was_sent():
    app = Hypern()

    @app.sse("/texts")
    async def texts():
        for text in TEXTS:
            yield SSEEvent(text, event="Überschrift")

    with TestClient(app) as client:
        happened = follow(client, "/texts", names=["Überschrift"], messages=len(TEXTS))
    expected = [text.replace("\r\n", "\n").replace("\r", "\n") for text in TEXTS]
    assert [event["data"] for event in happened[1:]] == expected


@pytest.mark.parametrize("ending", ["ends", "fails"])
def test_a_lost_stream_is_resumed_without_a_hole_or_a_double(ending):
    app = Hypern()
    last_ids = []

    @app.sse("/numbers", retry=1)
    def numbers(req):
        last_ids.append(req.last_event_id)
        first = int(req.last_event_id or 0) + 1
        for number in range(first, first + 4):
            yield SSEEvent(number, id=str(number))
        if ending == "fails":
            raise ConnectionError

    with TestClient(app) as client:
        happened = follow(client, "/numbers", messages=12)
    messages = [message(str(number), str(number)) for number in range(1, 13)]
    assert happened == [OPEN, *messages[:4], LOST, OPEN, *messages[4:8], LOST, OPEN, *messages[8:]]
    assert last_ids == [None, "4", "8"]


@pytest.mark.parametrize(("path", "code"), [("/missing", 404), ("/nothing", 204), ("/raises", 500), ("/text", 200)])
def test_what_makes_it_give_up(path, code):
    app = Hypern()

    @app.sse("/missing")
    def missing():
        raise HTTPException(404)
        yield

    @app.get("/nothing")
    def nothing(res):
        res.status(204)

    @app.sse("/raises")
    async def raises():
        raise ValueError
        yield

    @app.get("/text")
    def text():
        return "data: no stream\n\n"

    with TestClient(app) as client:
        assert follow(client, path, errors=1) == [{"type": "error", "code": code, "state": CLOSED}]


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_compressed_stream_arrives_event_by_event(encoding):
    app = Hypern()
    app.use(CompressionMiddleware())
    opened = threading.Event()
    accepted = []

    @app.sse("/events")
    def events(req):
        accepted.append(req.header("accept-encoding"))
        opened.wait(SECONDS)
        yield SSEEvent("one", id="1")
        yield SSEEvent("two", id="2")

    @app.post("/opened")
    def note():
        opened.set()

    with TestClient(app) as client:
        options = {"headers": {"accept-encoding": encoding}, "opened": f"{client.base_url}/opened"}
        happened = follow(client, "/events", messages=2, **options)
    assert happened == [OPEN, message("one", "1"), message("two", "2")]
    assert accepted == [encoding]
