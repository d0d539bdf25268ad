"""Which checkpoints of a job the central store holds, and which of them it need not hold any more."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py import step_folders
from ugro_py.paths import JobPaths
from ugro_py.step_folders import StepFolder

if TYPE_CHECKING:
    from ugro_py.state import Store

_LARGEST_MANIFEST = 1 << 20


def newest(paths: JobPaths) -> Path | None:
    """Return the newest complete checkpoint of a job: `final.pt`, else the one of the highest step.

    Complete is one whose manifest (`NAME.json`, written last) tells its size. Of a script that writes no manifests
    it is the file, or the folder with the file, that was written last. What the node of rank 0 wrote comes before
    what other nodes wrote, which lies in folders of the nodes' names.
    """
    top = paths.checkpoints
    nodes = {node for _, node, _ in paths.event_copies()}
    inside = top.resolve()
    # A link that leads out of the job's folder is no checkpoint: a job could have other people's files sent to it.
    found_here = top.rglob("[!.]*") if top.is_dir() else ()
    files = [path for path in found_here if path.is_file() and path.resolve().is_relative_to(inside)]
    found: list[tuple[bool, bool, int, float, Path]] = []
    for path in files:
        step = _complete_at(path)
        if step is not None:
            found.append((_of_rank_0(path, top, nodes), path.name == "final.pt", step, path.stat().st_mtime, path))
    if not found and not any(path.name.endswith(".pt.json") for path in files):
        for path in files:
            parts = path.relative_to(top).parts
            entry = top.joinpath(*parts[: 2 if len(parts) > 1 and parts[0] in nodes else 1])
            found.append((_of_rank_0(path, top, nodes), path.name == "final.pt", 0, path.stat().st_mtime, entry))
    return max(found)[-1] if found else None


def unvouched(paths: JobPaths) -> Path | None:
    """Return the newest checkpoint of a job if no manifest tells that it is whole; None if one does."""
    found = newest(paths)
    return found if found is not None and not found.with_name(found.name + ".json").is_file() else None


def forget_old(paths: JobPaths, keep: int, in_use: Collection[Path] = ()) -> list[Path]:
    """Remove the oldest checkpoints of a job where a node wrote more than `keep`; return them, the oldest first.

    Only what has a manifest is taken for a checkpoint; files of one step in one folder are one, of several ranks, say.
    So is a folder that is named like a step and whole (`step_folders`): it goes with all that is in it, and with what
    other nodes wrote of it. The newest one, `final.pt`, whatever has `best` in its name or that of its folder, what
    transformers took for the best, and what is `in_use` (resolved, or a folder it lies in) stay and do not count.

    Raises:
        OSError: one cannot be removed.
    """
    top, nodes = paths.checkpoints, {node for _, node, _ in paths.event_copies()}
    last = newest(paths)
    spared = {last, *in_use}
    folders = step_folders.find(top, _complete_at)
    whole = {folder.path for folder in folders if folder.whole}
    by_folder: dict[Path, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for manifest in top.rglob("[!.]*.json"):
        path = manifest.with_name(manifest.name.removesuffix(".json"))
        if not whole.isdisjoint(path.parents):
            continue
        resolved = real(path)
        if path.name == "final.pt" or path.is_symlink() or not spared.isdisjoint({path, resolved, *resolved.parents}):
            continue
        if _is_best(path.relative_to(top), nodes):
            continue
        step = _complete_at(path) if path.is_file() else None
        if step is not None:
            by_folder[path.parent][step].append(path)
    old = [path for found in by_folder.values() for step in sorted(found)[:-keep] for path in sorted(found[step])]
    for path in old:
        path.with_name(path.name + ".json").unlink(missing_ok=True)  # first: without it nothing counts on the other
        path.unlink(missing_ok=True)
    for parts in _old_folders(folders, top, nodes, keep, last, in_use):
        for part in parts:
            step_folders.remove(part)
        old.append(parts[0])
    return old


def _old_folders(
    folders: Collection[StepFolder],
    top: Path,
    nodes: Collection[str],
    keep: int,
    last: Path | None,
    in_use: Collection[Path],
) -> list[list[Path]]:
    """Return the checkpoints that are folders and may go; each with what nodes hold of it: shards, random states."""
    whole = {folder.path for folder in folders if folder.whole}
    by_series: dict[tuple[Path, str], list[StepFolder]] = defaultdict(list)
    for folder in sorted(folders, key=lambda one: one.number):
        if folder.whole:
            by_series[folder.series].append(folder)
    old = []
    for found in by_series.values():
        if len(found) <= keep:
            continue  # nothing can go; there may be very many files
        best = step_folders.best(found[-1].path)
        may_go = []
        for path in [one.path for one in found if one.path.name != best]:
            inside = path.relative_to(top)
            others = [top / node / inside for node in sorted(nodes)] if inside.parts[0] not in nodes else []
            parts = [path, *(one for one in others if one.is_dir() and not one.is_symlink() and one not in whole)]
            names = [inside, *(below.relative_to(path) for below in path.rglob("*"))]
            stays = any(_is_best(name, nodes) or name.name == "final.pt" for name in names)
            if not stays and not _needed(parts, last, in_use):
                may_go.append(parts)
        old += may_go[:-keep]
    return old


def _needed(parts: Collection[Path], last: Path | None, in_use: Collection[Path]) -> bool:
    """Say whether one of these folders is, or holds, the newest checkpoint or one that is in use."""
    if last is not None and not {last, *last.parents}.isdisjoint(parts):
        return True
    resolved = [real(part) for part in parts]
    return any(one == part or one in part.parents or part in one.parents for part in resolved for one in in_use)


def _is_best(inside: Path, nodes: Collection[str]) -> bool:
    parts = inside.parts
    return any("best" in part.lower() for part in (parts[1:] if parts[0] in nodes else parts))


def in_use(store: Store) -> set[Path]:
    """Return the checkpoints, resolved, that jobs which have not ended were asked to resume from."""
    wanted = [str(job.request.get("resume") or "") for job in store.jobs(active=True)]
    return {real(one) for one in wanted if one}


def real(path: str | Path) -> Path:
    """Return a path without links, as far as there are files; unlike `Path.resolve` for one that leads in a circle."""
    return Path(os.path.realpath(path))


def _of_rank_0(path: Path, top: Path, nodes: set[str]) -> bool:
    return path.parent == top or path.relative_to(top).parts[0] not in nodes


def _complete_at(path: Path) -> int | None:
    """Return the step of a checkpoint whose manifest fits, else None."""
    manifest = _json(path.with_name(path.name + ".json"))
    step = manifest.get("step")
    try:
        fits = manifest.get("complete") is True and manifest.get("size") == path.stat().st_size
    except OSError:
        return None  # an old one, removed just now
    return step if fits and isinstance(step, int) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        # A link to a device, or a pipe, never comes to an end; what the kernel makes up has no size.
        if not path.is_file() or not 0 < path.stat().st_size <= _LARGEST_MANIFEST:
            return {}
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
