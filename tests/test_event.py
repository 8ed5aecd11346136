"""SSEEvent: its constructor, its checks and its wire format."""

from __future__ import annotations

import gc
import json
import re
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_stream_parser import ParsedEvent, parse
from hypern import SSEEvent
from hypern.sse import SSEComment


class Point(msgspec.Struct):
    x: int


@dataclass
class Size:
    width: int


class User(pydantic.BaseModel):
    name: str


UTF8_TEXT = st.text(st.characters(codec="utf-8"))
LINE = UTF8_TEXT.filter(lambda text: not re.search("[\r\n]", text))
ID = LINE.filter(lambda text: "\0" not in text)


def as_a_client_reads(data: str) -> str:
    return re.sub("\r\n|\r", "\n", data)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (SSEEvent("Hello World"), "data: Hello World\n\n"),
        (SSEEvent(data="by name"), "data: by name\n\n"),
        (SSEEvent("x", event="login"), "event: login\ndata: x\n\n"),
        (SSEEvent("x", retry=0), "retry: 0\ndata: x\n\n"),
        (SSEEvent("x", retry=3000, event="e", id="1"), "id: 1\nevent: e\nretry: 3000\ndata: x\n\n"),
        (SSEEvent("x", id="", event=""), "id: \nevent: \ndata: x\n\n"),
        (SSEEvent("x", id=None, event=None, retry=None), "data: x\n\n"),
        (SSEEvent(""), "data: \n\n"),
        (SSEEvent("a\nb"), "data: a\ndata: b\n\n"),
        (SSEEvent("a\r\nb\rc\n"), "data: a\ndata: b\ndata: c\ndata: \n\n"),
        (SSEEvent(" padded "), "data:  padded \n\n"),
        (SSEEvent("vertical\vform\fnext\x85line\u2028end"), "data: vertical\vform\fnext\x85line\u2028end\n\n"),
        (SSEEvent("ключ 🗝", id="é"), "id: é\ndata: ключ 🗝\n\n"),
        (SSEEvent(None), "data: null\n\n"),
        (SSEEvent(5), "data: 5\n\n"),
        (SSEEvent(True), "data: true\n\n"),  # noqa: FBT003
        (SSEEvent([1, "a\nb"]), 'data: [1,"a\\nb"]\n\n'),
        (SSEEvent({"n": 1}), 'data: {"n":1}\n\n'),
        (SSEEvent(b"bytes"), 'data: "Ynl0ZXM="\n\n'),
        (SSEEvent(Point(1)), 'data: {"x":1}\n\n'),
        (SSEEvent(Size(2)), 'data: {"width":2}\n\n'),
        (SSEEvent(User(name="a")), 'data: {"name":"a"}\n\n'),
        (SSEEvent([User(name="a")]), 'data: [{"name":"a"}]\n\n'),
    ],
)
def test_format(event: SSEEvent, text: str) -> None:
    assert event.format() == text
    assert event.to_bytes() == text.encode()


def test_fields_read_back() -> None:
    data = {"a": 1}
    event = SSEEvent(data, id="7", event="e", retry=5)
    assert event.data is data
    assert (event.id, event.event, event.retry) == ("7", "e", 5)
    assert (SSEEvent("x").id, SSEEvent("x").event, SSEEvent("x").retry) == (None, None, None)


