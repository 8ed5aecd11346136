"""Async handlers and async sources: what a task is, and what of it the user's code may rely on."""

import asyncio
import gc
import logging
import threading
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from hypern import Hypern, SSEEvent
from hypern.testing import TestClient
from wire import Connection, eventually, unchunk

variable = ContextVar("variable", default="outer")


def errors_in(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


def source_of(kind, seen):
    """A source that records the variable in its first step, its second, and its end."""

    def source():
        try:
            for number in "12":
                seen.append(variable.get())
                variable.set(f"source {number}")
                yield number
        finally:
            seen.append(variable.get())

    async def async_source():
        try:
            for number in "12":
                seen.append(variable.get())
                variable.set(f"source {number}")
                yield number
                await asyncio.sleep(0)
        finally:
            seen.append(variable.get())

    return source() if kind == "sync" else async_source()


# The context variables of a handler are those of its source


@pytest.mark.parametrize("source", ["sync", "async"])
@pytest.mark.parametrize("handler", ["def", "async def", "async def without await"])
@pytest.mark.parametrize("around", ["nothing", "middleware"])
def test_a_source_has_the_context_variables_of_its_handler(handler, source, around):
    app = Hypern()
    seen = []

    def plain(res):
        seen.append(variable.get())
        variable.set("handler")
        res.sse_stream(source_of(source, seen))

    async def suspending(res):
        await asyncio.sleep(0)
        plain(res)

    async def at_once(res):
        plain(res)

    app.get("/")({"def": plain, "async def": suspending, "async def without await": at_once}[handler])
    if around == "middleware":

        @app.use
        async def middleware(next):  # noqa: A002
            variable.set("middleware")
            await next()

    with TestClient(app) as client:
        assert client.get("/").text == "data: 1\n\ndata: 2\n\n"
        # The next request begins anew.
        assert client.get("/").text == "data: 1\n\ndata: 2\n\n"
    first = "outer" if around == "nothing" else "middleware"
    assert seen == [first, "handler", "source 1", "source 2"] * 2


def test_middleware_sees_the_context_variables_of_a_def_handler():
    app = Hypern()
    seen = []
    app.get("/")(lambda: variable.set("handler") and None)

    @app.use
    async def middleware(next):  # noqa: A002
        await next()
        seen.append(variable.get())

    with TestClient(app) as client:
        client.get("/")
    assert seen == ["handler"]


def test_an_error_handler_has_the_context_variables_of_the_handler():
    app = Hypern()

    @app.get("/def")
    def fail():
        variable.set("def")
        raise LookupError

    @app.get("/async")
    async def fail_async():
        variable.set("async")
        raise LookupError

    app.error_handler(LookupError)(lambda: variable.get())  # noqa: PLW0108
    with TestClient(app) as client:
        assert client.get("/def").text == "def"
        assert client.get("/async").text == "async"


# What asyncio and anyio need of a task


async def ticks(number=3):
    for value in range(number):
        await asyncio.sleep(0.001)
        yield value


async def double(value):
    await asyncio.sleep(0.001)
    return 2 * value


async def use_timeout():
    async with asyncio.timeout(30):
        return await double(1)


async def use_expired_timeout():
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(30)
    except TimeoutError:
        return 2


async def use_wait_for():
    return await asyncio.wait_for(double(1), 30)


async def use_task_group():
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(double(value)) for value in (0, 1)]
    return sum(task.result() for task in tasks)


async def use_anyio():
    results = []

    async def add(value):
        await anyio.sleep(0.001)
        results.append(value)

    async with anyio.create_task_group() as group:
        group.start_soon(add, 0)
        group.start_soon(add, 2)
    with anyio.move_on_after(0.01):
        await anyio.sleep(30)
    with anyio.fail_after(30):
        results.append(await anyio.to_thread.run_sync(lambda: 0))
    return sum(results)


async def use_current_task():
    task = asyncio.current_task()
    await asyncio.sleep(0)
    assert isinstance(task, asyncio.Task)
    assert asyncio.current_task() is task
    assert task in asyncio.all_tasks()
    assert task.get_coro() is not None
    return 2


