# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""`ugro` as a person runs it: a process of its own, with a home and a central store of its own."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests.lab import Host, Lab
from ugro_py.master_port import PORT_RANGE
from ugro_py.state import JobRow, Store

UGRO = Path(sys.prefix) / "bin" / "ugro"
SCRIPTS = Path(__file__).parent / "scripts"
PLAY = SCRIPTS / "play.py"
# A launch of a trivial script takes 3 to 10 s, nearly all of it torchrun importing torch; a busy machine may need more.
PATIENCE_S = 120.0
# Rendezvous ports of this process alone, below those that the kernel gives to connections: all runs of tests on this
# machine would else try the same port at the same moment, and one of them lose it.
MASTER_PORT = 16_000 + os.getpid() % 160 * PORT_RANGE
_LIBC = ctypes.CDLL(None)


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S, every_s: float = 0.02) -> Any:
    """Return the first true value of `condition`; fail after `timeout_s`, naming `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(every_s)
    return value


def end_with_parent() -> None:
    """In a new process: have it killed when the tests are, which then can't end it themselves."""
    if sys.platform == "linux":
        _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Ugro:
    """The command `ugro` for one test.

    Args:
        home: HOME; short, since the paths of SSH's control sockets have a limit.
        data: the central store.
        inventory: given as `ugro -i`; None for the embedded inventory, this machine alone.
        lab: the hosts to look for left-over processes on; without one it is this machine.
    """

    def __init__(self, home: Path, data: Path, inventory: Path | None = None, lab: Lab | None = None) -> None:
        self.home, self.data, self.inventory, self.lab = home, data, inventory, lab
        self.cwd: Path | None = None
        self.env_more: dict[str, str] = {}
        self._processes: list[subprocess.Popen[str]] = []

    @property
    def env(self) -> dict[str, str]:
        """The environment of `ugro`: the tests' own without anything that would lead to the user's UGRO."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("UGRO_", "ANSIBLE_", "HF_"))}
        # A proxy is for the network outside; what is asked of the hub must fail here, on every machine alike.
        return (
            kept
            | {"HOME": str(self.home), "UGRO_DATA": str(self.data), "HF_ENDPOINT": "http://127.0.0.1:9"}
            | self.env_more
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start `ugro ARGUMENTS` in a session of its own and return the process."""
        options = ["-i", str(self.inventory)] if self.inventory else []
        process = subprocess.Popen(
            [str(UGRO), *options, *map(str, arguments)],
            env=self.env, cwd=self.cwd or self.home, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=end_with_parent,
        )  # fmt: skip
        self._processes.append(process)
        return process

    def run(self, *arguments: object, code: int = 0, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run `ugro ARGUMENTS` to its end and return what it said; its exit code must be `code`."""
        return finish(self.start(*arguments), code, timeout_s)

    def json(self, *arguments: object, code: int = 0) -> Any:
        """Return what `ugro ARGUMENTS` printed as JSON (ARGUMENTS name --json themselves)."""
        return json.loads(self.run(*arguments, code=code).stdout)

    # -- what the store says ----------------------------------------------------------------------------------

    def store(self) -> Store:
        """Open the state store of this test."""
        return Store.open(f"sqlite:///{self.data}/ugro.db")

    def busy(self) -> dict[str, str]:
        """Return GPU -> job of every allocation."""
        with self.store() as store:
            return store.busy()

    def jobs(self) -> list[JobRow]:
        """Return every job, newest first."""
        with self.store() as store:
            return store.jobs()

    def job(self, name: str) -> JobRow:
        """Return one job."""
        with self.store() as store:
            return store.job(name)

    def rank_states(self, name: str) -> dict[int, tuple[str, str]]:
        """Return rank -> (node, status)."""
        with self.store() as store:
            return {rank.rank: (rank.node, rank.status) for rank in store.ranks(name)}

    def wait_for(self, name: str, *statuses: str, timeout_s: float = PATIENCE_S) -> JobRow:
        """Wait until the job has one of the statuses."""
        return wait_until(
            lambda: (job := self.job_or_none(name)) and job.status in statuses and job,
            f"job {name} is {' or '.join(statuses)}",
            timeout_s,
        )

    def job_or_none(self, name: str) -> JobRow | None:
        """Return one job, None if it does not exist (yet)."""
        return next((job for job in self.jobs() if job.name == name), None) if self.data.exists() else None

    # -- what a job wrote and left ----------------------------------------------------------------------------

    def folder(self, name: str) -> Path:
        """Return the job's folder in the central store."""
        return self.data / "jobs" / name

    def log(self, name: str, rank: int) -> str:
        """Return a rank's log in the central store, "" as long as there is none."""
        path = self.folder(name) / "logs" / f"rank_{rank}.log"
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, name: str, text: str, ranks: Sequence[int]) -> None:
        """Wait until `text` has arrived in the log of each rank."""
        wait_until(lambda: all(text in self.log(name, rank) for rank in ranks), f"{text!r} in logs of {name}")

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of a job's metrics, [] as long as there are none; one that is being written is left out."""
        path = self.folder(name) / "metrics.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def token(self, name: str, attempt: int = 1) -> str:
        """Return what the environment of every process of the gang holds."""
        gang = json.loads((self.folder(name) / "attempts" / str(attempt) / "gang.json").read_text())["gang"]
        return str(gang["token"])

    def leftovers(self, token: str) -> dict[str, list[int]]:
        """Return host -> processes of a gang that live."""
        if self.lab is None:
            found = {"here": processes_here(token)}
        else:
            found = {host.name: host.processes(token) for host in self.lab.hosts if host.is_on()}
        return {host: pids for host, pids in found.items() if pids}

    def close(self) -> None:
        """Stop what a failed test left: active jobs, processes of `ugro`."""
        for process in self._processes:
            unread = process.stdout is not None and not process.stdout.closed
            if process.poll() is None:
                process.kill()
            said = process.communicate()
            if unread and any(said):  # shown where the test failed: often it says why
                print(f"{process.args} ended with {process.returncode}:", *said, sep="\n")
        if (self.data / "ugro.db").exists():
            for job in self.jobs():
                if job.active:
                    with suppress(AssertionError, subprocess.TimeoutExpired):
                        self.run("stop", job.name, "--force", timeout_s=30)


