"""The figures of a run as one SVG, which follows the reader's light or dark mode."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from benchmarks.report import COLUMNS, TITLES, Table, tables
from benchmarks.run import PLAIN_PYTHON

if TYPE_CHECKING:
    from benchmarks.run import Results

WIDTH = 980
MARGIN = 28
GAP = 40
PANEL_WIDTH = (WIDTH - 2 * MARGIN - GAP) // 2
LABEL = 168
VALUE = 78
BAR_WIDTH = PANEL_WIDTH - LABEL - VALUE
ROW = 23
HEAD = 56
TOP = 96
BOTTOM = 40

#: They do not compete: one is what the machine can do, the others what Python alone can.
REFERENCES = frozenset({"limit", *PLAIN_PYTHON})

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.card { fill: #ffffff; stroke: #d8dee4; }
.heading { font-size: 22px; font-weight: 650; fill: #1f2328; }
.title { font-size: 14.5px; font-weight: 600; fill: #1f2328; }
.label, .value { font-size: 12.5px; fill: #424a53; }
.value { font-variant-numeric: tabular-nums; }
.note { font-size: 12px; fill: #6e7781; }
.ours-text { font-weight: 700; fill: #0f766e; }
.peer { fill: #c3ccd6; }
.ours { fill: #0d9488; }
.reference { fill: #eef1f4; stroke: #aab4bf; stroke-dasharray: 3 2.5; }
.track { stroke: #e4e8ec; }
.break { stroke: #ffffff; }
@media (prefers-color-scheme: dark) {
  .card { fill: #0f1419; stroke: #2b333c; }
  .heading, .title { fill: #e8edf2; }
  .label, .value { fill: #b6c0ca; }
  .note { fill: #87919c; }
  .ours-text { fill: #2dd4bf; }
  .peer { fill: #46515d; }
  .ours { fill: #14b8a6; }
  .reference { fill: #1a2129; stroke: #5b6673; }
  .track { stroke: #29313a; }
  .break { stroke: #0f1419; }
}
"""


@dataclass(frozen=True)
class Panel:
    """One figure of one job, as bars."""

    job: str
    title: str
    path: str
    less_is_better: bool = False


@dataclass(frozen=True)
class Bar:
    """One server in a panel."""

    server: str
    value: float | None
    text: str

    @property
    def mark(self) -> str:
        """The class that colours it."""
        return "ours" if self.server == "hypern" else "reference" if self.server in REFERENCES else "peer"


PANELS = (
    Panel("burst-sync", "Burst from a sync generator", "events_per_second"),
    Panel("burst-async", "Burst from an async generator", "events_per_second"),
    Panel("paced-sync-1000x10", "1,000 sync streams of 10 events a second", "on_schedule"),
    Panel(
        "paced-async-1000x10",
        "1,000 async streams of 10 events a second",
        "server.cpu_us_per_event",
        less_is_better=True,
    ),
    Panel("idle-sync", "Memory of an idle sync stream", "server.rss_per_stream", less_is_better=True),
    Panel("idle-async", "Memory of an idle async stream", "server.rss_per_stream", less_is_better=True),
    Panel("hello-sync", "Plain requests, sync handler", "requests_per_second"),
    Panel("hello-async", "Plain requests, async handler", "requests_per_second"),
    Panel("download-sync", "Download from a sync generator", "bytes_per_second"),
    Panel("churn-async", "Clients that take one event and leave", "events_per_second"),
)


def draw(results: Results) -> str:
    """The chart; figures that the run has not got are left out."""
    by_job = {table.job.name: table for table in tables(results)}
    drawn = [(panel, by_job[panel.job]) for panel in PANELS if panel.job in by_job]
    body, height = [], TOP
    for left, right in zip(drawn[::2], [*drawn[1::2], None], strict=False):
        pair = [_panel(*left, MARGIN, height)]
        if right:
            pair.append(_panel(*right, MARGIN + PANEL_WIDTH + GAP, height))
        body += [text for text, _ in pair]
        height += max(used for _, used in pair)
    height += BOTTOM - 14
    return _document("\n".join(body), height, results)


def _document(body: str, height: int, results: Results) -> str:
    machine = f"{results.machine['processor']}, {results.machine['cores']} cores shared with the load generator"
    note = (
        "Side by side in one run. A jagged end: the bar is longer than the chart. Dashed: references, not competitors."
    )
    when = f"{results.started[:10]}{', a quick run' if results.quick else ''}"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" \
aria-labelledby="title">
<title id="title">Hypern and other servers, measured {escape(results.started[:10])}</title>
<style>{STYLE}</style>
<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="12"/>
<text class="heading" x="{MARGIN}" y="44">Streaming from Python, one worker process each</text>
<text class="note" x="{MARGIN}" y="66">{escape(note)}</text>
{body}
<text class="note" x="{MARGIN}" y="{height - 18}">{escape(when)} · {escape(machine)}</text>
</svg>
"""


def _panel(panel: Panel, table: Table, left: int, top: int) -> tuple[str, int]:
    """The panel and its height."""
    values = {server: _value(panel, table, server) for server in table.values}
    sign = 1 if panel.less_is_better else -1
    known = {server: value for server, value in values.items() if value is not None}
    order = sorted(known, key=lambda server: sign * known[server])
    order += [server for server in values if server not in known]
    scale = max((known[server] for server in order if server in known and server not in REFERENCES), default=1) or 1
    unit = next(column.title for column in COLUMNS[table.job.kind] if column.path == panel.path)
    write = next(column.write for column in table.columns if column.path == panel.path)
    rows = []
    for index, server in enumerate(order):
        value = values[server]
        bar = Bar(server, value, "not served" if value is None else write(value))
        rows.append(_row(bar, scale, left + LABEL, top + HEAD + ROW * index))
    better = "less is better" if panel.less_is_better else "more is better"
    used = HEAD + ROW * len(order) + 18
    foot = top + HEAD + ROW * len(order) - 10
    head = f"""<text class="title" x="{left}" y="{top + 16}">{escape(panel.title)}</text>
<text class="note" x="{left}" y="{top + 34}">{escape(unit)}, {better}</text>
<line class="track" x1="{left + LABEL}" y1="{top + HEAD - 13}" x2="{left + LABEL}" y2="{foot}"/>"""
    return "\n".join([head, *rows]), used


def _value(panel: Panel, table: Table, server: str) -> float | None:
    if panel.path == table.columns[0].path:
        return table.main(server)
    return table.column(server, panel.path)


def _row(bar: Bar, scale: float, start: int, middle: int) -> str:
    bold = " ours-text" if bar.server == "hypern" else ""
    name = escape(TITLES[bar.server])
    label = f'<text class="label{bold}" x="{start - 10}" y="{middle + 4}" text-anchor="end">{name}</text>'
    if bar.value is None:
        return f'{label}\n<text class="note" x="{start + 8}" y="{middle + 4}">{bar.text}</text>'
    length = max(1.5, BAR_WIDTH * min(bar.value / scale, 1))
    shape = f'<rect class="{bar.mark}" x="{start}" y="{middle - 7}" width="{length:.1f}" height="14" rx="2"/>'
    if bar.value > scale:
        cut = start + BAR_WIDTH - 14
        shape += f'<path class="break" d="M{cut} {middle - 9}l4 6l-4 6l4 6" fill="none" stroke-width="4"/>'
    value = f'<text class="value{bold}" x="{start + length + 8:.1f}" y="{middle + 4}">{escape(bar.text)}</text>'
    return f"{label}\n{shape}\n{value}"
