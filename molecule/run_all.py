# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Run Molecule scenarios one after another and print what came of each (`make molecule`).

Each scenario gets a lab of its own, which boots in two seconds, so that none sees what another left behind.
Usage: `run_all.py [SCENARIO...]`. Exits with 1 if a scenario failed; with 0, and the reason, where the lab
cannot run. Logs: `.ansible/molecule/<scenario>/log`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from tests.lab import skip_reason  # noqa: E402 - the checkout is importable only now

SCENARIOS = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))
CONFIG = CHECKOUT / ".config" / "molecule" / "config.yml"
TIMEOUT = 1200.0
"""Seconds a scenario may take; it takes about thirty on a machine with nothing else to do."""


def main(wanted: list[str]) -> int:
    """Run the wanted scenarios, all of them if none is named, and return the exit code."""
    unknown = [name for name in wanted if name not in SCENARIOS]
    if unknown:
        print(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    reason = skip_reason()
    if reason:
        print(f"Molecule skipped: {reason}")
        return 0
    subprocess.run([CHECKOUT / "bin" / "dev-collection"], check=True)
    results = {name: run(name) for name in wanted or SCENARIOS}
    failed = [name for name, well in results.items() if not well]
    print(f"{len(results) - len(failed)} of {len(results)} scenarios passed", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "")
    return 1 if failed else 0


def run(name: str) -> bool:
    """Test one scenario and tell whether it passed; what it said is shown only if not."""
    folder = CHECKOUT / ".ansible" / "molecule" / name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    print(f"{name:<12} ", end="", flush=True)
    started = time.monotonic()
    try:
        code = _molecule(folder, log, "test", "--destroy", "always", "--scenario-name", name)
    except BaseException:
        # Interrupted: Molecule did not come to its own destroy.
        _molecule(folder, log, "destroy", "--scenario-name", name)
        raise
    print(f"{'passed' if code == 0 else 'FAILED'}  {time.monotonic() - started:.0f} s", flush=True)
    if code != 0:
        print(log.read_text(errors="replace"), flush=True)
    return code == 0


def _molecule(folder: Path, log: Path, *arguments: str) -> int:
    """Run `molecule` on a scenario whose ephemeral folder is `folder`, and return its exit code."""
    program = Path(sys.executable).with_name("molecule")
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "MOLECULE_PROJECT_DIRECTORY": str(CHECKOUT),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(folder),
        "MOLECULE_GLOB": "molecule/*/molecule.yml",
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
    }
    with log.open("ab" if arguments[0] == "destroy" else "wb") as output:
        return subprocess.run(
            [program, "--base-config", CONFIG, *arguments],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
