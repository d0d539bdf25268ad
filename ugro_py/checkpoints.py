"""Which checkpoints of a job the central store holds, and which of them it need not hold any more."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ugro_py.paths import JobPaths

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


def forget_old(paths: JobPaths, keep: int, in_use: Collection[Path] = ()) -> list[Path]:
    """Remove the oldest checkpoints of a job where a node wrote more than `keep`; return them, the oldest first.

    Only what has a manifest is taken for a checkpoint; files of one step in one folder are one, of several ranks, say.
    The newest one, `final.pt`, whatever has `best` in its name or that of its folder, and what is `in_use` (resolved,
    or a folder it lies in) stay and do not count.

    Raises:
        OSError: one cannot be removed.
    """
    top, nodes = paths.checkpoints, {node for _, node, _ in paths.event_copies()}
    spared = {newest(paths), *in_use}
    by_folder: dict[Path, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for manifest in top.rglob("[!.]*.json"):
        path = manifest.with_name(manifest.name.removesuffix(".json"))
        resolved = real(path)
        if path.name == "final.pt" or path.is_symlink() or not spared.isdisjoint({path, resolved, *resolved.parents}):
            continue
        parts = path.relative_to(top).parts
        if any("best" in part.lower() for part in (parts[1:] if parts[0] in nodes else parts)):
            continue
        step = _complete_at(path) if path.is_file() else None
        if step is not None:
            by_folder[path.parent][step].append(path)
    old = [path for found in by_folder.values() for step in sorted(found)[:-keep] for path in sorted(found[step])]
    for path in old:
        path.with_name(path.name + ".json").unlink(missing_ok=True)  # first: without it nothing counts on the other
        path.unlink(missing_ok=True)
    return old


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
