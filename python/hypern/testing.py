"""A client for tests: the real server on a free port of 127.0.0.1, and httpx to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from hypern.app import Hypern, run

try:
    import httpx
    import httpx_sse
except ImportError as error:
    message = "hypern.testing needs httpx and httpx-sse: pip install 'hypern[testing]'"
    raise ImportError(message) from error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

__all__ = ["TestClient"]

HOST = "127.0.0.1"


class TestClient:
    """Serves an app while the ``with`` block runs, on a thread and an event loop of its own.

    Every request is a real one, on a real socket. Keywords of the request methods are those of ``httpx.Client``;
    redirects are not followed unless asked for, and cookies are kept.

    :param http2: speak HTTP/2 with prior knowledge instead of HTTP/1.1.
    :param timeout: for how many seconds a request may wait for the next bytes.
    :raises OSError: on entering, if no address can be bound.
    :raises Exception: on entering, whatever the app's lifespan or a startup hook raises; on leaving, the same of its
        shutdown.
    """

    __test__ = False

    def __init__(self, app: Hypern, *, http2: bool = False, timeout: float = 10.0) -> None:
        self._app = app
        self._http2 = http2
        self._timeout = timeout
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="hypern-test-server", daemon=True)

    def __enter__(self) -> TestClient:  # noqa: PYI034, Self needs Python 3.11
        """Start the server, and wait until it accepts requests."""
        self._thread.start()
        self._loop, self._stop, self.port = self._started.result()
        self.base_url = f"http://{HOST}:{self.port}"
        # The environment's proxies must not get between a test and its server.
        self._client = httpx.Client(
            base_url=self.base_url,
            http1=not self._http2,
            http2=self._http2,
            timeout=self._timeout,
            trust_env=False,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server gracefully, and wait until it has ended."""
        self._client.close()
        # A server that has ended by itself has closed its loop; result() raises what ended it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._ended.result()

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request and read the whole response."""
        return self._client.request(method, url, **options)

    def get(self, url: str, **options: Any) -> httpx.Response:
        """Send a GET request."""
        return self._client.get(url, **options)

    def head(self, url: str, **options: Any) -> httpx.Response:
        """Send a HEAD request."""
        return self._client.head(url, **options)

    def options(self, url: str, **options: Any) -> httpx.Response:
        """Send an OPTIONS request."""
        return self._client.options(url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        """Send a POST request."""
        return self._client.post(url, **options)

    def put(self, url: str, **options: Any) -> httpx.Response:
        """Send a PUT request."""
        return self._client.put(url, **options)

    def patch(self, url: str, **options: Any) -> httpx.Response:
        """Send a PATCH request."""
        return self._client.patch(url, **options)

    def delete(self, url: str, **options: Any) -> httpx.Response:
        """Send a DELETE request."""
        return self._client.delete(url, **options)

    def stream(self, method: str, url: str, **options: Any) -> AbstractContextManager[httpx.Response]:
        """Send a request, and read the response while it arrives: ``with client.stream("GET", "/") as response``."""
        return self._client.stream(method, url, **options)

    @contextlib.contextmanager
    def sse(self, url: str, method: str = "GET", **options: Any) -> Iterator[httpx_sse.EventSource]:
        """Open an event stream: ``with client.sse("/") as source: for event in source.iter_sse(): ...``."""
        with httpx_sse.connect_sse(self._client, method, url, **options) as source:
            yield source

    def _run(self) -> None:
        try:
            run(self._serve())
        except BaseException as failure:  # noqa: BLE001, it is raised again in the test's thread
            ended = self._ended if self._started.done() else self._started
            ended.set_exception(failure)
        else:
            self._ended.set_result(None)

    async def _serve(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def ready(_host: str, port: int) -> None:
            self._started.set_result((loop, stop, port))

        await self._app.serve(HOST, 0, ready=ready, stop=stop)
