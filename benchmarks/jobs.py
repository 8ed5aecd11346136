"""What is asked of every server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

#: Arguments of the load generator, without the leading dashes; True stands for one that has no value.
Arguments = dict[str, "str | float | bool"]


@dataclass(frozen=True)
class Job:
    """One question, asked of each server in turn."""

    name: str
    #: What is measured: burst, paced, idle, first-byte, hello, download or churn.
    kind: str
    #: The sentence above the table; the sizes of the run that it is about are filled in.
    title: str
    #: The load generator's word for it, and its arguments.
    load: str
    arguments: Arguments
    rounds: int = 1
    #: What differs in a quick run; None leaves the job out of it.
    quick: Arguments | None = None
    #: A server without this word in its features cannot do the job.
    needs: frozenset[str] = field(default_factory=frozenset)
    encoding: str | None = None
    #: The module that runs the job's generators without a server, and its arguments.
    generators: tuple[str, ...] = ()

    def load_arguments(self, *, quick: bool) -> Arguments:
        """The arguments of the generator: those of a quick run where they differ."""
        encoding: Arguments = {"encoding": self.encoding} if self.encoding else {}
        return self.arguments | encoding | ((self.quick or {}) if quick else {})


def _burst(flavour: str) -> Job:
    return Job(
        name=f"burst-{flavour}",
        kind="burst",
        title=f"Burst, {flavour}: 8 clients, each of a generator of 100,000 events that never waits",
        load="burst",
        arguments={"path": f"/burst-{flavour}", "connections": 8, "duration": 4, "open-rate": 0},
        rounds=3,
        quick={"duration": 1.5},
        needs=frozenset({f"stream-{flavour}"}),
        generators=("benchmarks.events", f"--exhaust={flavour}"),
    )


def _paced(flavour: str, clients: int, rate: int) -> Job:
    noun = "event" if rate == 1 else "events"
    return Job(
        name=f"paced-{flavour}-{clients}x{rate}",
        kind="paced",
        title=f"Paced, {flavour}: {clients:,} clients, each of a generator of {rate} {noun} a second",
        load="paced",
        arguments={
            "path": f"/paced-{flavour}?rate={rate}",
            "connections": clients,
            "rate": rate,
            "open-rate": 1000,
            "warmup": 1.5,
            "duration": 5,
        },
        quick={"duration": 2, "warmup": 0.5} if (clients, rate) == (1000, 10) else None,
        needs=frozenset({f"stream-{flavour}"}),
        generators=("benchmarks.paced", flavour) if (clients, rate) == (1000, 10) else (),
    )


def _idle(flavour: str) -> Job:
    return Job(
        name=f"idle-{flavour}",
        kind="idle",
        title=f"Idle, {flavour}: {{connections:,}} clients of a generator that sends one event and then waits",
        load="idle",
        arguments={
            "path": f"/idle-{flavour}",
            "connections": 10_000,
            "open-rate": 2000,
            "warmup": 1,
            "duration": 2,
        },
        quick={"connections": 2000, "warmup": 0.3, "duration": 0.3} if flavour == "async" else None,
        needs=frozenset({f"stream-{flavour}"}),
    )


def _h2c(kind: str, load: str, title: str, arguments: Arguments) -> Job:
    return Job(
        name=f"{kind}-async-h2c",
        kind=kind,
        title=f"{title}, over HTTP/2 without TLS",
        load=load,
        arguments=arguments | {"h2c": True},
        needs=frozenset({"stream-async", "h2c"}),
    )


def _first_byte(flavour: str) -> Job:
    return Job(
        name=f"first-byte-{flavour}",
        kind="first-byte",
        title=f"First byte, {flavour}: the wait for the first event while 1,000 others get 10 a second",
        load="first-byte",
        arguments={
            "path": f"/paced-{flavour}?rate=10",
            "connections": 1000,
            "open-rate": 1000,
            "warmup": 1,
            "count": 200,
            "duration": 15,
        },
        needs=frozenset({f"stream-{flavour}"}),
    )


def _hello(what: str, flavour: str) -> Job:
    return Job(
        name=f"{what}-{flavour}",
        kind="hello",
        title=f"Hello, {flavour}: {'text' if what == 'hello' else 'JSON'} from a handler, 64 keep-alive connections",
        load="requests",
        arguments={"path": f"/{what}-{flavour}", "connections": 64, "duration": 3},
        rounds=3,
        quick={"duration": 1.5, "warmup": 0.3} if what == "hello" else None,
        needs=frozenset({f"handler-{flavour}"}),
    )


def _download(flavour: str) -> Job:
    return Job(
        name=f"download-{flavour}",
        kind="download",
        title=f"Download, {flavour}: a generator of 64 KiB chunks, one client",
        load="download",
        arguments={"path": f"/download-{flavour}?size=1073741824", "duration": 20},
        # A third of a second each.
        rounds=5,
        quick={"path": f"/download-{flavour}?size=268435456", "duration": 4} if flavour == "sync" else None,
        needs=frozenset({f"stream-{flavour}", "bytes"}),
    )


def _compressed_burst(flavour: str, encoding: str) -> Job:
    return Job(
        name=f"burst-{flavour}-{encoding}",
        kind="burst",
        title=f"Burst, {flavour}, through {encoding}: 8 clients, each of a generator of 100,000 events",
        load="burst",
        arguments={"path": f"/burst-{flavour}", "connections": 8, "duration": 3, "open-rate": 0},
        needs=frozenset({f"stream-{flavour}", encoding}),
        encoding=encoding,
    )


def _compressed_paced(flavour: str, encoding: str) -> Job:
    return Job(
        name=f"paced-{flavour}-1000x10-{encoding}",
        kind="paced",
        title=f"Paced, {flavour}, through {encoding}: 1,000 clients, each of a generator of 10 events a second",
        load="paced",
        arguments={
            "path": f"/paced-{flavour}?rate=10",
            "connections": 1000,
            "rate": 10,
            "warmup": 1.5,
            "duration": 5,
        },
        needs=frozenset({f"stream-{flavour}", encoding}),
        encoding=encoding,
    )


def _churn(flavour: str) -> Job:
    return Job(
        name=f"churn-{flavour}",
        kind="churn",
        title=f"Churn, {flavour}: {{asked:,}} clients, 50 at a time, that take one event and leave; 20 seconds at most",
        load="churn",
        arguments={"path": f"/paced-{flavour}?rate=10", "connections": 50, "count": 10_000, "duration": 20},
        quick={"count": 2000, "duration": 4} if flavour == "async" else None,
        needs=frozenset({f"stream-{flavour}"}),
    )


_FLAVOURS = ("sync", "async")
_ENCODINGS = ("gzip", "zstd")

JOBS: tuple[Job, ...] = (
    *(_burst(flavour) for flavour in _FLAVOURS),
    *(_paced(flavour, clients, rate) for clients in (1000, 5000) for rate in (10, 1) for flavour in _FLAVOURS),
    *(_idle(flavour) for flavour in _FLAVOURS),
    *(_first_byte(flavour) for flavour in _FLAVOURS),
    *(_hello(what, flavour) for what in ("hello", "json") for flavour in _FLAVOURS),
    *(_download(flavour) for flavour in _FLAVOURS),
    *(_compressed_burst(flavour, encoding) for encoding in _ENCODINGS for flavour in _FLAVOURS),
    *(_compressed_paced(flavour, encoding) for encoding in _ENCODINGS for flavour in _FLAVOURS),
    *(_churn(flavour) for flavour in _FLAVOURS),
    _h2c(
        "burst",
        "burst",
        "Burst, async: 8 clients, each of a generator of 100,000 events",
        {"path": "/burst-async", "connections": 8, "duration": 3, "open-rate": 0},
    ),
    _h2c(
        "paced",
        "paced",
        "Paced, async: 1,000 clients, each of a generator of 10 events a second",
        {"path": "/paced-async?rate=10", "connections": 1000, "rate": 10, "warmup": 1.5, "duration": 5},
    ),
    _h2c(
        "hello",
        "requests",
        "Hello, async: text from a handler, 64 requests at a time",
        {"path": "/hello-async", "connections": 64, "duration": 3},
    ),
)


def chosen(names: list[str], *, quick: bool) -> list[Job]:
    """The jobs whose name begins with one of ``names``, or all; of a quick run, those that belong to it.

    Args:
        names: Names, or beginnings of names: ``paced`` stands for all paced jobs.
        quick: Leaves out what takes long, unless it is named.

    Raises:
        ValueError: Nothing has that name.
    """
    for name in names:
        if not any(job.name.startswith(name) for job in JOBS):
            msg = f"no job is named {name!r}; there are {', '.join(job.name for job in JOBS)}"
            raise ValueError(msg)
    if names:
        exact = {job.name for job in JOBS}
        return [
            job
            for job in JOBS
            if any(job.name == name or (name not in exact and job.name.startswith(name)) for name in names)
        ]
    return [job for job in JOBS if job.quick is not None or not quick]


#: Enough to see that everything works, and far too little to measure anything.
_SMOKE: Arguments = {"warmup": 0.2, "duration": 0.6}
_SMOKE_LIMITS: Arguments = {"connections": 20, "count": 20}
_SMOKE_SIZE = "size=16777216"
_SMOKE_JOBS = [
    "burst-sync",
    "burst-async",
    "burst-sync-gzip",
    "burst-async-zstd",
    "burst-async-h2c",
    "paced-sync-1000x10",
    "paced-async-1000x10",
    "paced-async-1000x10-gzip",
    "paced-async-h2c",
    "idle",
    "first-byte-async",
    "hello",
    "download",
    "churn-sync",
    "churn-async",
]


def smoke() -> list[Job]:
    """Tiny versions of the jobs, one or two of each kind."""
    return [
        replace(job, arguments=_smoke_arguments(job), quick={}, rounds=1) for job in chosen(_SMOKE_JOBS, quick=False)
    ]


def _smoke_arguments(job: Job) -> Arguments:
    arguments = job.arguments | _SMOKE
    arguments["path"] = str(arguments["path"]).replace("size=1073741824", _SMOKE_SIZE)
    for name, limit in _SMOKE_LIMITS.items():
        if name in arguments:
            arguments[name] = min(float(arguments[name]), float(limit))
    return {name: int(value) if name in _SMOKE_LIMITS else value for name, value in arguments.items()}
