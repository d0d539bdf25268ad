# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Controller side of `ugro.cluster.job_prepare`: from the `-e` values to nodes that can start."""

from __future__ import annotations

from typing import Any

from ansible_collections.ugro.cluster.plugins.plugin_utils.steps import Step, say


class ActionModule(Step):
    """Read the request, verify the nodes, allocate GPUs, stage."""

    def step(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return `job`, `attempt`, `nodes` and `code`."""
        from ugro_py import playbook, playbook_values

        values = playbook_values.Values(variables)
        values.refuse_unknown(self.extra_names(), (*playbook_values.LAUNCH, "queue", "ugro_wait"))
        wait = values.yes("ugro_wait", True)
        cluster = playbook_values.cluster_of(variables)
        request = playbook_values.launch_request(variables, cluster)
        queue = values.yes("queue", True)
        prepared = playbook.prepare(request, cluster, say, dry_run=self.check_mode, queue=queue)
        return {"changed": True, "wait": wait, **prepared}
