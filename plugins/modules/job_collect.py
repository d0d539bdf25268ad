#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: job_collect
short_description: See to it that the results of a job are in the central store
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Reads the job's name from the variable C(job) and whether to wait from C(ugro_wait), as given with C(-e). It has no
    options, because Ansible would run the templates in an option's value.
  - Waits for the end of a job that runs; whoever controls it collects its results then.
  - Fetches what is still on the nodes of a job that has ended, because one was lost or the central store was full.
  - Fails if a node that may still have results cannot be reached.
  - Needs the Python package C(ugro) beside Ansible, and is to be run once.
extends_documentation_fragment:
  - ugro.cluster.on_controller
options: {}
seealso:
  - module: ugro.cluster.job_stop
"""

EXAMPLES = r"""
# ansible-playbook playbooks/collect.yml -e job=first_test
- name: Collect the job given with -e
  ugro.cluster.job_collect:
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
  sample: completed
folder:
  description: The job's folder in the central store.
  returned: success, but not in check mode
  type: str
  sample: /home/kim/ugro_data/jobs/first_test
nodes:
  description: The nodes that still had something.
  returned: success, but not in check mode
  type: list
  elements: str
  sample: []
exit_code:
  description: The exit code that C(ugro) has for this error.
  returned: failure
  type: int
  sample: 8
"""