USES = [
    use_timeout,
    use_expired_timeout,
    use_wait_for,
    use_task_group,
    use_anyio,
    use_current_task,
]


@pytest.mark.parametrize("use", USES)
def test_a_handler_may_use(use):
    app = Hypern()

    @app.get("/")
    async def handler():
        return {"result": await use()}

    with TestClient(app) as client:
        assert client.get("/").json() == {"result": 2}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("handler", ["def", "async def", "app.sse"])
def test_an_async_source_may_use(use, handler):
    app = Hypern()

    async def source():
        yield await use()
        yield await use()

    if handler == "def":
        app.get("/")(lambda res: res.sse_stream(source()) and None)
    elif handler == "app.sse":
        app.sse("/")(source)
    else:

        @app.get("/")
        async def stream(res):
            res.sse_stream(source())

    with TestClient(app) as client:
        assert client.get("/").text == "data: 2\n\n" * 2


async def inside_timeout(left):
    try:
        async with asyncio.timeout(3600):
            yield "1"
            await asyncio.sleep(3600)
    finally:
        left.append("timeout")


async def inside_task_group(left):
    async def child():
        try:
            await asyncio.sleep(3600)
        finally:
            left.append("child")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            await asyncio.sleep(0)
            yield "1"
            await asyncio.sleep(3600)
    finally:
        left.append("group")


async def inside_anyio(left):
    async def child():
        try:
            await anyio.sleep(3600)
        finally:
            left.append("child")

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await anyio.lowlevel.checkpoint()
            yield "1"
            await anyio.sleep(3600)
    finally:
        left.append("group")


async def inside_gather(left):
    async def child():
        try:
            await asyncio.sleep(3600)
        finally:
            left.append("child")

    # They have begun before the client has anything to leave.
    children = [asyncio.ensure_future(child()) for _ in range(2)]
    await asyncio.sleep(0)
    yield "1"
    try:
        await asyncio.gather(*children)
    finally:
        left.append("gather")


async def with_a_long_goodbye(left):
    try:
        yield "1"
        await asyncio.sleep(3600)
    finally:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(double(1))
        await double(1)
        left.append("goodbye")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (inside_timeout, ["timeout"]),
        (inside_task_group, ["child", "group"]),
        (inside_anyio, ["child", "group"]),
        (inside_gather, ["child", "child", "gather"]),
        (with_a_long_goodbye, ["goodbye"]),
    ],
)
@pytest.mark.parametrize("how", ["the client leaves", "the server stops"])
def test_a_source_is_cancelled_in_the_middle_of(source, expected, how, caplog):
    app = Hypern()
    left = []
    app.sse("/")(lambda: source(left))
    with TestClient(app) as client:
        connection = Connection(client.port).request()
        connection.read_until(b"data: 1\n\n\r\n")
        if how == "the client leaves":
            connection.close()
            eventually(lambda: left == expected, "the source's end")
    if how == "the server stops":
        assert connection.read_rest() == b"0\r\n\r\n"
        connection.close()
    assert left == expected
    assert not errors_in(caplog)


@pytest.mark.parametrize("library", [asyncio.TaskGroup, anyio.create_task_group])
def test_a_source_that_waits_for_its_client_is_closed_where_it_stands(library, caplog):
    """It is suspended at a yield then, not at an await: the task that has run it closes it."""
    app = Hypern()
    left = []

    @app.sse("/")
    async def source():
        begun = asyncio.current_task()
        try:
            async with asyncio.timeout(3600), library():
                while True:
                    yield "x" * 10_000
        finally:
            left.append(asyncio.current_task() is begun)

    with TestClient(app) as client, Connection(client.port, receive_buffer=4096) as connection:
        connection.request().read_head()
        connection.close()
        eventually(lambda: left, "the source's end")
    assert left == [True]
    assert not errors_in(caplog)


