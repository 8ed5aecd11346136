"""Routes, routers, and the way from a handler and its middleware to one function for each route."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from hypern._calls import HANDLER_PARAMETERS, Call, innermost, name_of, resolve
from hypern.errors import ErrorHandlers, HTTPException
from hypern.middleware import CorsMiddleware, Hook

if TYPE_CHECKING:
    from hypern._hypern import Context, Request, Response

__all__ = ["Route", "Router"]

Handler = TypeVar("Handler", bound=Callable[..., Any])
Layer: TypeAlias = "Hook | Call"

EVERYTHING = tuple(range(len(HANDLER_PARAMETERS)))
PARAMETER = re.compile(r":[^/{}:*]+|\{[^/{}*]+\}")
TAIL = re.compile(r"\{?\*.*")
NOT_FOUND, METHOD_NOT_ALLOWED = 404, 405


@dataclass(frozen=True, slots=True)
class Route:
    """A handler at a path; ``layers`` is the middleware around it, outermost first."""

    methods: tuple[str, ...]
    path: str
    call: Call
    layers: tuple[Layer, ...] = ()
    stream_body: bool = False
    max_body_size: int | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A router inside another."""

    prefix: str
    router: Router


class Router:
    """Routes and middleware that belong together; ``app.use(router)`` makes them part of an app.

    A path may hold parameters (``:id`` or ``{id}``) and end in a tail (``*path``). Static segments win over
    parameters, parameters over tails. A trailing slash makes a different path.

    :param prefix: what every path of the router starts with, such as ``"/api"``.
    :raises ValueError: if the prefix does not start with a slash, or ends with one.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = _checked_prefix(prefix)
        self._entries: list[Route | Mount] = []
        self._layers: list[Layer] = []
        self._frozen = False

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler of GET, and of HEAD if that has none of its own."""
        return self.route(path, methods=("GET",))

    def head(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler of HEAD."""
        return self.route(path, methods=("HEAD",))

    def options(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler of OPTIONS, which is otherwise answered with the methods of the path."""
        return self.route(path, methods=("OPTIONS",))

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        """Register a handler of DELETE."""
        return self.route(path, methods=("DELETE",))

    def post(
        self, path: str, *, stream_body: bool = False, max_body_size: int | None = None
    ) -> Callable[[Handler], Handler]:
        """Register a handler of POST; the options are those of ``route``."""
        return self.route(path, methods=("POST",), stream_body=stream_body, max_body_size=max_body_size)

    def put(
        self, path: str, *, stream_body: bool = False, max_body_size: int | None = None
    ) -> Callable[[Handler], Handler]:
        """Register a handler of PUT; the options are those of ``route``."""
        return self.route(path, methods=("PUT",), stream_body=stream_body, max_body_size=max_body_size)

    def patch(
        self, path: str, *, stream_body: bool = False, max_body_size: int | None = None
    ) -> Callable[[Handler], Handler]:
        """Register a handler of PATCH; the options are those of ``route``."""
        return self.route(path, methods=("PATCH",), stream_body=stream_body, max_body_size=max_body_size)

    def route(
        self,
        path: str,
        methods: Iterable[str] = ("GET",),
        *,
        stream_body: bool = False,
        max_body_size: int | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register a handler of several methods.

        The handler takes any of req, res and ctx, by these names. A ``def`` runs on a thread, an ``async def`` on the
        event loop.

        :param stream_body: call the handler before the upload is complete; it reads ``req.stream()``.
        :param max_body_size: the largest upload in bytes, instead of the app's.
        :raises TypeError: if the handler needs any other parameter, or is a generator.
        :raises ValueError: if the path does not start with a slash.
        :raises RuntimeError: if the app has started.
        """
        names = _method_names(methods)
        _check_path(path)

        def register(handler: Handler) -> Handler:
            call = resolve(handler)
            if _is_generator(handler):
                message = f"{name_of(handler)} is a generator: register it with sse(), or pass it to res.sse_stream()"
                raise TypeError(message)
            self._add(Route(names, path, call, stream_body=stream_body, max_body_size=max_body_size))
            return handler

        return register

    def sse(  # noqa: PLR0913, the options of a stream
        self,
        path: str,
        methods: Iterable[str] = ("GET",),
        *,
        ping: float | None = 15.0,
        retry: int | None = None,
        send_timeout: float | None = 30.0,
        on_error: Callable[[BaseException], Any] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register a handler that is itself the stream: a sync or async generator whose every yield is an event.

        The options are those of ``res.sse_stream``.

        :raises TypeError: if the handler needs a parameter other than req, res and ctx.
        :raises ValueError: if the path does not start with a slash.
        :raises RuntimeError: if the app has started.
        """
        options = {"ping": ping, "retry": retry, "send_timeout": send_timeout, "on_error": on_error}
        names = _method_names(methods)
        _check_path(path)

        def register(handler: Handler) -> Handler:
            self._add(Route(names, path, _streaming(handler, options)))
            return handler

        return register

    @overload
    def use(self, prefix: str, router: Router, /) -> None: ...

    @overload
    def use(self, middleware: Router | Hook | Callable[..., Any], /) -> None: ...

    def use(self, first: Any, second: Any = None, /) -> None:
        """Add middleware around every route, or the routes of a router (below a prefix, if one is given).

        Middleware is ``async def middleware(req, res, ctx, next)``: what it does before ``await next()`` comes before
        the handler, the rest after it; without ``next()`` the handler does not run. The first one registered is the
        outermost, and an app's is around a router's.

        :raises TypeError: if it is neither middleware nor a router.
        :raises ValueError: if a router would contain itself.
        :raises RuntimeError: if the app has started.
        """
        prefix, used = (first, second) if isinstance(first, str) else ("", first)
        if isinstance(used, Router):
            if self in used.routers():
                message = "a router cannot contain itself"
                raise ValueError(message)
            self._add(Mount(_checked_prefix(prefix), used))
        elif isinstance(first, str):
            message = f"below a prefix there can only be a router, got {second!r}: give a router the middleware"
            raise TypeError(message)
        else:
            self._check_open()
            self._layers.append(_as_layer(used))

    def routers(self) -> Iterator[Router]:
        """Yield this router and every router in it."""
        yield self
        for entry in self._entries:
            if isinstance(entry, Mount):
                yield from entry.router.routers()

    def routes(self, prefix: str = "", layers: tuple[Layer, ...] = ()) -> Iterator[Route]:
        """Yield every route with its whole path and all the middleware around it, in order of registration."""
        base = prefix + self._prefix
        layers = (*layers, *self._layers)
        for entry in self._entries:
            if isinstance(entry, Mount):
                yield from entry.router.routes(base + entry.prefix, layers)
            else:
                yield Route(
                    entry.methods, base + entry.path, entry.call, layers, entry.stream_body, entry.max_body_size
                )

    def freeze(self) -> None:
        """Refuse any further registration here and in the routers within: what is served is compiled."""
        for router in self.routers():
            router._frozen = True

    def _add(self, entry: Route | Mount) -> None:
        self._check_open()
        self._entries.append(entry)

    def _check_open(self) -> None:
        if self._frozen:
            message = "the app has started: register routes, middleware and handlers before it does"
            raise RuntimeError(message)


def compile_route(route: Route, errors: ErrorHandlers) -> Call:
    """Make one function of a handler and the middleware around it."""
    if not route.layers:
        return route.call
    hooks = [layer.before for layer in route.layers if isinstance(layer, Hook)]
    if len(hooks) == len(route.layers):
        return _behind_hooks(route.call, hooks)
    chain = _innermost_link(route.call)
    for layer in reversed(route.layers):
        chain = _hook_link(layer, chain) if isinstance(layer, Hook) else _link(layer, chain, errors)
    return Call(chain, EVERYTHING, is_async=True, suspends=True)


async def answer_miss(req: Request, res: Response, ctx: Context) -> None:  # noqa: ARG001
    """Answer a request that no route takes, from inside the app's middleware."""
    status, allow = req.miss or (NOT_FOUND, None)
    if allow is None:
        raise HTTPException(status)
    if status == METHOD_NOT_ALLOWED:
        raise HTTPException(status, headers={"allow": allow})
    res.status(status).header("allow", allow)


def preflight_routes(routes: Iterable[Route]) -> Iterator[Route]:
    """Yield an OPTIONS route for each path that has CORS around it and no OPTIONS route of its own.

    A preflight to such a path matches no route, and a router's middleware is only around its routes.
    """
    by_shape: dict[str, list[Route]] = {}
    for route in routes:
        by_shape.setdefault(PARAMETER.sub(":", TAIL.sub("*", route.path)), []).append(route)
    for same_path in by_shape.values():
        methods = {method for route in same_path for method in route.methods}
        for route in same_path:
            if "OPTIONS" not in methods and any(isinstance(layer, CorsMiddleware) for layer in route.layers):
                yield Route(("OPTIONS",), route.path, resolve(_options_handler(methods)), route.layers)
                break


def _options_handler(methods: set[str]) -> Callable[..., Any]:
    allow = ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))

    async def options(res: Response) -> None:
        res.status(204).header("allow", allow)

    return options


