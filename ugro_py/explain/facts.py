"""What is known of one attempt of a job, gathered from the state store and the central store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ugro_py.errors import NotFoundError
from ugro_py.explain.tracebacks import Line
from ugro_py.paths import TORCHRUN_LOG, JobPaths
from ugro_py.state import JobRow, Store
from ugro_py.state._alerts import AskedRow
from ugro_py.state.rows import AttemptRow, EventRow

_TAIL_BYTES = 256 << 10
# What happened on a node shortly before and after an attempt belongs to it: health looks every 10 s.
_BEFORE, _AFTER = timedelta(seconds=30), timedelta(seconds=60)


@dataclass(frozen=True)
class RankFacts:
    """One rank: how it ended (None: it did not say), what it wrote last. `told`: it ended because it was told to."""

    rank: int
    node: str
    status: str = ""
    exit_code: int | None = None
    signal: str | None = None
    ended_at: float | None = None
    told: bool = False
    started: bool = False
    step: int | None = None
    metric_at: float | None = None
    log: Sequence[Line] = ()
    odd: Sequence[Mapping[str, Any]] = ()
    end: Line | None = None


@dataclass(frozen=True)
class NodeFacts:
    """One node's part: why its supervisor stopped (None: it did not), torchrun's log and exit codes, memory in GB."""

    node: str
    stop_reason: str | None = None
    torchrun: Sequence[Line] = ()
    torchrun_codes: Sequence[int] = ()
    mem_used_gb: float | None = None
    mem_total_gb: float | None = None
    odd: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Facts:
    """A job and one of its attempts; `around` are events of its nodes in that time that are no job's.

    `named` says that a person asked for this attempt, whatever the job does now.
    """

    job: JobRow
    attempt: AttemptRow | None = None
    ranks: Mapping[int, RankFacts] = field(default_factory=dict)
    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    events: Sequence[EventRow] = ()
    around: Sequence[EventRow] = ()
    asked: Sequence[AskedRow] = ()
    newest: int = 0
    named: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


def gather(store: Store, name: str, number: int | None = None) -> Facts:
    """Return what is known of a job's attempt, the newest by default.

    Raises:
        NotFoundError: there is no such job or attempt.
    """
    job = store.job(name)
    newest = store.attempt(name)
    attempt = store.attempt(name, number) if number is not None else newest
    if number is not None and attempt is None:
        raise NotFoundError(f"attempt {number} of job {name!r}", "there is none", f"run `ugro status {name}`")
    now = datetime.now(UTC)
    begin = attempt.started_at if attempt else job.created_at
    end = (attempt.ended_at if attempt else job.ended_at) or now
    last = newest.number if newest else 0
    until = end + _AFTER if attempt is None or attempt.number == last else end
    since = begin if attempt is not None and attempt.number > 1 else None
    events = store.find_events(2000, job=name, since=since, until=until)
    paths = JobPaths(name)
    ranks: dict[int, RankFacts] = {}
    nodes: dict[str, NodeFacts] = {}
    around: list[EventRow] = []
    if attempt is not None:
        rows = store.ranks(name, attempt.number)
        memory = {row.name: _memory(row.facts) for row in store.nodes()}
        for node in dict.fromkeys(row.node for row in rows):
            told, nodes[node] = _read_node(paths, attempt.number, node, memory.get(node))
            for row in (row for row in rows if row.node == node):
                log = paths.rank_log(row.rank)
                kept = paths.attempt(attempt.number) / log.name  # put there when it is to be tried again
                if attempt.number != last or kept.exists():
                    log = kept
                ranks[row.rank] = told.get(row.rank, _Told()).facts(row.rank, node, row.status, tail(paths.root, log))
            around += [
                e for e in store.find_events(200, node=node, since=begin - _BEFORE, until=until) if e.job is None
            ]
    return Facts(job, attempt, ranks, nodes, events, around, store.asked(name), last, number is not None, now)


def tail(root: Path, path: Path) -> tuple[Line, ...]:
    """Return the last lines of a file below `root` with their numbers; none where there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - _TAIL_BYTES)
            before = _count_lines(file, start)
            file.seek(start)
            data = file.read(_TAIL_BYTES)
    except FileNotFoundError:
        return ()
    texts = data.replace(b"\r\n", b"\n").decode("utf-8", "replace").split("\n")
    if texts and not texts[-1]:
        texts.pop()
    name = str(path.relative_to(root))
    lines = [Line(name, before + 1 + number, text.rpartition("\r")[2] or text) for number, text in enumerate(texts)]
    return tuple(lines[1:] if start else lines)  # the first line of the piece may be cut


