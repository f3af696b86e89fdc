from __future__ import annotations

import pytest

from services.router.gateways.direct.events import Events, TooLong


def read(data: bytes, size: int = 0) -> list[bytes]:
    events = Events()
    parts = [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
    found = [event for part in parts for event in events.feed(part)]
    return [*found, *events.end()]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_events_whatever_the_pieces(size: int, newline: bytes) -> None:
    lines = [b": hello", b"event: word", b"data: gr\xc3\xbc\xc3\x9fe", b"id: 1", b"", b"data:[DONE]", b"", b""]
    assert read(newline.join(lines), size) == ["grüße".encode(), b"[DONE]"]


def test_lines_of_one_event_are_joined() -> None:
    assert read(b"data: {\ndata: }\n\n") == [b"{\n}"]


def test_an_event_needs_data() -> None:
    assert read(b"\n\n: ping\n\nevent: ping\n\ndata\n\n") == []


def test_last_event_without_its_end() -> None:
    assert read(b"data: 1\n\ndata: 2") == [b"1", b"2"]


def test_byte_order_mark() -> None:
    assert read(b"\xef\xbb\xbfdata: 1\n\n") == [b"1"]


def test_several_at_once() -> None:
    assert Events().feed(b"data: 1\n\ndata: 2\n\ndata: 3") == [b"1", b"2"]


@pytest.mark.parametrize("data", [b"data: " + b"x" * 100, b"data: xxxxxxxxxx\n" * 10, b"x" * 100])
def test_event_that_is_too_long(data: bytes) -> None:
    events = Events(longest=99)
    with pytest.raises(TooLong):
        [events.feed(data[at : at + 10]) for at in range(0, len(data), 10)]


def test_long_events_are_no_long_stream() -> None:
    events = Events(longest=99)
    assert sum(len(events.feed(b"data: " + b"x" * 80 + b"\n\n")) for _ in range(1000)) == 1000