def _streaming(handler: Callable[..., Any], options: dict[str, Any]) -> Call:
    """Wrap a handler whose result is the stream.

    A sync generator starts on a thread, where it is driven; an async one on the event loop, and starting one never
    waits.
    """
    call = resolve(handler)
    if call.is_async:

        async def start_awaited(*values: Any) -> None:
            values[1].sse_stream(await call.run(values), **options)

        return Call(start_awaited, EVERYTHING, is_async=True, suspends=call.suspends)
    if inspect.isasyncgenfunction(innermost(handler)):

        async def start_on_loop(*values: Any) -> None:
            values[1].sse_stream(call.call(*call.pick(values)), **options)

        return Call(start_on_loop, EVERYTHING, is_async=True, suspends=False)

    def start(*values: Any) -> None:
        values[1].sse_stream(call.call(*call.pick(values)), **options)

    return Call(start, EVERYTHING, is_async=False, suspends=False)


def _behind_hooks(handler: Call, hooks: list[Callable[..., bool]]) -> Call:
    if handler.is_async:

        async def run_on_loop(*values: Any) -> Any:
            for before in hooks:
                if before(*values):
                    return None
            return await handler.call(*handler.pick(values))

        return Call(run_on_loop, EVERYTHING, is_async=True, suspends=handler.suspends)

    def run(*values: Any) -> Any:
        for before in hooks:
            if before(*values):
                return None
        return handler.call(*handler.pick(values))

    return Call(run, EVERYTHING, is_async=False, suspends=False)


