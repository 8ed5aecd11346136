"""The documentation is code too: its blocks run, its links lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from hypern import Hypern
from hypern.testing import TestClient

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """Yield each block of a language, on the lines where it stands, so that a traceback leads there."""
    text = page.read_text()
    for found in FENCED.finditer(text):
        if found[1] == language:
            yield "\n" * text.count("\n", 0, found.start(2)) + found[2]


def pages_with(language):
    return [page for page in PAGES if any(blocks(page, language))]


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
pages_with_python = pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
pages_with_javascript = pytest.mark.parametrize("page", pages_with("javascript"), ids=name_of)


def run(page):
    """Run all of a page's Python, as a module that is imported, and return what it has defined."""
    namespace = {"__name__": page.stem}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)
    return namespace


@pages_with_python
def test_its_python_runs(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    namespace = run(page)
    assert isinstance(namespace["app"], Hypern)
    for name, value in namespace.items():
        if name.startswith("test_"):
            value()


@pages_with_python
def test_its_routes_answer(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    app = run(page)["app"]
    paths = [route.path for route in app.routes() if "GET" in route.methods]
    with TestClient(app) as client:
        for path in paths:
            url = re.sub(r"[:*](\w+)", "1", path)
            with client.stream("GET", url, timeout=30) as response:
                assert response.status_code < 500
                if response.headers["content-type"] == "text/event-stream":
                    # Some are silent for long, and say so: that is an answer as well.
                    assert next(response.iter_raw())


@pages_with_javascript
def test_its_javascript_parses(page, tmp_path):
    for number, block in enumerate(blocks(page, "javascript")):
        script = tmp_path / f"{number}.mjs"
        script.write_text(block)
        checked = subprocess.run(["node", "--check", script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def anchors(page):
    for heading in HEADING.findall(FENCED.sub("", page.read_text())):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every_page
def test_its_links_lead_somewhere(page):
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{target.name} has no heading for #{anchor}"
