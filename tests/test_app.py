"""The life of an app: hooks, signals, and what it says of itself."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from hypern import Hypern, Router
from hypern.app import run
from hypern.testing import TestClient

HOST = "127.0.0.1"


def app_with_hooks(calls):
    @asynccontextmanager
    async def lifespan(app):
        calls.append(f"enter {app is application}")
        try:
            yield
        finally:
            calls.append("leave")

    application = Hypern(lifespan=lifespan)

    @application.on_startup
    def first():
        calls.append("first")

    @application.on_startup
    async def second(app):
        await asyncio.sleep(0)
        calls.append(f"second {app is application}")

    @application.on_shutdown
    async def last(app):
        await asyncio.sleep(0)
        calls.append(f"last {app is application}")

    @application.on_shutdown
    def last_but_one():
        calls.append("last but one")

    application.get("/")(lambda: calls.append("request"))
    return application


STARTED = ["enter True", "first", "second True"]
ENDED = ["last but one", "last True", "leave"]


def test_hooks_run_in_order_around_the_requests():
    calls = []
    with TestClient(app_with_hooks(calls)) as client:
        assert calls == STARTED
        client.get("/")
    assert calls == [*STARTED, "request", *ENDED]


def test_an_app_may_be_served_again():
    calls = []
    app = app_with_hooks(calls)
    for _ in range(2):
        with TestClient(app):
            pass
    assert calls == [*STARTED, *ENDED] * 2


def test_a_failed_startup_leaves_the_lifespan_and_frees_the_port():
    calls = []
    app = app_with_hooks(calls)
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]

    @app.on_startup
    async def fail():
        message = "no database"
        raise ConnectionError(message)

    for _ in range(2):
        with pytest.raises(ConnectionError, match="no database"):
            asyncio.run(app.serve(HOST, port))
    assert calls == [*STARTED, "leave"] * 2


def test_every_shutdown_hook_runs_even_if_one_raises():
    calls = []
    app = app_with_hooks(calls)

    @app.on_shutdown
    def fail():
        raise ConnectionError

    with pytest.raises(ConnectionError), TestClient(app):
        pass
    assert calls == [*STARTED, *ENDED]


def test_no_request_is_accepted_before_the_hooks_have_run():
    app = Hypern()
    order = []

    @app.on_startup
    async def slow():
        await asyncio.sleep(0.2)
        order.append("started")

    app.get("/")(lambda: order.append("request"))

    async def main():
        ready, stop = asyncio.Event(), asyncio.Event()
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        serving = asyncio.ensure_future(app.serve(HOST, port, ready=lambda *_: ready.set(), stop=stop))
        await asyncio.sleep(0.05)
        # The listener is bound, so the request waits in its backlog.
        response = await asyncio.to_thread(httpx.get, f"http://{HOST}:{port}/", trust_env=False)
        await ready.wait()
        stop.set()
        await serving
        return response

    assert run(main()).status_code == 200
    assert order == ["started", "request"]


def test_a_port_in_use_is_an_error():
    app = Hypern()
    with TestClient(app) as client, pytest.raises(OSError, match=str(client.port)):
        asyncio.run(Hypern().serve(HOST, client.port))


def test_a_cancelled_server_ends_gracefully():
    calls = []
    app = app_with_hooks(calls)

    async def main():
        ready = asyncio.Event()
        serving = asyncio.ensure_future(app.serve(HOST, 0, ready=lambda *_: ready.set()))
        await ready.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    run(main())
    assert calls == [*STARTED, *ENDED]


def test_nothing_is_registered_once_the_app_has_started():
    app, router = Hypern(), Router()
    app.use("/api", router)
    with TestClient(app):
        pass

    async def middleware(next):  # noqa: A002
        await next()

    registrations = [
        lambda: app.get("/")(lambda: None),
        lambda: router.get("/")(lambda: None),
        lambda: app.sse("/")(lambda: None),
        lambda: app.use(middleware),
        lambda: router.use(middleware),
        lambda: app.use(Router()),
        lambda: app.error_handler(404)(lambda: None),
        lambda: app.on_startup(lambda: None),
        lambda: app.on_shutdown(lambda: None),
    ]
    for register in registrations:
        with pytest.raises(RuntimeError, match="the app has started"):
            register()


def test_a_hook_takes_the_app_or_nothing():
    with pytest.raises(TypeError, match="needs a parameter 'db'; it may take app"):
        Hypern().on_startup(lambda db: None)


def test_a_context_knows_its_app():
    app = Hypern()
    app.name = "mine"
    app.get("/")(lambda ctx: ctx.app.name)
    with TestClient(app) as client:
        assert client.get("/").text == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_app_gracefully(number, capsys):
    calls = []
    app = app_with_hooks(calls)
    app.on_startup(lambda: os.kill(os.getpid(), number))
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    app.listen(port=0, host=HOST)
    assert calls == [*STARTED, *ENDED]
    assert capsys.readouterr().err.startswith(f"Hypern is listening on http://{HOST}:")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_an_address_of_ipv6_is_a_url(capsys):
    app = Hypern()
    app.on_startup(lambda: os.kill(os.getpid(), signal.SIGTERM))
    app.listen(port=0, host="::1")
    assert capsys.readouterr().err.startswith("Hypern is listening on http://[::1]:")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_second_signal_ends_it_at_once(loop, monkeypatch):
    if loop == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    app = Hypern()
    app.on_startup(lambda: os.kill(os.getpid(), signal.SIGTERM))

    @app.on_shutdown
    async def hang():
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    started = time.monotonic()
    with pytest.raises(SystemExit) as exited:
        app.listen(port=0, host=HOST)
    assert exited.value.code == 128 + signal.SIGINT
    assert time.monotonic() - started < 10


def test_a_second_signal_does_not_wait_for_open_requests(monkeypatch):
    app = Hypern(shutdown_timeout=60)
    entered, leave = threading.Event(), threading.Event()

    @app.get("/")
    def stuck():
        entered.set()
        leave.wait(30)

    def interrupt(port):
        with socket.create_connection((HOST, port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            entered.wait(10)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGTERM)
            leave.wait(30)

    threads = []

    def announce(_host, port):
        threads.append(threading.Thread(target=interrupt, args=(port,)))
        threads[0].start()

    monkeypatch.setattr("hypern.app._announce", announce)
    started = time.monotonic()
    with pytest.raises(SystemExit) as exited:
        app.listen(port=0, host=HOST)
    assert time.monotonic() - started < 10
    leave.set()
    threads[0].join()
    assert exited.value.code == 128 + signal.SIGTERM


def test_a_failed_startup_comes_out_of_listen_in_any_thread():
    app = Hypern()

    @app.on_startup
    async def fail():
        message = "no database"
        raise ConnectionError(message)

    raised = []

    def listen():
        try:
            app.listen(port=0, host=HOST)
        except ConnectionError as error:
            raised.append(str(error))

    listen()
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert raised == ["no database"] * 2


def test_a_cancellation_that_is_no_signal_comes_out_of_listen():
    app = Hypern()

    @app.on_startup
    async def cancel():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        app.listen(port=0, host=HOST)


def test_threads_that_do_not_end_are_counted(caplog):
    app = Hypern(shutdown_timeout=0.2)
    entered, leave = threading.Event(), threading.Event()

    @app.get("/")
    def stuck():
        entered.set()
        leave.wait(30)

    def ask(port):
        with socket.create_connection((HOST, port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            leave.wait(30)

    with caplog.at_level(logging.WARNING, logger="hypern"):
        with TestClient(app) as client:
            asking = threading.Thread(target=ask, args=(client.port,))
            asking.start()
            assert entered.wait(10)
        leave.set()
        asking.join()
    [message] = [record.getMessage() for record in caplog.records]
    assert message == "threads still in your code after the shutdown timeout: 1; they end with the process"


def test_a_stream_ends_cleanly_when_the_app_stops():
    app = Hypern()
    closed = threading.Event()

    @app.sse("/")
    async def events(ctx):
        try:
            while True:
                yield "again"
                await ctx.sleep(0.01)
        finally:
            closed.set()

    received = []

    def read(url):
        with httpx.stream("GET", url, trust_env=False) as response:
            received.extend(response.iter_raw())
        received.append("clean end")

    with TestClient(app) as client:
        reader = threading.Thread(target=read, args=(client.base_url,))
        reader.start()
        deadline = time.monotonic() + 10
        while not received and time.monotonic() < deadline:
            time.sleep(0.01)
    reader.join()
    assert received[0] == b"data: again\n\n"
    assert received[-1] == "clean end"
    assert closed.is_set()


async def which_loop():
    return type(asyncio.get_running_loop()).__module__


def test_the_event_loop_is_uvloops_where_it_installs(monkeypatch):
    assert run(which_loop()).startswith("uvloop")
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run(which_loop()).startswith("asyncio")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_both_event_loops_serve(loop, monkeypatch):
    if loop == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    app = Hypern()

    @app.get("/")
    async def which():
        return await which_loop()

    with TestClient(app) as client:
        assert client.get("/").text.startswith(loop)


def test_the_process_of_a_signalled_app_exits_with_0():
    program = (
        "from hypern import Hypern\n"
        "app = Hypern()\n"
        "@app.sse('/')\n"
        "def events(ctx):\n"
        "    while ctx.sleep(0.01):\n"
        "        yield 'again'\n"
        "app.listen(port=0, host='127.0.0.1')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        url = process.stderr.readline().rpartition(" ")[2].strip()
        with httpx.stream("GET", url, trust_env=False) as response:
            chunks = response.iter_raw()
            assert next(chunks) == b"data: again\n\n"
            process.send_signal(signal.SIGTERM)
            for chunk in chunks:
                assert chunk.endswith(b"\n\n")
        assert process.wait(10) == 0


def test_the_process_of_an_app_that_cannot_start_exits_with_1():
    program = (
        "from hypern import Hypern\n"
        "app = Hypern()\n"
        "@app.on_startup\n"
        "def fail():\n"
        "    raise ConnectionError('no database')\n"
        "app.listen(port=0, host='127.0.0.1')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "ConnectionError: no database" in done.stderr