def test_a_source_that_ignores_its_cancellation_is_closed_at_its_next_item(caplog):
    app = Hypern()
    left = []

    @app.sse("/")
    async def stubborn():
        try:
            yield "1"
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                left.append("cancelled")
            while True:
                yield "2"
        finally:
            left.append("closed")

    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_until(b"data: 1\n\n\r\n")
        connection.close()
        eventually(lambda: len(left) == 2, "the source's end")
    assert left == ["cancelled", "closed"]
    assert not errors_in(caplog)


def test_a_source_whose_task_somebody_else_cancels_has_failed(caplog):
    app = Hypern()

    @app.sse("/")
    async def source():
        yield "1"
        asyncio.current_task().cancel()
        await asyncio.sleep(3600)

    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert unchunk(connection.read_rest()) == (b"data: 1\n\n", False)
    [record] = errors_in(caplog)
    assert isinstance(record.exc_info[1], asyncio.CancelledError)


def test_a_source_that_never_waits_lets_others_run():
    app = Hypern()
    done = threading.Event()

    @app.sse("/")
    async def busy():
        while not done.is_set():
            yield "x"

    @app.get("/other")
    async def other():
        await asyncio.sleep(0)
        return "x"

    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request()
        reader = threading.Thread(target=connection.read_rest)
        reader.start()
        for _ in range(10):
            assert client.get("/other").text == "x"
        done.set()
        connection.socket.shutdown(2)
        reader.join()


# Sources that are not generators


class Countdown:
    """An async iterator with nothing but the two methods."""

    def __init__(self, start):
        self.value = start

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if self.value == 0:
            raise StopAsyncIteration
        self.value -= 1
        return self.value


class Both:
    """It can be iterated either way."""

    def __iter__(self):
        return iter(["sync"])

    def __aiter__(self):
        return Countdown(1)


@pytest.mark.parametrize("handler", ["def", "async def"])
@pytest.mark.parametrize(
    ("source", "wire"),
    [
        (lambda: Countdown(2), "data: 1\n\ndata: 0\n\n"),
        (Both, "data: 0\n\n"),
        (lambda: [1, 2], "data: 1\n\ndata: 2\n\n"),
        (lambda: range(2), "data: 0\n\ndata: 1\n\n"),
        (lambda: map(str, (1, 2)), "data: 1\n\ndata: 2\n\n"),
        (lambda: (SSEEvent(letter) for letter in "ab"), "data: a\n\ndata: b\n\n"),
    ],
)
def test_any_iterable_is_a_source(handler, source, wire):
    app = Hypern()

    @app.get("/")
    def plain(res):
        res.sse_stream(source())

    @app.get("/async")
    async def suspending(res):
        await asyncio.sleep(0)
        plain(res)

    with TestClient(app) as client:
        assert client.get("/" if handler == "def" else "/async").text == wire


class Broken:
    def __aiter__(self):
        raise ValueError("no")


class BrokenSync:
    def __iter__(self):
        raise ValueError("no")


class NotAnIterator:
    def __aiter__(self):
        return 1


@pytest.mark.parametrize("source", [Broken, BrokenSync, NotAnIterator])
@pytest.mark.parametrize("handler", ["def", "async def", "async def without await"])
def test_a_source_that_cannot_be_begun_is_an_error(source, handler, caplog):
    app = Hypern()

    def plain(res):
        res.sse_stream(source())

    async def suspending(res):
        await asyncio.sleep(0)
        plain(res)

    async def at_once(res):
        plain(res)

    app.get("/")({"def": plain, "async def": suspending, "async def without await": at_once}[handler])
    with TestClient(app) as client:
        assert client.get("/").status_code == 500
    assert len(errors_in(caplog)) == 1


class FalseError(Exception):
    """An exception that is not true, as one with a length of 0."""

    def __bool__(self):
        return False


@pytest.mark.parametrize("handler", ["def", "async def"])
def test_the_first_failure_counts(handler, caplog):
    """A source whose item cannot be sent, and which fails again when it is closed."""
    app = Hypern()

    def source():
        try:
            yield "1"
            yield {"data": "", "id": 1}
        finally:
            raise FalseError

    async def async_source():
        try:
            yield "1"
            yield {"data": "", "id": 1}
        finally:
            raise FalseError

    app.sse("/")(source if handler == "def" else async_source)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert unchunk(connection.read_rest()) == (b"data: 1\n\n", False)
    [record] = errors_in(caplog)
    assert isinstance(record.exc_info[1], TypeError)


