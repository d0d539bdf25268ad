"""Submissions: as many jobs into the queue, one after the other, as Slurm's `sbatch` takes in the same time.

Both sides submit held jobs, one after the other, from the request of a client to its answer. Ours go to a running
`ugro agent` over its socket.

- `submit` is a loop over one connection beside a loop of `sbatch`, a program each time. It must not take longer.
- `submit_process` is one process for each job on both sides, `ugro launch --detach --hold` beside `sbatch`. It loses by
  far: 167 ms beside 4.3 ms, 39 times as long (n = 5, two cores). It is told of and has no limit, because none that says
  "as fast" can hold: `sbatch` is a small C program, and Python with the command line and the HTTP client has to start
  first, each time, before anything is asked. Who submits many jobs uses the API.

A job that is answered is committed and its files are in place, so it outlives any process; its row is safe from a
failure of power 0.2 s later (docs/api.md). Slurm too answers before its controller has saved its state.

Slurm (Debian: slurm-wlm, munge) runs for this alone: its own folders, ports and keys, ended at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.bed import Bed
from benchmarks.measure import Figure, Result, paired
from ugro_py.api import unix

NAME = "submit"
AT_ONCE = 200
PROCESSES = 20
NEEDED = ("sbatch", "scancel", "slurmctld", "slurmd", "munged")


def missing() -> str:
    """Return what of Slurm this machine lacks, empty if nothing."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking:
        return f"Slurm is not here ({', '.join(lacking)}); on Debian: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "starting Slurm for the benchmark takes root"


def measure(_bed: Bed | None, n: int = 5) -> list[Result | Figure]:
    """Measure `n` pairs of 200 submissions (of processes 20), in seconds for each; nothing where Slurm is not here.

    Raises:
        RuntimeError: Slurm does not start; the text says why.
    """
    why = missing()
    if why:
        print(f"{NAME}: skipped: {why}", flush=True)
        return []
    with (
        tempfile.TemporaryDirectory(prefix="ugro-submit-") as folder,
        slurm(Path(folder)) as env,
        agent(Path(folder)) as ours_env,
    ):
        connection = HTTPConnection("localhost")
        connection.sock = unix.connect(Path(ours_env["UGRO_DATA"]) / "agent.sock", 60)

        def ours(number: int) -> float:
            return _each(AT_ONCE, lambda job: _post(connection, f"job-{number}-{job}"))

        def process(number: int) -> float:
            argv = [ours_env["UGRO_COMMAND"], "launch", "--detach", "--hold", "--gpus", "1", "--name"]
            return _each(PROCESSES, lambda job: run_with(ours_env, *argv, f"own-{number}-{job}"))

        def hand(number: int, times: int = AT_ONCE) -> float:
            return _each(
                times, lambda _: run_with(env, "sbatch", "--hold", "--quiet", "--output=/dev/null", "--wrap=true")
            )

        try:
            # Each against sbatch of the same moments: both queues grow, and the machine has other things to do.
            return [
                Result(NAME, "s", *paired(n, ours, hand), limit=1.0),
                Result(f"{NAME}_process", "s", *paired(n, process, lambda number: hand(number, PROCESSES)), limit=None),
            ]
        finally:
            connection.close()


def _each(times: int, submit: Callable[[int], object]) -> float:
    begun = time.perf_counter()
    for number in range(times):
        submit(number)
    return (time.perf_counter() - begun) / times


def _post(connection: HTTPConnection, name: str) -> None:
    body = json.dumps({"request": {"name": name, "gpus": 1, "hold": True}})
    connection.request("POST", "/v1/jobs", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"submit {name}: {answer.status} {said!r}")


@contextmanager
def agent(folder: Path) -> Iterator[dict[str, str]]:
    """Run an agent of a store of its own on this machine alone; gives the environment of its clients."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("UGRO_")}
    command = str(Path(sys.executable).with_name("ugro"))
    env |= {"HOME": str(folder / "home"), "UGRO_DATA": str(folder / "data"), "UGRO_COMMAND": command}
    (folder / "home").mkdir()
    log = folder / "agent.log"
    with (
        log.open("wb") as told,
        subprocess.Popen([command, "agent"], env=env, stdin=subprocess.DEVNULL, stdout=told, stderr=told) as process,
    ):
        try:
            until = time.monotonic() + 120
            while not (folder / "data" / "agent.sock").exists():
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the agent does not answer\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.1)
            yield env
            if process.poll() is not None:
                raise RuntimeError(f"the agent ended\n{log.read_text(errors='replace')[-2000:]}")
        finally:
            process.terminate()


def run_with(env: dict[str, str], *argv: str) -> None:
    """Run a program of Slurm to its end.

    Raises:
        RuntimeError: it did not exit with 0.
    """
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run munge, slurmctld and slurmd of this machine alone; gives the environment that its programs need."""
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    ports = [_free_port(), _free_port()]
    conf.write_text(
        f"ClusterName=bench\nSlurmctldHost={host}(127.0.0.1)\nSlurmUser=root\nSlurmdUser=root\n"
        f"SlurmctldPort={ports[0]}\nSlurmdPort={ports[1]}\nAuthType=auth/munge\nCredType=cred/munge\n"
        f"AuthInfo=socket={folder}/munge.socket\nStateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\n"
        f"SlurmctldPidFile={folder}/ctld.pid\nSlurmdPidFile={folder}/d.pid\nProctrackType=proctrack/pgid\n"
        f"TaskPlugin=task/none\nSelectType=select/cons_tres\nMaxJobCount=100000\nReturnToService=2\nMpiDefault=none\n"
        f"SlurmctldLogFile={folder}/ctld.log\nSlurmdLogFile={folder}/d.log\n"
        f"NodeName={host} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN\nPartitionName=all Nodes={host} Default=YES\n"
    )
    env = {**os.environ, "SLURM_CONF": str(conf)}
    munged = [
        "munged", "--foreground", f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={folder}/m.pid",
        f"--log-file={folder}/munge.log", f"--seed-file={folder}/seed", "--force",
    ]  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []
    try:
        for argv in (munged, ["slurmctld", "-D", "-f", str(conf)], ["slurmd", "-D", "-f", str(conf), "-N", host]):
            with (folder / f"{argv[0]}.out").open("wb") as out:
                started.append(subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out))
            _wait(argv[0], env, folder, started[-1])
        yield env
    finally:
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(name: str, env: dict[str, str], folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until what was just started answers.

    Raises:
        RuntimeError: it ended, or did not answer in 30 s; the text is what it printed.
    """
    ask = {"munged": ["munge", f"--socket={folder}/munge.socket", "-n"], "slurmctld": ["scontrol", "ping"],
           "slurmd": ["sinfo", "--noheader", "--states=idle", "--format=%D"]}[name]  # fmt: skip
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        done = subprocess.run(ask, env=env, capture_output=True, text=True, check=False)
        if done.returncode == 0 and "DOWN" not in done.stdout and done.stdout.strip():
            return
        time.sleep(0.1)
    raise RuntimeError(f"{name} does not answer\n{(folder / f'{name}.out').read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    for _found in measure(None, int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        if isinstance(_found, Result):
            _pairs = " ".join(f"{ratio:.2f}" for ratio in _found.pair_ratios)
            print(f"{_found.name}: {_found.value * 1e3:.2f} ms, sbatch {_found.baseline * 1e3:.2f} ms, "
                  f"{_found.ratio:.3f} (pairs {_pairs})")  # fmt: skip
