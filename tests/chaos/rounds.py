# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Rounds of chaos on a stream of jobs, and what came of them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos import blows
from tests.chaos.invariants import Checks, Violation
from tests.chaos.stream import Stream
from tests.chaos.world import World
from tests.integration.support import Ugro
from tests.lab import Lab

KINDS = ("lost", "double", "leaked", "orphan", "lines", "database")


class Chaos:
    """Strikes blows at random and looks after each whether everything still holds.

    Args:
        lab: the hosts it may break.
        ugro: `ugro` on them.
        seed: of the choices; what they hit depends on the moment too.
        agent: with `ugro agent`, else with a controller per job.
        pace_s: seconds between two blows, on average.
    """

    def __init__(self, lab: Lab, ugro: Ugro, seed: int, agent: bool, pace_s: float = 2.0) -> None:
        self.seed, self.pace_s = seed, pace_s
        self.world = World(lab, ugro, random.Random(seed), agent)
        self.stream = Stream(self.world)
        self.checks = Checks(self.world, self.stream)
        self.violations: list[tuple[int, Violation]] = []
        self.begun = time.monotonic()

    def run(self, rounds: int) -> dict[str, Any]:
        """Strike so many blows, let everything come to rest, and return the summary."""
        try:
            self._work(5.0)
            for number in range(1, rounds + 1):
                _, told = blows.strike(self.world, self.stream)
                print(f"[{time.monotonic() - self.begun:7.1f} s] round {number}: {told}", flush=True)
                self._work(self.world.chance.uniform(0.5, 1.5) * self.pace_s)
                self._note(number, self.checks.now())
            self._rest(rounds)
        finally:
            self.world.close()
        return self.summary(rounds)

    def summary(self, rounds: int) -> dict[str, Any]:
        """Return what happened, in figures."""
        jobs = self.world.reader.jobs()
        ranks = self.world.reader.ranks()
        attempts = {(rank.job, rank.attempt) for rank in ranks}
        found = Counter(violation.kind for _, violation in self.violations)
        return {
            "rounds": rounds,
            "seed": self.seed,
            "agent": self.world.agent is not None,
            "seconds": round(time.monotonic() - self.begun, 1),
            "blows": dict(sorted(self.world.notes.done.items())),
            "jobs": len(jobs),
            "ended": dict(Counter(job.status for job in jobs.values())),
            "recoveries": len(attempts) - len({job for job, _ in attempts}),
            "metric_lines": sum(len(self.checks.central_lines(name)) for name in jobs),
            "refused": dict(self.stream.refused),
            "events": self.world.reader.events(),
            "violations": {kind: found[kind] for kind in KINDS},
        }

    def _work(self, seconds: float) -> None:
        """Let the stream flow for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.world.tick()
            self.stream.tick()
            if self.world.agent is None:
                self._reconcile()
            time.sleep(0.05)

    def _reconcile(self) -> None:
        """Without an agent a job that lost its controller gets a new one when somebody looks."""
        now = time.monotonic()
        if now - getattr(self, "_looked", 0.0) > 3.0:
            self._looked = now
            self.world.ugro.start("ps", "--json")

    def _rest(self, rounds: int, patience_s: float = 180.0) -> None:
        """Mend everything, wait for every job's end, run one more on all GPUs, collect, and check to the letter."""
        self.world.mend()
        late = self.stream.finish()
        self._note(rounds, [Violation("lost", text) for text in late])
        deadline = time.monotonic() + patience_s
        while not all(job.ended for job in self.world.reader.jobs().values()) and time.monotonic() < deadline:
            self.stream.active = 0
            self._work(0.5)
        self._note(rounds, self.checks.now())
        ugro = self.world.ugro
        all_gpus = len(self.world.lab.hosts) * SLOTS
        words = ("--gpus", all_gpus, "--script", self.world.script, "--", 3, 5, 0.1, "/var/tmp/chaos")
        ugro.run("launch", "--name", "after", *words, timeout_s=120)
        program = [sys.executable, Path(__file__).with_name("collect_left.py")]
        done = subprocess.run(
            program, env=ugro.env, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
        )  # fmt: skip
        print(done.stdout + done.stderr, end="", flush=True)
        self._note(rounds, self.checks.at_the_end())

    def _note(self, number: int, found: list[Violation]) -> None:
        for violation in found:
            print(f"VIOLATION (seed {self.seed}, round {number}): {violation.kind}: {violation.text}", flush=True)
            self.violations.append((number, violation))


SLOTS = 2
"""CPU slots of each host."""
