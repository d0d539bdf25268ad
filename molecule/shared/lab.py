# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Boot or remove the lab of a Molecule scenario: `lab.py up FOLDER`, `lab.py down FOLDER`.

FOLDER is the scenario's ephemeral folder; which lab is its own is kept there in `lab.json`, the inventory in
`inventory/lab.yml`. Prints what was done, nothing where nothing was to do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.lab import Lab, labs, skip_reason


def up(folder: Path) -> str:
    """Boot the scenario's lab and return which, or nothing if it is up already."""
    if _find(folder) is not None:
        return ""
    reason = skip_reason()
    if reason:
        raise SystemExit(reason)
    # Three users, one host on another SSH port: home labs are like that. Persistent, since this process ends now;
    # the next destroy removes it even if Molecule was killed.
    lab = Lab.up(3, users="mixed", ports={2: 2222}, persistent=True)
    (folder / "lab.json").write_text(json.dumps(_identity(lab)))
    inventory = folder / "inventory" / "lab.yml"
    inventory.parent.mkdir(exist_ok=True)
    inventory.write_text(yaml.safe_dump(lab.inventory(), sort_keys=False))
    return f"lab {lab.number} is up"


def down(folder: Path) -> str:
    """Remove the scenario's lab and return which, or nothing if there is none."""
    lab = _find(folder)
    if lab is not None:
        lab.down()
    for name in ("lab.json", "inventory/lab.yml"):
        (folder / name).unlink(missing_ok=True)
    return "" if lab is None else f"lab {lab.number} is gone"


def _identity(lab: Lab) -> dict[str, Any]:
    """Return what tells a lab from a later one with its number."""
    return {"number": lab.number, "host_keys": [host.host_key for host in lab.hosts]}


def _find(folder: Path) -> Lab | None:
    """Return the lab that was booted for this folder, if it still exists."""
    kept = folder / "lab.json"
    if not kept.exists():
        return None
    return next((lab for lab in labs() if _identity(lab) == json.loads(kept.read_text())), None)


if __name__ == "__main__":
    if sys.argv[1] == "up":
        print(up(Path(sys.argv[2])), end="")
    else:
        print(down(Path(sys.argv[2])), end="")
