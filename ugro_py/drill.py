"""Break a running job on purpose, and measure how long it takes until that is noticed and until it trains again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ugro_py import ssh, users
from ugro_py.cluster import Node
from ugro_py.errors import NotFoundError, StateError, UsageError
from ugro_py.moments import exact
from ugro_py.paths import JobPaths
from ugro_py.plan import node_token
from ugro_py.saved import load_gang
from ugro_py.state import JobRow, Store
from ugro_py.state.rows import AttemptRow, RankRow
from ugro_py.transport import Session

ACTIONS = ("kill-rank", "kill-node", "pause-node")
# Events that say that a fault was noticed; that a node is suspected is not one.
_NOTICED = ("rank_failed", "node_lost", "rank_frozen", "gpu_lost")
_POLL_S = 0.05


@dataclass(frozen=True)
class Target:
    """What a drill does, and to whom. `seconds` is the length of a pause; `power` reboots the machine."""

    action: str
    rank: int | None
    node: str
    seconds: float = 0.0
    power: bool = False


@dataclass(frozen=True)
class Result:
    """What a drill measured; times in seconds since the fault, None for what did not happen in time.

    Attributes:
        detection_s: until the first event that says so, `detected`.
        restart_s: until the next attempt began.
        recovery_s: until the first step after it (where the script tells of none: until its ranks run, `recovered_by`).
        status: of the job at the end of the drill.
    """

    job: str
    action: str
    node: str
    rank: int | None
    at: str
    attempt: int
    detection_s: float | None
    detected: str
    restart_s: float | None
    recovery_s: float | None
    recovered_by: str
    status: str

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def choose(
    store: Store, job: str, action: str, rank: int | None, node: str | None, *, seconds: float, power: bool
) -> Target:
    """Return what a drill on a job is to do; a rank or node that is not given is the last one.

    Raises:
        NotFoundError: there is no such job, or it has no such rank or node.
        UsageError: what is asked for does not go together.
    """
    if power and action != "kill-node":
        raise UsageError("--power", f"goes with kill-node, not with {action}", "leave it out")
    if rank is not None and action != "kill-rank":
        raise UsageError("--rank", f"goes with kill-rank, not with {action}", "use --node")
    store.job(job)
    ranks = store.ranks(job)
    fits = [row for row in ranks if rank in (None, row.rank) and node in (None, row.node)]
    if not fits:
        wanted = f"rank {rank}" if rank is not None else f"node {node!r}"
        raise NotFoundError(f"{wanted} of job {job!r}", "it has none", f"see `ugro status {job}`")
    row: RankRow = fits[-1]
    pause = seconds if action == "pause-node" else 0.0
    return Target(action, row.rank if action == "kill-rank" else None, row.node, pause, power)


def refuse(store: Store, person: users.Person, row: JobRow, target: Target, retries: int, sure: bool) -> None:
    """Raise unless the drill may be done: on one's own running job that will be tried again, or one is sure.

    Raises:
        RightsError: it is somebody else's, or a machine is to reboot, and `person` is no admin.
        UsageError: it does not run, or it takes `--yes`.
    """
    users.check_owner(store, person, row, "drill")
    if target.power:
        users.check_admin(store, person, f"reboot {target.node}")
    attempt = store.attempt(row.name)
    if row.status != "running" or attempt is None:
        raise UsageError(f"drill on job {row.name}", f"it is {row.status}", "wait until it runs")
    why = ""
    if target.power:
        why = f"node {target.node} will reboot, and with it all that runs there"
    elif row.user != person.user:
        why = f"it is the job of {row.user}"
    elif target.action != "pause-node" and attempt.number > retries:
        why = "no retry is left: it will fail for good"
    if why and not sure:
        raise UsageError(f"{target.action} on job {row.name}", why, "say --yes if that is meant")


async def run(
    store: Store,
    job: str,
    target: Target,
    *,
    person: users.Person,
    timeout_s: float,
    sure: bool,
    tell: Callable[[str], None],
) -> Result:
    """Do a drill on a job, and stay until it trains again, has ended, or the time is over.

    Raises:
        NodeError: the node cannot be reached, or cannot do it.
        StateError: the store knows too little of the attempt.
        UsageError, RightsError: see `refuse`.
    """
    row = store.job(job)
    attempt = store.attempt(job)
    found = load_gang(job, attempt.number) if attempt else None
    if attempt is None or found is None:
        raise StateError(f"drill on job {job}", "it has not been started yet", "wait until it runs")
    gang, cluster = found
    wanted = row.request.get("retry")
    refuse(store, person, row, target, int(wanted if wanted is not None else cluster.settings.retry), sure)
    node = cluster.node(target.node)
    session = await Session.open(node, fresh=True)
    try:
        before = store.newest_event()
        where = f"rank {target.rank} on {target.node}" if target.rank is not None else target.node
        action = "power" if target.power else target.action
        done = await session.call(
            "drill", job=job, attempt=attempt.number, token=node_token(gang.token, target.node), action=action,
            rank=target.rank, seconds=target.seconds,
        )  # fmt: skip
        offset = session.clock_offset_s
        store.add_event(
            "drill", f"{action}: {where}, by {person.user}", job=job, node=target.node, rank=target.rank,
            severity="warning", data={**asdict(target), "attempt": attempt.number, "by": person.user},
        )  # fmt: skip
    finally:
        await session.close()
    # Who shares the account on the nodes shares its connections with the jobs of others: those stay up.
    own = row.user in cluster.settings.accounts or users.is_admin(store, person)
    if target.action == "kill-node" and not target.power and own:
        await _hang_up(node)
    tell(f"{action}: {where} at {datetime.fromtimestamp(done['t'] - offset, UTC):%H:%M:%S.%f} UTC")
    return await _measure(store, attempt, target, done["t"] - offset, offset, before, timeout_s, tell)


async def _hang_up(node: Node) -> None:
    """Drop the shared connection to a node, as its loss would; whoever uses it connects anew."""
    if node.connection == "local":
        return
    argv = ssh.ssh_argv(node)
    at = argv.index("--")
    process = await asyncio.create_subprocess_exec(
        *argv[:at], "-O", "exit", *argv[at:], stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await asyncio.wait_for(process.wait(), 5.0)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _measure(
    store: Store, attempt: AttemptRow, target: Target, at: float, offset: float, before: int, timeout_s: float,
    tell: Callable[[str], None],
) -> Result:  # fmt: skip
    job, paths = attempt.job, JobPaths(attempt.job)
    detection: float | None = None
    detected, recovered_by = "", ""
    restart: float | None = None
    recovery: float | None = None
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if detection is None:
            for event in store.events_after(before, job=job, kinds=_NOTICED):
                detection, detected = event.at.timestamp() - at, f"{event.kind}: {event.text}"
                tell(f"noticed after {detection:.2f} s: {event.text}")
                break
        newest = store.attempt(job)
        if newest is not None and newest.number > attempt.number:
            if restart is None:
                restart = newest.started_at.timestamp() - at
                tell(f"attempt {newest.number} began after {restart:.2f} s")
            kinds = {kind for kind, _t in _written(paths, newest.number)}
            if "metrics" in kinds:
                recovery, recovered_by = time.time() - at, "first step"
                break
            if newest.status == "running" and not recovered_by:
                recovery, recovered_by = time.time() - at, "ranks run"
        elif target.action == "pause-node" and time.time() > at + target.seconds:
            after = at + target.seconds + offset
            moved = [t for kind, t in _written(paths, attempt.number, target.node) if kind == "metrics" and t >= after]
            if moved:
                recovery, recovered_by = min(moved) - offset - at, "first step after the pause"
                break
        if not store.job(job).active:
            break
        await asyncio.sleep(_POLL_S)
    return Result(
        job, target.action, target.node, target.rank, exact(datetime.fromtimestamp(at, UTC)), attempt.number,
        _rounded(detection), detected, _rounded(restart), _rounded(recovery), recovered_by, store.job(job).status,
    )  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _written(paths: JobPaths, attempt: int, node: str | None = None) -> Iterator[tuple[str, float]]:
    """Yield kind and time of what the nodes of an attempt told, the newest part of it."""
    for number, name, path in paths.event_copies():
        if number != attempt or node not in (None, name):
            continue
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - (1 << 18)))
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    event: Mapping[str, Any] = json.loads(line)
                    yield str(event["kind"]), float(event["t"])
