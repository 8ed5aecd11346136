"""The generators of the paced jobs without a server: what Python itself needs to wait and to make the events.

``python -m benchmarks.paced async`` prints, as JSON, the CPU time of an event and how much of the schedule was kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from typing import TYPE_CHECKING

import uvloop
from hypern import SSEEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

STREAMS = 1000
RATE = 10
WARMUP = 1.5
DURATION = 3.0


def events() -> Iterator[SSEEvent]:
    """As the sync stream of the benchmark has them."""
    while True:
        yield SSEEvent(str(time.time()))
        time.sleep(1 / RATE)


async def events_async() -> AsyncIterator[SSEEvent]:
    """As the async stream of the benchmark has them."""
    while True:
        yield SSEEvent(str(time.time()))
        await asyncio.sleep(1 / RATE)


class Window:
    """Counts the events, and what they cost, from the end of the warm-up on."""

    def __init__(self) -> None:
        """Nothing has been counted."""
        self.events = 0
        self.open = True
        self._cpu = self._began = 0.0

    def begin(self) -> None:
        """From here on it counts."""
        self.events, self._cpu, self._began = 0, time.process_time(), time.monotonic()

    def end(self) -> dict[str, object]:
        """The figures, named as the load generator names them."""
        cpu, seconds = time.process_time() - self._cpu, time.monotonic() - self._began
        self.open = False
        return {
            "connections": STREAMS,
            "answered": STREAMS,
            "on_schedule": self.events / (STREAMS * RATE * seconds),
            "server": {"cpu_us_per_event": cpu * 1e6 / self.events},
        }


def on_threads() -> dict[str, object]:
    """Each generator on a thread of its own."""
    window = Window()

    def run() -> None:
        for _ in events():
            window.events += 1
            if not window.open:
                break

    threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=run) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
        time.sleep(1 / STREAMS)
    time.sleep(WARMUP)
    window.begin()
    time.sleep(DURATION)
    report = window.end()
    for thread in threads:
        thread.join()
    return report


async def _on_event_loop() -> dict[str, object]:
    window = Window()

    async def run() -> None:
        async for _ in events_async():
            window.events += 1

    async with asyncio.TaskGroup() as tasks:
        running = []
        for _ in range(STREAMS):
            running.append(tasks.create_task(run()))
            await asyncio.sleep(1 / STREAMS)
        await asyncio.sleep(WARMUP)
        window.begin()
        await asyncio.sleep(DURATION)
        report = window.end()
        for task in running:
            task.cancel()
    return report


def on_event_loop() -> dict[str, object]:
    """Each generator in a task of its own, on uvloop."""
    return uvloop.run(_on_event_loop())


FLAVOURS: dict[str, Callable[[], dict[str, object]]] = {"sync": on_threads, "async": on_event_loop}


def main() -> None:
    """Prints the figures of one flavour."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paced", description=__doc__)
    parser.add_argument("flavour", choices=FLAVOURS)
    json.dump(FLAVOURS[parser.parse_args().flavour](), sys.stdout)


if __name__ == "__main__":
    main()
