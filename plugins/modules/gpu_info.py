#!/usr/bin/python
# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Read the GPUs of a node
version_added: 0.1.0
author: The UGRO developers (@ugro)
description:
  - Reads every NVIDIA GPU by NVML if C(nvidia-ml-py) can be imported, else by C(nvidia-smi).
  - A reading that a GPU does not support is null and a GPU that fell off the bus has RV(gpus[].lost) set; neither
    makes the module fail. A node without a GPU returns an empty list.
extends_documentation_fragment:
  - ugro.cluster.readings
seealso:
  - module: ugro.cluster.gpu_health
"""

EXAMPLES = r"""
- name: Read the GPUs
  ugro.cluster.gpu_info:
  register: gpus

- name: Read them with the NVML bindings of the training environment
  ugro.cluster.gpu_info:
    train_python: ~/.ugro/venv/bin/python
    deadline: 2
"""

RETURN = r"""
source:
  description: How the GPUs were read, V(nvml), V(nvidia-smi) or V(none).
  returned: always
  type: str
  sample: nvml
driver:
  description: Version of the NVIDIA driver, or null.
  returned: always
  type: str
  sample: 550.54.14
cuda:
  description: The newest CUDA version that the driver supports, or null.
  returned: always
  type: str
  sample: "12.4"
error:
  description:
    - Why nothing could be read, or null. RV(error.kind) is V(driver_library_mismatch), V(no_driver), V(timeout) or
      V(failed).
  returned: always
  type: dict
  contains:
    kind:
      description: The kind of error.
      returned: always
      type: str
      sample: driver_library_mismatch
    text:
      description: What came back.
      returned: always
      type: str
      sample: "NVML: RM has detected an NVML/RM version mismatch."
  sample: null
gpus:
  description: One entry for each GPU, in the driver's order. A value that the GPU does not report is null.
  returned: always
  type: list
  elements: dict
  contains:
    index:
      description: Its number.
      returned: always
      type: int
      sample: 0
    uuid:
      description: Its UUID.
      returned: always
      type: str
      sample: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f
    pci:
      description: Its address on the PCI bus, without the function.
      returned: always
      type: str
      sample: "0000:01:00"
    name:
      description: Its model.
      returned: always
      type: str
      sample: NVIDIA GeForce RTX 4070
    vram_total_gb:
      description: Memory in GB.
      returned: always
      type: float
      sample: 11.994
    vram_used_gb:
      description: Memory in use in GB.
      returned: always
      type: float
      sample: 9.8
    util_percent:
      description: Utilisation in percent.
      returned: always
      type: int
      sample: 87
    temperature_c:
      description: Temperature in degrees Celsius.
      returned: always
      type: int
      sample: 61
    power_w:
      description: Power drawn in watts.
      returned: always
      type: float
      sample: 181.5
    power_limit_w:
      description: Power limit in watts.
      returned: always
      type: float
      sample: 200.0
    clock_sm_mhz:
      description: Clock of the multiprocessors in MHz.
      returned: always
      type: int
      sample: 2475
    clock_mem_mhz:
      description: Clock of the memory in MHz.
      returned: always
      type: int
      sample: 10501
    throttle_reasons:
      description: Why the clocks are not at their highest, by the names of NVML.
      returned: always
      type: list
      elements: str
      sample: [sw_power_cap]
    ecc:
      description: Memory errors since the driver was loaded (C(corrected), C(uncorrected)), null without ECC.
      returned: always
      type: dict
      sample: {corrected: 0, uncorrected: 0}
    pcie:
      description: The PCIe link as it is and as it could be.
      returned: always
      type: dict
      sample: {generation: 4, width: 16, max_generation: 4, max_width: 16}
    mig:
      description: Whether it is divided into MIG instances.
      returned: always
      type: bool
      sample: false
    processes:
      description:
        - Processes that use it, each with C(pid), C(type) (V(compute) or V(graphics)), C(user), C(name), C(mem_used_gb)
          and C(job), the UGRO job it belongs to.
      returned: always
      type: list
      elements: dict
      sample: [{pid: 4711, type: compute, user: alice, name: python, mem_used_gb: 9.1, job: null}]
    lost:
      description: Whether it fell off the bus or needs a reset.
      returned: always
      type: bool
      sample: false
    error:
      description: Why it is lost, or null.
      returned: always
      type: str
      sample: GPU is lost
  sample: []
xids:
  description:
    - Xid errors of the driver in the kernel log of this boot. Empty where nobody looks, because there is no NVIDIA
      hardware.
  returned: always
  type: list
  elements: dict
  contains:
    at:
      description: When, in Unix time.
      returned: always
      type: float
      sample: 1768910400.25
    code:
      description: The number.
      returned: always
      type: int
      sample: 79
    pci:
      description: The address of the GPU on the PCI bus, without the function.
      returned: always
      type: str
      sample: "0000:01:00"
    text:
      description: The message.
      returned: always
      type: str
      sample: "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."
  sample: []
xid_error:
  description: Why the kernel log could not be read, or null.
  returned: always
  type: str
  sample: null
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ugro.cluster.plugins.module_utils import pythons
from ansible_collections.ugro.cluster.plugins.module_utils.gpu import read_gpus


def main() -> None:
    module = AnsibleModule(
        argument_spec={"train_python": {"type": "path"}, "deadline": {"type": "float", "default": 5.0}},
        supports_check_mode=True,
    )
    train_python = pythons.named_or_default(module.params["train_python"])
    module.exit_json(changed=False, **read_gpus(module.params["deadline"], train_python=train_python))


if __name__ == "__main__":
    main()