def test_fields_cannot_be_assigned() -> None:
    event: Any = SSEEvent("x")
    with pytest.raises(AttributeError):
        event.data = "y"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"id": "a\nb"}, ValueError, "id must not contain a line break"),
        ({"id": "a\rb"}, ValueError, "id must not contain a line break"),
        ({"id": "\0"}, ValueError, "id must not contain NUL"),
        ({"id": "\ud800"}, ValueError, "id must not contain a lone surrogate"),
        ({"id": 7}, TypeError, "id must be str, got int"),
        ({"event": "x\ndata: evil"}, ValueError, "event must not contain a line break"),
        ({"event": "x\r"}, ValueError, "event must not contain a line break"),
        ({"event": "\udfff"}, ValueError, "event must not contain a lone surrogate"),
        ({"event": b"x"}, TypeError, "event must be str, got bytes"),
        ({"retry": -1}, ValueError, "retry must be from 0 .* got -1"),
        ({"retry": 2**64}, ValueError, "retry must be from 0"),
        ({"retry": 1.5}, TypeError, "retry must be int .* got float"),
        ({"retry": "5"}, TypeError, "retry must be int .* got str"),
        ({"retry": True}, TypeError, "retry must be int .* got bool"),
    ],
)
def test_invalid_field_is_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SSEEvent("x", **arguments)


def test_lone_surrogate_in_data() -> None:
    with pytest.raises(ValueError, match="data must not contain a lone surrogate"):
        SSEEvent("\ud800")
    with pytest.raises(ValueError, match="data holds a str with a lone surrogate"):
        SSEEvent(["\ud800"]).format()


