"""How `ugro top` looks: its columns, sizes and colours, and the lines above its tables."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.text import Text

from ugro_py.display import counted, duration
from ugro_py.events import harmless
from ugro_py.state.models import ENDED
from ugro_py.top import widgets

NODE_COLUMNS = ("NODE", "STATE", "GPU", "TYPE", "UTIL", "MEMORY", "°C", "W", "CPU", "JOB", "WHY")
JOB_COLUMNS = ("JOB", "STATUS", "USER", "RANKS", "STEP", "LOSS", "TOKENS/S", "ETA", "TIME", "WHY")
# How wide the terminal must be for a column; one that is not named needs no more than itself. Where they do not fit,
# the one that needs most is the first that is left out.
NODES_NEED = {"TYPE": 100, "CPU": 110, "WHY": 120, "°C": 64, "W": 64, "MEMORY": 56}
JOBS_NEED = {"USER": 96, "RANKS": 88, "TIME": 78, "WHY": 120, "TOKENS/S": 66, "ETA": 50, "STEP": 1}
RANKS_NEED = 118
# So much of a job's name, and the space beside it, stays where it is the last column: short names are whole.
_NAME = 14
CSS = """
#head { height: 1; background: $panel; color: $foreground; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
#problem { height: auto; max-height: 3; background: $error; color: $text; padding: 0 1; display: none; }
#nodes { height: auto; max-height: 40%; }
#jobs { height: 1fr; min-height: 4; }
DataTable { background: $background; }
#filter, #search { height: 1; border: none; display: none; padding: 0 1; }
#detail { height: 42%; min-height: 8; border-top: solid $primary; padding: 0 1; }
#title { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
#curve { width: 1fr; height: 1fr; text-wrap: nowrap; text-overflow: clip; }
#ranks { width: auto; height: 1fr; margin-left: 1; }
.low #detail { display: none; }
.zoom #nodes, .zoom #jobs { display: none; }
.zoom #detail { display: block; height: 1fr; }
#logs-title { height: 1; background: $panel; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
StopScreen, HelpScreen { align: center middle; }
#question, #keys { width: 76; max-width: 100%; height: auto; background: $surface; border: round $primary; }
#keys { padding: 0 1; max-height: 100%; }
#question { padding: 1 2; }
#question Horizontal { height: auto; margin-top: 1; }
#question Button { margin-right: 1; min-width: 12; }
"""


def head(found: Mapping[str, Any], width: int) -> str:
    """Return the first line: how many nodes, what of them is used, what runs and waits, and when that was.

    Where that is too much for `width` columns, the cluster's name is left out, then the time, then a word.
    """
    nodes, jobs = found["nodes"], found["jobs"]
    gpus: Sequence[Mapping[str, Any]] = [gpu for node in nodes for gpu in node["gpus"]]
    kinds = "GPUs" if any(gpu["kind"] != "cpu" for gpu in gpus) else "CPU slots"
    runs = sum(job["status"] not in (*ENDED, "pending") for job in jobs)
    waits = sum(job["status"] == "pending" for job in jobs)
    busy = sum(gpu["job"] is not None for gpu in gpus)
    well = sum(node["state"] == "healthy" for node in nodes)
    sick = "" if well == len(nodes) else f" ({well} healthy)"
    words = (
        f"{counted(len(nodes), 'node')}{sick} · {busy} of {len(gpus)} {kinds} used · {runs} running, {waits} waiting"
    )
    timed = f"{words}  {found['at'][11:19]}Z"
    choices = (f"{harmless(found['cluster'])}  {timed}", timed, words)
    return next((line for line in choices if len(line) <= width), words.replace(" used", ""))


def fitting(
    rows: Collection[Mapping[str, Text]], columns: Sequence[str], needs: Mapping[str, int], width: int
) -> tuple[str, ...]:
    """Return the columns that `width` has room for as they are; none but the first and the last (`widgets.CUT`) is cut.

    Args:
        rows: the cells, by their column.
        columns: all there are, in order.
        needs: see `JOBS_NEED`.
        width: of the table, two columns between each pair included.
    """
    found = [column for column in columns if width >= needs.get(column, 0)]
    wide = {column: 2 + max([len(column), *(row[column].cell_len for row in rows)]) for column in found}
    while True:
        whole = found[:-1] if found[-1:] and found[-1] in widgets.CUT else found
        name = min(wide["JOB"], _NAME) if found[1:] and found[-1] == "JOB" else 0
        if sum(wide[column] for column in whole) + name <= width or len(whole) < 2:
            return tuple(found)
        found.remove(max(reversed(whole[1:]), key=lambda column: needs.get(column, 0)))


def title(job: Mapping[str, Any], width: int) -> Text:
    """Return the line above the curve of a job, as much of it as `width` columns hold."""
    if job["status"] == "running":
        line = widgets.headline(job["job"], job["duration_s"], job["throughput_tokens_sec"], job["eta_s"]).plain
        while len(line) > width and "  " in line:
            line = line.rpartition("  ")[0]
        return Text(line)
    ran = f"  ran {duration(job['duration_s'])}" if job["duration_s"] is not None else ""
    return Text.assemble(widgets.plain(job["job"]), "  ", widgets.word(job["status"]), ran)


def waits(job: Mapping[str, Any]) -> str:
    """Return that a job waits, and for what; "" for one that has begun."""
    if job["status"] != "pending":
        return ""
    return f"{job['job']} waits{': ' if job['reason'] else ''}{harmless(job['reason'])}"


def instead_of_curve(job: Mapping[str, Any], width: int) -> Text:
    """Return what is shown of a job that has no curve to show: why it waits, or how it ended."""
    reason = harmless(job["reason"]) or (
        "nothing was measured" if job["status"] in ENDED else "nothing is measured yet"
    )
    return Text(textwrap.fill(reason, max(20, width)))
