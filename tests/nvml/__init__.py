"""Build the stand-in for libnvidia-ml.so.1 and run Python with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("libnvidia_ml.c")


def skip_reason() -> str | None:
    """Return why the stand-in cannot be used here, or None."""
    if not sys.platform.startswith("linux"):
        return "the NVML stand-in is for Linux"
    return None if shutil.which("gcc") else "the NVML stand-in needs gcc"


def build(folder: Path) -> Path:
    """Compile the stand-in into `folder` and return the folder, for LD_LIBRARY_PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)], check=True
    )
    return folder


def environment(folder: Path, state: str, **more: str) -> dict[str, str]:
    """Return the environment in which programs find the stand-in, in `state`."""
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "UGRO_TEST_NVML": state, **more}


def run(folder: Path, state: str, program: str, **more: str) -> Any:
    """Run `program` with the stand-in in `state`, and return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", "import json\n" + program],
        env=environment(folder, state, **more),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)
