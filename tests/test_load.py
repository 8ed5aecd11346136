"""Many clients at once, and many one after the other: everybody is served, and nothing is left behind."""

import asyncio
import gc
import json
import os
import selectors
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter

import pytest

from hypern import Hypern
from hypern.testing import TestClient
from wire import HOST, PATIENCE, Connection, descriptors, eventually

CLIENTS = 1000
EVENTS = 20  # for each of them: two seconds' worth
VISITS = 10_000
AT_A_TIME = 100
PAGE = os.sysconf("SC_PAGESIZE")

REQUEST = b"GET %s HTTP/1.1\r\nhost: test\r\n\r\n"

# The server is a process of its own, so that this one's interpreter is there for the clients alone.
SERVER = """
    import asyncio, gc, json, os, sys, threading, time
    from hypern import Hypern, SSEEvent
    from hypern._tasks import _running

    app = Hypern()
    open_sources = 0
    lock = threading.Lock()

    def count(change):
        global open_sources
        with lock:
            open_sources += change

    def reading(i):
        return SSEEvent(json.dumps({"value": i * 1.5}), event="sensor_reading", id=str(i))

    @app.get("/live-data")
    def live_data(req, res):
        def generator():
            count(1)
            try:
                for i in range(int(req.query("events", "100"))):
                    yield reading(i)
                    time.sleep(0.1)
            finally:
                count(-1)
        res.sse_stream(generator())

    @app.get("/live-data-async")
    async def live_data_async(req, res):
        async def generator():
            count(1)
            try:
                for i in range(int(req.query("events", "100"))):
                    yield reading(i)
                    await asyncio.sleep(0.1)
            finally:
                count(-1)
        res.sse_stream(generator())

    @app.get("/flood")
    def flood(res):
        def generator():
            while True:
                yield b"x" * 1000
        res.stream(generator(), send_timeout=None)

    @app.get("/state")
    async def state():
        gc.collect()
        comms = []
        for task in os.listdir("/proc/self/task"):
            try:
                comms.append(open(f"/proc/self/task/{task}/comm").read().strip())
            except OSError:
                pass
        return {
            "sources": open_sources,
            "tasks": len(asyncio.all_tasks()),
            "kept_tasks": len(_running),
            "threads": comms.count("hypern-thread"),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "objects": len(gc.get_objects()),
            "resident": int(open("/proc/self/statm").read().split()[1]),
        }

    app.listen(port=0, host="127.0.0.1")
"""


class Server:
    """The process above, and what it holds when nobody is there."""

    def __init__(self, port):
        self.port = port
        self.state()
        self.calm = self.state()

    def state(self):
        with Connection(self.port) as connection:
            return json.loads(connection.request("/state").read_whole()[1])


@pytest.fixture(scope="module")
def server():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(SERVER)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        yield Server(int(process.stderr.readline().rpartition(":")[2]))
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


async def read_events(port, path):
    """Return the ids of a stream's events, and when each came; the stream must end cleanly."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(REQUEST % path.encode())
    ids, times = [], []
    while (line := await reader.readline()) != b"0\r\n":
        assert line, "the stream was cut"
        if line.startswith(b"id: "):
            ids.append(int(line[4:]))
            times.append(time.monotonic())
    writer.close()
    return ids, times


@pytest.mark.parametrize("path", ["/live-data", "/live-data-async"])
def test_a_thousand_clients_each_get_their_ten_events_a_second(server, path):
    async def everybody():
        return await asyncio.gather(*(read_events(server.port, f"{path}?events={EVENTS}") for _ in range(CLIENTS)))

    began = time.monotonic()
    results = asyncio.run(everybody())
    took = time.monotonic() - began
    for ids, times in results:
        assert ids == list(range(EVENTS))
        # Never faster than the generator.
        assert times[-1] - times[0] > 0.05 * EVENTS
    # One after the other they would take half an hour, and a hundred threads' worth at a time twenty seconds.
    assert took < 20, took
    eventually(lambda: server.state()["sources"] == 0, "the end of the sources")


def test_a_client_that_reads_nothing_does_not_hurt_the_others(server):
    idle = [Connection(server.port, receive_buffer=4096).request("/flood") for _ in range(20)]

    async def others():
        paths = ["/live-data", "/live-data-async"] * 20
        return await asyncio.gather(*(read_events(server.port, f"{path}?events=10") for path in paths))

    before = server.state()["resident"]
    results = asyncio.run(others())
    assert all(ids == list(range(10)) for ids, _ in results)
    # What they do not read is not held for them either: 64 KiB each.
    assert (server.state()["resident"] - before) * PAGE < 16 * 1024 * 1024
    for connection in idle:
        connection.close()


def visit(port, number, paths):
    """Connect a number of times, some at a time, and leave each time in the middle of the stream."""
    left = number
    with selectors.DefaultSelector() as selector:

        def connect():
            nonlocal left
            left -= 1
            connection = Connection(port).request(paths[left % len(paths)])
            connection.seen = b""
            selector.register(connection.socket, selectors.EVENT_READ, connection)

        for _ in range(AT_A_TIME):
            connect()
        while selector.get_map():
            for key, _ in selector.select(PATIENCE):
                connection = key.data
                data = connection.socket.recv(65536)
                assert data, "the stream was cut"
                connection.seen += data
                if b"data: " in connection.seen:
                    selector.unregister(connection.socket)
                    connection.close()
                    if left > 0:
                        connect()


def test_ten_thousand_visits_leave_nothing_behind(server):
    paths = ["/live-data", "/live-data-async"]
    visit(server.port, VISITS // 5, paths)
    first = settled(server)
    visit(server.port, VISITS * 4 // 5, paths)
    last = settled(server)
    assert last["tasks"] == first["tasks"]
    assert last["kept_tasks"] == first["kept_tasks"]
    assert last["objects"] < first["objects"] + 500
    assert (last["resident"] - first["resident"]) * PAGE < 8 * 1024 * 1024


def test_visitors_who_leave_before_the_answer_leave_nothing_behind(server):
    """They leave at any moment: before the handler is called, while it runs, and before its stream has begun."""
    for number in range(3000):
        connection = Connection(server.port)
        connection.request("/live-data?events=1000000" if number % 2 else "/live-data-async?events=1000000")
        if number % 5:
            connection.close()
        else:
            connection.reset()
    settled(server)


def settled(server):
    """Wait until all sources are closed and all connections too; return what is left then."""
    calm = server.calm["descriptors"]
    return eventually(lambda: (now := server.state())["sources"] == 0 and now["descriptors"] <= calm and now, "calm")


def test_threads_of_ten_thousand_visits_end(server):
    """The last in this file: the threads of the tests before it have aged meanwhile."""
    eventually(lambda: server.state()["threads"] <= 1, "the end of idle threads")


def test_servers_leave_nothing_behind():
    app = Hypern()
    app.sse("/")(lambda: iter("ab"))

    @app.sse("/async")
    async def stream():
        yield "a"
        await asyncio.sleep(0)
        yield "b"

    def serve():
        with TestClient(app) as client:
            assert client.get("/").text == client.get("/async").text == "data: a\n\ndata: b\n\n"

    def threads():
        return Counter(thread.name for thread in threading.enumerate())

    serve()
    gc.collect()
    before, threads_before = len(descriptors()), threads()
    for _ in range(20):
        serve()
    gc.collect()
    eventually(lambda: len(descriptors()) <= before, "the end of the descriptors")
    assert threads() == threads_before
