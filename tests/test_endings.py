"""Every way in which a stream can end: what the client sees, what the source sees, what the log says."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
from contextvars import ContextVar

import h2.errors
import pytest

from hypern import Hypern
from hypern.testing import TestClient
from wire import PATIENCE, Connection, Http2Connection, descriptors, eventually, unchunk, within_the_first_moment

SECRET = "the password is 1234"
TCP_USER_TIMEOUT = 18

variable = ContextVar("variable", default="not the handler's")

both = pytest.mark.parametrize("source", ["sync", "async"])


class Trace:
    """What a handler and its source have seen of themselves."""

    def __init__(self):
        self.request_ids = []
        self.steps = 0
        self.home = None
        self.finals = []

    @staticmethod
    def whereabouts():
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        return threading.get_ident(), task, variable.get()

    def handler(self, ctx):
        self.request_ids.append(ctx.request_id)
        variable.set(f"the handler's {ctx.request_id}")

    def begin(self):
        self.home = self.whereabouts()

    def end(self):
        self.finals.append(self.whereabouts())

    def wait(self):
        """Wait until `finally` has run, which must be where and in which context the source has begun."""
        eventually(lambda: self.finals, "finally")
        self.check()

    def check(self):
        assert self.finals == [self.home]
        assert self.home[2] == f"the handler's {self.request_ids[0]}"


class Play:
    """A source that plays a script: items, exceptions to raise, and numbers of seconds to wait."""

    def __init__(self, script, trace, last=None):
        self.script = script
        self.trace = trace
        self.last = last

    def steps(self):
        for step in self.script:
            self.trace.steps += 1
            if isinstance(step, BaseException):
                raise step
            yield step

    def end(self):
        self.trace.end()
        if self.last is not None:
            raise self.last

    def sync(self, ctx):
        self.trace.begin()
        try:
            for step in self.steps():
                if isinstance(step, (int, float)):
                    ctx.sleep(step)
                else:
                    yield step
        finally:
            self.end()

    async def asynchronous(self, _ctx):
        self.trace.begin()
        try:
            for step in self.steps():
                if isinstance(step, (int, float)):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            # A source may have to wait for something before it is closed.
            await asyncio.sleep(0)
            self.end()


def app_with(source, play, *, chunks=False, app=None, **options):
    """Make an app with a def handler that plays a sync source, or an async def handler that plays an async one."""
    app = app or Hypern()

    def stream(res, content):
        (res.stream if chunks else res.sse_stream)(content, **options)

    def handler(res, ctx):
        play.trace.handler(ctx)
        stream(res, play.sync(ctx))

    async def async_handler(res, ctx):
        play.trace.handler(ctx)
        await asyncio.sleep(0)
        stream(res, play.asynchronous(ctx))

    app.get("/")(handler if source == "sync" else async_handler)
    app.get("/after")(lambda: "still here")
    return app


def read_stream(connection, first=b"data: 1\n\n"):
    """Ask for the stream, and read its head and its first item."""
    status, headers = connection.request().read_head()
    assert status == 200
    assert headers["transfer-encoding"] == "chunked"
    chunk = b"%X\r\n%s\r\n" % (len(first), first)
    assert connection.read_until(chunk) == chunk


def errors_in(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def assert_logged_once(caplog, trace):
    """The one error in the log has the request's id, and a traceback that leads to the source."""
    [record] = errors_in(caplog)
    assert record.name == "hypern"
    assert trace.request_ids[0] in record.getMessage()
    frames = [frame.name for frame in traceback.extract_tb(record.exc_info[2])]
    assert frames[-1] in {"steps", "end"}
    assert SECRET in str(record.exc_info[1])


# Exhausted


@both
@within_the_first_moment
def test_exhausted(source, caplog):
    trace = Trace()
    with TestClient(app_with(source, Play(["1", "2"], trace))) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert unchunk(connection.read_until(b"0\r\n\r\n")) == (b"data: 1\n\ndata: 2\n\n", True)
        trace.wait()
        assert connection.request("/after").read_whole() == (200, b"still here")
    trace.check()
    assert not errors_in(caplog)