def _count_lines(file: Any, until: int) -> int:
    file.seek(0)
    count = 0
    while until > 0 and (block := file.read(min(until, 1 << 20))):
        count += block.count(b"\n")
        until -= len(block)
    return count


class _Told:
    """What a node's supervisor told of a rank."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.last_lines: list[str] = []
        self.odd: list[Mapping[str, Any]] = []

    def facts(self, rank: int, node: str, status: str, log: tuple[Line, ...]) -> RankFacts:
        if not log or not any(line.text.strip() for line in log):
            log = tuple(Line("events", 0, text) for text in self.last_lines)
        elif any(text.startswith("[ugro]") for text in self.last_lines):  # what its own log could not take
            log += tuple(Line("events", 0, text) for text in self.last_lines if text.startswith("[ugro]"))
        return RankFacts(rank, node, status, log=log, odd=tuple(self.odd), **self.values)


_KNOWN = frozenset(
    {"supervisor_started", "torchrun_started", "rank_started", "metrics", "sample", "checkpoint", "rank_exited"}
    | {"torchrun_exited", "stopping", "finished"}
)


def _read_node(paths: JobPaths, attempt: int, node: str, memory: float | None) -> tuple[dict[int, _Told], NodeFacts]:
    """Read the copy of what a node's supervisor wrote."""
    ranks: dict[int, _Told] = {}
    stop: str | None = None
    codes: list[int] = []
    used: float | None = None
    odd: list[Mapping[str, Any]] = []
    path = paths.node_events(attempt, node)
    for number, event in _events(path):
        kind = event["kind"]
        rank = ranks.setdefault(event["rank"], _Told()) if isinstance(event.get("rank"), int) else None
        if kind == "stopping" and stop is None:
            stop = str(event.get("reason", ""))
        elif kind == "torchrun_exited":
            codes.append(int(event.get("exit_code") or 0))
        elif kind == "sample":
            used = event.get("mem_used_gb", used)
        elif kind not in _KNOWN:
            (rank.odd if rank else odd).append(event)
        if rank is None:
            continue
        if kind == "rank_started":
            rank.values["started"] = True
        elif kind == "metrics":
            rank.values |= {"step": event.get("step"), "metric_at": event.get("t")}
        elif kind == "rank_exited":
            rank.last_lines = [str(line) for line in event.get("last_lines") or ()]
            rank.values |= {
                "exit_code": event.get("exit_code"), "signal": event.get("signal"), "ended_at": event.get("t"),
                "told": stop is not None,
            }  # fmt: skip
            rank.odd += [event] if event.get("oom") else []
            how = event.get("signal") or f"exit code {event.get('exit_code')}"
            rank.values["end"] = Line(str(path.relative_to(paths.root)), number, f"rank {event['rank']} exited: {how}")
    log = tail(paths.root, paths.node_log(attempt, node, TORCHRUN_LOG))
    return ranks, NodeFacts(node, stop, log, tuple(codes), used, memory, tuple(odd))


def _events(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                # Metrics and samples are nearly all there is; only the newest of them matters, but they are cheap.
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # not whole yet
                if isinstance(event, dict) and "kind" in event:
                    yield number, event
    except FileNotFoundError:
        return


def _memory(facts: Mapping[str, Any]) -> float | None:
    """Return a node's memory in GB, if what it answered says so."""
    memory = facts.get("memory")
    value = memory.get("total_gb") if isinstance(memory, Mapping) else facts.get("mem_total_gb")
    return float(value) if isinstance(value, int | float) else None
