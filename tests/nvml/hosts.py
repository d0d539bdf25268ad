"""GPUs for lab hosts: the stand-in for NVML, and what looks like a torch for them and can train on CPUs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pynvml

from tests import nvml
from tests.lab import Host

PYTHON = "/opt/cuda-env/bin/python"
"""The `ugro_python` of a host with GPUs: by its folder a CUDA build, in truth the Python that runs this."""
_SITE = "/opt/cuda-env/lib/python3.11/site-packages"
_LIBRARY = "/usr/lib/libnvidia-ml.so.1"
_STATE = "/run/ugro-test-nvml"


def give(host: Host, folder: Path) -> None:
    """Give a host two GPUs with UUIDs of its own; the library is built into `folder` if it is not there yet."""
    library = folder / Path(_LIBRARY).name
    if not library.exists():
        nvml.build(folder)
    for path in (f"{_SITE}/torch-2.6.0.dist-info", f"{_SITE}/torch", "/opt/cuda-env/bin"):
        host.path(path).mkdir(parents=True, exist_ok=True)
    host.path(_LIBRARY).write_bytes(library.read_bytes())
    host.path("/etc/ugro-test-nvml").write_text(f"{host.index:08d}")
    host.path("/opt/cuda-env/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    host.path(f"{_SITE}/torch/version.py").write_text("cuda = '12.4'\n")
    host.path(f"{_SITE}/pynvml.py").write_bytes(Path(str(pynvml.__file__)).read_bytes())
    host.path(PYTHON).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    host.path(PYTHON).chmod(0o755)
    quiet_kernel(host)


def quiet_kernel(host: Host) -> None:
    """Give a host an empty kernel log instead of this machine's; to be done again when it has booted."""
    host.path("/dev/kmsg").unlink(missing_ok=True)
    host.path("/dev/kmsg").write_text("")


def lose(host: Host, index: int) -> None:
    """Let a GPU fall off the bus: from now on it answers nothing any more."""
    host.path(_STATE).write_text(f"lost_late {index}")


def heat(host: Host) -> None:
    """Let all GPUs of a host become so hot that they slow themselves down."""
    host.path(_STATE).write_text("hot")


def mend(host: Host) -> None:
    """Put all GPUs of a host back."""
    host.path(_STATE).write_text("healthy")


def take_away(host: Host) -> None:
    """Remove the stand-in from a host."""
    for path in (_LIBRARY, _STATE, "/etc/ugro-test-nvml"):
        host.path(path).unlink(missing_ok=True)


def uuid(host: Host, index: int) -> str:
    """Return the UUID of a GPU of a host."""
    return f"GPU-{host.index:08d}-0000-0000-0000-{index:012d}"
