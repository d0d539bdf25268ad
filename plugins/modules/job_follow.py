#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: job_follow
short_description: Follow a job to its end, collect its results and release its GPUs
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Takes the results of M(ugro.cluster.torchrun) of all nodes. If one could not start, the job is rolled back
    everywhere.
  - Otherwise prints progress, copies logs, events and metrics while they are written, stops the whole gang when a rank
    fails, tries again as often as asked, collects checkpoints and TensorBoard events and releases the GPUs.
  - Fails if the job failed, after printing the last lines of the rank that failed first, or if it was stopped.
  - Interrupting it does not end the job; a process in the background stays with it then, as without O(wait).
  - Needs the Python package C(ugro) beside Ansible, and is to be run once.
extends_documentation_fragment:
  - ugro.cluster.on_controller
options:
  job:
    description: Name of the job.
    type: str
    required: true
  attempt:
    description: Number of the attempt that was started.
    type: int
    required: true
  register:
    description: Name of the variable in which each host registered its result of M(ugro.cluster.torchrun).
    type: str
    required: true
  wait:
    description: Wait for the end of the job.
    type: bool
    default: true
  last_lines:
    description: How many of the last lines of the rank that failed first are printed.
    type: int
    default: 12
seealso:
  - module: ugro.cluster.job_prepare
  - module: ugro.cluster.torchrun
"""

EXAMPLES = r"""
- name: Stay with the job
  ugro.cluster.job_follow:
    job: "{{ job.job }}"
    attempt: "{{ job.attempt }}"
    register: started
  run_once: true
"""

RETURN = r"""
status:
  description: V(completed), or V(running) where it was not waited for.
  returned: success
  type: str
  sample: completed
folder:
  description: The job's folder in the central store.
  returned: success
  type: str
  sample: /home/kim/ugro_data/jobs/first_test
exit_code:
  description: The exit code that C(ugro launch) has for this end.
  returned: failure
  type: int
  sample: 7
"""
