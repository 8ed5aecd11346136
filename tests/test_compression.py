"""Compression, as decoders other than ours see it: whole bodies, and streams event by event."""

import gzip
import queue
import threading
import zlib

import brotli
import httpx
import pytest
import zstandard

from hypern import Hypern, SSEEvent
from hypern.middleware import CompressionMiddleware
from hypern.testing import TestClient
from raw_http import Connection, fetch

TEXT = "All work and no play makes a dull stream. " * 200
ENCODINGS = ["gzip", "br", "zstd"]


class Gzip:
    def __init__(self):
        self._decoder = zlib.decompressobj(wbits=31)

    def decode(self, data):
        return self._decoder.decompress(data)

    @property
    def has_ended(self):
        return self._decoder.eof


class Brotli:
    def __init__(self):
        self._decoder = brotli.Decompressor()

    def decode(self, data):
        return self._decoder.process(data)

    @property
    def has_ended(self):
        return self._decoder.is_finished()


class Zstd:
    def __init__(self):
        self._decoder = zstandard.ZstdDecompressor().decompressobj()

    def decode(self, data):
        return self._decoder.decompress(data)

    @property
    def has_ended(self):
        return self._decoder.eof


DECODERS = {"gzip": Gzip, "br": Brotli, "zstd": Zstd}


def decoded(encoding, data):
    decoder = DECODERS[encoding]()
    text = decoder.decode(data)
    assert decoder.has_ended
    return text


@pytest.fixture(scope="module")
def client(tmp_path_factory):  # noqa: C901, one small handler for each kind of response
    page = tmp_path_factory.mktemp("files") / "page.html"
    page.write_text(TEXT)
    app = Hypern()
    app.use(CompressionMiddleware())

    @app.get("/text")
    def text(res):
        res.header("etag", '"one"').text(TEXT)

    @app.get("/large")
    def large(res):
        res.text(TEXT * 200)

    @app.get("/small")
    def small():
        return "too small to be worth it"

    @app.get("/async")
    async def asynchronous():
        return TEXT

    @app.get("/zipped")
    def zipped(res):
        res.type("text/plain").header("content-encoding", "gzip").send(gzip.compress(TEXT.encode()))

    @app.get("/zipped-stream")
    def zipped_stream(res):
        body = gzip.compress(TEXT.encode())
        res.header("content-encoding", "gzip").stream([body[:100], body[100:]], content_type="text/plain")

    @app.get("/untouched")
    def untouched(res):
        res.header("cache-control", "no-transform").text(TEXT)

    @app.get("/picture")
    def picture(res):
        res.type("image/png").send(TEXT.encode())

    @app.get("/nothing")
    def nothing(res):
        res.status(204)

    @app.get("/file")
    def file(res):
        res.file(page)

    @app.get("/events")
    def events(res):
        res.sse_stream(SSEEvent(f"Number {number}", id=str(number)) for number in range(500))

    @app.get("/chunks")
    async def chunks(res):
        async def pieces():
            for piece in range(50):
                yield f"{piece}: {TEXT}"

        res.stream(pieces(), content_type="text/csv; charset=utf-8")

    @app.get("/failing")
    def failing(res):
        def broken():
            yield "before"
            raise ValueError

        res.sse_stream(broken())

    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", ["/text", "/async", "/large"])
