"""The end of a process: signals, open streams, hooks, exit codes."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from wire import PATIENCE, Connection, eventually, refuses

STREAMS = 5
AT_ONCE = 8.0  # seconds; far less than any deadline that is not meant to be reached

# Every stream writes a line when it ends, and the hooks and the lifespan too. What is written to standard error besides
# them is a mistake.
PROGRAM = """
    import asyncio, itertools, os, sys, threading, time
    from contextlib import asynccontextmanager
    from hypern import Hypern

    def say(what):
        os.write(1, f"{what}\\n".encode())

    @asynccontextmanager
    async def lifespan(app):
        say("enter")
        yield
        say("leave")

    app = Hypern(shutdown_timeout=float(sys.argv[1]), lifespan=lifespan)

    @app.on_startup
    def startup():
        say("startup")

    @app.on_shutdown
    async def shutdown():
        await asyncio.sleep(0)
        say("shutdown")

    def sleeping(ctx):
        try:
            while True:
                yield "x"
                time.sleep(0.05)
        finally:
            say("closed sleeping")

    def waiting(ctx):
        try:
            yield "x"
            while ctx.sleep(3600):
                yield "x"
        finally:
            say("closed waiting")

    async def idle(ctx):
        try:
            yield "x"
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            say("closed idle")

    async def busy(ctx):
        try:
            while True:
                yield "x"
                await asyncio.sleep(0)
        finally:
            say("closed busy")

    for source in (sleeping, waiting, idle, busy):
        app.sse(f"/events/{source.__name__}")(source)

        def chunks(res, ctx, source=source):
            res.stream(source(ctx))

        async def chunks_from_loop(res, ctx, source=source):
            await asyncio.sleep(0)
            res.stream(source(ctx))

        app.get(f"/chunks/{source.__name__}")(chunks)
        app.get(f"/crossed/{source.__name__}")(chunks_from_loop)

    @app.get("/stuck")
    def stuck():
        say("stuck")
        while True:
            time.sleep(0.001)

    @app.get("/computing")
    def computing():
        say("stuck")
        while True:
            pass

    @app.sse("/stuck-source")
    def stuck_source():
        yield "x"
        say("stuck")
        while True:
            time.sleep(0.001)

    @app.get("/slow")
    def slow():
        say("slow")
        time.sleep(0.5)
        return "done"

    @app.get("/slow-async")
    async def slow_async():
        say("slow")
        await asyncio.sleep(0.5)
        return "done"

    @app.get("/hanging")
    async def hanging():
        say("stuck")
        await asyncio.sleep(3600)

    app.get("/")(lambda: "here")
    app.listen(port=0, host="127.0.0.1")
    say("after listen")