@both
@within_the_first_moment
def test_exhausted_without_an_item(source, caplog):
    trace = Trace()
    with TestClient(app_with(source, Play([], trace))) as client, Connection(client.port) as connection:
        status, _ = connection.request().read_head()
        assert status == 200
        assert connection.read_until(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert connection.request("/after").read_whole() == (200, b"still here")
    trace.check()
    assert not errors_in(caplog)


# The client leaves


@both
def test_the_client_leaves_an_idle_stream(source, caplog):
    trace = Trace()
    with TestClient(app_with(source, Play(["1", 3600], trace))) as client, Connection(client.port) as connection:
        read_stream(connection)
        connection.close()
        trace.wait()
    trace.check()
    assert not errors_in(caplog)


@both
def test_the_client_leaves_a_stream_without_an_item(source, caplog):
    trace = Trace()
    with TestClient(app_with(source, Play([3600], trace))) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert connection.read_until(b"7\r\n: open\n\r\n") == b"7\r\n: open\n\r\n"
        connection.close()
        trace.wait()
    trace.check()
    assert not errors_in(caplog)


@both
def test_the_client_leaves_before_the_head(source, caplog):
    trace = Trace()
    with TestClient(app_with(source, Play(itertools.cycle([None, 0.001]), trace))) as client:
        connection = Connection(client.port).request()
        eventually(lambda: trace.home, "the first step")
        connection.reset()
        trace.wait()
    trace.check()
    assert not errors_in(caplog)


@both
@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_client_leaves_in_the_middle_of_a_write(source, how, caplog):
    trace = Trace()
    app = app_with(source, Play(itertools.repeat("x" * 10_000), trace))
    with TestClient(app) as client, Connection(client.port, receive_buffer=4096) as connection:
        connection.request().read_head()
        wait_until_stalled(trace)
        getattr(connection, how)()
        trace.wait()
    trace.check()
    assert not errors_in(caplog)


def wait_until_stalled(trace):
    """Wait until the source is not pulled any more, because nobody takes what it gives."""
    last, since = -1, 0
    while since < 20:
        since = since + 1 if trace.steps == last else 0
        last = trace.steps
        threading.Event().wait(0.005)


@both
def test_the_client_vanishes(source, caplog):
    """Its host knows nothing of the connection any more; a keep-alive finds that out."""
    trace = Trace()
    app = app_with(source, Play(["1", 3600], trace), ping=0.05)
    with TestClient(app) as client, Connection(client.port) as connection:
        read_stream(connection)
        connection.vanish()
        trace.wait()
    trace.check()
    assert not errors_in(caplog)


ALONE = """
    import ctypes, fcntl, os, socket, struct, sys

    CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
    SIOCSIFFLAGS, IFF_UP = 0x8914, 1

    def alone():
        library = ctypes.CDLL(None)
        return library.unshare(CLONE_NEWNET) == 0 or library.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0

    def set_loopback(flags):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))

    if not alone():
        print("not allowed")
        sys.exit()
    set_loopback(IFF_UP)

    from test_endings import Play, Trace, app_with, read_stream
    from wire import Connection
    from hypern.testing import TestClient

    trace = Trace()
    app = app_with(sys.argv[1], Play(["1", 3600], trace), ping=0.1, send_timeout=0.5)
    with TestClient(app) as client, Connection(client.port) as connection:
        read_stream(connection)
        set_loopback(0)
        trace.wait()
        set_loopback(IFF_UP)
    trace.check()
    print("noticed")
"""


@both
def test_the_network_vanishes(source, caplog):
    """No packet comes through any more, so nothing answers: the kernel gives up after `send_timeout`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ALONE), source],
        env=environment, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.stdout in {"noticed\n", "not allowed\n"}, done.stderr
    if done.stdout == "not allowed\n":
        # Without a network of its own to cut, a test can still see that the kernel has been told.
        trace = Trace()
        app = app_with(source, Play(["1", 3600], trace), send_timeout=0.5)
        with TestClient(app) as client, Connection(client.port) as connection:
            read_stream(connection)
            assert server_socket_option(connection, TCP_USER_TIMEOUT) == 500


def server_socket_option(connection, option):
    """The option of the other end of a connection, which is in this process too."""
    for name in descriptors():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(name)) as candidate:
            if candidate.getpeername() == connection.socket.getsockname():
                return candidate.getsockopt(socket.IPPROTO_TCP, option)
    return None


@both
def test_the_client_resets_an_http2_stream(source, caplog):
    trace, other = Trace(), Trace()
    app = app_with(source, Play(["1", 3600], trace))
    app.sse("/other")(lambda ctx: itertools.chain(["begin"], after(other, ctx)))
    with TestClient(app) as client, Http2Connection(client.port) as connection:
        stream, neighbour = connection.request("/"), connection.request("/other")
        connection.read_until(stream, b"data: 1\n\n")
        connection.read_until(neighbour, b"data: begin\n\n")
        connection.reset(stream)
        trace.wait()
        other.handler = True
        assert connection.read_to_end(neighbour) == (b"data: begin\n\ndata: end\n\n", "complete")
    trace.check()
    assert not errors_in(caplog)


def after(trace, ctx):
    trace.handler = None
    while trace.handler is None:
        ctx.sleep(0.01)
    yield "end"


@both
def test_the_client_leaves_an_http2_connection(source, caplog):
    trace = Trace()
    with TestClient(app_with(source, Play(["1", 3600], trace))) as client, Http2Connection(client.port) as connection:
        connection.read_until(connection.request(), b"data: 1\n\n")
        connection.socket.close()
        trace.wait()
    trace.check()
    assert not errors_in(caplog)


# The source fails


@both
@pytest.mark.parametrize("chunks", [False, True])
@within_the_first_moment
def test_an_error_before_the_first_item(source, chunks, caplog):
    trace = Trace()
    app = app_with(
        source, Play([None, ValueError(SECRET)] if not chunks else [ValueError(SECRET)], trace), chunks=chunks
    )
    with TestClient(app) as client, Connection(client.port) as connection:
        assert connection.request().read_whole() == (500, b'{"detail":"Internal Server Error"}')
        trace.wait()
        assert connection.request("/after").read_whole() == (200, b"still here")
    trace.check()
    assert_logged_once(caplog, trace)


@both
@pytest.mark.parametrize("handler", ["def", "async def"])
@within_the_first_moment
def test_an_error_before_the_first_item_goes_to_the_error_handler(source, handler, caplog):
    trace = Trace()
    app = app_with(source, Play([ValueError("a number, please")], trace))

    def answer(res, error):
        res.status(422).json({"say": str(error)})

    async def answer_async(res, error):
        await asyncio.sleep(0)
        answer(res, error)

    app.error_handler(ValueError)(answer if handler == "def" else answer_async)
    with TestClient(app) as client, Connection(client.port) as connection:
        status, body = connection.request().read_whole()
        assert (status, json.loads(body)) == (422, {"say": "a number, please"})
    trace.check()
    assert not errors_in(caplog)


@both
@pytest.mark.parametrize("chunks", [False, True])
def test_an_error_after_the_first_item(source, chunks, caplog):
    trace = Trace()
    app = app_with(source, Play(["1", ValueError(SECRET)], trace), chunks=chunks)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert unchunk(connection.read_rest()) == (b"1" if chunks else b"data: 1\n\n", False)
        trace.wait()
    trace.check()
    assert_logged_once(caplog, trace)


@both
def test_an_error_after_the_first_item_with_a_last_word(source, caplog):
    trace = Trace()
    app = app_with(
        source,
        Play(["1", ValueError(SECRET)], trace),
        on_error=lambda error: {"data": type(error).__name__, "event": "end"},
    )
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert unchunk(connection.read_rest()) == (b"data: 1\n\nevent: end\ndata: ValueError\n\n", False)
    trace.check()
    assert_logged_once(caplog, trace)


@both
def test_an_error_after_the_first_moment(source, caplog):
    """The head is on its way, so it is too late for a status even if there was no item."""
    trace = Trace()
    app = app_with(source, Play([0.2, ValueError(SECRET)], trace))
    with TestClient(app) as client, Connection(client.port) as connection:
        status, _ = connection.request().read_head()
        assert (status, *unchunk(connection.read_rest())) == (200, b": open\n", False)
    trace.check()
    assert_logged_once(caplog, trace)


@both
def test_an_item_that_cannot_be_sent(source, caplog):
    trace = Trace()
    app = app_with(source, Play(["1", {"data": "2", "id": SECRET + "\n"}, "3"], trace))
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert unchunk(connection.read_rest()) == (b"data: 1\n\n", False)
    trace.check()
    [record] = errors_in(caplog)
    assert trace.request_ids[0] in record.getMessage()
    assert "id" in str(record.exc_info[1])


@both
def test_an_error_after_the_client_has_left(source, caplog):
    trace = Trace()
    app = app_with(source, Play(["1", 3600], trace, ValueError(SECRET)))
    with TestClient(app) as client, Connection(client.port) as connection:
        read_stream(connection)
        connection.close()
        trace.wait()
    trace.check()
    assert_logged_once(caplog, trace)


@both
def test_an_error_on_http2(source, caplog):
    trace = Trace()
    app = app_with(source, Play(["1", 0.1, ValueError(SECRET)], trace))
    with TestClient(app) as client, Http2Connection(client.port) as connection:
        received, end = connection.read_to_end(connection.request())
        assert (received, end) == (b"data: 1\n\n", h2.errors.ErrorCodes.INTERNAL_ERROR)
    trace.check()
    assert_logged_once(caplog, trace)


# The server ends it


@both
def test_send_timeout(source, caplog):
    trace = Trace()
    app = app_with(source, Play(itertools.repeat("x" * 10_000), trace), send_timeout=0.2)
    with TestClient(app) as client, Connection(client.port, receive_buffer=4096) as connection:
        connection.request().read_head()
        trace.wait()
        body, is_complete = unchunk(connection.read_rest())
        assert not is_complete
        assert body.startswith(b"data: xxx")
    trace.check()
    assert not errors_in(caplog)


@both
def test_send_timeout_on_http2(source, caplog):
    trace = Trace()
    app = app_with(source, Play(itertools.repeat("x" * 10_000), trace), send_timeout=0.2)
    with TestClient(app) as client, Http2Connection(client.port) as connection:
        stream = connection.request()
        # This client opens its window only when it reads.
        trace.wait()
        assert connection.read_to_end(stream)[1] != "complete"
        after = connection.request("/after")
        while after not in connection.heads:
            connection.receive()
    trace.check()
    assert not errors_in(caplog)


@both
def test_shutdown(source, caplog):
    trace = Trace()
    client = TestClient(app_with(source, Play(["1", 3600], trace)))
    with client:
        connection = Connection(client.port)
        read_stream(connection)
    assert connection.read_rest() == b"0\r\n\r\n"
    connection.close()
    trace.check()
    assert not errors_in(caplog)


@both
def test_shutdown_while_nobody_reads(source, caplog):
    trace = Trace()
    app = app_with(source, Play(itertools.repeat("x" * 10_000), trace), app=Hypern(shutdown_timeout=0.2))
    with TestClient(app) as client:
        connection = Connection(client.port, receive_buffer=4096)
        connection.request().read_head()
        wait_until_stalled(trace)
    _, is_complete = unchunk(connection.read_rest())
    assert not is_complete
    connection.close()
    trace.check()
    assert not errors_in(caplog)


@both
def test_shutdown_lets_chunks_come_to_their_end(source, caplog):
    trace = Trace()
    client = TestClient(app_with(source, Play(["1", 0.3, "2"], trace), chunks=True))
    with client:
        connection = Connection(client.port)
        read_stream(connection, b"1")
    assert connection.read_rest() == b"1\r\n2\r\n0\r\n\r\n"
    connection.close()
    trace.check()
    assert not errors_in(caplog)


@both
def test_shutdown_deadline(source, caplog):
    trace = Trace()
    app = app_with(source, Play(["1", 3600, "2"], trace), chunks=True, app=Hypern(shutdown_timeout=0.2))
    with TestClient(app) as client:
        connection = Connection(client.port)
        read_stream(connection, b"1")
    assert connection.read_rest() == b""
    connection.close()
    trace.check()
    assert not errors_in(caplog)


SERVER = """
    from test_endings import Play, Trace, app_with
    import sys

    app_with(sys.argv[1], Play(["1", 3600], Trace())).listen(port=0, host="127.0.0.1")
"""


@both
def test_the_worker_is_killed(source):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(SERVER), source]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        port = int(process.stderr.readline().rpartition(":")[2])
        with Connection(port) as connection:
            read_stream(connection)
            process.kill()
            assert connection.read_rest() == b""
