# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""What chaos does. Each blow picks its victim by chance and says what it did; "" where there was nothing to hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.chaos.stream import Stream
from tests.chaos.world import LiveRank, World
from tests.integration.support import torchruns_on

FROZEN_FOR_GOOD = 0.3
"""How many of the frozen ranks are left so: UGRO must see it and start the gang anew."""

Blow = Callable[[World, Stream], str]


def _victim(world: World) -> LiveRank | None:
    ranks = world.live_ranks()
    return world.chance.choice(ranks) if ranks else None


def _kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def kill_rank(world: World, stream: Stream) -> str:
    victim = _victim(world)
    if victim is None or not _kill(victim.pid):
        return ""
    return f"killed rank {victim.rank} of {victim.job}/{victim.attempt} on {victim.host}"


def freeze_rank(world: World, stream: Stream) -> str:
    victim = _victim(world)
    if victim is None or not _kill(victim.pid, signal.SIGSTOP):
        return ""
    what = f"froze rank {victim.rank} of {victim.job}/{victim.attempt} on {victim.host}"
    if world.chance.random() < FROZEN_FOR_GOOD:
        return f"{what} for good"
    seconds = world.chance.uniform(0.5, 4.0)
    # Only where it is the same process still: a token in its environment and its rank say so.
    world.later(seconds, lambda: victim in world.live_ranks() and _kill(victim.pid, signal.SIGCONT))
    return f"{what} for {seconds:.1f} s"


def kill_supervisor(world: World, stream: Stream) -> str:
    victim = _victim(world)
    if victim is None:
        return ""
    host = world.lab.host(victim.host)
    pid = world.supervisor(victim.job, victim.attempt, host)
    if not pid:
        return ""
    world.notes.headless.setdefault((victim.job, victim.attempt, victim.host), time.time())
    host.enter(["kill", "-KILL", str(pid)], check=False)
    return f"killed the supervisor of {victim.job}/{victim.attempt} on {victim.host}"


def kill_torchrun(world: World, stream: Stream) -> str:
    victim = _victim(world)
    if victim is None:
        return ""
    pids = torchruns_on(world.lab.host(victim.host), world.ugro.token(victim.job, victim.attempt))
    if not pids or not _kill(pids[0]):
        return ""
    return f"killed torchrun of {victim.job}/{victim.attempt} on {victim.host}"


def power_off(world: World, stream: Stream) -> str:
    hosts = world.reachable()
    if len(hosts) < 3:
        return ""
    host, seconds = world.chance.choice(hosts), world.chance.uniform(0.5, 7.0)
    world.switch_off(host, seconds)
    return f"switched {host.name} off for {seconds:.1f} s"


def cut_cable(world: World, stream: Stream) -> str:
    hosts = world.reachable()
    if len(hosts) < 2:
        return ""
    host, seconds = world.chance.choice(hosts), world.chance.uniform(0.5, 9.0)
    world.cut(host, seconds)
    return f"cut {host.name} off for {seconds:.1f} s"


def kill_agent(world: World, stream: Stream) -> str:
    return "killed the agent" if world.agent and world.agent.kill() else ""


def kill_controller(world: World, stream: Stream) -> str:
    pids = sorted({pid for pid in world.reader.controllers().values() if world.is_ours(pid)})
    if not pids:
        return ""
    pid = world.chance.choice(pids)
    jobs = [job for job, controller in world.reader.controllers().items() if controller == pid]
    return f"killed the controller of {', '.join(jobs)}" if jobs and _kill(pid) else ""


def kill_launch(world: World, stream: Stream) -> str:
    seconds = world.chance.uniform(0.05, 3.0)
    job = stream.submit(kill_after_s=seconds)
    return f"kills `ugro launch` of {job} after {seconds:.2f} s"


def stop_job(world: World, stream: Stream) -> str:
    names = [name for name, job in world.reader.jobs().items() if not job.ended and name in stream.accepted]
    if not names:
        return ""
    name, force = world.chance.choice(names), world.chance.choice([(), ("--force",)])
    world.notes.stopped.add(name)
    world.ugro.start("stop", name, *force)
    return f"stops {name} {' '.join(force)}".rstrip()


def kill_writer(world: World, stream: Stream) -> str:
    """Kill a process in the middle of its transactions; what it was told to be kept is kept."""
    if not world.reader.path.exists():
        return ""
    name = f"w{sum(world.notes.done.values())}"
    command = [sys.executable, Path(__file__).with_name("writer.py"), f"sqlite:///{world.reader.path}", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(world.chance.uniform(0.0, 0.3))
        process.kill()
        told = [int(line) for line in [first, *process.stdout.read().split("\n")[:-1]] if line]
    last = told[-1] if told else 0
    kept = world.reader.written(name)
    assert kept in (list(range(1, last + 1)), list(range(1, last + 2))), f"{name} was told {last}, kept is {kept}"
    return f"killed a writer after {last} transactions"


# How often each is chosen, in relation to the others, as far as there is something to hit.
BLOWS: Mapping[Blow, int] = {
    kill_rank: 10, freeze_rank: 4, kill_supervisor: 4, kill_torchrun: 4, power_off: 4, cut_cable: 6, kill_agent: 6,
    kill_controller: 4, kill_launch: 4, stop_job: 1, kill_writer: 4,
}  # fmt: skip


def strike(world: World, stream: Stream) -> tuple[str, str]:
    """Strike one blow; return its name and what it did."""
    left = dict(BLOWS)
    while left:
        (blow,) = world.chance.choices(list(left), list(left.values()))
        told = blow(world, stream)
        if told:
            world.notes.done[blow.__name__] += 1
            return blow.__name__, told
        del left[blow]
    return "nothing", "nothing to hit"
