# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Secrets of a job on its node: a file for each rank in memory (tmpfs), which the rank's starter reads and removes.

They never reach a disk, a command line, or the environment of anything but the ranks. What a rank that never started
did not take away, the attempt's end does.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List

VARIABLE = "UGRO_SECRETS"


def _bases() -> List[str]:
    """Return the folders in memory that may hold secrets, the best first."""
    uid = os.getuid()
    found = ["/run"] if uid == 0 else []
    # A user's own folder ends with the last session, unless the user lingers: only then does it outlive this one.
    runtime = "/run/user/%d" % uid
    if os.path.exists(runtime + "/systemd/private") and os.path.isdir("/var/lib/systemd/linger"):
        import pwd

        if os.path.exists("/var/lib/systemd/linger/" + pwd.getpwuid(uid).pw_name):
            found.append(runtime)
    return [*found, "/dev/shm"]  # noqa: S108  the only tmpfs that every user may write to; the folder is made anew


def _folder(base: str, token: str) -> str:
    """Return the folder of an attempt: nobody can know its name, and so make it first, before the attempt starts."""
    import hashlib  # late: few jobs have secrets, and a node pays for each import

    return os.path.join(base, "ugro-" + hashlib.sha256(("secrets " + token).encode()).hexdigest()[:40])


def _is_memory(base: str) -> bool:
    try:
        with open("/proc/mounts", encoding="utf-8", errors="replace") as file:
            mounts = [line.split()[1:3] for line in file]
    except OSError:
        return False
    over = [mount for mount in mounts if base == mount[0] or base.startswith(mount[0].rstrip("/") + "/")]
    return bool(over) and max(over, key=lambda mount: len(mount[0]))[1] in ("tmpfs", "ramfs")


def write(token: str, ranks: Iterable[int], values: Dict[str, str]) -> str:
    """Put the secrets in place for the ranks of an attempt. Returns their folder.

    Raises:
        OSError: no folder in memory can be written to.
    """
    import json

    remove(token)
    error = OSError("no tmpfs for secrets: /run or /dev/shm")
    for base in _bases():
        folder = _folder(base, token)
        if not _is_memory(base):
            continue
        try:
            os.mkdir(folder, 0o700)
        except OSError as refused:
            error = refused
            continue
        for rank in ranks:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            fd = os.open(os.path.join(folder, str(rank)), flags, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(values, file)
        return folder
    raise error


class placed:  # noqa: N801  reads as a verb: with placed(spec, secrets) as spec
    """Secrets in place while an attempt starts, and taken away again if it does not: gives the spec that names them."""

    def __init__(self, spec: Dict[str, Any], secrets: Dict[str, str]) -> None:
        self._spec, self._secrets = spec, secrets

    def __enter__(self) -> Dict[str, Any]:
        ranks = [rank for launch in self._spec["launches"] for rank in launch["ranks"]]
        folder = write(self._spec["token"], ranks, self._secrets)
        return dict(self._spec, env=dict(self._spec["env"], **{VARIABLE: folder}))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            remove(self._spec["token"])


def remove(token: str) -> None:
    """Remove what is left of an attempt's secrets on this node; nothing happens where there is none."""
    for base in {*_bases(), "/run", "/dev/shm", "/run/user/%d" % os.getuid()}:  # noqa: S108
        folder = _folder(base, token)
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                os.unlink(os.path.join(folder, name))
            except FileNotFoundError:
                pass  # a rank has just taken it
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