@pytest.mark.parametrize("handler", ["def", "async def"])
def test_an_error_that_is_not_true_is_an_error(handler, caplog):
    app = Hypern()

    def source():
        yield "1"
        raise FalseError

    async def async_source():
        yield "1"
        raise FalseError

    app.sse("/")(source if handler == "def" else async_source)
    with TestClient(app) as client, Connection(client.port) as connection:
        connection.request().read_head()
        assert unchunk(connection.read_rest()) == (b"data: 1\n\n", False)
    assert len(errors_in(caplog)) == 1


# Exceptions that are meant for somebody else


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
@pytest.mark.parametrize("handler", ["async def", "async def without await", "behind middleware"])
def test_an_async_handler_that_raises(error, handler, caplog):
    app = Hypern()

    async def suspending():
        await asyncio.sleep(0)
        raise error("secret")

    async def at_once():
        raise error("secret")

    app.get("/")(at_once if handler == "async def without await" else suspending)
    app.get("/after")(lambda: "still here")
    if handler == "behind middleware":

        @app.use
        async def middleware(next):  # noqa: A002
            await next()

    with TestClient(app) as client:
        response = client.get("/")
        assert (response.status_code, response.json()) == (500, {"detail": "Internal Server Error"})
        assert client.get("/after").text == "still here"
    assert len(errors_in(caplog)) == 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_an_async_source_that_raises(error, caplog):
    app = Hypern()

    @app.sse("/")
    async def source():
        yield "1"
        await asyncio.sleep(0)
        raise error("secret")

    app.get("/after")(lambda: "still here")
    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.request().read_head()
            assert unchunk(connection.read_rest()) == (b"data: 1\n\n", False)
        assert client.get("/after").text == "still here"
    assert len(errors_in(caplog)) == 1


# Error handlers


@pytest.mark.parametrize("handler", ["def", "async def", "source"])
@pytest.mark.parametrize("error_handler", ["def", "async def"])
@pytest.mark.parametrize("source", ["sync", "async"])
def test_an_error_may_be_answered_with_a_stream(handler, error_handler, source, caplog):
    app = Hypern()

    def fail():
        raise LookupError

    async def fail_async():
        await asyncio.sleep(0)
        raise LookupError

    async def fail_as_source():
        await asyncio.sleep(0)
        raise LookupError
        yield

    def answer(res):
        res.status(202).sse_stream(ticks() if source == "async" else iter(range(3)))

    async def answer_async(res):
        await asyncio.sleep(0)
        answer(res)

    if handler == "source":
        app.sse("/")(fail_as_source)
    else:
        app.get("/")(fail if handler == "def" else fail_async)
    app.error_handler(LookupError)(answer if error_handler == "def" else answer_async)
    with TestClient(app) as client:
        response = client.get("/")
    assert (response.status_code, response.text) == (202, "data: 0\n\ndata: 1\n\ndata: 2\n\n")
    assert not errors_in(caplog)


@pytest.mark.parametrize("handler", ["def", "async def"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, ValueError])
def test_an_async_error_handler_that_raises(handler, error, caplog):
    app = Hypern()

    def fail():
        raise LookupError

    async def fail_async():
        raise LookupError

    app.get("/")(fail if handler == "def" else fail_async)
    app.get("/after")(lambda: "still here")

    @app.error_handler(LookupError)
    async def answer():
        await asyncio.sleep(0)
        raise error("secret")

    with TestClient(app) as client:
        response = client.get("/")
        assert (response.status_code, response.json()) == (500, {"detail": "Internal Server Error"})
        assert client.get("/after").text == "still here"
    assert len(errors_in(caplog)) == 1


