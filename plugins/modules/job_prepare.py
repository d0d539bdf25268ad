#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: job_prepare
short_description: Verify the nodes, allocate GPUs and stage the code of a new job
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Reads what job is wanted from the variables C(name), C(model), C(dataset), C(epochs), C(batch_size),
    C(gradient_accumulation), C(nodes), C(gpus), C(include), C(exclude), C(script), C(workdir), C(args), C(env),
    C(resume), C(retry), C(stall_timeout), C(min_nodes), C(priority), C(after), C(hold), C(time_limit), C(job_tags),
    C(note), C(queue) and C(ugro_wait), as given with C(-e). It has no options, as Ansible would run templates in their
    values; these values are taken as they are and a template in one is refused.
  - Verifies the hosts of the play in the group C(ugro_nodes), chooses their GPUs, creates the job, allocates the GPUs
    to it alone, and copies the code, and a model or data set that is a path, to every chosen node.
  - The process C(ansible-playbook) becomes the job's controller. When it ends before the job, another one takes over.
  - In check mode the ranks and their GPUs are printed and nothing is changed.
  - Needs the Python package C(ugro) beside Ansible, and is to be run once.
extends_documentation_fragment:
  - ugro.cluster.on_controller
options: {}
seealso:
  - module: ugro.cluster.torchrun
  - module: ugro.cluster.job_follow
"""

EXAMPLES = r"""
- name: Prepare the job that was asked for with -e
  ugro.cluster.job_prepare:
  register: job
  run_once: true

- name: Start its ranks on every node at once
  ugro.cluster.torchrun:
    job: "{{ job.job }}"
    attempt: "{{ job.attempt }}"
    code: "{{ job.code }}"
    state: started
  when: inventory_hostname in job.nodes
"""

RETURN = r"""
job:
  description: Name of the job.
  returned: success
  type: str
  sample: first_test
attempt:
  description: Number of the attempt; null in check mode.
  returned: success
  type: int
  sample: 1
nodes:
  description: The nodes that take part, in the order of their ranks; none in check mode.
  returned: success
  type: list
  elements: str
  sample: [gpu-master, gpu1, gpu2]
code:
  description: Digest of the staged code; null in check mode.
  returned: success
  type: str
  sample: 0f3c1b5d2e6a4c7f8b9a0d1c2e3f4a5b
wait:
  description: Whether the job's end is to be waited for (C(ugro_wait)).
  returned: success
  type: bool
  sample: true
exit_code:
  description: The exit code that C(ugro launch) has for this error.
  returned: failure
  type: int
  sample: 5
"""