def test_a_whole_body(client, path, encoding):
    head, body = fetch(client.port, path, headers={"accept-encoding": encoding})
    expected = TEXT * 200 if path == "/large" else TEXT
    assert decoded(encoding, body) == expected.encode()
    assert head.get("content-encoding") == encoding
    assert head.get("content-length") == str(len(body))
    assert len(body) < len(expected) / 10
    assert head.get("vary") == "accept-encoding"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_whole_stream(client, encoding):
    head, body = fetch(client.port, "/events", headers={"accept-encoding": encoding})
    assert decoded(encoding, body) == "".join(f"id: {n}\ndata: Number {n}\n\n" for n in range(500)).encode()
    assert head.headers == [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("vary", "accept-encoding"),
        ("content-encoding", encoding),
        ("transfer-encoding", "chunked"),
    ]
    head, body = fetch(client.port, "/chunks", headers={"accept-encoding": encoding})
    assert decoded(encoding, body) == "".join(f"{piece}: {TEXT}" for piece in range(50)).encode()
    assert head.get("content-encoding") == encoding


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("is_async", [False, True])
def test_each_event_can_be_decoded_as_it_arrives(encoding, is_async):
    app = Hypern()
    app.use(CompressionMiddleware())
    taken = queue.SimpleQueue()

    @app.sse("/sync")
    def events():
        for number in range(20):
            yield SSEEvent({"number": number, "text": "some more text, as events have"}, id=str(number))
            taken.get()

    @app.sse("/async")
    async def async_events(ctx):
        for number in range(20):
            yield SSEEvent({"number": number, "text": "some more text, as events have"}, id=str(number))
            while taken.empty():
                await ctx.sleep(0.001)
            taken.get()

    with TestClient(app) as client, Connection(client.port) as connection:
        connection.send("/async" if is_async else "/sync", headers={"accept-encoding": encoding})
        decoder = DECODERS[encoding]()
        chunks = connection.chunks()
        for number in range(20):
            text = b""
            while not text.endswith(b"\n\n"):
                text += decoder.decode(next(chunks))
            line = f'{{"number":{number},"text":"some more text, as events have"}}'
            assert text == f"id: {number}\ndata: {line}\n\n".encode()
            # Only now does the generator make the next one.
            taken.put(None)
        assert b"".join(decoder.decode(chunk) for chunk in chunks) == b""
        assert decoder.has_ended


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_first_moment_and_the_keep_alives_arrive_too(encoding):
    app = Hypern()
    app.use(CompressionMiddleware())
    done = threading.Event()

    @app.get("/")
    def silent(res):
        def nothing():
            done.wait(30)
            yield "at last"

        res.sse_stream(nothing(), ping=0.05)

    with TestClient(app) as client, Connection(client.port) as connection:
        connection.send("/", headers={"accept-encoding": encoding})
        decoder = DECODERS[encoding]()
        text = b""
        for chunk in connection.chunks():
            text += decoder.decode(chunk)
            if text.count(b": keepalive\n") == 2:
                done.set()
    assert text.startswith(b": open\n: keepalive\n: keepalive\n")
    assert text.endswith(b": keepalive\ndata: at last\n\n")
    assert decoder.has_ended


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_failed_stream_is_no_whole_one(client, encoding, caplog):
    with Connection(client.port) as connection:
        connection.send("/failing", headers={"accept-encoding": encoding})
        raw = connection.read_rest()
    assert not raw.endswith(b"0\r\n\r\n")
    size, _, rest = raw.partition(b"\r\n")
    decoder = DECODERS[encoding]()
    assert decoder.decode(rest[: int(size, 16)]) == b"data: before\n\n"
    assert not decoder.has_ended
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("path", "encoding"),
    [
        ("/small", None),
        ("/untouched", None),
        ("/picture", None),
        ("/nothing", None),
        ("/zipped", "gzip"),
        ("/zipped-stream", "gzip"),
    ],
)
def test_what_is_left_alone(client, path, encoding):
    plain, body = fetch(client.port, path)
    head, offered = fetch(client.port, path, headers={"accept-encoding": "zstd, br, gzip"})
    assert (head, offered) == (plain, body)
    assert head.get("content-encoding") == encoding
    if encoding:
        assert gzip.decompress(body) == TEXT.encode()


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("deflate, compress", None),
        ("gzip, br, zstd", "zstd"),
        ("gzip, br", "br"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip;q=1.0, br;q=0.5, zstd;q=0.1", "gzip"),
        ("gzip;q=0.5,br ; q=0.501", "br"),
        ("*", "zstd"),
        ("*;q=0.5, br;q=0.4", "zstd"),
        ("zstd;q=0, *", "br"),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("identity;q=0, gzip;q=0", None),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.2", "gzip"),
        ("gzip;q=2", None),
        ("gzip;q=high, br", "br"),
        (", ,gzip,", "gzip"),
    ],
)
@pytest.mark.parametrize("path", ["/text", "/events"])
def test_the_client_decides(client, path, accepted, chosen):
    headers = {} if accepted is None else {"accept-encoding": accepted}
    head, body = fetch(client.port, path, headers=headers)
    assert head.get("content-encoding") == chosen
    assert head.get("vary") == "accept-encoding"
    if chosen:
        body = decoded(chosen, body)
    assert body == (TEXT.encode() if path == "/text" else fetch(client.port, path)[1])


def test_an_etag_is_that_of_the_plain_body(client):
    assert fetch(client.port, "/text")[0].get("etag") == '"one"'
    assert fetch(client.port, "/text", headers={"accept-encoding": "gzip"})[0].get("etag") == 'W/"one"'


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", ["/text", "/events", "/chunks", "/zipped"])
def test_head_tells_what_get_would(client, path, encoding):
    asked = {"accept-encoding": encoding}
    with Connection(client.port) as connection:
        head = connection.send(path, "HEAD", asked)
        # Had a body come, the next response would not be where it is.
        assert connection.body(connection.send("/small")) == b"too small to be worth it"
    whole, _ = fetch(client.port, path, headers=asked)
    for name in ("content-type", "content-encoding", "vary", "etag", "cache-control"):
        assert head.get(name) == whole.get(name)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file(client, encoding):
    head, body = fetch(client.port, "/file", headers={"accept-encoding": encoding})
    assert head.get("content-type").startswith("text/html")
    assert (decoded(encoding, body) if head.get("content-encoding") else body) == TEXT.encode()


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_httpx_decodes_it(client, http2, encoding):
    options = {"http1": not http2, "http2": http2, "base_url": client.base_url, "trust_env": False}
    with httpx.Client(headers={"accept-encoding": encoding}, **options) as other:
        response = other.get("/text")
        assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert response.headers["content-encoding"] == encoding
        assert response.text == TEXT
        with other.stream("GET", "/events") as response:
            assert "".join(response.iter_text()).endswith("id: 499\ndata: Number 499\n\n")


def test_twice_is_once():
    app = Hypern()
    app.use(CompressionMiddleware(encodings=("gzip",)))
    app.use(CompressionMiddleware(encodings=("gzip",)))
    app.get("/")(lambda res: res.text(TEXT) and None)
    app.get("/stream")(lambda res: res.stream([TEXT, TEXT], content_type="text/plain") and None)
    with TestClient(app) as client:
        for path, expected in (("/", TEXT), ("/stream", TEXT * 2)):
            head, body = fetch(client.port, path, headers={"accept-encoding": "gzip"})
            assert head.get("content-encoding") == "gzip"
            assert head.get("vary") == "accept-encoding"
            assert gzip.decompress(body) == expected.encode()
