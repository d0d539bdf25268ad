# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Controller side of `ugro.cluster.gpu_health`: adds how far the node's clock is from the controller's."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """Run the module, then compare the node's clock with when it was sent and when its answer came."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result with `clock_offset_s`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        sent = time.time()
        result.update(self._execute_module(module_name="ugro.cluster.gpu_health", task_vars=task_vars))
        received = time.time()
        if isinstance(result.get("node"), dict):
            clock = result["node"]["clock"]
            # Somewhere between the two the clock was read: only what lies outside is an offset for certain.
            result["clock_offset_s"] = round(min(0.0, clock - sent) + max(0.0, clock - received), 3)
        return result