def _innermost_link(handler: Call) -> Callable[..., Any]:
    async def run(req: Request, res: Response, ctx: Context) -> None:
        res._absorb(await handler.run((req, res, ctx)))

    return run


def _hook_link(hook: Hook, chain: Callable[..., Any]) -> Callable[..., Any]:
    async def run(req: Request, res: Response, ctx: Context) -> None:
        if not hook.before(req, res, ctx):
            await chain(req, res, ctx)

    return run


def _link(middleware: Call, chain: Callable[..., Any], errors: ErrorHandlers) -> Callable[..., Any]:
    async def run(req: Request, res: Response, ctx: Context) -> None:
        called = False

        async def next_link() -> None:
            nonlocal called
            if called:
                message = "next() was called twice: a request has one response"
                raise RuntimeError(message)
            called = True
            try:
                await chain(req, res, ctx)
            except Exception as error:
                # Middleware sees the response of an expected error; an unexpected one goes through it.
                if not errors.expects(error):
                    raise
                response = errors.respond(req, res, ctx, error)
                if response is not None:
                    await response

        res._absorb(await middleware.run((req, res, ctx, next_link)))

    return run


def _as_layer(middleware: Any) -> Layer:
    if isinstance(middleware, Hook):
        return middleware
    if isinstance(middleware, type):
        message = f"use() takes an instance: write use({middleware.__name__}())"
        raise TypeError(message)
    call = resolve(middleware, (*HANDLER_PARAMETERS, "next"))
    if not call.is_async:
        message = f"middleware is an async def that awaits next(); {name_of(middleware)} is not async"
        raise TypeError(message)
    return call


def _is_generator(handler: Callable[..., Any]) -> bool:
    inner = innermost(handler)
    return inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)


def _method_names(methods: Iterable[str]) -> tuple[str, ...]:
    if isinstance(methods, str):
        message = f"methods must be several: write methods=({methods!r},)"
        raise TypeError(message)
    return tuple(method.upper() for method in methods)


def _checked_prefix(prefix: str) -> str:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        message = f"a prefix must start with a slash and not end with one, such as '/api', got {prefix!r}"
        raise ValueError(message)
    return prefix


def _check_path(path: str) -> None:
    if path and not path.startswith("/"):
        message = f"a path must start with a slash, got {path!r}"
        raise ValueError(message)
