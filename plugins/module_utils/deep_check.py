# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Use the training environment of this node for real: import torch, compute on every device, all-reduce with peers.

Package metadata says in milliseconds what is installed; this says in seconds whether it works.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Dict, Optional

TIMEOUT_S = 60.0

# Run by the node's training Python. A matrix product with a known sum shows a device that computes wrong.
_COMPUTE = """
import json, time
import torch
names = ["cuda:%d" % i for i in range(torch.cuda.device_count())] or ["cpu"]
devices = []
for name in names:
    size = 512
    ones = torch.ones(size, size, device=name)
    start = time.perf_counter()
    total = float((ones @ ones).sum())
    device = {"device": name, "correct": total == float(size) ** 3, "ms": 1000 * (time.perf_counter() - start)}
    device["name"] = torch.cuda.get_device_name(name) if name != "cpu" else "CPU"
    devices.append(device)
print(json.dumps({"torch": torch.__version__, "devices": devices}))
"""

_ALL_REDUCE = """
import json, sys, time
from datetime import timedelta
import torch
import torch.distributed as dist
peers = json.loads(sys.argv[1])
device = "cuda:0" if peers["backend"] == "nccl" else "cpu"
dist.init_process_group(
    peers["backend"], init_method="tcp://%s:%d" % (peers["address"], peers["port"]),
    rank=peers["rank"], world_size=peers["world_size"], timeout=timedelta(seconds=peers["timeout_s"]),
)
value = torch.full((1 << 18,), float(peers["rank"] + 1), device=device)
dist.all_reduce(value)
start = time.perf_counter()
dist.all_reduce(value)
if device != "cpu":
    torch.cuda.synchronize()
ms = 1000 * (time.perf_counter() - start)
world = peers["world_size"]
wanted = world * world * (world + 1) / 2
print(json.dumps({"correct": bool((value == wanted).all()), "ms": ms, "mb": value.numel() * 4 / 1e6}))
dist.destroy_process_group()
"""


def run(python: str, peers: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """Return what came out, or ``{"error": text}``.

    Args:
        python: the Python that has torch.
        peers: None to compute on each device: ``{"torch": version, "devices": [{"device", "name", "correct", "ms"}]}``.
            Else take part in one all-reduce of 1 MB: ``{"correct", "ms", "mb"}``; `peers` has ``rank``, ``world_size``,
            ``address``, ``port``, ``backend`` and ``interface``.
    """
    env = dict(os.environ)
    arguments = []
    if peers is not None:
        arguments = [json.dumps(dict(peers, timeout_s=TIMEOUT_S / 2))]
        if peers.get("interface"):
            env["GLOO_SOCKET_IFNAME"] = peers["interface"]
            env["NCCL_SOCKET_IFNAME"] = "=" + peers["interface"]
    program = [python, "-c", _COMPUTE if peers is None else _ALL_REDUCE, *arguments]
    try:
        done = subprocess.run(
            program, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except OSError as error:
        return {"error": "%s: %s" % (python, error.strerror)}
    except subprocess.TimeoutExpired:
        return {"error": "no answer in %g s" % TIMEOUT_S}
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode:
        return {"error": said[-1] if said else "it ended with code %d" % done.returncode}
    result: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
