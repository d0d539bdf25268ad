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
import sys
import time

from . import attempt_lock, processes, secret_files, units

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

_FOLDERS = ("logs", "metrics", "pids", "checkpoints", "tensorboard")


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


def filled(command: List[str], words: Dict[str, str]) -> List[str]:
    """Return a rank's command with ``{python}``, ``{attempt}`` and ``{rank_exec}`` replaced, each a whole word.

    Only up to the interpreter (or program) behind ``{rank_exec} {attempt}``: what follows is the user's, word for word.
    """
    end = command.index("{rank_exec}") + 3 if "{rank_exec}" in command else len(command)
    return [words.get(word, word) for word in command[:end]] + list(command[end:])


class Attempt:
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

    def prepare(self, spec: Dict[str, Any], code: Optional[str]) -> None:
        """Make the folder: the spec, and the code as a copy of its own so that a script may write beside itself.

        The spec comes first: from then on a stop knows whose attempt it is and keeps it from starting.
        """
        os.makedirs(self.dir, mode=0o700, exist_ok=True)
        for name in _FOLDERS:
            os.makedirs(self.path(name), mode=0o700, exist_ok=True)
        resolved = self._resolve(spec)
        with open(self.path("spec.json.new"), "w", encoding="utf-8") as file:
            json.dump(resolved, file, indent=1)
        os.chmod(self.path("spec.json.new"), 0o600)
        os.rename(self.path("spec.json.new"), self.path("spec.json"))
        if not os.path.isdir(self.path("code")):
            if code:
                import shutil  # late: a report needs none of it, and a node pays for each import

                shutil.copytree(code, self.path("code.new"), symlinks=True)
                os.rename(self.path("code.new"), self.path("code"))
            else:
                os.makedirs(self.path("code"))

    def _resolve(self, spec: Dict[str, Any]) -> Dict[str, Any]:
        """Return the spec with this machine's paths."""
        words = {
            "{python}": os.path.expanduser(spec["python"]),
            "{attempt}": self.dir,
            "{rank_exec}": os.path.join(self.utils, "rank_exec.py"),
        }
        spec = dict(spec)
        spec["launches"] = [dict(launch, command=filled(launch["command"], words)) for launch in spec["launches"]]
        spec["env"] = dict(
            spec["env"], UGRO_CHECKPOINT_DIR=self.path("checkpoints"), UGRO_TENSORBOARD_DIR=self.path("tensorboard")
        )
        return spec

    def start(self, spec: Dict[str, Any], code: Optional[str] = None, timeout_s: float = 10.0) -> Dict[str, Any]:
        """Start the supervisor unless this attempt was started before. Returns :meth:`status` plus ``changed``.

        Raises:
            OSError: it cannot be started, or was stopped meanwhile; the text says what the system answered.
        """
        before = self.status()
        token = self.read("spec.json").get("token")
        if token == spec["token"] and before["state"] != "absent":
            return dict(before, changed=False)
        if token != spec["token"] and (token is not None or before["state"] != "absent"):
            self._clear_other(before["state"])
        try:
            self.prepare(spec, code)
        except OSError as error:
            if error.errno in (None, errno.ENOENT):  # None: a copy of a tree tells all its errors as one
                self._check_not_fenced()  # the folder was removed meanwhile
            raise
        self._check_not_fenced()
        # The package root of the node code: the supervisor finds its siblings from there.
        package = __name__.rpartition(".")[0] or "module_utils"
        root = self.utils
        for _part in package.split("."):
            root = os.path.dirname(root)
        program = [
            sys.executable,
            "-I",  # else a json.py in the current folder, or in PYTHONPATH, would be taken for the standard library's
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); from %s.supervisor import main; sys.exit(main(sys.argv[2]))"
            % package,
            root,
            self.dir,
        ]
        manager = units.start(self.unit, program, self.path("logs", "supervisor.log"))
        end = time.monotonic() + timeout_s
        while not os.path.exists(self.path("supervisor.json")):
            self._check_not_fenced()
            if time.monotonic() > end:
                raise OSError("the supervisor did not start in %g s: %s" % (timeout_s, self._tail("supervisor.log")))
            time.sleep(0.005)
        return dict(self.status(), changed=True, manager=manager)

    def _check_not_fenced(self) -> None:
        """Raise OSError if the attempt was stopped, or removed, before its supervisor was up."""
        there = os.path.exists(self.path("spec.json"))
        if not there:
            self.remove()  # what the start under way has put there since
        if not there or attempt_lock.is_fenced(self.dir):
            raise OSError("attempt %d of job %s was stopped before it had started" % (self.number, self.job))

    def _clear_other(self, state: str) -> None:
        """Remove what a job of the same name left here that another UGRO, or an earlier database, knew.

        Raises:
            OSError: it still runs.
        """
        if state == "started":
            raise OSError("another job named %s, unknown to this controller's database, runs here" % self.job)
        import shutil

        self.stop("its folder is needed", 0.0)
        shutil.rmtree(self.dir)

    def _tail(self, log: str) -> str:
        try:
            with open(self.path("logs", log), encoding="utf-8", errors="replace") as file:
                return " | ".join(file.read().splitlines()[-3:]) or "no output"
        except FileNotFoundError:
            return "no output"

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

        ``state`` is ``absent`` (never started), ``started`` (its supervisor lives), ``stopped`` (it wrote how it
        ended) or ``lost`` (the supervisor ended without a word: killed, or the machine rebooted).
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
        alive = me["boot_id"] == processes.boot_id() and processes.is_alive(me["pid"], me["start_ticks"])
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
        end = time.monotonic() + grace_s + timeout_s
        fenced = own is not None and status["state"] == "absent" and attempt_lock.fence(self.dir)
        while own is not None and status["state"] == "absent" and not attempt_lock.is_fenced(self.dir):
            if time.monotonic() > end:
                break
            time.sleep(0.005)  # the supervisor has just taken the attempt
            status = self.status()
        changed = status["state"] == "started"
        if changed:
            with open(self.path("stop.json.new"), "w", encoding="utf-8") as file:
                json.dump({"reason": reason, "grace_s": grace_s}, file)
            os.rename(self.path("stop.json.new"), self.path("stop.json"))
            processes.signal_all([status["pid"]], signal.SIGTERM)
            while self.status()["state"] == "started" and time.monotonic() < end:
                time.sleep(0.02)
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
