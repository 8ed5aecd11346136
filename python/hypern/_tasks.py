"""What the extension runs on the event loop: an async handler, an async source, an async error handler.

A task lives as long as its handler and the stream that the handler has returned, so a generator is stepped and closed
in the task and in the context that made it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine

    from hypern._hypern import Exchange, Sink, UploadStream

START: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}

# The event loop itself holds its tasks only weakly.
_running: set[asyncio.Task[None]] = set()


def start(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine as a task of its own; its first step at once where the interpreter can (3.12)."""
    task = asyncio.Task(coroutine, loop=loop, **START)
    if not task.done():
        _running.add(task)
        task.add_done_callback(_running.discard)


async def settle(seconds: float) -> None:
    """Wait until every task of the running event loop has ended, but not longer than this."""
    loop = asyncio.get_running_loop()
    if tasks := {task for task in _running if task.get_loop() is loop}:
        await asyncio.wait(tasks, timeout=seconds)


async def sleep(seconds: float, left: asyncio.Future[None]) -> bool:
    """Sleep, at most until the client has left. True if the whole time has passed."""
    done, _pending = await asyncio.wait((left,), timeout=seconds)
    return not done


async def next_chunk(upload: UploadStream) -> bytes:
    """Wait for the next chunk of an upload that is still arriving."""
    while (chunk := upload._take()) is None:
        await upload._arrival()
    return chunk


async def respond(exchange: Exchange) -> None:
    """Run an async handler and the stream that it returns."""
    try:
        sink = exchange.finish(await exchange.call())
    except BaseException as error:  # noqa: BLE001 - whatever it is, the client gets an answer
        await recover(exchange, error)
    else:
        if sink is not None:
            await pump(sink)


async def recover(exchange: Exchange, error: BaseException) -> None:
    """Answer an exception by way of the application's error handlers."""
    try:
        handling = exchange.handle_error(error)
    except BaseException as failure:  # noqa: BLE001 - see respond
        exchange.give_up(failure)
    else:
        await complete_recovery(exchange, handling)


async def complete_recovery(exchange: Exchange, handling: Awaitable[None] | None) -> None:
    """Await an async error handler, if it is one, and send what it made."""
    try:
        if handling is not None:
            await handling
        sink = exchange.finish(None)
    except BaseException as failure:  # noqa: BLE001 - see respond
        exchange.give_up(failure)
    else:
        if sink is not None:
            await pump(sink)


async def pump(sink: Sink) -> None:
    """Fill a stream from its async source, which is closed here whatever happens."""
    failure = await _drive(sink)
    if failure is None:
        sink.finish()
    elif sink.fail(failure):
        await recover(sink.exchange, failure)


async def _drive(sink: Sink) -> BaseException | None:
    """Pull the source until it ends or nobody reads any more, and close it. Returns the first thing that went wrong."""
    try:
        source = aiter(sink.source)
    except BaseException as error:  # noqa: BLE001 - it is logged, or becomes the response
        return error
    failure = await _feed(source, sink)
    sink.leave()
    failure_to_close = await _close(source)
    return failure_to_close if failure is None else failure


async def _feed(source: AsyncIterator[Any], sink: Sink) -> BaseException | None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - pump runs in a task
    sink.enter(task)
    try:
        await sink.feed(source)
    except asyncio.CancelledError as error:
        # The client has left, unless the source itself was cancelled by somebody else.
        return None if sink.closed else error
    except BaseException as error:  # noqa: BLE001 - it is logged, or becomes the response
        return error
    return None


async def _close(source: AsyncIterator[Any]) -> BaseException | None:
    close = getattr(source, "aclose", None)
    if close is None:
        return None
    try:
        await close()
    except BaseException as error:  # noqa: BLE001 - as in _feed
        return None if _is_exit(error) else error
    return None


def _is_exit(error: BaseException) -> bool:
    """Tell whether it is only what closes a generator: a task group around a yield wraps that into a group."""
    parts = getattr(error, "exceptions", None)
    return isinstance(error, GeneratorExit) if parts is None else all(map(_is_exit, parts))
