"""The list and the comparison of experiments on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ugro_py.display import duration, fitting, number, plain_line

_STYLES = {"running": "yellow", "starting": "yellow", "collecting": "yellow", "completed": "green", "failed": "red"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_LONGEST = 200
# A value, or the name of a figure, of so many letters is whole in a comparison; what is longer may fold.
_WHOLE = 20
# Columns of the list that may fold, and how wide they are at least.
_FOLDED = {"MODEL": 10, "TAGS": 10, "NOTE": 16}
# What goes first where not all columns fit; never JOB, STATUS and LOSS.
_LEAVE_OUT = ("NOTE", "TAGS", "GPU H", "USER", "CURVE", "MODEL", "TIME", "STEPS", "BEST")


def print_experiments(rows: Sequence[Mapping[str, Any]], total: int) -> None:
    """Print the list as `ugro results ls` shows it: on a terminal the columns that fit, and which do not."""
    cells = [
        {
            "JOB": row["job"], "STATUS": row["status"], "USER": row["user"], "MODEL": row["model"],
            "LOSS": _last(row), "BEST": number(row["loss_best"]), "CURVE": curve(row["spark"], 12),
            "STEPS": number(row["steps"]), "TIME": duration(row["duration_s"]), "GPU H": number(row["gpu_hours"]),
            "TAGS": " ".join(row["tags"]), "NOTE": row["note"],
        }
        for row in rows
    ]  # fmt: skip
    shown = [{name: _cell(value) for name, value in row.items()} for row in cells]
    columns = _fitting(shown, _width())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, least in columns.items():
        table.add_column(name, no_wrap=name not in _FOLDED, overflow="fold", min_width=least)
    for row in shown:
        table.add_row(*(row[name] for name in columns))
    _print(table)
    if total > len(rows):
        _print(f"{len(rows)} of {total:,}; -n N and --offset N show others")
    if rows and (left_out := [name for name in shown[0] if name not in columns]):
        _print(f"this terminal is too narrow for {', '.join(left_out)}")


def _last(row: Mapping[str, Any]) -> str:
    return number(row["loss_last"]) if row.get("nonfinite_since") is None else "NaN"


def _fitting(rows: Sequence[Mapping[str, Text]], width: int) -> dict[str, int]:
    """Return the columns that `width` has room for, and how wide each is at least: whole, but for those of words."""
    most = {name: max([len(name), *(row[name].cell_len for row in rows)]) for name in (rows[0] if rows else ())}
    found = {name: min(wide, _FOLDED.get(name, wide)) for name, wide in most.items()}
    return {name: found[name] for name in fitting(found, _LEAVE_OUT, width)}


def print_comparison(found: Mapping[str, Any], code: bool) -> None:
    """Print jobs side by side; with `code` also the unified diffs of their code."""
    jobs, rows = found["jobs"], []
    for figure in found["figures"]:
        values = [_value(value, figure["unit"]) for value in figure["values"]]
        for place in figure.get("nonfinite", ()):
            values[place] = "NaN"
        if figure["best"] is not None:
            values[figure["best"]] += " *"
        unit = f" ({figure['unit']})" if figure["unit"] not in ("", "s") else ""
        rows.append((f"{figure['name']}{unit}", values))
    _print_beside("", jobs, rows)
    if any(figure["best"] is not None for figure in found["figures"]):
        _print("* best of them")
    for section in dict.fromkeys(row["section"] for row in found["differences"]):
        _print("")
        different = [row for row in found["differences"] if row["section"] == section]
        _print_beside(section.upper(), jobs, [(row["key"], row["values"]) for row in different])
    if found["without_capsule"]:
        _print("", f"nothing is known of how {', '.join(found['without_capsule'])} ran: there is no run capsule")
    elif not found["differences"]:
        _print("", "no difference in hyper-parameters, code, packages and hardware")
    for diff in found["code"]:
        _print_code(diff, code)


def _print_beside(title: str, jobs: Sequence[str], rows: Sequence[tuple[str, Sequence[object]]]) -> None:
    """Print a column for each job; where not all of them fit side by side, a table for as many as do at a time."""
    cells = [[Text(title), *(_cell(name) for name, _ in rows)]]
    cells += [[Text(job), *(_cell(values[place]) for _, values in rows)] for place, job in enumerate(jobs)]
    most = [max(cell.cell_len for cell in column) for column in cells]
    width = _width()
    least = [min(wide, _WHOLE, max(1, width // 2 - 1)) for wide in most]
    groups: list[list[int]] = [[]]
    for place in range(1, len(cells)):
        if groups[-1] and least[0] + sum(2 + least[other] for other in [*groups[-1], place]) > width:
            groups.append([])
        groups[-1].append(place)
    for number_of_group, group in enumerate(groups):
        shown = [0, *group]
        room = width - sum(least[place] for place in shown) - 2 * len(group)
        table = Table(box=None, pad_edge=False, header_style="bold")
        widths = dict.fromkeys(shown, 0)
        for place in [*group, 0]:  # the names of rows are the first to fold
            widths[place] = least[place] + min(room, most[place] - least[place])
            room -= widths[place] - least[place]
        for place in shown:
            table.add_column(cells[place][0], width=widths[place], overflow="fold")
        for row in range(1, len(rows) + 1):
            table.add_row(*(cells[place][row] for place in shown))
        _print(*[""] * bool(number_of_group), table)


def _print_code(diff: Mapping[str, Any], whole: bool) -> None:
    name = f"code of {diff['job']} and {diff['to']}"
    if diff["diff"] is None:
        _print("", f"{name}: not kept, so it cannot be compared line by line")
        return
    lines = diff["diff"].splitlines()
    if not lines:
        _print("", f"{name}: the same")
        return
    new = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    gone = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    _print("", f"{name}: +{new} -{gone} lines{'' if whole else '; --code shows them'}")
    if whole:
        for line in lines:
            style = "green" if line.startswith("+") else "red" if line.startswith("-") else ""
            Console(soft_wrap=True).print(Text(plain_line(line), style=style))


def curve(losses: Iterable[float | None], width: int) -> str:
    """Return losses as a row of at most `width` blocks; "" where the terminal has none or there are no losses."""
    values = [loss for loss in losses if loss is not None]
    if not values or (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        return ""
    step = max(1.0, len(values) / width)
    taken = [values[int(place * step)] for place in range(min(width, len(values)))]
    low, high = min(taken), max(taken)
    # Halves, since the distance between two finite numbers need not be one.
    shares = [(value / 2 - low / 2) / ((high / 2 - low / 2) or 1) for value in taken]
    return "".join(_BLOCKS[round(share * (len(_BLOCKS) - 1))] for share in shares)


def _value(value: Any, unit: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return duration(value) if unit == "s" else number(value)


def _cell(value: object) -> Text:
    """Return a cell of plain text: never markup, never a control sequence, whatever somebody named a thing."""
    text = "-" if value is None or value == "" else plain_line(" ".join(str(value).splitlines()))
    shown = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return Text(shown, style=_STYLES.get(shown, ""))


def _width() -> int:
    """Return how many columns there are; in a pipe nothing is cut or wrapped: the reader is a program."""
    return Console().width if sys.stdout.isatty() else 2000


def _print(*parts: Table | str) -> None:
    console = Console(width=_width())
    for part in parts:
        console.print(Text(part) if isinstance(part, str) else part)
