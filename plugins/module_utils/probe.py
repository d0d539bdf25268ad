# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""All readings of this node in one report, once or again and again: what a session answers to `report` and `probe`."""

from __future__ import annotations

import os
import threading
import time

from . import gpu, kernel_log, node
from .attempts import living

TYPE_CHECKING = False  # importing typing costs a node 3 ms
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

PYTHON_EVERY_S = 60.0
"""How often a kept probe looks at what is installed; an interpreter that must be started for it costs 0.1 s."""


class Probe:
    """Reads this node. One that is kept reads what seldom changes seldom, and only what is new of the kernel log."""

    def __init__(self, node_dir: str, name: str) -> None:
        self._node_dir = node_dir
        self._name = name
        self._kernel = kernel_log.KernelLog()
        self._python: Optional[Tuple[float, str, Dict[str, Any]]] = None
        self._lock = threading.Lock()

    def read(
        self,
        address: Optional[str] = None,
        train_python: Optional[str] = None,
        paths: Optional[List[str]] = None,
        deadline_s: float = 3.0,
        python_every_s: float = 0.0,
    ) -> Dict[str, Any]:
        """Return ``{node, gpu, running, t}``: see `node.read_node`, `gpu.read_gpus` and `attempts.living`.

        Args:
            address: the node's cluster address.
            train_python: the interpreter that has torch.
            paths: folders, besides UGRO's own, whose file systems are looked at.
            deadline_s: when to give up on a file system, resolver or driver that does not answer.
            python_every_s: what is installed is read anew when the last reading is older.
        """
        folder = os.path.expanduser(self._node_dir)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        python = self._kept_python(train_python, python_every_s)
        report = node.read_node(
            address=address,
            paths=[folder, *(paths or [])],
            train_python=None if python else train_python,
            name=self._name,
            deadline_s=deadline_s,
        )
        if python:
            report["train_python"] = python
        elif train_python and report["train_python"] is not None:
            self._python = (time.monotonic(), train_python, report["train_python"])
        with self._lock:  # a reading that was given up may still be under way in another thread
            cards = gpu.read_gpus(deadline_s, train_python=train_python, kernel=self._kernel)
        return {"node": report, "gpu": cards, "running": list(living(self._node_dir, self._name)), "t": time.time()}

    def _kept_python(self, train_python: Optional[str], every_s: float) -> Optional[Dict[str, Any]]:
        if self._python is None:
            return None
        at, path, found = self._python
        # What is missing or broken may be put right at any moment.
        fresh = time.monotonic() - at < every_s and path == train_python and found["torch"] and not found["error"]
        return found if fresh else None
