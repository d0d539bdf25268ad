"""`ugro pull` through the agent: a job's files one by one, each checked for its size.

The names of the files are what a job chose, and an agent may be anybody's: none may lead out of the folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ugro_py.api.client import job_path
from ugro_py.errors import NotFoundError, StateError
from ugro_py.names import check_name
from ugro_py.pull import Copied, Progress, Pulled, pull_into

if TYPE_CHECKING:
    from ugro_py.api.client import Client


def fetch(client: Client, job: str, target: Path, *, force: bool = False, progress: Progress | None = None) -> Pulled:
    """Copy what all may read of a job into the folder `target`; see `ugro_py.pull.pull`.

    Raises:
        NotFoundError: there is no such job.
        UsageError: the target is in the way.
        StateError: the agent is gone, a file was cut off or has a name that leads elsewhere, or there is no room; the
            target is as it was.
    """
    check_name(job)
    active = client.get(job_path(job))["status"] not in ("completed", "failed", "stopped")

    def copy(part: Path) -> Copied:
        return _copy(client, job, part, active, progress or (lambda done, total: None))

    return pull_into(job, target, copy, force=force)


def _copy(client: Client, job: str, part: Path, active: bool, progress: Progress) -> Copied:
    found: list[dict[str, Any]] = client.get(job_path(job, "files"))
    total = sum(entry["size"] for entry in found)
    part.mkdir(mode=0o700)
    skipped: list[Path] = []
    files = size = 0
    for entry in found:
        to = part / inside(job, entry["path"])
        to.parent.mkdir(parents=True, exist_ok=True)
        got = 0
        try:
            # `x`: two names that are one file here (a disk that ignores case) must not overwrite each other.
            with to.open("xb") as writer:
                for block in client.read(job_path(job, "files", quote(os.fsencode(entry["path"])))):
                    writer.write(block)
                    got += len(block)
                    progress(size + got, max(total, size + got))
        except NotFoundError:
            to.unlink()
            skipped.append(Path(entry["path"]))
            continue
        if got != entry["size"] and not active:
            came_back = f"{got} bytes of {entry['size']}"
            raise StateError(f"{job}: copy {entry['path']}", came_back, "try again")
        files, size = files + 1, size + got
    return files, size, tuple(skipped)


def inside(job: str, name: str) -> str:
    """Return the name of a file if it stays below the job's folder.

    Raises:
        StateError: it does not.
    """
    if any(word in ("", ".", "..") or "\0" in word for word in name.split("/")):
        raise StateError(f"{job}: copy {name!r}", "leads out of the job's folder", "ask who runs the agent")
    return name
