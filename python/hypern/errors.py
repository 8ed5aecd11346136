"""The errors Hypern raises, and how an error in a handler becomes a response."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from hypern._calls import Call, resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from hypern._hypern import Context, Request, Response

__all__ = ["ErrorHandlers", "HTTPException", "HypernError", "report"]

logger = logging.getLogger("hypern")

PARAMETERS = ("req", "res", "ctx", "error")
INTERNAL_SERVER_ERROR = 500


class HypernError(Exception):
    """The base of every error that Hypern defines."""


class HTTPException(HypernError):  # noqa: N818, the name is the contract
    """Ends a request with an error status: raise it in a handler, a middleware or an error handler.

    Without a handler of its own (``app.error_handler``) the client gets ``{"detail": detail}`` as JSON.

    :param status: the status code, 400 to 599 (RFC 9110 section 15.5 and 15.6).
    :param detail: what the client is told, any JSON value; the status' own phrase if None.
    :param headers: headers to set on the response, such as ``{"www-authenticate": "Bearer"}``.
    :raises ValueError: if the status is not an error status.
    """

    def __init__(self, status: int, detail: Any = None, headers: Mapping[str, str] | None = None) -> None:
        if not 400 <= status <= 599:  # noqa: PLR2004, the bounds of the two error classes
            message = f"status must be an error status, 400 to 599, got {status}"
            raise ValueError(message)
        super().__init__(status, detail, headers)
        self.status = status
        self.detail = phrase(status) if detail is None else detail
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return f"{self.status} {self.detail}"


def phrase(status: int) -> str:
    """Return the reason phrase of a status (RFC 9110 section 15), "Error" for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def report(message: str, req: Request, ctx: Context, error: BaseException) -> None:
    """Log an error of which no response can tell, with its traceback and the id of its request (logger "hypern")."""
    # %r: a path may hold line breaks, and must not be able to forge a line of the log.
    logger.error("%s: %s %r (request %s)", message, req.method, req.path, ctx.request_id, exc_info=error)


class ErrorHandlers:
    """The error handlers of an app, by exception class and by status."""

    def __init__(self) -> None:
        self._by_class: dict[type[BaseException], Call] = {}
        self._by_status: dict[int, Call] = {}

    def __bool__(self) -> bool:
        return bool(self._by_class or self._by_status)

    def add(self, key: type[BaseException] | int, handler: Callable[..., Any]) -> None:
        """Register a handler that takes any of req, res, ctx and error by name.

        :raises TypeError: if the key is neither an exception class nor an int, or the handler takes something else.
        :raises ValueError: if the key is a status outside 400 to 599.
        """
        if isinstance(key, int):
            HTTPException(key)
            self._by_status[key] = resolve(handler, PARAMETERS)
        elif isinstance(key, type) and issubclass(key, BaseException):
            self._by_class[key] = resolve(handler, PARAMETERS)
        else:
            message = f"an error handler is registered for an exception class or a status, not for {key!r}"
            raise TypeError(message)

    def expects(self, error: BaseException) -> bool:
        """Tell whether the app says what this error becomes; any other error is a 500 and is logged."""
        return isinstance(error, HTTPException) or self._registered(error) is not None

    def respond(self, req: Request, res: Response, ctx: Context, error: BaseException) -> Awaitable[None] | None:
        """Turn an error into the response, whatever the response held before.

        Nothing of an unexpected error's text reaches the client. A ``def`` handler runs on this thread, unless this
        is the event loop's; what must run on the loop comes back as an awaitable. Never raises: if a handler fails,
        its own error is answered.
        """
        handler = self._registered(error)
        if handler is None and not isinstance(error, HTTPException):
            handler = self._by_status.get(INTERNAL_SERVER_ERROR)
            if handler is not None:
                report("a handler failed", req, ctx, error)
        if handler is None:
            answer(req, res, ctx, error)
            return None
        if handler.is_async or asyncio._get_running_loop() is not None:  # the public one raises
            return self._respond_on_loop(handler, req, res, ctx, error)
        try:
            describe(res, error)
            res._absorb(handler.call(*handler.pick((req, res, ctx, error))))
        except Exception as failure:  # noqa: BLE001, whatever a handler raises is answered
            answer(req, res, ctx, failure)
        return None

    async def _respond_on_loop(
        self, handler: Call, req: Request, res: Response, ctx: Context, error: BaseException
    ) -> None:
        try:
            describe(res, error)
            res._absorb(await handler.run((req, res, ctx, error)))
        except Exception as failure:  # noqa: BLE001
            answer(req, res, ctx, failure)

    def _registered(self, error: BaseException) -> Call | None:
        for exception_class in type(error).__mro__:
            # A handler of Exception is for the unforeseen: it must not take over every 404.
            if exception_class is HTTPException and isinstance(error, HTTPException):
                return self._by_status.get(error.status) or self._by_class.get(HTTPException)
            if exception_class in self._by_class:
                return self._by_class[exception_class]
        return None


def describe(res: Response, error: BaseException) -> None:
    """Give the response the status and headers of an error, so that a handler need only say what differs."""
    res._reset()
    if isinstance(error, HTTPException):
        res.status(error.status).headers(error.headers)
    else:
        res.status(INTERNAL_SERVER_ERROR)


def answer(req: Request, res: Response, ctx: Context, error: BaseException) -> None:
    """Write the response of an error that has no handler: JSON, ``{"detail": ...}``."""
    if isinstance(error, HTTPException):
        try:
            describe(res, error)
            res.json({"detail": error.detail})
        except (TypeError, ValueError) as failure:
            error = failure
        else:
            return
    report("a handler failed", req, ctx, error)
    describe(res, error)
    res.json({"detail": phrase(INTERNAL_SERVER_ERROR)})
