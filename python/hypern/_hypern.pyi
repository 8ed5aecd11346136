"""The Rust extension. Everything here that a user needs is exported by ``hypern`` itself."""

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from datetime import datetime
from os import PathLike
from typing import Any, Literal, TypeAlias, TypeVar, final, overload

from typing_extensions import Self, disjoint_base

from hypern.app import Hypern
from hypern.forms import Form
from hypern.sse import SSEComment

__all__ = [
    "Context",
    "Endpoint",
    "Exchange",
    "Feeder",
    "Headers",
    "Request",
    "Response",
    "SSEEvent",
    "Server",
    "Sink",
    "UploadStream",
    "run_on_thread",
]

_T = TypeVar("_T")
_Chunk: TypeAlias = bytes | bytearray | memoryview | str
_ErrorCallback: TypeAlias = Callable[[BaseException], Any]

@disjoint_base
class SSEEvent:
    """One event of an event stream. Source: the HTML standard, section 9.2.

    :param data: the payload. A str is sent verbatim, one ``data:`` line for each of its lines (split on CR LF, CR and
        LF, and on nothing else); any other value is sent as JSON.
    :param id: what a client that reconnects sends as ``Last-Event-ID``; ``""`` resets it.
    :param event: the name under which a browser dispatches it, ``message`` if None.
    :param retry: for how many milliseconds a client is to wait before it reconnects.
    :raises TypeError: if id or event is not a str, or retry is not an int.
    :raises ValueError: if id or event holds a line break or NUL, retry is negative, or a str cannot be UTF-8; the
        message names the field.
    """

    def __new__(
        cls, data: Any, *, id: str | None = None, event: str | None = None, retry: int | None = None
    ) -> Self: ...
    @property
    def data(self) -> Any:
        """The payload, as it was given."""
    @property
    def id(self) -> str | None:
        """The id, or None."""
    @property
    def event(self) -> str | None:
        """The event's name, or None."""
    @property
    def retry(self) -> int | None:
        """The reconnection time in milliseconds, or None."""
    def format(self) -> str:
        """Return the wire text: ``id``, ``event``, ``retry``, ``data``, each if it is there, then a blank line.

        :raises TypeError: if the data is neither a str nor a JSON value.
        """
    def to_bytes(self) -> bytes:
        """Return the wire text in UTF-8; raises what ``format`` raises."""
    @staticmethod
    def comment(text: str) -> SSEComment:
        """Return a comment: a str to concatenate into a body, or to yield into a stream."""
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]

@final
class Headers(Mapping[str, str]):
    """The headers of a request: a read-only mapping whose keys are case-insensitive (RFC 9110 section 5.1).

    Iteration yields each name once, in lower case. A value with bytes outside ASCII is read as ISO-8859-1.
    """

    def __getitem__(self, name: str, /) -> str:
        """Return the first value of a header.

        :raises KeyError: if the request has no such header.
        """
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: _T, /) -> str | _T: ...
    def get_all(self, name: str) -> list[str]:
        """Return every value of a header, in order; an empty list if there is none."""

