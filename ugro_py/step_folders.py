"""Checkpoints that are a folder each (`step_100/`, `checkpoint-100/` of transformers): which there are, and how whole.

A folder is whole where something says so that is written last: manifests that fit, all of one step; the
`trainer_state.json` of transformers; the `.metadata` of torch.distributed.checkpoint. Of any other nobody knows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(
    r"((?:.*[-_.])?(?:global_?step|step|checkpoint|ckpt|epoch|iteration|iter)[-_.=]?)([0-9]{1,18})", re.I
)
_TRAINER, _DISTRIBUTED = "trainer_state.json", ".metadata"
_LARGEST = 64 << 20  # bytes; of a long training the whole history of its losses is in there


@dataclass(frozen=True)
class StepFolder:
    """One checkpoint: `series` is what the names of those before and after it have in common, `whole` see above."""

    path: Path
    series: tuple[Path, str]
    number: int
    whole: bool


def find(top: Path, complete_at: Callable[[Path], int | None]) -> list[StepFolder]:
    """Return the folders below `top` that are named like a step; what lies inside of one is a part of it.

    Args:
        top: a folder; links are not followed.
        complete_at: returns the step of a file whose manifest fits, else None.
    """
    found = []
    for where, names, _files in os.walk(top):
        for name in sorted(names):
            path = Path(where, name)
            named = _NAME.fullmatch(name)
            if name.startswith(".") or path.is_symlink():
                names.remove(name)
            elif named and (whole := _whole(path, complete_at)) is not None:
                names.remove(name)
                found.append(StepFolder(path, (path.parent, named[1]), int(named[2]), whole))
    return found


def _whole(folder: Path, complete_at: Callable[[Path], int | None]) -> bool | None:
    """Say whether a folder is a whole checkpoint; None where it holds those of several steps."""
    steps = set()
    for manifest in folder.rglob("[!.]*.json"):
        path = manifest.with_name(manifest.name.removesuffix(".json"))
        if path.is_file():
            steps.add(complete_at(path))
    if len(steps - {None}) > 1:
        return None
    if steps:
        return None not in steps
    return _ends(folder / _TRAINER) or (folder / _DISTRIBUTED).is_file()


def _ends(path: Path) -> bool:
    """Say whether a file of indented JSON was written to its end."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 3))
            return stream.read() == b"\n}\n"
    except OSError:
        return False


def best(folder: Path) -> str:
    """Return the name of the folder that transformers took for the best one up to here, "" where none is told."""
    path = folder / _TRAINER
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
            return ""
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    told = value.get("best_model_checkpoint") if isinstance(value, dict) else None
    return Path(told).name if isinstance(told, str) else ""


def remove(folder: Path) -> None:
    """Remove a folder; first what says that it is whole, so that nobody takes what is left for a checkpoint.

    Raises:
        OSError: something of it cannot be removed.
    """
    for path in (*folder.rglob("[!.]*.json"), folder / _DISTRIBUTED):
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)
    shutil.rmtree(folder)
