"""The figures of a run as tables: in a terminal, and in the documentation."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.goals import GOALS, ON_SCHEDULE
from benchmarks.jobs import JOBS, Job
from benchmarks.run import PLAIN_PYTHON, Results
from benchmarks.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING = "—"
TITLES = {server.name: server.title for server in SERVERS} | PLAIN_PYTHON
#: Those with which Hypern competes.
PYTHON_PEERS = frozenset(server.name for server in SERVERS if server.language == "python" and server.name != "hypern")

Report = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One figure: where it is in a report, and how it is written."""

    title: str
    path: str
    write: Callable[[float], str]


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 (three figures are enough)


def _share(value: float) -> str:
    return f"{value:.1%}"


def _kib(value: float) -> str:
    return f"{value / 1024:,.1f}"


def _mib(value: float) -> str:
    return f"{value / 2**20:,.0f}"


_FIRST_EVENT = (Column("first event p50 ms", "first_event.p50", _short), Column("p99 ms", "first_event.p99", _short))
_LATE = (
    Column("late p50 ms", "lateness.p50", _short),
    Column("p99 ms", "lateness.p99", _short),
    Column("p99.9 ms", "lateness.p999", _short),
)
_CPU = Column("CPU µs/event", "server.cpu_us_per_event", _short)
_THREADS = Column("threads", "server.threads_after", _whole)
_RSS = Column("KiB/stream", "server.rss_per_stream", _kib)
_NEVER = Column("never served", "first_event.never", _whole)

#: The first column of each kind is the one that servers are ranked by.
COLUMNS: dict[str, tuple[Column, ...]] = {
    "burst": (Column("events/s", "events_per_second", _whole), _CPU, _NEVER, Column("cut", "cut", _whole)),
    "paced": (Column("on schedule", "on_schedule", _share), _CPU, *_FIRST_EVENT, *_LATE, _RSS, _THREADS),
    "idle": (_RSS, Column("open", "answered", _whole), _THREADS, Column("CPU s", "server.cpu_seconds", _short)),
    "first-byte": (*_FIRST_EVENT, _NEVER),
    "hello": (
        Column("requests/s", "requests_per_second", _whole),
        Column("CPU µs/request", "server.cpu_us_per_request", _short),
        Column("p50 ms", "latency.p50", _short),
        Column("p99 ms", "latency.p99", _short),
    ),
    "download": (
        Column("MiB/s", "bytes_per_second", _mib),
        Column("CPU µs/MiB", "server.cpu_us_per_mib", _whole),
        Column("MiB received", "bytes", _mib),
    ),
    "churn": (
        Column("clients/s", "events_per_second", _whole),
        Column("CPU µs/client", "server.cpu_us_per_event", _short),
        *_FIRST_EVENT,
        _NEVER,
        Column("MiB kept", "server.rss_grown", _mib),
        Column("threads after", "server.threads_after", _whole),
    ),
}
#: What Hypern is compared with the others by, where that is not the first column: nearly all may be on schedule.
_COMPARED = {"paced": _CPU.path}
#: Less is better.
_COSTS = frozenset({_RSS.path, _CPU.path, "first_event.p50"})
#: The memory of a stream says nothing where fewer of the streams than this were open.
_MOST = 0.98


def figure(report: Report, path: str) -> float | None:
    """The number at a dotted path, or None where there is none."""
    if path == "server.rss_grown":
        server = report.get("server")
        return float(server["rss_after"] - server["rss_before"]) if server else None
    value: Any = report
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None else float(value)


