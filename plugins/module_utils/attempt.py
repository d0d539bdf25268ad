# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""One attempt's folder on a node: start it, ask how it is, stop it, remove it. Used by the session and the module.

``<node_dir>/<node>/jobs/<job>/<attempt>/``, laid out as docs/architecture.md says.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time

from . import attempt_lock, processes, secret_files, units
from .attempt_start import Starting, filled, gone, lives

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

_ALIVE = ("started", "standby")

__all__ = ["Attempt", "filled", "listed"]


def listed(folder: str) -> List[str]:
    """Return the sorted names in a folder; none where it does not exist, or is being removed by its job right now."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _number(path: str) -> Optional[int]:
    """Return the number in a file, None where it is gone."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError):
        return None


class Attempt(Starting):
    """An attempt of a job as it lies on this node.

    Args:
        node_dir: what UGRO keeps on the node, ``~/.ugro`` unless the inventory says otherwise.
        node: the node's name in the inventory; several logical nodes can share a machine.
        job: the job's name.
        number: the attempt's number.
        utils: the folder of this file as it lies on the node's disk for good, from which the supervisor and the ranks
            are started; by default where it was imported from. An Ansible module runs from an archive that is gone
            when it ends.
    """

    def __init__(self, node_dir: str, node: str, job: str, number: int, utils: Optional[str] = None) -> None:
        self.node, self.job, self.number = node, job, number
        self.utils = utils or os.path.dirname(os.path.abspath(__file__))
        self.root = os.path.join(os.path.expanduser(node_dir), node)
        self.dir = os.path.join(self.root, "jobs", job, str(number))

    @property
    def unit(self) -> str:
        return units.unit_name(self.job, self.number, self.node)

    def path(self, *names: str) -> str:
        return os.path.join(self.dir, *names)

    def read(self, name: str) -> Dict[str, Any]:
        """Return what is in one of its JSON files, {} where there is none."""
        try:
            with open(self.path(name), encoding="utf-8") as file:
                value = json.load(file)
        except (FileNotFoundError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def finished(self) -> Optional[Dict[str, Any]]:
        """Return the event ``finished``, or None."""
        try:
            with open(self.path("events.jsonl"), "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 65536))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return None
        for line in reversed(lines):
            if b'"finished"' in line:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if event.get("kind") == "finished":
                    return event
        return None

    def status(self) -> Dict[str, Any]:
        """Return how the attempt is here.

        ``state`` is ``absent`` (never started), ``standby`` (its supervisor waits until it is needed), ``started`` (its
        supervisor lives), ``stopped`` (it wrote how it ended) or ``lost`` (the supervisor ended without a word: killed,
        or the machine rebooted).
        """
        me = self.read("supervisor.json")
        status: Dict[str, Any] = {
            "unit": self.unit,
            "dir": self.dir,
            "pid": me.get("pid"),
            "pids": {},
            "log_paths": [],
        }
        if not me:
            return dict(status, state="absent")
        for name in listed(self.path("pids")):
            pid = _number(self.path("pids", name))
            if name.isdigit() and pid is not None:
                status["pids"][name] = pid
        status["log_paths"] = [self.path("logs", name) for name in listed(self.path("logs"))]
        done = self.finished()
        if done:
            return dict(status, state="stopped", exit_code=done["exit_code"], left_over=done["left_over"])
        alive = lives(me)
        if alive and self.read("spec.json").get("standby_of") is not None:
            return dict(status, state="standby")
        return dict(status, state="started" if alive else "lost")

    def stop(self, reason: str, grace_s: float, timeout_s: float = 10.0, token: Optional[str] = None) -> Dict[str, Any]:
        """Stop the attempt and return :meth:`status` plus ``changed`` and ``left`` (living processes; 0 is the rule).

        SIGTERM to the ranks, SIGKILL after `grace_s`; `timeout_s` more and the unit is killed from outside. A start
        under way is stopped too: its supervisor does not come up, or is stopped once it is up. With a `token` that is
        not this attempt's, it is one of the same name of another UGRO, and is left alone.
        """
        status = self.status()
        own = self.read("spec.json").get("token")
        if token is not None and own is not None and token != own:
            return dict(status, changed=False, left=0)
        if own is None and token is not None and status["state"] == "absent":
            # A start of it may still be on its way: it finds the attempt taken.
            os.makedirs(self.dir, mode=0o700, exist_ok=True)
            attempt_lock.fence(self.dir)
        end = time.monotonic() + grace_s + timeout_s
        fenced = own is not None and status["state"] == "absent" and attempt_lock.fence(self.dir)
        while own is not None and status["state"] == "absent" and not attempt_lock.is_fenced(self.dir):
            if time.monotonic() > end:
                break
            time.sleep(0.005)  # the supervisor has just taken the attempt
            status = self.status()
        me = self.read("supervisor.json")
        changed = status["state"] in _ALIVE
        if changed:
            with open(self.path("stop.json.new"), "w", encoding="utf-8") as file:
                json.dump({"reason": reason, "grace_s": grace_s}, file)
            os.rename(self.path("stop.json.new"), self.path("stop.json"))
            processes.signal_all([status["pid"]], signal.SIGTERM)
            while self.status()["state"] in _ALIVE and time.monotonic() < end:
                time.sleep(0.02)
        gone(me, end - time.monotonic())
        left = 0
        if own:
            secret_files.remove(own)
        if own and self.status()["state"] != "stopped":
            # The supervisor cannot do it any more: take what it left.
            units.kill(self.unit)
            killed, left = processes.sweep(own)
            changed = changed or killed > 0
        return dict(self.status(), changed=changed or fenced, left=left)

    def remove(self, token: Optional[str] = None) -> bool:
        """Remove the attempt's folder, and the job's with the last one. Returns whether it was there.

        With a `token` that is not this attempt's, it is one of the same name of another UGRO, and stays.
        """
        own = self.read("spec.json").get("token")
        if token is not None and own is not None and token != own:
            return False
        import shutil

        there = os.path.isdir(self.dir)
        while os.path.isdir(self.dir):
            try:
                if os.path.exists(self.path("spec.json")):
                    os.unlink(self.path("spec.json"))  # first: without it no start under way goes on
                shutil.rmtree(self.dir)
            except OSError as error:
                # A supervisor at its end takes a file of its own away meanwhile, a start under way puts code there.
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                    raise
        try:
            os.rmdir(os.path.dirname(self.dir))
        except OSError:
            pass  # another attempt's results are still there
        return there
