#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_health
short_description: Judge whether a node and its GPUs are fit for training
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Reads the node as M(ugro.cluster.node_info) and its GPUs as M(ugro.cluster.gpu_info) do, and compares the readings
    with thresholds and with what the inventory says.
  - Each finding has a severity and a remedy.
extends_documentation_fragment:
  - ugro.cluster.readings
  - ugro.cluster.readings.node
options:
  expected:
    description: What the inventory says of the node; what is left out is not compared.
    type: dict
    default: {}
    suboptions:
      connection:
        description: How the node is reached; a node reached by V(ssh) needs more than one that is this machine.
        type: str
        choices: [ssh, local]
        default: ssh
      gpu_count:
        description: How many GPUs it has.
        type: int
      vram_gb:
        description: Memory of each GPU in GB.
        type: float
      gpu:
        description: Part of the model name of its GPUs.
        type: str
  thresholds:
    description: From which values on a reading is a finding.
    type: dict
    default: {}
    suboptions:
      disk_free_gb_warning:
        description: Warn with less free disk space than this.
        type: float
        default: 10.0
      disk_free_gb_critical:
        description: Critical with less free disk space than this.
        type: float
        default: 1.0
      memory_available_gb_warning:
        description: Warn with less memory available than this.
        type: float
        default: 2.0
      memory_available_gb_critical:
        description: Critical with less memory available than this.
        type: float
        default: 0.5
      temperature_c_warning:
        description: Warn from this temperature of a GPU on.
        type: float
        default: 85.0
      temperature_c_critical:
        description: Critical from this temperature of a GPU on.
        type: float
        default: 95.0
      ecc_corrected_warning:
        description: Warn from this many corrected memory errors on.
        type: float
        default: 1000.0
      xid_hours:
        description: An Xid error older than this many hours is no finding any more.
        type: float
        default: 24.0
      load_per_cpu_warning:
        description: Warn from this 5-minute load average per CPU on.
        type: float
        default: 4.0
      clock_skew_s_critical:
        description:
          - Clocks of two nodes that differ by more seconds are critical. M(ugro.cluster.compare_nodes) and C(ugro)
            compare them.
        type: float
        default: 2.0
      latency_ms_warning:
        description: Warn when a round trip from the controller takes longer; only C(ugro) measures it.
        type: float
        default: 500.0
  fail_on:
    description: From which severity on the module fails.
    type: str
    choices: [critical, warning, never]
    default: critical
seealso:
  - module: ugro.cluster.gpu_info
  - module: ugro.cluster.node_info
"""

EXAMPLES = r"""
- name: Fail if the node cannot train
  ugro.cluster.gpu_health:
    name: "{{ inventory_hostname }}"
    train_python: ~/.ugro/venv/bin/python
    paths: [~/.ugro]
    expected:
      gpu_count: 1
      vram_gb: 12

- name: Only report, and be strict about heat
  ugro.cluster.gpu_health:
    thresholds:
      temperature_c_warning: 75
    fail_on: never
  register: health
"""

RETURN = r"""
findings:
  description: What was found, good and bad.
  returned: always
  type: list
  elements: dict
  contains:
    check:
      description: Name of the check.
      returned: always
      type: str
      sample: gpu_available
    severity:
      description: V(ok), V(warning) or V(critical).
      returned: always
      type: str
      sample: critical
    text:
      description: What was found.
      returned: always
      type: str
      sample: GPU 2 not visible to NVML (driver 550.54)
    remedy:
      description: What to do about it, empty if nothing.
      returned: always
      type: str
      sample: run `ugro check gpu1 --deep`
    value:
      description: What was judged.
      returned: always
      type: raw
      sample: 2
  sample: [{check: pytorch_ready, severity: ok, text: torch 2.6.0, remedy: "", value: 2.6.0}]
severity:
  description: The highest severity among RV(findings).
  returned: always
  type: str
  sample: ok
summary:
  description: What the node trains with.
  returned: always
  type: str
  sample: RTX 5070 Ti (12GB)
node:
  description: The readings of M(ugro.cluster.node_info).
  returned: always
  type: dict
  sample: {hostname: gpu1, interface: eth0}
gpu:
  description: The readings of M(ugro.cluster.gpu_info).
  returned: always
  type: dict
  sample: {source: nvml, driver: 550.54.14, cuda: "12.4", error: null, gpus: []}
clock_offset_s:
  description:
    - By how many seconds the node's clock is ahead of the controller's (negative, behind). It is what can be proved
      from when the module was sent and when its answer came, so small offsets read as 0.
  returned: when run by Ansible on a controller
  type: float
  sample: 0.0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ugro.cluster.plugins.module_utils import health, pythons
from ansible_collections.ugro.cluster.plugins.module_utils.gpu import read_gpus
from ansible_collections.ugro.cluster.plugins.module_utils.node import read_node


def main() -> None:
    thresholds = {name: {"type": "float", "default": value} for name, value in health.DEFAULT_THRESHOLDS.items()}
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "address": {"type": "str"},
            "paths": {"type": "list", "elements": "str", "default": []},
            "train_python": {"type": "path"},
            "deadline": {"type": "float", "default": 5.0},
            "expected": {
                "type": "dict",
                "default": {},
                "options": {
                    "connection": {"type": "str", "choices": ["ssh", "local"], "default": "ssh"},
                    "gpu_count": {"type": "int"},
                    "vram_gb": {"type": "float"},
                    "gpu": {"type": "str"},
                },
            },
            "thresholds": {"type": "dict", "default": {}, "options": thresholds},
            "fail_on": {"type": "str", "choices": ["critical", "warning", "never"], "default": "critical"},
        },
        supports_check_mode=True,
    )
    params = module.params
    train_python = pythons.named_or_default(params["train_python"])
    node = read_node(
        address=params["address"],
        paths=params["paths"],
        train_python=train_python,
        name=params["name"],
        deadline_s=params["deadline"],
    )
    gpu = read_gpus(params["deadline"], train_python=train_python)
    name = params["name"] or node["hostname"]
    found = health.findings(gpu, node, params["thresholds"], dict(params["expected"], name=name))
    severity = health.worst(found)
    result = {
        "changed": False,
        "findings": found,
        "severity": severity,
        "summary": health.summary(gpu, node),
        "node": node,
        "gpu": gpu,
    }
    failing = {"critical": [health.CRITICAL], "warning": [health.CRITICAL, health.WARNING], "never": []}
    bad = [health.line(name, item) for item in found if item["severity"] in failing[params["fail_on"]]]
    if bad:
        module.fail_json(msg="\n".join(bad), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
