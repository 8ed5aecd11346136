"""Middleware that comes with Hypern, and the hook that both are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypern._hypern import Context, Request, Response

__all__ = ["CompressionMiddleware", "CorsMiddleware", "Hook"]

ENCODINGS = ("zstd", "br", "gzip")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Hook:
    """Middleware that only acts before the handler, and so needs no event loop.

    It runs wherever the handler runs: a ``def`` handler behind hooks alone stays on its thread. What it sets on the
    response is kept if the handler fails, error responses included.
    """

    def before(self, req: Request, res: Response, ctx: Context) -> bool:
        """Act on a request; return True if it is answered, and the handler is not to run."""
        raise NotImplementedError


class CompressionMiddleware(Hook):
    """Compresses responses, streams included: each event still leaves at once.

    The client's ``Accept-Encoding`` decides (RFC 9110 section 12.5.3). Left alone are responses that carry a
    content-encoding already, say ``cache-control: no-transform``, or have a type that does not shrink.

    :param encodings: what to offer, of "zstd", "br" and "gzip", in the server's order of preference.
    :param minimum_size: bodies under so many bytes are not compressed; streams always are.
    :raises ValueError: if an encoding is unknown, or none is given, or the size is negative.
    """

    def __init__(self, encodings: Sequence[str] = ENCODINGS, minimum_size: int = 500) -> None:
        self._encodings = list(_names("encodings", encodings))
        self._minimum_size = minimum_size
        unknown = sorted(set(self._encodings) - set(ENCODINGS))
        if unknown or not self._encodings:
            message = f"encodings must be one or more of {', '.join(ENCODINGS)}, got {unknown or 'none'}"
            raise ValueError(message)
        if minimum_size < 0:
            message = f"minimum_size must not be negative, got {minimum_size}"
            raise ValueError(message)

    def before(self, req: Request, res: Response, ctx: Context) -> bool:  # noqa: ARG002
        """Ask for the response to be compressed, whatever it turns out to be."""
        res._compress(self._encodings, self._minimum_size)
        return False


class CorsMiddleware(Hook):
    """Lets pages of other origins use the app, streams included (the Fetch standard, section 3.2).

    Preflight requests are answered with 204. ``Last-Event-ID`` is always an allowed header, so that clients made of
    ``fetch`` can resume a stream.

    :param allow_origins: such as ``("https://app.example",)``, or ``("*",)`` for every origin.
    :param allow_methods: the methods a page may use.
    :param allow_headers: the request headers a page may set; ``("*",)`` allows what it asks for.
    :param expose_headers: the response headers a page may read, besides the safelisted ones.
    :param allow_credentials: whether requests may carry cookies; the origins must then be named.
    :param max_age: for how many seconds a browser may remember the answer to a preflight.
    :raises ValueError: if an origin is not one, or credentials are allowed to every origin.
    """

    def __init__(  # noqa: PLR0913, one for each header of the standard
        self,
        allow_origins: Sequence[str] = ("*",),
        *,
        allow_methods: Sequence[str] = METHODS,
        allow_headers: Sequence[str] = ("*",),
        expose_headers: Sequence[str] = (),
        allow_credentials: bool = False,
        max_age: int = 600,
    ) -> None:
        self._origins = frozenset(_origin(origin) for origin in _names("allow_origins", allow_origins))
        self._any_origin = "*" in self._origins
        if self._any_origin and allow_credentials:
            message = "allow_credentials lets every site act as your users: name the origins instead of '*'"
            raise ValueError(message)
        headers = _names("allow_headers", allow_headers)
        self._any_header = "*" in headers
        self._credentials = allow_credentials
        self._expose = ", ".join(_names("expose_headers", expose_headers))
        self._methods = ", ".join(_names("allow_methods", allow_methods))
        self._headers = ", ".join(dict.fromkeys([*(name.lower() for name in headers if name != "*"), "last-event-id"]))
        self._max_age = str(max_age)

    def before(self, req: Request, res: Response, ctx: Context) -> bool:  # noqa: ARG002
        """Set the headers of an answer to another origin, and answer a preflight."""
        if not self._any_origin:
            res.append_header("vary", "origin")
        origin = req.header("origin")
        if origin is None:
            return False
        allowed = self._any_origin or origin in self._origins
        if allowed:
            self._allow(origin, res)
        if req.method != "OPTIONS" or req.header("access-control-request-method") is None:
            return False
        if allowed:
            self._answer_preflight(req, res)
        res.status(204)
        return True

    def _allow(self, origin: str, res: Response) -> None:
        res.header("access-control-allow-origin", "*" if self._any_origin else origin)
        if self._credentials:
            res.header("access-control-allow-credentials", "true")
        if self._expose:
            res.header("access-control-expose-headers", self._expose)

    def _answer_preflight(self, req: Request, res: Response) -> None:
        headers = self._headers
        if self._any_header:
            # A literal "*" would not cover Authorization, nor anything at all in a request with credentials.
            headers = req.header("access-control-request-headers") or headers
            res.append_header("vary", "access-control-request-headers")
        res.header("access-control-allow-methods", self._methods)
        res.header("access-control-allow-headers", headers)
        res.header("access-control-max-age", self._max_age)


def _names(parameter: str, names: Sequence[str]) -> Sequence[str]:
    if isinstance(names, str):
        message = f"{parameter} must be a sequence of str, got a single str: write ({names!r},)"
        raise TypeError(message)
    return names


def _origin(origin: str) -> str:
    parts = urlsplit(origin)
    if origin in {"*", "null"} or origin == f"{parts.scheme}://{parts.netloc}".lower():
        return origin
    message = (
        f"an origin is a scheme, a host and maybe a port, in lower case, such as 'https://app.example': {origin!r}"
    )
    raise ValueError(message)