@final
class UploadStream:
    """The chunks of an upload, to be read once: iterate it in a ``def``, or with ``async for`` in an ``async def``."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def __aiter__(self) -> UploadStream: ...
    def __anext__(self) -> Awaitable[bytes]: ...
    def _take(self) -> bytes | None:
        """Return the next chunk of a live upload if it is here; only on the event loop.

        :raises StopAsyncIteration: at the upload's end.
        :raises ConnectionError: if the upload was cut.
        """
    def _arrival(self) -> Awaitable[None]:
        """Wait until there may be something to take."""

@final
class Request:
    """What the client asks for."""

    @property
    def method(self) -> str:
        """The method, in upper case, such as ``"GET"``."""
    @property
    def path(self) -> str:
        """The path without the query, percent-decoded if that gives UTF-8."""
    @property
    def url(self) -> str:
        """The whole URL, made of the Host header and the request target as it came."""
    @property
    def version(self) -> Literal["1.0", "1.1", "2"]:
        """The version of HTTP."""
    @property
    def client(self) -> tuple[str, int]:
        """The address and port of the peer, which may be a proxy's."""
    @property
    def params(self) -> dict[str, str]:
        """The path's parameters, percent-decoded."""
    @overload
    def param(self, name: str) -> str | None:
        """Return a parameter of the path, or the default (None)."""
    @overload
    def param(self, name: str, default: _T) -> str | _T: ...
    @property
    def query_params(self) -> dict[str, str]:
        """The first value of each name in the query, percent-decoded."""
    @overload
    def query(self, name: str) -> str | None:
        """Return the first value of a name in the query, or the default (None)."""
    @overload
    def query(self, name: str, default: _T) -> str | _T: ...
    def query_all(self, name: str) -> list[str]:
        """Return every value of a name in the query, in order; an empty list if there is none."""
    @property
    def headers(self) -> Headers:
        """The headers, as a mapping."""
    @overload
    def header(self, name: str) -> str | None:
        """Return the first value of a header, whatever the name's case, or the default (None)."""
    @overload
    def header(self, name: str, default: _T) -> str | _T: ...
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies. Source: RFC 6265 section 5.4."""
    @overload
    def cookie(self, name: str) -> str | None:
        """Return a cookie, or the default (None)."""
    @overload
    def cookie(self, name: str, default: _T) -> str | _T: ...
    def body(self) -> bytes:
        """Return the whole upload.

        :raises RuntimeError: on a route with ``stream_body=True``.
        """
    def text(self) -> str:
        """Return the upload as text.

        :raises HTTPException: 400 if it is not UTF-8.
        :raises RuntimeError: on a route with ``stream_body=True``.
        """
    @overload
    def json(self, type: None = None) -> Any:
        """Return the upload decoded from JSON, whatever its content type.

        :param type: any type that msgspec decodes (a Struct, dataclass, TypedDict, ``list[int]``); the value is then
            validated.
        :raises HTTPException: 400 if it is not JSON, and says where; 422 if it is not of the type.
        :raises RuntimeError: on a route with ``stream_body=True``.
        """
    @overload
    def json(self, type: type[_T]) -> _T: ...
    def form(self) -> Form:
        """Return the upload decoded as a URL-encoded or multipart form.

        :raises HTTPException: 400 if it is malformed; 415 if the content type is not that of a form.
        :raises RuntimeError: on a route with ``stream_body=True``.
        """
    def stream(self) -> UploadStream:
        """Return the upload chunk by chunk: as it arrives with ``stream_body=True``, else in pieces of 64 KiB."""
    @property
    def last_event_id(self) -> str | None:
        """Where to resume: the ``Last-Event-ID`` header, else the query's ``lastEventId`` or ``last_event_id``.

        None if there is none, or it is empty. Source: the HTML standard, section 9.2.4.
        """
    @property
    def disconnected(self) -> bool:
        """Whether the client has left."""
    @property
    def miss(self) -> tuple[int, str | None] | None:
        """Why no route took the request; None if one did.

        ``(404, None)``, ``(405, allow)``, or ``(204, allow)`` for OPTIONS on a known path; allow is the value of the
        Allow header (RFC 9110 section 10.2.1).
        """

@final
class Response:
    """What the client gets. Every method that sets something returns the response, so calls can be chained."""

    @property
    def status_code(self) -> int:
        """The status code."""
    @property
    def started(self) -> bool:
        """Whether there is a body: something was sent, streamed or redirected."""
    def get_header(self, name: str) -> str | None:
        """Return the first value of a header that was set, whatever the name's case, or None."""
    def status(self, code: int) -> Self:
        """Set the status code.

        :raises ValueError: if it is not 200 to 599.
        """
    def header(self, name: str, value: str) -> Self:
        """Set a header, in place of any value it has.

        :raises ValueError: if the name is not a token, or the value holds a line break or NUL (RFC 9110 section 5).
        """
    def append_header(self, name: str, value: str) -> Self:
        """Add a value to a header; raises what ``header`` raises."""
    def headers(self, headers: Mapping[str, str]) -> Self:
        """Set several headers; raises what ``header`` raises."""
    def type(self, content_type: str) -> Self:
        """Set the content type; raises what ``header`` raises."""
    def cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        expires: datetime | str | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        http_only: bool = False,
        same_site: Literal["strict", "lax", "none"] | None = None,
    ) -> Self:
        """Set a cookie (RFC 6265 section 4.1).

        :param max_age: for how many seconds it lives; for the session if neither this nor expires is given.
        :raises ValueError: if the name, the value or an attribute cannot be sent; the message names it.
        """
    def clear_cookie(self, name: str, *, path: str = "/", domain: str | None = None) -> Self:
        """Delete a cookie; path and domain must be those it was set with."""
    def json(self, value: Any) -> Self:
        """Send a value as JSON.

        :raises TypeError: if it cannot be JSON; the message names the type.
        """
    def text(self, text: str) -> Self:
        """Send plain text."""
    def html(self, html: str) -> Self:
        """Send HTML."""
    def send(self, content: Any = None) -> Self:
        """Send a str (plain text), bytes (octets), None (nothing), or any other value (JSON).

        A content type that was set before is kept.

        :raises TypeError: if the value cannot be JSON.
        """
    def redirect(self, url: str, status: int = 302) -> Self:
        """Send the client to another URL.

        :raises ValueError: if the status is not a redirect (300 to 399), or the URL cannot be a header.
        """
    def file(self, path: str | PathLike[str], *, content_type: str | None = None) -> Self:
        """Send a file, with ranges and conditions (RFC 9110 sections 13 and 14); 404 if it is not there.

        :param path: used as it is: never pass what a client sent without a check.
        :param content_type: guessed from the name if None.
        """
    def download(self, path: str | PathLike[str], filename: str | None = None) -> Self:
        """Send a file that the browser saves (RFC 6266).

        :param filename: the name to save it under, the path's own if None; any text is safe.
        """
    def sse(self, events: Iterable[Any]) -> Self:
        """Send all the events at once, as one whole body; each may be whatever ``sse_stream`` accepts.

        :raises TypeError: if the events are not iterable, or one cannot be sent.
        :raises ValueError: if a field of one is invalid.
        """
    def sse_event(
        self, data: Any, *, event: str | None = None, id: str | None = None, retry: int | None = None
    ) -> Self:
        """Send a single event; raises what ``SSEEvent`` raises."""
    def sse_stream(
        self,
        source: Iterable[Any] | AsyncIterable[Any],
        *,
        ping: float | None = 15.0,
        retry: int | None = None,
        send_timeout: float | None = 30.0,
        on_error: _ErrorCallback | None = None,
    ) -> Self:
        """Stream events as the source yields them.

        The source may yield SSEEvent, SSEComment, str (the data of an event), a mapping with ``data`` and nothing but
        ``id``, ``event`` and ``retry`` beside it, an object with a ``data`` attribute, None (nothing is sent), or any
        other value (JSON data). It is closed when the client leaves. An error in it ends the connection without a
        clean end, and its text stays on the server.

        :param ping: after how many seconds of silence a keep-alive goes out; None for never.
        :param retry: what to tell clients first about how many milliseconds to wait before they reconnect.
        :param send_timeout: after how many seconds a client that takes nothing is dropped; None for never.
        :param on_error: called with an error of the source; what it returns is the last event, if not None.
        :raises TypeError: if the source is not iterable.
        :raises ValueError: if ping or send_timeout is not positive, or retry is negative.
        """
    def sse_headers(self) -> Self:
        """Set the headers of an event stream, for a body of your own."""
    def stream(
        self,
        content: Iterable[_Chunk] | AsyncIterable[_Chunk],
        *,
        content_type: str | None = None,
        send_timeout: float | None = 30.0,
    ) -> Self:
        """Stream chunks as the content yields them; a single bytes or str is one chunk.

        :param content_type: if None, the one set before, else application/octet-stream.
        :param send_timeout: after how many seconds a client that takes nothing is dropped; None for never.
        :raises TypeError: if the content is not iterable.
        :raises ValueError: if send_timeout is not positive.
        """
    def _absorb(self, value: Any) -> None:
        """Take a handler's return value as the body; None and the response itself change nothing.

        :raises TypeError: if it cannot be a body; a generator's message says how to stream it.
        """
    def _compress(self, encodings: list[str], minimum_size: int) -> None:
        """Let the body be compressed, once it is known what it is."""
    def _reset(self) -> None:
        """Drop the body and what describes it, for an error response; the status is 200, other headers stay."""

