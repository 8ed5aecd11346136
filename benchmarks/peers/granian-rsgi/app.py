"""Granian's own interface, RSGI, with no framework. There is no way to answer from a plain function."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from granian.rsgi import ProtocolClosed

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)
EVENT_STREAM = [("content-type", "text/event-stream"), ("cache-control", "no-cache")]


async def burst(scope: Any, protocol: Any) -> None:
    transport = protocol.response_stream(200, EVENT_STREAM)
    for i in range(int(parameter(scope, "count", EVENTS))):
        await transport.send_str(f"id: {i}\nevent: counter\ndata: Event {i}\n\n")


async def paced(scope: Any, protocol: Any) -> None:
    transport = protocol.response_stream(200, EVENT_STREAM)
    rate = parameter(scope, "rate", 10)
    while True:
        await transport.send_str(f"data: {time.time()}\n\n")
        await asyncio.sleep(1 / rate)


async def idle(scope: Any, protocol: Any) -> None:
    transport = protocol.response_stream(200, EVENT_STREAM)
    await transport.send_str("data: open\n\n")
    await asyncio.sleep(3600)


async def download(scope: Any, protocol: Any) -> None:
    transport = protocol.response_stream(200, [("content-type", "application/octet-stream")])
    for _ in range(int(parameter(scope, "size", SIZE)) // len(CHUNK)):
        await transport.send_bytes(CHUNK)


async def hello(scope: Any, protocol: Any) -> None:
    protocol.response_str(200, [("content-type", "text/plain; charset=utf-8")], "Hello, world!")


async def json(scope: Any, protocol: Any) -> None:
    protocol.response_str(200, [("content-type", "application/json")], '{"message":"Hello, world!"}')


ROUTES: dict[str, Callable[[Any, Any], Awaitable[None]]] = {
    "/burst-async": burst,
    "/paced-async": paced,
    "/idle-async": idle,
    "/download-async": download,
    "/hello-async": hello,
    "/json-async": json,
}


def parameter(scope: Any, name: str, default: float) -> float:
    return float(parse_qs(scope.query_string).get(name, [default])[0])


async def app(scope: Any, protocol: Any) -> None:
    route = ROUTES.get(scope.path)
    if route is None:
        protocol.response_empty(404, [])
    else:
        with contextlib.suppress(ProtocolClosed):
            await route(scope, protocol)
