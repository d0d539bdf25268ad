# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Controller side of `ugro.cluster.job_stop`: stop a job on every node."""

from __future__ import annotations

from typing import Any

from ansible_collections.ugro.cluster.plugins.plugin_utils.steps import Step, say


class ActionModule(Step):
    """Stop a job and wait until it has ended everywhere."""

    def step(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return `job`, `status` and whether this changed anything."""
        from ugro_py.playbook_values import Values
        from ugro_py.state import Store
        from ugro_py.stop import stop_job

        values = Values(variables)
        values.refuse_unknown(self.extra_names(), ("job", "force"))
        name, force = values.job(), values.yes("force", False)
        with Store.open() as store:
            if self.check_mode:
                job = store.job(name)
                return {"changed": job.active, "job": name, "status": job.status}
            job, changed = stop_job(store, name, force=force)
        say(f"job {name} {job.status}" if changed else f"job {name} had ended already ({job.status})")
        return {"changed": changed, "job": name, "status": job.status}
