# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Run Molecule scenarios, some at the same time, and print what came of each (`make molecule`).

Each scenario gets a lab of its own, which boots in two seconds, so that none sees what another does or left behind.
Usage: `run_all.py [-n AT_A_TIME] [SCENARIO...]`. Exits with 1 if a scenario failed; with 0, and the reason, where the
lab cannot run. Logs: `.ansible/molecule/<scenario>.log`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from tests.lab import skip_reason  # noqa: E402 - the checkout is importable only now

SCENARIOS = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))
CONFIG = CHECKOUT / ".config" / "molecule" / "config.yml"
TIMEOUT = 1200.0
"""Seconds a scenario may take; it takes about a minute on a machine with nothing else to do."""
AT_A_TIME = 2
NEEDS = {
    "monitoring": (
        "prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "dpkg-repack", "dpkg-scanpackages",
    ),
}  # fmt: skip
"""Programs that a scenario's hosts need of this machine, since they reach no packages."""
LONG = ("launch", "agent", "bootstrap", "monitoring")
"""Those that begin first, since they take longest."""


def main(arguments: list[str]) -> int:
    """Run the wanted scenarios, all of them if none is named, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=AT_A_TIME, help="how many at the same time [default: %(default)s]")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        print(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    reason = skip_reason()
    if reason:
        print(f"Molecule skipped: {reason}")
        return 0
    subprocess.run([CHECKOUT / "bin" / "dev-collection"], check=True)
    wanted = sorted(options.scenarios or SCENARIOS, key=lambda name: name not in LONG)
    pool = ThreadPoolExecutor(max(1, options.n))
    try:
        results = dict(zip(wanted, pool.map(run, wanted), strict=True))
    finally:
        # Interrupted: those that run destroy their labs, the others do not begin.
        pool.shutdown(cancel_futures=True)
    failed = [name for name, well in results.items() if not well]
    print(f"{len(results) - len(failed)} of {len(results)} scenarios passed", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "")
    return 1 if failed else 0


def run(name: str) -> bool:
    """Test one scenario and tell whether it passed; what it said is shown only if not."""
    missing = [program for program in NEEDS.get(name, ()) if shutil.which(program) is None]
    if missing:
        print(f"{name:<12} skipped: this machine lacks {', '.join(missing)}", flush=True)
        return True
    folder = CHECKOUT / ".ansible" / "molecule" / name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    started = time.monotonic()
    try:
        well = _molecule(folder, log, "test", "--destroy", "always", "--scenario-name", name) == 0
    except subprocess.TimeoutExpired:
        well = False
    if not well:
        # Molecule may not have come to its own destroy: interrupted, or out of time.
        _molecule(folder, log, "destroy", "--scenario-name", name)
    said = "" if well else f"\n{log.read_text(errors='replace')}"
    print(f"{name:<12} {'passed' if well else 'FAILED'}  {time.monotonic() - started:.0f} s{said}", flush=True)
    return well


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
