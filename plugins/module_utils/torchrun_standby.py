# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""torchrun that has done its imports and waits for its arguments: one JSON line on standard input (see standby.py).

``python torchrun_standby.py torch.distributed.run``. Run as a script on purpose. When standard input ends without a
line it was not needed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

# Where this file lies are modules with names that others may use too; `python -m` looks in the current folder instead.
sys.path[0] = os.getcwd()

# What torchrun imports as it goes; names differ between versions of torch, and a missing one costs a moment later on.
_LATER = (
    "torch.distributed.elastic.agent.server.local_elastic_agent",
    "torch.distributed.elastic.rendezvous.static_tcp_rendezvous",
    "torch.distributed.elastic.multiprocessing.subprocess_handler",
    "torch.distributed.elastic.timer.file_based_local_timer",
    "torch.distributed.launcher.api",
)


def main() -> None:
    torchrun = importlib.import_module("torch.distributed.run")
    for name in _LATER:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    line = sys.stdin.readline()
    if not line:
        return
    told = json.loads(line)
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    os.environ.update(told["env"])
    sys.argv = ["torchrun", *told["arguments"]]
    torchrun.main()


if __name__ == "__main__":
    main()
