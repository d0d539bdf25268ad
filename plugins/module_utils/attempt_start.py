# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""How an attempt comes to life on its node: its folder, its spec, its supervisor. A part of `attempt.Attempt`."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time

from . import attempt_lock, processes, units

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

# So long another attempt's supervisor may take to be gone once it has been stopped.
_GONE_S = 10.0
_FOLDERS = ("logs", "metrics", "pids", "checkpoints", "tensorboard")


def filled(command: List[str], words: Dict[str, str]) -> List[str]:
    """Return a rank's command with ``{python}``, ``{attempt}`` and ``{rank_exec}`` replaced, each a whole word.

    Only up to the interpreter (or program) behind ``{rank_exec} {attempt}``: what follows is the user's, word for word.
    """
    end = command.index("{rank_exec}") + 3 if "{rank_exec}" in command else len(command)
    return [words.get(word, word) for word in command[:end]] + list(command[end:])


def lives(me: Dict[str, Any]) -> bool:
    """Say whether the supervisor that wrote `me` into its supervisor.json still runs."""
    return bool(me) and me["boot_id"] == processes.boot_id() and processes.is_alive(me["pid"], me["start_ticks"])


def gone(me: Dict[str, Any], timeout_s: float) -> bool:
    """Wait until a supervisor has ended: it says how its attempt ended a moment before. False: it has not, in time."""
    end = time.monotonic() + timeout_s
    while lives(me):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


class Starting:
    """What `Attempt` does to start; the rest of it is in attempt.py."""

    job: str
    number: int
    utils: str
    dir: str
    unit: str

    if TYPE_CHECKING:

        def path(self, *names: str) -> str: ...
        def read(self, name: str) -> Dict[str, Any]: ...
        def status(self) -> Dict[str, Any]: ...
        def stop(self, reason: str, grace_s: float) -> Dict[str, Any]: ...
        def remove(self, token: Optional[str] = None) -> bool: ...

    def prepare(self, spec: Dict[str, Any], code: Optional[str]) -> None:
        """Make the folder: the spec, and the code as a copy of its own so that a script may write beside itself.

        The spec comes first: from then on a stop knows whose attempt it is and keeps it from starting.
        """
        os.makedirs(self.dir, mode=0o700, exist_ok=True)
        for name in _FOLDERS:
            os.makedirs(self.path(name), mode=0o700, exist_ok=True)
        self._write_spec(spec)
        if not os.path.isdir(self.path("code")):
            if code:
                import shutil  # late: a report needs none of it, and a node pays for each import

                shutil.copytree(code, self.path("code.new"), symlinks=True)
                os.rename(self.path("code.new"), self.path("code"))
            else:
                os.makedirs(self.path("code"))

    def _write_spec(self, spec: Dict[str, Any]) -> None:
        resolved = self._resolve(spec)
        with open(self.path("spec.json.new"), "w", encoding="utf-8") as file:
            json.dump(resolved, file, indent=1)
        os.chmod(self.path("spec.json.new"), 0o600)
        os.rename(self.path("spec.json.new"), self.path("spec.json"))

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

    def start(self, spec: Dict[str, Any], code: Optional[str] = None, timeout_s: float = 60.0) -> Dict[str, Any]:
        """Start the supervisor unless this attempt was started before. Returns :meth:`status` plus ``changed``.

        Raises:
            OSError: it cannot be started, or was stopped meanwhile; the text says what the system answered.
        """
        lock = attempt_lock.starts(os.path.dirname(self.dir), timeout_s)
        try:
            return self._start(spec, code, timeout_s)
        finally:
            os.close(lock)

    def _start(self, spec: Dict[str, Any], code: Optional[str], timeout_s: float) -> Dict[str, Any]:
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

    def go(self, spec: Dict[str, Any]) -> Dict[str, Any]:
        """Let an attempt that stands by (a spec with ``standby_of``) run `spec`. Returns :meth:`status`.

        Raises:
            OSError: it does not stand by here.
        """
        status = self.status()
        if status["state"] != "standby" or self.read("spec.json").get("token") != spec["token"]:
            raise OSError("attempt %d of job %s does not stand by here" % (self.number, self.job))
        self._write_spec(spec)
        processes.signal_all([status["pid"]], signal.SIGUSR1)
        return self.status()

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

        me = self.read("supervisor.json")
        self.stop("its folder is needed", 0.0)
        if not gone(me, _GONE_S):  # it must not say how it ended in the new folder
            raise OSError("the supervisor of another attempt %d of job %s does not end" % (self.number, self.job))
        try:
            shutil.rmtree(self.dir)
        except FileNotFoundError:
            pass  # one that stood by has removed itself

    def _tail(self, log: str) -> str:
        try:
            with open(self.path("logs", log), encoding="utf-8", errors="replace") as file:
                return " | ".join(file.read().splitlines()[-3:]) or "no output"
        except FileNotFoundError:
            return "no output"
