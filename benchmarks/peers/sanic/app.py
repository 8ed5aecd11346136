"""Sanic, which streams from an async handler only: a plain function would block its loop."""

import asyncio
import time

from sanic import HTTPResponse, Request, Sanic
from sanic.response import json, text

EVENTS = 100_000
SIZE = 1_073_741_824
CHUNK = bytes(65_536)

app = Sanic("benchmark")


@app.get("/burst-async")
async def burst_async(request: Request) -> None:
    response = await request.respond(content_type="text/event-stream")
    for i in range(int(request.args.get("count", EVENTS))):
        await response.send(f"id: {i}\nevent: counter\ndata: Event {i}\n\n")
    await response.eof()


@app.get("/paced-async")
async def paced_async(request: Request) -> None:
    response = await request.respond(content_type="text/event-stream")
    rate = float(request.args.get("rate", 10))
    while True:
        await response.send(f"data: {time.time()}\n\n")
        await asyncio.sleep(1 / rate)


@app.get("/idle-async")
async def idle_async(request: Request) -> None:
    response = await request.respond(content_type="text/event-stream")
    await response.send("data: open\n\n")
    await asyncio.sleep(3600)


@app.get("/download-async")
async def download_async(request: Request) -> None:
    response = await request.respond(content_type="application/octet-stream")
    for _ in range(int(request.args.get("size", SIZE)) // len(CHUNK)):
        await response.send(CHUNK)
    await response.eof()


@app.get("/hello-sync")
def hello_sync(request: Request) -> HTTPResponse:
    return text("Hello, world!")


@app.get("/hello-async")
async def hello_async(request: Request) -> HTTPResponse:
    return text("Hello, world!")


@app.get("/json-sync")
def json_sync(request: Request) -> HTTPResponse:
    return json({"message": "Hello, world!"})


@app.get("/json-async")
async def json_async(request: Request) -> HTTPResponse:
    return json({"message": "Hello, world!"})
