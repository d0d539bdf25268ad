# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Break a running attempt on this node on purpose, as a fault would: only processes of that attempt are touched.

The session calls :func:`run`. A pause has a process of its own, which lets the ranks go on even if the session is gone
by then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from . import processes, units

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .attempt import Attempt

LONGEST_PAUSE_S = 600.0
# Stops the processes, waits, lets them go on. It is not the attempt's: its environment holds no token of it.
_PAUSE = """
import os, signal, sys, time
pids = [int(pid) for pid in sys.argv[2:]]
def send(number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass
send(signal.SIGSTOP)
time.sleep(float(sys.argv[1]))
send(signal.SIGCONT)
"""

_LATER = "import os, sys, time; time.sleep(0.3); os.execvp(sys.argv[1], sys.argv[1:])"


def run(attempt: Attempt, token: str, action: str, rank: Optional[int] = None, seconds: float = 0.0) -> Dict[str, Any]:
    """Do one drill and return ``t`` (when, by this node's clock) and ``pids``.

    Args:
        attempt: which one.
        token: its token; nothing is done to an attempt of the same name of another UGRO.
        action: ``kill-rank`` (SIGKILL to one rank), ``kill-node`` (the unit with its supervisor and everything of the
            attempt, all at once), ``pause-node`` (SIGSTOP to the ranks, SIGCONT after `seconds`) or ``power`` (reboot).
        rank: for ``kill-rank``.
        seconds: for ``pause-node``.

    Raises:
        ValueError: the attempt does not run here, or there is no such action or rank.
    """
    status = attempt.status()
    if status["state"] != "started" or attempt.read("spec.json").get("token") != token:
        raise ValueError("the attempt does not run here (%s)" % status["state"])
    ours = processes.with_token(token)
    ranks = {int(number): pid for number, pid in status["pids"].items() if pid in ours}
    if action == "kill-rank":
        if rank not in ranks:
            raise ValueError("rank %s does not run here" % rank)
        return _signal([ranks[rank]], signal.SIGKILL)
    if action == "kill-node":
        # The supervisor first: it must not live to tell how its ranks ended, as on a node that is gone.
        victims = [status["pid"], *sorted((ours | processes.descendants(status["pid"])) - {status["pid"]})]
        done = _signal(victims, signal.SIGKILL)
        units.kill(attempt.unit)
        processes.sweep(token)
        return done
    if action == "pause-node":
        return _pause(sorted(ranks.values()), min(float(seconds), LONGEST_PAUSE_S))
    if action == "power":
        return _reboot()
    raise ValueError("no such drill: %s" % action)


def _signal(pids: List[int], number: int) -> Dict[str, Any]:
    at = time.time()
    processes.signal_all(pids, number)
    return {"t": at, "pids": pids}


def _pause(pids: List[int], seconds: float) -> Dict[str, Any]:
    if not pids:
        raise ValueError("no rank runs here")
    at = time.time()
    subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _PAUSE, str(seconds)] + [str(pid) for pid in pids],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return {"t": at, "pids": pids}


def _reboot() -> Dict[str, Any]:
    """Reboot without waiting for anything to end, as a power cut would; needs root, or sudo without a password."""
    command = ["systemctl", "reboot", "--force", "--force"]
    if os.getuid() != 0:
        command = ["sudo", "-n"] + command
        asked = subprocess.run(
            ["sudo", "-n", "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if asked.returncode:
            raise ValueError("a reboot needs root, or sudo without a password")
    at = time.time()
    # A moment later, so that this answer still arrives.
    subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _LATER] + command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return {"t": at, "pids": []}
