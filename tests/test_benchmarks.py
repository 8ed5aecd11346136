"""The benchmark runs: its jobs, in tiny, against this server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.run import Results, Run

ROOT = Path(__file__).parent.parent

# The first run builds the load generator.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the load generator said of each job."""
    output = tmp_path_factory.mktemp("benchmarks") / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--peers", "hypern", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert output.with_suffix(".svg").read_text().startswith("<svg")
    runs = json.loads(output.read_text())["runs"]
    return {run["job"]: run["report"] for run in runs if run["server"] == "hypern"}


def of_kind(reports: dict[str, dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The reports of the jobs that the generator calls so."""
    found = [report for report in reports.values() if report["job"] == kind]
    assert found, kind
    return found


def test_no_client_is_refused_or_cut(reports: dict[str, dict[str, Any]]) -> None:
    for name, report in reports.items():
        failures = {key: report[key] for key in ("refused", "rejected", "cut", "malformed")}
        assert not any(failures.values()), (name, failures)


def test_bursts_arrive_whole_and_in_order(reports: dict[str, dict[str, Any]]) -> None:
    for report in of_kind(reports, "burst"):
        assert report["events"] > 1000
        assert report["first_event"]["never"] == 0


def test_paced_events_are_on_schedule(reports: dict[str, dict[str, Any]]) -> None:
    for report in of_kind(reports, "paced"):
        assert report["on_schedule"] > 0.5
        assert report["lateness"]["p50"] < 1000


def test_every_idle_stream_is_open_and_its_memory_known(reports: dict[str, dict[str, Any]]) -> None:
    for report in of_kind(reports, "idle"):
        assert report["answered"] == report["connections"]
        assert report["server"]["rss_after"] > 0


def test_first_bytes_come_while_others_are_served(reports: dict[str, dict[str, Any]]) -> None:
    for report in of_kind(reports, "first-byte"):
        assert report["first_event"]["count"] > 0


def test_requests_are_counted_with_their_cost(reports: dict[str, dict[str, Any]]) -> None:
    for report in of_kind(reports, "requests"):
        assert report["requests_per_second"] > 0
        assert report["server"]["cpu_us_per_request"] > 0


def test_a_download_is_whole(reports: dict[str, dict[str, Any]]) -> None:
    for report in of_kind(reports, "download"):
        assert report["ended"] == 1
        assert report["bytes"] == 16 * 2**20


def test_every_client_of_a_churn_gets_its_event(reports: dict[str, dict[str, Any]]) -> None:
    for report in of_kind(reports, "churn"):
        assert report["events"] >= report["connections"]
        assert report["timed_out"] == 0


def test_the_encoding_asked_for_is_the_one_sent(reports: dict[str, dict[str, Any]]) -> None:
    for name, report in reports.items():
        expected = name.rpartition("-")[2]
        assert report["encoding"] == (expected if expected in {"gzip", "zstd"} else None), name


def test_http2_is_spoken_where_asked_for(reports: dict[str, dict[str, Any]]) -> None:
    assert {name for name, report in reports.items() if report["protocol"] == "h2c"} == {
        "burst-async-h2c",
        "hello-async-h2c",
        "paced-async-h2c",
    }


def test_what_is_saved_can_be_read(tmp_path: Path) -> None:
    results = Results("2026-01-31T12:00:00", "python -m benchmarks", quick=False, machine={"cores": "2"})
    for runs in ([], [Run("burst", "hypern", 0, {"events": 1}), Run("burst", "limit", 1, error="it ended at once")]):
        results.runs = runs
        results.save(tmp_path / "results.json")
        assert Results.load(tmp_path / "results.json") == results
