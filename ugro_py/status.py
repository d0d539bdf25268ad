"""One job as it is now: from the state store, with the newest metrics of each rank."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ugro_py.display import counted, duration, fitting, safe_line
from ugro_py.moments import iso
from ugro_py.paths import JobPaths
from ugro_py.rank_figures import figure
from ugro_py.state import JobRow, Store
from ugro_py.state.rows import ran_s

if TYPE_CHECKING:
    from rich.console import Console

    from ugro_py.cluster import Cluster

# The newest metrics of every rank are in the last lines of metrics.jsonl: no more than this is looked through, for a
# rank may have told nothing yet, and per rank so much, for there may be thousands; beyond the last bound nobody waits.
_TAIL_BYTES, _RANK_BYTES, _LONGEST_TAIL = 1 << 17, 1 << 12, 16 << 20
_EVENTS = 8
_NORMAL = 50
# What goes first of the table of ranks where not all columns fit; never rank, status and loss.
_LEAVE_OUT = ("pid", "GPU", "tokens/s", "node", "step")


def status_of(store: Store, name: str, cluster: Cluster | None = None) -> dict[str, Any]:
    """Return a job's state as JSON values: job, attempt, ranks (each with its newest metrics), events.

    With a `cluster` the place of a job that waits is told too.

    Raises:
        NotFoundError: there is no such job.
    """
    job = store.job(name)
    attempt = store.attempt(name)
    elapsed = ran_s(job, datetime.now(UTC))
    ranks = store.ranks(name)
    newest = newest_metrics(JobPaths(name), {rank.rank for rank in ranks})
    return {
        "job": job.name,
        "job_id": job.name,
        "status": job.status,
        "reason": job.reason,
        **_queue(store, job, cluster),
        "exit_code": job.exit_code,
        "user": job.user,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "ended_at": iso(job.ended_at),
        "elapsed_seconds": None if elapsed is None else round(elapsed, 1),
        "attempt": attempt.number if attempt else None,
        "attempts": _attempts(store, name, attempt.number if attempt else 0),
        "sync_window_s": attempt.sync_window_s if attempt else None,
        "first_failed_rank": attempt.first_failed_rank if attempt else None,
        "master": f"{attempt.master_addr}:{attempt.master_port}" if attempt else None,
        "gpu_nodes": list(dict.fromkeys(rank.node for rank in ranks)),
        "controller": job.controller.pid if job.controller else None,
        "ranks": [
            {
                "rank": rank.rank,
                "node": rank.node,
                "gpu": rank.gpu_uuid,
                "status": rank.status,
                "pid": rank.pid,
                "exit_code": rank.exit_code,
                "metrics": newest.get(rank.rank),
            }
            for rank in ranks
        ],
        "events": [
            {"at": iso(event.at), "kind": event.kind, "severity": event.severity, "text": event.text}
            for event in store.events(name, limit=_EVENTS)
        ],
        "folder": str(JobPaths(name).root),
    }


def _queue(store: Store, job: JobRow, cluster: Cluster | None) -> dict[str, Any]:
    """Return what the queue knows of a job; its place only while it waits and where the cluster is known."""
    values: dict[str, Any] = {
        "priority": job.priority,
        "time_limit_s": job.time_limit_s,
        "after": list(job.after),
        "held": job.held,
        "held_by": job.held_by,
        "preempted": job.preempted,
        "queue_position": None,
        "queue_length": None,
        "expected_start": None,
    }
    if job.status == "pending" and cluster is not None:
        from ugro_py.queue.decide import decide
        from ugro_py.queue.snapshot import snapshot_of

        decision = decide(snapshot_of(store, cluster, time.time()))
        if job.name in decision.order:
            values |= {"queue_position": decision.order.index(job.name) + 1, "queue_length": len(decision.order)}
        if job.name in decision.expected:
            values["expected_start"] = iso(datetime.fromtimestamp(decision.expected[job.name], UTC))
    return values


def _attempts(store: Store, name: str, count: int) -> list[dict[str, Any]]:
    """Return every attempt of a job, oldest first."""
    rows = [store.attempt(name, number) for number in range(1, count + 1)]
    return [
        {
            "attempt": row.number, "status": row.status, "reason": row.reason,
            "started_at": iso(row.started_at), "ended_at": iso(row.ended_at),
        }
        for row in rows if row is not None
    ]  # fmt: skip


def newest_metrics(paths: JobPaths, ranks: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return the last metrics line of each of these ranks, as far as the last lines have one."""
    newest: dict[int, dict[str, Any]] = {}
    wanted = set(ranks)
    bound = min(max(_TAIL_BYTES, _RANK_BYTES * len(wanted)), _LONGEST_TAIL)
    try:
        for line in _backwards(paths.metrics, bound) if wanted else ():
            try:
                value = json.loads(line)
                if value["rank"] in wanted:
                    newest[value["rank"]] = value
                    wanted.remove(value["rank"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # a damaged line, or the last one that is not whole yet
            if not wanted:
                break
    except FileNotFoundError:
        return {}
    return newest


def _backwards(path: Path, bound: int) -> Iterator[bytes]:
    """Yield the lines of a file, the last one first, as far as they begin in its last `bound` bytes."""
    with path.open("rb") as file:
        at = file.seek(0, 2)
        begin, step, cut = max(0, at - bound), _TAIL_BYTES, b""
        while at > begin:
            start = max(begin, at - step)
            file.seek(start)
            cut, *lines = (file.read(at - start) + cut).split(b"\n")
            yield from reversed(lines)
            at, step = start, 2 * step
        if at == 0:
            yield cut


def render(status: dict[str, Any]) -> None:
    """Print a job's state for people."""
    from rich.console import Console

    # In a pipe nothing is cut or wrapped: the reader is a program.
    width = None if sys.stdout.isatty() else 2000
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    console.print(f"Job: {status['job_id']}")
    reason = f" ({safe_line(status['reason'])})" if status["reason"] else ""
    console.print(f"Status: {status['status']}{reason}")
    console.print(f"GPU nodes: {', '.join(status['gpu_nodes']) or '-'}")
    _print_queue(console, status)
    console.print(f"Elapsed: {duration(status['elapsed_seconds'])}")
    if status["ranks"]:
        _print_ranks(console, status["ranks"])
    for row in status["attempts"] if len(status["attempts"]) > 1 else ():
        console.print(
            f"Attempt {row['attempt']}: {row['status']}" + (f" ({safe_line(row['reason'])})" if row["reason"] else "")
        )
    for event in status["events"]:
        console.print(f"{event['at']}  {event['kind']}: {safe_line(event['text'])}")
    console.print(f"Files: {status['folder']}")


def _print_ranks(console: Console, ranks: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of the ranks: the columns that fit, and which do not."""
    from rich.cells import cell_len
    from rich.table import Table

    rows = []
    for rank in ranks:
        line = rank["metrics"] or {}
        rows.append(
            {
                "rank": str(rank["rank"]), "node": rank["node"], "GPU": rank["gpu"],
                "status": rank["status"] if not rank["exit_code"] else f"{rank['status']} ({rank['exit_code']})",
                "pid": str(rank["pid"] or "-"), "step": figure(line, "step"),
                "loss": figure(line, "training_loss"), "tokens/s": figure(line, "throughput_tokens_sec"),
            }
        )  # fmt: skip
    widths = {name: max(cell_len(name), *(cell_len(row[name]) for row in rows)) for name in rows[0]}
    shown = fitting(widths, _LEAVE_OUT, console.width - 4, between=3)
    table = Table()
    for name in shown:
        side: Literal["left", "right"] = "left" if name in ("node", "GPU", "status") else "right"
        table.add_column(name, justify=side, overflow="fold", no_wrap=name != "status")
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    console.print(table, soft_wrap=False)
    if left_out := [name for name in widths if name not in shown]:
        console.print(f"this terminal is too narrow for {', '.join(left_out)}")


def _print_queue(console: Console, status: dict[str, Any]) -> None:
    """Print what decides when the job starts and how long it may run, as far as it is not the rule."""
    words = []
    if status["queue_position"]:
        words.append(f"{status['queue_position']} of {status['queue_length']} in the queue")
    if status["expected_start"]:
        words.append(f"starts by {status['expected_start']} at the latest")
    if status["priority"] != _NORMAL:
        words.append(f"priority {status['priority']}")
    if status["time_limit_s"]:
        words.append(f"time limit {duration(status['time_limit_s'])}")
    if status["after"]:
        words.append(f"after {', '.join(status['after'])}")
    if status["preempted"]:
        words.append(f"made room {counted(status['preempted'], 'time')}")
    if words:
        console.print(f"Queue: {', '.join(words)}")
