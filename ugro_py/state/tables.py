"""The tables of `ugro ps` and `ugro state` on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ugro_py.display import duration, number

_STYLES = {
    "available": "green",
    "busy": "yellow",
    "running": "yellow",
    "starting": "yellow",
    "collecting": "yellow",
    "completed": "green",
    "failed": "red",
    "unreachable": "red",
    "drained": "red",
    "stopped": "dim",
    "unknown": "dim",
}


def _table(columns: Iterable[str], rows: Iterable[Sequence[object]]) -> Table:
    """Build a table; cells are plain text, never markup: names come from users."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # Names and statuses must stay whole, to be copied; lists of GPUs may be wrapped.
        table.add_column(column, no_wrap=column in ("JOB", "NODE", "STATUS"), overflow="fold")
    for row in rows:
        words = ["-" if cell is None or cell == "" else str(cell) for cell in row]
        table.add_row(*(Text(word, style=_STYLES.get(word, "")) for word in words))
    return table


def _print(*tables: Table) -> None:
    console = Console()
    if not sys.stdout.isatty():
        # In a pipe nothing is cut or wrapped: the reader is a program.
        console = Console(width=1000)
    for place, table in enumerate(tables):
        if place:
            console.print()
        console.print(table)


def print_jobs(jobs: Sequence[dict[str, Any]]) -> None:
    """Print what `views.job_list` returns."""
    columns = ("JOB", "STATUS", "NODES", "GPUS", "RANKS", "USER", "AGE", "DURATION")
    rows = [
        (
            job["job"],
            job["status"],
            " ".join(job["nodes"]),
            " ".join(job["gpus"]),
            job["ranks"],
            job["user"],
            duration(job["age_s"]),
            duration(job["duration_s"]),
        )
        for job in jobs
    ]
    _print(_table(columns, rows))


def print_queue(jobs: Sequence[dict[str, Any]]) -> None:
    """Print what `ugro_py.queue.shown.entries` returns."""
    rows = [
        (
            job["place"], job["job"], job["user"], job["priority"], job["asks"], duration(job["age_s"]),
            _here(job["expected"]), job["reason"],
        )
        for job in jobs
    ]  # fmt: skip
    _print(_table(("#", "JOB", "USER", "PRIORITY", "ASKS FOR", "AGE", "STARTS BY", "REASON"), rows))


def _here(at: str | None) -> str | None:
    """Return a time of the API as the clock here shows it."""
    from datetime import datetime

    return None if at is None else datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M")


def print_state(state: dict[str, Any]) -> None:
    """Print what `views.cluster_state` returns."""
    nodes = _table(
        ("NODE", "ADDRESS", "GPU", "VRAM GB", "STATUS", "JOB"),
        [
            (name, n["ip"], n["gpu"], n["vram_gb"], n["status"], n["running_job_id"])
            for name, n in state["nodes"].items()
        ],
    )
    jobs = _table(
        ("JOB", "STATUS", "RANKS", "MODEL", "STARTED", "NODES"),
        [
            (name, j["status"], len(j["ranks"]), j["model"], j["started_at"], " ".join(j["gpu_nodes"]))
            for name, j in state["jobs"].items()
        ],
    )
    _print(*([nodes, jobs] if state["jobs"] else [nodes]))


def print_accounts(accounts: Sequence[dict[str, Any]]) -> None:
    """Print users and groups with role and quotas; `-` is no limit."""
    keys = ("kind", "name", "role", "max_gpus", "max_queued", "gpu_hours_week", "max_priority")
    rows = [tuple(account[key] for key in keys) for account in accounts]
    _print(_table(("KIND", "NAME", "ROLE", "GPUS", "QUEUED", "GPU HOURS/WEEK", "PRIORITY"), rows))


def print_usage(usage: dict[str, Any]) -> None:
    """Print what `usage.report` returns."""

    def of(kind: str) -> Table:
        rows = [
            (
                entry[kind],
                number(entry["gpu_hours"]),
                f"{entry['share']:.0%}",
                entry["jobs"],
                _with_limit(str(entry["gpus"]), entry["quota"]["max_gpus"]),
                _with_limit(number(entry["gpu_hours_week"]), entry["quota"]["gpu_hours_week"]),
            )
            for entry in usage[f"{kind}s"]
        ]
        return _table((kind.upper(), "GPU HOURS", "SHARE", "JOBS", "GPUS NOW", "HOURS/WEEK"), rows)

    jobs = [(j["job"], j["user"], number(j["gpu_hours"]), j["gpus"]) for j in usage["jobs"][:20]]
    groups = [of("group")] if usage["groups"] else []
    _print(of("user"), *groups, _table(("JOB", "USER", "GPU HOURS", "GPUS NOW"), jobs))


def _with_limit(used: str, limit: float | None) -> str:
    return used if limit is None else f"{used} of {limit:g}"


def print_audit(lines: Sequence[dict[str, Any]]) -> None:
    """Print lines of the audit trail."""
    columns = ("TIME", "USER", "VERB", "TARGET", "TIMES", "OUTCOME")
    rows = [(a["at"], a["user"], a["verb"], _plain(a["target"]), a["count"], _plain(a["outcome"])) for a in lines]
    _print(_table(columns, rows))


def _plain(text: str) -> str:
    """Return a text that a stranger may have chosen without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
