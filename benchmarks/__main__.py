"""``python -m benchmarks``: installs the servers, runs the jobs, prints a table and writes JSON and a chart."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks import chart, jobs, report, servers
from benchmarks.run import RESULTS, Results, machine, measure_events, prepare, run_all

DOCS = Path(__file__).parent.parent / "docs"
_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"


def main() -> int:
    """Does what the command line asks for; the exit status is 1 if a smoke run met an error."""
    options = _options()
    if options.list:
        _list()
        return 0
    results = Results.load(options.read) if options.read else _measure(options)
    print(report.as_text(results))
    if options.docs:
        write_docs(results)
    return 1 if options.smoke and any(run.error for run in results.runs) else 0


def write_docs(results: Results, docs: Path = DOCS) -> None:
    """Puts the figures into the documentation: the JSON, the chart and the tables of the page."""
    results.save(docs / "benchmarks.json")
    (docs / "benchmarks.svg").write_text(chart.draw(results))
    page = docs / "benchmarks.md"
    before, rest = page.read_text().split(_BEGIN)
    after = rest.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n\n{report.as_markdown(results)}\n{_END}{after}")


def _measure(options: argparse.Namespace) -> Results:
    wanted = servers.chosen(options.peers, quick=options.quick)
    asked = jobs.smoke() if options.smoke else jobs.chosen(options.job, quick=options.quick)
    started = time.strftime("%Y-%m-%dT%H:%M:%S")
    where = {"--output", "--docs", str(options.output)}
    command = " ".join(["python -m benchmarks", *(word for word in sys.argv[1:] if word not in where)])
    results = Results(started, command, options.quick, machine())
    ready = prepare(wanted, results)
    if options.install:
        return results
    if any(server.name == "hypern" for server in ready):
        measure_events(results)
    save_to = options.output or RESULTS / f"{started.replace(':', '')}.json"
    run_all(asked, ready, results, save_to)
    results.save(save_to)
    save_to.with_suffix(".svg").write_text(chart.draw(results))
    return results


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few servers, short jobs: under three minutes")
    parser.add_argument("--peers", "--only", nargs="+", default=[], metavar="NAME", help="these servers alone")
    parser.add_argument("--job", nargs="+", default=[], metavar="NAME", help="these jobs alone, or what begins so")
    parser.add_argument("--smoke", action="store_true", help="tiny jobs: does everything still work?")
    parser.add_argument("--output", type=Path, metavar="JSON", help="where the figures go, and the chart beside them")
    parser.add_argument("--list", action="store_true", help="print the names of the servers and jobs")
    parser.add_argument("--install", action="store_true", help="make the environments and builds, and stop")
    parser.add_argument("--read", type=Path, metavar="JSON", help="measure nothing: print an earlier run")
    parser.add_argument("--docs", action="store_true", help="put the figures and the chart into docs/")
    return parser.parse_args()


def _list() -> None:
    for server in servers.SERVERS:
        print(f"{server.name:32} {server.title}")
    for job in jobs.JOBS:
        print(f"{job.name:32} {job.title.format(connections=10_000, asked=10_000)}")


if __name__ == "__main__":
    sys.exit(main())
