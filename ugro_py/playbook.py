"""The steps of `playbooks/launch.yml`, `collect.yml` and `stop.yml`, for the action plugins that run them.

The controller of a job that a playbook launched is the process `ansible-playbook`: it lives through all tasks, while
each action runs in a worker of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ugro_py import interrupt, users
from ugro_py.audit import audited_here
from ugro_py.call_off import CalledOffError, unless_called_off
from ugro_py.cluster import Cluster
from ugro_py.display import counted, safe_line
from ugro_py.errors import JobFailedError, JobStoppedError, StateError, UgroError, UsageError
from ugro_py.gang import Outcome
from ugro_py.launch import Launcher, check_new, not_started
from ugro_py.live import Progress
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang
from ugro_py.queue.enter import own_group
from ugro_py.queue.model import Start
from ugro_py.queue.start import BACK_OFF_S
from ugro_py.queue.submit import check as check_queue
from ugro_py.queue.submit import enqueue, must_wait
from ugro_py.queue.wait import wait_for_turn
from ugro_py.ready import NotFreeError, Ready
from ugro_py.reconcile import hand_over, reconcile
from ugro_py.request.job import JobRequest, check
from ugro_py.runtime import runtime_path
from ugro_py.saved import load_gang
from ugro_py.state import Controller, Store
from ugro_py.takeover import adopt
from ugro_py.transport import close_all

Say = Callable[[str], None]
_PR_SET_PDEATHSIG = 1


class Lines(Progress):
    """A listener of the engine that gives one line after the other to `say`."""

    def __init__(self, job: str, say: Say) -> None:
        super().__init__(job, live=False)
        self._to = say

    def _say(self, text: str) -> None:
        self._to(safe_line(text))


def controller() -> Controller:
    """Return the process `ansible-playbook`, and see to it that this worker is told (SIGTERM) when it ends."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return Controller.me()
    me = Controller.of(parent.pid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent.pid:
            os.kill(os.getpid(), signal.SIGTERM)  # it ended just before
    else:
        threading.Thread(target=_await_end, args=(parent.pid,), daemon=True).start()
    return me


def _await_end(parent: int) -> None:
    """Tell this process when its parent has ended, where the kernel does not."""
    while os.getppid() == parent:
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)


def prepare(
    request: JobRequest, cluster: Cluster, say: Say, *, dry_run: bool = False, queue: bool = True
) -> dict[str, Any]:
    """Verify the nodes, allocate GPUs and stage everything; after this every node can start its part.

    Args:
        request: what is asked for, not checked yet.
        cluster: the inventory.
        say: is given a line for each step.
        dry_run: change nothing.
        queue: wait for GPUs that are not free; False refuses then.

    Returns:
        `job`, `attempt`, `nodes` (names in rank order) and `code` (digest); with `dry_run` no node.

    Raises:
        UgroError: nothing was allocated, or it was released again.
    """
    user = users.me().user
    _check_account(cluster, user)
    request = check(request, ask_hub=not dry_run)
    with Store.open() as store:
        reconcile(store)
        check_new(store, request)
        me = controller()
        launcher = Launcher(request, cluster, store, user, Lines(request.name, say), me, may_wait=queue)
        if dry_run:
            _show(asyncio.run(_ready(launcher)), say)
            return {"job": request.name, "attempt": None, "nodes": [], "code": None}
        try:
            with audited_here(store, "submit", request.name):
                gang = interrupt.run(_in_turn(launcher, queue))
        except asyncio.CancelledError:
            if any(job.name == request.name and job.status == "pending" for job in store.jobs(active=True)):
                hand_over(store, request.name, me)  # it goes on waiting
            raise
        return {"job": gang.job, "attempt": gang.attempt, "nodes": gang.nodes, "code": launcher.code.digest}


def _check_account(cluster: Cluster, user: str) -> None:
    """Refuse who has accounts of their own on the nodes: Ansible would start the ranks as `ansible_user`."""
    theirs = {node.name: node.user for node in users.cluster_for(cluster, user).nodes}
    other = [node.name for node in cluster.nodes if theirs[node.name] != node.user]
    if other:
        raise UsageError(
            f"launch on {', '.join(other)} by a playbook", f"{user}'s jobs run as {theirs[other[0]]} (ugro_accounts)",
            "use `ugro launch`, which does that",
        )  # fmt: skip


async def _ready(launcher: Launcher) -> Ready:
    ready = await launcher.ready(dry_run=True)
    await close_all(ready.sessions.values())
    return ready


def _show(ready: Ready, say: Say) -> None:
    for place in ready.placements:
        say(safe_line(f"rank {place.rank}  {place.node}  {place.gpu.name}  {place.gpu.uuid}"))
    for line in ready.blockers:
        say(safe_line(f"a launch would be refused: {line}"))
    say("check mode: nothing was started")


