"""The next attempt of a job that may be retried, made ready while this one runs.

Most of what a restart takes is torchrun importing torch. Here the nodes do that in advance (`module_utils/standby.py`):
the attempt lies there with its code and its own token, and only waits to be told its port and checkpoint. It is in no
table until then; a node that is never told removes it by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py import late, secret_env
from ugro_py.cluster import Node
from ugro_py.errors import AllocationError, NodeError, UgroError, UsageError
from ugro_py.master_port import try_port
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang, new_token, node_spec, node_token
from ugro_py.ready import Ready, read_all
from ugro_py.saved import save_gang
from ugro_py.stage import checkpoint_bundle, stage
from ugro_py.state.away import AwayError
from ugro_py.state.fence import LostControlError
from ugro_py.transport import Session

if TYPE_CHECKING:
    from ugro_py.launch import Launcher

# After the first step the ranks have imported and loaded what they need; this long they are still left in peace.
_CALM_S = 1.0
_START_TIMEOUT_S = 600.0
# A checkpoint up to this size is brought to the nodes in advance too.
_SMALL = 64 << 20


class Ahead:
    """The attempt that follows `gang` on the same GPUs.

    Args:
        launcher: of the job.
        gang: the attempt that runs.
        nodes: its nodes by name.
        sessions: open sessions by node name; whoever replaces one does so in this mapping.
    """

    def __init__(self, launcher: Launcher, gang: Gang, nodes: Mapping[str, Node], sessions: dict[str, Session]) -> None:
        self._launcher = launcher
        self._gang = gang
        self._nodes = nodes
        self._sessions = sessions
        self._task: asyncio.Task[None] | None = None
        self._staging: asyncio.Task[None] | None = None
        self._ready: Ready | None = None
        # The port and the checkpoint follow; the number is the next one, unless somebody else takes it.
        self._next = replace(gang, attempt=gang.attempt + 1, token=new_token(), resume_from="")

    @property
    def job(self) -> str:
        """The job it is of."""
        return self._gang.job

    def take(self, node: str, event: Mapping[str, Any]) -> None:
        """Begin when the ranks have done a step."""
        if self._task is None and event["kind"] == "metrics":
            self._task = asyncio.create_task(self._prepare())

    async def _prepare(self) -> None:
        await asyncio.sleep(_CALM_S)
        launcher, gang = self._launcher, self._next
        try:
            if getattr(launcher, "sources", None) is None:  # of a job that was taken over
                await launcher.read_code()
            reports, errors = await read_all([self._nodes[name] for name in gang.nodes], dict(self._sessions))
            if errors:
                return
            ready = Ready(
                list(gang.placements), dict(self._nodes), self._sessions, reports, [], gang.master_addr, 0, []
            )  # fmt: skip
            for name in gang.nodes:
                await stage(self._sessions[name], launcher.code)
            specs = {
                name: node_spec(gang, self._nodes[name], launcher.request, launcher.cluster, reports[name], 1)
                | {"standby_of": self._gang.attempt}
                for name in gang.nodes
            }
            await asyncio.gather(
                *(
                    self._sessions[name].call(
                        "start", spec=specs[name], digest=launcher.code.digest, timeout_s=_START_TIMEOUT_S
                    )
                    for name in gang.nodes
                )
            )
        except UgroError as error:
            text = f"the next attempt could not be made ready in advance: {error}"
            await launcher.store.patiently(
                launcher.store.add_event, "standby", text, job=gang.job, severity="warning"
            )  # fmt: skip
            await self._remove()
            return
        self._ready = ready

    def copied(self, path: Path) -> None:
        """Bring a small checkpoint that is in the central store to the nodes: the next attempt goes on from it."""
        if self._ready is not None and (self._staging is None or self._staging.done()):
            self._staging = asyncio.create_task(self._stage(path))

    async def _stage(self, path: Path) -> None:
        with contextlib.suppress(UgroError, OSError):  # only in advance: the next attempt itself will see to it
            if path.stat().st_size <= _SMALL:
                content = await asyncio.to_thread(checkpoint_bundle, path)
                await asyncio.gather(*(stage(session, content) for session in self._sessions.values()))

    async def go(self, resume_from: str) -> Gang | None:
        """Start the attempt, from a checkpoint of the central store ("": from scratch).

        Returns:
            The attempt, recorded and started; None where it is not ready, or could not start: a node does not answer,
            or its GPUs are somebody else's now. Nothing of it runs then.

        Raises:
            StateError: the store cannot be used; nothing of it runs then either.
        """
        ready, launcher = self._ready, self._launcher
        if ready is None or not all(name in self._sessions for name in self._next.nodes):
            return None
        if self._staging is not None:
            await asyncio.gather(self._staging, return_exceptions=True)
        try:
            port = await try_port(launcher.cluster, launcher.store, self._next.nodes, self._sessions)
            gang = replace(self._next, master_port=port, resume_from=resume_from)
            number = await launcher.store.wholly(  # who frees its GPUs comes after it
                launcher.store.start_attempt, gang.job, gang.placements,
                master_addr=gang.master_addr, master_port=port, token=gang.token,
            )  # fmt: skip
        except (AllocationError, NodeError):
            return None  # whoever asks looks for other GPUs, and says what is in the way if there are none
        if number != gang.attempt:
            await self._failed(number, "another attempt came before")
            return None
        try:
            await self._go(gang, ready)
        except BaseException as error:
            await late.end_partly_started(launcher, gang, self._nodes, self._sessions)
            reason = f"could not be started: {error}" if str(error) else "its start was interrupted"
            with contextlib.suppress(LostControlError, AwayError):
                await self._failed(gang.attempt, reason)
            if isinstance(error, NodeError | UsageError):  # a checkpoint, say, that went meanwhile
                JobPaths(gang.job).keep_logs(gang.attempt)  # the attempt after it writes new ones
                return None
            raise
        self._ready = self._task = None  # it is no longer in advance of anything
        return gang

    async def _failed(self, number: int, reason: str) -> None:
        store = self._launcher.store
        await store.patiently(store.set_attempt, self._next.job, number, status="failed", reason=reason)

    async def _go(self, gang: Gang, ready: Ready) -> None:
        launcher = self._launcher
        save_gang(gang, launcher.cluster, launcher.store.identity())
        await launcher.store.patiently(launcher.store.set_job, gang.job, "starting")
        specs = await launcher.specs(ready, gang)
        secrets = secret_env.of(gang.job, launcher.request.secret_env)
        hidden: dict[str, Any] = {"secrets": secrets} if secrets else {}
        await asyncio.gather(
            *(self._sessions[name].call("go", spec=specs[name], **hidden) for name in gang.nodes),
            asyncio.to_thread(launcher.write_capsule, ready, gang),
        )

    async def discard(self, *, leave: bool = False) -> None:
        """Remove it from the nodes: it is not needed. With `leave` it stays: another controller sees to the nodes."""
        for task in (self._task, self._staging):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._task is not None and not leave:
            await self._remove()
            self._ready = self._task = None

    async def _remove(self) -> None:
        async def one(name: str, session: Session) -> None:
            key: dict[str, Any] = {"job": self._next.job, "attempt": self._next.attempt}
            token = node_token(self._next.token, name)
            await session.call("stop", **key, reason="not needed", grace_s=0.0, token=token)
            await session.call("remove", **key, token=token)

        await asyncio.gather(
            *(one(name, session) for name, session in self._sessions.items() if not session.closed),
            return_exceptions=True,
        )