@final
class Context:
    """A place for values that live as long as the request; any attribute may be set."""

    @property
    def app(self) -> Hypern:
        """The app that serves the request."""
    @property
    def request_id(self) -> str:
        """An id of the request's own: 32 hexadecimal digits."""
    @overload
    def get(self, name: str) -> Any:
        """Return a value, or the default (None)."""
    @overload
    def get(self, name: str, default: _T) -> Any | _T: ...
    def set(self, name: str, value: Any) -> None:
        """Set a value; it is an attribute too."""
    def sleep(self, seconds: float) -> Any:
        """Wait, but no longer than the client stays.

        In a ``def`` it blocks and returns the outcome, in an ``async def`` the outcome is awaited: True if the whole
        time has passed, False if the client has left.

        :raises ValueError: if the time is negative.
        """
    def __contains__(self, name: object, /) -> bool: ...
    def __getattr__(self, name: str, /) -> Any: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...

@final
class Endpoint:
    """What a route calls.

    :param call: takes the arguments by position.
    :param arguments: which of (req, res, ctx) = (0, 1, 2) to pass, in order.
    :param on_loop: whether it runs on the event loop and returns an awaitable, or on a thread of the pool.
    :param suspends: whether its awaitable may have to wait; if not, it is stepped without a Task.
    :param stream_body: whether it is called before the upload is complete.
    :param max_body_size: the largest upload in bytes; larger ones are answered with 413.
    """

    def __new__(
        cls,
        call: Callable[..., Any],
        *,
        arguments: tuple[int, ...],
        on_loop: bool,
        suspends: bool,
        stream_body: bool = False,
        max_body_size: int,
    ) -> Self: ...

