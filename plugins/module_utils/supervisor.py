# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Run one node's part of a job: start torchrun, watch every rank, keep the facts in ``events.jsonl``.

``python supervisor.py ATTEMPT_DIR`` reads ``ATTEMPT_DIR/spec.json`` (docs/architecture.md). It needs nobody: when the
controller or the network is gone it goes on, and whoever comes back reads the events from the offset it had reached.
SIGTERM stops the job's part here: SIGTERM to the ranks, SIGKILL to whatever is left after the grace period.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

from . import attempt_lock, processes, secret_files
from .event_log import EventLog
from .frozen import FrozenWatch
from .isolation import ISOLATED_S, IsolationWatch
from .rank_watch import RankWatch
from .samples import SystemSampler
from .standby import Standby, environment

TICK_S = 0.05
# While all ranks run, for what they wrote: their end, torchrun's and a signal wake the supervisor by themselves.
QUIET_TICK_S = 0.25
# What the ranks of this node still get when one of them failed: the others can only hang, so hardly anything.
FAILURE_GRACE_S = 0.3


class Supervisor:
    """The state of one node's part of one attempt."""

    def __init__(self, attempt_dir: str) -> None:
        self.dir = attempt_dir
        with open(os.path.join(attempt_dir, "spec.json"), encoding="utf-8") as file:
            self.spec: Dict[str, Any] = json.load(file)
        self.events = EventLog(os.path.join(attempt_dir, "events.jsonl"))
        gpus = [gpu for launch in self.spec["launches"] for gpu in launch["gpus"]]
        self.sampler = SystemSampler(gpus, self.spec.get("python"))
        self.ranks = [
            RankWatch(attempt_dir, rank, gpu, self.sampler)
            for launch in self.spec["launches"]
            for rank, gpu in zip(launch["ranks"], launch["gpus"])
        ]
        self.torchruns: List["subprocess.Popen[bytes]"] = []
        self.frozen = FrozenWatch(attempt_dir, self.spec.get("python", ""))
        self.standby: Optional[Standby] = None
        self.stop_reason: Optional[str] = None
        self._signal = 0
        self.kill_at: Optional[float] = None
        self.poller = select.poll()
        self._watched: set = set()
        self._woken, self._wake = os.pipe()
        self._seen_checkpoints: set = set()
        self.isolation = IsolationWatch(self.spec.get("peers", []))

    def run(self) -> int:
        """Run to the end. Returns the exit code: 0, the first failing rank's, or torchrun's own."""
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self.poller.register(self._woken, select.POLLIN)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake up
        signal.signal(signal.SIGUSR1, lambda *_: None)  # `Attempt.go`: the spec is complete
        processes.become_subreaper()
        if self.spec.get("standby_of") is not None:
            self.standby = Standby(self.dir, self.spec)
            self.standby.start()
        self._identify()
        if self.standby is not None and not self._stand_by(self.standby):
            return 0
        for number, launch in enumerate(self.spec["launches"]):
            self._start_torchrun(number, launch)
        self.isolation.start()
        while any(run.poll() is None for run in self.torchruns):
            self._tick()
        return self._finish()

    def _identify(self) -> None:
        """Leave what names this process for good, and the first event."""
        me = {
            "pid": os.getpid(),
            "start_ticks": processes.start_ticks(os.getpid()),
            "boot_id": processes.boot_id(),
            "attempt": self.spec["attempt"],
            "token": self.spec["token"],
        }
        self.events.write("supervisor_started", **me)
        path = os.path.join(self.dir, "supervisor.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(me, file)
        os.rename(path + ".new", path)

    def _stand_by(self, standby: Standby) -> bool:
        """Wait until the spec is complete; False where this attempt is not needed any more, or is told to stop."""
        while not self._signal:
            needed = standby.is_needed()
            # Read after that look: the other attempt's folder goes as soon as this one was told to run.
            spec = standby.complete_spec()
            if spec is not None:
                self.spec = spec
                self.isolation = IsolationWatch(spec.get("peers", []))
                return True
            if not needed:
                break
            if self.poller.poll(1000):
                os.read(self._woken, 512)
        standby.end()
        if self._signal:
            self._take_stop()
            self._finish()
        else:
            standby.remove()
        return False

    def _start_torchrun(self, number: int, launch: Dict[str, Any]) -> None:
        command = list(launch["command"])
        run = self.standby.go(number, self.spec) if self.standby is not None else None
        if run is None:
            with open(os.path.join(self.dir, "logs", "torchrun.log"), "ab") as log:
                run = subprocess.Popen(
                    command,
                    # Not the code: `-m` imports from here first, and a secrets.py of the user's is not for torchrun.
                    cwd=os.path.join(self.dir, "logs"),
                    env=dict(os.environ, **environment(self.spec, launch)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=processes.die_with_parent,
                )
        self.torchruns.append(run)
        self.events.write("torchrun_started", pid=run.pid, ranks=launch["ranks"], command=command)

    def _on_stop(self, number: int, _frame: Any) -> None:
        """Note that a stop is asked for; the next tick acts on it, so that no event is written amid another."""
        self._signal = number

    def _take_stop(self) -> None:
        number, self._signal = self._signal, 0
        reason, grace = "signal %d" % number, float(self.spec["stop_grace_s"])
        try:
            with open(os.path.join(self.dir, "stop.json"), encoding="utf-8") as file:
                asked = json.load(file)
            reason, grace = asked["reason"], float(asked["grace_s"])
        except (OSError, ValueError, KeyError):
            pass  # a plain signal, from systemd or a person
        self._stop(reason, grace)

    def _stop(self, reason: str, grace_s: float) -> None:
        """Begin to stop: SIGTERM to the ranks now, SIGKILL to everything after the grace period."""
        deadline = time.monotonic() + grace_s
        if self.stop_reason is None:
            self.stop_reason = reason
            self.events.write("stopping", reason=reason, grace_s=grace_s)
            processes.signal_all([rank.pid for rank in self.ranks if rank.pid and not rank.ended], signal.SIGTERM)
            self._kill_unstarted()
            self.kill_at = deadline
        elif self.kill_at is None or deadline < self.kill_at:
            self.kill_at = deadline  # asked again, less patiently

    def _kill_unstarted(self) -> None:
        """End each torchrun that has not started a rank yet: nothing there has anything to save."""
        for launch, run in zip(self.spec["launches"], self.torchruns):
            ranks = [rank for rank in self.ranks if rank.rank in launch["ranks"]]
            if not any(self._find(rank) for rank in ranks):
                processes.signal_all([run.pid], signal.SIGKILL)

    def _find(self, rank: RankWatch) -> bool:
        """Say whether the rank has started; one that starts while the job stops is told so at once."""
        if rank.pid is None and rank.find_pid():
            self.events.write("rank_started", rank=rank.rank, pid=rank.pid, t=rank.started_at)
            if rank.pidfd is not None:
                self.poller.register(rank.pidfd, select.POLLIN)
                self._watched.add(rank.pidfd)
            if self.stop_reason is not None:
                processes.signal_all([rank.pid], signal.SIGTERM)
        return rank.pid is not None

    def _tick(self) -> None:
        self._wait()
        if self._signal:
            self._take_stop()
        for rank in self.ranks:
            if self._find(rank) and not rank.ended and rank.check_end():
                self._rank_ended(rank)
            for line in rank.metrics():
                self.events.write("metrics", **line)
        sample = self.sampler.due()
        if sample is not None:
            self.events.write("sample", **sample)
            self._announce_checkpoints()
            self._look_for_trouble()
        if self.stop_reason is None and self.isolation.isolated():
            self._stop("no other node answered for %g s" % ISOLATED_S, FAILURE_GRACE_S)
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self._kill()

    def _look_for_trouble(self) -> None:
        """Tell of ranks that stand still and of GPUs that are gone; what follows from it is the controller's to say."""
        for uuid in self.sampler.newly_lost():
            rank = next((rank.rank for rank in self.ranks if rank.gpu == uuid), None)
            self.events.write("gpu_lost", rank=rank, uuid=uuid)
        if self.stop_reason is None:
            for event in self.frozen.look([rank for rank in self.ranks if rank.pid and not rank.ended]):
                kind = event.pop("kind")
                self.events.write(kind, **event)

    def _wait(self) -> None:
        """Sleep until a rank ends, a child ends, a signal comes, or the next tick."""
        quiet = self.kill_at is None and all(rank.ended or rank.pidfd in self._watched for rank in self.ranks)
        for fd, _event in self.poller.poll(1000 * (QUIET_TICK_S if quiet else TICK_S)):
            if fd == self._woken:
                os.read(fd, 512)
            else:
                self.poller.unregister(fd)
                self._watched.discard(fd)

    def _rank_ended(self, rank: RankWatch) -> None:
        self.events.write("rank_exited", **rank.end_report())
        if rank.exit_code and self.stop_reason is None:
            self._stop("rank %d failed" % rank.rank, FAILURE_GRACE_S)

    def _announce_checkpoints(self) -> None:
        """Tell of each checkpoint once its manifest (written last, by rename) is there."""
        folder = os.path.join(self.dir, "checkpoints")
        found = []
        for name in os.listdir(folder):
            if name.endswith(".json") and name not in self._seen_checkpoints:
                self._seen_checkpoints.add(name)
                try:
                    found.append((os.stat(os.path.join(folder, name)).st_mtime_ns, name[: -len(".json")]))
                except FileNotFoundError:
                    continue  # surplus, and removed by the training just now
        for _when, name in sorted(found):  # the newest last
            self.events.write("checkpoint", path="checkpoints/" + name)

    def _kill(self) -> None:
        processes.signal_all(
            processes.with_token(self.spec["token"]) | processes.descendants(os.getpid()), signal.SIGKILL
        )
        self.kill_at = time.monotonic() + 0.2

    def _finish(self) -> int:
        """Sweep what is left, read the last lines, and write how it ended."""
        for launch, run in zip(self.spec["launches"], self.torchruns):
            for rank in self.ranks:
                if rank.rank not in launch["ranks"] or rank.ended:
                    continue
                if (rank.pid is not None or rank.find_pid()) and rank.check_end(torchrun_gone=True):
                    if rank.exit_code is None and run.returncode == 0:
                        rank.exit_code = 0  # torchrun reaped it before it was seen, and saw every rank end well
                    self._rank_ended(rank)
        swept, left = processes.sweep(self.spec["token"], os.getpid())
        secret_files.remove(self.spec["token"])  # of ranks that never started
        for rank in self.ranks:
            for line in rank.metrics(last=True):
                self.events.write("metrics", **line)
        self._announce_checkpoints()
        codes = [run.returncode for run in self.torchruns]
        if not any(codes):
            for rank in self.ranks:
                rank.exit_code = rank.exit_code or 0  # torchrun saw every rank end well
        exit_code = next((rank.exit_code for rank in self.ranks if rank.exit_code), None)
        if exit_code is None:
            exit_code = next((code for code in codes if code), 0)
        for code in codes:
            self.events.write("torchrun_exited", exit_code=code)
        self.events.write(
            "finished",
            exit_code=exit_code,
            ranks={str(rank.rank): rank.exit_code for rank in self.ranks},
            stop_reason=self.stop_reason,
            swept=swept,
            left_over=left,
        )
        self.events.sync()
        self.events.free_reserve()
        return exit_code


def main(attempt_dir: str) -> int:
    """Run the supervisor of `attempt_dir` unless one already did or does, or a stop came first and took its lock."""
    if not attempt_lock.take(attempt_dir):
        return 0
    return 1 if Supervisor(attempt_dir).run() else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