"""

BEGIN = ["enter", "startup"]
END = ["shutdown", "leave", "after listen"]


class Program:
    """The program above as a process of its own."""

    def __init__(self, process):
        self.process = process
        self.port = int(process.stderr.readline().rpartition(":")[2])
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(map(str.strip, process.stdout)))
        self.reader.start()

    def heard(self, line, number=1):
        eventually(lambda: self.lines.count(line) == number, line)

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        """Wait for the end of the process; return its exit code, what it said and its errors."""
        code = self.process.wait(PATIENCE)
        self.reader.join()
        return code, self.lines, self.process.stderr.read()


@contextmanager
def program(shutdown_timeout=10.0):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(shutdown_timeout)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        running = Program(process)
        try:
            yield running
        finally:
            process.kill()
            running.reader.join()


@contextmanager
def open_streams(port, path, number=STREAMS):
    """Clients that have received the first item."""
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(port)) for _ in range(number)]
        for connection in connections:
            connection.request(path)
        for connection in connections:
            connection.read_head()
            connection.read_until(b"x")
        yield connections


signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
sources = pytest.mark.parametrize("source", ["sleeping", "waiting", "idle", "busy"])


@signals
@sources
def test_endless_event_streams_end_cleanly(number, source):
    with program() as running, open_streams(running.port, f"/events/{source}") as connections:
        began = time.monotonic()
        running.signal(number)
        for connection in connections:
            # The rest of the first chunk, and maybe more.
            assert connection.read_rest().endswith(b"\n\n\r\n0\r\n\r\n")
        assert running.end() == (0, [*BEGIN, *[f"closed {source}"] * STREAMS, *END], "")
        assert time.monotonic() - began < AT_ONCE


@pytest.mark.parametrize("kind", ["chunks", "crossed"])
@sources
def test_endless_chunks_are_cut_at_the_deadline(kind, source):
    with program(0.3) as running, open_streams(running.port, f"/{kind}/{source}") as connections:
        running.signal(signal.SIGTERM)
        for connection in connections:
            assert not connection.read_rest().endswith(b"0\r\n\r\n")
        code, lines, errors = running.end()
    assert (code, lines) == (0, [*BEGIN, *[f"closed {source}"] * STREAMS, *END])
    assert errors in {"", "the shutdown deadline is over\n"}


def test_all_kinds_at_once():
    kinds = [f"/events/{source}" for source in ("sleeping", "waiting", "idle", "busy")]
    with program() as running, ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(open_streams(running.port, kind))
        running.signal(signal.SIGTERM)
        code, lines, errors = running.end()
    assert (code, errors) == (0, "")
    assert sorted(lines[2:-3]) == sorted(f"closed {kind.rpartition('/')[2]}" for kind in kinds for _ in range(STREAMS))
    assert lines[-3:] == END


@pytest.mark.parametrize("path", ["/slow", "/slow-async"])
def test_open_requests_are_answered(path):
    with program() as running, Connection(running.port) as connection:
        connection.request(path)
        running.heard("slow")
        running.signal(signal.SIGTERM)
        status, _ = connection.read_head()
        assert status == 200
        assert connection.read_rest() == b"done"
        assert running.end() == (0, [*BEGIN, "slow", *END], "")


def test_no_new_connection_is_taken():
    with program() as running, open_streams(running.port, "/chunks/waiting", 1), Connection(running.port) as idle:
        assert idle.request().read_whole() == (200, b"here")
        running.signal(signal.SIGTERM)
        # An idle connection is closed at once, although a stream goes on.
        assert idle.read_rest() == b""
        assert refuses(running.port)


@pytest.mark.parametrize("path", ["/stuck", "/computing", "/stuck-source"])
def test_threads_that_do_not_end_do_not_hold_up_the_process(path):
    number = 1 if path == "/computing" else 20
    with program(0.2) as running, ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(Connection(running.port)).request(path)
        running.heard("stuck", number)
        running.signal(signal.SIGTERM)
        code, lines, errors = running.end()
    assert (code, lines) == (0, [*BEGIN, *["stuck"] * number, *END])
    assert errors == f"threads still in your code after the shutdown timeout: {number}; they end with the process\n"


def test_an_async_handler_that_does_not_end_does_not_hold_up_the_process():
    with program(0.2) as running, Connection(running.port) as connection:
        connection.request("/hanging")
        running.heard("stuck")
        running.signal(signal.SIGTERM)
        assert connection.read_rest() == b""
        code, lines, _ = running.end()
    assert (code, lines) == (0, [*BEGIN, "stuck", *END])


@signals
@pytest.mark.parametrize("path", ["/chunks/sleeping", "/chunks/idle", "/chunks/waiting", "/chunks/busy"])
def test_a_second_signal_ends_at_once(number, path):
    with program(3600) as running, open_streams(running.port, path) as connections:
        began = time.monotonic()
        running.signal(number)
        eventually(lambda: refuses(running.port), "the first signal is heard")
        running.signal(number)
        for connection in connections:
            assert not connection.read_rest().endswith(b"0\r\n\r\n")
        code, lines, _ = running.end()
        assert time.monotonic() - began < AT_ONCE
    assert code == 128 + number
    assert lines[: len(BEGIN)] == BEGIN
    assert "after listen" not in lines


def test_a_killed_process_ends_no_stream_cleanly():
    with program() as running, open_streams(running.port, "/events/busy") as connections:
        running.process.kill()
        for connection in connections:
            assert not connection.read_rest().endswith(b"0\r\n\r\n")
        assert running.process.wait(PATIENCE) == -signal.SIGKILL
