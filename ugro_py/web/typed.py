"""What somebody typed into a form that brings more along than is taken: its texts are kept, its files thrown away."""

from __future__ import annotations

from fastapi import Request
from starlette.types import Message

from ugro_py.api.guard import BODY_LIMIT
from ugro_py.web.launch_fields import FILES

_MOST_FIELDS, _LONGEST_HEADER = 100, 4096
_MOST_PARTS = 20_000
"""What comes after so many files is not looked at: each takes the event loop some microseconds."""


class Typed:
    """The texts of a form of several parts, read as it comes past; of its files only which fields have some.

    Args:
        request: whose body it is. `receive` is to be used in place of the request's own; `rest` takes in what nobody
            wanted.
    """

    def __init__(self, request: Request) -> None:
        from python_multipart.multipart import MultipartParser, parse_options_header

        self.fields: dict[str, str] = {}
        self.chosen: set[str] = set()
        """The fields that files were chosen in."""
        self._receive = request.receive
        self._more = True
        self._room, self._parts = BODY_LIMIT, 0
        self._name, self._is_text, self._header, self._value = "", True, b"", b""
        self._text = bytearray()
        boundary = parse_options_header(request.headers.get("content-type", ""))[1].get(b"boundary", b"")
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_value,
                "on_header_end": self._header_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        ) if boundary else None  # fmt: skip

    async def receive(self) -> Message:
        """Return the next part of the request, as `Request.receive` does."""
        from python_multipart.exceptions import FormParserError

        message = await self._receive()
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        try:
            if self._parser is not None:
                self._parser.write(message.get("body", b""))
        except FormParserError:  # who reads the form says so
            self._parser = None
        if self._parts > _MOST_PARTS:
            self._parser = None
        return message

    async def rest(self) -> None:
        """Read to the end of the request."""
        while self._more:
            await self.receive()

    def _begin(self) -> None:
        self._parts += 1
        self._name, self._is_text, self._header, self._value, self._text = "", True, b"", b"", bytearray()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start : min(end, start + _LONGEST_HEADER - len(self._header))]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start : min(end, start + _LONGEST_HEADER - len(self._value))]

    def _header_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        if self._header.lower() == b"content-disposition":
            options = parse_options_header(self._value)[1]
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self._is_text = b"filename" not in options
            if options.get(b"filename") and self._name in FILES:
                self.chosen.add(self._name)
        self._header, self._value = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_text or end - start > self._room:
            self._is_text = False
            return
        self._room -= end - start
        self._text += data[start:end]

    def _end(self) -> None:
        if self._name and self._is_text and len(self.fields) < _MOST_FIELDS:
            self.fields[self._name] = self._text.decode("utf-8", "replace")
