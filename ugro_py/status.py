"""One job as it is now: from the state store, with the newest metrics of each rank."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ugro_py.display import duration, number, safe_line
from ugro_py.paths import JobPaths
from ugro_py.state import Store

# The newest metrics of every rank are in the last lines of metrics.jsonl.
_TAIL_BYTES = 1 << 17
_EVENTS = 8


def status_of(store: Store, name: str) -> dict[str, Any]:
    """Return a job's state as JSON values: job, attempt, ranks (each with its newest metrics), events.

    Raises:
        NotFoundError: there is no such job.
    """
    job = store.job(name)
    attempt = store.attempt(name)
    newest = _newest_metrics(JobPaths(name))
    end = job.ended_at or datetime.now(UTC)
    return {
        "job_id": job.name,
        "status": job.status,
        "reason": job.reason,
        "exit_code": job.exit_code,
        "user": job.user,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
        "elapsed_seconds": round((end - job.started_at).total_seconds(), 1) if job.started_at else None,
        "attempt": attempt.number if attempt else None,
        "sync_window_s": attempt.sync_window_s if attempt else None,
        "first_failed_rank": attempt.first_failed_rank if attempt else None,
        "master": f"{attempt.master_addr}:{attempt.master_port}" if attempt else None,
        "gpu_nodes": list(dict.fromkeys(rank.node for rank in store.ranks(name))),
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
            for rank in store.ranks(name)
        ],
        "events": [
            {"at": event.at.isoformat(), "kind": event.kind, "severity": event.severity, "text": event.text}
            for event in store.events(name, limit=_EVENTS)
        ],
        "folder": str(JobPaths(name).root),
    }


def _newest_metrics(paths: JobPaths) -> dict[int, dict[str, Any]]:
    """Return the last metrics line of each rank."""
    try:
        with paths.metrics.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return {}
    newest = {}
    for line in lines:
        try:
            value = json.loads(line)
            newest[value["rank"]] = value
        except (ValueError, KeyError, TypeError):
            continue  # the first line of the piece may be cut, the last one not whole yet
    return newest


def render(status: dict[str, Any]) -> None:
    """Print a job's state for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(f"Job: {status['job_id']}")
    reason = f" ({safe_line(status['reason'])})" if status["reason"] else ""
    console.print(f"Status: {status['status']}{reason}")
    console.print(f"GPU nodes: {', '.join(status['gpu_nodes']) or '-'}")
    console.print(f"Elapsed: {duration(status['elapsed_seconds'])}")
    if status["ranks"]:
        table = Table()
        for column in ("rank", "node", "GPU", "status", "pid", "step", "loss", "tokens/s"):
            table.add_column(column, justify="left" if column in ("node", "GPU", "status") else "right")
        for rank in status["ranks"]:
            line = rank["metrics"] or {}
            state = rank["status"] if not rank["exit_code"] else f"{rank['status']} ({rank['exit_code']})"
            table.add_row(
                str(rank["rank"]), rank["node"], rank["gpu"], state, str(rank["pid"] or "-"),
                number(line.get("step")), number(line.get("training_loss")),
                number(line.get("throughput_tokens_sec")),
            )  # fmt: skip
        console.print(table)
    for event in status["events"]:
        console.print(f"{event['at'][:19]}Z  {event['kind']}: {safe_line(event['text'])}")
    console.print(f"Files: {status['folder']}")