class Table:
    """The answers to one question, best first."""

    def __init__(self, job: Job, results: Results) -> None:
        """Picks the job's answers out of a run's and takes the median of each figure's rounds."""
        self.job = job
        self.columns = COLUMNS[job.kind]
        self.compared = _COMPARED.get(job.kind, self.columns[0].path)
        self.errors: dict[str, str] = {}
        self.values: dict[str, list[float | None]] = {}
        self.not_compressed: list[str] = []
        reports = [run.report for run in results.runs if run.job == job.name and "asked" in run.report]
        sizes = {name: max((report[name] for report in reports), default=0) for name in ("connections", "asked")}
        self.title = job.title.format_map(sizes)
        for server in dict.fromkeys(run.server for run in results.runs if run.job == job.name):
            self._add(server, results)

    def _add(self, server: str, results: Results) -> None:
        runs = [run for run in results.runs if (run.job, run.server) == (self.job.name, server)]
        reports = [run.report for run in runs if run.error is None]
        if not reports:
            self.errors[server] = runs[0].error or ""
        elif server not in PLAIN_PYTHON and self.job.encoding and reports[0].get("encoding") != self.job.encoding:
            self.not_compressed.append(server)
        else:
            self.values[server] = [self._median(reports, column.path) for column in self.columns]

    def _median(self, reports: list[Report], path: str) -> float | None:
        values = [figure(report, path) for report in reports]
        if path == _RSS.path and any(report["answered"] < _MOST * report["connections"] for report in reports):
            return None
        known = [value for value in values if value is not None]
        return median(known) if len(known) == len(values) else None

    def main(self, server: str) -> float | None:
        """The figure that servers are ranked by."""
        values = self.values.get(server)
        return values[0] if values else None

    def column(self, server: str, path: str) -> float | None:
        """A server's figure, if this table has such a column."""
        for column, value in zip(self.columns, self.values.get(server, []), strict=False):
            if column.path == path:
                return value
        return None

    def ranked(self) -> list[str]:
        """The servers, best first; those without the main figure last."""
        known = [server for server in self.values if self.main(server) is not None]
        known.sort(key=self._rank)
        return known + [server for server in self.values if server not in known]

    def _rank(self, server: str) -> tuple[float, float]:
        main, compared = self.main(server) or 0.0, self.column(server, self.compared) or 0.0
        if self.job.kind == "paced":
            return -min(main, ON_SCHEDULE), compared
        return (main if self.compared in _COSTS else -main), 0.0

    def ratio(self, server: str) -> float | None:
        """How many times as good Hypern is as the server: more than 1 is a win."""
        ours, theirs = self.column("hypern", self.compared), self.column(server, self.compared)
        if not ours or not theirs:
            return None
        return theirs / ours if self.compared in _COSTS else ours / theirs

    def best_python_peer(self) -> str | None:
        """The best of those that Hypern competes with."""
        return next((name for name in self.ranked() if name in PYTHON_PEERS and self.main(name) is not None), None)

    def rows(self) -> list[list[str]]:
        """The table's cells, head first."""
        head = ["server", *(column.title for column in self.columns), "Hypern is as good"]
        body = [self._row(server) for server in self.ranked()]
        failed = [[TITLES[server], "failed", *[""] * len(self.columns)] for server in self.errors]
        plain = [[TITLES[server], "not compressed", *[""] * len(self.columns)] for server in self.not_compressed]
        return [head, *body, *failed, *plain]

    def _row(self, server: str) -> list[str]:
        cells = [
            NOTHING if value is None else column.write(value)
            for column, value in zip(self.columns, self.values[server], strict=True)
        ]
        ratio = self.ratio(server)
        against = "" if server == "hypern" else NOTHING if ratio is None else f"{ratio:.2f}x"
        return [TITLES[server], *cells, against]


def tables(results: Results) -> list[Table]:
    """A table for each job that was run."""
    names = {run.job for run in results.runs}
    return [Table(job, results) for job in JOBS if job.name in names]


def goal_rows(results: Results) -> list[list[str]]:
    """What was to be reached and what was, for the goals whose figures are there; head first."""
    by_job = {table.job.name: table for table in tables(results)}
    rows = []
    for goal in GOALS:
        measured = goal.measured(by_job, results.events)
        if measured is not None:
            rows.append([goal.title, goal.written(goal.reach), _short(measured), "yes" if goal.met(measured) else "no"])
    return [["goal", "reach", "measured", "reached"], *rows] if rows else []


def event_rows(results: Results) -> list[list[str]]:
    """SSEEvent against f-strings; head first."""
    rows = [["generator", "events/s", "ns/event", "of the f-string"]]
    for name, rate in results.events.items():
        reference = results.events["f-string, yielded, async" if name.endswith("async") else "f-string, yielded"]
        rows.append([name, _whole(rate), _whole(1e9 / rate), f"{rate / reference:.2f}"])
    return rows


def as_text(results: Results) -> str:
    """All tables for a terminal."""
    parts = []
    if results.events:
        parts += ["Events without a server", *_aligned(event_rows(results)), ""]
    for table in tables(results):
        parts += [table.title, *_aligned(table.rows()), ""]
    if goals := goal_rows(results):
        parts += ["Goals", *_aligned(goals), ""]
    parts += [f"{TITLES[name]} was left out: {reason}" for name, reason in results.skipped.items()]
    return "\n".join(parts)


def as_markdown(results: Results) -> str:
    """All tables for the documentation, with the machine and the versions."""
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    parts = [f"Measured {results.started[:10]} with `{results.command}` on: {machine}.", ""]
    if goals := goal_rows(results):
        parts += ["### Goals", "", *_markdown(goals), ""]
    if results.events:
        parts += ["### Events without a server", "", *_markdown(event_rows(results)), ""]
    for table in tables(results):
        parts += [f"### {table.title}", "", *_markdown(table.rows()), ""]
    parts += ["### Versions", "", *_versions(results), ""]
    if results.skipped:
        parts += ["### Left out", ""]
        parts += [f"- {TITLES[name]}: {reason}" for name, reason in results.skipped.items()]
        parts.append("")
    return "\n".join(parts)


def _versions(results: Results) -> list[str]:
    notes = {server.name: server.note for server in SERVERS}
    rows = [["server", "versions", "how it is run"]]
    for name, versions in results.versions.items():
        requirement = next(server for server in SERVERS if server.name == name)
        wanted = requirement.requirements.read_text().split() if requirement.requirements.exists() else versions
        rows.append([TITLES[name], ", ".join(wanted[:8]), notes[name]])
    return _markdown(rows, "---")


def _markdown(rows: list[list[str]], alignment: str = "---:") -> list[str]:
    head, *body = rows
    rule = ["---", *[alignment] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in [head, rule, *body]]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return ["  " + row[0].ljust(widths[0]) + "".join(map(_right, row[1:], widths[1:])) for row in rows]


def _right(cell: str, width: int) -> str:
    return "  " + cell.rjust(width)
