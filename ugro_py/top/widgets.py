"""What is drawn of nodes, jobs and ranks in a terminal, by `ugro top` and by `ugro launch` while a job runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ugro_py.display import curve, duration, number
from ugro_py.events import harmless
from ugro_py.pace import whole
from ugro_py.rank_figures import figure
from ugro_py.state.models import ENDED

# Beside a colour there is always the word: not every terminal, and not every person, sees the colour.
_STYLES = {
    "healthy": "green", "degraded": "yellow", "unreachable": "red", "draining": "cyan", "drained": "cyan",
    "pending": "cyan", "starting": "yellow", "running": "green", "collecting": "yellow",
    "completed": "", "failed": "red", "stopped": "dim", "unknown": "dim", "ended": "red",
}  # fmt: skip
_RANKS = ("rank", "node", "status", "step", "loss", "tokens/s", "GPU %", "GPU GB")
_LEFT = ("node", "status")
_BLOCKS = " ▏▎▍▌▋▊▉█"
CUT = ("JOB", "WHY")
"""Columns of which there may be less than all where they are the last: words. Half a number is another number."""
CURVES = {
    "training_loss": "loss",
    "throughput_tokens_sec": "tokens/s",
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "gpu_util": "GPU utilisation, %",
    "gpu_mem_used_gb": "GPU memory, GB",
}
"""The columns of metrics that can be drawn, and what they are called."""


def plain(value: object, style: str = "") -> Text:
    """Return a text as it is, never as markup or as something a terminal obeys; "-" for None and nothing."""
    text = "" if value is None else harmless(str(value))
    return Text(text or "-", style=style, no_wrap=True)


def word(value: str | None) -> Text:
    """Return the state of a node, job or rank in its colour."""
    return plain(value, _STYLES.get(value or "", ""))


def steps(line: Mapping[str, Any]) -> str:
    """Return how far a rank or a job is, `step/total_steps`; "-" where unknown."""
    step, total = whole(line.get("step")), whole(line.get("total_steps"))
    if step is None:
        return "-"
    return f"{step}/{total}" if total is not None else str(step)


def bar(percent: float | None, width: int = 5) -> Text:
    """Return a share of a hundred as a bar with its number."""
    if percent is None:
        return plain(None)
    eighths = round(min(100.0, max(0.0, percent)) / 100 * width * 8)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (_BLOCKS[part] if part else "")
    style = "red" if percent >= 98 else "yellow" if percent >= 85 else "green"
    return Text.assemble((f"{drawn:<{width}}", style), f" {percent:.0f}%", no_wrap=True)


def rank_table(rows: Sequence[Mapping[str, Any]], title: Text | str | None = None) -> Table:
    """Return the table of a job's ranks.

    Args:
        rows: each with `rank`, `node`, `status` and `metrics`, its newest line of metrics.json or None.
        title: over the table.
    """
    table = Table(title=title, title_justify="left", title_style="")
    for column in _RANKS:
        table.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=True)
    for row in rows:
        line = row["metrics"] or {}
        figures = ("training_loss", "throughput_tokens_sec", "gpu_util", "gpu_mem_used_gb")
        table.add_row(
            plain(row["rank"]), plain(row["node"]), word(row["status"]), steps(line),
            *(figure(line, key) for key in figures),
        )  # fmt: skip
    return table


def headline(job: str, elapsed_s: float | None, tokens_per_second: float | None, eta_s: float | None) -> Text:
    """Return the line above a running job: its name, how long it runs, how fast, how long it still takes."""
    words = (harmless(job), duration(elapsed_s), number(tokens_per_second, "tokens/s"), f"ETA {duration(eta_s)}")
    return Text("  ".join(words))


def drawn(
    points: Sequence[tuple[float, float | None]], column: str, width: int, height: int, *, braille: bool = True
) -> Text:
    """Return a curve over steps as large as it may be, in `height` lines; where nothing can be drawn, why.

    Args:
        points: (step, value), steps ascending; a value that is no number is left out.
        column: a key of `CURVES`, or any other name.
        width: columns.
        height: lines in all.
        braille: draw with braille dots, see `display.curve`.
    """
    title = CURVES.get(column, harmless(column))
    known = [(int(step), value) for step, value in points if value is not None]
    rows = height - 4  # title, axis, its numbers, what they count
    if len(known) < 2:
        nothing = "no finite number" if points else "no curve yet"
        return Text(f"{title}: {number(known[0][1]) if known else nothing}", style="dim")
    if rows < 2 or width < 30:
        return Text(f"{title}: {number(known[-1][1])}")
    return Text(curve(known, width=width, height=rows, title=title, braille=braille), no_wrap=True)


def table(rows: Iterable[Mapping[str, Text]], columns: Sequence[str]) -> Table:
    """Return a table of `ugro top --once` with these columns of `node_rows`, or of `job_row`."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_last = column == columns[-1] and column in CUT
        made.add_column(column, no_wrap=not is_last, overflow="fold")
    for cells in rows:
        made.add_row(*(cells[column] for column in columns))
    return made


