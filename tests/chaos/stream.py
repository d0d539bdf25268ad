# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""A stream of small jobs: as soon as one ends another is submitted."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from dataclasses import dataclass

from tests.chaos.world import TRUTH, World

RETRIES = 50
"""More than chaos will ever use up: a job that ends for want of retries has been failed by UGRO, not by chaos."""


@dataclass
class Submission:
    """A `ugro launch -d` that runs."""

    job: str
    process: subprocess.Popen[str]
    since: float
    kill_after_s: float | None = None


class Stream:
    """Keeps some jobs active.

    Args:
        world: where they run.
        active: how many jobs are submitted and have not ended, at most.
        steps: of each rank.
        seconds: per step.
    """

    def __init__(self, world: World, active: int = 3, steps: int = 40, seconds: float = 0.1) -> None:
        self.world, self.active, self.steps, self.seconds = world, active, steps, seconds
        self.accepted: set[str] = set()
        self.refused: Counter[str] = Counter()
        self._number = 0
        self._running: list[Submission] = []

    def tick(self) -> None:
        """Look after the submissions that run, and make a new one where a job has ended."""
        self._reap()
        if not self._running and sum(not job.ended for job in self.world.reader.jobs().values()) < self.active:
            self.submit()

    def submit(self, kill_after_s: float | None = None) -> str:
        """Submit a job; with `kill_after_s` its `ugro launch` gets SIGKILL, at whatever it is then."""
        self._number += 1
        job = f"c{self._number:04d}"
        chance = self.world.chance
        words = ("--gpus", chance.randint(1, 3), "--retry", RETRIES, "--script", self.world.script)
        process = self.world.ugro.start(
            "launch", "-d", "--name", job, *words, "--", self.steps, 5, self.seconds, TRUTH
        )  # fmt: skip
        if kill_after_s is not None:
            self.world.notes.cut_short.add(job)
        self._running.append(Submission(job, process, time.monotonic(), kill_after_s))
        return job

    def finish(self, patience_s: float = 60.0) -> list[str]:
        """Wait for the submissions that run; return what one that does not end has to say."""
        deadline = time.monotonic() + patience_s
        while self._running and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.05)
        for submission in self._running:
            submission.process.kill()
        return [f"`ugro launch -d` of {submission.job} did not return" for submission in self._running]

    def _reap(self) -> None:
        for submission in list(self._running):
            process, age = submission.process, time.monotonic() - submission.since
            if submission.kill_after_s is not None and age >= submission.kill_after_s:
                process.kill()
            if process.poll() is None:
                continue
            self._running.remove(submission)
            _, told = process.communicate()
            if process.returncode == 0:
                self.accepted.add(submission.job)
                self.world.notes.cut_short.discard(submission.job)
            elif process.returncode > 0:
                last = told.strip().splitlines()[-1] if told.strip() else f"exit code {process.returncode}"
                self.refused[last.replace(submission.job, "JOB")[:160]] += 1
