# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""All attempts that lie on this node, and which of them live."""

from __future__ import annotations

import os

from . import processes
from .attempt import Attempt, listed

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Tuple


def all_attempts(node_dir: str, node: str) -> Iterator[Tuple[str, int]]:
    """Yield (job, attempt) of every attempt that lies on this node."""
    jobs = os.path.join(os.path.expanduser(node_dir), node, "jobs")
    for job in listed(jobs):
        for number in listed(os.path.join(jobs, job)):
            if number.isdigit():
                yield job, int(number)


def living(node_dir: str, node: str) -> Iterator[Dict[str, Any]]:
    """Yield ``{"job", "attempt", "token"}`` of every attempt that has a process on this node.

    One whose supervisor was killed counts as long as something of it lives; after a reboot nothing does.
    """
    for job, number in all_attempts(node_dir, node):
        attempt = Attempt(node_dir, node, job, number)
        state = attempt.status()["state"]
        if state not in ("started", "lost"):
            continue
        me = attempt.read("supervisor.json")
        same_boot = me.get("boot_id") == processes.boot_id()
        if me and (state == "started" or (same_boot and processes.with_token(me["token"]))):
            yield {"job": job, "attempt": number, "token": me["token"]}
