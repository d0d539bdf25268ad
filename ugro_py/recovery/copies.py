"""Checkpoints come to the central store while the job runs, so that a node that dies takes none older than its last.

One copy at a time; when several checkpoints are due only the newest of a node is taken. A copy is written under a
temporary name, compared with its manifest and renamed when whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ugro_py import checkpoints
from ugro_py.cluster import Node
from ugro_py.collect import check_room, move_into
from ugro_py.errors import NodeError, StateError, UgroError
from ugro_py.paths import CHECKPOINTS, JobPaths
from ugro_py.plan import Gang
from ugro_py.stage import remote, rsync
from ugro_py.state import Store
from ugro_py.transport import Session

KEEP = 3
"""So many copies made while a job runs are kept; at its end all that the node still has are collected."""
# KiB/s: about a third of a 1 Gbit network, so that gradients have the rest.
_RATE = 40000


class Copies:
    """Copies the checkpoints of one attempt.

    Args:
        store: for events.
        gang: the attempt.
        nodes: its nodes by name.
        sessions: open sessions by node name; whoever replaces one does so in this mapping.
        copied: called with each checkpoint that is in the central store now.
    """

    def __init__(
        self,
        store: Store,
        gang: Gang,
        nodes: Mapping[str, Node],
        sessions: Mapping[str, Session],
        copied: Callable[[Path], None] | None = None,
    ) -> None:
        self._store = store
        self._gang = gang
        self._nodes = nodes
        self._sessions = sessions
        self._copied = copied or (lambda path: None)
        self._paths = JobPaths(gang.job)
        self._due: dict[str, str] = {}
        self._here: list[Path] = []
        self._failed: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._current: tuple[str, str] | None = None
        self._rate = _RATE

    def take(self, node: str, event: Mapping[str, Any]) -> None:
        """Note an event of a node; a `checkpoint` is copied soon."""
        if event["kind"] != "checkpoint" or not isinstance(event.get("path"), str):
            return
        name = Path(event["path"]).name
        if not name or name.startswith("."):
            return
        self._due[node] = name
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def finish(self) -> None:
        """Copy what is due and return when it is here; nothing else needs the network now, so as fast as it goes."""
        self._rate = 0
        if self._task is not None and not self._task.done() and self._current is not None:
            slow = self._current
            await self.cancel()
            self._due.setdefault(*slow)
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work())
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def cancel(self) -> None:
        """Stop copying; half a copy is removed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)  # what broke a copy must not break the job's end

    async def _work(self) -> None:
        while self._due:
            node, name = self._current = self._due.popitem()
            try:
                path = await self._copy(node, name)
            except UgroError as error:
                self._current = None
                if node not in self._failed:  # told once; what follows is collected at the end, or is the node's loss
                    self._failed.add(node)
                    text = f"{node}: {name} was not copied while the job runs: {error}"
                    await self._told("copy_failed", text, node, "warning")
                continue
            self._current = None
            self._failed.discard(node)
            await self._told("checkpoint", f"{name} of {node} is in the central store", node, "info")
            self._forget_old(path, await self._store.patiently(checkpoints.in_use, self._store))
            self._copied(path)
        self._current = None

    async def _told(self, kind: str, text: str, node: str, severity: str) -> None:
        job = self._gang.job
        await self._store.patiently(self._store.add_event, kind, text, job=job, node=node, severity=severity)

    async def _copy(self, node: str, name: str) -> Path:
        """Copy one checkpoint and its manifest.

        Raises:
            UgroError: the node does not answer, the file is gone or is not what its manifest says, the store is full.
        """
        target = self._paths.checkpoints if node == self._gang.nodes[0] else self._paths.checkpoints / node
        part = self._paths.copy_part(node)
        session = self._sessions.get(node)  # none: a job was taken over whose node was away by then
        if session is None or session.closed:
            raise NodeError(f"{node}: copy {name}", "the node was lost")
        where = await session.call("status", job=self._gang.job, attempt=self._gang.attempt)
        source = f"{where['dir']}/{CHECKPOINTS}/{name}"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(mode=0o700, parents=True)
            await self._fetch(self._nodes[node], source, part)
            await asyncio.to_thread(verify, part / name)
            await asyncio.to_thread(move_into, part, target)
        except OSError as error:
            raise StateError(f"copy {name} of {node}", error.strerror or str(error), "make room") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return target / name

    async def _fetch(self, node: Node, source: str, part: Path) -> None:
        if node.connection == "local":
            for path in (Path(source), Path(source + ".json")):
                check_room(self._paths.root, path.stat().st_size)
                await asyncio.to_thread(shutil.copy2, path, part / path.name)
            return
        options = [f"--bwlimit={self._rate}"] if self._rate else []
        sources = [remote(node, source), remote(node, source + ".json")]
        await rsync(node, [*options, *sources, f"{part}/"], f"copy {Path(source).name}")

    def _forget_old(self, path: Path, in_use: Collection[Path]) -> None:
        """Drop the oldest copy where there are more than `KEEP`: a long job must not fill the store.

        One that another job is to resume from stays.
        """
        if path in self._here:
            self._here.remove(path)
        self._here.append(path)
        for old in (old for old in self._here[:-KEEP] if checkpoints.real(old) not in in_use):
            old.with_name(old.name + ".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
        del self._here[:-KEEP]


def verify(path: Path) -> None:
    """Compare a checkpoint with its manifest.

    Raises:
        NodeError: it is not what the manifest says.
    """
    # A job may leave anything under these names; the agent must not read a device, or wait at a pipe, for ever.
    for file in (path, path.with_name(path.name + ".json")):
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise NodeError(f"checkpoint {path.name}", f"{file.name} is no plain file", "the next one is tried")
    try:
        manifest = json.loads(path.with_name(path.name + ".json").read_bytes())
    except (OSError, ValueError) as error:
        raise NodeError(f"checkpoint {path.name}", f"has no manifest that can be read: {error}") from error
    problem = ""
    if not isinstance(manifest, dict) or manifest.get("complete") is not True:
        problem = "its manifest does not say that it is complete"
    elif "size" in manifest and manifest["size"] != path.stat().st_size:
        problem = f"has {path.stat().st_size} bytes, its manifest says {manifest['size']}"
    elif "sha256" in manifest:
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != manifest["sha256"]:
                problem = "its hash is not the one in its manifest"
    if problem:
        raise NodeError(f"checkpoint {path.name}", problem, "the next one is tried")
