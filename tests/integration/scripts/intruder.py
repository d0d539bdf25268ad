# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Ranks of two users on one node: one works, the other tries to get at it. Prints a JSON line for what it tried.

`work` runs until it is ended; `attack HOME` tries; `look` shows what it was given to go on from.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def tell(**values: object) -> None:
    print(json.dumps(values), flush=True)


def tried(name: str, act: object) -> None:
    """Say what came of an attempt: what it returned, or why it was refused."""
    try:
        tell(tried=name, got=repr(act())[:200])  # type: ignore[operator]
    except OSError as error:
        tell(tried=name, refused=type(error).__name__)


def others() -> list[int]:
    """Return processes of other accounts but root: on a host of the lab those of the other user."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid not in (0, os.getuid()) and b"intruder.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def attack(home: str) -> None:
    """Try to read, change and end what the other user has on this node."""
    hers = others()
    tell(sees=len(hers))
    process = Path(f"/proc/{hers[0]}")
    tried("signal", lambda: os.kill(hers[0], signal.SIGTERM))
    tried("environ", (process / "environ").read_bytes)
    tried("memory", (process / "mem").read_bytes)
    tried("through proc", lambda: os.listdir(process / "cwd" / "."))
    jobs = [Path(home, ".ugro", os.uname().nodename, "jobs", "hers", "1"), Path(home, ".ugro", "gpu1", "jobs", "hers")]
    for name in ("spec.json", "events.jsonl", "code/intruder.py", "logs/rank_0.log", "checkpoints"):
        tried(f"read {name}", (jobs[0] / name).read_bytes)
    tried("list", lambda: os.listdir(jobs[0]))
    tried("write", lambda: (jobs[0] / "code" / "intruder.py").write_text("evil"))
    tried("add", lambda: (jobs[1] / "2").mkdir())
    tried("remove", lambda: jobs[0].rename(jobs[0].with_name("gone")))
    tried("runtime", lambda: (Path(home, ".ugro", "runtime") / "evil").write_text("x"))
    tried("link", lambda: (Path(os.environ["UGRO_CHECKPOINT_DIR"]) / "hard").hardlink_to(jobs[0] / "spec.json"))
    traps()


def traps() -> None:
    """Leave links among the checkpoints, as a trap for whoever collects them and sends them on."""
    folder = Path(os.environ["UGRO_CHECKPOINT_DIR"], "saved")
    folder.mkdir()
    (folder / "model.bin").write_text("weights")
    for name, target in {
        "shadow": "/etc/shadow", "store": "../../../../ugro.db", "hers": "../../../hers/config.json", "root": "/root",
    }.items():  # fmt: skip
        (folder / name).symlink_to(target)
    (folder.parent / "shadow").symlink_to("/etc/shadow")
    logs = Path(os.environ["UGRO_METRICS_FILE"]).parent.parent / "logs"
    tried("log", lambda: (logs / "rank_1.log").symlink_to("/etc/shadow"))


def look() -> None:
    """Show every file of the checkpoint, links followed."""
    for folder, _folders, names in os.walk(os.environ["UGRO_RESUME_FROM"], followlinks=True):
        for name in names:
            path = Path(folder, name)
            tell(file=name, link=path.is_symlink())
            tried(f"open {name}", path.read_bytes)


tell(uid=os.getuid(), gid=os.getgid(), groups=os.getgroups(), home=os.environ.get("HOME"))
if os.environ["UGRO_RESUME_FROM"]:
    look()
elif sys.argv[1] == "attack":
    attack(sys.argv[2])
    sys.exit(3)
else:
    Path(os.environ["UGRO_CHECKPOINT_DIR"], "mine.pt").write_text("hers")
    print("working", flush=True)
    while True:
        time.sleep(1)
