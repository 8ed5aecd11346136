"""The demo page in a real browser, from the first event to a cut that leaves no gap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium import webdriver
    from selenium.webdriver.remote.webelement import WebElement

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "app.py"
SECONDS = 30
LUMP_MILLISECONDS = 90  # the generator sleeps 100 between two readings; what comes in lumps has a mean of nearly none


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    with running(str(DEMO), PORT="0") as program:
        yield program.url


@pytest.fixture(scope="module")
def page(demo: str, browser: webdriver.Chrome) -> webdriver.Chrome:
    browser.get_log("browser")  # what other pages have said is not this one's
    browser.get(demo)
    return browser


def part(page: webdriver.Chrome, name: str) -> WebElement:
    return page.find_element("id", name)


def until_says(page: webdriver.Chrome, name: str, text: str) -> str:
    WebDriverWait(page, SECONDS).until(lambda _: text in part(page, name).text, f"#{name} never says {text!r}")
    return part(page, name).text


def test_the_feed_connects_and_counts(page: webdriver.Chrome) -> None:
    until_says(page, "lamp", "connected")
    until_says(page, "log", "tick")


def test_named_events_reach_their_listeners(page: webdriver.Chrome) -> None:
    log = until_says(page, "log", "That was all")
    assert "connect Connected" in log
    assert "Two lines\nin one event" in log


def test_each_kind_of_item_becomes_its_event(page: webdriver.Chrome) -> None:
    kinds = until_says(page, "kinds", "(empty)")
    for became in ("type1 From an SSEEvent", "type2 From a mapping 2", "message From a str", "custom From any object"):
        assert became in kinds
    assert "a comment: no event" in kinds
    assert "nothing was sent" in kinds


def test_the_raw_body_shows_its_comment(page: webdriver.Chrome) -> None:
    wire = until_says(page, "wire", "Done!")
    assert ": keepalive\n\nevent: start\ndata: Starting...\n\nevent: end\nretry: 5000\ndata: Done!" in wire


def test_readings_arrive_one_by_one(page: webdriver.Chrome) -> None:
    until_says(page, "sensor-count", "100 / 100")
    assert float(part(page, "sensor-mean").text.removesuffix(" ms")) > LUMP_MILLISECONDS


def test_a_thousand_events_arrive_in_order(page: webdriver.Chrome) -> None:
    part(page, "count-run").click()
    until_says(page, "count-verdict", "All there and in order")


def test_a_stopped_download_closes_its_generator(page: webdriver.Chrome) -> None:
    part(page, "download-run").click()
    WebDriverWait(page, SECONDS).until(lambda _: float(part(page, "bytes").text) > 1)
    part(page, "download-stop").click()
    until_says(page, "log", "/download: client left")


def test_a_download_is_complete(page: webdriver.Chrome) -> None:
    WebDriverWait(page, SECONDS).until(lambda _: part(page, "download-run").is_enabled())
    part(page, "download-run").click()
    until_says(page, "download-verdict", "Complete: 25,165,824 bytes")


def test_a_cut_leaves_no_gap(page: webdriver.Chrome) -> None:
    part(page, "cut").click()
    verdict = until_says(page, "verdict", "Reconnected, resumed after id")
    assert "Nothing is missing." in verdict
    assert part(page, "total-holes").text == "0"
    assert part(page, "total-reconnects").text == "1"


def test_the_page_fits_a_phone(page: webdriver.Chrome) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") == metrics["width"]
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_has_no_horizontal_scrollbar(page: webdriver.Chrome) -> None:
    width, visible = page.execute_script(
        "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
    )
    assert width == visible


def test_the_console_is_silent(page: webdriver.Chrome) -> None:
    assert page.get_log("browser") == []
