"""Bring checkpoints and TensorBoard events from the nodes to the central store.

What arrives is written under a temporary name and renamed when whole, so that the store never shows half a checkpoint.
Logs, events and metrics came already while the job ran (mirror.py).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ugro_py.cluster import Node
from ugro_py.errors import NodeError, StateError
from ugro_py.mirror import mirror_of
from ugro_py.paths import COLLECTED, JobPaths
from ugro_py.plan import Gang, node_token
from ugro_py.stage import remote, rsync
from ugro_py.transport import Session

_FILES_TIMEOUT_S = 600.0  # a walk through or removal of very many files


async def collect(gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session]) -> list[str]:
    """Copy the results of every node that answers, then remove the attempt's folder there; see `collect_from`.

    Returns:
        A line for each node whose results could not be had; their folders stay on the node.
    """
    return list((await collect_from(gang, nodes, sessions)).values())


async def collect_from(gang: Gang, nodes: Mapping[str, Node], sessions: Mapping[str, Session]) -> dict[str, str]:
    """Copy the results of every node that answers, then remove the attempt's folder there.

    The files of rank 0's node go into `checkpoints/` and `tensorboard/`; other nodes' go into a folder of the node's
    name inside, since several ranks may have written files of one name.

    Returns:
        The nodes whose results could not be had, and why; their folders stay there.
    """
    paths = JobPaths(gang.job)
    try:
        for folder in COLLECTED:
            (paths.root / folder).mkdir(exist_ok=True)
    except OSError as error:  # the central store, full or gone
        return dict.fromkeys(sessions, f"collect {gang.job}: {error.strerror or error}; make room and collect again")
    first = gang.nodes[0]
    results = await asyncio.gather(
        *(_from_node(gang, nodes[name], session, paths, name == first) for name, session in sessions.items()),
        return_exceptions=True,
    )
    problems = {}
    for name, result in zip(sessions, results, strict=True):
        if isinstance(result, NodeError | StateError):
            problems[name] = str(result)
        elif isinstance(result, BaseException):
            raise result
    return problems


async def _from_node(gang: Gang, node: Node, session: Session, paths: JobPaths, is_first: bool) -> None:
    outputs: dict[str, Any] = await session.call(
        "outputs", job=gang.job, attempt=gang.attempt, timeout_s=_FILES_TIMEOUT_S
    )
    for folder in COLLECTED:
        if not outputs[folder]["files"]:
            continue
        part = paths.root / f".{folder}.{node.name}.part"
        target = paths.root / folder if is_first else paths.root / folder / node.name
        try:
            shutil.rmtree(part, ignore_errors=True)  # of a controller that was killed in the middle of it
            check_room(paths.root, outputs[folder]["bytes"])
            if node.connection == "local":
                await asyncio.to_thread(shutil.copytree, outputs[folder]["path"], part, copy_function=_link_or_copy)
            else:
                source = remote(node, f"{outputs[folder]['path']}/")
                # What came while the job ran (recovery/copies.py) is linked instead of copied once more.
                here = [f"--link-dest={target}/"] if target.is_dir() else []
                await rsync(node, [*here, source, f"{part}/"], f"collect {folder}")
            await asyncio.to_thread(move_into, part, target)
        except OSError as error:
            raise StateError(
                f"{node.name}: collect {folder}", error.strerror or str(error), "make room and try again"
            ) from error
        finally:
            if part.exists():
                shutil.rmtree(part)
    sizes = await session.call("sizes", job=gang.job, attempt=gang.attempt)
    if not mirror_of(gang, node.name).has(sizes):
        raise StateError(
            f"{node.name}: collect the logs of {gang.job}", "they are not here whole",
            "they stay on the node; make room in the central store and collect again",
        )  # fmt: skip
    await session.call(
        "remove",
        job=gang.job,
        attempt=gang.attempt,
        token=node_token(gang.token, node.name),
        timeout_s=_FILES_TIMEOUT_S,
    )


def check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StateError(
            f"collect into {folder}", f"{needed / 2**30:.1f} GB are needed and {free / 2**30:.1f} GB are free",
            "make room; the results stay on the nodes until then",
        )  # fmt: skip


def _link_or_copy(source: str, target: str) -> str:
    """Link where both are on one file system: the node's own name for the file is removed right after."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def move_into(part: Path, target: Path) -> None:
    """Rename every file of `part` into `target`; a file that exists is replaced in one step.

    Manifests (`*.json`) come last: a checkpoint counts as complete when its manifest is there. A job leaves what it
    likes, and this process may do more than the job may: links out of `part` are dropped, and none is gone through.
    """
    part = part.resolve()
    found = (path for path in part.rglob("*") if path.is_file() and _stays(path, part))
    for path in sorted(found, key=lambda path: path.suffix == ".json"):
        final = target / path.relative_to(part)
        for folder in reversed(final.relative_to(target).parents):
            here = target / folder
            if here.is_symlink():
                here.unlink()
            here.mkdir(parents=True, exist_ok=True)
        _drop_set_id(path)
        path.replace(final)


def _drop_set_id(path: Path) -> None:
    """Take setuid and setgid from a file: it is this account's now, and anybody may read it."""
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
        path.chmod(stat.S_IMODE(mode) & 0o777)


def _stays(path: Path, part: Path) -> bool:
    """Say whether a path is no link, or a relative one to a place inside `part`."""
    return not path.is_symlink() or (not path.readlink().is_absolute() and path.resolve().is_relative_to(part))