async def _in_turn(launcher: Launcher, queue: bool) -> Gang:
    """Prepare the job now, or when its turn in the queue has come."""
    request, store = launcher.request, launcher.store
    if not queue or not must_wait(store, request):
        try:
            return await _prepare(launcher)
        except NotFreeError:
            if not queue:
                raise
    group = own_group()
    check_queue(store, request, launcher.user, group)
    await enqueue(store, launcher.cluster, request, launcher.user, launcher.controller, group=group)
    while True:
        turn = await wait_for_turn(store, launcher.cluster, request.name, launcher.controller, launcher.tell)
        if not isinstance(turn, Start):
            outcome = turn or Outcome("stopped")
            launcher.end(outcome.status, outcome.reason, outcome.exit_code)
            stopped = outcome.status == "stopped"
            raise (JobStoppedError if stopped else JobFailedError)(f"job {request.name}", outcome.reason)
        try:
            return await _prepare(launcher, turn)
        except NotFreeError as error:
            store.set_waiting(request.name, str(error))
            await asyncio.sleep(BACK_OFF_S[0])


async def _prepare(launcher: Launcher, turn: Start | None = None) -> Gang:
    name = launcher.request.name
    verifying = launcher.ready(decided=turn.placements if turn else None)
    try:
        ready = await (unless_called_off(launcher.store, name, verifying) if turn else verifying)
    except CalledOffError as error:
        if error.held:
            raise NotFreeError(error.what, error.reason) from error
        launcher.end("stopped", error.reason)
        raise JobStoppedError(f"job {name}", error.reason) from error
    except UgroError as error:
        if turn and not isinstance(error, NotFreeError):
            launcher.end("failed", str(error), error.exit_code)
        raise
    try:
        await launcher.read_code()
        gang = launcher.next_attempt(ready, launcher.request.resume or "") if turn else launcher.allocate(ready)
        try:
            await unless_called_off(launcher.store, name, launcher.specs(ready, gang))
            launcher.write_capsule(ready, gang)
        except BaseException as error:
            not_started(launcher, gang, error)
            raise
    finally:
        await close_all(ready.sessions.values())
    launcher.tell(
        "step",
        {"text": f"allocated {counted(gang.world_size, 'GPU')}; staged {counted(len(launcher.code.files), 'file')}"},
    )
    return gang


def node_start(job: str, attempt: int, node: str) -> dict[str, Any]:
    """Return what module `torchrun` needs on `node`, as the central store has it: `node_dir`, `utils`, `spec` (JSON).

    It is less where the attempt does not have the node, or was never prepared.
    """
    loaded = load_gang(job, attempt)
    if loaded is None or node not in loaded[0].nodes:
        return {}
    node_dir = loaded[1].node(node).node_dir
    known = {"node_dir": node_dir, "utils": f"{node_dir}/{runtime_path()}"}
    spec = JobPaths(job).node_spec(attempt, node)
    return {**known, "spec": spec.read_text(encoding="utf-8")} if spec.exists() else known


def start_error(gang_nodes: list[str], results: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return which node could not start its ranks, judged by the results of module `torchrun`; None if all could."""
    for node in gang_nodes:
        result = results.get(node) or {}
        if result.get("state") not in ("started", "stopped"):
            said = str(result.get("msg") or "no answer")
            return safe_line(f"{node}: start the ranks: {' '.join(said.split())}")
    return None


def follow(
    job: str,
    attempt: int,
    results: Mapping[str, Mapping[str, Any]],
    say: Say,
    *,
    wait: bool = True,
    last_lines: int = 12,
) -> dict[str, Any]:
    """Stay with a job that module `torchrun` started: follow it, retry it, collect, release the GPUs.

    Args:
        job: its name.
        attempt: the attempt that was started.
        results: what module `torchrun` returned, by node.
        say: is given lines of progress.
        wait: until the job has ended; otherwise a process in the background stays with it.
        last_lines: how many of the last lines of the rank that failed first are said.

    Returns:
        `status` and `folder`.

    Raises:
        JobFailedError: it failed; the last lines of the rank that failed first were said.
        JobStoppedError: somebody stopped it.
        StateError: another process controls the job.
    """
    with Store.open() as store:
        me = controller()
        row = store.job(job)
        if not row.active or not store.claim(job, me):
            raise StateError(f"follow job {job}", f"it is {row.status}", f"see `ugro status {job}`")
        loaded = load_gang(job, attempt)
        error = start_error(loaded[0].nodes if loaded else [], results)
        folder = str(JobPaths(job).root)
        if error is None and not wait:
            hand_over(store, job, me)
            say(f"job {job} runs; `ugro status {job}`, `ugro logs {job} -f`, `ugro stop {job}`")
            return {"status": "running", "folder": folder}
        try:
            outcome = interrupt.run(adopt(store, row, me, Lines(job, say), error))
        except asyncio.CancelledError:
            hand_over(store, job, me)
            return {"status": "running", "folder": folder}
    _judge(job, outcome, say, last_lines)
    say(f"job {job} completed; results in {folder}; `ugro results {job}`")
    return {"status": outcome.status, "folder": folder}


def _judge(job: str, outcome: Outcome, say: Say, last_lines: int) -> None:
    if outcome.status == "stopped":
        raise JobStoppedError(f"job {job}", outcome.reason)
    if outcome.status == "failed":
        for line in outcome.last_lines[-last_lines:]:
            say(f"  | {safe_line(line)}")
        raise JobFailedError(f"job {job}", outcome.reason, f"see `ugro logs {job}` and {JobPaths(job).root}")
