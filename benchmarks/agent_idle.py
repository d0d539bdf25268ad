"""The agent with nothing to do: three healthy hosts, no job. What it takes of a core, and of the memory.

Its SSH clients count too. UGRO_IDLE_S is how long it is watched, 60 s if not set.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bed import Bed
from benchmarks.measure import Figure
from ugro_py.state import Store

NAME = "agent_idle_3_hosts"
CPU_LIMIT_PERCENT = 2.0
MEMORY_LIMIT_MB = 150.0
_SETTLE_S = 15.0
"""The first sweeps read everything and open the sessions: that is no idling."""
_START_S = 60.0


def measure(bed: Bed, n: int = 1) -> list[Figure]:
    """Watch the agent `n` times."""
    seconds = float(os.environ.get("UGRO_IDLE_S", "60"))
    percents, megabytes = [], []
    with running_agent(bed) as agent:
        time.sleep(_SETTLE_S)
        for _ in range(n):
            before, begun = _ticks(agent), time.monotonic()
            time.sleep(seconds)
            used = (_ticks(agent) - before) / os.sysconf("SC_CLK_TCK")
            percents.append(100 * used / (time.monotonic() - begun))
            megabytes.append(_memory_kb(agent) / 1024)
    return [
        Figure(f"{NAME}_cpu", "% of a core", percents, CPU_LIMIT_PERCENT),
        Figure(f"{NAME}_memory", "MB", megabytes, MEMORY_LIMIT_MB),
    ]


@contextmanager
def running_agent(bed: Bed, *options: str) -> Iterator[int]:
    """Run `ugro agent` with these options until the end of the block; gives its pid once it acts."""
    log = bed.home / "agent.log"
    with (
        log.open("wb") as told,
        subprocess.Popen(
            bed.ugro_argv("agent", *options), stdin=subprocess.DEVNULL, stdout=told, stderr=told
        ) as process,
    ):
        try:
            _wait_until_it_acts(bed, process)
            yield process.pid
            if process.poll() is not None:
                raise RuntimeError(f"the agent ended with {process.returncode}")
        finally:
            process.terminate()


def _wait_until_it_acts(bed: Bed, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            told = (bed.home / "agent.log").read_text(errors="replace")
            raise RuntimeError(f"the agent ended with {process.returncode}: {told}")
        if (bed.home / "data" / "ugro.db").exists():
            with Store.open() as store:
                lease = store.lease()
            if lease and lease.held and lease.holder.pid == process.pid:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the agent does not act after {_START_S:g} s")


def _family(agent: int) -> list[int]:
    """Return the agent and what it started, SSH's masters too, which are nobody's children any more."""
    store = next(word for word in _environment(agent) if word.startswith(b"UGRO_DATA="))
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in found if pid != os.getpid() and store in _environment(pid)]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _ticks(agent: int) -> int:
    """Return the clock ticks of the family, those of children that have ended included."""
    total = 0
    for pid in _family(agent):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:13]))  # utime, stime
        if pid == agent:
            total += sum(map(int, fields[13:15]))  # the same of children that were waited for
    return total


def _memory_kb(agent: int) -> int:
    """Return the resident memory of the agent, and of its SSH clients what they do not share."""
    total = 0
    for pid in _family(agent):
        key = "Rss:" if pid == agent else "Pss:"
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
    return total