def test_data_without_json_form() -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        SSEEvent(object()).format()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((), {}), (("x", "1"), {}), (("x",), {"bogus": 1}), (("x",), {"data": "y"}), ((), {"id": "1"})],
)
def test_wrong_arguments(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        SSEEvent(*arguments, **named)


def test_keyword_names_made_at_run_time() -> None:
    # They are not interned, so the constructor's fast path cannot know them by identity.
    name = "xid"[1:]
    assert SSEEvent("x", **{name: "7"}).id == "7"


def test_equality() -> None:
    assert SSEEvent("x", id="1", event="e", retry=2) == SSEEvent("x", id="1", event="e", retry=2)
    assert SSEEvent("x") != SSEEvent("y")
    assert SSEEvent("x") != SSEEvent("x", id="1")
    assert SSEEvent("x", event="a") != SSEEvent("x", event="b")
    assert SSEEvent("x", retry=1) != SSEEvent("x")
    assert SSEEvent("x") != "x"
    with pytest.raises(TypeError, match="unhashable"):
        hash(SSEEvent("x"))


def test_repr() -> None:
    assert repr(SSEEvent("x")) == "SSEEvent('x')"
    assert repr(SSEEvent([1], id="1", event="e", retry=2)) == "SSEEvent([1], id='1', event='e', retry=2)"


def test_subclass() -> None:
    class Tick(SSEEvent):
        def __new__(cls, number: int) -> Tick:  # noqa: PYI034 - Self is not in Python 3.10
            return super().__new__(cls, f"tick {number}", id=str(number))

    tick = Tick(4)
    assert isinstance(tick, SSEEvent)
    assert tick.format() == "id: 4\ndata: tick 4\n\n"
    assert repr(tick) == "Tick('tick 4', id='4')"


def test_comment_is_text_and_a_comment() -> None:
    comment = SSEEvent.comment("keepalive")
    assert isinstance(comment, SSEComment)
    assert comment == ": keepalive\n\n"
    body = "" + SSEEvent.comment("two\r\nlines") + SSEEvent("x").format()
    parsed = parse(body.encode())
    assert parsed.comments == ["two", "lines"]
    assert parsed.events == [ParsedEvent("x", "message", "")]


def test_references_are_released() -> None:
    data, name, identifier = (f"{kind} {id(object())}" for kind in ("data", "event", "id"))
    before = [sys.getrefcount(value) for value in (data, name, identifier)]
    for _ in range(100):
        SSEEvent(data, event=name, id=identifier)
        with pytest.raises(TypeError, match="id must be str"):
            SSEEvent(data, event=name, id=5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="bogus"):
            SSEEvent(data, id=identifier, bogus=name)  # type: ignore[call-arg]
    assert [sys.getrefcount(value) for value in (data, name, identifier)] == before


def test_memory_of_an_event_that_is_over_is_used_again() -> None:
    # More than are kept, twice: some are new, some have been events before, and none has anything of another.
    for turn in range(2):
        held = [SSEEvent(f"{turn} {i}", id=str(i), event="e" if i % 2 else None, retry=i) for i in range(600)]
        assert len({id(event) for event in held}) == len(held)
        for i, event in enumerate(held):
            assert (event.data, event.id, event.event, event.retry) == (
                f"{turn} {i}",
                str(i),
                "e" if i % 2 else None,
                i,
            )
        del held, event
    again = SSEEvent("plain")
    assert (again.data, again.id, again.event, again.retry) == ("plain", None, None, None)


def test_an_event_that_is_over_keeps_nothing_alive() -> None:
    class Payload:
        pass

    references = []
    for _ in range(600):
        payload = Payload()
        references.append(weakref.ref(payload))
        SSEEvent(payload)
        del payload
    assert [reference for reference in references if reference() is not None] == []


def test_the_garbage_collector_does_not_see_events() -> None:
    def seen() -> int:
        return sum(type(each) is SSEEvent for each in gc.get_objects())

    before = seen()
    held = [SSEEvent(i) for i in range(600)]
    assert seen() == before
    held += [SSEEvent.__new__(SSEEvent, i) for i in range(600)]
    del held
    assert seen() == before, "an event that is over is seen"


def test_references_to_the_class_are_balanced() -> None:
    class Own(SSEEvent):
        pass

    for kind in (SSEEvent, Own):
        gc.collect()
        before = sys.getrefcount(kind)
        for _ in range(3):
            held = [kind(i) for i in range(600)]
            assert {type(event) for event in held} == {kind}
            assert sys.getrefcount(kind) >= before + len(held)
            del held
        gc.collect()
        assert sys.getrefcount(kind) == before


def test_data_that_makes_events_when_it_is_released() -> None:
    made = []

    class Payload:
        def __del__(self) -> None:
            made.append(SSEEvent("from the end", id=str(len(made))))

    for _ in range(300):
        SSEEvent(Payload())
    assert [event.id for event in made] == [str(i) for i in range(300)]


def test_events_of_many_threads() -> None:
    def make(name: str) -> list[str]:
        return ["".join(SSEEvent(f"{name} {i}").format() for _ in range(3)) for i in range(2000)]

    with ThreadPoolExecutor(4) as pool:
        for name, texts in zip("abcd", pool.map(make, "abcd"), strict=True):
            assert texts == [f"data: {name} {i}\n\n" * 3 for i in range(2000)]


@given(data=UTF8_TEXT, identifier=st.none() | ID, name=st.none() | LINE, retry=st.none() | st.integers(0, 2**64 - 1))
def test_a_client_reads_what_was_sent(data: str, identifier: str | None, name: str | None, retry: int | None) -> None:
    event = SSEEvent(data, id=identifier, event=name, retry=retry)
    parsed = parse(event.to_bytes() + SSEEvent("after").to_bytes())
    assert parsed.events == [
        ParsedEvent(as_a_client_reads(data), name or "message", identifier or ""),
        ParsedEvent("after", "message", identifier or ""),
    ]
    assert parsed.reconnection_time == retry
    assert parsed.comments == []
    assert event.format().encode() == event.to_bytes()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | UTF8_TEXT,
    lambda children: st.lists(children) | st.dictionaries(UTF8_TEXT, children),
    max_leaves=10,
)


@given(JSON.filter(lambda value: not isinstance(value, str)))
def test_json_data_reads_back(value: Any) -> None:
    (event,) = parse(SSEEvent(value).to_bytes()).events
    assert json.loads(event.data) == value


@given(st.text(), st.sampled_from(["data", "id", "event"]))
def test_no_text_can_inject(text: str, field: str) -> None:
    arguments: dict[str, Any] = {"data": "x", field: text}
    try:
        formatted = SSEEvent(**arguments).format()
    except ValueError:
        return
    assert {line.split(":")[0] for line in formatted.split("\n")} <= {"id", "event", "data", ""}
    assert formatted.index("\n\n") == len(formatted) - 2
