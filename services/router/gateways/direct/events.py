"""Server-sent events out of bytes as they arrive."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 8 * 2**20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class TooLong(ValueError):
    """An event longer than any that a provider has a reason to send."""


class Events:
    """What `data:` says, one value an event; comments and other fields are left out."""

    def __init__(self, longest: int = _LONGEST) -> None:
        self._longest = longest
        self._begun: list[bytes] = []
        self._begun_length = 0
        self._data: list[bytes] = []
        self._data_length = 0
        self._first = True

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises TooLong."""
        if self._first and data:
            data, self._first = data.removeprefix(_BYTE_ORDER_MARK), False
        *lines, rest = data.split(b"\n")
        if not lines:
            self._keep(rest)
            return []
        if self._begun:
            lines[0] = b"".join((*self._begun, lines[0]))
            self._begun, self._begun_length = [], 0
        if rest:
            self._keep(rest)
        return [event for line in lines if (event := self._line(line)) is not None]

    def end(self) -> list[bytes]:
        """What was left when no more came: the last event may lack its empty line."""
        return [*self.feed(b"\n"), *self.feed(b"\n")]

    def _keep(self, part: bytes) -> None:
        self._begun.append(part)
        self._begun_length += len(part)
        if self._begun_length > self._longest:
            raise TooLong

    def _line(self, line: bytes) -> bytes | None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            self._data_length += len(line)
            if self._data_length > self._longest:
                raise TooLong
        elif not line and self._data:
            event = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data, self._data_length = [], 0
            return event
        return None
