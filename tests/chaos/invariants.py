# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What must hold while chaos reigns, and what must hold once it is over.

Of metrics lines it is demanded, for every attempt and rank:

- What the central store has is line 1 to line k of what the rank wrote: in order, none twice, none left out.
- k is all of them. Two things excuse the end of it: the rank's supervisor was killed, or its host was switched off.
  Nobody was there to take what the rank wrote last; all it had written a second (`SLACK_S`) before must be there.

While a host is away its lines may be on it still: completeness is demanded at the end, after `collect`.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass

from tests.chaos.database import Rank
from tests.chaos.stream import Stream
from tests.chaos.world import LiveRank, World

SLACK_S = 1.0
# What a job whose `ugro launch` was killed may end as: it was never said to be accepted.
NEWBORN_S = 20.0


@dataclass(frozen=True)
class Violation:
    """Something that must not be. `kind` is lost, double, leaked, orphan, lines or database."""

    kind: str
    text: str


class Checks:
    """Looks at a world and says what is wrong in it."""

    def __init__(self, world: World, stream: Stream) -> None:
        self.world, self.stream = world, stream
        self._told: set[Violation] = set()
        self._seen_ended: set[str] = set()

    def now(self) -> list[Violation]:
        """Return what is wrong that was not told before, in the middle of it all."""
        found = [Violation("double", text) for text in self.world.reader.allocated_twice()]
        found += self._two_on_one_gpu()
        jobs = self.world.reader.jobs()
        found += [
            Violation("lost", f"{name} was accepted and is not there") for name in self.stream.accepted - jobs.keys()
        ]
        for name, job in jobs.items():
            if job.status == "pending" and not job.reason and job.age_s > NEWBORN_S and name in self.stream.accepted:
                found.append(Violation("lost", f"{name} waits and nobody says for what"))
            if job.ended and name not in self._seen_ended:
                self._seen_ended.add(name)
                found += self._ended_well(name)
        found += self._lines(complete=False)
        return self._new(found)

    def at_the_end(self, patience_s: float = 30.0) -> list[Violation]:
        """Return what is wrong now that nothing was broken for a while, every job has ended and was collected."""
        reader = self.world.reader
        found = [
            Violation("lost", f"{name} is {job.status} {job.reason}".strip())
            for name, job in reader.jobs().items()
            if not job.ended
        ]
        found += [Violation("leaked", f"{gpu} belongs to {job}") for gpu, job in reader.allocated()]
        found += [Violation("database", reader.broken())] if reader.broken() else []
        deadline = time.monotonic() + patience_s
        while (orphans := self._orphans()) and time.monotonic() < deadline:
            time.sleep(0.5)
        found += [Violation("orphan", text) for text in orphans]
        found += self._lines(complete=True)
        return self._new(found)

    def _new(self, found: list[Violation]) -> list[Violation]:
        fresh = [violation for violation in dict.fromkeys(found) if violation not in self._told]
        self._told.update(fresh)
        return fresh

    # -- jobs -------------------------------------------------------------------------------------------------

    def _ended_well(self, name: str) -> list[Violation]:
        job, notes = self.world.reader.jobs()[name], self.world.notes
        if job.status == "completed":
            short = self._short_of_steps(name)
            return [Violation("lines", f"{name} has completed without the last step of ranks {short}")] if short else []
        if job.status == "stopped":
            fine = name in notes.stopped
        else:
            fine = name in notes.cut_short or name not in self.stream.accepted or name in notes.stopped
        return [] if fine else [Violation("lost", f"{name} has {job.status}: {job.reason}")]

    def _short_of_steps(self, name: str) -> list[int]:
        """Return the ranks of the last attempt that never came to the last step."""
        attempt = max((rank.attempt for rank in self._ranks(name)), default=0)
        lines = self.central_lines(name)
        steps = {line["rank"]: line["step"] for line in lines if line["attempt"] == attempt}
        if not steps and any(line["step"] == self.stream.steps for line in lines):
            return []  # it went on from a checkpoint of the last step, and had nothing left to do
        last = [rank.rank for rank in self._ranks(name) if rank.attempt == attempt]
        return [rank for rank in last if steps.get(rank) != self.stream.steps]

    def _ranks(self, name: str) -> list[Rank]:
        return [rank for rank in self.world.reader.ranks() if rank.job == name]

    # -- GPUs and processes -----------------------------------------------------------------------------------

    def _two_on_one_gpu(self) -> list[Violation]:
        """Look at the hosts themselves: two gangs' ranks that live on one GPU, and still do a moment later."""
        if not (suspects := self._sharing()):
            return []
        time.sleep(0.5)  # a process that got SIGKILL needs a moment to be gone
        still = self._sharing()
        return [Violation("double", f"{gpu}: {text}") for gpu, text in still.items() if suspects.get(gpu) == text]

    def _sharing(self) -> dict[str, str]:
        gpu_of = {(rank.job, rank.attempt, rank.rank): rank.gpu for rank in self.world.reader.ranks()}
        users: dict[str, set[LiveRank]] = defaultdict(set)
        away = {host.name for host in self.world.lab.hosts} - {host.name for host in self.world.reachable()}
        for live in self.world.live_ranks():
            # What runs on a host that is cut off is ended before anything else is started there.
            if live.host not in away:
                users[gpu_of.get((live.job, live.attempt, live.rank), f"unknown on {live.host}")].add(live)
        return {
            gpu: ", ".join(sorted(f"{live.job}/{live.attempt} rank {live.rank} pid {live.pid}" for live in lives))
            for gpu, lives in users.items()
            if len({(live.job, live.attempt) for live in lives}) > 1
        }

    def _orphans(self) -> list[str]:
        return [
            f"{host.name}: process {pid}" for host in self.world.on() for pid in host.processes("UGRO_TOKEN=")
        ]  # fmt: skip

    # -- metrics lines ----------------------------------------------------------------------------------------

    def central_lines(self, job: str) -> list[dict]:
        """Return a job's whole lines of metrics in the central store."""
        path = self.world.ugro.folder(job) / "metrics.jsonl"
        raw = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in raw.split(b"\n")[:-1]]

    def _lines(self, complete: bool) -> list[Violation]:
        found: list[Violation] = []
        nodes = {(rank.job, rank.attempt, rank.rank): rank.node for rank in self.world.reader.ranks()}
        jobs = sorted({job for job, _, _ in nodes if complete or job not in self._seen_ended})
        central: dict[tuple[str, int, int], list[int]] = defaultdict(list)
        for job in jobs:
            for line in self.central_lines(job):
                central[job, line["attempt"], line["rank"]].append(line["line"])
        for (job, attempt, rank), numbers in central.items():
            if numbers != list(range(1, len(numbers) + 1)):
                odd = next(n for n, number in enumerate(numbers) if number != n + 1)
                text = f"{job}/{attempt} rank {rank} from line {odd + 1}: {numbers[odd : odd + 5]}"
                found.append(Violation("lines", text))
        if not complete:
            return found
        for key, written in self.world.truth().items():
            node = nodes.get(key)
            if node is None:
                found.append(Violation("orphan", f"rank {key} wrote, and no such rank was to run"))
                continue
            here, wanted = len(central[key]), self._wanted(key, node, written)
            # The rank may have been killed between a line and its note of it.
            if not wanted <= here <= len(written) + 1:
                text = f"{key} on {node} wrote {len(written)} lines, {wanted} must be here, {here} are"
                found.append(Violation("lines", text))
        return found

    def _wanted(self, key: tuple[str, int, int], node: str, written: list[tuple[int, int, float]]) -> int:
        """Return how many lines of a rank must be in the central store."""
        job, attempt, _ = key
        begin = written[0][2] - 5.0 if written else 0.0  # a plug takes a moment to be pulled
        end = written[-1][2] + 60.0 if written else 0.0
        moments = [at for at in self.world.notes.powered_off.get(node, ()) if begin <= at <= end]
        moments += [at for at in (self.world.notes.headless.get((job, attempt, node)),) if at]
        if not moments:
            return len(written)
        return sum(at < min(moments) - SLACK_S for _, _, at in written)
