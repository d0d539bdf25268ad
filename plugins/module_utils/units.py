# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Start a program so that it outlives the SSH session: a systemd transient unit, or a session of its own.

A transient unit is better (its cgroup takes every process with it); a new session is what is left on a machine
without systemd or without a user manager.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Dict, List, Sequence

SYSTEM, USER, NONE = "system", "user", "none"
_FREE_S = 5.0
"""How long systemd may take to forget a unit whose processes have ended."""


def manager() -> str:
    """Return which systemd manager can run a unit for this user: ``system``, ``user`` or ``none``.

    A user manager only counts when the user lingers: without it the manager, and every job in it, ends with the
    user's last SSH session.
    """
    if not os.path.isdir("/run/systemd/system"):
        return NONE
    uid = os.getuid()
    if uid == 0:
        return SYSTEM
    if not os.path.exists("/run/user/%d/systemd/private" % uid):
        return NONE
    import pwd

    return USER if os.path.exists("/var/lib/systemd/linger/" + pwd.getpwuid(uid).pw_name) else NONE


def unit_name(job: str, attempt: int, node: str) -> str:
    """Return the unit of one attempt of a job on one node."""
    return "ugro-%s-%d-%s.service" % (job, attempt, node)


def _environment() -> Dict[str, str]:
    env = dict(os.environ)
    env.setdefault("XDG_RUNTIME_DIR", "/run/user/%d" % os.getuid())
    return env


def start(unit: str, argv: Sequence[str], log: str) -> str:
    """Start `argv` in `unit`, its output appended to the file `log`. Returns the manager that runs it.

    Raises:
        OSError: systemd refused; the text is systemd's own.
    """
    import subprocess

    kind = manager()
    if kind == NONE:
        _start_session(argv, log)
        return kind
    command: List[str] = ["systemd-run", "--quiet", "--collect", "--unit", unit]
    if kind == USER:
        command.append("--user")
    for setting in (
        # SIGTERM goes to the supervisor alone, which ends the gang in order; what is left then gets SIGKILL.
        "KillMode=mixed",
        "TimeoutStopSec=90",
        "StandardOutput=append:" + log,
        "StandardError=append:" + log,
        "LimitMEMLOCK=infinity" if kind == SYSTEM else "OOMPolicy=continue",
    ):
        command += ["-p", setting]
    end = time.monotonic() + _FREE_S
    while True:
        done = subprocess.run(
            command + ["--"] + list(argv),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=20,
            check=False,
        )
        # One of this name has just ended (an attempt that stood by and was cleared away): systemd has yet to notice.
        if done.returncode == 0 or b"already loaded" not in done.stdout or time.monotonic() > end:
            break
        time.sleep(0.05)
    if done.returncode:
        raise OSError("systemd-run: " + done.stdout.decode(errors="replace").strip())
    return kind


def _start_session(argv: Sequence[str], log: str) -> None:
    """Start `argv` in a session of its own, so that no SSH session or terminal can hang it up."""
    import subprocess

    with open(log, "ab") as out:
        subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


def kill(unit: str) -> None:
    """SIGKILL everything in `unit` and forget it; nothing happens where there is no such unit."""
    import subprocess

    kind = manager()
    if kind == NONE:
        return
    scope = ["--user"] if kind == USER else []
    for verb in (["kill", "--signal=SIGKILL"], ["reset-failed"]):
        subprocess.run(
            ["systemctl", *scope, *verb, unit],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
