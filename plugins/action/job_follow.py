# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Controller side of `ugro.cluster.job_follow`: stay with a job from its start to its end."""

from __future__ import annotations

from typing import Any

from ansible_collections.ugro.cluster.plugins.plugin_utils.steps import Step, say


class ActionModule(Step):
    """Judge how the nodes started, follow the job, collect its results, release its GPUs.

    Results are taken from the variables directly and not through a template: they hold text from the nodes.
    """

    ARGUMENTS = {
        "job": {"type": "str", "required": True},
        "attempt": {"type": "int", "required": True},
        "register": {"type": "str", "required": True},
        "wait": {"type": "bool", "default": True},
        "last_lines": {"type": "int", "default": 12},
    }

    def step(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return `status` and `folder`."""
        from ugro_py import playbook
        from ugro_py.playbook_values import plain

        if self.check_mode:
            return {"skipped": True, "msg": "nothing was started"}
        hostvars = variables["hostvars"]
        results = {
            host: plain(hostvars.raw_get(host).get(arguments["register"], {}))
            for host in variables["ansible_play_hosts_all"]
        }
        followed = playbook.follow(
            arguments["job"], arguments["attempt"], results, say,
            wait=arguments["wait"], last_lines=arguments["last_lines"],
        )  # fmt: skip
        return {"changed": True, **followed}
