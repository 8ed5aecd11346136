"""Asks every server every question, the servers taking turns, and keeps what was answered."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import servers
from benchmarks.servers import HERE, LOAD_GENERATOR, Server, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.jobs import Arguments, Job

RESULTS = HERE / "results"
#: Plain Python that runs the generators of a job: the names under which it is kept, and what they stand for.
PLAIN_PYTHON = {
    "plain-python": "plain Python, no server",
    "plain-python-busy": "plain Python, cores busy",
}


@dataclass
class Run:
    """One server's answer to one question."""

    job: str
    server: str
    round: int
    #: What the load generator printed; empty if there was an error.
    report: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Results:
    """All answers, and what must be known to read them."""

    started: str
    command: str
    quick: bool
    machine: dict[str, str]
    versions: dict[str, list[str]] = field(default_factory=dict)
    #: The servers that could not be measured, and why.
    skipped: dict[str, str] = field(default_factory=dict)
    #: Events a second of the generators in ``benchmarks.events``, which need no server.
    events: dict[str, float] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Writes everything as JSON, each run on a line of its own."""
        path.parent.mkdir(parents=True, exist_ok=True)
        head = asdict(self)
        runs = ",\n".join(json.dumps(run, separators=(",", ":")) for run in head.pop("runs"))
        before_the_end = json.dumps(head, indent=1).removesuffix("\n}")
        path.write_text(f'{before_the_end},\n "runs": [\n{runs}\n]\n}}\n')

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads what ``save`` wrote."""
        read = json.loads(path.read_text())
        read["runs"] = [Run(**run) for run in read["runs"]]
        return cls(**read)


def prepare(wanted: list[Server], results: Results) -> list[Server]:
    """Installs the servers; those that cannot be had are written down and left out.

    Raises:
        UnavailableError: The load generator cannot be built.
    """
    servers.build_generator()
    ready = []
    for server in wanted:
        try:
            servers.install(server)
        except UnavailableError as error:
            results.skipped[server.name] = str(error)
            print(f"{server.title} is left out: {error}", file=sys.stderr, flush=True)
        else:
            results.versions[server.name] = servers.versions(server)
            ready.append(server)
    return ready


def run_all(jobs: list[Job], ready: list[Server], results: Results, save_to: Path) -> None:
    """Runs the jobs one after the other; in each round of a job every server has its turn."""
    _raise_file_limit()
    for job in jobs:
        able = [server for server in ready if job.needs <= server.features]
        for turn in range(1 if results.quick else job.rounds):
            if any(server.name == "hypern" for server in ready):
                results.runs += [_run_plain_python(job, turn, name) for name in _references(job)]
            for server in able:
                run = _run_one(job, server, turn, quick=results.quick)
                results.runs.append(run)
                _tell(job, server, run)
        results.save(save_to)


def measure_events(results: Results) -> None:
    """Compares SSEEvent with f-strings, if Hypern can be imported."""
    command = [sys.executable, "-m", "benchmarks.events", "--json", "--rounds", "5" if results.quick else "15"]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 0:
        results.events = json.loads(done.stdout)


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def _references(job: Job) -> list[str]:
    """Which of ``PLAIN_PYTHON`` say something about the job."""
    return {"burst": list(PLAIN_PYTHON), "paced": ["plain-python"]}.get(job.kind, []) if job.generators else []


def _run_plain_python(job: Job, turn: int, name: str) -> Run:
    run = Run(job.name, name, turn)
    try:
        with _also_running(job) if name == "plain-python-busy" else contextlib.nullcontext():
            done = subprocess.run(_module(job), cwd=HERE.parent, capture_output=True, text=True, timeout=60, check=True)
        run.report = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        run.error = str(error)
    return run


@contextlib.contextmanager
def _also_running(job: Job) -> Iterator[None]:
    """Has another process do the same meanwhile: two virtual cores are often the two halves of one."""
    with subprocess.Popen([*_module(job), "--seconds=60"], cwd=HERE.parent, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def _module(job: Job) -> list[str]:
    return [sys.executable, "-m", *job.generators]


def _run_one(job: Job, server: Server, turn: int, *, quick: bool) -> Run:
    run = Run(job.name, server.name, turn)
    log = RESULTS / "logs" / f"{server.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with servers.running(server, log, {"COMPRESSION": "1"} if job.encoding else {}) as (pid, port):
            run.report = _ask(job.load, job.load_arguments(quick=quick), pid, port)
            run.error = _what_is_wrong(run.report)
    except (UnavailableError, OSError, subprocess.SubprocessError, ValueError) as error:
        run.error = str(error)
    return run


def _ask(load: str, arguments: Arguments, pid: int, port: int) -> dict[str, Any]:
    command = [str(LOAD_GENERATOR), load, "--address", f"127.0.0.1:{port}", "--pid", str(pid)]
    for name, value in arguments.items():
        command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip().splitlines()[0])
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _what_is_wrong(report: dict[str, Any]) -> str | None:
    if report["malformed"]:
        return f"{report['malformed']:,} of {report['events']:,} events do not carry what they should"
    return None


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell(job: Job, server: Server, run: Run) -> None:
    clock = time.strftime("%H:%M:%S")
    print(f"{clock}  {job.name:32} {server.name:24} {run.error or 'done'}", file=sys.stderr, flush=True)
