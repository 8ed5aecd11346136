"""def handlers and sync sources: the pool of threads."""

import asyncio
import functools
import json
import logging
import queue
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from hypern import Hypern
from hypern.testing import TestClient
from wire import Connection, eventually, unchunk, within_the_first_moment


def errors_in(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def pool_threads():
    """How many threads the pools of this process have, as the kernel counts them."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        # It may end between the two looks.
        with suppress(FileNotFoundError, ProcessLookupError):
            names.append((task / "comm").read_text())
    return names.count("hypern-thread\n")


class Gate:
    """Holds everybody who comes, until it is opened."""

    def __init__(self):
        self.inside = 0
        self.lock = threading.Lock()
        self.opened = threading.Event()

    def wait(self):
        with self.lock:
            self.inside += 1
        assert self.opened.wait(60)
        with self.lock:
            self.inside -= 1

    def holds(self, number):
        eventually(lambda: self.inside == number, f"{number} inside")


def test_the_pool_grows_with_need_and_shrinks_when_idle():
    app = Hypern()
    gate = Gate()
    before = pool_threads()
    app.get("/")(gate.wait)
    with TestClient(app) as client:
        connections = [Connection(client.port).request() for _ in range(50)]
        gate.holds(50)
        assert pool_threads() - before >= 50
        gate.opened.set()
        for connection in connections:
            assert connection.read_whole() == (200, b"")
            connection.close()
        eventually(lambda: pool_threads() - before <= 1, "the end of idle threads")
        assert client.get("/").status_code == 200
    eventually(lambda: pool_threads() == before, "the end of the pool")


def test_threads_are_used_again():
    app = Hypern()
    app.get("/")(lambda: {"thread": threading.get_native_id()})
    with TestClient(app) as client:
        assert len({client.get("/").json()["thread"] for _ in range(200)}) <= 3


@pytest.mark.parametrize("handler", ["def", "def stream", "async def with a sync source", "behind middleware"])
@within_the_first_moment
def test_a_full_pool_refuses(handler, caplog):
    app = Hypern(max_threads=2)
    gate = Gate()
    closed = []

    def plain():
        gate.wait()
        return "done"

    def source():
        try:
            gate.wait()
            yield "done"
        finally:
            closed.append(True)

    def stream(res):
        res.stream(source())

    async def sync_source(res):
        await asyncio.sleep(0)
        res.stream(source())

    handlers = {"def": plain, "def stream": stream, "async def with a sync source": sync_source}
    app.get("/")(handlers.get(handler, plain))

    @app.get("/async")
    async def other():
        return "other"

    if handler == "behind middleware":

        @app.use
        async def middleware(next):  # noqa: A002
            await next()

    with TestClient(app) as client:
        with ExitStack() as stack:
            connections = [stack.enter_context(Connection(client.port)) for _ in range(2)]
            for connection in connections:
                connection.request()
            gate.holds(2)
            with Connection(client.port) as refused:
                status, headers = refused.request().read_head()
                assert (status, headers["retry-after"]) == (503, "1")
                assert headers["content-type"] == "application/json"
            # The rest of the app goes on.
            assert client.get("/async").text == "other"
            gate.opened.set()
            for connection in connections:
                assert connection.read_until(b"done")
        eventually(lambda: client.get("/").status_code == 200, "room again")
    assert not errors_in(caplog)


def test_a_slow_handler_delays_nobody():
    app = Hypern()
    gate = Gate()
    app.get("/slow")(gate.wait)
    app.get("/fast")(lambda: "fast")

    @app.sse("/silent")
    def silent(ctx):
        while ctx.sleep(3600):
            yield "never"

    @app.get("/async")
    async def fast():
        return "fast"

    with TestClient(app) as client, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Connection(client.port)).request("/slow")
            stack.enter_context(Connection(client.port)).request("/silent")
        gate.holds(20)
        for path in ("/fast", "/async"):
            for _ in range(50):
                assert client.get(path).text == "fast"
        gate.opened.set()


def test_a_thread_that_computes_delays_nobody_for_long():
    app = Hypern()
    done = threading.Event()

    @app.get("/busy")
    def busy():
        while not done.is_set():
            pass

    app.get("/fast")(lambda: "fast")
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request("/busy")
        for _ in range(10):
            assert client.get("/fast").text == "fast"
        done.set()
        assert connection.read_whole()[0] == 200


def test_a_handler_and_its_source_share_a_thread():
    app = Hypern()
    local = threading.local()
    seen = []

    @app.get("/")
    def handler(req, res):
        local.value = req.query("value")
        thread = threading.get_ident()

        def source():
            for _ in range(3):
                time.sleep(0.001)
                seen.append((threading.get_ident() == thread, local.value))
                yield local.value

        res.stream(source())

    with TestClient(app) as client:
        for value in "abc":
            assert client.get("/", params={"value": value}).text == 3 * value
    assert seen == [(True, value) for value in "abc" for _ in range(3)]


def test_a_thread_local_is_not_shared_by_requests_at_a_time():
    app = Hypern()
    local = threading.local()
    barrier = threading.Barrier(8, timeout=60)

    @app.get("/")
    def handler(req):
        local.value = req.query("value")
        barrier.wait()
        return local.value

    with TestClient(app) as client:
        connections = [Connection(client.port).request(f"/?value={value}") for value in range(8)]
        for value, connection in enumerate(connections):
            assert connection.read_whole() == (200, str(value).encode())
            connection.close()


def test_the_threading_module_knows_the_threads():
    app = Hypern()

    @app.get("/")
    def handler():
        thread = threading.current_thread()
        assert thread.ident == threading.get_ident()
        assert thread.is_alive()
        return {"main": thread is threading.main_thread(), "daemon": thread.daemon}

    with TestClient(app) as client:
        assert client.get("/").json() == {"main": False, "daemon": True}


def fall(depth):
    return 0 if depth == 0 else 1 + fall(depth - 1)


def fall_through_c(depth):
    """Every level is a call from Python through C to Python."""
    return 0 if depth == 0 else 1 + sum(map(fall_through_c, [depth - 1]))


def nested(depth):
    return functools.reduce(lambda inner, _: [inner], range(depth), [])


@pytest.mark.parametrize("call", [fall, fall_through_c])
def test_recursion(call, caplog):
    app = Hypern()
    depth = sys.getrecursionlimit() // 3
    app.get("/deep")(lambda: {"depth": call(depth)})
    app.get("/endless")(lambda: {"depth": call(10**9)})
    app.get("/json")(lambda: {"depth": len(json.dumps(nested(depth)))})
    with TestClient(app) as client:
        assert client.get("/deep").json() == {"depth": depth}
        assert client.get("/json").json() == {"depth": 2 * depth + 2}
        assert client.get("/endless").status_code == 500
        # The thread is still good for something.
        assert client.get("/deep").json() == {"depth": depth}
    [record] = errors_in(caplog)
    assert isinstance(record.exc_info[1], RecursionError)


# Exceptions that are meant for somebody else


ERRORS = [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration, RecursionError]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("around", ["nothing", "middleware"])
def test_a_def_handler_that_raises(error, around, caplog):
    app = Hypern()
    app.get("/after")(lambda: "still here")

    @app.get("/")
    def handler():
        raise error("secret")

    if around == "middleware":

        @app.use
        async def middleware(next):  # noqa: A002
            await next()

    with TestClient(app) as client:
        response = client.get("/")
        assert (response.status_code, response.json()) == (500, {"detail": "Internal Server Error"})
        assert client.get("/after").text == "still here"
    assert len(errors_in(caplog)) == 1


@pytest.mark.parametrize("error", ERRORS)
@within_the_first_moment
def test_a_sync_source_that_raises(error, caplog):
    app = Hypern()
    app.get("/after")(lambda: "still here")

    @app.sse("/")
    def source():
        yield "1"
        raise error("secret")

    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.request().read_head()
            assert unchunk(connection.read_rest()) == (b"data: 1\n\n", False)
        assert client.get("/after").text == "still here"
    assert len(errors_in(caplog)) == 1


def test_an_error_handler_that_raises(caplog):
    app = Hypern()
    app.get("/after")(lambda: "still here")

    @app.get("/")
    def handler():
        raise LookupError

    @app.error_handler(LookupError)
    def answer(req):
        raise {"s": SystemExit, "k": KeyboardInterrupt, "v": ValueError}[req.query("what")]

    with TestClient(app) as client:
        for what in "skv":
            response = client.get("/", params={"what": what})
            assert (response.status_code, response.json()) == (500, {"detail": "Internal Server Error"})
        assert client.get("/after").text == "still here"
    assert len(errors_in(caplog)) == 3


# Sync sources


def test_a_source_that_ignores_its_end_is_reported(caplog):
    app = Hypern()
    entered = threading.Event()

    @app.sse("/")
    def stubborn(ctx):
        while True:
            try:
                while True:
                    entered.set()
                    yield "x"
                    ctx.sleep(0.001)
            except GeneratorExit:  # noqa: PERF203
                if len(ignored) == 1:
                    raise
                ignored.append(True)

    ignored = []
    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.request()
            assert entered.wait(30)
        eventually(lambda: errors_in(caplog), "the report")
    [record] = errors_in(caplog)
    assert "ignored GeneratorExit" in str(record.exc_info[1])


def test_a_source_with_close_is_closed():
    app = Hypern()
    closed = []

    class Source:
        def __iter__(self):
            return self

        def __next__(self):
            time.sleep(0.001)
            return "x"

        def close(self):
            closed.append(threading.get_ident())

    @app.get("/")
    def handler(res):
        closed.append(threading.get_ident())
        res.sse_stream(Source())

    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.request().read_until(b"data: x\n\n")
        eventually(lambda: len(closed) == 2, "close")
    assert closed[0] == closed[1]


def test_a_queue_as_a_source():
    app = Hypern()
    items = queue.SimpleQueue()
    app.sse("/")(lambda: iter(items.get, None))
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request()
        for number in range(3):
            items.put(number)
            assert connection.read_until(b"\n\n").endswith(b"data: %d\n\n" % number)
        items.put(None)
        assert connection.read_until(b"0\r\n\r\n") == b"\r\n0\r\n\r\n"


def test_a_source_is_dropped_on_its_thread():
    """What only the source holds, such as a connection to a database, must not be torn down elsewhere."""
    app = Hypern()
    dropped = []

    class Resource:
        def __del__(self):
            dropped.append(threading.get_ident())

    @app.sse("/")
    def source():
        resource = Resource()
        while True:
            yield threading.get_ident()
            time.sleep(0.001)
            assert resource

    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.request().read_head()
            thread = int(connection.read_until(b"\n\n").partition(b"data: ")[2])
        eventually(lambda: dropped, "the drop")
    assert dropped == [thread]


def test_a_trace_function_reaches_the_threads():
    """Debuggers and coverage are installed with threading.settrace."""
    app = Hypern()
    traced = []

    @app.get("/")
    def handler():
        return "x"

    def trace(frame, event, argument):
        if frame.f_code.co_name == "handler":
            traced.append(event)

    before = threading.gettrace()
    threading.settrace(trace)
    try:
        with TestClient(app) as client:
            client.get("/")
    finally:
        threading.settrace(before)
    assert traced == ["call"]
