# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The next attempt, kept ready beside the one that runs: torchrun has imported torch and waits to be told what to run.

To import torch is most of the time that torchrun takes to start. A job that may be retried pays for it in advance: the
supervisor of its next attempt is started with a spec that is not complete yet (``standby_of`` names the attempt it
stands by for), starts torchrun through ``torchrun_standby.py`` and waits. It needs nobody to end: when the other
attempt's folder is gone, or that attempt ended long ago, it removes itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import Any, Dict, List, Optional

from . import processes

# So long after the other attempt has ended nobody goes on any more: the controller is gone for good.
_TOO_LATE_S = 900.0


def environment(spec: Dict[str, Any], launch: Dict[str, Any]) -> Dict[str, str]:
    """Return what a launch of a spec adds to the environment."""
    env = dict(spec["env"])
    if spec["kind"] == "cuda":
        env["CUDA_VISIBLE_DEVICES"] = ",".join(launch["gpus"])
    return env


class Standby:
    """One node's part of an attempt that may be needed.

    Args:
        attempt_dir: its folder.
        spec: what is known of it already.
    """

    def __init__(self, attempt_dir: str, spec: Dict[str, Any]) -> None:
        self._dir = attempt_dir
        self._spec = spec
        self._runs: List["subprocess.Popen[bytes]"] = []
        self._other = os.path.join(os.path.dirname(attempt_dir), str(spec["standby_of"]))

    def start(self) -> None:
        """Start torchrun for every launch; each imports what it needs and waits."""
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torchrun_standby.py")
        for launch in self._spec["launches"]:
            with open(os.path.join(self._dir, "logs", "torchrun.log"), "ab") as log:
                run = subprocess.Popen(
                    # The last word is what people and `ps` look for.
                    [launch["command"][0], program, "torch.distributed.run"],
                    cwd=os.path.join(self._dir, "logs"),
                    env=dict(os.environ, **environment(self._spec, launch)),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    preexec_fn=processes.die_with_parent,
                )
            self._runs.append(run)

    def complete_spec(self) -> Optional[Dict[str, Any]]:
        """Return the spec once it is complete (`Attempt.go`), else None."""
        try:
            with open(os.path.join(self._dir, "spec.json"), encoding="utf-8") as file:
                spec = json.load(file)
        except (OSError, ValueError):
            return None
        return None if spec.get("standby_of") is not None else spec

    def is_needed(self) -> bool:
        """Say whether the other attempt may still fail, or has just done so."""
        if not os.path.exists(os.path.join(self._dir, "spec.json")):
            return False
        try:
            newest = os.stat(os.path.join(self._other, "events.jsonl")).st_mtime
        except OSError:
            return False
        return time.time() - newest < _TOO_LATE_S

    def go(self, number: int, spec: Dict[str, Any]) -> Optional["subprocess.Popen[bytes]"]:
        """Have the torchrun of launch `number` run it; None if it ended meanwhile, so that another is needed."""
        run, launch = self._runs[number], spec["launches"][number]
        arguments = launch["command"][3:]  # behind `python -m torch.distributed.run`
        line = json.dumps({"env": environment(spec, launch), "arguments": arguments}) + "\n"
        try:
            if run.stdin is not None:  # it always is a pipe
                run.stdin.write(line.encode())
                run.stdin.close()
        except OSError:
            run.poll()
            return None
        return run

    def end(self) -> None:
        """End the waiting processes."""
        for run in self._runs:
            run.kill()
            run.wait()

    def remove(self) -> None:
        """Leave nothing behind: it was never needed."""
        shutil.rmtree(self._dir, ignore_errors=True)
        try:
            os.rmdir(os.path.dirname(self._dir))
        except OSError:
            pass  # the job's other attempts are still there
