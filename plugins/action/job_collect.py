# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Controller side of `ugro.cluster.job_collect`: see to it that a job's results are in the central store."""

from __future__ import annotations

from typing import Any

from ansible_collections.ugro.cluster.plugins.plugin_utils.steps import Step, say


class ActionModule(Step):
    """Wait for the end of a job, then fetch what its nodes still have."""

    def step(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return `job`, `status`, `folder` and the `nodes` that still had results."""
        from ugro_py.late import collect_job
        from ugro_py.paths import JobPaths
        from ugro_py.playbook_values import Values
        from ugro_py.state import Store

        values = Values(variables)
        values.refuse_unknown(self.extra_names(), ("job", "ugro_wait"))
        name, wait = values.job(), values.yes("ugro_wait", True)
        with Store.open() as store:
            if self.check_mode:
                job = store.job(name)
                return {"changed": False, "job": name, "status": job.status}
            job, nodes = collect_job(store, name, say, wait=wait)
        say(f"job {name} {job.status}; results in {JobPaths(name).root}")
        return {
            "changed": bool(nodes), "job": name, "status": job.status, "folder": str(JobPaths(name).root),
            "nodes": nodes,
        }  # fmt: skip
