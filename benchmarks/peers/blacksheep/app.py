"""BlackSheep on uvicorn, which streams from async generators only."""

import asyncio
import time
from collections.abc import AsyncIterator

from blacksheep import Application, Response, StreamedContent, get, json, text
from blacksheep.server.sse import ServerSentEvent, ServerSentEventsResponse, TextServerSentEvent

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)

app = Application()


@get("/burst-async")
async def burst_async(count: int = EVENTS) -> Response:
    async def events() -> AsyncIterator[ServerSentEvent]:
        for i in range(count):
            yield TextServerSentEvent(f"Event {i}", event="counter", id=str(i))

    return ServerSentEventsResponse(events)


@get("/paced-async")
async def paced_async(rate: float = 10) -> Response:
    async def events() -> AsyncIterator[ServerSentEvent]:
        while True:
            yield ServerSentEvent(time.time())
            await asyncio.sleep(1 / rate)

    return ServerSentEventsResponse(events)


@get("/idle-async")
async def idle_async() -> Response:
    async def events() -> AsyncIterator[ServerSentEvent]:
        yield TextServerSentEvent("open")
        await asyncio.sleep(3600)

    return ServerSentEventsResponse(events)


@get("/download-async")
async def download_async(size: int = SIZE) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // len(CHUNK)):
            yield CHUNK

    return Response(200, content=StreamedContent(b"application/octet-stream", chunks))


@get("/hello-sync")
def hello_sync() -> Response:
    return text("Hello, world!")


@get("/hello-async")
async def hello_async() -> Response:
    return text("Hello, world!")


@get("/json-sync")
def json_sync() -> Response:
    return json({"message": "Hello, world!"})


@get("/json-async")
async def json_async() -> Response:
    return json({"message": "Hello, world!"})