def node_rows(node: Mapping[str, Any]) -> dict[str, dict[str, Text]]:
    """Return a row for each GPU of a node, by an id; a node of which no GPU is known has one row."""
    shared = {"NODE": plain(node["node"]), "STATE": word(node["state"])}
    cpu = bar(node["cpu_percent"], 0) if node["cpu_percent"] is not None else plain(None)
    if not node["gpus"]:
        rest = {key: plain(None) for key in ("UTIL", "MEMORY", "°C", "W")}
        row = {**shared, "GPU": plain(None), "TYPE": plain(node["gpu"]), **rest}
        return {node["node"]: {**row, "CPU": cpu, "JOB": plain(None), "WHY": plain(node["reason"])}}
    found = {}
    for gpu in node["gpus"]:
        size = f"/{gpu['vram_gb']:.0f} GB" if gpu["vram_gb"] else " GB"
        memory = None if gpu["mem_used_gb"] is None else f"{gpu['mem_used_gb']:.1f}{size}"
        found[gpu["uuid"]] = {
            **shared,
            "GPU": plain(gpu["index"]),
            "TYPE": plain(gpu["name"]),
            # A CPU slot has no card of its own: how busy its node is says as much.
            "UTIL": bar(node["cpu_percent"] if gpu["kind"] == "cpu" and gpu["job"] else gpu["util"]),
            "MEMORY": plain(memory),
            "°C": plain(None if gpu["temperature_c"] is None else f"{gpu['temperature_c']:.0f}"),
            "W": plain(None if gpu["power_w"] is None else f"{gpu['power_w']:.0f}"),
            "CPU": cpu,
            "JOB": plain(gpu["job"]),
            "WHY": plain(gpu["unusable"] or node["reason"]),
        }
    return found


def in_order(jobs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return jobs as people look for them: those that run, those that wait, those that ended; each newest first."""
    return sorted(jobs, key=lambda job: 2 if job["status"] in ENDED else job["status"] == "pending")


def job_row(job: Mapping[str, Any]) -> dict[str, Text]:
    """Return the cells of a job by their column."""
    runs = job["status"] == "running"
    return {
        "JOB": plain(job["job"]),
        "STATUS": word(job["status"]),
        "USER": plain(job["user"]),
        "RANKS": plain(job["ranks"] or None),
        "STEP": plain(steps(job)),
        "LOSS": plain("NaN" if job.get("loss_nonfinite") else number(job["loss"])),
        "TOKENS/S": plain(number(job["throughput_tokens_sec"] if runs else None)),
        "ETA": plain(duration(job["eta_s"])),
        "TIME": plain(duration(job["duration_s"])),
        "WHY": plain(job["reason"]),
    }
