# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What chaos happens to: a lab, `ugro` on it, perhaps its agent, and notes of what was done to them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.database import Reader
from tests.integration.support import Ugro
from tests.lab import Host, Lab
from tests.lab import processes as proc

TRUTH = "/var/tmp/chaos"
"""Where ranks note, on their host, what they have written."""


@dataclass(frozen=True)
class LiveRank:
    """A rank that runs: `pid` is one of this machine."""

    host: str
    job: str
    attempt: int
    rank: int
    pid: int


@dataclass
class Notes:
    """What was done, as far as it excuses anything. Times are seconds since 1970."""

    stopped: set[str] = field(default_factory=set)
    """Jobs that were told to stop."""
    cut_short: set[str] = field(default_factory=set)
    """Jobs whose `ugro launch` was killed before it said that the job is accepted."""
    headless: dict[tuple[str, int, str], float] = field(default_factory=dict)
    """(job, attempt, host) -> when its supervisor was killed."""
    powered_off: dict[str, list[float]] = field(default_factory=dict)
    """Host -> when it was switched off."""
    done: Counter[str] = field(default_factory=Counter)


class World:
    """A lab with a central store, in which things can be broken and mended.

    Args:
        lab: its hosts.
        ugro: `ugro` on it.
        chance: decides everything that is left to chance.
        agent: whether `ugro agent` runs; without it every job has a controller of its own.
    """

    def __init__(self, lab: Lab, ugro: Ugro, chance: random.Random, agent: bool) -> None:
        self.lab, self.ugro, self.chance = lab, ugro, chance
        self.reader = Reader(ugro.data / "ugro.db")
        self.notes = Notes()
        self.script = ugro.data.parent / "script" / "rank.py"
        self.script.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).with_name("rank.py"), self.script)
        self.agent = Keeper(ugro) if agent else None
        self._pool = ThreadPoolExecutor(3)
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._away: dict[str, str] = {}  # host -> what it is: off, booting or unplugged

    def close(self) -> None:
        """Mend everything and end what was started."""
        self.mend()
        self._pool.shutdown()
        if self.agent:
            self.agent.close()

    # -- time -------------------------------------------------------------------------------------------------

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Have something done by `tick` once the time has come."""
        self._later.append((time.monotonic() + seconds, action))

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        due = [action for at, action in self._later if at <= now]
        self._later = [(at, action) for at, action in self._later if at > now]
        for action in due:
            action()

    def mend(self) -> None:
        """Have every host on, plugged, and answering."""
        for _, action in sorted(self._later, key=lambda pair: pair[0]):
            action()
        self._later.clear()
        while any(self._away.values()):
            time.sleep(0.1)

    # -- hosts ------------------------------------------------------------------------------------------------

    def reachable(self) -> list[Host]:
        """Return the hosts that are on and plugged."""
        return [host for host in self.lab.hosts if not self._away.get(host.name)]

    def on(self) -> list[Host]:
        """Return the hosts whose processes run."""
        return [host for host in self.lab.hosts if self._away.get(host.name, "") in ("", "unplugged")]

    def switch_off(self, host: Host, seconds: float) -> None:
        """Pull the plug of a host for some time."""
        self.notes.powered_off.setdefault(host.name, []).append(time.time())
        self._away[host.name] = "off"
        host.power_off()

        def on() -> None:
            self._away[host.name] = "booting"
            self._pool.submit(self._boot, host)

        self.later(seconds, on)

    def _boot(self, host: Host) -> None:
        host.boot()
        self._away[host.name] = ""

    def cut(self, host: Host, seconds: float) -> None:
        """Pull the cable of a host for some time."""
        self._away[host.name] = "unplugged"
        host.unplug()

        def plug() -> None:
            host.plug()
            self._away[host.name] = ""

        self.later(seconds, plug)

    # -- processes --------------------------------------------------------------------------------------------

    def live_ranks(self) -> list[LiveRank]:
        """Return the ranks that run on hosts that are on."""
        return [rank for host in self.on() for rank in _ranks_on(host)]

    def supervisor(self, job: str, attempt: int, host: Host) -> int:
        """Return the pid, in the host, of an attempt's supervisor; 0 where there is none."""
        path = host.path(f"{host.home}/.ugro/{host.name}/jobs/{job}/{attempt}/supervisor.json")
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads(path.read_text())["pid"])
        return 0

    def is_ours(self, pid: int) -> bool:
        """Say whether a process of this machine is one of `ugro` with this central store."""
        variables = proc.read(Path(f"/proc/{pid}/environ")).split(b"\0")
        return f"UGRO_DATA={self.ugro.data}".encode() in variables

    def truth(self) -> dict[tuple[str, int, int], list[tuple[int, int, float]]]:
        """Return (job, attempt, rank) -> what it noted on its host: (line, step, time), of hosts that are on."""
        found = {}
        for host in self.on():
            folder = host.path(TRUTH)
            for path in folder.glob("*:*:*") if folder.is_dir() else ():
                job, attempt, rank = path.name.split(":")
                lines = [line.split() for line in path.read_text().splitlines()]
                whole = [(int(line[0]), int(line[1]), float(line[2])) for line in lines if len(line) == 3]
                found[job, int(attempt), int(rank)] = whole
        return found


def _ranks_on(host: Host) -> Iterator[LiveRank]:
    for pid in host.processes("UGRO_TOKEN="):
        words = proc.read(Path(f"/proc/{pid}/cmdline")).split(b"\0")
        pairs = (item.split(b"=", 1) for item in proc.read(Path(f"/proc/{pid}/environ")).split(b"\0") if b"=" in item)
        variables = {key.decode(): value.decode("utf-8", "replace") for key, value in pairs}
        if TRUTH.encode() in words and "RANK" in variables and b"torch.distributed.run" not in words:
            attempt, rank = int(variables["UGRO_ATTEMPT"]), int(variables["RANK"])
            yield LiveRank(host.name, variables["UGRO_JOB_ID"], attempt, rank, pid)


class Keeper:
    """Runs `ugro agent` and starts it again when it has ended, as systemd would."""

    RESTART_S = 0.5

    def __init__(self, ugro: Ugro) -> None:
        self._ugro = ugro
        self._stop = threading.Event()
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.log = ugro.data.parent / "agent.log"
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        from tests.integration.support import UGRO

        while not self._stop.is_set():
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [str(UGRO), "-i", str(self._ugro.inventory), "agent"],
                    env=self._ugro.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self.starts += 1
            while self.process.poll() is None and not self._stop.wait(0.05):
                pass
            if not self._stop.is_set():
                self._stop.wait(self.RESTART_S)

    def kill(self) -> bool:
        """SIGKILL; False if there is nothing to kill right now."""
        process = self.process
        if process is None or process.poll() is not None:
            return False
        os.kill(process.pid, signal.SIGKILL)
        return True

    def close(self) -> None:
        """End the agent, which leaves its jobs running."""
        self._stop.set()
        self._thread.join()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the agent did not end within 20 s of SIGTERM") from None
