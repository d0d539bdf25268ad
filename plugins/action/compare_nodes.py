# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Controller side of `ugro.cluster.compare_nodes`: judge all nodes by the results that `gpu_health` registered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):  # type: ignore[misc]
    """Print a line for each node and finding, write them as JSON if asked, fail if something is bad enough.

    Results are taken from the variables directly and not through a template: they hold text from the nodes.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `severity` and `nodes`; `failed` with the findings in `msg`."""
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec(
            argument_spec={
                "register": {"type": "str", "required": True},
                "fail_on": {"type": "str", "choices": ["critical", "warning", "never"], "default": "critical"},
                "json_path": {"type": "str"},
                "record": {"type": "bool", "default": False},
            }
        )
        try:
            from ugro_py import verify
        except ImportError as error:
            raise AnsibleActionFail(f"import ugro_py: {error}; `pip install ugro` beside Ansible") from error

        groups = variables["groups"]
        if "ugro_nodes" not in groups:
            if groups["all"]:
                raise AnsibleActionFail("the inventory has no group ugro_nodes; see docs/inventory.md")
            Display().display("no inventory was given: this machine alone")
        hostvars = variables["hostvars"]
        verdict = verify.judge_results(
            {host: hostvars[host].get(arguments["register"], {}) for host in variables["ansible_play_hosts_all"]}
        )
        for line in verdict.lines():
            Display().display(line)
        result.update(changed=False, **verdict.as_json())
        if arguments["json_path"]:
            _write_json(arguments["json_path"], verdict.as_json())
        if arguments["record"] and not self._task.check_mode:
            _record({name: str(hostvars[name].get("ansible_host", name)) for name in verdict.summaries}, verdict)
        levels = {"critical": ["critical"], "warning": ["critical", "warning"], "never": []}[arguments["fail_on"]]
        bad = [finding for finding in verdict.findings if finding.severity in levels]
        if bad:
            del result["nodes"]  # the message says what matters, and Ansible prints all of a failed result
            result.update(failed=True, msg=str(verify.NotReadyError(bad)))
        return result


def _record(addresses: dict[str, str], verdict: Any) -> None:
    from ugro_py.errors import UgroError
    from ugro_py.health.record import record

    try:
        record(addresses, verdict)
    except UgroError as error:
        raise AnsibleActionFail(str(error)) from error


def _write_json(path: str, data: dict[str, Any]) -> None:
    """Write the file whole or not at all: something may be reading it."""
    target = Path(path).expanduser()
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(data, indent=2, default=str) + "\n", encoding="utf-8")
        part.replace(target)
    except OSError as error:
        raise AnsibleActionFail(f"write {target}: {error.strerror}; give a path that can be written") from error
