# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Controller side of `ugro.cluster.torchrun`: hands the node what the central store says that it must run."""

from __future__ import annotations

from typing import Any

from ansible_collections.ugro.cluster.plugins.plugin_utils.steps import Step


class ActionModule(Step):
    """Add `spec`, `utils` and `node_dir` of a job in the central store, then run the module on the node.

    What a person typed is in the spec; it goes from the file to the module and is never a variable of Ansible.
    """

    ARGUMENTS = {
        "job": {"type": "str", "required": True},
        "attempt": {"type": "int", "default": 1},
        "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
        "node": {"type": "str"},
        "node_dir": {"type": "str"},
        "utils": {"type": "str"},
        "spec": {"type": "raw", "no_log": True},
        "code": {"type": "str"},
        "grace": {"type": "float", "default": 10.0},
        "reason": {"type": "str", "default": "stopped by a playbook"},
    }

    def step(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        from ugro_py import playbook
        from ugro_py.names import check_name

        # These become folders on the node.
        check_name(arguments["job"])
        node = check_name(arguments["node"] or variables["inventory_hostname"], "node")
        given = {key: value for key, value in arguments.items() if value is not None}
        given = {**playbook.node_start(arguments["job"], arguments["attempt"], node), **given}
        if arguments["state"] != "started":
            given.pop("spec", None)
        result: dict[str, Any] = self._execute_module(
            module_name="ugro.cluster.torchrun", module_args={**given, "node": node}, task_vars=variables
        )
        result.pop("invocation", None)  # the spec's environment may hold secrets
        return result
