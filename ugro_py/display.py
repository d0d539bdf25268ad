"""Figures, text and curves for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

# A log may hold anything. Colours (SGR) are kept, every other control sequence could move the cursor, set the
# title or ask the terminal to answer; direction marks could make a line read as another one.
_SEQUENCE = re.compile(
    r"\x1b\[[0-9;:]{0,64}m"  # kept
    r"|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, [row][column]


def safe_line(line: str) -> str:
    """Return a line as it may be shown on a terminal: colours kept, all other control characters removed.

    Of a line that a progress bar wrote over with carriage returns, the last state is kept.
    """
    shown = next((part for part in reversed(line.split("\r")) if part), "")
    shown = _SEQUENCE.sub(lambda match: match[0] if _COLOUR.fullmatch(match[0]) else "", shown)
    return shown + "\x1b[0m" if "\x1b[" in shown else shown


def counted(number: int, noun: str) -> str:
    """Return "1 GPU", "3 GPUs"; of a noun whose plural has an s."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def fitting(widths: Mapping[str, int], leave_out: Iterable[str], width: int, between: int = 2) -> list[str]:
    """Return the names of a table's columns that `width` has room for, so that none is cut or broken.

    Args:
        widths: how wide each column is, in order.
        leave_out: which go first where not all fit; the others stay in any case.
        between: how far columns are apart.
    """
    found = dict(widths)
    for name in leave_out:
        if sum(found.values()) + between * (len(found) - 1) <= width:
            break
        found.pop(name, None)
    return list(found)


def plain_line(line: str) -> str:
    """Return a line as it may be shown where there are no colours: a page, a file. No control sequence is left."""
    return _COLOUR.sub("", safe_line(line)).replace("\x1b", "")


def number(value: float | None, unit: str = "") -> str:
    """Return a number with at most four significant digits (whole ones in full) and its unit; "-" for None."""
    if value is None:
        return "-"
    # A number of hundreds of digits would tear every table.
    if abs(value) >= 1e15:
        text = f"{value:.4g}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"
    return f"{text} {unit}" if unit else text


def duration(seconds: float | None) -> str:
    """Return a length of time as people read it: `3.2s`, `42s`, `7m05s`, `3h07m`, `2d04h`; "-" for None.

    Like a clock it tells what has passed in full: 61.9 s are `1m01s`, wherever they are shown.
    """
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{max(0, int(seconds * 10)) / 10:g}s"
    whole = int(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d{hours % 24:02}h" if days < 10_000 else f"{days:.4g}d"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"


def curve(
    points: Sequence[tuple[int, float]], *, width: int = 80, height: int = 14, title: str, braille: bool = True
) -> str:
    """Draw a line through `points` (step, value; steps ascending), every extreme of them included.

    Both axes run from the smallest to the greatest number there is, and say so at their ends.

    Args:
        width: columns in all; at least 24 are used.
        height: rows of the drawing, without title and axis.
        title: what the values are.
        braille: draw with braille dots; with asterisks where the terminal has ASCII only.
    """
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = min(values), max(values)
    half = high / 2 - low / 2  # the distance between two finite numbers need not be one
    labels = [""] * height
    for row in range(0, height, 4) if high > low else ():
        labels[row] = _tick(high - half * (row / (height - 1)) - half * (row / (height - 1)), high - low)
    labels[height - 1 if high > low else height // 2] = _tick(low, high - low)
    margin = max(map(len, labels))
    columns = max(24, width) - margin - 2
    across, down = (2, 4) if braille else (1, 1)
    dots = _line(points, (steps[0], steps[-1]), (low, high), columns * across, height * down)
    axis, tick, corner, bottom, mark = "│┤└─┬" if braille else "||+-+"
    lines = [title]
    for row, label in enumerate(labels):
        cells = [_cell(dots, column, row, braille) for column in range(columns)]
        lines.append(f"{label:>{margin}} {tick if label else axis}{''.join(cells)}".rstrip())
    marks, numbers = [bottom] * columns, [" "] * (columns + margin + 2)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        step = round(steps[0] + share * (steps[-1] - steps[0]))
        column = 0 if steps[0] == steps[-1] else round((step - steps[0]) / (steps[-1] - steps[0]) * (columns - 1))
        text = str(step)
        start = max(0, min(margin + 2 + column - len(text) // 2, len(numbers) - len(text)))
        if all(cell == " " for cell in numbers[max(0, start - 1) : start + len(text) + 1]):
            numbers[start : start + len(text)] = text
            marks[column] = mark
    lines.append(f"{'':>{margin}} {corner}{''.join(marks)}")
    lines.append("".join(numbers).rstrip())
    lines.append(f"{'step':>{margin + 2 + columns // 2 + 2}}")
    return "\n".join(lines)


def _tick(value: float, span: float) -> str:
    """Label a value so that neighbours on an axis of `span` differ."""
    if abs(value) >= 1e5 or (value and abs(value) < 1e-3 and span < 1e-2):
        return f"{value:.2e}"
    return f"{value:.{2 if span >= 0.2 else 4}f}"


def _line(
    points: Sequence[tuple[int, float]], x: tuple[float, float], y: tuple[float, float], width: int, height: int
) -> set[tuple[int, int]]:
    """Return the dots (column, row) of a line through the points; row 0 is the greatest value."""
    by_column: dict[int, list[int]] = {}
    half = y[1] / 2 - y[0] / 2
    for step, value in points:
        column = round((step - x[0]) / ((x[1] - x[0]) or 1) * (width - 1))
        row = round((y[1] / 2 - value / 2) / half * (height - 1)) if half else height // 2
        seen = by_column.setdefault(column, [])
        if not seen or row != seen[-1]:
            seen.append(row)
    dots: set[tuple[int, int]] = set()
    last: tuple[int, int] | None = None
    for column, seen in by_column.items():
        dots.update((column, row) for row in range(min(seen), max(seen) + 1))
        if last is not None:
            length = max(column - last[0], abs(seen[0] - last[1]))
            for i in range(1, length):
                share = i / length
                dots.add((round(last[0] + share * (column - last[0])), round(last[1] + share * (seen[0] - last[1]))))
        last = (column, seen[-1])
    return dots


def _cell(dots: set[tuple[int, int]], column: int, row: int, braille: bool) -> str:
    if not braille:
        return "*" if (column, row) in dots else " "
    bits = sum(_DOTS[j][i] for j in range(4) for i in range(2) if (column * 2 + i, row * 4 + j) in dots)
    return chr(0x2800 + bits) if bits else " "
