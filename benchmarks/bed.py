"""The test bed: a lab of hosts, a home of its own for UGRO, and the same hosts for work by hand."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import Lab
from ugro_py.cluster import Cluster, Node
from ugro_py.inventory import load_cluster
from ugro_py.ssh import ssh_argv

SCRIPTS = Path(__file__).resolve().parent / "scripts"
UGRO = Path(sys.executable).with_name("ugro")


@dataclass(frozen=True)
class Bed:
    """Where benchmarks run. Both sides use the same hosts, the same SSH options and the same open connections."""

    home: Path
    inventory: Path
    cluster: Cluster
    lab: Lab

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.cluster.nodes

    @property
    def jobs(self) -> Path:
        """The folder of all jobs in the central store."""
        return self.home / "data" / "jobs"

    def ugro_argv(self, *arguments: str) -> list[str]:
        """Return the command line of `ugro` on this cluster."""
        return [str(UGRO), "--inventory", str(self.inventory), *arguments]

    def ugro(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `ugro` as a person would, in a process of its own.

        Raises:
            RuntimeError: it did not exit with 0; the text is what it printed.
        """
        return run(self.ugro_argv(*arguments))

    def by_hand(self, commands: Mapping[str, Sequence[str]], env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Run `ssh HOST COMMAND` for every node at once and return what each printed.

        Raises:
            RuntimeError: a command did not exit with 0.
        """
        settings = [f"{key}={value}" for key, value in (env or {}).items()]
        running = {
            node.name: subprocess.Popen(
                [*ssh_argv(node), shlex.join(["env", *settings, *commands[node.name]] if env else commands[node.name])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for node in self.nodes
        }
        outputs = {name: process.communicate()[0] for name, process in running.items()}
        for name, process in running.items():
            if process.returncode:
                raise RuntimeError(f"{name}: {' '.join(commands[name])}: exit {process.returncode}\n{outputs[name]}")
        return outputs


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it printed.

    Raises:
        RuntimeError: it did not exit with 0.
    """
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


@contextmanager
def bed(hosts: int = 3) -> Iterator[Bed]:
    """Boot a lab and make a home for UGRO; remove both at the end, when the environment is again what it was."""
    kept = {name: os.environ.get(name) for name in ("HOME", "UGRO_DATA")}
    with tempfile.TemporaryDirectory(prefix="ugro-bench-") as folder, Lab.up(hosts, users="mixed") as lab:
        home = Path(folder)
        # UGRO keeps its SSH control sockets below HOME; the work by hand goes through the same ones.
        os.environ.update(HOME=str(home), UGRO_DATA=str(home / "data"))
        # A person's Python keeps what it has compiled; where this is set, `ugro` would compile itself at each start.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        (home / ".ugro" / "cm").mkdir(mode=0o700, parents=True)
        inventory = lab.inventory_file()
        test_bed = Bed(home, inventory, load_cluster(inventory), lab)
        try:
            yield test_bed
        finally:
            for node in test_bed.nodes:
                argv = ssh_argv(node)
                subprocess.run([*argv[:-2], "-O", "exit", *argv[-2:]], capture_output=True, check=False)
            for name, value in kept.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