@pytest.mark.parametrize("handler", ["def", "async def"])
def test_a_log_that_fails_costs_nobody_an_answer(handler, caplog):
    app = Hypern()

    def fail():
        raise LookupError

    async def fail_async():
        await asyncio.sleep(0)
        raise LookupError

    app.get("/")(fail if handler == "def" else fail_async)
    failures = [OSError("the disk is full")]

    def full_once(_record):
        while failures:
            raise failures.pop()
        return True

    logger = logging.getLogger("hypern")
    logger.addFilter(full_once)
    try:
        with TestClient(app) as client:
            assert client.get("/").status_code == 500
    finally:
        logger.removeFilter(full_once)
    [record] = errors_in(caplog)
    assert isinstance(record.exc_info[1], OSError)


# ctx.sleep


def test_a_sleep_ends_when_the_client_leaves_an_async_handler():
    app = Hypern()
    slept = []

    @app.get("/")
    async def handler(req, ctx):
        slept.append((await ctx.sleep(0), req.disconnected))
        entered.set()
        slept.append((await ctx.sleep(3600), req.disconnected))
        slept.append(await ctx.sleep(3600))
        # Others may wait in the same way.
        slept.append(await asyncio.gather(ctx.sleep(3600), ctx.sleep(3600)))

    entered = threading.Event()
    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.request()
            assert entered.wait(30)
        eventually(lambda: len(slept) == 4, "the end of the sleeps")
    assert slept == [(True, False), (False, True), False, [False, False]]


def test_a_sleep_ends_when_the_client_leaves_a_def_handler():
    app = Hypern()
    slept = []

    @app.get("/")
    def handler(req, ctx):
        slept.append((ctx.sleep(0), req.disconnected))
        entered.set()
        slept.append((ctx.sleep(3600), req.disconnected))
        slept.append(ctx.sleep(3600))

    entered = threading.Event()
    with TestClient(app) as client:
        with Connection(client.port) as connection:
            connection.request()
            assert entered.wait(30)
        eventually(lambda: len(slept) == 3, "the end of the sleeps")
    assert slept == [(True, False), (False, True), False]


def test_a_sleep_is_cancelled_when_the_client_leaves_an_async_source():
    app = Hypern()
    seen = []

    @app.sse("/")
    async def source(req, ctx):
        try:
            assert await ctx.sleep(0.001)
            yield "1"
            await ctx.sleep(3600)
            seen.append("woken")
        except asyncio.CancelledError:
            seen.append(("cancelled", req.disconnected))
            raise

    with TestClient(app) as client:
        for _ in range(20):
            with Connection(client.port) as connection:
                connection.request().read_until(b"data: 1\n\n\r\n")
        eventually(lambda: len(seen) == 20, "the end of the sources")
    assert seen == [("cancelled", True)] * 20


def test_a_sleep_in_a_loop_of_the_users_own():
    app = Hypern()

    @app.get("/")
    def handler(ctx):
        async def main():
            return await ctx.sleep(0.001)

        return {"slept": asyncio.run(main())}

    with TestClient(app) as client:
        assert client.get("/").json() == {"slept": True}


def test_sleeps_leave_nothing_behind():
    app = Hypern()
    counts = []

    @app.get("/")
    async def handler(ctx):
        for _ in range(3):
            for _ in range(200):
                await ctx.sleep(0)
            gc.collect()
            counts.append(sum(isinstance(each, asyncio.Future) for each in gc.get_objects()))

    with TestClient(app) as client:
        client.get("/")
    assert counts[0] + 5 > counts[-1]


def test_an_async_goodbye_at_shutdown_may_take_its_time(caplog):
    """What a source awaits in its `finally` works to the end, although no client is left."""
    app = Hypern()
    seen = []

    @app.sse("/")
    async def source(ctx):
        try:
            yield "1"
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.3)
            seen.append(await ctx.sleep(0.001))
            seen.append("closed")

    with TestClient(app) as client:
        connection = Connection(client.port).request()
        connection.read_until(b"data: 1\n\n\r\n")
    connection.close()
    assert seen == [False, "closed"]
    assert not errors_in(caplog)
