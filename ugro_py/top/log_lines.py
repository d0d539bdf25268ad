"""The lines of logs in `ugro top`: they grow at their end and are searched as in `less`, what was found is marked."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Self

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.strip import Strip
from textual.widgets import RichLog

from ugro_py.display import plain_line, safe_line
from ugro_py.top.widgets import plain

_KEPT_LINES = 10_000
# Of a line that is longer the rest is not drawn; it is searched, as long as all such rests together are not too large.
_SHOWN = 4_000
_SEARCHED = 50_000_000
_AROUND = 30
_MARK = Style(reverse=True)


@dataclass(eq=False)
class Line:
    """A line as it is drawn, and what is searched of it.

    Args:
        text: what is drawn.
        begin: where in it what the rank printed begins: behind the number of the rank.
        end: where that ends.
        whole: all that the rank printed, where not all of it is drawn; without control sequences.
        row: the first of its rows on the screen, counted from the first that ever was.
        rows: how many it has.
    """

    text: Text
    begin: int = 0
    end: int = 0
    whole: str = ""
    row: int = 0
    rows: int = 0


def shown(line: bytes, *, several: bool) -> Line:
    """Return a line of `ugro logs --json` as it may be shown; anything else it says as it is."""
    try:
        found = json.loads(line)
        rank, text = int(found["rank"]), str(found["line"])
    except (ValueError, KeyError, TypeError):
        said = plain(line.decode(errors="replace"), "red")
        return Line(said, 0, len(said))
    is_long = len(text) > _SHOWN
    more = f" … {len(text) - _SHOWN} more characters, see `ugro logs`" if is_long else ""
    front = Text.assemble((f"{rank}│", "cyan")) if several else Text()
    content = Text.from_ansi(safe_line(text[:_SHOWN].expandtabs()))
    drawn = Text.assemble(front, content, more)
    return Line(drawn, len(front), len(front) + len(content), plain_line(text) if is_long else "")


class LogLines(RichLog):
    """Lines of logs.

    Args:
        id: of the widget.
    """

    def __init__(self, id: str) -> None:
        super().__init__(max_lines=_KEPT_LINES, wrap=True, markup=False, highlight=False, min_width=0, id=id)
        self._entries: deque[Line] = deque()
        self._longest = 0  # characters of all `whole`
        self._pattern: re.Pattern[str] | None = None
        self._at: Line | None = None

    def add(self, line: Line) -> None:
        """Put a line at the end."""
        line.row = self._start_line + len(self.lines)
        self.write(line.text)
        line.rows = self._start_line + len(self.lines) - line.row
        self._entries.append(line)
        self._longest += len(line.whole)
        while self._entries and self._entries[0].row < self._start_line:
            self._longest -= len(self._entries.popleft().whole)
        for old in self._entries if self._longest > _SEARCHED else ():
            self._longest, old.whole = self._longest - len(old.whole), ""
            if self._longest <= _SEARCHED:
                break

    def clear(self) -> Self:
        """Begin anew; what is looked for stays."""
        self._entries.clear()
        self._longest, self._at = 0, None
        super().clear()
        return self

    def look_for(self, words: str) -> None:
        """Look for these words from now on, whatever their case; nothing for an empty text."""
        self._pattern = re.compile(re.escape(words), re.IGNORECASE) if words else None
        self._at = None
        self.refresh()

    def find(self, *, back: bool = False) -> str | None:
        """Go to the next line with the words, from what is on the screen on; after the last line comes the first.

        Args:
            back: to the one before, instead.

        Returns:
            None where no line has them; else what to say of what was found: what is around it where it is not drawn,
            that it was begun anew, or nothing.
        """
        if self._pattern is None:
            return None
        lines, count = list(self._entries), len(self._entries)
        top = self._start_line + self.scroll_offset.y
        here = self._at.row if self._at is not None and self._at in self._entries else top - (not back)
        rows = [line.row for line in lines]
        first = bisect_right(rows, here) if not back else bisect_right(rows, here - 1) - 1
        for number in range(count):
            place = first - number if back else first + number
            line = lines[place % count]
            if (at := self._pattern.search(line.text.plain, line.begin, line.end)) is not None:
                around, row = "", line.row + self._row_of(line, at.start())
            elif (at := self._pattern.search(line.whole)) is not None:
                around = line.whole[max(0, at.start() - _AROUND) : at.end() + _AROUND]
                row = line.row + self._rows(line)[-1][0]
            else:
                continue
            self._at = line
            self.auto_scroll = False
            self.scroll_to(y=max(0, row - self._start_line - self.size.height // 3), animate=False, immediate=True)
            self.refresh()
            anew = "" if 0 <= place < count else "from the last line on" if back else "from the first line on"
            return f"left out here: …{around}…" if around else anew
        return None

    def _rows(self, line: Line) -> list[tuple[int, int]]:
        """Return of each row of a line on the screen its number in the line, and with which character it begins."""
        found, at, first = [(0, 0)], 0, line.row - self._start_line
        for number in range(line.rows):
            row = self.lines[first + number].text.rstrip()
            begins = line.text.plain.find(row, at)  # between two rows blanks are left out
            if begins >= 0:
                found[number:] = [(number, begins)]
                at = begins + len(row)
        return found

    def _row_of(self, line: Line, at: int) -> int:
        return max((number for number, begins in self._rows(line) if begins <= at), default=0)

    def render_line(self, y: int) -> Strip:
        """Draw a row, with what is looked for marked."""
        strip = super().render_line(y)
        if self._pattern is None or not self._entries:
            return strip
        row = self._start_line + self.scroll_offset.y + y
        line = self._entries[max(0, bisect_right(self._entries, row, key=lambda one: one.row) - 1)]
        begins = next((at for number, at in self._rows(line) if line.row + number == row), None)
        if begins is None:
            return strip
        text = strip.text
        cuts = [0]
        for found in self._pattern.finditer(line.text.plain, line.begin, line.end):
            from_, to = max(0, found.start() - begins), min(len(text), found.end() - begins)
            if from_ < to:
                cuts += [cell_len(text[:from_]), cell_len(text[:to])]
        parts = [strip.crop(*pair) for pair in pairwise([*cuts, strip.cell_length])]
        marked = (part.apply_style(_MARK) if number % 2 else part for number, part in enumerate(parts))
        return Strip(chain.from_iterable(marked), strip.cell_length)
