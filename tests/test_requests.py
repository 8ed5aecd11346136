"""Requests: what is refused and how, and uploads that are read while they arrive."""

import asyncio
import json
import logging
import threading
import time

import pytest

from hypern import Hypern
from hypern.testing import TestClient
from wire import HOST, PATIENCE, Connection, eventually, refuses, unchunk

both = pytest.mark.parametrize("handler", ["def", "async def"])
framings = pytest.mark.parametrize("framing", ["content-length", "chunked"])


def errors_in(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


# What is refused


@pytest.mark.parametrize(
    ("body", "where"),
    [(b'{"a": 1,}', "byte 8"), (b'{"a": ]}', "byte 6"), (b"[1, 2", "truncated"), (b"", "truncated")],
)
@both
def test_bad_json_is_a_400_that_says_where(body, where, handler, caplog):
    app = Hypern()

    @app.post("/")
    def plain(req):
        return req.json()

    @app.post("/async")
    async def suspending(req):
        await asyncio.sleep(0)
        return req.json()

    with TestClient(app) as client:
        response = client.post("/" if handler == "def" else "/async", content=body)
    assert response.status_code == 400
    assert where in response.json()["detail"]
    assert not errors_in(caplog)


def limited_app():
    app = Hypern(max_body_size=1000)
    app.post("/")(lambda req: {"size": len(req.body())})
    return app


@framings
def test_a_body_over_the_limit_is_a_413(framing):
    with TestClient(limited_app()) as client, Connection(client.port) as connection:
        if framing == "content-length":
            # It is refused by what it says of itself.
            connection.request("/", "content-length: 1001", method="POST")
        else:
            chunks = b"200\r\n" + b"x" * 512 + b"\r\n"
            connection.request("/", "transfer-encoding: chunked", method="POST", body=2 * chunks)
        status, headers = connection.read_head()
        assert status == 413
        assert headers["connection"] == "close"
        assert json.loads(connection.read_rest()) == {"detail": "Content Too Large"}


@framings
def test_a_body_at_the_limit_is_taken(framing):
    with TestClient(limited_app()) as client, Connection(client.port) as connection:
        headers, body = framed(framing, [b"x" * 500] * 2)
        connection.request("/", headers, method="POST", body=body)
        assert connection.read_whole() == (200, b'{"size":1000}')
        connection.request("/", "content-length: 1", method="POST", body=b"x")
        assert connection.read_whole() == (200, b'{"size":1}')


@pytest.mark.parametrize("value", ["a\r\nset-cookie: evil=1", "a\nb", "a\rb", "a\0b"])
def test_a_header_with_a_line_break_is_an_error(value, caplog):
    app = Hypern()
    app.get("/")(lambda res: res.header("x-own", value).text("x") and None)
    with TestClient(app) as client, Connection(client.port) as connection:
        status, headers = connection.request().read_head()
    assert status == 500
    assert not {"x-own", "set-cookie"} & headers.keys()
    [record] = errors_in(caplog)
    assert isinstance(record.exc_info[1], ValueError)
    assert "x-own" in str(record.exc_info[1])


# Uploads


def framed(framing, chunks):
    """Return the header and the body of an upload."""
    if framing == "content-length":
        return f"content-length: {sum(map(len, chunks))}", b"".join(chunks)
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return "transfer-encoding: chunked", body + b"0\r\n\r\n"


class Upload:
    """A route that reads its upload, and notes what it gets."""

    def __init__(self, handler, app=None):
        self.app = app or Hypern(max_body_size=10)
        self.chunks = []
        self.ends = []
        route = self.app.post("/", stream_body=True)
        route(self.sync if handler == "def" else self.asynchronous)

    def sync(self, req):
        try:
            for chunk in req.stream():
                self.chunks.append(chunk)
        except BaseException as error:
            self.ends.append(error)
            raise
        self.ends.append("complete")
        return {"size": self.size}

    async def asynchronous(self, req):
        try:
            async for chunk in req.stream():
                self.chunks.append(chunk)
        except BaseException as error:
            self.ends.append(error)
            raise
        self.ends.append("complete")
        return {"size": self.size}

    @property
    def size(self):
        return sum(map(len, self.chunks))

    def has(self, size):
        eventually(lambda: self.size == size, f"{size} bytes")

    def ended(self):
        return eventually(lambda: self.ends, "the end of the upload")[0]


@both
@framings
def test_an_upload_is_read_while_it_arrives(handler, framing):
    upload = Upload(handler)
    with TestClient(upload.app) as client, Connection(client.port) as connection:
        header, body = framed(framing, [b"a" * 100, b"b" * 100, b"c" * 100])
        connection.request("/", header, method="POST")
        third = len(body) // 3
        for begin in (0, third, 2 * third):
            before = upload.size
            connection.socket.sendall(body[begin : begin + third])
            eventually(lambda before=before: upload.size > before, "the next part")
        connection.socket.sendall(body[3 * third :])
        assert connection.read_whole() == (200, b'{"size":300}')
        # The connection is good for more.
        header, body = framed(framing, [b"x" * 200_000] * 10)
        upload.chunks.clear()
        connection.request("/", header, method="POST", body=body)
        assert connection.read_whole() == (200, b'{"size":2000000}')
    assert upload.ends == ["complete"] * 2


@both
@framings
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_its_upload(handler, framing, how, caplog):
    upload = Upload(handler)
    with TestClient(upload.app) as client, Connection(client.port) as connection:
        header, body = framed(framing, [b"x" * 1000] * 3)
        connection.request("/", header, method="POST", body=body[:1500])
        eventually(lambda: upload.size > 1000, "the first part")
        getattr(connection, how)()
        assert isinstance(upload.ended(), ConnectionError)


@both
@framings
def test_an_upload_that_is_cut_at_shutdown_is_not_complete(handler, framing, caplog):
    upload = Upload(handler, Hypern(shutdown_timeout=0.2))
    with TestClient(upload.app) as client:
        connection = Connection(client.port)
        header, body = framed(framing, [b"x" * 1000] * 3)
        connection.request("/", header, method="POST", body=body[:1500])
        eventually(lambda: upload.size > 1000, "the first part")
    connection.close()
    assert isinstance(upload.ended(), ConnectionError)


@both
@framings
def test_an_upload_is_not_complete_when_the_server_ends_at_once(handler, framing):
    """Nobody waits for its handler any more, which must not take half a file for a whole one all the same."""
    upload = Upload(handler)
    header, body = framed(framing, [b"x" * 1000] * 3)

    async def main():
        ready = asyncio.get_running_loop().create_future()
        serving = asyncio.ensure_future(upload.app.serve(HOST, 0, ready=lambda _host, port: ready.set_result(port)))
        port = await ready
        connection = Connection(port).request("/", header, method="POST", body=body[:1500])
        await asyncio.to_thread(eventually, lambda: upload.size > 1000, "the first part")
        serving.cancel()
        await asyncio.to_thread(eventually, lambda: refuses(port), "the end of the listener")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        connection.close()

    asyncio.run(main())
    assert isinstance(upload.ended(), (ConnectionError, asyncio.CancelledError))


def test_a_chunk_is_not_lost_to_a_timeout():
    """Whoever gives up waiting for a chunk, and then goes on, gets it; nobody's turn comes twice either."""
    app = Hypern()
    waits = []

    @app.post("/", stream_body=True)
    async def patient(req):
        chunks, received = aiter(req.stream()), b""
        while len(received) < 3000:
            try:
                async with asyncio.timeout(0.001):
                    received += await anext(chunks)
            except TimeoutError:  # noqa: PERF203
                waits.append(len(received))
        assert [chunk async for chunk in chunks] == []
        return received

    body = bytes(range(250)) * 12
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request("/", f"content-length: {len(body)}", method="POST")
        for begin in range(0, len(body), 10):
            connection.socket.sendall(body[begin : begin + 10])
            time.sleep(0.0005)  # about the time that the handler waits
        assert connection.read_whole() == (200, body)
    assert waits


def test_two_tasks_may_share_an_upload():
    app = Hypern()

    @app.post("/", stream_body=True)
    async def shared(req):
        async def read():
            return sum([len(chunk) async for chunk in req.stream()])

        return {"size": sum(await asyncio.gather(read(), read()))}

    with TestClient(app) as client:
        assert client.post("/", content=b"x" * 500_000).json() == {"size": 500_000}


@both
def test_a_client_that_waits_for_a_100_is_told_to_go_on(handler):
    upload = Upload(handler)
    with TestClient(upload.app) as client, Connection(client.port) as connection:
        connection.request("/", "content-length: 5", "expect: 100-continue", method="POST")
        assert connection.read_head()[0] == 100
        connection.socket.sendall(b"hello")
        assert connection.read_whole() == (200, b'{"size":5}')


@both
def test_an_upload_may_be_answered_while_it_arrives(handler):
    app = Hypern()

    @app.post("/", stream_body=True)
    def echo(req, res):
        res.stream(chunk.upper() for chunk in req.stream())

    @app.post("/async", stream_body=True)
    async def echo_async(req, res):
        res.stream(chunk.upper() async for chunk in req.stream())

    with TestClient(app) as client, Connection(client.port) as connection:
        path = "/" if handler == "def" else "/async"
        connection.request(path, "content-length: 6", method="POST", body=b"ab")
        assert connection.read_head()[0] == 200
        assert connection.read_until(b"AB\r\n") == b"2\r\nAB\r\n"
        connection.socket.sendall(b"cd")
        assert connection.read_until(b"CD\r\n") == b"2\r\nCD\r\n"
        connection.socket.sendall(b"ef")
        assert connection.read_until(b"0\r\n\r\n") == b"2\r\nEF\r\n0\r\n\r\n"


@both
def test_a_handler_may_leave_an_upload_unread(handler):
    app = Hypern()
    app.post("/", stream_body=True)(lambda: "no, thanks")

    @app.post("/async", stream_body=True)
    async def refuse():
        await asyncio.sleep(0)
        return "no, thanks"

    with TestClient(app) as client, Connection(client.port) as connection:
        header, body = framed("content-length", [b"x" * 1000])
        connection.request("/" if handler == "def" else "/async", header, method="POST", body=body)
        assert connection.read_whole() == (200, b"no, thanks")


@both
def test_a_stream_whose_upload_nobody_reads_sees_the_client_leave(handler):
    app = Hypern()
    closed = threading.Event()

    @app.post("/", stream_body=True)
    def stream(req, res, ctx):
        def source():
            try:
                yield "1"
                ctx.sleep(3600)
            finally:
                closed.set()

        res.sse_stream(source())

    @app.post("/async", stream_body=True)
    async def stream_async(req, res):
        async def source():
            try:
                yield "1"
                await asyncio.sleep(3600)
            finally:
                closed.set()

        res.sse_stream(source())

    with TestClient(app) as client, Connection(client.port) as connection:
        header, body = framed("content-length", [b"x" * 1000])
        connection.request("/" if handler == "def" else "/async", header, method="POST", body=body)
        connection.read_head()
        connection.read_until(b"data: 1\n\n")
        connection.close()
        assert closed.wait(PATIENCE)


@both
def test_backpressure_reaches_the_uploading_client(handler):
    """What the handler does not take stays with the client."""
    app = Hypern()
    go_on = threading.Event()

    @app.post("/", stream_body=True)
    def slow(req):
        chunks = req.stream()
        next(chunks)
        assert go_on.wait(PATIENCE)
        return {"size": sum(map(len, chunks))}

    @app.post("/async", stream_body=True)
    async def slow_async(req):
        chunks = req.stream()
        await anext(chunks)
        assert await asyncio.to_thread(go_on.wait, PATIENCE)
        return {"size": sum([len(chunk) async for chunk in chunks])}

    sent = []
    size = 50_000_000

    def send(connection):
        piece = b"x" * 100_000
        for _ in range(size // len(piece)):
            connection.socket.sendall(piece)
            sent.append(len(piece))

    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request("/" if handler == "def" else "/async", f"content-length: {size}", method="POST")
        sender = threading.Thread(target=send, args=(connection,))
        sender.start()
        last, since = -1, 0
        while since < 40:
            since = since + 1 if len(sent) == last else 0
            last = len(sent)
            threading.Event().wait(0.005)
        assert sum(sent) < size
        go_on.set()
        status, body = connection.read_whole()
        sender.join()
    assert status == 200
    assert json.loads(body)["size"] > size - 1_000_000


def test_a_body_that_was_read_ahead_can_be_iterated_too():
    app = Hypern()
    app.post("/")(lambda req: [len(chunk) for chunk in req.stream()])

    @app.post("/async")
    async def lengths(req):
        return [len(chunk) async for chunk in req.stream()]

    with TestClient(app) as client:
        for path in ("/", "/async"):
            response = client.post(path, content=b"x" * 150_000)
            assert sum(response.json()) == 150_000
            assert max(response.json()) <= 65536
            assert client.post(path).json() == []


@both
def test_a_request_body_that_ends_early_never_reaches_the_handler(handler, caplog):
    app = Hypern()
    called = []
    app.post("/")(lambda req: called.append(req.body()))
    app.get("/after")(lambda: "still here")
    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.request("/", "content-length: 100", method="POST", body=b"x" * 50)
        assert client.get("/after").text == "still here"
    assert not called


def test_unchunk_tells_a_cut_from_an_end():
    assert unchunk(b"1\r\nx\r\n0\r\n\r\n") == (b"x", True)
    for cut in (b"", b"1\r\nx\r\n", b"2\r\nx", b"1\r\nx\r\n0\r\n", b"1\r\nx\r\n0"):
        assert unchunk(cut) == (b"x" if b"x" in cut else b"", False)