def finish(
    process: subprocess.Popen[str], code: int = 0, timeout_s: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Wait for a started `ugro` and return what it said; its exit code must be `code`."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"no end after {timeout_s:g} s: {process.args}\n{out}\n{err}") from None
    assert process.returncode == code, f"exit code {process.returncode}, not {code}\n{out}\n{err}"
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def processes_here(token: str) -> list[int]:
    """Return the living processes of this machine whose environment holds `UGRO_TOKEN=token…`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ours = f"UGRO_TOKEN={token}".encode() in (entry / "environ").read_bytes()
            if ours and (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(int(entry.name))
    return found


def ranks_on(host: Host, token: str) -> dict[int, int]:
    """Return rank -> process of the ranks of a gang on a host, torchrun and the ranks' children left out."""
    found: dict[int, int] = {}
    for pid in host.processes(token):
        with suppress(OSError):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            rank = next((int(value[5:]) for value in variables if value.startswith(b"RANK=")), None)
            if rank is not None and rank not in found:
                found[rank] = pid
    return found


def torchruns_on(host: Host, token: str) -> list[int]:
    """Return the torchrun processes of a gang on a host."""
    ranks = set(ranks_on(host, token).values())
    return [pid for pid in host.processes(token) if pid not in ranks and _is_torchrun(pid)]


def _is_torchrun(pid: int) -> bool:
    with suppress(OSError):
        return b"torch.distributed.run" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def edited(lab: Lab, name: str, change: Callable[[dict[str, Any]], None], **options: Any) -> Path:
    """Write the lab's inventory with its hosts changed by `change`, and return its path."""
    path = lab.inventory_file(name, **options)
    inventory = yaml.safe_load(path.read_text())
    change(inventory["all"]["children"]["ugro_nodes"]["hosts"])
    path.write_text(yaml.safe_dump(inventory, sort_keys=False))
    return path


def interrupt(process: subprocess.Popen[str]) -> None:
    """Do to a process what Ctrl-C in its terminal does."""
    os.killpg(process.pid, signal.SIGINT)
