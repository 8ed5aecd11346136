"""SSEEvent without a server: made and yielded, against a generator that yields the same text as an f-string.

``python -m benchmarks.events`` prints the comparison. Time is CPU time: what else runs on the machine counts little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from hypern import SSEEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

EVENTS = 100_000


def texts() -> Iterator[str]:
    """The events as f-strings."""
    for i in range(EVENTS):
        yield f"id: {i}\nevent: counter\ndata: Event {i}\n\n"


def events() -> Iterator[SSEEvent]:
    """The events as objects."""
    for i in range(EVENTS):
        yield SSEEvent(f"Event {i}", event="counter", id=str(i))


async def texts_async() -> AsyncIterator[str]:
    """The events as f-strings, from an async generator."""
    for i in range(EVENTS):
        yield f"id: {i}\nevent: counter\ndata: Event {i}\n\n"


async def events_async() -> AsyncIterator[SSEEvent]:
    """The events as objects, from an async generator."""
    for i in range(EVENTS):
        yield SSEEvent(f"Event {i}", event="counter", id=str(i))


def formatted() -> Iterator[str]:
    """The events as objects that are formatted in Python."""
    for event in events():
        yield event.format()


async def _exhaust_async(source: AsyncIterator[object]) -> None:
    async for _ in source:
        pass


CASES: dict[str, Callable[[], None]] = {
    "f-string, yielded": lambda: deque(texts(), maxlen=0).clear(),
    "SSEEvent, made and yielded": lambda: deque(events(), maxlen=0).clear(),
    "SSEEvent, made, yielded and formatted": lambda: deque(formatted(), maxlen=0).clear(),
    "f-string, yielded, async": lambda: asyncio.run(_exhaust_async(texts_async())),
    "SSEEvent, made and yielded, async": lambda: asyncio.run(_exhaust_async(events_async())),
}
#: The plain Python that a burst is compared with.
EXHAUSTED = {"sync": "SSEEvent, made and yielded", "async": "SSEEvent, made and yielded, async"}


def measure(names: list[str], rounds: int) -> dict[str, float]:
    """Events for each second of CPU time, of the best round, the cases taking turns.

    Args:
        names: Keys of ``CASES``.
        rounds: How often each case has its turn.
    """
    best = dict.fromkeys(names, 0.0)
    for _ in range(rounds):
        for name in names:
            start = time.process_time()
            CASES[name]()
            best[name] = max(best[name], EVENTS / (time.process_time() - start))
    return best


def sustained(name: str, seconds: float) -> float:
    """Events for each second of CPU time, of one case over a while: as a server is measured.

    Args:
        name: A key of ``CASES``.
        seconds: How long at least.
    """
    rounds, began, cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        CASES[name]()
        rounds += 1
    return rounds * EVENTS / (time.process_time() - cpu)


def main() -> None:
    """Prints the comparison, or one case of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description=__doc__)
    parser.add_argument("--exhaust", choices=EXHAUSTED, help="measure this generator alone and print JSON")
    parser.add_argument("--seconds", type=float, default=4.0, help="for how long, with --exhaust")
    parser.add_argument("--json", action="store_true", help="print the rates as JSON")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if options.exhaust:
        rate = sustained(EXHAUSTED[options.exhaust], options.seconds)
        json.dump({"events_per_second": rate}, sys.stdout)
        return
    rates = measure(list(CASES), options.rounds)
    if options.json:
        json.dump(rates, sys.stdout)
        return
    for name, rate in rates.items():
        reference = rates["f-string, yielded, async" if name.endswith("async") else "f-string, yielded"]
        print(f"{name:40} {rate:12,.0f} events/s  {1e9 / rate:7.0f} ns  {rate / reference:5.2f} of the f-string")


if __name__ == "__main__":
    main()
