#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: job_stop
short_description: Stop a job on every node
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Reads the job's name from the variable C(job) and C(force) from the variable of that name, as given with C(-e). It
    has no options, because Ansible would run the templates in an option's value.
  - The ranks get SIGTERM, and SIGKILL 10 s later, or at once with C(force). Waits until the job has ended everywhere,
    its results are collected and its GPUs released. Stopping a job that has ended changes nothing.
  - Needs the Python package C(ugro) beside Ansible, and is to be run once.
extends_documentation_fragment:
  - ugro.cluster.on_controller
options: {}
seealso:
  - module: ugro.cluster.job_collect
"""

EXAMPLES = r"""
# ansible-playbook playbooks/stop.yml -e job=first_test
- name: Stop the job given with -e
  ugro.cluster.job_stop:
  run_once: true
"""

RETURN = r"""
job:
  description: Name of the job.
  returned: success
  type: str
  sample: first_test
status:
  description: How the job ended.
  returned: success
  type: str
  sample: stopped
exit_code:
  description: The exit code that C(ugro) has for this error.
  returned: failure
  type: int
  sample: 8
"""
