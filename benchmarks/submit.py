"""Submissions: as many jobs into the queue, one after the other, as Slurm's `sbatch` takes in the same time.

Both sides submit held jobs, one after the other. Ours is what the agent does for a POST, in one process: count the jobs
of the user and group, write the job, commit; each is on disk (fsync) when it counts. Slurm's side starts a process for
each job and answers before its controller has saved its state.

Slurm (Debian: slurm-wlm, munge) runs for this alone: its own folders, ports and keys, ended at the end.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bed import Bed
from benchmarks.measure import Figure, Result, paired
from ugro_py.queue import actions
from ugro_py.state import Store

NAME = "submit"
AT_ONCE = 200
NEEDED = ("sbatch", "scancel", "slurmctld", "slurmd", "munged")


def missing() -> str:
    """Return what of Slurm this machine lacks, empty if nothing."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking:
        return f"Slurm is not here ({', '.join(lacking)}); on Debian: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "starting Slurm for the benchmark takes root"


def measure(_bed: Bed | None, n: int = 5) -> Result | list[Figure]:
    """Measure `n` pairs of 200 submissions, in seconds for each; nothing where Slurm is not here.

    Raises:
        RuntimeError: Slurm does not start; the text says why.
    """
    why = missing()
    if why:
        print(f"{NAME}: skipped: {why}", flush=True)
        return []
    with tempfile.TemporaryDirectory(prefix="ugro-submit-") as folder, slurm(Path(folder)) as env:
        store = Store.open(f"sqlite:///{folder}/data/ugro.db")

        def ours(number: int) -> float:
            begun = time.perf_counter()
            for job in range(AT_ONCE):
                actions.check_submission(store, "bench", "bench")
                name = f"job-{number}-{job}"
                store.create_job(name, "bench", {"name": name, "gpus": 1, "hold": True}, group="bench")
            return (time.perf_counter() - begun) / AT_ONCE

        def hand(_number: int) -> float:
            begun = time.perf_counter()
            for _job in range(AT_ONCE):
                run_with(env, "sbatch", "--hold", "--quiet", "--output=/dev/null", "--wrap=true")
            return (time.perf_counter() - begun) / AT_ONCE

        try:
            return Result(NAME, "s", *paired(n, ours, hand), limit=1.0)
        finally:
            store.close()


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
    _found = measure(None)
    if isinstance(_found, Result):
        print(f"{_found.value * 1e3:.2f} ms a submission, sbatch {_found.baseline * 1e3:.2f} ms, {_found.ratio:.3f}")
