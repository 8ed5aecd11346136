"""What Hypern's speed is to reach, as ratios within one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.report import Table

#: All of a schedule: a sleep of 100 ms takes 101, so that nobody who sleeps in between is at 100 %.
ON_SCHEDULE = 0.97


@dataclass(frozen=True)
class Goal:
    """A figure and its bound."""

    title: str
    reach: float
    #: The job whose table holds the figure; empty for the events without a server.
    job: str
    measure: Callable[[Table], float | None] | None
    #: The figure is to be at most ``reach``, not at least.
    at_most: bool = False

    def measured(self, tables: Mapping[str, Table], events: Mapping[str, float]) -> float | None:
        """The figure of a run, or None if the run has not got it."""
        if self.measure is None:
            return events["SSEEvent, made and yielded"] / events["f-string, yielded"] if events else None
        table = tables.get(self.job)
        return self.measure(table) if table else None

    def met(self, measured: float) -> bool:
        """Whether the figure is within its bound."""
        return measured <= self.reach if self.at_most else measured >= self.reach

    def written(self, bound: float) -> str:
        """The bound as a phrase."""
        return f"at {'most' if self.at_most else 'least'} {bound:g}"


def _against(server: str) -> Callable[[Table], float | None]:
    return lambda table: table.ratio(server)


def _against_best_peer(table: Table) -> float | None:
    peer = table.best_python_peer()
    return table.ratio(peer) if peer else None


def _ours(path: str, scale: float = 1.0) -> Callable[[Table], float | None]:
    def measure(table: Table) -> float | None:
        value = table.column("hypern", path)
        return None if value is None else value * scale

    return measure


def _cpu_against(server: str) -> Callable[[Table], float | None]:
    def measure(table: Table) -> float | None:
        ours, theirs = (table.column(name, "server.cpu_us_per_event") for name in ("hypern", server))
        return ours / theirs if ours and theirs else None

    return measure


def _idle(table: Table) -> float | None:
    value = table.main("hypern")
    return None if value is None else value / 1024


GOALS: tuple[Goal, ...] = (
    Goal("SSEEvent made and yielded, against an f-string", 0.7, "", None),
    Goal("burst, sync, against plain Python", 0.75, "burst-sync", _against("plain-python")),
    Goal("burst, sync, against the best Python peer", 2, "burst-sync", _against_best_peer),
    Goal("burst, async, against plain Python", 0.6, "burst-async", _against("plain-python")),
    Goal("burst, async, against the best Python peer", 2, "burst-async", _against_best_peer),
    *(
        Goal(
            f"paced, {flavour}, {size.replace('x', ' streams of ')} a second, on schedule",
            ON_SCHEDULE,
            job,
            _ours("on_schedule"),
        )
        for size in ("1000x10", "5000x1")
        for flavour in ("sync", "async")
        for job in (f"paced-{flavour}-{size}",)
    ),
    Goal("paced, sync, first event p99, ms", 250, "paced-sync-1000x10", _ours("first_event.p99"), at_most=True),
    Goal(
        "paced, async, CPU an event against FastAPI + uvicorn",
        0.5,
        "paced-async-1000x10",
        _cpu_against("fastapi-uvicorn"),
        at_most=True,
    ),
    Goal("idle, async, KiB a stream", 24, "idle-async", _idle, at_most=True),
    Goal("idle, sync, KiB a stream", 48, "idle-sync", _idle, at_most=True),
    *(
        Goal(f"hello, {flavour}, against {title}", reach, f"hello-{flavour}", _against(server))
        for flavour in ("sync", "async")
        for server, title, reach in (
            ("limit", "bare hyper", 0.5),
            ("granian-rsgi", "Granian RSGI", 1),
            ("fastapi-uvicorn", "FastAPI + uvicorn", 3),
        )
    ),
    *(
        Goal(f"download, {flavour}, against bare hyper", 0.8, f"download-{flavour}", _against("limit"))
        for flavour in ("sync", "async")
    ),
)
