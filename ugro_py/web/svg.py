"""Curves as points of SVG lines, drawn by the server: sparklines, and charts for pages without JavaScript."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Point = tuple[float, float]


@dataclass(frozen=True)
class Still:
    """A chart that stands still. Coordinates are of a viewBox `width` x `height`; texts are for the axes.

    Attributes:
        lines: (name, index of its colour, its pieces: values of `points`); a gap begins a new piece.
        x_ticks, y_ticks: (coordinate, text).
    """

    lines: tuple[tuple[str, int, tuple[str, ...]], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: int = 640
    height: int = 220
    left: int = 64
    bottom: int = 196


def spark(values: Sequence[float | None], width: int = 96, height: int = 24) -> list[str]:
    """Return the `points` of a sparkline, a text for each piece between values that are none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2:
        return []
    low, high = min(known), max(known)
    across = (width - 2) / max(len(values) - 1, 1)
    points = [
        None
        if value is None or not math.isfinite(value)
        else (1 + at * across, _place(value, low, high, height - 2, 1))
        for at, value in enumerate(values)
    ]
    return list(_pieces(points))


def still(chart: Mapping[str, Any]) -> Still | None:
    """Return a chart of `Chart.to_json()` to be drawn without a script; None if it has nothing to draw."""
    lines = [(str(line["name"]), list(_points(line))) for line in chart.get("lines", ())]
    known = [point for _, points in lines for point in points if point is not None]
    if not known:
        return None
    size = Still((), (), ())
    x_low, x_high = min(x for x, _ in known), max(x for x, _ in known)
    y_low, y_high = min(y for _, y in known), max(y for _, y in known)
    drawn = tuple(
        (
            name,
            index % 8,
            tuple(
                _pieces(
                    [
                        None
                        if point is None
                        else (
                            size.left + (size.width - size.left - 8) * _share(point[0], x_low, x_high),
                            _place(point[1], y_low, y_high, size.bottom - 8, 8),
                        )
                        for point in points
                    ]
                )
            ),
        )
        for index, (name, points) in enumerate(lines)
    )
    middle = (y_low + y_high) / 2
    y_values = (y_low, middle, y_high) if y_high > y_low else (y_low,)
    x_values = (x_low, (x_low + x_high) / 2, x_high) if x_high > x_low else (x_low,)
    return Still(
        drawn,
        tuple((size.left + (size.width - size.left - 8) * _share(x, x_low, x_high), figure(x)) for x in x_values),
        tuple((_place(y, y_low, y_high, size.bottom - 8, 8), figure(y)) for y in y_values),
    )


def figure(value: Any) -> str:
    """Return a number as tables and axes show it; `-` where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e9):
        return f"{value:.3g}"
    if float(value).is_integer() or size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def cell(value: Any) -> str:
    """Return a value of a table as text: numbers short, nothing as `-`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return figure(value) if isinstance(value, int | float) else str(value)


def _points(line: Mapping[str, Any]) -> Iterator[Point | None]:
    for x, y in zip(line.get("x", ()), line.get("y", ()), strict=False):
        yield (float(x), float(y)) if _is_number(x) and _is_number(y) else None


def _pieces(points: Sequence[Point | None]) -> Iterator[str]:
    piece: list[Point] = []
    for point in [*points, None]:
        if point is not None:
            piece.append(point)
        elif piece:
            # A lone point is drawn as a line of its own length: round ends make a dot of it.
            yield " ".join(f"{x:.1f},{y:.1f}" for x, y in (piece if len(piece) > 1 else piece * 2))
            piece = []


def _place(value: float, low: float, high: float, height: float, top: float) -> float:
    return top + height * (1 - _share(value, low, high))


def _share(value: float, low: float, high: float) -> float:
    # Halves, since the distance between two finite numbers need not be one.
    return (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