@final
class Server:
    """The HTTP server.

    :param app: what a context calls ``app``.
    :param on_error: called with (req, res, ctx, error) for whatever an endpoint or the start of a stream raises; it
        fills the response, and what it returns is awaited on the event loop, if not None.
    :param max_threads: how many calls may be in Python threads at a time.
    :param shutdown_timeout: how many seconds ``shutdown`` gives open requests and streams.
    """

    def __new__(
        cls,
        *,
        app: object,
        on_error: Callable[[Request, Response, Context, BaseException], Awaitable[None] | None],
        max_threads: int,
        shutdown_timeout: float,
    ) -> Self: ...
    def add_route(self, method: str, path: str, endpoint: Endpoint) -> None:
        """Add a route.

        :raises ValueError: if the method or the path is invalid, or in conflict with another route.
        """
    def set_fallback(self, endpoint: Endpoint) -> None:
        """Let an endpoint answer the requests that no route takes; it finds the reason in ``req.miss``."""
    def bind(self, host: str, port: int) -> tuple[str, int]:
        """Bind the listener, and return its host and port.

        :param port: 0 for any free port.
        :raises OSError: if the address cannot be bound.
        """
    def start(self, event_loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept connections, and run coroutines on the loop, whose thread this must be."""
    def shutdown(self) -> asyncio.Future[int]:
        """Stop accepting, end streams and wait for requests, for as long as ``shutdown_timeout`` says.

        The outcome is the number of threads that are still in a user's code. Until ``abort``, tasks may still await
        what the server does for them.
        """
    def abort(self) -> None:
        """End everything at once; it may be called at any time, and more than once."""

@final
class Exchange:
    """One request on its way through Python: what the coroutines of ``hypern._tasks`` drive on the event loop."""

    def call(self) -> Awaitable[Any]:
        """Call the handler, and return its coroutine."""
    def finish(self, result: Any) -> Sink | None:
        """Take the handler's result and send the answer; a sink comes back if a task has to fill it.

        :raises TypeError: if the result cannot be a body.
        """
    def handle_error(self, error: BaseException) -> Awaitable[None] | None:
        """Have the app turn an error into the response; an async error handler is to be awaited."""
    def give_up(self, error: BaseException) -> None:
        """Answer with a bare 500, and log why."""

@final
class Feeder:
    """The inner loop of an async stream, an awaitable that is its own iterator."""

    def __await__(self) -> Generator[Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def throw(self, *exception: Any) -> Any:
        """Throw an exception into whatever is awaited."""
    def close(self) -> None:
        """Give up whatever is awaited."""

@final
class Sink:
    """Where the task that drives an async source puts its items."""

    @property
    def source(self) -> AsyncIterable[Any]:
        """The source that fills the stream."""
    @property
    def exchange(self) -> Exchange:
        """The request that the stream answers."""
    @property
    def closed(self) -> bool:
        """Whether nobody reads any more."""
    def enter(self, task: asyncio.Task[Any]) -> None:
        """Have the task cancelled as soon as nobody reads any more."""
    def leave(self) -> None:
        """Have it cancelled no longer: it closes its source now."""
    def feed(self, source: AsyncIterator[Any]) -> Feeder:
        """Pull the source into the stream, until it ends or nobody reads any more: await it.

        :raises TypeError: when awaited, if an item cannot be sent.
        :raises ValueError: when awaited, if a field of an event is invalid.
        :raises BaseException: when awaited, whatever the source raises.
        """
    def finish(self) -> None:
        """End the stream cleanly."""
    def fail(self, error: BaseException) -> bool:
        """Say that the source has failed; True means that the response can still be an error response."""

def run_on_thread(call: Callable[..., _T], *arguments: Any) -> Awaitable[_T]:
    """Run a blocking function on a thread of the pool, with a copy of the current context.

    :raises HTTPException: 503 if all threads are taken.
    :raises RuntimeError: outside the event loop of a running server.
    """
