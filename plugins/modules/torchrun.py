#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: torchrun
short_description: Start, stop or remove a node's part of a training job
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Starts the supervisor of one attempt of a job on a node, which starts torchrun and watches every rank; stops it
    with everything it has started; removes its folder. The ranks of all nodes wait for one another, so start them by
    one task.
  - The supervisor runs in a systemd transient unit (of the user where it is not root and lingers), else in a session of
    its own. It outlives the SSH connection, the playbook and the controller.
  - An attempt is started once. Starting one that runs, or that has ended, changes nothing.
  - On the controller the module's action plugin adds O(spec), O(utils) and O(node_dir) from the central store where
    they are not given, as M(ugro.cluster.job_prepare) has put them there.
options:
  job:
    description: Name of the job.
    type: str
    required: true
  attempt:
    description: Number of the attempt.
    type: int
    default: 1
  state:
    description:
      - V(started) starts the attempt unless it was started before.
      - V(stopped) ends all its processes. What it has written stays.
      - V(absent) stops it and removes its folder with logs and checkpoints.
    type: str
    choices: [started, stopped, absent]
    default: started
  node:
    description: The node's name in the inventory; by default that of the host.
    type: str
  node_dir:
    description: The folder that UGRO keeps on the node; by default as in the central store, else V(~/.ugro).
    type: str
  utils:
    description: The folder on the node that holds UGRO's node code, put there by M(ugro.cluster.job_prepare).
    type: path
  spec:
    description:
      - What the node is to run (the content of C(spec.json), see docs/architecture.md), as a dictionary or as JSON.
        Needed to start.
    type: json
  code:
    description: Digest of the staged code that the ranks run in; by default they run in an empty folder.
    type: str
  grace:
    description: Seconds between SIGTERM to the ranks and SIGKILL to all that is left.
    type: float
    default: 10.0
  reason:
    description: Why it is stopped, for its log of events.
    type: str
    default: stopped by a playbook
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check mode), when in diff mode.
    support: full
seealso:
  - module: ugro.cluster.job_prepare
  - module: ugro.cluster.job_follow
"""

EXAMPLES = r"""
- name: Start the ranks of a prepared job
  ugro.cluster.torchrun:
    job: first_test
    code: 0f3c1b5d2e6a4c7f8b9a0d1c2e3f4a5b
    state: started

- name: Give a job's ranks a minute to save, then end them
  ugro.cluster.torchrun:
    job: first_test
    state: stopped
    grace: 60

- name: Leave nothing of it on the node
  ugro.cluster.torchrun:
    job: first_test
    state: absent
"""

RETURN = r"""
state:
  description:
    - V(started) while the supervisor lives, V(stopped) once it has told how it ended, V(lost) if it ended without a
      word, V(absent) if there is no such attempt here.
  returned: always
  type: str
  sample: started
unit:
  description: The systemd unit, where there is a manager that can run it.
  returned: always
  type: str
  sample: ugro-first_test-1-gpu1.service
manager:
  description: What runs it, V(system), V(user) or V(none).
  returned: when it was started now
  type: str
  sample: user
pid:
  description: Process id of the supervisor, or null.
  returned: always
  type: int
  sample: 4711
pids:
  description: Process ids by rank, as far as the ranks have started.
  returned: always
  type: dict
  sample: {"1": 4730}
dir:
  description: The attempt's folder on the node.
  returned: always
  type: str
  sample: /home/ob/.ugro/gpu1/jobs/first_test/1
log_paths:
  description: Its logs on the node.
  returned: always
  type: list
  elements: str
  sample: [/home/ob/.ugro/gpu1/jobs/first_test/1/logs/rank_1.log]
exit_code:
  description: How it ended, 0 or that of the first rank that failed (negative for a signal).
  returned: when it has ended
  type: int
  sample: 0
left_over:
  description: Processes that could not be ended; 0 is the rule.
  returned: when it has ended
  type: int
  sample: 0
"""

import json
import os
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ugro.cluster.plugins.module_utils.attempt import Attempt

_ENTRY = "supervisor.py"


def _spec(module: AnsibleModule) -> Dict[str, Any]:
    """Return what is to be started, checked against the names in the task."""
    params = module.params
    if params["spec"] is None:
        module.fail_json(msg="state=started needs spec: what the node is to run; ugro.cluster.job_prepare makes it")
    try:
        spec = json.loads(params["spec"])
    except ValueError as error:
        module.fail_json(msg="spec is not JSON: %s" % error)
    if not isinstance(spec, dict) or (spec.get("job"), spec.get("attempt")) != (params["job"], params["attempt"]):
        module.fail_json(msg="spec is not of attempt %(attempt)d of job %(job)s" % params)
    return spec


def _utils(module: AnsibleModule) -> str:
    """Return the folder of the node code; the module's own copy is gone when it ends."""
    utils = module.params["utils"] or ""
    if not os.path.isfile(os.path.join(utils, _ENTRY)):
        module.fail_json(
            msg="job %(job)s, attempt %(attempt)d: not prepared for this node; ugro.cluster.job_prepare does that"
            % module.params
        )
    return utils


def _code(module: AnsibleModule) -> Optional[str]:
    """Return the folder of the staged code."""
    params = module.params
    if not params["code"]:
        return None
    root = Attempt(params["node_dir"], params["node"], params["job"], params["attempt"]).root
    path = os.path.join(root, "code", params["code"])
    if not os.path.isdir(path):
        module.fail_json(msg="the code %(code)s was not staged here; run ugro.cluster.job_prepare" % params)
    return path


def _apply(module: AnsibleModule, before: str) -> Dict[str, Any]:
    """Bring the attempt into the wanted state and return its status with ``changed``."""
    params = module.params
    place = (params["node_dir"], params["node"], params["job"], params["attempt"])
    attempt = Attempt(*place)
    if params["state"] == "started":
        if before != "absent":
            return dict(attempt.status(), changed=False)
        return Attempt(*place, utils=_utils(module)).start(_spec(module), _code(module))
    result = attempt.stop(params["reason"], params["grace"])
    if result.pop("left"):
        module.fail_json(msg="processes of job %(job)s cannot be ended" % params, **result)
    if params["state"] == "absent":
        removed = attempt.remove()
        result = dict(attempt.status(), changed=removed or result["changed"])
    return result


def _would_change(state: str, before: Dict[str, Any]) -> bool:
    if state == "absent":
        return os.path.isdir(before["dir"])
    return before["state"] == ("absent" if state == "started" else "started")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "job": {"type": "str", "required": True},
            "attempt": {"type": "int", "default": 1},
            "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
            "node": {"type": "str"},
            "node_dir": {"type": "str"},
            "utils": {"type": "path"},
            "spec": {"type": "json", "no_log": True},
            "code": {"type": "str"},
            "grace": {"type": "float", "default": 10.0},
            "reason": {"type": "str", "default": "stopped by a playbook"},
        },
        supports_check_mode=True,
    )
    params = module.params
    params["node_dir"] = params["node_dir"] or "~/.ugro"
    params["node"] = params["node"] or os.uname().nodename
    status = Attempt(params["node_dir"], params["node"], params["job"], params["attempt"]).status()
    before = status["state"]
    if module.check_mode:
        result = dict(status, changed=_would_change(params["state"], status))
        after = params["state"] if result["changed"] else before
    else:
        try:
            result = _apply(module, before)
        except OSError as error:
            module.fail_json(msg="%s job %s: %s" % (params["state"], params["job"], error), **status)
        after = result["state"]
    result["diff"] = {"before": {"state": before}, "after": {"state": after}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
