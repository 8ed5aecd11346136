"""The application: what a user registers, compiled and served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from hypern._calls import Call, resolve
from hypern._hypern import Endpoint, Server
from hypern._tasks import settle
from hypern.errors import ErrorHandlers
from hypern.routing import EVERYTHING, Route, Router, answer_miss, compile_route, preflight_routes

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = ["Hypern", "run"]

logger = logging.getLogger("hypern")

Handler = TypeVar("Handler", bound=Callable[..., Any])
Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_BY_SIGNAL = 128
LAST_MOMENT = 1.0  # seconds that the tasks of streams have left after a shutdown that took all its time


class Hypern(Router):
    """A web application: routes, middleware, error handlers and hooks, served by the Rust core.

    :param max_body_size: the largest upload in bytes that a route takes if it does not say otherwise; larger ones are
        answered with 413.
    :param max_threads: how many ``def`` handlers and sync generators may run at a time.
    :param shutdown_timeout: how many seconds open requests and streams have to end when the app stops.
    :param lifespan: an async context manager function that takes the app; it is entered before the first request and
        left after the last one.
    """

    def __init__(
        self,
        *,
        max_body_size: int = 16 * 1024 * 1024,
        max_threads: int = 4096,
        shutdown_timeout: float = 10.0,
        lifespan: Callable[[Hypern], AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        super().__init__()
        self._max_body_size = max_body_size
        self._max_threads = max_threads
        self._shutdown_timeout = shutdown_timeout
        self._lifespan = lifespan
        self._errors = ErrorHandlers()
        self._startup: list[Call] = []
        self._shutdown: list[Call] = []

    def error_handler(self, key: type[BaseException] | int, /) -> Callable[[Handler], Handler]:
        """Register what an exception (and its subclasses) or a status becomes.

        The handler takes any of req, res, ctx and error by name, and answers like any other handler. The response
        has the error's status already: that of an ``HTTPException``, else 500. A handler of ``Exception`` takes all
        that has no handler of its own, but no ``HTTPException``; one of 500 also takes errors that nobody expected.

        :raises TypeError: if the key is neither an exception class nor an int, or the handler takes something else.
        :raises ValueError: if the key is a status outside 400 to 599.
        :raises RuntimeError: if the app has started.
        """

        def register(handler: Handler) -> Handler:
            self._check_open()
            self._errors.add(key, handler)
            return handler

        return register

    def on_startup(self, hook: Handler, /) -> Handler:
        """Register a function, ``def`` or ``async def``, that runs before the first request; it may take the app.

        Hooks run in order of registration, inside the lifespan. If one raises, the app does not start.

        :raises RuntimeError: if the app has started.
        """
        self._check_open()
        self._startup.append(resolve(hook, ("app",)))
        return hook

    def on_shutdown(self, hook: Handler, /) -> Handler:
        """Register a function, ``def`` or ``async def``, that runs after the last request; it may take the app.

        Hooks run in reverse order of registration, all of them, even if one raises.

        :raises RuntimeError: if the app has started.
        """
        self._check_open()
        self._shutdown.append(resolve(hook, ("app",)))
        return hook

    def listen(self, port: int = 5000, host: str = "0.0.0.0") -> None:  # noqa: S104, a server is there to be reached
        """Serve until SIGINT or SIGTERM, then end gracefully; a second signal ends at once.

        Outside the main thread Python cannot see signals, and none ends it.

        :raises OSError: if the address cannot be bound.
        :raises ValueError: if two routes are in conflict.
        :raises SystemExit: at a second signal, with 128 and its number.
        :raises Exception: whatever the lifespan or a hook raises.
        """
        exit_code = run(self._serve_until_signal(host, port))
        if exit_code:
            sys.exit(exit_code)

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 5000,
        *,
        ready: Callable[[str, int], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Serve on the running event loop until ``stop`` is set, or the task is cancelled, then end gracefully.

        :param port: 0 for any free port.
        :param ready: called with the bound host and port once requests are accepted.
        :raises OSError: if the address cannot be bound.
        :raises ValueError: if two routes are in conflict.
        :raises Exception: whatever the lifespan or a hook raises.
        """
        server = self._compile()
        async with AsyncExitStack() as stack:
            # The last to run: tasks await what the server does for them until then.
            stack.callback(server.abort)
            address = server.bind(host, port)
            if self._lifespan is not None:
                await stack.enter_async_context(self._lifespan(self))
            for hook in self._startup:
                await self._run_hook(hook)
            for hook in self._shutdown:
                stack.push_async_callback(self._run_hook, hook)
            stack.push_async_callback(_end, server, self._shutdown_timeout)
            server.start(asyncio.get_running_loop())
            if ready is not None:
                ready(*address)
            await (stop or asyncio.Event()).wait()

    def _compile(self) -> Server:
        self.freeze()
        server = Server(
            app=self,
            on_error=self._errors.respond,
            max_threads=self._max_threads,
            shutdown_timeout=self._shutdown_timeout,
        )
        routes = list(self.routes())
        for route in [*routes, *preflight_routes(routes)]:
            endpoint = self._endpoint(route)
            for method in route.methods:
                server.add_route(method, route.path, endpoint)
        if self._layers or self._errors:
            call = Call(answer_miss, EVERYTHING, is_async=True, suspends=False)
            server.set_fallback(self._endpoint(Route((), "", call, tuple(self._layers))))
        return server

    def _endpoint(self, route: Route) -> Endpoint:
        call = compile_route(route, self._errors)
        return Endpoint(
            call.call,
            arguments=call.arguments,
            on_loop=call.is_async,
            suspends=call.suspends,
            stream_body=route.stream_body,
            max_body_size=self._max_body_size if route.max_body_size is None else route.max_body_size,
        )

    async def _run_hook(self, hook: Call) -> None:
        result = hook.call(*hook.pick((self,)))
        if hook.is_async:
            await result

    async def _serve_until_signal(self, host: str, port: int) -> int:
        stop = asyncio.Event()
        serving = asyncio.ensure_future(self.serve(host, port, ready=_announce, stop=stop))
        exit_code = 0

        def on_signal(number: int) -> None:
            nonlocal exit_code
            if stop.is_set():
                exit_code = EXIT_BY_SIGNAL + number
                serving.cancel()
            stop.set()

        with _signal_handlers(on_signal):
            try:
                await serving
            except asyncio.CancelledError:
                if not exit_code:
                    raise
        return exit_code


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in a fresh event loop: uvloop's where it installs, else asyncio's."""
    try:
        import uvloop  # noqa: PLC0415, it does not exist for every platform
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def _end(server: Server, timeout: float) -> None:
    deadline = asyncio.get_running_loop().time() + timeout
    try:
        stuck = await server.shutdown()
        await settle(max(deadline - asyncio.get_running_loop().time(), LAST_MOMENT))
    except asyncio.CancelledError:
        # Whoever cannot wait for open requests cannot wait for them behind the shutdown hooks either.
        server.abort()
        raise
    if stuck:
        logger.warning("threads still in your code after the shutdown timeout: %d; they end with the process", stuck)


def _announce(host: str, port: int) -> None:
    location = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"Hypern is listening on http://{location}:{port}\n")


@contextlib.contextmanager
def _signal_handlers(on_signal: Callable[[int], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
