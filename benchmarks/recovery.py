"""Killed rank to training steps again: `ugro launch --retry` against `torchrun --max-restarts` on the same hosts.

Both train the same script on three hosts, write a small checkpoint each fifth step and go on from the newest. By hand
torchrun runs with its c10d rendezvous, which is what restarts need, and every host keeps checkpoints of its own. Rank 1
is killed with SIGKILL ten seconds after its first step; the clock stops when rank 0 has done its next step after that.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bed import SCRIPTS, Bed
from benchmarks.measure import Result, paired
from ugro_py.ssh import ssh_argv

NAME = "recovery_after_a_killed_rank"
LIMIT = 1.2
_SETTLED_S = 10.0
_PATIENCE_S = 240.0
_FIRST_PORT = 32000
_STEP = re.compile(r"^world_step (\d+) rank (\d+) pid (\d+) on (\S+) at ([0-9.]+)$", re.MULTILINE)


def measure(bed: Bed, n: int = 5) -> Result:
    """Measure `n` pairs."""
    script = SCRIPTS / "recovers.py"

    def ours(number: int) -> float:
        job = f"recovers{number}"
        argv = bed.ugro_argv(
            "launch", "--script", str(script), "--nodes", str(len(bed.nodes)), "--name", job, "--retry", "1",
            "--env", "OMP_NUM_THREADS=1",
        )  # fmt: skip
        folder = bed.jobs / job
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            return _kill_and_wait(bed, lambda: "".join(map(_read, _logs(folder))))
        finally:
            subprocess.run(bed.ugro_argv("stop", job, "--force"), capture_output=True, check=False)
            process.wait()

    def hand(number: int) -> float:
        folder = bed.home / "by-hand" / str(number)
        folder.mkdir(parents=True)
        running = []
        for rank, node in enumerate(bed.nodes):
            words = _torchrun(bed, number, node.address, script)
            with (folder / f"{rank}.log").open("wb") as log:
                argv = [*ssh_argv(node), shlex.join(words)]
                running.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        try:
            return _kill_and_wait(bed, lambda: "".join(map(_read, sorted(folder.iterdir()))))
        finally:
            for node in bed.nodes:
                subprocess.run([*ssh_argv(node), f"pkill -KILL -f {_mark(number)}"], capture_output=True, check=False)
            for process in running:
                process.wait()

    return Result(NAME, "s", *paired(n, ours, hand), limit=LIMIT)


def _mark(number: int) -> str:
    """Return what the command lines of one run by hand hold, and nothing else does."""
    return f"ugro-bench-recovery-{number}-end"


def _torchrun(bed: Bed, number: int, address: str, script: Path) -> list[str]:
    env = {
        "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "host0", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "UGRO_CHECKPOINT_DIR": f"/tmp/{_mark(number)}", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    return [
        "env", *(f"{key}={value}" for key, value in env.items()), str(Path(sys.executable).with_name("torchrun")),
        *("--nnodes", str(len(bed.nodes)), "--nproc-per-node", "1", "--max-restarts", "3"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{bed.nodes[0].address}:{_FIRST_PORT + number}"),
        *("--rdzv-id", _mark(number), "--local-addr", address, str(script), _mark(number)),
    ]  # fmt: skip


def _kill_and_wait(bed: Bed, output: Callable[[], str]) -> float:
    """Kill rank 1 when the training is well under way; return the seconds until rank 0 does its next step."""
    ranks = _wait(lambda: {int(rank): (int(pid), host) for _, rank, pid, host, _ in _STEP.findall(output())}, 3)
    time.sleep(_SETTLED_S)
    done = subprocess.run(
        [*ssh_argv(bed.cluster.node(ranks[1][1])), f"date +%s.%N && kill -KILL {ranks[1][0]}"],
        capture_output=True,
        text=True,
        check=True,
    )
    killed = float(done.stdout)
    after = _wait(
        lambda: {
            float(at): pid
            for _, rank, pid, _, at in _STEP.findall(output())
            if rank == "0" and int(pid) != ranks[0][0] and float(at) > killed
        },
        1,
    )
    return float(min(after)) - killed


def _wait(found: Callable[[], dict], size: int) -> dict:  # type: ignore[type-arg]
    deadline = time.monotonic() + _PATIENCE_S
    while len(values := found()) < size:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no training step in {_PATIENCE_S:g} s")
        time.sleep(0.1)
    return values


def _logs(folder: Path) -> list[Path]:
    """Return the logs of all attempts of a job; other folders of it come and go while it runs."""
    return sorted([*folder.glob("logs/rank_*.log"), *folder.glob("attempts/*/rank_*.log")])


def _read(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""
